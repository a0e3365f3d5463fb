//! Write protection by userfaultfd(2): struct and request layouts of linux/userfaultfd.h.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use proto::{Size, StepResult};

use super::serve::Actor;
use crate::wire::{Reply, errno};

const API: u64 = 0xaa;
const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
/// A fault that would wait for somebody raises SIGBUS.
const FEATURE_SIGBUS: u64 = 1 << 7;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

/// struct uffdio_api.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// struct uffdio_register.
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// struct uffdio_writeprotect.
#[repr(C)]
struct WriteProtect {
    start: u64,
    len: u64,
    mode: u64,
}

nix::ioctl_readwrite!(uffdio_api, 0xaa, 0x3f, Api);
nix::ioctl_readwrite!(uffdio_register, 0xaa, 0x00, Register);
nix::ioctl_readwrite!(uffdio_writeprotect, 0xaa, 0x06, WriteProtect);

/// Protects a range of a mapping from stores, or takes that back. The range is registered for it
/// first.
pub(super) fn write_protect(
    actor: &mut Actor,
    map: &str,
    (offset, length): (Size, Option<Size>),
    undo: bool,
) -> Result<Reply, StepResult> {
    let span = actor.span(map, offset, length)?;
    let (start, len) = (span.at as u64, span.bytes as u64);
    let fd = match &actor.uffd {
        Some(fd) => fd.as_raw_fd(),
        None => actor.uffd.insert(open()?).as_raw_fd(),
    };
    if !undo {
        let mut register = Register {
            start,
            len,
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the struct has the layout that the request says, and outlives the call.
        unsafe { uffdio_register(fd, &raw mut register) }
            .map_err(|e| errno("UFFDIO_REGISTER", e))?;
    }
    let mut protect = WriteProtect {
        start,
        len,
        mode: if undo { 0 } else { WRITEPROTECT_MODE_WP },
    };
    // SAFETY: as above; it changes page tables of a mapping that this actor made.
    unsafe { uffdio_writeprotect(fd, &raw mut protect) }
        .map_err(|e| errno("UFFDIO_WRITEPROTECT", e))?;
    Ok(StepResult::Ok {}.into())
}

fn open() -> Result<OwnedFd, StepResult> {
    // SAFETY: takes flags only; gives a descriptor that is nobody else's.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let fd = Errno::result(fd).map_err(|e| errno("userfaultfd", e))?;
    // SAFETY: the call above made it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = Api {
        api: API,
        features: FEATURE_PAGEFAULT_FLAG_WP | FEATURE_SIGBUS,
        ioctls: 0,
    };
    // SAFETY: the struct has the layout that the request says, and outlives the call.
    unsafe { uffdio_api(fd.as_raw_fd(), &raw mut api) }.map_err(|e| errno("UFFDIO_API", e))?;
    Ok(fd)
}
