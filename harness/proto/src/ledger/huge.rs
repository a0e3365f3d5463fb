//! Huge pages of anonymous memory, in RAM and as one device-private folio.
//!
//! Whether the kernel maps 2M or 4K is its choice; it is taken from the faults of a touch loop
//! and from what a device's snapshot says, and the counts follow from it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Ledger, LedgerError, Map, PMD_PAGES, Slot};
use crate::{Hold, HoldBy, Memory, PageType};

const PMD: usize = PMD_PAGES as usize;
/// log2 of [`PMD_PAGES`].
const PMD_ORDER: u8 = 9;

impl Map {
    /// Whether a PMD entry maps this page of anonymous memory.
    pub(super) fn under_pmd(&self, page: usize) -> bool {
        self.pmds.contains(&(page / PMD * PMD))
    }

    /// The 2M stretch at `start` as one run of pages: the id of the first.
    fn one_run(&self, start: usize, id: impl Fn(Slot) -> Option<u64>) -> Option<u64> {
        let slots = self.slots.get(start..start.checked_add(PMD)?)?;
        let first = id(*slots.first()?)?;
        let follows = |(slot, n): (&Slot, u64)| id(*slot) == Some(n);
        slots.iter().zip(first..).all(follows).then_some(first)
    }
}

impl Ledger {
    /// A fault of memory where huge pages are asked for: an empty stretch gets a huge page
    /// (do_huge_pmd_anonymous_page()), or only the 4K pages that were touched.
    pub(super) fn huge_fault(
        &mut self,
        key: &(String, String),
        range: &Range<usize>,
        write: bool,
        faults: u64,
        neighbours: Option<bool>,
    ) {
        let Some(m) = self.maps.get_mut(key) else {
            return;
        };
        let start = range.start / PMD * PMD;
        if m.memory() != Some(Memory::Huge) || start + PMD > m.slots.len() {
            return;
        }
        let fresh = range.len() as u64;
        let empty = m.slots[start..start + PMD].iter().all(|s| *s == Slot::None);
        if !empty || !neighbours.unwrap_or(fresh > 1 && faults < fresh) {
            return;
        }
        if !write {
            // The huge zero page.
            m.slots[start..start + PMD].fill(Slot::Zero);
            return;
        }
        for (slot, id) in m.slots[start..start + PMD]
            .iter_mut()
            .zip(self.next_id + 1..)
        {
            *slot = Slot::Anon(id);
        }
        m.writable[start..start + PMD].fill(true);
        m.pmds.insert(start);
        m.anon_vma = true;
        self.next_id += PMD_PAGES;
    }

    /// The device's snapshot after a migration: these stretches are one PMD entry each.
    pub(super) fn observed_large(
        &mut self,
        actor: &str,
        map: &str,
        pages: &[u64],
    ) -> Result<(), LedgerError> {
        let who = format!("{actor}/{map}");
        let m = self.map_mut(actor, map)?;
        m.large_seen.clear();
        for &page in pages {
            let start = usize::try_from(page).unwrap_or(usize::MAX);
            if !start.is_multiple_of(PMD) || start.saturating_add(PMD) > m.slots.len() {
                return Err(LedgerError::Range(who, page, PMD_PAGES));
            }
            m.large_seen.insert(start);
        }
        Ok(())
    }

    /// After a migration to the device: where the kernel took a huge page, or an empty stretch, as
    /// one folio, it is one; elsewhere it was split, for all who map it (split_folio()).
    pub(super) fn migrated_large(&mut self, key: &(String, String)) {
        if let Some(m) = self.maps.get_mut(key) {
            for start in std::mem::take(&mut m.large_seen) {
                let private = |slot| match slot {
                    Slot::Private(id, _) => Some(id),
                    _ => None,
                };
                if let Some(first) = m.one_run(start, private) {
                    self.large.insert(first);
                    m.pmds.insert(start);
                }
            }
        }
        self.drop_split_pmds();
    }

    /// PMD entries whose pages are no longer one huge page are PTEs now.
    pub(super) fn drop_split_pmds(&mut self) {
        let large = &self.large;
        for m in self.maps.values_mut() {
            let anon = |slot| match slot {
                Slot::Anon(id) => Some(id),
                _ => None,
            };
            let kept = m
                .pmds
                .iter()
                .copied()
                .filter(|start| match m.slots[*start] {
                    Slot::Private(id, _) => large.contains(&id),
                    Slot::Zero => true,
                    _ => m.one_run(*start, anon).is_some(),
                });
            m.pmds = kept.collect();
        }
    }

    /// The first id of the device-private folio that a page belongs to.
    pub(super) fn folio_of(&self, id: u64) -> Option<u64> {
        let base = *self.large.range(..=id).next_back()?;
        (id - base < PMD_PAGES).then_some(base)
    }

    /// A processor faults on `ids` of a range: of a folio under a PMD entry all comes back, while
    /// a fault on a PTE splits the folio and brings its page (do_huge_pmd_device_private(),
    /// migrate_vma_split_folio()). Answers what comes back.
    pub(super) fn split_large(
        &mut self,
        key: &(String, String),
        range: &Range<usize>,
        mut ids: BTreeSet<u64>,
    ) -> BTreeSet<u64> {
        let Some(m) = self.maps.get(key) else {
            return ids;
        };
        let touched: Vec<(u64, bool)> = range
            .clone()
            .filter_map(|page| match m.slots[page] {
                Slot::Private(id, _) => Some((self.folio_of(id)?, m.under_pmd(page))),
                _ => None,
            })
            .collect();
        for (base, by_pmd) in touched {
            if self.large.remove(&base) && by_pmd {
                ids.extend(base..base + PMD_PAGES);
            }
        }
        ids
    }

    /// Folios of which no page is on a device any more.
    pub(super) fn forget_large(&mut self) {
        let held: BTreeSet<u64> = self
            .maps
            .values()
            .flat_map(|m| &m.slots)
            .filter_map(|slot| match slot {
                Slot::Private(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        self.large
            .retain(|base| held.range(*base..*base + PMD_PAGES).next().is_some());
    }

    /// Each device-private folio, as far as pagemap named a page of it.
    pub(super) fn folios(&self) -> Vec<Hold> {
        let mut out = BTreeSet::new();
        for m in self.maps.values() {
            for (page, slot) in (0..).zip(&m.slots) {
                if let Slot::Private(id, _) = slot
                    && let Some(base) = self.folio_of(*id)
                    && let Some(pfn) = m.looked_up.get(&page)
                {
                    out.insert(pfn.saturating_sub(id - base));
                }
            }
        }
        let folio = |pfn| Hold {
            pfn,
            pages: PMD_PAGES,
            page_type: PageType::Private,
            by: HoldBy::Folio { order: PMD_ORDER },
            who: "folio".into(),
        };
        out.into_iter().map(folio).collect()
    }
}
