//! The virtio-serial port to the host, whose other side comes and goes: a
//! host that attaches to a clone finds a guest that never saw it before.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::frame::{self, FrameError};
use proto::{AgentMessage, HostMessage};

use super::boot;
use crate::wire::{Filled, Inbox};

/// The host's name for the port that carries frames.
pub(super) const AGENT: &str = "org.zonedev.agent";

/// How long the host may leave a frame unread.
const UNREAD: Duration = Duration::from_secs(60);

/// The open port.
#[derive(Debug)]
pub(super) struct Port {
    file: File,
    inbox: Inbox,
}

/// The device node of the port with this name.
pub(crate) fn find(name: &str) -> Option<String> {
    fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find(|e| fs::read_to_string(e.path().join("name")).is_ok_and(|n| n.trim() == name))
        .map(|e| format!("/dev/{}", e.file_name().to_string_lossy()))
}

impl Port {
    /// Waits for the port: its driver learns the name some time after boot.
    pub(super) fn open() -> io::Result<Port> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(node) = find(AGENT)
                && let Ok(file) = boot::open_nonblocking(&node)
            {
                return Ok(Port {
                    file,
                    inbox: Inbox::default(),
                });
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("find virtio port {AGENT}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// For poll(2).
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Takes what the host has sent. Where the host is away, half a frame is forgotten.
    pub(super) fn fill(&mut self) -> Filled {
        match self.inbox.fill(&mut self.file) {
            Ok(Filled::Drained) => Filled::Drained,
            Ok(Filled::Closed) | Err(_) => {
                self.inbox.clear();
                Filled::Closed
            }
        }
    }

    /// The next message, if a whole one is there.
    pub(super) fn next(&mut self) -> Result<Option<HostMessage>, FrameError> {
        let next = self.inbox.next();
        if next.is_err() {
            self.inbox.clear();
        }
        next
    }

    /// Sends a message; it is lost where the host is away.
    pub(super) fn send(&mut self, message: &AgentMessage) {
        let bytes = match frame::encode(message) {
            Ok(bytes) => bytes,
            Err(e) => {
                let message = AgentMessage::Fatal {
                    message: format!("failed to {e}"),
                };
                match frame::encode(&message) {
                    Ok(bytes) => bytes,
                    Err(_) => return,
                }
            }
        };
        let until = Instant::now() + UNREAD;
        let mut rest = &bytes[..];
        while !rest.is_empty() && Instant::now() < until {
            match self.file.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::from(100u8));
                    if fds[0]
                        .revents()
                        .is_some_and(|r| r.contains(PollFlags::POLLHUP))
                    {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}
