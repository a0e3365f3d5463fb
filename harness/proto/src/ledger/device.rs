//! What a test_hmm device is asked for, and what its snapshot must say.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Ledger, LedgerError, Map, Slot};
use crate::{Advice, Backing, DeviceRange, Fact, Memory, Op};

/// HMM_DMIRROR_PROT_* of lib/test_hmm_uapi.h, which are the same in every era.
mod prot {
    pub(super) const NONE: u8 = 0x00;
    pub(super) const READ: u8 = 0x01;
    pub(super) const WRITE: u8 = 0x02;
    pub(super) const PMD: u8 = 0x04;
    pub(super) const ZERO: u8 = 0x10;
    pub(super) const PRIVATE_LOCAL: u8 = 0x20;
    pub(super) const COHERENT_LOCAL: u8 = 0x40;
    pub(super) const COHERENT_REMOTE: u8 = 0x50;
    pub(super) const ERROR: u8 = 0xff;
}

impl Map {
    /// Which page of anonymous memory a processor maps there.
    pub(super) fn anon_id(&self, page: u64) -> Option<u64> {
        match self.slots.get(page as usize)? {
            Slot::Anon(id) | Slot::Coherent(id, _) => Some(*id),
            _ => None,
        }
    }

    /// The frame of a device-coherent page, as pagemap last said.
    pub(super) fn coherent_pfn(&self, page: u64) -> Option<u64> {
        match self.slots.get(page as usize)? {
            Slot::Coherent(..) => self.looked_up.get(&page).copied(),
            _ => None,
        }
    }
}

impl Ledger {
    /// An operation of a device that succeeded.
    pub(super) fn asked(&mut self, actor: &str, op: &Op) -> Result<(), LedgerError> {
        let number = |device: &Option<u8>| device.unwrap_or(0);
        match op {
            Op::HmmOpen { device } => {
                // Opening again closes what was open.
                self.close_mirror(actor, Some(number(device)));
                let of = BTreeSet::from([actor.to_owned()]);
                self.mirrors.push((number(device), of));
            }
            Op::HmmClose { device } => self.close_mirror(actor, Some(number(device))),
            op => {
                if let Some(of) = op.device_range() {
                    let range = self.range(actor, &of.map, of.offset, of.length)?;
                    self.asked_about(actor, op, of, range)?;
                }
            }
        }
        Ok(())
    }

    fn asked_about(
        &mut self,
        actor: &str,
        op: &Op,
        DeviceRange { map, device, .. }: &DeviceRange,
        range: Range<usize>,
    ) -> Result<(), LedgerError> {
        let device = device.unwrap_or(0);
        match op {
            Op::HmmMigrate(_) => self.migrate(actor, map, range, device),
            Op::HmmReturn(_) => self.give_back(actor, map, range, device)?,
            Op::HmmRead(_) | Op::HmmReadUnlocked(_) => {
                self.device_fault(actor, map, range, device, false)?;
            }
            Op::HmmWrite(_) => self.device_fault(actor, map, range, device, true)?,
            Op::HmmExclusive(_) => self.exclude(actor, map, range)?,
            _ => {}
        }
        Ok(())
    }

    /// hmm_range_fault() for a device: its own private pages stay where they are, those of another
    /// owner are faulted back to RAM.
    fn device_fault(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<usize>,
        device: u8,
        write: bool,
    ) -> Result<(), LedgerError> {
        let key = (actor.to_owned(), map.to_owned());
        let m = self.map(actor, map)?;
        if m.memory().is_none() {
            // The faults of DAX pages are facts of the operation.
            return Ok(());
        }
        let foreign: Vec<usize> = range
            .clone()
            .filter(|&p| matches!(m.slots[p], Slot::Private(_, of) if of != device))
            .collect();
        for page in foreign {
            self.touch_anon(&key, page..page + 1, write);
        }
        self.fault_anon(&key, range, write);
        Ok(())
    }

    /// make_device_exclusive() gets each page for writing, as a processor's store would, and puts
    /// an entry in the place of its PTE; the entry of a huge page is split first (FOLL_SPLIT_PMD).
    fn exclude(&mut self, actor: &str, map: &str, range: Range<usize>) -> Result<(), LedgerError> {
        let key = (actor.to_owned(), map.to_owned());
        self.touch_anon(&key, range.clone(), true);
        let m = self.map_mut(actor, map)?;
        for page in range {
            let start = m.stretch(page as u64).start;
            m.pmds.remove(&start);
            if let Slot::Anon(id) = m.slots[page] {
                m.slots[page] = Slot::Exclusive(id);
            }
        }
        Ok(())
    }

    /// What the operation's facts contradict of what follows from the operations before; the
    /// words tell the first such page.
    pub fn judge(&self, actor: &str, op: &Op, facts: &[Fact]) -> Option<String> {
        match op {
            Op::HmmSnapshot(_) => self.judge_snapshot(actor, op, facts),
            Op::Touch { write: true, .. } => facts.iter().find_map(|f| self.judge_store(actor, f)),
            Op::Madvise {
                map,
                offset,
                advice: Advice::Hwpoison,
                ..
            } => facts
                .iter()
                .find_map(|f| self.judge_poison(actor, map, *offset, f)),
            _ => None,
        }
    }

    /// A store through an entry that does not allow it takes a fault. Where it took none, a
    /// processor still used what was there before: after fsync(2) it dirties what nobody will
    /// write back, after fork(2) it stores to the other's page.
    fn judge_store(&self, actor: &str, fact: &Fact) -> Option<String> {
        let Fact::Touched {
            map,
            page,
            pages,
            faults,
            ..
        } = fact
        else {
            return None;
        };
        let m = self.map(actor, map).ok()?;
        let range = *page as usize..page.checked_add(*pages)? as usize;
        let closed = |p: usize| !m.writable.get(p).copied().unwrap_or(true);
        let single = |p: &usize| match m.slots.get(*p) {
            Some(Slot::Pte) => closed(*p),
            // One's own page may be opened for stores ahead of any (can_change_pte_writable()).
            Some(Slot::Anon(id)) => closed(*p) && !m.under_pmd(*p) && self.is_shared(*id),
            _ => false,
        };
        let huge = (range.clone())
            .filter(|p| m.slots.get(*p) == Some(&Slot::Pmd) && closed(*p))
            .map(|p| m.stretch(p as u64).start)
            .collect::<BTreeSet<usize>>();
        let needed = range.filter(single).count() as u64 + huge.len() as u64;
        (*faults < needed).then(|| {
            format!(
                "store to {pages} pages of {map} from page {page} on: {needed} entries forbid it, and it took {faults} faults"
            )
        })
    }

    /// Whether several mappings have an ordinary page, as after fork(2).
    fn is_shared(&self, id: u64) -> bool {
        let slots = self.maps.values().flat_map(|m| &m.slots);
        slots.filter(|s| **s == Slot::Anon(id)).count() > 1
    }

    fn judge_snapshot(&self, actor: &str, op: &Op, facts: &[Fact]) -> Option<String> {
        let Op::HmmSnapshot(DeviceRange {
            map,
            offset,
            length,
            device,
        }) = op
        else {
            return None;
        };
        let range = match self.range(actor, map, *offset, *length) {
            Ok(range) => range,
            Err(e) => return Some(e.to_string()),
        };
        let m = self.map(actor, map).ok()?;
        let said = facts.iter().find_map(|f| match f {
            Fact::Snapshot {
                page, permissions, ..
            } if *page == range.start as u64 && permissions.len() == range.len() => {
                Some(permissions)
            }
            _ => None,
        });
        let Some(said) = said else {
            return Some(format!(
                "judge a snapshot of {map}: it does not cover the range"
            ));
        };
        range.zip(said).find_map(|(page, said)| {
            let expected = self.permissions(m, page, device.unwrap_or(0));
            (expected != *said).then(|| {
                format!(
                    "find page {page} of {map} in the snapshot as it must be: 0x{expected:02x} is expected, 0x{said:02x} was told"
                )
            })
        })
    }

    /// What hmm_range_fault() without a fault says of a page, by test_hmm's dmirror_mkentry().
    pub(super) fn permissions(&self, m: &Map, page: usize, device: u8) -> u8 {
        let access = match m.writable[page] {
            true => prot::WRITE,
            false => prot::READ,
        };
        let pmd = match m.under_pmd(page) || m.slots[page] == Slot::Pmd {
            true => prot::PMD,
            false => 0,
        };
        match m.slots[page] {
            Slot::None | Slot::Exclusive(_) | Slot::Swapped(_) => prot::NONE,
            // A page of tmpfs, or the zero page.
            Slot::Zero if matches!(m.memory(), Some(Memory::Shared | Memory::File)) => access,
            Slot::Zero => prot::ZERO | prot::READ,
            Slot::Anon(_) | Slot::Pte | Slot::Pmd => access | pmd,
            Slot::Private(_, of) if of == device => prot::PRIVATE_LOCAL | access | pmd,
            // Of another owner: as if it were not there (hmm_vma_handle_pte()), and an error for a
            // whole PMD entry (hmm_vma_handle_absent_pmd()).
            Slot::Private(..) if pmd != 0 => prot::ERROR,
            Slot::Private(..) => prot::NONE,
            Slot::Coherent(_, of) if of == device => prot::COHERENT_LOCAL | access,
            Slot::Coherent(..) => prot::COHERENT_REMOTE | access,
        }
    }

    /// fsync(2) and msync(2) take the permission to store from a file's entries
    /// (dax_writeback_one()).
    pub(super) fn cleaned(&mut self, file: &str) {
        for m in self.maps.values_mut() {
            if matches!(&m.backing, Backing::File { file: f, private: false, .. } if f == file) {
                m.writable.fill(false);
            }
        }
    }
}
