//! The talk with one guest's agent over its channel.

use std::time::Duration;

use proto::{
    AgentMessage, Behaviour, Checkpoint, HostMessage, Op, Outcome, PROTOCOL_VERSION, Profile,
    Request, frame,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::vm::{End, Guest};

/// How a talk ended other than with an answer.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The guest is no longer there.
    #[error("the guest ended: {0:?}")]
    Ended(End),
    /// No answer in the time given.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The agent said that it can't go on.
    #[error("the agent gave up: {0}")]
    Fatal(String),
    /// What came is not what the agent would say.
    #[error("the agent's word could not be used: {0}")]
    Frame(String),
    /// The channel's host side was not there.
    #[error("the guest's channel is taken")]
    NoChannel,
}

/// One open talk.
#[derive(Debug)]
pub struct Session {
    channel: UnixStream,
    next_id: u64,
}

impl Session {
    /// Greets the agent and waits for it to be ready.
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
        self.send(&message).await?;
        match self.answer(guest, limit).await? {
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
        match self.answer(guest, limit).await? {
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

    async fn answer(
        &mut self,
        guest: &Guest,
        limit: Duration,
    ) -> Result<AgentMessage, SessionError> {
        let read = timeout(limit, Self::read(&mut self.channel));
        tokio::select! {
            message = read => message.map_err(|_| SessionError::Silent(limit))?,
            end = guest.ended() => Err(SessionError::Ended(end)),
        }
    }

    async fn read(channel: &mut UnixStream) -> Result<AgentMessage, SessionError> {
        let mut header = [0; 4];
        let io = |e: std::io::Error| SessionError::Frame(format!("the channel can't be read: {e}"));
        channel.read_exact(&mut header).await.map_err(io)?;
        let len = frame::body_len(header).map_err(|e| SessionError::Frame(e.to_string()))?;
        let mut body = vec![0; len];
        channel.read_exact(&mut body).await.map_err(io)?;
        frame::decode(&body).map_err(|e| SessionError::Frame(e.to_string()))
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
