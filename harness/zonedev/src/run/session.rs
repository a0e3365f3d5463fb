//! The talk with one guest's agent over its channel.

use std::time::Duration;

use proto::{
    AgentMessage, Behaviour, Checkpoint, HostMessage, Op, Outcome, PROTOCOL_VERSION, Profile,
    Request, Standing, frame,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::progress::{Patience, Silence, TICK, Watch};
use crate::vm::{End, Guest, VmError};

/// How long QEMU may take to end after its guest's channel.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// Characters of a text in a sign of life.
const MAX_WORDS: usize = 160;

/// How a talk ended other than with an answer.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The guest is no longer there.
    #[error("the guest ended: {0:?}")]
    Ended(End),
    /// No answer, and the guest makes no progress.
    #[error("no answer within {limit:?}")]
    Silent {
        /// The time given.
        limit: Duration,
        /// Why it is not waited for any longer.
        why: Silence,
        /// Where the operation stood when the agent was heard of last.
        standing: Option<Box<Standing>>,
    },
    /// The agent said that it can't go on.
    #[error("the agent gave up: {0}")]
    Fatal(String),
    /// What came is not what the agent would say.
    #[error("the agent's word could not be used: {0}")]
    Frame(String),
    /// The guest could not be read or steered.
    #[error("{0}")]
    Vm(#[from] VmError),
    /// The channel's host side was not there.
    #[error("the guest's channel is taken")]
    NoChannel,
}

/// One open talk.
#[derive(Debug)]
pub struct Session {
    channel: UnixStream,
    /// What came of frames that are not whole.
    read: Vec<u8>,
    next_id: u64,
    /// How long the agent may be silent while an operation runs.
    heartbeat: Duration,
    /// Answers that came after their time, since the host did not let the guest run.
    starved: u32,
}

impl Session {
    /// Greets the agent and waits for it to be ready, for as long as `limit`. From then on it gives
    /// a sign of life within `heartbeat`.
    ///
    /// # Errors
    /// Where the guest ends first, says nothing within `limit`, or speaks another version.
    pub async fn open(
        guest: &mut Guest,
        behaviour: Behaviour,
        limit: Duration,
        heartbeat: Duration,
    ) -> Result<Self, SessionError> {
        let channel = guest.take_channel().ok_or(SessionError::NoChannel)?;
        let mut session = Session {
            channel,
            read: Vec::new(),
            next_id: 1,
            heartbeat,
            starved: 0,
        };
        session
            .send(&HostMessage::Hello {
                version: PROTOCOL_VERSION,
                behaviour,
            })
            .await?;
        let patience = Patience {
            limit,
            heartbeat: None,
        };
        match session.answer(guest, patience).await? {
            AgentMessage::Ready {
                version: PROTOCOL_VERSION,
                ..
            } => Ok(session),
            other => Err(SessionError::Frame(format!(
                "instead of a greeting came {other:?}"
            ))),
        }
    }

    /// Runs one operation and waits for its end.
    ///
    /// # Errors
    /// Where the guest ends first, says nothing within `limit`, or answers something else.
    pub async fn run(
        &mut self,
        guest: &Guest,
        request: RequestParts<'_>,
        limit: Duration,
    ) -> Result<(Outcome, Option<Checkpoint>), SessionError> {
        let id = self.next_id;
        self.next_id += 1;
        let message = HostMessage::Run(Request {
            id,
            actor: request.actor.to_owned(),
            op: request.op.clone(),
            blocked_after_ms: request.blocked_after_ms,
            mark: request.mark,
        });
        if let Err(e) = self.send(&message).await {
            return Err(or_its_end(e, guest).await);
        }
        match self.answer(guest, self.patience(limit)).await? {
            AgentMessage::Done {
                id: answered,
                outcome,
                checkpoint,
            } if answered == id => Ok((outcome, checkpoint.map(|c| *c))),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(SessionError::Frame(format!(
                "request {id} was answered by {other:?}"
            ))),
        }
    }

    /// What the kernel has counted of its own code.
    ///
    /// # Errors
    /// Where the guest ends first, says nothing within `limit`, or answers something else.
    pub async fn profile(
        &mut self,
        guest: &Guest,
        limit: Duration,
    ) -> Result<Profile, SessionError> {
        self.send(&HostMessage::Profile {}).await?;
        match self.answer(guest, self.patience(limit)).await? {
            AgentMessage::Profile { profile } => Ok(profile),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(SessionError::Frame(format!(
                "instead of a profile came {other:?}"
            ))),
        }
    }

    /// Sends a message without an answer.
    ///
    /// # Errors
    /// Where the channel is gone.
    pub async fn send(&mut self, message: &HostMessage) -> Result<(), SessionError> {
        let bytes = frame::encode(message).map_err(|e| SessionError::Frame(e.to_string()))?;
        self.channel
            .write_all(&bytes)
            .await
            .map_err(|e| SessionError::Frame(format!("the channel can't be written: {e}")))
    }

    /// Hands the channel over to a shell, whose end is the guest's: from now on it carries a
    /// terminal's bytes.
    ///
    /// # Errors
    /// Where the channel is gone.
    pub async fn into_shell(mut self) -> Result<UnixStream, SessionError> {
        self.send(&HostMessage::Shell {}).await?;
        Ok(self.channel)
    }

    fn patience(&self, limit: Duration) -> Patience {
        Patience {
            limit,
            heartbeat: Some(self.heartbeat),
        }
    }

    /// How many answers came late by the host's doing, since this was asked last.
    pub(super) fn take_starved(&mut self) -> u32 {
        std::mem::take(&mut self.starved)
    }

    /// The next word that is an answer, signs of life put aside.
    async fn answer(
        &mut self,
        guest: &Guest,
        patience: Patience,
    ) -> Result<AgentMessage, SessionError> {
        let mut standing = None;
        let mut watch = Watch::new(patience, guest);
        let mut tick = tokio::time::interval(TICK);
        let answer = loop {
            // None of these loses anything when another is first.
            tokio::select! {
                message = self.message() => match message {
                    Ok(AgentMessage::Alive { standing: at, .. }) => {
                        standing = Some(bounded(at));
                        watch.heard();
                    }
                    Ok(answer) => break answer,
                    Err(e) => return Err(or_its_end(e, guest).await),
                },
                end = guest.ended() => return Err(SessionError::Ended(end)),
                _ = tick.tick() => {}
            }
            // Also where signs of life leave no time for a tick.
            if let Some(why) = watch.look(guest).await? {
                let limit = watch.limit();
                return Err(SessionError::Silent {
                    limit,
                    why,
                    standing,
                });
            }
        };
        self.starved += u32::from(watch.starved);
        Ok(answer)
    }

    /// The next frame. What has been read of one stays where this is not waited for to the end.
    async fn message(&mut self) -> Result<AgentMessage, SessionError> {
        let frame = |e: frame::FrameError| SessionError::Frame(e.to_string());
        loop {
            if let Some((header, rest)) = self.read.split_first_chunk() {
                let len = frame::body_len(*header).map_err(frame)?;
                if let Some(body) = rest.get(..len) {
                    let message = frame::decode(body).map_err(frame);
                    self.read.drain(..4 + len);
                    return message;
                }
            }
            let read = self.channel.read_buf(&mut self.read).await;
            match read {
                Ok(0) => {
                    let message = "the channel can't be read: it was closed";
                    return Err(SessionError::Frame(message.to_owned()));
                }
                Ok(_) => {}
                Err(e) => {
                    let message = format!("the channel can't be read: {e}");
                    return Err(SessionError::Frame(message));
                }
            }
        }
    }
}

/// A channel that broke because its guest ended is that end.
async fn or_its_end(error: SessionError, guest: &Guest) -> SessionError {
    match timeout(LAST_BREATH, guest.ended()).await {
        Ok(end) => SessionError::Ended(end),
        Err(_) => error,
    }
}

/// No more than an honest agent would tell.
fn bounded(mut standing: Box<Standing>) -> Box<Standing> {
    standing.pins.truncate(Standing::MAX_PINS);
    standing.stack.truncate(Standing::MAX_FRAMES);
    for text in [&mut standing.state, &mut standing.wchan]
        .into_iter()
        .chain(&mut standing.stack)
        .chain(standing.pins.iter_mut().map(|p| &mut p.who))
    {
        *text = text
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_WORDS)
            .collect();
    }
    standing
}

/// What [`Session::run`] asks.
#[derive(Debug)]
pub struct RequestParts<'a> {
    /// The process.
    pub actor: &'a str,
    /// The operation.
    pub op: &'a Op,
    /// See [`Request::blocked_after_ms`].
    pub blocked_after_ms: Option<u64>,
    /// See [`Request::mark`].
    pub mark: String,
}
