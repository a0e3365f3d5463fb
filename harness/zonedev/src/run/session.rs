//! The talk with one guest's agent over its channel.

use std::time::Duration;

use proto::text::excerpt;
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

/// How long QEMU may take to end where its guest said something odd: maybe these were last words.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// How long it may take to end after it closed its guest's channel, which it does only then.
const CLOSING: Duration = Duration::from_secs(10);
/// Bytes of all answers in one talk. A cell's record keeps what is in them.
const MAX_SAID: usize = 32 << 20;
/// Bytes of signs of life while one operation runs, and for each second that it runs: an honest agent
/// says a few kilobytes every two seconds.
const MAX_ALIVE: usize = 1 << 20;
const MAX_ALIVE_A_SECOND: usize = 64 << 10;

/// Characters told of a word that could not be used: what serde says of it quotes it.
const SHOWN: usize = 256;

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
    /// The channel broke, though QEMU is there.
    #[error("the agent's channel broke: {0}")]
    Channel(String),
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
    /// Bytes of its answers so far.
    said: usize,
}

/// A message, and how long it was.
type Word = (AgentMessage, usize);

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
            said: 0,
        };
        let hello = HostMessage::Hello {
            version: PROTOCOL_VERSION,
            behaviour,
        };
        let patience = Patience {
            limit,
            heartbeat: None,
        };
        match session.ask(guest, &hello, patience).await? {
            AgentMessage::Ready {
                version: PROTOCOL_VERSION,
                ..
            } => Ok(session),
            AgentMessage::Ready { version, .. } => Err(SessionError::Frame(format!(
                "it speaks version {version}, not {PROTOCOL_VERSION}"
            ))),
            other => Err(unasked("a greeting", &other)),
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
        match self.ask(guest, &message, self.patience(limit)).await? {
            AgentMessage::Done {
                id: answered,
                outcome,
                checkpoint,
            } if answered == id => Ok((outcome, checkpoint.map(|c| *c))),
            AgentMessage::Done { id: answered, .. } => Err(SessionError::Frame(format!(
                "request {id} was answered by an answer to request {answered}"
            ))),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(unasked(&format!("an answer to request {id}"), &other)),
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
        match self
            .ask(guest, &HostMessage::Profile {}, self.patience(limit))
            .await?
        {
            AgentMessage::Profile { profile } => Ok(profile),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(unasked("a profile", &other)),
        }
    }

    /// Sends a message and waits for its answer, with `patience` for both: a guest that does not read
    /// is as silent as one that does not write.
    async fn ask(
        &mut self,
        guest: &Guest,
        message: &HostMessage,
        patience: Patience,
    ) -> Result<AgentMessage, SessionError> {
        let watch = Watch::new(patience, guest);
        let limit = patience.limit;
        let sent = tokio::select! {
            sent = timeout(limit, self.send(message)) => sent,
            end = guest.ended() => return Err(SessionError::Ended(end)),
        };
        match sent {
            Ok(Ok(())) => self.answer(guest, watch).await,
            Ok(Err(e)) => Err(or_its_end(e, guest).await),
            Err(_) => Err(SessionError::Silent {
                limit,
                why: Silence::Deadline,
                standing: None,
            }),
        }
    }

    /// Sends a message without an answer. Waits as long as the guest reads nothing.
    ///
    /// # Errors
    /// Where the channel is gone.
    async fn send(&mut self, message: &HostMessage) -> Result<(), SessionError> {
        let bytes = frame::encode(message).map_err(|e| SessionError::Frame(e.to_string()))?;
        self.channel
            .write_all(&bytes)
            .await
            .map_err(|e| SessionError::Channel(format!("it can't be written: {e}")))
    }

    /// Has the guest's port for shells served from now on.
    ///
    /// # Errors
    /// Where the channel is gone.
    pub async fn serve_shells(&mut self) -> Result<(), SessionError> {
        self.send(&HostMessage::Shell {}).await
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
        mut watch: Watch,
    ) -> Result<AgentMessage, SessionError> {
        let mut standing = None;
        let mut alive = 0usize;
        let mut tick = tokio::time::interval(TICK);
        let answer = loop {
            // None of these loses anything when another is first.
            tokio::select! {
                message = self.message() => match message {
                    Ok((AgentMessage::Alive { standing: at, .. }, bytes)) => {
                        standing = Some(at);
                        watch.heard();
                        alive = alive.saturating_add(bytes);
                        let seconds = watch.elapsed().as_secs() as usize;
                        if alive > MAX_ALIVE + seconds.saturating_mul(MAX_ALIVE_A_SECOND) {
                            let what = "it floods its channel with signs of life";
                            return Err(or_its_end(SessionError::Frame(what.into()), guest).await);
                        }
                    }
                    Ok((answer, bytes)) => {
                        self.said = self.said.saturating_add(bytes);
                        if self.said > MAX_SAID {
                            let what = format!("it said more than {} MiB", MAX_SAID >> 20);
                            return Err(or_its_end(SessionError::Frame(what), guest).await);
                        }
                        break answer;
                    }
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
    async fn message(&mut self) -> Result<Word, SessionError> {
        let bad = |e: frame::FrameError| SessionError::Frame(excerpt(&e.to_string(), SHOWN));
        loop {
            if let Some((header, rest)) = self.read.split_first_chunk() {
                let len = frame::body_len(*header).map_err(bad)?;
                if let Some(body) = rest.get(..len) {
                    let message = frame::decode(body).map_err(bad)?;
                    self.read.drain(..4 + len);
                    let message = proto::bounded(message)
                        .map_err(|e| SessionError::Frame(format!("failed to {e}")))?;
                    return Ok((message, len));
                }
            }
            let why = match self.channel.read_buf(&mut self.read).await {
                Ok(0) => "it was closed".to_owned(),
                Ok(_) => continue,
                Err(e) => e.to_string(),
            };
            return Err(SessionError::Channel(format!("it can't be read: {why}")));
        }
    }
}

/// What came instead of what was asked for: by its kind, since it may be long.
fn unasked(asked: &str, came: &AgentMessage) -> SessionError {
    let came = match came {
        AgentMessage::Ready { .. } => "a greeting",
        AgentMessage::Done { .. } => "the end of an operation",
        AgentMessage::Alive { .. } => "a sign of life",
        AgentMessage::Profile { .. } => "a profile",
        AgentMessage::Fatal { message } => return SessionError::Fatal(message.clone()),
    };
    SessionError::Frame(format!("instead of {asked} came {came}"))
}

/// A channel that broke because its guest ended is that end.
async fn or_its_end(error: SessionError, guest: &Guest) -> SessionError {
    let limit = match error {
        SessionError::Channel(_) => CLOSING,
        _ => LAST_BREATH,
    };
    match timeout(limit, guest.ended()).await {
        Ok(end) => SessionError::Ended(end),
        Err(_) => error,
    }
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
