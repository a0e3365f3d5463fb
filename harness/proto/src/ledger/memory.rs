//! What calls that change an address space do to the ledger.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Ledger, LedgerError, Slot};
use crate::{Advice, Backing, Fact, Op, PageType, Protection, Size};

impl Ledger {
    /// munmap(2) of `range` of a mapping; of the whole of it, the mapping goes.
    pub(super) fn unmapped(
        &mut self,
        actor: &str,
        map: &str,
        range: Option<Range<usize>>,
    ) -> Result<(), LedgerError> {
        match range {
            None => {
                self.maps.remove(&(actor.to_owned(), map.to_owned()));
            }
            Some(range) => self.zap(actor, map, range)?,
        }
        self.evict_unlinked();
        Ok(())
    }

    /// madvise(2) has followed the advice.
    pub(super) fn advised(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<usize>,
        advice: Advice,
    ) -> Result<(), LedgerError> {
        match advice {
            Advice::Dontneed => self.zap(actor, map, range)?,
            // madvise_free_pte_range() passes over pages on a device; those in RAM stay until
            // the kernel is short of memory.
            Advice::Free | Advice::Cold => {}
            // Of device pages; those in RAM would move.
            Advice::SoftOffline => {}
            Advice::Pageout => self.paged_out(actor, map, range)?,
            Advice::Dontfork => {
                let m = self.map_mut(actor, map)?;
                m.split(range.start);
                m.split(range.end);
                m.not_forked.push(range);
            }
            // MADV_REMOVE is fallocate(2) of a hole below the range.
            Advice::Remove => {
                let m = self.map(actor, map)?;
                let first = m.first_page();
                if let Some(file) = m.file().map(str::to_owned) {
                    let pages = first + range.start as u64..first + range.end as u64;
                    self.cut(&file, pages, false);
                }
            }
            Advice::Hwpoison => {
                let m = self.map(actor, map)?;
                let page_type = self.page_type(m);
                let pages: Vec<u64> = range.filter_map(|p| self.dax_pfn(m, p as u64)).collect();
                self.failed(&pages, page_type);
            }
            // What was faulted in, a fact tells.
            Advice::PopulateRead | Advice::PopulateWrite => {}
        }
        Ok(())
    }

    /// memory_failure() of DAX pages marks each, and takes it out of every page table. Of a folio
    /// the head is marked (mf_generic_kill_procs()).
    fn failed(&mut self, pfns: &[u64], page_type: PageType) {
        for pfn in pfns {
            self.poisoned.insert(*pfn, page_type);
        }
        self.unmap_pfns(pfns);
    }

    /// Who poisons a page is told at once (BUS_MCEERR_AR) where one of its mappings has it, and how
    /// much went with it: what one entry of the page tables maps (dev_pagemap_mapping_shift()).
    pub(super) fn judge_poison(
        &self,
        actor: &str,
        map: &str,
        offset: Size,
        fact: &Fact,
    ) -> Option<String> {
        const BUS_MCEERR_AR: i32 = 4;
        let Fact::Signalled {
            map: told_map,
            code,
            page,
            lsb,
        } = fact
        else {
            return None;
        };
        let poisoned = self.dax_pfn(self.map(actor, map).ok()?, offset.bytes() / Size::PAGE)?;
        let told = self.map(actor, told_map).ok();
        let fits = told.is_some_and(|m| {
            let shift = match m.slots.get(*page as usize) {
                Some(Slot::Pmd) => 21,
                _ => 12,
            };
            // Of a huge page, any is as good.
            let of_entry = |pfn: u64| pfn >> (shift - 12);
            *lsb == shift && self.dax_pfn(m, *page).map(of_entry) == Some(of_entry(poisoned))
        });
        (*code != BUS_MCEERR_AR || !fits).then(|| {
            format!(
                "find the page at {offset} of {map} in the signal as it must be: it tells si_code \
                 {code} (BUS_MCEERR_AR is {BUS_MCEERR_AR}), page {page} of `{told_map}`, \
                 si_addr_lsb {lsb}"
            )
        })
    }

    /// The same, or its opposite, by debugfs.
    pub(super) fn poison(
        &mut self,
        file: Option<&str>,
        namespace: Option<&str>,
        offset: Size,
        undo: bool,
    ) {
        let page = offset.bytes() / Size::PAGE;
        let found = match file {
            Some(file) => self
                .files
                .get(file)
                .and_then(|f| f.pfn(page))
                .map(|pfn| (pfn, PageType::Fsdax)),
            None => self
                .device_pfn(namespace.unwrap_or_default(), page)
                .map(|pfn| (pfn, PageType::Devdax)),
        };
        match found {
            Some((pfn, _)) if undo => {
                self.poisoned.remove(&pfn);
            }
            Some((pfn, page_type)) => self.failed(&[pfn], page_type),
            None => {}
        }
    }

    /// mprotect(2) of a range: only what splits a PMD entry changes what is mapped. An entry that
    /// lost its permission to store gets it back with the next store.
    pub(super) fn protected(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<usize>,
        access: Protection,
    ) -> Result<(), LedgerError> {
        let m = self.map_mut(actor, map)?;
        m.split(range.start);
        m.split(range.end);
        let allowed = access == Protection::ReadWrite;
        if !allowed {
            m.writable[range.clone()].fill(false);
        }
        m.allowed[range].fill(allowed);
        Ok(())
    }

    /// mremap(2) to addresses of another alignment splits PMD entries, and so zaps a file's;
    /// all else moves (move_page_tables()).
    pub(super) fn moved(&mut self, actor: &str, map: &str, align: Size) -> Result<(), LedgerError> {
        let m = self.map_mut(actor, map)?;
        if align.bytes() != Size::PMD {
            m.pmds.clear();
            for slot in &mut m.slots {
                if *slot == Slot::Pmd {
                    *slot = Slot::None;
                }
            }
        }
        Ok(())
    }

    /// What a race leaves: see [`Op::Race`].
    pub(super) fn raced(&mut self, actor: &str, arms: &[Op]) -> Result<(), LedgerError> {
        let mut files: BTreeSet<String> = arms
            .iter()
            .filter_map(Op::file)
            .map(str::to_owned)
            .collect();
        let maps: BTreeSet<&str> = arms.iter().filter_map(Op::map).collect();
        for map in maps {
            let m = self.map(actor, map)?;
            let whole = 0..m.slots.len();
            match m.file() {
                Some(file) => {
                    files.insert(file.to_owned());
                    self.zap(actor, map, whole)?;
                }
                None if m.memory().is_some() => {
                    if arms.iter().any(Op::is_coherent) {
                        self.zap(actor, map, whole.clone())?;
                    }
                    // Whatever was on the device is back.
                    self.touch_anon(&(actor.to_owned(), map.to_owned()), whole, true);
                }
                None => self.zap(actor, map, whole)?,
            }
        }
        for file in &files {
            self.cut(file, 0..u64::MAX, true);
        }
        Ok(())
    }

    /// Takes all entries of a range of a mapping; private copies and device pages are freed with
    /// the last entry.
    pub(super) fn zap(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<usize>,
    ) -> Result<(), LedgerError> {
        let m = self.map_mut(actor, map)?;
        m.split(range.start);
        m.split(range.end);
        m.pmds.retain(|start| !range.contains(start));
        m.slots[range].fill(Slot::None);
        Ok(())
    }

    /// MADV_PAGEOUT: which pages it took is the kernel's choice, and pagemap said so just now.
    fn paged_out(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<usize>,
    ) -> Result<(), LedgerError> {
        let m = self.map_mut(actor, map)?;
        for page in range {
            // An ordinary page that has no present entry any more.
            if let Slot::Anon(id) = m.slots[page]
                && m.swapped_out.contains(&(page as u64))
            {
                m.slots[page] = Slot::Swapped(id);
                m.writable[page] = false;
                let start = m.stretch(page as u64).start;
                m.pmds.remove(&start);
            }
        }
        Ok(())
    }

    /// swapoff(2) brings every page back (try_to_unuse()), read-only.
    pub(super) fn swapped_in(&mut self) {
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            if let Slot::Swapped(id) = *slot {
                *slot = Slot::Anon(id);
            }
        }
    }

    /// A device goes, or all do: its entries are taken out of all page tables.
    pub(super) fn unmap_devices(&mut self, which: Option<&str>) {
        for m in self.maps.values_mut() {
            if let Backing::Device { namespace, .. } = &m.backing
                && which.is_none_or(|w| w == namespace)
            {
                m.slots.fill(Slot::None);
            }
        }
    }

    /// A driver took its peer-to-peer memory back: p2pmem/allocate is removed, and with it the
    /// entries of who mapped it (kernfs_drain()).
    pub(super) fn unmap_p2pmem(&mut self) {
        for m in self.maps.values_mut() {
            if m.backing == (Backing::P2pmem {}) {
                m.slots.fill(Slot::None);
            }
        }
    }

    /// A device is gone, and its memory may be another's. Pins that it did not wait for hold what
    /// is no page any more.
    pub(super) fn device_gone(&mut self, device: &str) {
        self.unmap_devices(Some(device));
        let ranges = self.devices.remove(device).unwrap_or_default();
        let of_it = |pfn: &u64| ranges.iter().any(|r| r.contains(pfn));
        self.poisoned.retain(|pfn, _| !of_it(pfn));
        self.pins.retain(|_, pin| !pin.pfns.iter().any(of_it));
    }

    fn unmap_pfns(&mut self, pfns: &[u64]) {
        let keys: Vec<_> = self.maps.keys().cloned().collect();
        for key in keys {
            let Some(m) = self.maps.get(&key) else {
                continue;
            };
            let hit: Vec<usize> = (0..m.slots.len())
                .filter(|&p| {
                    self.dax_pfn(m, p as u64)
                        .is_some_and(|pfn| pfns.contains(&pfn))
                })
                .collect();
            if let Some(m) = self.maps.get_mut(&key) {
                for page in hit {
                    let stretch = m.stretch(page as u64);
                    let slots = match m.slots[page] {
                        Slot::Pmd => &mut m.slots[stretch],
                        _ => &mut m.slots[page..page + 1],
                    };
                    slots.fill(Slot::None);
                }
            }
        }
    }

    /// What fork() changes of the parent: entries of private memory lose their permission to store
    /// (copy_present_pte()), and pages for a device's exclusive access come back first
    /// (copy_nonpresent_pte()).
    fn share(&mut self, parent: &str) {
        for ((actor, _), m) in &mut self.maps {
            if actor != parent || !m.anon_vma {
                continue;
            }
            for (slot, writable) in m.slots.iter_mut().zip(&mut m.writable) {
                if let Slot::Exclusive(id) = *slot {
                    *slot = Slot::Anon(id);
                }
                if matches!(slot, Slot::Anon(_) | Slot::Private(..) | Slot::Coherent(..)) {
                    *writable = false;
                }
            }
        }
    }

    pub(super) fn fork(&mut self, parent: &str, child: &str) {
        self.share(parent);
        let copies: Vec<_> = self
            .maps
            .iter()
            .filter(|((actor, _), _)| actor == parent)
            .map(|((_, name), m)| {
                let mut m = m.clone();
                // Pages that a driver inserted, no fault could bring (VM_MIXEDMAP).
                let copied = m.anon_vma || m.backing == Backing::P2pmem {};
                let not_forked = std::mem::take(&mut m.not_forked);
                for (page, slot) in m.slots.iter_mut().enumerate() {
                    // vma_needs_copy(): a shared mapping without anon_vma is filled by
                    // faults; copy_huge_pmd() leaves a file's PMDs to faults as well.
                    let absent = not_forked.iter().any(|r| r.contains(&page));
                    if !copied || *slot == Slot::Pmd || absent {
                        *slot = Slot::None;
                    }
                }
                let slots = &m.slots;
                m.pmds.retain(|start| slots[*start] != Slot::None);
                ((child.to_owned(), name.clone()), m)
            })
            .collect();
        self.maps.extend(copies);
        for (_, of) in self
            .mirrors
            .iter_mut()
            .filter(|(_, of)| of.contains(parent))
        {
            of.insert(child.to_owned());
        }
    }
}
