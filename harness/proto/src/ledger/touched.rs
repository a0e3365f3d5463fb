//! What a load or store of every page of a range does to the ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ledger, LedgerError, PMD_PAGES, Slot};
use crate::{Backing, Memory};

impl Ledger {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn touched(
        &mut self,
        actor: &str,
        map: &str,
        page: u64,
        pages: u64,
        write: bool,
        faults: u64,
        neighbours: Option<bool>,
    ) -> Result<(), LedgerError> {
        let key = (actor.to_owned(), map.to_owned());
        let who = format!("{actor}/{map}");
        let Some(m) = self.maps.get(&key) else {
            return Err(LedgerError::Unknown(who, "mapping"));
        };
        let range = page as usize..page.saturating_add(pages) as usize;
        if range.end > m.slots.len() || range.is_empty() {
            return Err(LedgerError::Range(who, page, pages));
        }
        if m.memory().is_some() {
            self.huge_fault(&key, &range, write, faults, neighbours);
            self.touch_anon(&key, range, write);
            return Ok(());
        }
        // A look at /proc/PID/pagemap splits what a PUD maps (walk_pud_range()), and the split of a
        // device's takes it out of the page tables: after a touch, which looks, nothing is left.
        if let Backing::Device { namespace, .. } = &m.backing
            && self.gigantic.contains(namespace)
        {
            return Ok(());
        }
        let stretch = m.stretch(page);
        let first = m.first_page();
        let before = &m.slots[stretch.clone()];
        let fresh = m.slots[range.clone()]
            .iter()
            .filter(|s| faults_on(**s, write))
            .count() as u64;
        let whole = stretch.len() as u64 == PMD_PAGES;
        let pmd = if before.contains(&Slot::Pmd) {
            true
        } else if before.contains(&Slot::Pte) || !whole {
            false
        } else {
            neighbours.unwrap_or(fresh > 1 && faults < fresh)
        };
        let cow = write && m.is_private_file();
        let file = match &m.backing {
            Backing::File { file, .. } => Some(file.clone()),
            _ => None,
        };
        let missing: Vec<u64> = range
            .clone()
            .filter(|&p| faults_on(m.slots[p], write))
            .map(|p| first + p as u64)
            .collect();
        let shared = match &file {
            Some(name) if !cow => self.shared_among(name, &missing, write),
            _ => BTreeSet::new(),
        };
        if let Some(name) = &file {
            for page in &shared {
                let pages = if pmd {
                    page / PMD_PAGES * PMD_PAGES..page / PMD_PAGES * PMD_PAGES + PMD_PAGES
                } else {
                    *page..page + 1
                };
                pages.for_each(|page| self.unmap_page(name, page));
            }
            for page in missing {
                let replaced = self
                    .files
                    .get_mut(name)
                    .and_then(|f| f.replace_zero(page, pmd));
                if let Some(pages) = replaced {
                    self.unmap_zeros(name, &pages);
                }
            }
        }
        let Some(m) = self.maps.get(&key) else {
            return Err(LedgerError::Unknown(who, "mapping"));
        };
        let mut slots = m.slots[stretch.clone()].to_vec();
        let mut entries = Vec::new();
        let mut zeros = Vec::new();
        for p in range.clone() {
            let slot = &mut slots[p - stretch.start];
            if cow {
                if !matches!(slot, Slot::Anon(_)) {
                    self.next_id += 1;
                    *slot = Slot::Anon(self.next_id);
                }
                continue;
            }
            if matches!(slot, Slot::Anon(_)) {
                continue;
            }
            let hole = file.as_ref().is_some_and(|f| {
                self.files
                    .get(f)
                    .is_none_or(|f| f.pfn(first + p as u64).is_none())
            });
            if hole {
                *slot = Slot::Zero;
                zeros.push(first + p as u64);
                continue;
            }
            if matches!(slot, Slot::None | Slot::Zero) {
                *slot = Slot::Pte;
            }
            entries.push(first + p as u64);
        }
        if cow {
            // The copy splits a PMD entry, and the split of a file's PMD zaps it.
            for slot in &mut slots {
                if *slot == Slot::Pmd {
                    *slot = Slot::None;
                }
            }
        } else if pmd && !entries.is_empty() {
            slots.fill(Slot::Pmd);
        } else if pmd && !zeros.is_empty() {
            // dax_pmd_load_hole(): the huge zero page.
            slots.fill(Slot::Zero);
        }
        if let Some(file) = &file {
            self.faulted(file, &entries, pmd, &shared);
        }
        if let Some(f) = file.and_then(|f| self.files.get_mut(&f)) {
            if pmd && let Some(page) = zeros.first() {
                f.zeros.insert(page / PMD_PAGES * PMD_PAGES, 9);
            } else if !pmd {
                f.zeros.extend(zeros.into_iter().map(|page| (page, 0)));
            }
        }
        if let Some(m) = self.maps.get_mut(&key) {
            // A store makes an entry writable; a new one of a load is not, a former one stays.
            let whole_pmd = pmd && !cow && slots.contains(&Slot::Pmd);
            // Entries of a device-dax mapping have what the VMA allows: nobody asks to be told of
            // a first store (vma_wants_writenotify()).
            let open = write || !matches!(m.backing, Backing::File { .. });
            let reached = if whole_pmd { stretch.clone() } else { range };
            for p in reached {
                m.writable[p] = open || (m.writable[p] && m.slots[p] != Slot::None);
            }
            m.slots[stretch].copy_from_slice(&slots);
            m.anon_vma |= cow;
        }
        Ok(())
    }

    /// A load or store of anonymous memory: brings device pages back (for all
    /// that share them, since migration walks the rmap), and copies on write.
    pub(super) fn touch_anon(
        &mut self,
        key: &(String, String),
        range: std::ops::Range<usize>,
        write: bool,
    ) {
        let Some(m) = self.maps.get(key) else { return };
        let back: BTreeSet<u64> = m.slots[range.clone()]
            .iter()
            .filter_map(|s| match s {
                Slot::Private(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        let back = self.split_large(key, &range, back);
        self.bring_back(&back);
        self.fault_anon(key, range, write);
    }

    /// Page faults of anonymous memory, by a processor or by hmm_range_fault() for a device, which
    /// leaves the pages of its own where they are.
    pub(super) fn fault_anon(
        &mut self,
        key: &(String, String),
        range: std::ops::Range<usize>,
        write: bool,
    ) {
        let mut shared = BTreeMap::<u64, usize>::new();
        for slot in self.maps.values().flat_map(|m| &m.slots) {
            if let Slot::Anon(id) | Slot::Coherent(id, _) | Slot::Swapped(id) = slot {
                *shared.entry(*id).or_default() += 1;
            }
        }
        let mut next = self.next_id;
        let mut split = BTreeSet::new();
        if let Some(m) = self.maps.get_mut(key) {
            // The zero page of a read needs no anon_vma (do_anonymous_page()).
            m.anon_vma |= write && m.memory() != Some(Memory::Shared);
            let shared_memory = m.memory() == Some(Memory::Shared);
            // hugetlb_no_page() makes a page of 2M whatever the access.
            let hugetlb = m.memory() == Some(Memory::Hugetlb);
            let range = match hugetlb {
                true => {
                    let first = range.start / PMD_PAGES as usize * PMD_PAGES as usize;
                    first..range.end.next_multiple_of(PMD_PAGES as usize)
                }
                false => range,
            };
            for page in range {
                let slot = &mut m.slots[page];
                // do_swap_page() puts them back for this address space.
                if let Slot::Exclusive(id) | Slot::Swapped(id) = *slot {
                    m.writable[page] = matches!(slot, Slot::Exclusive(_));
                    *slot = Slot::Anon(id);
                }
                let copy = match slot {
                    Slot::Anon(id) | Slot::Coherent(id, _) => {
                        write && shared.get(id).is_some_and(|n| *n > 1)
                    }
                    Slot::Zero | Slot::None if shared_memory => {
                        *slot = Slot::Zero;
                        false
                    }
                    Slot::Zero | Slot::None if write || hugetlb => true,
                    Slot::None => {
                        *slot = Slot::Zero;
                        false
                    }
                    _ => false,
                };
                if copy {
                    next += 1;
                    *slot = Slot::Anon(next);
                    split.insert(page / PMD_PAGES as usize * PMD_PAGES as usize);
                }
                m.writable[page] |= write;
            }
            // do_huge_pmd_wp_page() splits the entry of a huge page that is shared.
            match hugetlb {
                true => m.pmds.extend(split),
                false => m.pmds.retain(|start| !split.contains(start)),
            }
        }
        self.next_id = next;
    }
}

/// Whether an access to a page takes a fault for what it has.
fn faults_on(slot: Slot, write: bool) -> bool {
    match slot {
        Slot::None => true,
        Slot::Zero => write,
        _ => false,
    }
}
