//! The talk with one guest's agent over its channel.

use std::time::{Duration, Instant};

use proto::{
    AgentMessage, Behaviour, Checkpoint, HostMessage, Op, Outcome, PROTOCOL_VERSION, Profile,
    Request, Standing, frame,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::trust;
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

/// How a talk ended other than with an answer.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The guest is no longer there.
    #[error("the guest ended: {0:?}")]
    Ended(End),
    /// No answer in the time given, or no sign of life from the agent.
    #[error("no answer within {limit:?}")]
    Silent {
        /// The time.
        limit: Duration,
        /// Whether the agent was heard of all the while: it is the operation that does not end.
        agent_lives: bool,
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
    next_id: u64,
    /// How long the agent may be silent while an operation runs.
    heartbeat: Duration,
    /// Bytes of its answers so far.
    said: usize,
}

/// A message, and how long it was.
type Word = (AgentMessage, usize);

impl Session {
    /// Greets the agent and waits for it to be ready. From then on it gives a sign of life within
    /// `limit`, too.
    ///
    /// # Errors
    /// Where the guest ends first, says nothing within `limit`, or speaks another version.
    pub async fn open(
        guest: &mut Guest,
        behaviour: Behaviour,
        limit: Duration,
    ) -> Result<Self, SessionError> {
        let channel = guest.take_channel().ok_or(SessionError::NoChannel)?;
        let mut session = Session {
            channel,
            next_id: 1,
            heartbeat: limit,
            said: 0,
        };
        let hello = HostMessage::Hello {
            version: PROTOCOL_VERSION,
            behaviour,
        };
        match session.ask(guest, &hello, limit).await? {
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
        match self.ask(guest, &message, limit).await? {
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
        match self.ask(guest, &HostMessage::Profile {}, limit).await? {
            AgentMessage::Profile { profile } => Ok(profile),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(unasked("a profile", &other)),
        }
    }

    /// Sends a message and waits for its answer, within `limit` together: a guest that does not read
    /// is as silent as one that does not write.
    async fn ask(
        &mut self,
        guest: &Guest,
        message: &HostMessage,
        limit: Duration,
    ) -> Result<AgentMessage, SessionError> {
        let began = Instant::now();
        let sent = tokio::select! {
            sent = timeout(limit, self.send(message)) => sent,
            end = guest.ended() => return Err(SessionError::Ended(end)),
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(or_its_end(e, guest).await),
            Err(_) => {
                return Err(SessionError::Silent {
                    limit,
                    agent_lives: false,
                    standing: None,
                });
            }
        }
        self.answer(guest, began, limit).await
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

    /// Hands the channel over to a shell, whose end is the guest's: from now on it carries a
    /// terminal's bytes.
    ///
    /// # Errors
    /// Where the channel is gone.
    pub async fn into_shell(mut self) -> Result<UnixStream, SessionError> {
        self.send(&HostMessage::Shell {}).await?;
        Ok(self.channel)
    }

    /// The next word that is an answer. Signs of life come before it, each within `heartbeat`.
    async fn answer(
        &mut self,
        guest: &Guest,
        began: Instant,
        limit: Duration,
    ) -> Result<AgentMessage, SessionError> {
        let mut standing = None;
        let mut alive = 0usize;
        let until = began + limit;
        let silent = |standing, agent_lives| SessionError::Silent {
            limit,
            agent_lives,
            standing,
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = left.min(self.heartbeat);
            let message = tokio::select! {
                message = timeout(wait, Self::read(&mut self.channel)) => message,
                end = guest.ended() => return Err(SessionError::Ended(end)),
            };
            match message {
                Ok(Ok((AgentMessage::Alive { standing: at, .. }, bytes))) => {
                    standing = Some(at);
                    alive = alive.saturating_add(bytes);
                    let seconds = began.elapsed().as_secs() as usize;
                    if alive > MAX_ALIVE + seconds.saturating_mul(MAX_ALIVE_A_SECOND) {
                        let what = "it floods its channel with signs of life";
                        return Err(or_its_end(SessionError::Frame(what.into()), guest).await);
                    }
                }
                Ok(Ok((answer, bytes))) => {
                    self.said = self.said.saturating_add(bytes);
                    if self.said > MAX_SAID {
                        let what = format!("it said more than {} MiB", MAX_SAID >> 20);
                        return Err(or_its_end(SessionError::Frame(what), guest).await);
                    }
                    return Ok(answer);
                }
                Ok(Err(e)) => return Err(or_its_end(e, guest).await),
                Err(_) if left <= self.heartbeat => {
                    let lives = standing.is_some();
                    return Err(silent(standing, lives));
                }
                Err(_) => return Err(silent(standing, false)),
            }
            if Instant::now() >= until {
                return Err(silent(standing, true));
            }
        }
    }

    async fn read(channel: &mut UnixStream) -> Result<Word, SessionError> {
        let io = |e: std::io::Error| SessionError::Channel(format!("it can't be read: {e}"));
        let bad = |e: proto::frame::FrameError| SessionError::Frame(trust::words(&e));
        let mut header = [0; 4];
        channel.read_exact(&mut header).await.map_err(io)?;
        let len = frame::body_len(header).map_err(bad)?;
        let mut body = vec![0; len];
        channel.read_exact(&mut body).await.map_err(io)?;
        let message = frame::decode(&body).map_err(bad)?;
        let message = trust::checked(message).map_err(SessionError::Frame)?;
        Ok((message, len))
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
