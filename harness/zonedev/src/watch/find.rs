//! The end of whoever wants to see a guest.

use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::sight::Sight;
use super::wire::{About, Answer, Question, SOCKET, WatchError, receive, send};
use crate::vm;

/// How long a harness may take to say which guest it has.
const ABOUT: Duration = Duration::from_secs(2);

/// A guest that can be watched.
#[derive(Debug)]
pub struct Found {
    /// Which one.
    pub about: About,
    /// A talk with its harness.
    pub client: Client,
}

/// A talk with a guest's harness.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// The guests of this user that are served, by the process that has them. Directories whose harness
/// was killed are not waited for; who starts the next guest sweeps them.
pub async fn guests(places: &[Utf8PathBuf]) -> Vec<Found> {
    let mut out = Vec::new();
    for dir in vm::memory_dirs(places) {
        let Ok(stream) = UnixStream::connect(dir.join(SOCKET)).await else {
            continue;
        };
        let mut client = Client { stream };
        if let Ok(Ok(Answer::About(about))) = timeout(ABOUT, client.ask(Question::About)).await {
            out.push(Found { about, client });
        }
    }
    out.sort_by_key(|f| f.about.pid);
    out
}

impl Client {
    async fn ask(&mut self, question: Question) -> Result<Answer, WatchError> {
        send(&mut self.stream, &question).await?;
        receive(&mut self.stream).await
    }

    /// How the guest's pages are now.
    ///
    /// # Errors
    /// Where its harness is gone or could not read it.
    pub async fn look(&mut self) -> Result<Sight, WatchError> {
        match self.ask(Question::Look).await? {
            Answer::Look(sight) => Ok(*sight),
            Answer::Unread(why) => Err(WatchError::Unread(proto::text::escape(&why))),
            Answer::About(_) => Err(WatchError::Unread("it answered something else".to_owned())),
        }
    }
}
