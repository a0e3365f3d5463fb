//! What goes over a guest's socket: a question of one word, and its answer, as frames.

use proto::frame;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::sight::Sight;

/// The socket's name in the directory of its guest's memory.
pub(super) const SOCKET: &str = "watch";

/// Why a guest could not be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// It is gone, or was never there.
    #[error("reach the guest: {0}")]
    Gone(#[from] std::io::Error),
    /// What came is not what a harness of this version says.
    #[error("understand the guest's harness: {0}")]
    Frame(#[from] frame::FrameError),
    /// Its harness could not read it.
    #[error("read the guest: {0}")]
    Unread(String),
}

/// Which guest it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The harness that has it.
    pub pid: u32,
    /// `shell`, or the case that is run again.
    pub what: String,
    /// The kernel as typed.
    pub kernel: String,
    /// The fixture.
    pub fixture: String,
    /// The contract by which idle pages are told from others.
    pub contract: String,
}

impl About {
    /// In words.
    pub fn words(&self) -> String {
        format!(
            "{} {} with {} (process {})",
            self.what, self.kernel, self.fixture, self.pid
        )
    }
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Question {
    /// Which guest is it?
    About,
    /// How are its pages?
    Look,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Answer {
    About(About),
    Look(Box<Sight>),
    Unread(String),
}

pub(super) async fn send<T: Serialize>(
    to: &mut (impl AsyncWriteExt + Unpin),
    word: &T,
) -> Result<(), WatchError> {
    to.write_all(&frame::encode(word)?).await?;
    Ok(())
}

pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncReadExt + Unpin),
) -> Result<T, WatchError> {
    let mut header = [0; 4];
    from.read_exact(&mut header).await?;
    let mut body = vec![0; frame::body_len(header)?];
    from.read_exact(&mut body).await?;
    Ok(frame::decode(&body)?)
}
