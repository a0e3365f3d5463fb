//! What migration to and from the device does to the ledger.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Ledger, LedgerError, Slot, is_coherent};
use crate::Memory;

impl Ledger {
    /// What can goes to the device. migrate_vma_collect() takes pages of anonymous memory that are
    /// not there yet, and the zero page, as pages to be made; pages of a file, swapped ones and
    /// those of other devices stay (migrate_vma_collect_pmd(), migrate_vma_pages()).
    pub(super) fn migrate(&mut self, actor: &str, map: &str, range: Range<usize>, device: u8) {
        let key = (actor.to_owned(), map.to_owned());
        let mut next = self.next_id;
        let mut ids = BTreeSet::new();
        let pinned = self.pinned();
        if let Some(m) = self.maps.get_mut(&key) {
            let anonymous = matches!(m.memory(), Some(Memory::Private | Memory::Huge));
            for page in range {
                let slot = &mut m.slots[page];
                if anonymous && matches!(slot, Slot::None | Slot::Zero) {
                    next += 1;
                    *slot = Slot::Anon(next);
                    m.writable[page] = m.allowed[page];
                }
                if let Slot::Anon(id) = slot
                    && !pinned.contains(id)
                {
                    ids.insert(*id);
                }
            }
            m.anon_vma |= !ids.is_empty();
        }
        self.next_id = next;
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            match *slot {
                Slot::Anon(id) if ids.contains(&id) && is_coherent(device) => {
                    *slot = Slot::Coherent(id, device);
                }
                Slot::Anon(id) if ids.contains(&id) => *slot = Slot::Private(id, device),
                _ => {}
            }
        }
        self.migrated_large(&key);
    }

    /// The device gives its pages of a range back. Of a folio that the range covers in part, the
    /// rest stays as single pages.
    pub(super) fn give_back(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<usize>,
        device: u8,
    ) -> Result<(), LedgerError> {
        let pinned = self.pinned();
        let slots = &self.map(actor, map)?.slots[range];
        let ids: BTreeSet<u64> = slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Private(id, of) | Slot::Coherent(id, of) if *of == device => {
                    (!pinned.contains(id)).then_some(*id)
                }
                _ => None,
            })
            .collect();
        let split: BTreeSet<u64> = ids.iter().filter_map(|id| self.folio_of(*id)).collect();
        self.large.retain(|base| !split.contains(base));
        self.bring_back(&ids);
        Ok(())
    }

    /// Pages that a pin holds do not migrate (migrate_vma_check_page()).
    fn pinned(&self) -> BTreeSet<u64> {
        self.pins.values().flat_map(|p| &p.ids).copied().collect()
    }

    /// FOLL_LONGTERM moves device-coherent pages to RAM before it pins them
    /// (migrate_device_coherent_page()).
    pub(super) fn longterm(
        &mut self,
        actor: &str,
        map: &str,
        range: &Range<u64>,
    ) -> Result<(), LedgerError> {
        let m = self.map(actor, map)?;
        let ids: BTreeSet<u64> = range
            .clone()
            .filter_map(|page| match m.slots.get(page as usize)? {
                Slot::Coherent(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        self.bring_back(&ids);
        Ok(())
    }

    /// An actor lets an open test_hmm device go, or all of them. The last one to share it closes
    /// it, and a driver that evicts then does so for every page of the device,
    /// whoever's it is (dmirror_fops_release()).
    pub(super) fn close_mirror(&mut self, actor: &str, which: Option<u8>) {
        let mut closed = Vec::new();
        self.mirrors.retain_mut(|(device, of)| {
            if which.is_some_and(|which| which != *device) {
                return true;
            }
            let last = of.remove(actor) && of.is_empty();
            closed.extend(last.then_some(*device));
            !last
        });
        if !self.behaviour.hmm_close_evicts {
            return;
        }
        let pinned = self.pinned();
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            if let Slot::Private(id, device) | Slot::Coherent(id, device) = *slot
                && closed.contains(&device)
                && !pinned.contains(&id)
            {
                *slot = Slot::Anon(id);
            }
        }
        self.forget_large();
        self.drop_split_pmds();
    }

    /// These pages of devices come back to RAM, for all who map them: migration walks the rmap.
    pub(super) fn bring_back(&mut self, ids: &BTreeSet<u64>) {
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            if let Slot::Private(id, _) | Slot::Coherent(id, _) = *slot
                && ids.contains(&id)
            {
                *slot = Slot::Anon(id);
            }
        }
        self.drop_split_pmds();
    }
}
