//! Memory sections: where a pfn's struct page is, and whether it has one.
//!
//! Mirrors struct mem_section in include/linux/mmzone.h, with SPARSEMEM_EXTREME and
//! SPARSEMEM_VMEMMAP, which x86_64 always has where it has ZONE_DEVICE.

use crate::layout::{PAGE_STRUCT, SectionLayout};
use crate::pagetable::Virt;
use crate::problems::Words;
use std::collections::BTreeMap;

/// Sections read at most: 8 TiB of memory.
const MAX_SECTIONS: usize = 1 << 16;
/// Roots looked at: 52 bits of physical addresses in sections of 128 MiB, 256 to a root.
const MAX_ROOTS: u64 = 1 << 17;
/// Flags at the low end of section_mem_map. Their number grew from 4 to 6, but the vmemmap that
/// stands above them starts at a multiple of 1 GiB.
const FLAGS: u64 = 0xfff;
const HAS_MEM_MAP: u64 = 1 << 1;
const IS_ONLINE: u64 = 1 << 2;

/// Where the roots are, and how large things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SectionTable {
    /// Virtual address of the array of roots.
    pub(crate) roots: u64,
    /// How many.
    pub(crate) root_count: u64,
    /// log2 of the pages in a section.
    pub(crate) pages_shift: u32,
}

/// One section that has struct pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Virtual address of the struct page of pfn 0, as this section encodes it.
    base: u64,
    /// Whether it is RAM in use.
    online: bool,
    /// Which of its subsections have struct pages.
    subsections: Vec<u8>,
}

/// All sections that have struct pages.
#[derive(Default)]
pub(crate) struct Sections {
    by_number: BTreeMap<u64, Section>,
    pages_shift: u32,
    subsection_shift: u32,
    /// Why they aren't all there.
    pub(crate) problems: Words,
}

impl Sections {
    /// Loads all sections.
    pub(crate) fn load(virt: &Virt, layout: &SectionLayout, table: &SectionTable) -> Sections {
        let (map_offset, map_bytes) = layout.subsections;
        let map_bytes = map_bytes.clamp(1, 64);
        let mut all = Sections {
            pages_shift: table.pages_shift,
            subsection_shift: table.pages_shift.saturating_sub((map_bytes * 8).ilog2()),
            ..Sections::default()
        };
        let count = table.root_count.min(MAX_ROOTS) as usize;
        let mut roots = vec![0; count * 8];
        if let Err(e) = virt.read(table.roots, &mut roots) {
            all.problems.push(format!("the sections' roots: {e}"));
            return all;
        }
        let size = layout.size.clamp(8, 4096);
        let per_root = (4096 / size) as u64;
        for (i, word) in roots.as_chunks::<8>().0.iter().enumerate() {
            let root = u64::from_le_bytes(*word);
            if root == 0 {
                continue;
            }
            let mut bytes = [0; 4096];
            if let Err(e) = virt.read(root, &mut bytes) {
                all.problems.push(format!("the section root {i}: {e}"));
                continue;
            }
            for (j, entry) in bytes.chunks_exact(size).enumerate() {
                let field = |at: usize| {
                    let word = entry.get(at..).and_then(|b| b.first_chunk::<8>());
                    word.map_or(0, |w| u64::from_le_bytes(*w))
                };
                let coded = field(layout.mem_map);
                if coded & HAS_MEM_MAP == 0 {
                    continue;
                }
                if all.by_number.len() >= MAX_SECTIONS {
                    all.problems
                        .push(format!("there are more than {MAX_SECTIONS} sections"));
                    return all;
                }
                let number = i as u64 * per_root + j as u64;
                let mut subsections = vec![0; map_bytes];
                let usage = field(layout.usage).wrapping_add(map_offset as u64);
                if let Err(e) = virt.read(usage, &mut subsections) {
                    all.problems
                        .push(format!("the usage of section {number}: {e}"));
                    subsections.fill(0);
                }
                all.by_number.insert(
                    number,
                    Section {
                        base: coded & !FLAGS,
                        online: coded & IS_ONLINE != 0,
                        subsections,
                    },
                );
            }
        }
        all
    }

    /// From `pfn` on: the struct page's virtual address if there is one, and for how many pages
    /// (at least 1) that holds, up to the end of the section.
    pub(crate) fn locate(&self, pfn: u64) -> (Option<u64>, u64) {
        let section_left = (1 << self.pages_shift) - (pfn & ((1 << self.pages_shift) - 1));
        let Some(section) = self.by_number.get(&(pfn >> self.pages_shift)) else {
            return (None, section_left);
        };
        let valid = |pfn: u64| section.valid(self.subsection(pfn));
        let here = valid(pfn);
        let step = 1u64 << self.subsection_shift;
        let mut pages = step - (pfn & (step - 1));
        while pages < section_left && valid(pfn + pages) == here {
            pages += step;
        }
        let va = section
            .base
            .wrapping_add(pfn.wrapping_mul(PAGE_STRUCT as u64));
        (here.then_some(va), pages.min(section_left))
    }

    fn subsection(&self, pfn: u64) -> usize {
        ((pfn & ((1 << self.pages_shift) - 1)) >> self.subsection_shift) as usize
    }

    /// First pfn and pages of every stretch that has struct pages and isn't RAM in use, by
    /// subsection.
    pub(crate) fn offline_subsections(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let step = 1u64 << self.subsection_shift;
        let offline = self.by_number.iter().filter(|(_, s)| !s.online);
        offline.flat_map(move |(number, section)| {
            let first = number << self.pages_shift;
            (0..section.subsections.len() * 8)
                .filter(|&i| section.valid(i))
                .map(move |i| (first + i as u64 * step, step))
        })
    }
}

impl Section {
    fn valid(&self, subsection: usize) -> bool {
        let byte = self.subsections.get(subsection / 8);
        byte.is_some_and(|b| b >> (subsection % 8) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pfns_are_located_by_subsection() {
        let section = |online, map: u64| Section {
            base: 0xffff_ea00_0000_0000,
            online,
            subsections: map.to_le_bytes().to_vec(),
        };
        let all = Sections {
            by_number: [(0, section(true, u64::MAX)), (2, section(false, 0b1101))].into(),
            pages_shift: 15,
            subsection_shift: 9,
            problems: Words::default(),
        };
        let va = |pfn: u64| Some(0xffff_ea00_0000_0000 + pfn * 64);
        assert_eq!(all.locate(5), (va(5), 32763));
        assert_eq!(all.locate(32768 + 1), (None, 32767));
        assert_eq!(all.locate(65536 + 10), (va(65546), 502));
        assert_eq!(all.locate(65536 + 512), (None, 512));
        assert_eq!(all.locate(65536 + 1024), (va(66560), 1024));
        assert_eq!(all.locate(65536 + 2048), (None, 30720));
        let offline: Vec<_> = all.offline_subsections().collect();
        assert_eq!(offline, [(65536, 512), (66560, 512), (67072, 512)]);
    }
}
