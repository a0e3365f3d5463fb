//! An actor's life: connect to PID 1, then one operation after the other.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use proto::{Op, StepResult, frame};

use super::maps::Mapping;
use super::pins::Held;
use super::{
    access, ask, change, clone, files, gup, hmm, maps, pins, poison, provision, race, read, swap,
    touch, uffd,
};
use crate::wire::{Announce, Order, Reply, SOCKET, errno, failed};

/// What an actor has.
pub(super) struct Actor {
    pub(super) maps: BTreeMap<String, Mapping>,
    pub(super) pins: BTreeMap<String, Held>,
    pub(super) hmm: BTreeMap<u8, hmm::Mirror>,
    /// What its mappings are registered with.
    pub(super) uffd: Option<OwnedFd>,
    /// When files were last modified, as the actor last looked.
    pub(super) mtimes: BTreeMap<String, SystemTime>,
}

/// Runs operations for PID 1 until it says `exit` or goes away. Called in a
/// freshly forked process with one thread, whose inherited descriptors have
/// been closed.
pub(crate) fn serve(name: &str) -> ! {
    if access::install().is_err() {
        leave(3);
    }
    let Some(mut stream) = connect(name) else {
        leave(3);
    };
    let mut actor = Actor {
        maps: BTreeMap::new(),
        pins: BTreeMap::new(),
        hmm: BTreeMap::new(),
        uffd: None,
        mtimes: BTreeMap::new(),
    };
    loop {
        let Ok(order) = frame::read::<Order>(&mut stream) else {
            leave(0);
        };
        let reply = match &order.op {
            Op::Exit {} => {
                actor.pins.clear();
                leave(0);
            }
            Op::Fork { child } => match fork() {
                Ok(0) => {
                    // The parent's pins are the parent's: an inherited end of their pipe
                    // would keep them. Its connection is the parent's as well.
                    actor.pins.values_mut().for_each(Held::disown);
                    actor.pins.clear();
                    // It is about the parent's address space.
                    actor.uffd = None;
                    for mirror in actor.hmm.values_mut() {
                        mirror.inherited = true;
                    }
                    match connect(child) {
                        Some(own) => stream = own,
                        None => leave(3),
                    }
                    continue;
                }
                Ok(_) => Reply::from(StepResult::Ok {}),
                Err(e) => Reply::from(errno("fork", e)),
            },
            _ => actor.run(&order),
        };
        if frame::write(&mut stream, &reply).is_err() {
            leave(0);
        }
    }
}

impl Actor {
    fn run(&mut self, order: &Order) -> Reply {
        let context = &order.context;
        let done = match &order.op {
            Op::Create { file, size } => files::create(file, *size, context),
            Op::Truncate { file, size } => files::truncate(file, *size, context),
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => files::change(file, *mode, (*offset, *length), context),
            Op::Clone { .. } | Op::Dedupe { .. } => clone::share(&order.op, context),
            Op::Rename { file, to } => files::rename(file, to),
            Op::Write {
                file,
                offset,
                length,
            } => files::write(file, *offset, *length, context),
            Op::Read {
                file,
                offset,
                length,
                by,
            } => read::read(file, *offset, *length, *by, context),
            Op::CopyFile { file, to, length } => read::copy(file, to, *length, context),
            Op::Poison { undo, .. } => poison::poison(*undo, context),
            Op::Mlock {
                map,
                offset,
                length,
            } => change::lock(self, map, *offset, *length, context),
            Op::Fsync { file } => files::fsync(file),
            Op::Mtime { file, later } => files::modified(&mut self.mtimes, file, *later),
            Op::Unlink { file } => files::unlink(file),
            Op::MapFile { .. }
            | Op::MapDevice { .. }
            | Op::MapAnon { .. }
            | Op::MapP2pmem { .. } => maps::map(self, &order.op, context),
            Op::Unmap {
                map,
                offset,
                length,
            } => change::unmap(self, map, *offset, *length),
            Op::Mprotect {
                map,
                offset,
                length,
                access,
            } => change::protect(self, map, *offset, *length, *access),
            Op::WriteProtect {
                map,
                offset,
                length,
                undo,
            } => uffd::write_protect(self, map, (*offset, *length), *undo),
            Op::Mremap { map, align } => change::remap(self, map, *align),
            Op::Madvise {
                map,
                offset,
                length,
                advice,
            } => change::advise(self, map, *offset, *length, *advice, context),
            Op::Msync { map } => change::sync(self, map),
            Op::Ask {
                how,
                map,
                offset,
                length,
            } => ask::ask(self, *how, map, (*offset, *length)),
            Op::Gup {
                how,
                map,
                offset,
                length,
            } => gup::gup(self, *how, map, (*offset, *length), context),
            Op::Touch {
                map,
                offset,
                length,
                write,
            } => self.range(map, *offset, *length).and_then(|(m, range)| {
                let access = if *write {
                    touch::Access::Store(context.generation, context.stores)
                } else {
                    touch::Access::Load
                };
                touch::touch(map, m, range, access, context)
            }),
            Op::Verify {
                map,
                offset,
                length,
            } => self.range(map, *offset, *length).and_then(|(m, range)| {
                touch::touch(
                    map,
                    m,
                    range,
                    touch::Access::Check(&context.expected),
                    context,
                )
            }),
            Op::Pin {
                pin,
                how,
                map,
                offset,
                length,
            } => pins::pin(self, pin, *how, map, (*offset, *length), context),
            Op::Release { pin } => pins::release(self, pin),
            Op::Race {
                rounds,
                turns,
                seed,
                arm,
            } => race::race(self, (*rounds, turns.get()), *seed, arm, context),
            Op::HmmOpen { device } => hmm::open(self, device.unwrap_or(0)),
            Op::HmmClose { device } => hmm::close(self, device.unwrap_or(0)),
            Op::SwapOn { cached } => swap::on(*cached),
            Op::SwapOff {} => swap::off(),
            Op::HmmMigrate(of) => hmm::migrate(self, of, context),
            Op::HmmReturn(of) => hmm::back(self, of),
            Op::HmmRead(of) => hmm::read(self, hmm::Ask::read(self, of), of, context),
            Op::HmmReadUnlocked(of) => {
                hmm::read(self, hmm::Ask::read_unlocked(self, of), of, context)
            }
            Op::HmmWrite(of) => hmm::write(self, of, context),
            Op::HmmExclusive(of) => hmm::exclude(self, of, context),
            Op::HmmCheckExclusive(of) => hmm::check_exclusive(self, of),
            Op::HmmSnapshot(of) => hmm::snapshot(self, of),
            op => provision::run(op, context),
        };
        done.unwrap_or_else(Reply::from)
    }
}

/// Connects to PID 1 under a name.
fn connect(name: &str) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(SOCKET).ok()?;
    let announce = Announce {
        name: name.to_owned(),
        pid: std::process::id() as i32,
    };
    frame::write(&mut stream, &announce).ok()?;
    Some(stream)
}

/// fork(2) whose child is PID 1's, not ours, so that PID 1 reaps it and learns
/// how it ended. 0 in the child.
fn fork() -> Result<i64, nix::errno::Errno> {
    // SAFETY: like fork(2) without a new stack; the process has one thread, so no
    // lock can be held by another one, and the child goes on in its own copy.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_PARENT | libc::SIGCHLD,
            0,
            0,
            0,
            0,
        )
    };
    nix::errno::Errno::result(pid)
}

/// _exit(2): nothing of PID 1's copied state may be run down here.
fn leave(code: i32) -> ! {
    // SAFETY: ends this process; takes no pointer.
    unsafe { libc::_exit(code) }
}

/// The message for a name that no operation introduced.
pub(super) fn unknown(kind: &str, name: &str) -> StepResult {
    failed(format!(
        "find {kind} `{name}`: this actor has none of that name"
    ))
}
