//! What a file holds, by several routes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use nix::errno::Errno;
use proto::{Extent, ReadBy, Size, StepResult};

use super::files;
use crate::wire::{Context, ExpectedRun, Reply, TAIL, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// One page, aligned as O_DIRECT wants it.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Reads each 4K page of a range; what it must hold, PID 1 says.
pub(super) fn read(name: &str, offset: Size, length: Size, by: ReadBy, context: &Context) -> Done {
    let first = offset.bytes() / Size::PAGE;
    let pages = first..first + length.pages();
    match by {
        ReadBy::Pread => {
            let file = files::open(name)?;
            let done = check(pages, context, |at, bytes| or_zeros(&file, bytes, at))?;
            ends(&file)?;
            Ok(done)
        }
        ReadBy::Sendfile => {
            let copy = sent(&files::open(name)?, first * Size::PAGE, length)?;
            check(pages, context, |at, bytes| {
                or_zeros(&copy, bytes, at - first * Size::PAGE)
            })
        }
        ReadBy::Device => {
            let of = context.namespace("fsdax", files::split(name).0)?;
            let device = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECT)
                .open(format!("/dev/{}", of.dev))
                .map_err(|e| io_errno("open", &e))?;
            let mut page_bytes = Box::new(Page([0; 4096]));
            check(pages, context, |from, bytes| {
                let Some(pfn) = Extent::pfn_in(&context.blocks, from / Size::PAGE) else {
                    bytes.fill(0);
                    return Ok(());
                };
                let at = (pfn * Size::PAGE)
                    .checked_sub(of.resource)
                    .ok_or_else(|| failed("read a block: it lies before its device"))?;
                device
                    .read_exact_at(&mut page_bytes.0, at)
                    .map_err(|e| io_errno("pread of the device", &e))?;
                let within = (from % Size::PAGE) as usize;
                bytes.copy_from_slice(&page_bytes.0[within..within + bytes.len()]);
                Ok(())
            })
        }
    }
}

/// A read that crosses a file's end stops there, and one behind it gives nothing.
fn ends(file: &File) -> Result<(), StepResult> {
    let size = file.metadata().map_err(|e| io_errno("fstat", &e))?.len();
    for (at, wanted) in [(size.saturating_sub(4), size.min(4)), (size, 0)] {
        let given = file
            .read_at(&mut [0; 8], at)
            .map_err(|e| io_errno("pread", &e))?;
        if given as u64 != wanted {
            return Err(failed(format!(
                "read 8 bytes at {at} of a file of {size}: {given} came"
            )));
        }
    }
    Ok(())
}

/// pread(2); zeros behind the end of a file that ends within a page.
fn or_zeros(file: &File, bytes: &mut [u8], at: u64) -> Result<(), StepResult> {
    match file.read_exact_at(bytes, at) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !at.is_multiple_of(Size::PAGE) => {
            bytes.fill(0);
            Ok(())
        }
        done => done.map_err(|e| io_errno("pread", &e)),
    }
}

/// copy_file_range(2) of the start of a file to a new one.
pub(super) fn copy(name: &str, to: &str, length: Size, context: &Context) -> Done {
    let from = files::open(name)?;
    let target = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(files::path(to)?)
        .map_err(|e| io_errno("open", &e))?;
    let mut at = 0i64;
    let mut left = length.bytes() as usize;
    while left > 0 {
        // SAFETY: `at` outlives the call.
        let n = Errno::result(unsafe {
            libc::copy_file_range(
                from.as_raw_fd(),
                &raw mut at,
                target.as_raw_fd(),
                std::ptr::null_mut(),
                left,
                0,
            )
        })
        .map_err(|e| errno("copy_file_range", e))? as usize;
        if n == 0 {
            return Err(failed(format!("copy a file: {left} bytes did not come")));
        }
        left -= n.min(left);
    }
    target.sync_all().map_err(|e| io_errno("fsync", &e))?;
    files::told(to, &target, context)
}

/// A part of a file, sent to memory.
fn sent(from: &File, offset: u64, length: Size) -> Result<File, StepResult> {
    // SAFETY: a name that outlives the call.
    let fd = Errno::result(unsafe { libc::memfd_create(c"sent".as_ptr(), libc::MFD_CLOEXEC) })
        .map_err(|e| errno("memfd_create", e))?;
    // SAFETY: a new descriptor that nobody else owns.
    let to = unsafe { File::from_raw_fd(fd) };
    let mut at = offset as i64;
    let mut left = length.bytes() as usize;
    while left > 0 {
        // SAFETY: `at` outlives the call.
        let n = Errno::result(unsafe {
            libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &raw mut at, left)
        })
        .map_err(|e| errno("sendfile", e))? as usize;
        if n == 0 {
            return Err(io_errno("sendfile", &io::ErrorKind::UnexpectedEof.into()));
        }
        left -= n.min(left);
    }
    Ok(to)
}

fn check(
    pages: std::ops::Range<u64>,
    context: &Context,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), StepResult>,
) -> Done {
    for page in pages {
        let mut found = [0; 2];
        for (at, word) in [0, TAIL].into_iter().zip(&mut found) {
            let mut bytes = [0; 8];
            read(page * Size::PAGE + at, &mut bytes)?;
            *word = u64::from_ne_bytes(bytes);
        }
        if let Some(wrong) = ExpectedRun::wrong(&context.expected, page, found) {
            return Err(wrong);
        }
    }
    Ok(StepResult::Ok {}.into())
}
