//! PID 1's loop: messages from the host, answers of actors, deaths.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use proto::{
    AgentMessage, HostMessage, Ledger, NamespaceInfo, Op, PROTOCOL_VERSION, Request, StepResult,
};

use super::disks::Disks;
use super::expect::{Coming, Expect};
use super::jobs::{Ended, outcome};
use super::port::Port;
use super::table::Table;
use super::{boot, profile};
use crate::cpus;
use crate::shell;
use crate::wire::{Filled, failed};
use std::os::fd::AsFd;

/// How often PID 1 looks whether a host has come that was away.
const AWAY: Duration = Duration::from_millis(5);

/// Everything that PID 1 keeps.
pub(super) struct Agent {
    pub(super) port: Port,
    deaths: SignalFd,
    greeted: bool,
    /// The actors.
    pub(super) table: Table,
    /// How those that are no more have ended.
    pub(super) dead: BTreeMap<String, String>,
    /// Ends that nobody has asked for yet, by member.
    pub(super) ended: BTreeMap<String, Ended>,
    /// The network block devices.
    pub(super) disks: Disks,
    /// The claims.
    pub(super) ledger: Ledger,
    /// What pages hold.
    pub(super) expect: Expect,
    /// What direct reads will have stored when they are released, by actor and pin.
    pub(super) coming: BTreeMap<(String, String), Coming>,
    /// The namespaces there are.
    pub(super) namespaces: Vec<NamespaceInfo>,
    /// Of the last operation that could store.
    pub(super) generation: u64,
}

/// Runs PID 1. It never returns: the kernel panics without it.
pub(crate) fn run() -> ! {
    let why = match start() {
        Ok(mut agent) => loop {
            agent.turn();
        },
        Err(e) => e,
    };
    boot::log(2, &format!("zonedev agent: failed to {why}"));
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn start() -> io::Result<Agent> {
    boot::prepare()?;
    cpus::first();
    let mut chld = SigSet::empty();
    chld.add(Signal::SIGCHLD);
    chld.thread_block()?;
    let deaths = SignalFd::with_flags(&chld, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let table = Table::new()?;
    Ok(Agent {
        port: Port::open()?,
        deaths,
        greeted: false,
        table,
        dead: BTreeMap::new(),
        ended: BTreeMap::new(),
        disks: Disks::default(),
        ledger: Ledger::default(),
        expect: Expect::default(),
        coming: BTreeMap::new(),
        namespaces: Vec::new(),
        generation: 0,
    })
}

impl Agent {
    /// Takes what there is, and then sleeps until there is more.
    fn turn(&mut self) {
        let there = self.port.fill();
        loop {
            match self.port.next() {
                Ok(Some(message)) => self.message(message),
                Ok(None) => break,
                Err(e) => {
                    self.fatal(format!("failed to {e}"));
                    break;
                }
            }
        }
        match there {
            Filled::Drained => self.sleep(None, true),
            Filled::Closed => self.sleep(Some(AWAY), false),
        }
    }

    fn message(&mut self, message: HostMessage) {
        match message {
            HostMessage::Hello { version, behaviour } => {
                if version != PROTOCOL_VERSION {
                    self.fatal(format!(
                        "failed to talk to a host of protocol version {version}: this agent has \
                         {PROTOCOL_VERSION}; build both from one tree"
                    ));
                    return;
                }
                self.greeted = true;
                self.ledger.set_behaviour(behaviour);
                self.look_at_namespaces();
                self.port.send(&AgentMessage::Ready {
                    version: PROTOCOL_VERSION,
                    release: boot::release(),
                    uptime_ms: boot::uptime_ms(),
                });
            }
            HostMessage::Run(_) if !self.greeted => {
                self.fatal("failed to run an operation: the host has not said hello".into());
            }
            HostMessage::Run(request) => self.request(request),
            HostMessage::Shell {} => {
                if let Err(e) = shell::fork() {
                    boot::log(
                        3,
                        &format!("zonedev agent: failed to fork for a shell: {e}"),
                    );
                }
            }
            HostMessage::Profile {} => {
                let profile = profile::profile();
                self.port.send(&AgentMessage::Profile { profile });
            }
            HostMessage::PowerOff {} => boot::power_off(),
        }
    }

    fn request(&mut self, request: Request) {
        let Request {
            id,
            actor,
            op,
            blocked_after_ms,
            mark,
        } = request;
        boot::log(6, &mark);
        let mut checkpoint = None;
        let outcome = if matches!(op, Op::Checkpoint { .. } | Op::End {}) {
            let began = Instant::now();
            let taken = match op {
                Op::End {} => self.end_all().and_then(|()| self.checkpoint(&op)),
                _ => self.checkpoint(&op),
            };
            let result = match taken {
                Ok(c) => {
                    checkpoint = Some(Box::new(c));
                    StepResult::Ok {}
                }
                Err(e) => failed(e),
            };
            outcome(result, began)
        } else {
            self.run(id, &actor, op, blocked_after_ms)
        };
        self.port.send(&AgentMessage::Done {
            id,
            outcome,
            checkpoint,
        });
    }

    /// Says why it can't go on, and wants to be greeted again before it does.
    fn fatal(&mut self, message: String) {
        boot::log(3, &format!("zonedev agent: {message}"));
        self.greeted = false;
        self.port.send(&AgentMessage::Fatal { message });
    }

    /// Lets actors, transfers and deaths have their turn, at most for `timeout`.
    /// The host's messages wait.
    pub(super) fn pump(&mut self, timeout: Option<Duration>) {
        self.sleep(timeout, false);
    }

    fn sleep(&mut self, timeout: Option<Duration>, with_port: bool) {
        let timeout = timeout.map_or(PollTimeout::NONE, |t| {
            // Rounded up, so that the last part of a millisecond is no busy loop.
            PollTimeout::try_from(t + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds: Vec<PollFd<'_>> = self
            .table
            .fds()
            .chain(self.disks.fds())
            .chain([self.deaths.as_fd()])
            .chain(with_port.then(|| self.port.fd()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        // Whatever it says, everything is looked at below.
        let _ = poll(&mut fds, timeout);
        drop(fds);
        self.disks.serve();
        while self.table.accept() {}
        let busy: Vec<String> = self
            .table
            .members
            .iter()
            .filter(|(_, m)| m.job.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in busy {
            if let Some(reply) = self.table.members.get_mut(&name).and_then(|m| m.answer()) {
                self.answered(&name, reply);
            }
        }
        self.reap();
    }

    /// Every orphan of the guest ends here.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.deaths.read_signal() {}
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), format!("exit {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid.as_raw(), format!("signal {signal}"))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.reaped(pid, &how);
        }
    }
}
