//! What changes of a file do to the ledger.

use super::{Ledger, Slot};
use crate::{Backing, Extent, Fact, FallocateMode, Size};

impl Ledger {
    /// fallocate(2) is done.
    pub(super) fn fallocated(&mut self, file: &str, mode: FallocateMode, offset: Size, end: u64) {
        let from = offset.pages();
        match mode {
            // truncate_pagecache_range() leaves private copies alone, and pages that the range
            // covers in part; xfs_flush_unmap_range() rounds it outwards first.
            FallocateMode::PunchHole | FallocateMode::ZeroRange => {
                let pages = match self.is_on_xfs(file) {
                    true => offset.bytes() / Size::PAGE..end.div_ceil(Size::PAGE),
                    false => from..end / Size::PAGE,
                };
                self.cut(file, pages, false);
            }
            // All that lies behind moves, and is flushed out of the page cache first
            // (ext4_collapse_range()); xfs_prepare_shift() begins one block earlier.
            FallocateMode::CollapseRange | FallocateMode::InsertRange => {
                let before = u64::from(self.is_on_xfs(file));
                self.cut(file, from.saturating_sub(before)..u64::MAX, false);
            }
            // xfs_file_fallocate() breaks the layout; the blocks that are copied have moved.
            FallocateMode::UnshareRange => self.layouts_broken([file]),
        }
    }

    /// The name is gone; the file goes with its last mapping.
    pub(super) fn unlinked(&mut self, file: &str) {
        let Some(mut f) = self.files.remove(file) else {
            return;
        };
        self.unlinks += 1;
        let name = format!("{file} (unlinked {})", self.unlinks);
        self.rename_behind(file, &name);
        f.unlinked = true;
        self.files.insert(name, f);
        self.evict_unlinked();
    }

    /// A file has another name, whose file is unlinked.
    pub(super) fn renamed(&mut self, file: &str, to: &str) {
        if file == to {
            return;
        }
        self.unlinked(to);
        if let Some(f) = self.files.remove(file) {
            self.rename_behind(file, to);
            self.files.insert(to.to_owned(), f);
        }
    }

    fn rename_behind(&mut self, file: &str, name: &str) {
        for map in self.maps.values_mut() {
            if let Backing::File { file: of, .. } = &mut map.backing
                && of == file
            {
                name.clone_into(of);
            }
        }
        for of in self.pins.values_mut().filter_map(|p| p.file.as_mut()) {
            if of == file {
                name.clone_into(of);
            }
        }
    }

    /// write(2) to pages of a file, before `facts` tell where its blocks are now: new blocks take
    /// the place of zero pages, which are taken out of all page tables (dax_iomap_rw() invalidates
    /// what a new extent covers).
    pub(super) fn written(&mut self, file: &str, pages: std::ops::Range<u64>, facts: &[Fact]) {
        let Some(f) = self.files.get(file) else {
            return;
        };
        let has_block = |page: u64| {
            facts.iter().any(|fact| match fact {
                Fact::Extents { extents, .. } => Extent::pfn_in(extents, page).is_some(),
                _ => false,
            })
        };
        let fresh: Vec<u64> = pages
            .filter(|&p| f.pfn(p).is_none() && has_block(p))
            .collect();
        for page in fresh {
            let Some(range) = self.files.get_mut(file).and_then(|f| f.drop_zero(page)) else {
                continue;
            };
            self.unmap_zeros(file, &range);
        }
    }

    /// Truncation or a punched hole: pages `range` of the file go, and `copies` says
    /// whether private copies of them go too; ext4 and xfs break the layout of the
    /// whole file first.
    pub(super) fn cut(&mut self, file: &str, range: std::ops::Range<u64>, copies: bool) {
        self.unmap_file(file, if copies { range.clone() } else { 0..0 });
        self.drop_entries(file, range);
        self.layouts_broken([file]);
    }

    /// The layouts of whole files were broken: nobody maps a page of them, and where breaking a
    /// layout says so, no entry is left.
    pub(super) fn layouts_broken<const N: usize>(&mut self, files: [&str; N]) {
        for file in files {
            self.unmap_file(file, 0..0);
            if self.behaviour.layout_break_drops_entries {
                self.drop_entries(file, 0..u64::MAX);
            }
        }
    }

    /// Takes entries that reach into these pages of the file.
    pub(super) fn drop_entries(&mut self, file: &str, pages: std::ops::Range<u64>) {
        if let Some(f) = self.files.get_mut(file) {
            let gone = f.drop_entries(pages.start, pages.end);
            self.disassociated(&gone);
        }
    }

    /// Takes every DAX entry of the file out of all page tables; private copies
    /// only within `copies` (pages of the file).
    pub(super) fn unmap_file(&mut self, file: &str, copies: std::ops::Range<u64>) {
        for m in self.maps.values_mut().filter(|m| m.of_file(file)) {
            let first = m.first_page();
            for (i, slot) in m.slots.iter_mut().enumerate() {
                if !matches!(slot, Slot::Anon(_)) || copies.contains(&(first + i as u64)) {
                    *slot = Slot::None;
                }
            }
        }
    }

    /// Takes the zero pages of a hole's entry out of all page tables.
    pub(super) fn unmap_zeros(&mut self, file: &str, pages: &std::ops::Range<u64>) {
        for m in self.maps.values_mut().filter(|m| m.of_file(file)) {
            let first = m.first_page();
            for (i, slot) in m.slots.iter_mut().enumerate() {
                if *slot == Slot::Zero && pages.contains(&(first + i as u64)) {
                    *slot = Slot::None;
                }
            }
        }
    }
}
