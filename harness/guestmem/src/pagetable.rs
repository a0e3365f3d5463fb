//! Walks x86_64 page tables of four or five levels, with 4K, 2M and 1G leaves.
//!
//! The number of steps of a walk is the number of levels, so no loop in hostile tables can hold
//! it. Table pages are kept for the lifetime of a [`Virt`], which is one reading of a paused guest.

use crate::memory::{MemError, Memory};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Bits 12 to 51 of an entry: where it points.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Table pages kept: 16 MiB of them, 8 GiB of memory mapped by 4K entries.
const MAX_TABLES: usize = 4096;

type Table = std::sync::Arc<[u64; 512]>;

/// How many levels the tables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// 48 bits of virtual address.
    Four,
    /// 57 bits of virtual address.
    Five,
}

/// Where a virtual address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Guest physical address.
    pub gpa: u64,
    /// Bytes from there to the end of the page (4K, 2M or 1G) that maps it.
    pub left: u64,
}

/// Why virtual memory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VirtError {
    /// The address isn't one that the processor accepts.
    #[error("translate {va:#x}: it isn't canonical; a pointer in the guest is corrupt")]
    NotCanonical {
        /// Virtual address.
        va: u64,
    },
    /// The tables don't map it.
    #[error(
        "translate {va:#x}: not mapped by the kernel's page tables; a pointer in the guest is corrupt"
    )]
    NotMapped {
        /// Virtual address.
        va: u64,
    },
    /// A table or the memory itself can't be read.
    #[error("read guest virtual address {va:#x}: {source}")]
    Memory {
        /// Virtual address.
        va: u64,
        /// What failed.
        source: MemError,
    },
}

/// The kernel's virtual memory of a paused guest.
pub struct Virt<'m> {
    mem: &'m dyn Memory,
    root: u64,
    levels: Levels,
    tables: Mutex<HashMap<u64, Table>>,
}

impl<'m> Virt<'m> {
    /// Virtual memory as the tables at guest physical address `root` map it.
    pub fn new(mem: &'m dyn Memory, root: u64, levels: Levels) -> Virt<'m> {
        Virt {
            mem,
            root: root & ADDRESS,
            levels,
            tables: Mutex::default(),
        }
    }

    /// The physical memory below.
    pub fn memory(&self) -> &'m dyn Memory {
        self.mem
    }

    fn table(&self, gpa: u64, va: u64) -> Result<Table, VirtError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(&gpa) {
            return Ok(table.clone());
        }
        let mut bytes = [0u8; PAGE as usize];
        self.mem
            .read(gpa, &mut bytes)
            .map_err(|source| VirtError::Memory { va, source })?;
        let mut entries = [0u64; 512];
        for (entry, word) in entries.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *entry = u64::from_le_bytes(*word);
        }
        let table = Table::new(entries);
        if tables.len() >= MAX_TABLES {
            tables.clear();
        }
        tables.insert(gpa, table.clone());
        Ok(table)
    }

    /// Where `va` lies in physical memory.
    ///
    /// # Errors
    /// If it isn't canonical, isn't mapped, or a table isn't in memory.
    pub fn translate(&self, va: u64) -> Result<Translation, VirtError> {
        let (top, spare) = match self.levels {
            Levels::Four => (39, 16),
            Levels::Five => (48, 7),
        };
        if (va.cast_signed() << spare >> spare).cast_unsigned() != va {
            return Err(VirtError::NotCanonical { va });
        }
        let mut table = self.root;
        let mut shift = top;
        loop {
            let index = (va >> shift & 511) as usize;
            let entry = self.table(table, va)?[index];
            if entry & PRESENT == 0 {
                return Err(VirtError::NotMapped { va });
            }
            let leaf = shift == 12 || entry & LARGE != 0 && matches!(shift, 21 | 30);
            if leaf {
                let size = 1u64 << shift;
                let inside = va & (size - 1);
                return Ok(Translation {
                    gpa: (entry & ADDRESS & !(size - 1)) + inside,
                    left: size - inside,
                });
            }
            table = entry & ADDRESS;
            shift -= 9;
        }
    }

    /// The physical spans (address, bytes) behind `len` bytes from `va` on; neighbours are joined.
    /// Stops at the first byte that isn't mapped: the spans then hold less than `len` bytes.
    pub fn spans(
        &self,
        va: u64,
        len: usize,
        spans: &mut Vec<(u64, usize)>,
    ) -> Result<(), VirtError> {
        let mut done = 0usize;
        while done < len {
            let at = va
                .checked_add(done as u64)
                .ok_or(VirtError::NotCanonical { va })?;
            let t = self.translate(at)?;
            let step = (len - done).min(usize::try_from(t.left).unwrap_or(usize::MAX));
            match spans.last_mut() {
                Some((gpa, n)) if *gpa + *n as u64 == t.gpa => *n += step,
                _ => spans.push((t.gpa, step)),
            }
            done += step;
        }
        Ok(())
    }

    /// Fills `buf` from `va` on.
    ///
    /// # Errors
    /// If any byte isn't mapped or can't be read.
    pub fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), VirtError> {
        let mut spans = Vec::new();
        self.spans(va, buf.len(), &mut spans)?;
        self.mem
            .read_spans(&spans, buf)
            .map_err(|source| VirtError::Memory { va, source })
    }

    /// Reads a little-endian word of up to eight bytes.
    ///
    /// # Errors
    /// As [`Virt::read`].
    pub fn uint(&self, va: u64, bytes: usize) -> Result<u64, VirtError> {
        let mut word = [0; 8];
        self.read(va, &mut word[..bytes.min(8)])?;
        Ok(u64::from_le_bytes(word))
    }

    /// Reads a string up to its NUL, of at most `max` bytes (cut there), looking at no byte beyond
    /// the NUL's page.
    ///
    /// # Errors
    /// As [`Virt::read`].
    pub fn string(&self, va: u64, max: usize) -> Result<String, VirtError> {
        let mut bytes = Vec::new();
        while bytes.len() < max {
            let at = va.wrapping_add(bytes.len() as u64);
            let page_left = (PAGE - at % PAGE) as usize;
            let mut piece = vec![0; page_left.min(max - bytes.len())];
            self.read(at, &mut piece)?;
            let end = piece.iter().position(|&b| b == 0);
            bytes.extend(&piece[..end.unwrap_or(piece.len())]);
            if end.is_some() {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SparseImage;
    use proptest::prelude::*;

    /// Tables at 0x1000 (root), 0x2000 … with the given (table, index, entry).
    fn tables(entries: &[(u64, u64, u64)], data: &[(u64, u8)]) -> SparseImage {
        let mut ram = vec![0u8; 0x10000];
        for &(table, index, entry) in entries {
            let at = (table + index * 8) as usize;
            ram[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        }
        let mut parts = vec![(0, ram)];
        parts.extend(data.iter().map(|&(gpa, byte)| (gpa, vec![byte; 0x3000])));
        SparseImage::new(parts).unwrap()
    }

    const VA: u64 = 0xffff_8880_0000_0000;

    #[test]
    fn four_levels_with_every_leaf_size() {
        let mem = tables(
            &[
                (0x1000, 273, 0x2003),
                (0x2000, 0, 0x3003),
                (0x2000, 1, 0x4000_0000 | 0x83),
                (0x3000, 0, 0x4003),
                (0x3000, 1, 0x60_0000 | 0x83),
                (0x4000, 5, 0x8000_0000_0002_0063),
                (0x4000, 6, 0x2_1063),
            ],
            &[(0x20000, 7)],
        );
        let v = Virt::new(&mem, 0x1000, Levels::Four);
        let at = |gpa, left| Translation { gpa, left };
        assert_eq!(v.translate(VA + 0x5010).unwrap(), at(0x20010, 0xff0));
        assert_eq!(
            v.translate(VA + 0x20_1234).unwrap(),
            at(0x60_1234, 0x1f_edcc)
        );
        assert_eq!(
            v.translate(VA + 0x4000_0001).unwrap(),
            at(0x4000_0001, 0x3fff_ffff)
        );
        assert!(matches!(
            v.translate(VA + 0x7000),
            Err(VirtError::NotMapped { .. })
        ));
        assert!(matches!(
            v.translate(0x8000_0000_0000),
            Err(VirtError::NotCanonical { .. })
        ));
        let mut spans = Vec::new();
        v.spans(VA + 0x5800, 0x1000, &mut spans).unwrap();
        assert_eq!(spans, [(0x20800, 0x1000)]);
        assert_eq!(v.uint(VA + 0x5ffe, 4).unwrap(), 0x0707_0707);
        assert!(v.uint(VA + 0x6ffe, 4).is_err());
        assert_eq!(v.string(VA + 0x6ff0, 8).unwrap(), "\u{7}".repeat(8));
    }

    #[test]
    fn five_levels_have_one_more_table() {
        let mem = tables(
            &[
                (0x1000, 0x110, 0x2003),
                (0x2000, 0, 0x3003),
                (0x3000, 0, 0x4003),
                (0x4000, 0, 0x5003),
                (0x5000, 0, 0x2_0063),
            ],
            &[(0x20000, 7)],
        );
        let v = Virt::new(&mem, 0x1000, Levels::Five);
        let va = 0xff10_0000_0000_0000;
        assert_eq!(
            v.translate(va + 8).unwrap(),
            Translation {
                gpa: 0x20008,
                left: 0xff8
            }
        );
        assert!(v.translate(0xfe10_0000_0000_0000).is_err());
        let four = Virt::new(&mem, 0x1000, Levels::Four);
        assert!(matches!(
            four.translate(va),
            Err(VirtError::NotCanonical { .. })
        ));
    }

    #[test]
    fn a_loop_in_the_tables_ends() {
        let all: Vec<_> = (0..512).map(|i| (0x1000, i, 0x1003)).collect();
        let mem = tables(&all, &[]);
        let v = Virt::new(&mem, 0x1000, Levels::Five);
        // The table is its own leaf after as many steps as there are levels.
        assert_eq!(v.translate(0x123).unwrap().gpa, 0x1123);
    }

    proptest! {
        #[test]
        fn random_tables_never_panic(
            words in proptest::collection::vec(any::<u64>(), 64),
            seeds in proptest::collection::vec((0u64..8, 0u64..512, 0u64..8), 64),
            vas in proptest::collection::vec(any::<u64>(), 8),
        ) {
            let mut entries: Vec<_> = seeds
                .iter()
                .zip(&words)
                .map(|(&(t, i, to), w)| (0x1000 + t * 0x1000, i, (w & 0xfff) | to << 12))
                .collect();
            entries.extend(vas.iter().map(|va| (0x1000, va >> 39 & 511, 0x2003)));
            let mem = tables(&entries, &[]);
            for levels in [Levels::Four, Levels::Five] {
                let v = Virt::new(&mem, 0x1000, levels);
                for &va in &vas {
                    let _ = v.translate(va);
                    let _ = v.uint(va, 8);
                    let _ = v.string(va, 5000);
                }
            }
        }
    }
}
