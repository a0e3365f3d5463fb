//! Device-private memory by way of the kernel's test_hmm driver.

use std::fs::{self, File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use proto::{Size, StepResult};

use super::serve::Actor;
use crate::wire::{Reply, errno, failed, io_errno};

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

/// `_IOWR('H', 0x02, struct hmm_dmirror_cmd)`: HMM_DMIRROR_MIGRATE on 5.10,
/// HMM_DMIRROR_MIGRATE_TO_DEV later. It is the one command that we need, and
/// kept its number when those after it were renumbered.
const MIGRATE_TO_DEV: libc::c_ulong =
    3 << 30 | (size_of::<Command>() as libc::c_ulong) << 16 | (b'H' as libc::c_ulong) << 8 | 2;

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

/// Migrates a range to the device; every page must get there.
pub(super) fn migrate(actor: &mut Actor, map: &str, offset: Size, length: Option<Size>) -> Done {
    let (m, range) = actor.range(map, offset, length)?;
    let mirror = actor
        .hmm
        .as_ref()
        .filter(|m| !m.inherited)
        .ok_or_else(|| failed("migrate: do hmm-open in this actor first; a mirror of the parent migrates the parent's memory"))?;
    let pages = range.end - range.start;
    // The driver reads the range back through the device, into a buffer of ours.
    let length = NonZeroUsize::new((pages * Size::PAGE) as usize)
        .ok_or_else(|| failed("migrate nothing: give a length"))?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let buffer = unsafe {
        mmap_anonymous(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        )
    }
    .map_err(|e| errno("mmap", e))?;
    let mut command = Command {
        addr: m.address + range.start * Size::PAGE,
        ptr: buffer.as_ptr() as u64,
        npages: pages,
        ..Command::default()
    };
    // SAFETY: a command that outlives the call and names a buffer of npages pages.
    let done = Errno::result(unsafe {
        libc::ioctl(mirror.file.as_raw_fd(), MIGRATE_TO_DEV, &raw mut command)
    });
    // SAFETY: the buffer made above, used by nobody now.
    let _ = unsafe { munmap(buffer, length.get()) };
    done.map_err(|e| errno("ioctl HMM_DMIRROR_MIGRATE", e))?;
    if command.cpages != pages {
        return Err(failed(format!(
            "migrate {pages} pages: only {} are on the device",
            command.cpages
        )));
    }
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
