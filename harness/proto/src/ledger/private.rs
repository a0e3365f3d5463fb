//! What migration to and from the device does to the ledger.

use std::collections::BTreeSet;

use super::{Ledger, Slot, is_coherent};

impl Ledger {
    /// Everything in the range goes to the device. migrate_vma_collect() takes
    /// pages that are not there yet, and the zero page, as pages to be made.
    pub(super) fn migrate(&mut self, actor: &str, map: &str, range: std::ops::Range<usize>) {
        let device = self
            .mirrors
            .iter()
            .find(|(_, of)| of.contains(actor))
            .map_or(0, |(device, _)| *device);
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
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            match *slot {
                Slot::Anon(id) if ids.contains(&id) && is_coherent(device) => {
                    *slot = Slot::Coherent(id, device);
                }
                Slot::Anon(id) if ids.contains(&id) => *slot = Slot::Private(id, device),
                _ => {}
            }
        }
    }

    /// An actor lets its open test_hmm device go. The last one to share it closes
    /// it, and a driver that evicts then does so for every page of the device,
    /// whoever's it is (dmirror_fops_release()).
    pub(super) fn close_mirror(&mut self, actor: &str) {
        let mut closed = Vec::new();
        self.mirrors.retain_mut(|(device, of)| {
            let last = of.remove(actor) && of.is_empty();
            closed.extend(last.then_some(*device));
            !last
        });
        if !self.behaviour.hmm_close_evicts {
            return;
        }
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            if let Slot::Private(id, device) | Slot::Coherent(id, device) = *slot
                && closed.contains(&device)
            {
                *slot = Slot::Anon(id);
            }
        }
    }

    /// These device-private pages come back to RAM.
    pub(super) fn bring_back(&mut self, ids: &BTreeSet<u64>) {
        for slot in self.maps.values_mut().flat_map(|m| &mut m.slots) {
            if let Slot::Private(id, _) = *slot
                && ids.contains(&id)
            {
                *slot = Slot::Anon(id);
            }
        }
    }
}
