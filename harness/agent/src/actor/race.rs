//! Threads that do one thing each at nearly the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, SpliceFFlags, fallocate};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::getpid;
use proto::{Backing, Op, ProgramOutput, Size, StepResult};

use super::maps::Mapping;
use super::serve::Actor;
use super::{access, files, hmm};
use crate::cpus;
use crate::wire::{Context, Reply, TAIL, failed, io_errno, words};

type Done = Result<Reply, StepResult>;

/// The longest delay, in turns of an empty loop: some microseconds, as a fault takes.
const DELAY: u64 = 4096;

/// How long no thread's turn ends before what it may wait for is looked after.
const STALLED: Duration = Duration::from_millis(50);

/// After every so many rounds the threads compare what they see. Not after each, so that rounds
/// begin without entries too.
const LOOK_EVERY: u32 = 3;
/// At so many pages of each range.
const LOOK_AT: usize = 16;
/// Told of a load that raised a signal; no word of ours.
const NO_WORD: u64 = u64::MAX;

/// One thread's part, made ready.
enum Arm<'a> {
    Load(&'a Mapping, Range<u64>),
    Store(&'a Mapping, Range<u64>, u64),
    Truncate(File, u64),
    Fallocate(File, FallocateFlags, Range<u64>),
    Fsync(File),
    Zap(&'a Mapping, Range<u64>),
    Splice(&'a Mapping, Range<u64>),
    Readv(&'a Mapping, Range<u64>),
    Device(hmm::Ask<'a>),
}

impl<'a> Arm<'a> {
    fn of(actor: &'a Actor, op: &Op, context: &Context) -> Result<Self, StepResult> {
        Ok(match op {
            Op::Touch {
                map,
                offset,
                length,
                write,
            } => {
                let (m, range) = actor.range(map, *offset, *length)?;
                match write {
                    true => Arm::Store(m, range, context.generation),
                    false => Arm::Load(m, range),
                }
            }
            Op::Truncate { file, size } => Arm::Truncate(files::open(file)?, size.bytes()),
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => {
                let range = offset.bytes()..offset.bytes() + length.bytes();
                Arm::Fallocate(files::open(file)?, files::flags(*mode), range)
            }
            Op::Fsync { file } => Arm::Fsync(files::open(file)?),
            Op::Madvise {
                map,
                offset,
                length,
                ..
            } => {
                let (m, range) = actor.range(map, *offset, *length)?;
                Arm::Zap(m, range)
            }
            Op::Pin {
                map,
                offset,
                length,
                ..
            } => {
                let (m, range) = actor.range(map, *offset, Some(*length))?;
                Arm::Splice(m, range)
            }
            Op::Gup {
                map,
                offset,
                length,
                ..
            } => {
                let (m, range) = actor.range(map, *offset, *length)?;
                Arm::Readv(m, range)
            }
            Op::HmmMigrate(of) => Arm::Device(hmm::Ask::migrate(actor, of)?),
            Op::HmmReturn(of) => Arm::Device(hmm::Ask::back(actor, of)?),
            Op::HmmRead(of) => Arm::Device(hmm::Ask::read(actor, of)?),
            Op::HmmReadUnlocked(of) => Arm::Device(hmm::Ask::read_unlocked(actor, of)?),
            Op::HmmSnapshot(of) => Arm::Device(hmm::Ask::snapshot(actor, of)?),
            op => return Err(failed(format!("race: no thread can do `{}`", op.word()))),
        })
    }

    /// The pages of memory that it is about.
    fn pages(&self) -> Option<(&'a Mapping, &Range<u64>)> {
        match self {
            Arm::Load(m, range)
            | Arm::Store(m, range, _)
            | Arm::Zap(m, range)
            | Arm::Splice(m, range)
            | Arm::Readv(m, range) => Some((m, range)),
            _ => None,
        }
    }

    /// Does it once, and stores other words in each round. The word tells what came of it.
    fn go(&mut self, round: u32) -> &'static str {
        match self {
            Arm::Load(m, range) => each(m, range, |at, _| access::load(at).map(drop)),
            Arm::Store(m, range, generation) => each(m, range, |at, page| {
                let index = (m.first_page() + page).wrapping_add(u64::from(round) << 20);
                let [head, tail] = words(*generation, index);
                access::store(at, head)?;
                access::store(at + TAIL, tail)
            }),
            Arm::Truncate(file, size) => told(file.set_len(*size).map_err(|_| Errno::last())),
            Arm::Fallocate(file, flags, range) => told(
                fallocate(
                    &*file,
                    *flags,
                    range.start as i64,
                    (range.end - range.start) as i64,
                )
                .map(drop),
            ),
            Arm::Fsync(file) => told(file.sync_all().map_err(|_| Errno::last())),
            Arm::Zap(m, range) => {
                let (at, bytes) = bytes(m, range);
                // SAFETY: within a mapping that this actor made; no Rust object lives there.
                let done =
                    unsafe { libc::madvise(at as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
                told(Errno::result(done).map(drop))
            }
            Arm::Splice(m, range) => told(splice(m, range)),
            Arm::Readv(m, range) => {
                let (base, len) = bytes(m, range);
                let mut into = vec![0; len];
                let mut local = [std::io::IoSliceMut::new(&mut into)];
                told(process_vm_readv(getpid(), &mut local, &[RemoteIoVec { base, len }]).map(drop))
            }
            Arm::Device(ask) => told(ask.go()),
        }
    }
}

fn told(done: Result<(), Errno>) -> &'static str {
    match done {
        Ok(()) => "ok",
        Err(e) => e.desc(),
    }
}

fn bytes(m: &Mapping, range: &Range<u64>) -> (usize, usize) {
    (
        (m.address + range.start * Size::PAGE) as usize,
        ((range.end - range.start) * Size::PAGE) as usize,
    )
}

fn each(
    m: &Mapping,
    range: &Range<u64>,
    one: impl Fn(u64, u64) -> Result<(), nix::sys::signal::Signal>,
) -> &'static str {
    let mut said = "ok";
    for page in range.clone() {
        if let Err(signal) = one(m.address + page * Size::PAGE, page) {
            said = signal.as_str();
        }
    }
    said
}

/// References to the pages go into a pipe, and go with it.
fn splice(m: &Mapping, range: &Range<u64>) -> Result<(), Errno> {
    let (at, length) = bytes(m, range);
    let (_read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let from = libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: length,
    };
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK.bits();
    // SAFETY: one iovec that outlives the call, over a mapping of this actor.
    Errno::result(unsafe { libc::vmsplice(write.as_raw_fd(), &raw const from, 1, flags) }).map(drop)
}

/// Runs the race, and leaves what [`Op::Race`] says.
pub(super) fn race(
    actor: &mut Actor,
    (rounds, turns): (u32, u32),
    seed: u64,
    arms: &[Op],
    context: &Context,
) -> Done {
    let names: BTreeSet<&str> = arms.iter().filter_map(Op::map).collect();
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let mapped = names
        .iter()
        .filter_map(|n| match &actor.maps.get(*n)?.backing {
            Backing::File { file, .. } => Some(file.as_str()),
            _ => None,
        });
    for file in mapped.chain(arms.iter().filter_map(Op::file)) {
        let length = files::open(file)?
            .metadata()
            .map_err(|e| io_errno("fstat", &e))?
            .len();
        sizes.insert(file.to_owned(), length);
    }
    let mut ready = Vec::new();
    for op in arms {
        ready.push(Arm::of(actor, op, context)?);
    }
    let files: Vec<&Mapping> = names
        .iter()
        .filter_map(|n| actor.maps.get(*n))
        .filter(|m| matches!(m.backing, Backing::File { .. }))
        .collect();
    let views = Views::of(&ready);
    let barrier = Barrier::new(ready.len());
    let done = AtomicU64::new(0);
    let led = AtomicU32::new(0);
    let tallies: Vec<BTreeMap<&str, u32>> = thread::scope(|scope| {
        let threads: Vec<_> = (0u64..)
            .zip(ready)
            .map(|(arm, mut part)| {
                let (barrier, done, led, views) = (&barrier, &done, &led, &views);
                scope.spawn(move || {
                    cpus::all();
                    let mut tally = BTreeMap::new();
                    for round in 0..rounds {
                        barrier.wait();
                        for _ in 0..delay(seed, round, arm) {
                            std::hint::spin_loop();
                        }
                        for turn in 1.. {
                            *tally.entry(part.go(round)).or_default() += 1;
                            done.fetch_add(1, Ordering::Relaxed);
                            if arm == 0 && turn == turns {
                                led.store(round + 1, Ordering::Release);
                            }
                            if turns == 1 || led.load(Ordering::Acquire) > round {
                                break;
                            }
                        }
                        if round % LOOK_EVERY == 0 {
                            barrier.wait();
                            views.look(arm as usize);
                            if let Arm::Device(ask) = &mut part {
                                views.differ(round, ask.look(LOOK_AT));
                            }
                            if barrier.wait().is_leader() {
                                views.compare(round);
                            }
                        }
                    }
                    tally
                })
            })
            .collect();
        free_waiters(&files, &done, || threads.iter().all(|t| t.is_finished()));
        let joined = threads.into_iter().map(|t| t.join().unwrap_or_default());
        joined.collect()
    });
    let mut text = format!("race of {rounds} rounds with seed {seed}, {turns} turns each\n");
    let differed = views.differed();
    for (op, tally) in arms.iter().zip(tallies) {
        text += &format!("{}: {tally:?}\n", op.word());
    }
    let zap = arms.iter().any(Op::is_coherent);
    leave(actor, (&names, zap), &sizes, context)?;
    let mut reply = Reply::from(StepResult::Ok {});
    if let Some((round, address, [one, other])) = differed {
        text +=
            &format!("after round {round} threads found {one:#x} and {other:#x} at {address:#x}\n");
        reply.result = StepResult::WrongData {
            offset: address,
            expected: one,
            found: other,
        };
    }
    for file in sizes.keys() {
        reply
            .facts
            .push(files::extents(file, &files::open(file)?, context)?);
    }
    reply.output = Some(ProgramOutput {
        text,
        code: 0,
        cut: false,
    });
    Ok(reply)
}

/// What the threads and the devices that they ask see of the same pages while none of them does
/// anything: all the same, or a processor or a device kept a translation that the kernel took away
/// from it.
struct Views {
    addresses: Vec<u64>,
    /// By thread: the words, none where the load raised a signal.
    seen: Vec<Mutex<Vec<Option<u64>>>>,
    /// The first round, address and words that differed.
    differed: Mutex<Option<(u32, u64, [u64; 2])>>,
}

impl Views {
    fn of(arms: &[Arm<'_>]) -> Self {
        let mut addresses = BTreeSet::new();
        for (m, range) in arms.iter().filter_map(Arm::pages) {
            let pages = range.clone().take(LOOK_AT);
            addresses.extend(pages.map(|page| m.address + page * Size::PAGE));
        }
        Views {
            addresses: addresses.into_iter().collect(),
            seen: arms.iter().map(|_| Mutex::default()).collect(),
            differed: Mutex::default(),
        }
    }

    fn look(&self, thread: usize) {
        let words = self.addresses.iter().map(|a| access::load(*a).ok());
        *lock(&self.seen[thread]) = words.collect();
    }

    /// One thread's words against every other's.
    fn compare(&self, round: u32) {
        let first = lock(&self.seen[0]);
        for other in &self.seen[1..] {
            let other = lock(other);
            let differing = (self.addresses.iter().zip(first.iter().zip(other.iter())))
                .find(|(_, (one, other))| one != other);
            if let Some((&address, (one, other))) = differing {
                let words = [one, other].map(|w| w.unwrap_or(NO_WORD));
                lock(&self.differed).get_or_insert((round, address, words));
                return;
            }
        }
    }

    /// What a device and a processor found, where it is not the same.
    fn differ(&self, round: u32, found: Option<(u64, [u64; 2])>) {
        if let Some((address, words)) = found {
            lock(&self.differed).get_or_insert((round, address, words));
        }
    }

    fn differed(&self) -> Option<(u32, u64, [u64; 2])> {
        *lock(&self.differed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From 6.15 on a truncate that waits for a pin waits for page-table entries as well, also for
/// those of another thread's fault meanwhile, which would stand for ever: its thread waits for the
/// round's end. Where no turn ends for a while, the entries are taken away. A wake-up that was
/// lost stays lost, since no entry is there then.
fn free_waiters(files: &[&Mapping], turns: &AtomicU64, ended: impl Fn() -> bool) {
    let mut last = 0;
    while !ended() {
        thread::sleep(STALLED);
        let now = turns.load(Ordering::Relaxed);
        if now == last {
            for m in files {
                Arm::Zap(m, 0..m.pages).go(0);
            }
        }
        last = now;
    }
}

/// How long one thread waits in one round: splitmix64 of all three.
fn delay(seed: u64, round: u32, arm: u64) -> u64 {
    let mut z = seed
        .wrapping_add(u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(arm.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % DELAY
}

fn leave(
    actor: &Actor,
    (names, zap): (&BTreeSet<&str>, bool),
    sizes: &BTreeMap<String, u64>,
    context: &Context,
) -> Result<(), StepResult> {
    for (file, size) in sizes {
        let file = files::open(file)?;
        for size in [0, *size] {
            file.set_len(size).map_err(|e| io_errno("ftruncate", &e))?;
        }
    }
    for name in names {
        let (m, range) = actor.range(name, Size(0), None)?;
        let said = match m.backing {
            Backing::Anon { .. } => {
                if zap {
                    Arm::Zap(m, range.clone()).go(0);
                }
                Arm::Store(m, range, context.generation).go(0)
            }
            _ => Arm::Zap(m, range).go(0),
        };
        if said != "ok" {
            return Err(failed(format!(
                "put `{name}` in order after a race: {said}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_that_differ_are_told_once() {
        let views = Views {
            addresses: vec![0x1000, 0x2000],
            seen: (0..3).map(|_| Mutex::default()).collect(),
            differed: Mutex::default(),
        };
        let see = |thread: usize, words: [Option<u64>; 2]| {
            *lock(&views.seen[thread]) = words.to_vec();
        };
        for thread in 0..3 {
            see(thread, [Some(7), None]);
        }
        views.compare(0);
        assert_eq!(views.differed(), None);
        see(2, [Some(7), Some(5)]);
        views.compare(3);
        see(1, [Some(6), None]);
        views.compare(6);
        assert_eq!(views.differed(), Some((3, 0x2000, [NO_WORD, 5])));
    }

    #[test]
    fn a_seed_gives_one_schedule_and_another_seed_another() {
        let of = |seed| -> Vec<u64> {
            (0..20)
                .flat_map(|round| [delay(seed, round, 0), delay(seed, round, 1)])
                .collect()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert!(of(1).iter().all(|d| *d < DELAY));
        assert!(of(1).windows(2).any(|w| w[0] > w[1]));
    }
}
