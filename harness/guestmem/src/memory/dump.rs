//! Memory of a dump that QEMU's dump-guest-memory wrote (ELF, paging=false).

use super::source::{MemError, Memory, for_each_piece, join_ranges};
use object::read::elf::ProgramHeader as _;
use object::{Endianness, ReadCache, elf};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A dump file; read on demand, so opening it is cheap whatever its size.
#[derive(Debug)]
pub struct DumpMemory {
    files: Vec<File>,
    parts: Vec<Part>,
    ranges: Vec<Range<u64>>,
}

#[derive(Debug)]
struct Part {
    gpa: u64,
    len: u64,
    file: usize,
    offset: u64,
}

impl DumpMemory {
    /// Opens an ELF dump: each PT_LOAD is guest memory at its physical address.
    ///
    /// # Errors
    /// If the file can't be opened, isn't a 64-bit ELF file, or its segments overlap (as they may
    /// in a dump written with paging=true).
    pub fn open(path: &Path) -> Result<DumpMemory, MemError> {
        let bad = |reason: String| MemError::Open {
            what: path.display().to_string(),
            reason,
        };
        let file = File::open(path).map_err(|e| bad(e.to_string()))?;
        let size = file.metadata().map_err(|e| bad(e.to_string()))?.len();
        let headers = load_segments(&file).map_err(|e| {
            bad(format!(
                "{e}; write it with dump-guest-memory, paging=false, in ELF format"
            ))
        })?;
        let mut parts = Vec::new();
        for (gpa, len, offset) in headers {
            // What a truncated file lacks is not memory.
            let len = len.min(size.saturating_sub(offset));
            if len > 0 && gpa.checked_add(len).is_some() {
                parts.push(Part {
                    gpa,
                    len,
                    file: 0,
                    offset,
                });
            }
        }
        DumpMemory::with_parts(vec![file], parts)
            .map_err(|()| bad("its segments overlap; write it with paging=false".to_owned()))
    }

    /// The same dump with the file `path` as guest memory from `gpa` on, for memory that the dump
    /// leaves out.
    ///
    /// # Errors
    /// If the file can't be opened, or the dump already holds some of that range.
    pub fn with_file(mut self, gpa: u64, path: &Path) -> Result<DumpMemory, MemError> {
        let bad = |reason: String| MemError::Open {
            what: path.display().to_string(),
            reason,
        };
        let file = File::open(path).map_err(|e| bad(e.to_string()))?;
        let len = file.metadata().map_err(|e| bad(e.to_string()))?.len();
        gpa.checked_add(len)
            .ok_or_else(|| bad("it reaches beyond the address space".to_owned()))?;
        self.parts.push(Part {
            gpa,
            len,
            file: self.files.len(),
            offset: 0,
        });
        self.files.push(file);
        DumpMemory::with_parts(self.files, self.parts)
            .map_err(|()| bad("the dump already holds a part of its range".to_owned()))
    }

    fn with_parts(files: Vec<File>, mut parts: Vec<Part>) -> Result<DumpMemory, ()> {
        parts.sort_by_key(|p| p.gpa);
        let overlap = |pair: &[Part]| matches!(pair, [a, b] if a.gpa + a.len > b.gpa);
        if parts.windows(2).any(overlap) {
            return Err(());
        }
        let ranges = join_ranges(parts.iter().map(|p| (p.gpa, p.len)));
        Ok(DumpMemory {
            files,
            parts,
            ranges,
        })
    }
}

/// (physical address, bytes, file offset) of each PT_LOAD.
fn load_segments(file: &File) -> object::read::Result<Vec<(u64, u64, u64)>> {
    use object::read::elf::FileHeader as _;
    let cache = ReadCache::new(file);
    let header = elf::FileHeader64::<Endianness>::parse(&cache)?;
    let endian = header.endian()?;
    let loads = header.program_headers(endian, &cache)?;
    Ok(loads
        .iter()
        .filter(|h| h.p_type(endian) == elf::PT_LOAD)
        .map(|h| (h.p_paddr(endian), h.p_filesz(endian), h.p_offset(endian)))
        .collect())
}

impl Memory for DumpMemory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError> {
        let len = buf.len();
        for_each_piece(
            &self.parts,
            |p| (p.gpa, p.len),
            gpa,
            buf,
            |index, offset, piece| {
                let part = &self.parts[index];
                self.files[part.file]
                    .read_exact_at(piece, part.offset + offset)
                    .map_err(|source| MemError::Io { gpa, len, source })
            },
        )
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal vmcore: an ELF header, one PT_NOTE, two PT_LOADs of 16 bytes each.
    fn tiny_dump() -> Vec<u8> {
        let mut f = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        f.resize(16, 0);
        f.extend(4u16.to_le_bytes());
        f.extend(62u16.to_le_bytes());
        f.extend(1u32.to_le_bytes());
        f.extend(0u64.to_le_bytes());
        f.extend(64u64.to_le_bytes());
        f.extend(0u64.to_le_bytes());
        f.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 3, 0, 0, 0] {
            f.extend(half.to_le_bytes());
        }
        for (kind, offset, paddr) in [(4u32, 0u64, 0u64), (1, 300, 0x1000), (1, 316, 0x8000)] {
            f.extend(kind.to_le_bytes());
            f.extend(0u32.to_le_bytes());
            for word in [offset, 0, paddr, 16, 16, 0] {
                f.extend(word.to_le_bytes());
            }
        }
        f.resize(300, 0);
        f.extend(0..32);
        f
    }

    #[test]
    fn loads_are_memory_and_files_can_be_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        std::fs::write(&path, tiny_dump()).unwrap();
        let mem = DumpMemory::open(&path).unwrap();
        assert_eq!(mem.ranges(), [0x1000..0x1010, 0x8000..0x8010]);
        let mut buf = [0; 4];
        mem.read(0x8004, &mut buf).unwrap();
        assert_eq!(buf, [20, 21, 22, 23]);
        assert!(mem.read(0x800e, &mut buf).is_err());

        let extra = dir.path().join("pmem");
        std::fs::write(&extra, [9; 16]).unwrap();
        let mem = mem.with_file(0x8010, &extra).unwrap();
        mem.read(0x800e, &mut buf).unwrap();
        assert_eq!(buf, [30, 31, 9, 9]);
        assert!(mem.with_file(0x1008, &extra).is_err());
    }

    #[test]
    fn a_truncated_dump_has_less_memory_and_junk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        std::fs::write(&path, &tiny_dump()[..320]).unwrap();
        let mem = DumpMemory::open(&path).unwrap();
        assert_eq!(mem.ranges(), [0x1000..0x1010, 0x8000..0x8004]);
        std::fs::write(&path, b"no dump").unwrap();
        assert!(DumpMemory::open(&path).is_err());
    }
}
