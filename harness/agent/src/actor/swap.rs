//! Swap on a RAM disk, or on a loop device over it: a page that is read from a disk that answers at
//! once, as the RAM disk does, goes past the swap cache (BLK_FEAT_SYNCHRONOUS).

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use proto::{Size, StepResult};

use super::provision::{Done, ok};
use crate::wire::{errno, io_errno};

const DEVICE: &str = "/dev/ram0";
const LOOP: &str = "/dev/loop0";
const PATHS: [&std::ffi::CStr; 2] = [c"/dev/ram0", c"/dev/loop0"];
/// include/uapi/linux/loop.h
const LOOP_SET_FD: libc::Ioctl = 0x4c00;
const LOOP_CLR_FD: libc::Ioctl = 0x4c01;

/// Writes the header that mkswap would write (union swap_header of linux/swap.h), and turns the
/// device on.
pub(super) fn on(cached: bool) -> Done {
    let disk = open(DEVICE)?;
    let sectors = std::fs::read_to_string("/sys/block/ram0/size")
        .map_err(|e| io_errno("read the size of ram0", &e))?;
    let pages = sectors.trim().parse::<u64>().unwrap_or(0) * 512 / Size::PAGE;
    let mut header = [0; Size::PAGE as usize];
    header[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    let last = u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX);
    header[1028..1032].copy_from_slice(&last.to_le_bytes());
    header[Size::PAGE as usize - 10..].copy_from_slice(b"SWAPSPACE2");
    disk.write_all_at(&header, 0)
        .and_then(|()| disk.sync_all())
        .map_err(|e| io_errno(&format!("write {DEVICE}"), &e))?;
    if cached {
        loop_ioctl(&open(LOOP)?, LOOP_SET_FD, disk.as_raw_fd())?;
    }
    drop(disk);
    let path = PATHS[usize::from(cached)];
    // SAFETY: the path is a C string that outlives the call.
    Errno::result(unsafe { libc::swapon(path.as_ptr(), 0) }).map_err(|e| errno("swapon", e))?;
    ok()
}

/// Turns it off: every page comes back.
pub(super) fn off() -> Done {
    let cached = std::fs::read_to_string("/proc/swaps").is_ok_and(|s| s.contains(LOOP));
    let path = PATHS[usize::from(cached)];
    // SAFETY: the path is a C string that outlives the call.
    Errno::result(unsafe { libc::swapoff(path.as_ptr()) }).map_err(|e| errno("swapoff", e))?;
    if cached {
        loop_ioctl(&open(LOOP)?, LOOP_CLR_FD, 0)?;
    }
    ok()
}

fn open(path: &str) -> Result<File, StepResult> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|e| io_errno(&format!("open {path}"), &e))
}

fn loop_ioctl(device: &File, number: libc::Ioctl, argument: libc::c_int) -> Result<(), StepResult> {
    // SAFETY: these calls take a number.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), number, argument) })
        .map(drop)
        .map_err(|e| errno(&format!("ioctl {number:#x} of {LOOP}"), e))
}
