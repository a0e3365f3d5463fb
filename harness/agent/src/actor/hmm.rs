//! Device-private memory by way of the kernel's test_hmm driver.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use proto::{Size, StepResult};

use super::serve::Actor;
use crate::wire::{Context, ExpectedRun, Reply, errno, failed, io_errno, word};

type Done = Result<Reply, StepResult>;

/// An open device, which mirrors the address space of the process that opened it.
pub(super) struct Mirror {
    file: File,
    /// Whether it came by fork: then it mirrors the parent.
    pub(super) inherited: bool,
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

// These numbers are the same in every era; those after them were renumbered.
const READ: libc::c_ulong = command(0);
const WRITE: libc::c_ulong = command(1);
/// HMM_DMIRROR_MIGRATE on 5.10, HMM_DMIRROR_MIGRATE_TO_DEV later.
const MIGRATE_TO_DEV: libc::c_ulong = command(2);

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
    actor.hmm = Some(Mirror {
        file,
        inherited: false,
    });
    Ok(StepResult::Ok {}.into())
}

/// Kernels before 6.1 register the driver's devices, but make no nodes for them. We use the
/// first; the kernel's own tests use both.
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
    buffer: Buffer,
}

impl<'a> Ask<'a> {
    fn new(
        actor: &'a Actor,
        number: libc::c_ulong,
        map: &str,
        offset: Size,
        length: Option<Size>,
    ) -> Result<Self, StepResult> {
        let (m, range) = actor.range(map, offset, length)?;
        let mirror = actor.hmm.as_ref().filter(|m| !m.inherited).ok_or_else(|| {
            failed("use the device: do hmm-open in this actor first; a mirror of the parent sees the parent's memory")
        })?;
        let pages = range.end - range.start;
        Ok(Ask {
            mirror,
            number,
            address: m.address + range.start * Size::PAGE,
            pages,
            buffer: Buffer(vec![0; pages as usize * WORDS]),
        })
    }

    /// To migrate a range to the device. The driver reads the range back through the device.
    pub(super) fn migrate(
        actor: &'a Actor,
        map: &str,
        offset: Size,
        length: Option<Size>,
    ) -> Result<Self, StepResult> {
        Self::new(actor, MIGRATE_TO_DEV, map, offset, length)
    }

    /// Asks; EAGAIN where not every page was done.
    pub(super) fn go(&mut self) -> Result<(), Errno> {
        let mut command = Command {
            addr: self.address,
            ptr: self.buffer.0.as_mut_ptr() as u64,
            npages: self.pages,
            ..Command::default()
        };
        let file = self.mirror.file.as_raw_fd();
        // SAFETY: a command that outlives the call and names a buffer of npages pages.
        Errno::result(unsafe { libc::ioctl(file, self.number, &raw mut command) })?;
        if command.cpages != command.npages {
            return Err(Errno::EAGAIN);
        }
        Ok(())
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
}

/// What the driver copies a range into or out of.
struct Buffer(Vec<u64>);

/// 8-byte words of a 4K page.
const WORDS: usize = Size::PAGE as usize / 8;

/// Migrates a range to the device; every page must get there.
pub(super) fn migrate(actor: &mut Actor, map: &str, offset: Size, length: Option<Size>) -> Done {
    Ask::migrate(actor, map, offset, length)?.must("HMM_DMIRROR_MIGRATE")?;
    Ok(StepResult::Ok {}.into())
}

/// The device reads a range, and must find what was last stored there.
pub(super) fn read(
    actor: &Actor,
    map: &str,
    offset: Size,
    length: Option<Size>,
    context: &Context,
) -> Done {
    let mut ask = Ask::new(actor, READ, map, offset, length)?;
    ask.must("HMM_DMIRROR_READ")?;
    let first = offset.bytes() / Size::PAGE;
    for (page, words) in (first..).zip(ask.buffer.0.chunks_exact(WORDS)) {
        let expected = ExpectedRun::word_at(&context.expected, page);
        if words[0] != expected {
            return Err(StepResult::WrongData {
                offset: page * Size::PAGE,
                expected,
                found: words[0],
            });
        }
    }
    Ok(StepResult::Ok {}.into())
}

/// The device stores a word to each page of a range.
pub(super) fn write(
    actor: &Actor,
    map: &str,
    offset: Size,
    length: Option<Size>,
    context: &Context,
) -> Done {
    let mut ask = Ask::new(actor, WRITE, map, offset, length)?;
    let first = offset.bytes() / Size::PAGE;
    for (page, words) in (first..).zip(ask.buffer.0.chunks_exact_mut(WORDS)) {
        words[0] = word(context.generation, page);
    }
    ask.must("HMM_DMIRROR_WRITE")?;
    Ok(StepResult::Ok {}.into())
}

/// Closes the device.
pub(super) fn close(actor: &mut Actor) -> Done {
    actor
        .hmm
        .take()
        .map(|_| StepResult::Ok {}.into())
        .ok_or_else(|| failed("close the test_hmm device: this actor has not opened it"))
}
