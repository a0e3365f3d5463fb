//! What migration to and from the device does to the ledger.

use std::collections::BTreeSet;

use super::{Ledger, Slot};

impl Ledger {
    /// Everything in the range goes to the device. migrate_vma_collect() takes
    /// pages that are not there yet, and the zero page, as pages to be made.
    pub(super) fn migrate(&mut self, actor: &str, map: &str, range: std::ops::Range<usize>) {
        let mut next = self.next_id;
        let mut ids = BTreeSet::new();
        if let Some(m) = self.maps.get_mut(&(actor.to_owned(), map.to_owned())) {
            for slot in &mut m.slots[range] {
                if matches!(slot, Slot::None | Slot::Zero) {
                    next += 1;
                    *slot = Slot::Anon(next);
                }
                if let Slot::Anon(id) = slot {
                    ids.insert(*id);
                }
            }
            m.anon_vma |= !ids.is_empty();
        }
        self.next_id = next;
        self.move_ids(&ids, true);
    }

    /// An actor lets its open test_hmm device go. The last one to share it closes
    /// it, and a driver that evicts then does so for every page of the device,
    /// whoever's it is (dmirror_fops_release()).
    pub(super) fn close_mirror(&mut self, actor: &str) {
        let before = self.mirrors.len();
        self.mirrors
            .retain_mut(|of| !of.remove(actor) || !of.is_empty());
        if self.mirrors.len() == before || !self.behaviour.hmm_close_evicts {
            return;
        }
        let ids: BTreeSet<u64> = self
            .maps
            .values()
            .flat_map(|m| &m.slots)
            .filter_map(|s| match s {
                Slot::Private(id) => Some(*id),
                _ => None,
            })
            .collect();
        self.move_ids(&ids, false);
    }

    pub(super) fn move_ids(&mut self, ids: &BTreeSet<u64>, to_device: bool) {
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            match *slot {
                Slot::Anon(id) if to_device && ids.contains(&id) => *slot = Slot::Private(id),
                Slot::Private(id) if !to_device && ids.contains(&id) => *slot = Slot::Anon(id),
                _ => {}
            }
        }
    }
}
