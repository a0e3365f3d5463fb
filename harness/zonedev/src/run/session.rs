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

use crate::vm::{End, Guest, VmError};

/// How long QEMU may take to end after its guest's channel.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// Characters told of a word that could not be used.
const SHOWN: usize = 500;

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
}

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
        };
        session
            .send(&HostMessage::Hello {
                version: PROTOCOL_VERSION,
                behaviour,
            })
            .await?;
        match session.answer(guest, limit).await? {
            AgentMessage::Ready {
                version: PROTOCOL_VERSION,
                ..
            } => Ok(session),
            other => Err(unexpected("instead of a greeting came", &other)),
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
        match self.answer(guest, limit).await? {
            AgentMessage::Done {
                id: answered,
                outcome,
                checkpoint,
            } if answered == id => Ok((outcome, checkpoint.map(|c| *c))),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(unexpected(&format!("request {id} was answered by"), &other)),
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
        match self.answer(guest, limit).await? {
            AgentMessage::Profile { profile } => Ok(profile),
            AgentMessage::Fatal { message } => Err(SessionError::Fatal(message)),
            other => Err(unexpected("instead of a profile came", &other)),
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

    /// The next word that is an answer. Signs of life come before it, each within `heartbeat`.
    async fn answer(
        &mut self,
        guest: &Guest,
        limit: Duration,
    ) -> Result<AgentMessage, SessionError> {
        let mut standing = None;
        let until = Instant::now() + limit;
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
                Ok(Ok(AgentMessage::Alive { standing: at, .. })) => standing = Some(at),
                Ok(Ok(answer)) => return Ok(answer),
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

    async fn read(channel: &mut UnixStream) -> Result<AgentMessage, SessionError> {
        let mut header = [0; 4];
        let io = |e: std::io::Error| SessionError::Frame(format!("the channel can't be read: {e}"));
        channel.read_exact(&mut header).await.map_err(io)?;
        let len = frame::body_len(header).map_err(|e| SessionError::Frame(e.to_string()))?;
        let mut body = vec![0; len];
        channel.read_exact(&mut body).await.map_err(io)?;
        // What serde says of a bad message quotes it.
        let bad = |e: frame::FrameError| {
            SessionError::Frame(proto::text::excerpt(&e.to_string(), SHOWN))
        };
        let message = frame::decode(&body).map_err(bad)?;
        proto::bounded(message).map_err(|e| SessionError::Frame(e.to_string()))
    }
}

/// A message that is no answer, with its beginning.
fn unexpected(what: &str, message: &AgentMessage) -> SessionError {
    let message = proto::text::excerpt(&format!("{message:?}"), SHOWN);
    SessionError::Frame(format!("{what} {message}"))
}

/// A channel that broke because its guest ended is that end.
async fn or_its_end(error: SessionError, guest: &Guest) -> SessionError {
    match timeout(LAST_BREATH, guest.ended()).await {
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
