//! Swap on a RAM disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use proto::Size;

use super::provision::{Done, ok};
use crate::wire::{errno, io_errno};

const DEVICE: &str = "/dev/ram0";
const PATH: &std::ffi::CStr = c"/dev/ram0";

/// Writes the header that mkswap would write (union swap_header of linux/swap.h), and turns the
/// device on.
pub(super) fn on() -> Done {
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|e| io_errno(&format!("open {DEVICE}"), &e))?;
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
    drop(disk);
    // SAFETY: the path is a C string that outlives the call.
    Errno::result(unsafe { libc::swapon(PATH.as_ptr(), 0) }).map_err(|e| errno("swapon", e))?;
    ok()
}

/// Turns it off: every page comes back.
pub(super) fn off() -> Done {
    // SAFETY: the path is a C string that outlives the call.
    Errno::result(unsafe { libc::swapoff(PATH.as_ptr()) }).map_err(|e| errno("swapoff", e))?;
    ok()
}
