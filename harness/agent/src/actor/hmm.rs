//! Device-private and device-coherent memory by way of the kernel's test_hmm driver.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use proto::{Backing, DeviceRange, Fact, Size, StepResult};

use super::serve::Actor;
use super::{access, touch};
use crate::wire::{self, Context, ExpectedRun, Reply, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// An open device, which mirrors the address space of the process that opened it.
pub(super) struct Mirror {
    file: File,
    /// Whether it came by fork: then it mirrors the parent.
    pub(super) inherited: bool,
    /// Whether the driver has exclusive access, and the numbers of its commands that came with it.
    renumbered: bool,
}

/// DMIRROR_NDEVICES of kernels that make no nodes.
const NODES: u64 = 2;

/// struct hmm_dmirror_cmd of lib/test_hmm_uapi.h.
#[repr(C)]
#[derive(Default)]
struct Command {
    addr: u64,
    ptr: u64,
    npages: u64,
    cpages: u64,
    faults: u64,
}

/// `_IOWR('H', number, struct hmm_dmirror_cmd)`.
const fn command(number: u8) -> libc::c_ulong {
    3 << 30
        | (size_of::<Command>() as libc::c_ulong) << 16
        | (b'H' as libc::c_ulong) << 8
        | number as libc::c_ulong
}

// These numbers are the same in every era.
const READ: libc::c_ulong = command(0);
const WRITE: libc::c_ulong = command(1);
/// HMM_DMIRROR_MIGRATE on 5.10, HMM_DMIRROR_MIGRATE_TO_DEV later.
const MIGRATE_TO_DEV: libc::c_ulong = command(2);
/// Of a driver without exclusive access.
const OLD_SNAPSHOT: libc::c_ulong = command(3);
// Of one with it.
const MIGRATE_TO_SYS: libc::c_ulong = command(3);
const SNAPSHOT: libc::c_ulong = command(4);
const EXCLUSIVE: libc::c_ulong = command(5);
const CHECK_EXCLUSIVE: libc::c_ulong = command(6);
const READ_UNLOCKED: libc::c_ulong = command(9);

/// HMM_DMIRROR_PROT_PMD and HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL: a device's huge page.
const LARGE: u8 = 0x04 | 0x20;

/// Opens the device with this minor number.
pub(super) fn open(actor: &mut Actor, device: u8) -> Done {
    let node = format!("/dev/hmm_dmirror{device}");
    if u64::from(device) < NODES && !Path::new(&node).exists() {
        make_nodes()?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&node)
        .map_err(|e| io_errno("open", &e))?;
    // Looks into the device's page table and no further, where the driver knows it.
    let mut ask = Command {
        addr: Size::PAGE,
        npages: 1,
        ..Command::default()
    };
    let renumbered = call(&file, CHECK_EXCLUSIVE, &mut ask) != Err(Errno::EINVAL);
    let mirror = Mirror {
        file,
        inherited: false,
        renumbered,
    };
    actor.hmm.insert(device, mirror);
    Ok(StepResult::Ok {}.into())
}

fn call(file: &File, number: libc::c_ulong, command: &mut Command) -> Result<(), Errno> {
    // SAFETY: the command outlives the call; what it names is the caller's, which outlives it too.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), number, &raw mut *command) }).map(drop)
}

/// Kernels before 6.1 register the driver's devices, but make no nodes for them.
fn make_nodes() -> Result<(), StepResult> {
    let devices = fs::read_to_string("/proc/devices").map_err(|e| io_errno("open", &e))?;
    let major = devices
        .lines()
        .filter_map(|l| l.trim().split_once(' '))
        .find(|(_, name)| *name == "HMM_DMIRROR")
        .and_then(|(major, _)| major.parse().ok())
        .ok_or_else(|| failed("find the test_hmm driver: the kernel has no HMM_DMIRROR device"))?;
    let mode = Mode::from_bits_truncate(0o600);
    for minor in 0..NODES {
        let node = format!("/dev/hmm_dmirror{minor}");
        mknod(node.as_str(), SFlag::S_IFCHR, mode, makedev(major, minor))
            .map_err(|e| errno("mknod", e))?;
    }
    Ok(())
}

/// What the device is asked to do with a range of a mapping.
pub(super) struct Ask<'a> {
    mirror: &'a Mirror,
    number: libc::c_ulong,
    address: u64,
    pages: u64,
    /// First 4K page within the mapping.
    first: u64,
    buffer: Buffer,
}

impl<'a> Ask<'a> {
    fn new(actor: &'a Actor, number: libc::c_ulong, of: &DeviceRange) -> Result<Self, StepResult> {
        let (m, range) = actor.range(&of.map, of.offset, of.length)?;
        let mirror = actor.hmm.get(&of.device.unwrap_or(0)).filter(|m| !m.inherited).ok_or_else(|| {
            failed("use the device: do hmm-open in this actor first; a mirror of the parent sees the parent's memory")
        })?;
        let pages = range.end - range.start;
        Ok(Ask {
            mirror,
            number,
            address: m.address + range.start * Size::PAGE,
            pages,
            first: range.start,
            buffer: Buffer(vec![0; pages as usize * WORDS]),
        })
    }

    /// The same of a command that only a driver with exclusive access has.
    fn newer(
        actor: &'a Actor,
        number: libc::c_ulong,
        of: &DeviceRange,
    ) -> Result<Self, StepResult> {
        let ask = Self::new(actor, number, of)?;
        if !ask.mirror.renumbered {
            return Err(StepResult::Lacks {
                what: "commands for exclusive access in the test_hmm driver".into(),
            });
        }
        Ok(ask)
    }

    /// To migrate a range to the device. The driver reads the range back through the device.
    pub(super) fn migrate(actor: &'a Actor, of: &DeviceRange) -> Result<Self, StepResult> {
        Self::new(actor, MIGRATE_TO_DEV, of)
    }

    /// To give a range back.
    pub(super) fn back(actor: &'a Actor, of: &DeviceRange) -> Result<Self, StepResult> {
        Self::newer(actor, MIGRATE_TO_SYS, of)
    }

    /// To read a range.
    pub(super) fn read(actor: &'a Actor, of: &DeviceRange) -> Result<Self, StepResult> {
        Self::new(actor, READ, of)
    }

    /// The same, where the driver has that.
    pub(super) fn read_unlocked(actor: &'a Actor, of: &DeviceRange) -> Result<Self, StepResult> {
        Self::newer(actor, READ_UNLOCKED, of)
    }

    pub(super) fn snapshot(actor: &'a Actor, of: &DeviceRange) -> Result<Self, StepResult> {
        let mut ask = Self::new(actor, OLD_SNAPSHOT, of)?;
        if ask.mirror.renumbered {
            ask.number = SNAPSHOT;
        }
        Ok(ask)
    }

    /// Asks; EAGAIN where not every page was done.
    pub(super) fn go(&mut self) -> Result<(), Errno> {
        let mut command = Command {
            addr: self.address,
            ptr: self.buffer.0.as_mut_ptr() as u64,
            npages: self.pages,
            ..Command::default()
        };
        call(&self.mirror.file, self.number, &mut command)?;
        if command.cpages != command.npages && self.number != CHECK_EXCLUSIVE {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// What the device reads in the first pages of its range that a processor does not: where, and
    /// the words of the processor and of the device. Nothing of a device that is asked for other
    /// things.
    pub(super) fn look(&mut self, pages: usize) -> Option<(u64, [u64; 2])> {
        if ![READ, READ_UNLOCKED].contains(&self.number) || self.go().is_err() {
            return None;
        }
        let addresses = (self.address..).step_by(Size::PAGE as usize);
        let words = self.buffer.0.iter().step_by(WORDS);
        addresses.zip(words).take(pages).find_map(|(at, device)| {
            let processor = access::load(at).ok()?;
            (processor != *device).then_some((at, [processor, *device]))
        })
    }

    fn must(&mut self, name: &str) -> Result<(), StepResult> {
        self.go().map_err(|e| match e {
            Errno::EAGAIN => failed(format!(
                "do {name} of all {} pages: some were not",
                self.pages
            )),
            e => errno(&format!("ioctl {name}"), e),
        })
    }

    /// One byte for each page, of a snapshot.
    fn permissions(&self) -> Vec<u8> {
        let bytes = self.buffer.0.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(self.pages as usize).collect()
    }

    /// Compares what the device has read with what was last stored.
    fn check(&self, context: &Context) -> Result<(), StepResult> {
        for (page, words) in (self.first..).zip(self.buffer.0.chunks_exact(WORDS)) {
            let found = [words[0], words[WORDS - 1]];
            if let Some(wrong) = ExpectedRun::wrong(&context.expected, page, found) {
                return Err(wrong);
            }
        }
        Ok(())
    }
}

/// What the driver copies a range into or out of.
struct Buffer(Vec<u64>);

/// 8-byte words of a 4K page.
const WORDS: usize = Size::PAGE as usize / 8;
/// 4K pages under one PMD.
const PMD_PAGES: u64 = 512;

/// Migrates a range to the device, which must find there what was last stored. Where whole 2M
/// stretches took part, the answer tells which of them are one entry.
pub(super) fn migrate(actor: &Actor, of: &DeviceRange, context: &Context) -> Done {
    let mut ask = Ask::migrate(actor, of)?;
    let done = ask
        .must("HMM_DMIRROR_MIGRATE")
        .and_then(|()| ask.check(context));
    let mut reply = match done {
        Ok(()) => Reply::from(StepResult::Ok {}),
        Err(result) => Reply::from(result),
    };
    let first = ask.first.next_multiple_of(PMD_PAGES);
    if first + PMD_PAGES > ask.first + ask.pages {
        return Ok(reply);
    }
    let mut look = Ask::snapshot(actor, of)?;
    look.must("HMM_DMIRROR_SNAPSHOT")?;
    let permissions = look.permissions();
    let pages = (first..ask.first + ask.pages)
        .step_by(PMD_PAGES as usize)
        .filter(|page| {
            let at = (page - ask.first) as usize;
            permissions
                .get(at..at + PMD_PAGES as usize)
                .is_some_and(|all| all.iter().all(|p| p & LARGE == LARGE))
        })
        .collect();
    reply.facts.push(Fact::Large {
        map: of.map.to_owned(),
        pages,
    });
    Ok(reply)
}

/// The device gives a range back. EAGAIN tells that some of it was not there, or did not move.
pub(super) fn back(actor: &Actor, of: &DeviceRange) -> Done {
    let done = Ask::back(actor, of)?.go();
    done.map_err(|e| errno("ioctl HMM_DMIRROR_MIGRATE_TO_SYS", e))?;
    Ok(StepResult::Ok {}.into())
}

/// The device reads a range, and must find what was last stored there.
pub(super) fn read(
    actor: &Actor,
    ask: Result<Ask<'_>, StepResult>,
    of: &DeviceRange,
    context: &Context,
) -> Done {
    let mut ask = ask?;
    let mut reply = faulting(actor, of, false, context, || ask.must("HMM_DMIRROR_READ"))?;
    if let Err(wrong) = ask.check(context)
        && reply.result == (StepResult::Ok {})
    {
        reply.result = wrong;
    }
    Ok(reply)
}

/// The device stores a word to each page of a range.
pub(super) fn write(actor: &Actor, of: &DeviceRange, context: &Context) -> Done {
    let mut ask = Ask::new(actor, WRITE, of)?;
    let (m, range) = actor.range(&of.map, of.offset, of.length)?;
    let first = m.first_page() + range.start;
    for (page, words) in (first..).zip(ask.buffer.0.chunks_exact_mut(WORDS)) {
        [words[0], words[WORDS - 1]] = wire::words(context.generation, page);
    }
    faulting(actor, of, true, context, || ask.must("HMM_DMIRROR_WRITE"))
}

/// A call by which the device faults pages in. Of a file or device it tells what that did, as if
/// a processor had touched them.
fn faulting(
    actor: &Actor,
    of: &DeviceRange,
    write: bool,
    context: &Context,
    call: impl FnOnce() -> Result<(), StepResult>,
) -> Done {
    let (m, range) = actor.range(&of.map, of.offset, of.length)?;
    let (done, facts) = match m.backing {
        Backing::Anon { .. } => (call(), Vec::new()),
        _ => touch::during(&of.map, m, range, write, context, call)?,
    };
    let mut reply = Reply::from(done.map_or_else(|result| result, |()| StepResult::Ok {}));
    reply.facts = facts;
    Ok(reply)
}

/// The device takes a range for its exclusive access, and must find what was last stored there.
pub(super) fn exclude(actor: &Actor, of: &DeviceRange, context: &Context) -> Done {
    let mut ask = Ask::newer(actor, EXCLUSIVE, of)?;
    ask.must("HMM_DMIRROR_EXCLUSIVE")?;
    ask.check(context)?;
    Ok(StepResult::Ok {}.into())
}

/// Asks whether the device has exclusive access to a page of a range.
pub(super) fn check_exclusive(actor: &Actor, of: &DeviceRange) -> Done {
    Ask::newer(actor, CHECK_EXCLUSIVE, of)?.must("HMM_DMIRROR_CHECK_EXCLUSIVE")?;
    Ok(StepResult::Ok {}.into())
}

/// What the device may do with each page, which PID 1 judges.
pub(super) fn snapshot(actor: &Actor, of: &DeviceRange) -> Done {
    let mut ask = Ask::snapshot(actor, of)?;
    ask.must("HMM_DMIRROR_SNAPSHOT")?;
    let mut reply = Reply::from(StepResult::Ok {});
    reply.facts.push(Fact::Snapshot {
        map: of.map.to_owned(),
        page: ask.first,
        permissions: ask.permissions(),
    });
    Ok(reply)
}

/// Closes a device.
pub(super) fn close(actor: &mut Actor, device: u8) -> Done {
    actor
        .hmm
        .remove(&device)
        .map(|_| StepResult::Ok {}.into())
        .ok_or_else(|| failed("close the test_hmm device: this actor has not opened it"))
}
