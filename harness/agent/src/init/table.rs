//! The processes that PID 1 has forked to run operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::unistd::{ForkResult, fork};
use proto::{Fact, Op, frame};

use super::boot;
use super::jobs::WORKER;
use crate::wire::{Announce, Filled, Inbox, Order, Reply, SOCKET};
use crate::{actor, cpus};

/// How long PID 1 waits for a process of its own that has nothing to stall on.
pub(super) const PROMPT: Duration = Duration::from_secs(20);

/// An operation under way.
#[derive(Debug)]
pub(super) struct Job {
    /// What.
    pub(super) op: Op,
    /// The actor that the request named.
    pub(super) by: String,
    /// Since when.
    pub(super) began: Instant,
    /// What it stores.
    pub(super) generation: u64,
    /// And to which words of each page.
    pub(super) stores: [bool; 2],
    /// Of a direct pin that is given up since not all of it came to the device:
    /// what taking it taught, and why it is given up.
    pub(super) given_up: Option<(Vec<Fact>, String)>,
    /// Whether the host was told that it is blocked.
    pub(super) blocked: bool,
}

/// A process that runs operations.
#[derive(Debug)]
pub(super) struct Member {
    /// Its process id.
    pub(super) pid: i32,
    stream: UnixStream,
    inbox: Inbox,
    /// What it is doing.
    pub(super) job: Option<Job>,
    /// Its mappings: address and 4K pages.
    pub(super) maps: BTreeMap<String, (u64, u64)>,
    /// Its pins.
    pub(super) pins: BTreeSet<String>,
}

impl Member {
    /// Hands it an operation.
    pub(super) fn order(&mut self, order: &Order) -> io::Result<()> {
        let bytes = frame::encode(order).map_err(io::Error::other)?;
        // The stream doesn't block, and its buffer holds far more than an order; it is empty,
        // since an actor has one order at a time.
        let mut rest = &bytes[..];
        let until = Instant::now() + PROMPT;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Its answer, if a whole one is there.
    pub(super) fn answer(&mut self) -> Option<Reply> {
        match self.inbox.fill(&mut self.stream) {
            // A closed connection is followed by a death, which is told apart there.
            Ok(Filled::Drained | Filled::Closed) | Err(_) => {}
        }
        self.inbox.next().unwrap_or_else(|e| {
            self.inbox.clear();
            Some(crate::wire::failed(e.to_string()).into())
        })
    }
}

/// All of them, by name.
#[derive(Debug)]
pub(super) struct Table {
    listener: UnixListener,
    /// See [`Member`].
    pub(super) members: BTreeMap<String, Member>,
}

impl Table {
    /// Opens the socket that they find PID 1 at.
    pub(super) fn new() -> io::Result<Table> {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Table {
            listener,
            members: BTreeMap::new(),
        })
    }

    /// Forks a process under a name and waits until it has announced itself.
    pub(super) fn spawn(&mut self, name: &str) -> io::Result<()> {
        // SAFETY: PID 1 has one thread, so that the child may go on in Rust code.
        match unsafe { fork() }? {
            ForkResult::Child => {
                boot::close_from(3);
                match name {
                    WORKER => cpus::all(),
                    _ => cpus::last(),
                }
                actor::serve(name)
            }
            ForkResult::Parent { .. } => self.expect(name),
        }
    }

    /// Waits for the announcement of a process that is being forked.
    pub(super) fn expect(&mut self, name: &str) -> io::Result<()> {
        let until = Instant::now() + PROMPT;
        while !self.members.contains_key(name) {
            if Instant::now() > until {
                return Err(io::Error::other(format!(
                    "start actor `{name}`: it has not announced itself in {} s",
                    PROMPT.as_secs()
                )));
            }
            if !self.accept() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Takes an announcement, if there is one.
    pub(super) fn accept(&mut self) -> bool {
        let Ok((stream, _)) = self.listener.accept() else {
            return false;
        };
        let announce = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(PROMPT)))
            .map_err(frame::FrameError::from)
            .and_then(|()| frame::read::<Announce>(&mut (&stream)));
        match announce {
            Ok(Announce { name, pid }) if stream.set_nonblocking(true).is_ok() => {
                let member = Member {
                    pid,
                    stream,
                    inbox: Inbox::default(),
                    job: None,
                    maps: BTreeMap::new(),
                    pins: BTreeSet::new(),
                };
                self.members.insert(name, member);
            }
            Ok(_) => {}
            Err(e) => boot::log(3, &format!("zonedev agent: failed to {e}")),
        }
        true
    }

    /// For poll(2). Idle members have nothing to say.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let busy = self.members.values().filter(|m| m.job.is_some());
        busy.map(|m| m.stream.as_fd())
            .chain([self.listener.as_fd()])
    }

    /// Who has this process id.
    pub(super) fn name_of(&self, pid: i32) -> Option<String> {
        self.members
            .iter()
            .find(|(_, m)| m.pid == pid)
            .map(|(name, _)| name.clone())
    }
}
