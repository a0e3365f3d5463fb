//! Calls that ask about pages of a mapping.

use std::fs;

use nix::errno::Errno;
use proto::{AskHow, Size, StepResult};

use super::serve::Actor;
use crate::wire::{Reply, errno, failed, io_errno};

/// Asks, and looks no closer at the answer than that there is one.
pub(super) fn ask(
    actor: &Actor,
    how: AskHow,
    map: &str,
    (offset, length): (Size, Option<Size>),
) -> Result<Reply, StepResult> {
    let (m, range) = actor.range(map, offset, length)?;
    let pages: Vec<*mut libc::c_void> = range
        .map(|page| (m.address + page * Size::PAGE) as *mut libc::c_void)
        .collect();
    let first = pages
        .first()
        .copied()
        .ok_or_else(|| failed("ask about pages: the range is empty"))?;
    let (call, done) = match how {
        AskHow::MovePages => {
            let mut status = vec![0i32; pages.len()];
            // SAFETY: both lists are as long as is said and outlive the call, which moves nothing
            // without nodes.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_move_pages,
                    0,
                    pages.len(),
                    pages.as_ptr(),
                    std::ptr::null::<i32>(),
                    status.as_mut_ptr(),
                    0,
                )
            };
            ("move_pages", Errno::result(done).map(drop))
        }
        AskHow::Mempolicy => {
            const NODE_OF_ADDRESS: libc::c_ulong = 1 | 2;
            let mut node = 0i32;
            // SAFETY: the call writes one number, which outlives it; there is no mask of nodes.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_get_mempolicy,
                    &raw mut node,
                    std::ptr::null::<libc::c_ulong>(),
                    0usize,
                    first,
                    NODE_OF_ADDRESS,
                )
            };
            ("get_mempolicy", Errno::result(done).map(drop))
        }
        AskHow::Mincore => {
            let mut there = vec![0u8; pages.len()];
            let bytes = pages.len() * Size::PAGE as usize;
            // SAFETY: a byte for each page, which outlive the call.
            let done = unsafe { libc::mincore(first, bytes, there.as_mut_ptr()) };
            ("mincore", Errno::result(done).map(drop))
        }
        AskHow::Smaps => {
            for name in ["smaps", "smaps_rollup", "numa_maps"] {
                let path = format!("/proc/self/{name}");
                fs::read(&path).map_err(|e| io_errno(&path, &e))?;
            }
            ("smaps", Ok(()))
        }
    };
    // A kernel may be built without it, as 7.2 is without CONFIG_NUMA_MIGRATION.
    if done != Err(Errno::ENOSYS) {
        done.map_err(|e| errno(call, e))?;
    }
    Ok(StepResult::Ok {}.into())
}
