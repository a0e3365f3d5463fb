//! Files that share blocks: reflink and dedupe.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use proto::{Op, Size, StepResult};

use super::files;
use crate::wire::{Context, Reply, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// `_IOW(0x94, 13, struct file_clone_range)`, include/uapi/linux/fs.h.
const FICLONERANGE: libc::c_ulong = 0x4020_940d;
/// `_IOWR(0x94, 54, struct file_dedupe_range)`.
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
/// The contents are not the same.
const FILE_DEDUPE_RANGE_DIFFERS: i32 = 1;

/// struct file_clone_range.
#[repr(C)]
struct CloneRange {
    fd: i64,
    offset: u64,
    length: u64,
    to_offset: u64,
}

/// struct file_dedupe_range with one struct file_dedupe_range_info.
#[repr(C)]
struct DedupeRange {
    offset: u64,
    length: u64,
    count: u16,
    reserved: [u16; 3],
    to_fd: i64,
    to_offset: u64,
    deduped: u64,
    status: i32,
    reserved2: u32,
}

/// Makes a range of one file's blocks another one's too.
pub(super) fn share(op: &Op, context: &Context) -> Done {
    let (from, to, target) = match op {
        Op::Clone {
            file,
            to,
            offset,
            length,
            to_offset,
        } => {
            let from = files::open(file)?;
            let target = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(files::path(to)?)
                .map_err(|e| io_errno("open", &e))?;
            clone(&from, &target, *offset, *length, *to_offset)?;
            ((file, from), to, target)
        }
        Op::Dedupe {
            file,
            to,
            offset,
            length,
            to_offset,
        } => {
            let from = files::open(file)?;
            let target = files::open(to)?;
            dedupe(&from, &target, *offset, *length, *to_offset)?;
            ((file, from), to, target)
        }
        op => return Err(failed(format!("share blocks: `{}` does not", op.word()))),
    };
    let mut reply = Reply::from(StepResult::Ok {});
    reply.facts.push(files::extents(from.0, &from.1, context)?);
    reply.facts.push(files::extents(to, &target, context)?);
    Ok(reply)
}

fn clone(
    from: &File,
    to: &File,
    offset: Size,
    length: Option<Size>,
    to_offset: Size,
) -> Result<(), StepResult> {
    let range = CloneRange {
        fd: from.as_raw_fd().into(),
        offset: offset.bytes(),
        // 0: to the end.
        length: length.map_or(0, Size::bytes),
        to_offset: to_offset.bytes(),
    };
    // SAFETY: struct file_clone_range, which outlives the call.
    Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE, &raw const range) })
        .map(drop)
        .map_err(|e| errno("ioctl FICLONERANGE", e))
}

fn dedupe(
    from: &File,
    to: &File,
    offset: Size,
    length: Size,
    to_offset: Size,
) -> Result<(), StepResult> {
    let mut range = DedupeRange {
        offset: offset.bytes(),
        length: length.bytes(),
        count: 1,
        reserved: [0; 3],
        to_fd: to.as_raw_fd().into(),
        to_offset: to_offset.bytes(),
        deduped: 0,
        status: 0,
        reserved2: 0,
    };
    // SAFETY: struct file_dedupe_range with the one info that it announces.
    Errno::result(unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE, &raw mut range) })
        .map_err(|e| errno("ioctl FIDEDUPERANGE", e))?;
    match range.status {
        0 if range.deduped == length.bytes() => Ok(()),
        0 => Err(failed(format!(
            "dedupe {} bytes: {} were",
            length.bytes(),
            range.deduped
        ))),
        FILE_DEDUPE_RANGE_DIFFERS => Err(errno("ioctl FIDEDUPERANGE", Errno::EBADE)),
        error => Err(errno("ioctl FIDEDUPERANGE", Errno::from_raw(-error))),
    }
}
