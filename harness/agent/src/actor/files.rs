//! Files of the mounted file system.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use proto::{Extent, Fact, FallocateMode, Size, StepResult};

use crate::wire::{Context, Reply, errno, failed, io_errno, mount_point, placed};

type Done = Result<Reply, StepResult>;

/// Some ticks of a kernel with HZ=100.
const TICKS: Duration = Duration::from_millis(40);

/// create and allocate, then write zeros, so that no block is left unwritten, and sync.
pub(super) fn create(name: &str, size: Size, context: &Context) -> Done {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path(name)?)
        .map_err(|e| io_errno("open", &e))?;
    if size.bytes() > 0 {
        fallocate(&file, FallocateFlags::empty(), 0, size.bytes() as i64)
            .map_err(|e| errno("fallocate", e))?;
    }
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < size.bytes() {
        let n = (size.bytes() - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..n as usize], at)
            .map_err(|e| io_errno("pwrite", &e))?;
        at += n;
    }
    file.sync_all().map_err(|e| io_errno("fsync", &e))?;
    told(name, &file, context)
}

/// truncate(2).
pub(super) fn truncate(name: &str, size: Size, context: &Context) -> Done {
    let file = open(name)?;
    file.set_len(size.bytes())
        .map_err(|e| io_errno("ftruncate", &e))?;
    told(name, &file, context)
}

/// fallocate(2) of a range.
pub(super) fn change(
    name: &str,
    mode: FallocateMode,
    (offset, length): (Size, Size),
    context: &Context,
) -> Done {
    let file = open(name)?;
    fallocate(
        &file,
        flags(mode),
        offset.bytes() as i64,
        length.bytes() as i64,
    )
    .map_err(|e| errno("fallocate", e))?;
    told(name, &file, context)
}

/// The words of fallocate(2).
pub(super) fn flags(mode: FallocateMode) -> FallocateFlags {
    match mode {
        FallocateMode::PunchHole => {
            FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE
        }
        FallocateMode::ZeroRange => FallocateFlags::FALLOC_FL_ZERO_RANGE,
        FallocateMode::CollapseRange => FallocateFlags::FALLOC_FL_COLLAPSE_RANGE,
        FallocateMode::InsertRange => FallocateFlags::FALLOC_FL_INSERT_RANGE,
        FallocateMode::UnshareRange => FallocateFlags::FALLOC_FL_UNSHARE_RANGE,
    }
}

/// rename(2).
pub(super) fn rename(name: &str, to: &str) -> Done {
    fs::rename(path(name)?, path(to)?).map_err(|e| io_errno("rename", &e))?;
    Ok(StepResult::Ok {}.into())
}

/// pwrite(2) of words to each 4K page.
pub(super) fn write(name: &str, offset: Size, length: Size, context: &Context) -> Done {
    let file = open(name)?;
    let first = offset.bytes() / Size::PAGE;
    for page in first..first + length.pages() {
        for (at, word) in placed(context.generation, page, context.stores) {
            file.write_all_at(&word.to_ne_bytes(), page * Size::PAGE + at)
                .map_err(|e| io_errno("pwrite", &e))?;
        }
    }
    told(name, &file, context)
}

/// fsync(2).
pub(super) fn fsync(name: &str) -> Done {
    open(name)?.sync_all().map_err(|e| io_errno("fsync", &e))?;
    Ok(StepResult::Ok {}.into())
}

/// unlink(2).
pub(super) fn unlink(name: &str) -> Done {
    fs::remove_file(path(name)?).map_err(|e| io_errno("unlink", &e))?;
    Ok(StepResult::Ok {}.into())
}

/// Opens a file where the file system may be read-only.
pub(super) fn open_to_read(name: &str) -> Result<File, StepResult> {
    File::open(path(name)?).map_err(|e| io_errno("open", &e))
}

/// When a file was last modified, against when it was as the actor looked last.
pub(super) fn modified(
    seen: &mut BTreeMap<String, SystemTime>,
    name: &str,
    later: Option<bool>,
) -> Done {
    let metadata = open_to_read(name)?.metadata();
    let now = metadata
        .and_then(|m| m.modified())
        .map_err(|e| io_errno("fstat", &e))?;
    let before = seen.insert(name.to_owned(), now);
    // What is modified from here on is later, also by the clock of ticks that file systems use.
    std::thread::sleep(TICKS);
    match (before, later) {
        (_, None) => Ok(StepResult::Ok {}.into()),
        (None, Some(_)) => Err(failed(format!(
            "compare when `{name}` was modified: the actor has not looked before"
        ))),
        (Some(before), Some(later)) if (now > before) == later && now >= before => {
            Ok(StepResult::Ok {}.into())
        }
        (Some(_), Some(later)) => Err(failed(format!(
            "the file `{name}` was {}modified since",
            if later { "not " } else { "" }
        ))),
    }
}

/// Opens a file for mapping and for changing.
pub(super) fn open(name: &str) -> Result<File, StepResult> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(name)?)
        .map_err(|e| io_errno("open", &e))
}

/// Done, with where the file's blocks are.
pub(super) fn told(name: &str, file: &File, context: &Context) -> Done {
    let mut reply = Reply::from(StepResult::Ok {});
    reply.facts.push(extents(name, file, context)?);
    Ok(reply)
}

/// `FILE` or `NAMESPACE/FILE`.
pub(super) fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((namespace, file)) => (Some(namespace), file),
        None => (None, name),
    }
}

/// Where a file lies.
pub(super) fn path(name: &str) -> Result<PathBuf, StepResult> {
    let (namespace, file) = split(name);
    if [namespace.unwrap_or("x"), file]
        .iter()
        .any(|part| part.is_empty() || part.contains('/') || part.starts_with('.'))
    {
        return Err(failed(format!(
            "name a file `{name}`: files live in the root of a file system; use FILE or \
             NAMESPACE/FILE with plain names"
        )));
    }
    Ok(PathBuf::from(mount_point(namespace)).join(file))
}

const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
const FIEMAP_EXTENT_LAST: u32 = 0x1;
/// Extents without a settled place or without data: UNKNOWN, DELALLOC,
/// NOT_ALIGNED and UNWRITTEN. A read of them faults in a zero page.
const NO_DATA: u32 = 0x2 | 0x4 | 0x100 | 0x800;
const BATCH: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [FiemapExtent; BATCH],
}

/// Where the file's blocks with data lie.
pub(super) fn extents(name: &str, file: &File, context: &Context) -> Result<Fact, StepResult> {
    let base = context.namespace("fsdax", split(name).0)?.resource;
    let mut out: Vec<Extent> = Vec::new();
    let mut start = 0;
    loop {
        let mut map = Fiemap {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped_extents: 0,
            extent_count: BATCH as u32,
            reserved: 0,
            extents: [FiemapExtent::default(); BATCH],
        };
        // SAFETY: struct fiemap with room for the extent_count extents that it announces.
        Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) })
            .map_err(|e| errno("ioctl FIEMAP", e))?;
        let found = &map.extents[..(map.mapped_extents as usize).min(BATCH)];
        for e in found.iter().filter(|e| e.flags & NO_DATA == 0) {
            let (page, pages) = (e.logical / Size::PAGE, Size(e.length).pages());
            let pfn = (base + e.physical) / Size::PAGE;
            match out.last_mut() {
                Some(l) if l.page + l.pages == page && l.pfn + l.pages == pfn => l.pages += pages,
                _ => out.push(Extent { page, pages, pfn }),
            }
        }
        match found.last() {
            Some(last) if last.flags & FIEMAP_EXTENT_LAST == 0 => {
                start = last.logical + last.length;
            }
            _ => break,
        }
    }
    Ok(Fact::Extents {
        file: name.to_owned(),
        extents: out,
    })
}
