//! Memory of a live QEMU, read through its process.
//!
//! A clone maps its RAM privately, so the backing file doesn't show what the clone wrote; the
//! process does. Reading needs the right to trace that process (same user, and under Yama an
//! ancestor).

use super::source::{MemError, Memory, for_each_piece, join_ranges};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Remote ranges handed to one process_vm_readv call (the kernel's UIO_MAXIOV).
const MAX_IOVEC: usize = 1024;

/// A stretch of guest memory and where the process has it mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First guest physical address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// First host virtual address in the process.
    pub hva: u64,
}

/// A stretch of guest memory and the memory-backend-file behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedRange {
    /// First guest physical address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// The backend's `mem-path`.
    pub path: PathBuf,
    /// Offset of the first byte in that file.
    pub offset: u64,
}

/// A running (and paused) QEMU's guest memory.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: i32,
    segments: Vec<Segment>,
    ranges: Vec<Range<u64>>,
    /// Opened at the first process_vm_readv that the host denies.
    proc_mem: OnceLock<File>,
}

impl ProcessMemory {
    /// Guest memory mapped into process `pid` as `segments` say.
    ///
    /// # Errors
    /// If two segments overlap in guest memory, or one wraps around.
    pub fn new(pid: i32, mut segments: Vec<Segment>) -> Result<ProcessMemory, MemError> {
        let bad = |reason: String| MemError::Open {
            what: format!("the memory of process {pid}"),
            reason,
        };
        segments.sort_by_key(|s| s.gpa);
        for s in &segments {
            if s.gpa.checked_add(s.len).is_none() || s.hva.checked_add(s.len).is_none() {
                return Err(bad(format!(
                    "the segment at {:#x} wraps around; pass its real length",
                    s.gpa
                )));
            }
        }
        for pair in segments.windows(2) {
            if let [a, b] = pair
                && a.gpa + a.len > b.gpa
            {
                return Err(bad(format!(
                    "segments at {:#x} and {:#x} overlap; pass each address once",
                    a.gpa, b.gpa
                )));
            }
        }
        let ranges = join_ranges(segments.iter().map(|s| (s.gpa, s.len)));
        Ok(ProcessMemory {
            pid,
            segments,
            ranges,
            proc_mem: OnceLock::new(),
        })
    }

    /// Reads the remote ranges (address, bytes) one after another into `buf`.
    fn read_remote(&self, remote: &[(u64, usize)], buf: &mut [u8]) -> std::io::Result<()> {
        if self.proc_mem.get().is_none() {
            match self.read_vm(remote, buf) {
                Err(e) if denied(&e) => {}
                done => return done,
            }
        }
        let file = match self.proc_mem.get() {
            Some(file) => file,
            None => {
                let file = File::open(format!("/proc/{}/mem", self.pid))?;
                self.proc_mem.get_or_init(|| file)
            }
        };
        let mut rest = buf;
        for &(addr, len) in remote {
            let (part, tail) = rest.split_at_mut(len.min(rest.len()));
            file.read_exact_at(part, addr)?;
            rest = tail;
        }
        Ok(())
    }

    fn read_vm(&self, remote: &[(u64, usize)], buf: &mut [u8]) -> std::io::Result<()> {
        let mut rest = buf;
        for chunk in remote.chunks(MAX_IOVEC) {
            let total: usize = chunk.iter().map(|r| r.1).sum();
            let (mut part, tail) = rest.split_at_mut(total.min(rest.len()));
            rest = tail;
            let mut iov: Vec<RemoteIoVec> = chunk
                .iter()
                .map(|&(base, len)| RemoteIoVec {
                    base: base as usize,
                    len,
                })
                .collect();
            // A short count is legal: go on behind what came.
            while !part.is_empty() {
                let mut local = [IoSliceMut::new(part)];
                let got = process_vm_readv(Pid::from_raw(self.pid), &mut local, &iov)?;
                if got == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let mut skip = got;
                iov.retain_mut(|r| {
                    let cut = skip.min(r.len);
                    skip -= cut;
                    r.base += cut;
                    r.len -= cut;
                    r.len > 0
                });
                part = &mut part[got..];
            }
        }
        Ok(())
    }
}

fn denied(e: &std::io::Error) -> bool {
    use nix::errno::Errno;
    matches!(
        e.raw_os_error().map(Errno::from_raw),
        Some(Errno::EPERM | Errno::ENOSYS)
    )
}

impl Memory for ProcessMemory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError> {
        self.read_spans(&[(gpa, buf.len())], buf)
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn read_spans(&self, spans: &[(u64, usize)], buf: &mut [u8]) -> Result<(), MemError> {
        let mut remote = Vec::with_capacity(spans.len());
        let mut rest = &mut *buf;
        for &(gpa, len) in spans {
            let Some((part, tail)) = rest.split_at_mut_checked(len) else {
                return Err(MemError::NotThere { gpa, len });
            };
            rest = tail;
            for_each_piece(
                &self.segments,
                |s| (s.gpa, s.len),
                gpa,
                part,
                |index, offset, piece| {
                    remote.push((self.segments[index].hva + offset, piece.len()));
                    Ok(())
                },
            )?;
        }
        let (gpa, len) = (spans.first().map_or(0, |s| s.0), buf.len());
        self.read_remote(&remote, buf)
            .map_err(|source| MemError::Io { gpa, len, source })
    }
}

/// Finds where a process has its memory backends mapped, from the text of its `/proc/PID/maps`.
///
/// # Errors
/// If a part of a range isn't mapped from its file.
pub fn segments_from_maps(maps: &str, layout: &[BackedRange]) -> Result<Vec<Segment>, MemError> {
    let mapped: Vec<Mapping> = maps.lines().filter_map(parse_mapping).collect();
    let mut segments = Vec::new();
    for range in layout {
        let mut done = 0;
        while done < range.len {
            let offset = range.offset + done;
            let found = mapped
                .iter()
                .find(|m| *range.path == *m.path && (m.offset..m.offset + m.len).contains(&offset));
            let Some(m) = found else {
                return Err(MemError::Open {
                    what: range.path.display().to_string(),
                    reason: format!(
                        "offset {offset:#x} isn't mapped in the process; pass the mem-path as QEMU got it"
                    ),
                });
            };
            let into = offset - m.offset;
            let len = (m.len - into).min(range.len - done);
            segments.push(Segment {
                gpa: range.gpa + done,
                len,
                hva: m.start + into,
            });
            done += len;
        }
    }
    Ok(segments)
}

struct Mapping<'a> {
    start: u64,
    len: u64,
    offset: u64,
    path: &'a std::path::Path,
}

/// `start-end perms offset dev inode path`, the path possibly with blanks and " (deleted)".
fn parse_mapping(line: &str) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut word = || {
        let (word, tail) = rest.trim_start().split_once(' ')?;
        rest = tail;
        Some(word)
    };
    let (start, end) = word()?.split_once('-')?;
    word()?;
    let offset = u64::from_str_radix(word()?, 16).ok()?;
    word()?;
    word()?;
    let path = rest.trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let start = u64::from_str_radix(start, 16).ok()?;
    let len = u64::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    offset.checked_add(len)?;
    Some(Mapping {
        start,
        len,
        offset,
        path: std::path::Path::new(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_own_process_over_segment_borders() {
        let a: Vec<u8> = (0..8192u32).map(|i| (i % 251) as u8).collect();
        let b = vec![7u8; 4096];
        let mem = ProcessMemory::new(
            std::process::id().cast_signed(),
            vec![
                Segment {
                    gpa: 0x3000,
                    len: 4096,
                    hva: b.as_ptr() as u64,
                },
                Segment {
                    gpa: 0x1000,
                    len: 8192,
                    hva: a.as_ptr() as u64,
                },
            ],
        )
        .unwrap();
        assert_eq!(mem.ranges().len(), 1);
        assert_eq!(mem.ranges()[0], 0x1000..0x4000);
        let mut buf = [0; 32];
        mem.read(0x2ff0, &mut buf).unwrap();
        assert_eq!(buf[..16], a[8176..]);
        assert_eq!(buf[16..], b[..16]);
        let mut two = [0; 8];
        mem.read_spans(&[(0x3ffc, 4), (0x1004, 4)], &mut two)
            .unwrap();
        assert_eq!(two, [7, 7, 7, 7, 4, 5, 6, 7]);
        assert!(mem.read(0x3ff0, &mut buf).is_err());
        assert!(mem.read(0, &mut buf).is_err());
    }

    #[test]
    fn proc_mem_gives_the_same_bytes() {
        let a = [42u8; 64];
        let mem = ProcessMemory::new(
            std::process::id().cast_signed(),
            vec![Segment {
                gpa: 0,
                len: 64,
                hva: a.as_ptr() as u64,
            }],
        )
        .unwrap();
        mem.proc_mem
            .set(File::open("/proc/self/mem").unwrap())
            .unwrap();
        let mut buf = [0; 64];
        mem.read(0, &mut buf).unwrap();
        assert_eq!(buf, a);
    }

    #[test]
    fn overlapping_segments_are_refused() {
        let s = |gpa, len| Segment { gpa, len, hva: 0 };
        assert!(ProcessMemory::new(1, vec![s(0, 0x2000), s(0x1000, 0x1000)]).is_err());
        assert!(ProcessMemory::new(1, vec![s(u64::MAX, 2)]).is_err());
    }

    #[test]
    fn maps_lead_from_file_offsets_to_addresses() {
        let maps = "\
55d0c0000000-55d0c0100000 r-xp 00000000 fe:00 1234 /usr/bin/qemu-system-x86_64
7f0000000000-7f0000002000 rw-p 00000000 00:1a 99   /dev/shm/a ram (deleted)
7f0000002000-7f0000004000 rw-p 00002000 00:1a 99   /dev/shm/a ram (deleted)
7f0000010000-7f0000011000 rw-p 00000000 00:00 0
";
        let layout = |offset, len| {
            [BackedRange {
                gpa: 0x1_0000_0000,
                len,
                path: "/dev/shm/a ram".into(),
                offset,
            }]
        };
        assert_eq!(
            segments_from_maps(maps, &layout(0x1000, 0x3000)).unwrap(),
            [
                Segment {
                    gpa: 0x1_0000_0000,
                    len: 0x1000,
                    hva: 0x7f00_0000_1000
                },
                Segment {
                    gpa: 0x1_0000_1000,
                    len: 0x2000,
                    hva: 0x7f00_0000_2000
                },
            ]
        );
        assert!(segments_from_maps(maps, &layout(0x1000, 0x4000)).is_err());
    }
}
