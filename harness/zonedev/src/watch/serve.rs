//! The end of the harness that has the guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use proto::text::excerpt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};

use super::sight::{Sight, sight};
use super::wire::{About, Answer, Question, SOCKET, WatchError, receive, send};
use crate::run::PageReader;
use crate::spec::Contract;
use crate::vm::Guest;

/// Lines of the kernel's log that are told.
const LOG_LINES: usize = 20;
/// Characters of one.
const LOG_LINE: usize = 400;
/// How many may look at once.
const CLIENTS: usize = 16;
/// How long one may take to read an answer.
const SLOW: Duration = Duration::from_secs(10);

/// A guest that is served. Dropped, it is so no longer.
#[derive(Debug)]
pub struct Served {
    socket: Utf8PathBuf,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        // Gone already where the whole directory is.
        let _ = fs_err::remove_file(&self.socket);
    }
}

struct Server {
    about: About,
    guest: Arc<Guest>,
    reader: PageReader,
    contract: Contract,
    since: Instant,
    looks: Mutex<u64>,
}

/// Serves a guest's pages from now on, at a socket in the directory of its memory: that is only ours,
/// locked as long as we live, and swept by the next one if we are killed.
///
/// # Errors
/// Where the socket can't be made.
pub fn serve(
    dir: &Utf8Path,
    about: About,
    guest: &Arc<Guest>,
    reader: &PageReader,
    contract: &Contract,
) -> Result<Served, WatchError> {
    let socket = dir.join(SOCKET);
    let listener = UnixListener::bind(&socket)?;
    let server = Arc::new(Server {
        about,
        guest: Arc::clone(guest),
        reader: reader.clone(),
        contract: contract.clone(),
        since: Instant::now(),
        looks: Mutex::new(0),
    });
    let task = tokio::spawn(async move {
        // Ended with this task.
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                client = listener.accept() => {
                    let Ok((stream, _)) = client else { continue };
                    if clients.len() < CLIENTS {
                        let server = Arc::clone(&server);
                        clients.spawn(async move { server.client(stream).await });
                    }
                }
                Some(_) = clients.join_next() => {}
            }
        }
    });
    Ok(Served {
        socket,
        task: task.abort_handle(),
    })
}

impl Server {
    async fn client(&self, mut stream: UnixStream) {
        while let Ok(question) = receive::<Question>(&mut stream).await {
            let answer = match question {
                Question::About => Answer::About(self.about.clone()),
                Question::Look => match self.look().await {
                    Ok(sight) => Answer::Look(Box::new(sight)),
                    Err(why) => Answer::Unread(excerpt(&why, 300)),
                },
            };
            let sent = tokio::time::timeout(SLOW, send(&mut stream, &answer)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Reads the guest, one reader at a time.
    async fn look(&self) -> Result<Sight, String> {
        let mut number = self.looks.lock().await;
        let (reading, took) = match self.reader.look(&self.guest).await {
            Ok(read) => read,
            Err(e) => return Err(e.to_string()),
        };
        *number += 1;
        let status = self.guest.status().await.map_err(|e| e.to_string())?;
        let mut sight = sight(&self.about, reading, &self.contract);
        sight.number = *number;
        sight.at_ms = self.since.elapsed().as_millis() as u64;
        sight.took_us = took.as_micros() as u64;
        sight.stands = (!status.running).then_some(status.state);
        let tail = self.guest.console().tail(8 << 10);
        let lines: Vec<&str> = tail.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(LOG_LINES));
        sight.log = last.map(|l| excerpt(l, LOG_LINE)).collect();
        Ok(sight)
    }
}
