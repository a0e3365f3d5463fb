//! Blocks that several files have (reflink), and the pages of which entries count as sharers.

use std::collections::BTreeSet;

use super::{DaxEntry, Ledger, PMD_PAGES, Slot};
use crate::{Extent, Size};

/// Frames of blocks that more than one page of any file has.
pub(super) struct SharedBlocks(Vec<std::ops::Range<u64>>);

impl SharedBlocks {
    pub(super) fn contains(&self, pfn: u64) -> bool {
        self.0.iter().any(|r| r.contains(&pfn))
    }
}

impl Ledger {
    /// The blocks that files share now, as their extents say.
    pub(super) fn shared_blocks(&self) -> SharedBlocks {
        let mut all: Vec<(u64, u64)> = self
            .files
            .values()
            .flat_map(|f| &f.extents)
            .map(|e| (e.pfn, e.pfn.saturating_add(e.pages)))
            .collect();
        all.sort_unstable();
        let mut out = Vec::new();
        let mut last = 0;
        for (from, to) in all {
            if from < last {
                out.push(from..to.min(last));
            }
            last = last.max(to);
        }
        SharedBlocks(out)
    }

    /// The file's blocks lie here now. A page whose block is another one than before was copied or
    /// remapped: whatever mapped the old block is gone, and so is its entry
    /// (invalidate_inode_pages2_range() in dax_iomap_iter() and dax_unshare_iter(),
    /// unmap_mapping_pages() in dax_insert_entry(), xfs_flush_unmap_range()).
    pub(super) fn blocks_are(&mut self, file: &str, extents: &[Extent]) {
        let of = self.files.entry(file.to_owned()).or_default();
        let before = std::mem::replace(&mut of.extents, extents.to_vec());
        let moved: BTreeSet<u64> = before
            .iter()
            .flat_map(|e| (e.page..e.page.saturating_add(e.pages)).zip(e.pfn..))
            .filter(|&(page, pfn)| of.pfn(page).is_some_and(|now| now != pfn))
            .map(|(page, _)| page)
            .collect();
        for &page in &moved {
            self.unmap_page(file, page);
            self.drop_entries(file, page..page + 1);
        }
        if let Some(of) = self.files.get_mut(file) {
            of.moved = moved;
        }
    }

    /// Those of the pages that a fault finds flagged IOMAP_F_SHARED, and treats as such.
    pub(super) fn shared_among(&self, file: &str, pages: &[u64], write: bool) -> BTreeSet<u64> {
        let Some(f) = self.files.get(file) else {
            return BTreeSet::new();
        };
        if !write && !self.behaviour.share_counts_loads {
            return BTreeSet::new();
        }
        let blocks = self.shared_blocks();
        let shared =
            |page: &u64| f.moved.contains(page) || f.pfn(*page).is_some_and(|p| blocks.contains(p));
        pages.iter().copied().filter(shared).collect()
    }

    /// A page of the file is taken out of all page tables, with the PMD entries that it is under.
    pub(super) fn unmap_page(&mut self, file: &str, page: u64) {
        for m in self.maps.values_mut().filter(|m| m.of_file(file)) {
            let Some(at) = page.checked_sub(m.first_page()) else {
                continue;
            };
            match m.slots.get(at as usize) {
                Some(Slot::Pmd) => {
                    let stretch = m.stretch(at);
                    m.slots[stretch].fill(Slot::None);
                }
                Some(Slot::Pte | Slot::Zero) => m.slots[at as usize] = Slot::None,
                _ => {}
            }
        }
    }

    /// Entries are gone, and with each a sharer of its pages (dax_disassociate_entry()).
    pub(super) fn disassociated(&mut self, gone: &[DaxEntry]) {
        for pfn in gone.iter().flat_map(|e| e.pfns()) {
            if let Some(count) = self.shares.get_mut(&pfn) {
                *count -= 1;
                if *count == 0 {
                    self.shares.remove(&pfn);
                }
            }
        }
    }

    /// A fault found the pages of `pages` of the file, by one PMD or by a PTE each: there is an
    /// entry for each of them from now on. `shared` are pages whose blocks other files had when
    /// the fault came; those are taken out of all page tables, and their entry is made anew
    /// (dax_insert_entry()).
    pub(super) fn faulted(&mut self, file: &str, pages: &[u64], pmd: bool, shared: &BTreeSet<u64>) {
        let order = if pmd { 9 } else { 0 };
        let starts: BTreeSet<u64> = pages
            .iter()
            .map(|page| {
                if pmd {
                    page / PMD_PAGES * PMD_PAGES
                } else {
                    *page
                }
            })
            .collect();
        for start in starts {
            let Some(f) = self.files.get(file) else {
                return;
            };
            let Some(pfn) = f.pfn(start) else { continue };
            let is_shared = shared.range(start..start + (1 << order)).next().is_some();
            if f.entry(start).is_some() {
                if !is_shared {
                    continue;
                }
                self.drop_entries(file, start..start + (1 << order));
            }
            let entry = DaxEntry { order, pfn };
            if is_shared {
                self.associated(entry);
            }
            if let Some(f) = self.files.get_mut(file) {
                f.entries.insert(start, entry);
            }
        }
    }

    /// An entry of a shared block is about to be: it counts as a sharer, from the first one or
    /// from the second one on (dax_associate_entry()).
    fn associated(&mut self, entry: DaxEntry) {
        for pfn in entry.pfns() {
            let there = self
                .files
                .values()
                .flat_map(|f| f.entries.values())
                .any(|e| e.pfns().contains(&pfn));
            match self.shares.get_mut(&pfn) {
                Some(count) => *count += 1,
                None if there => {
                    self.shares.insert(pfn, 2);
                }
                None if self.behaviour.share_counts_one => {
                    self.shares.insert(pfn, 1);
                }
                None => {}
            }
        }
    }

    /// FICLONERANGE or FIDEDUPERANGE is done: the layouts of both files were broken
    /// (xfs_ilock2_io_mmap()), and what the target had there is gone (xfs_flush_unmap_range()).
    pub(super) fn cloned(&mut self, file: &str, to: &str, to_offset: Size, length: Option<Size>) {
        self.layouts_broken([file, to]);
        let from = to_offset.bytes() / Size::PAGE;
        let end = match length {
            Some(length) => from.saturating_add(length.pages()),
            None => u64::MAX,
        };
        self.cut(to, from..end, false);
    }

    /// The same waits for a pin. Layouts are broken in the order of inode numbers, and the first
    /// one waits: the one with a pinned page is unmapped, and the other one was not reached.
    pub(super) fn clone_waits(&mut self, files: [&str; 2]) {
        let pinned: BTreeSet<u64> = self.pins.values().flat_map(|p| &p.pfns).copied().collect();
        for name in files {
            let has = self.files.get(name).is_some_and(|f| {
                let mut pfns = f
                    .extents
                    .iter()
                    .flat_map(|e| e.pfn..e.pfn.saturating_add(e.pages));
                pfns.any(|pfn| pinned.contains(&pfn))
            });
            if has {
                self.unmap_file(name, 0..0);
            }
        }
    }
}
