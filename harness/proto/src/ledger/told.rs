//! What the ledger tells: the holds that it predicts, and how pagemap differs.

use std::collections::BTreeMap;

use super::{File, Ledger, LedgerError, Slot};
use crate::{Backing, Fact, Hold, HoldBy, Mismatch, PageType, PagemapState, PinHow};

impl Ledger {
    /// Everything held now, coalesced and sorted.
    pub fn holds(&self) -> Vec<Hold> {
        let (mut out, mut at) = (Vec::new(), Vec::new());
        for ((actor, name), m) in &self.maps {
            let who = format!("{actor}/{name}");
            for (page, slot) in m.slots.iter().enumerate() {
                let page = page as u64;
                let page_type = match slot {
                    Slot::Coherent(..) => PageType::Coherent,
                    _ => self.page_type(m),
                };
                let by = match slot {
                    Slot::Private(..) if m.under_pmd(page as usize) => HoldBy::Pmd {},
                    Slot::Pte | Slot::Private(..) | Slot::Coherent(..) => HoldBy::Pte {},
                    Slot::Pmd => HoldBy::Pmd {},
                    _ => continue,
                };
                let pfn = match slot {
                    Slot::Private(..) | Slot::Coherent(..) => m.looked_up.get(&page).copied(),
                    _ => self.dax_pfn(m, page),
                };
                if let Some(pfn) = pfn {
                    // A device's folio has its index since its first fault (dax_set_mapping()).
                    if page_type == PageType::Devdax {
                        push_index(&mut at, pfn, 1, page_type, m.first_page() + page, &who);
                    }
                    push(
                        &mut out,
                        Hold {
                            pfn,
                            pages: 1,
                            page_type,
                            by,
                            who: who.clone(),
                        },
                    );
                }
            }
        }
        out.extend(self.folios());
        for (name, f) in &self.files {
            for (&page, entry) in &f.entries {
                // dax_associate_entry(); what counts sharers has none.
                let pages = 1 << entry.order;
                push_index(&mut at, entry.pfn, pages, PageType::Fsdax, page, name);
                let by = HoldBy::Entry { order: entry.order };
                push(
                    &mut out,
                    Hold {
                        pfn: entry.pfn,
                        pages,
                        page_type: PageType::Fsdax,
                        by,
                        who: name.clone(),
                    },
                );
            }
        }
        for (&pfn, &count) in &self.shares {
            let hold = Hold {
                pfn,
                pages: 1,
                page_type: PageType::Fsdax,
                by: HoldBy::Shared { count },
                who: "shared blocks".to_owned(),
            };
            push(&mut out, hold);
        }
        for (&pfn, &page_type) in &self.poisoned {
            let hold = Hold {
                pfn,
                pages: 1,
                page_type,
                by: HoldBy::Poison {},
                who: "memory_failure()".to_owned(),
            };
            push(&mut out, hold);
        }
        for ((_, name), pin) in &self.pins {
            for &pfn in &pin.pfns {
                let by = HoldBy::Pin { how: pin.how };
                push(
                    &mut out,
                    Hold {
                        pfn,
                        pages: 1,
                        page_type: pin.page_type,
                        by,
                        who: name.clone(),
                    },
                );
            }
        }
        out.append(&mut at);
        out.sort();
        out
    }

    /// Whether pages may be marked as failed of which nobody knows.
    pub fn poison_unknown(&self) -> bool {
        self.poison_unknown
    }

    /// Pages of RAM that pins hold, by the way to pin.
    pub fn pins_in_ram(&self) -> BTreeMap<PinHow, u64> {
        let mut out = BTreeMap::new();
        for pin in self.pins.values().filter(|p| p.in_ram > 0) {
            *out.entry(pin.how).or_default() += pin.in_ram;
        }
        out
    }

    /// Compares a whole mapping's pagemap with the prediction.
    ///
    /// # Errors
    /// Where the mapping is not known.
    pub fn compare(&self, actor: &str, fact: &Fact) -> Result<Vec<Mismatch>, LedgerError> {
        let Fact::Pagemap { map, runs } = fact else {
            return Ok(Vec::new());
        };
        let m = self.map(actor, map)?;
        let mut out: Vec<Mismatch> = Vec::new();
        for run in runs {
            let end = run.page.saturating_add(run.pages).min(m.slots.len() as u64);
            for page in run.page..end {
                let slot = m.slots[page as usize];
                let dax = self.dax_pfn(m, page);
                let agrees = match (slot, run.state) {
                    (Slot::None, PagemapState::None {}) => true,
                    (Slot::Pte | Slot::Pmd, PagemapState::Present { pfn }) => {
                        dax == Some(pfn.saturating_add(page - run.page))
                    }
                    (
                        Slot::Zero | Slot::Anon(_) | Slot::Coherent(..),
                        PagemapState::Present { .. },
                    ) => true,
                    (
                        Slot::Private(..) | Slot::Exclusive(_) | Slot::Swapped(_),
                        PagemapState::SwapPfn { .. },
                    ) => true,
                    _ => false,
                };
                if agrees {
                    continue;
                }
                let predicted = match slot {
                    Slot::None => "not mapped",
                    Slot::Pte => "a PTE to its DAX page",
                    Slot::Pmd => "a PMD to its DAX pages",
                    Slot::Zero => "the zero page",
                    Slot::Anon(_) => "an anonymous page",
                    Slot::Private(..) => "a device-private page",
                    Slot::Coherent(..) => "a device-coherent page",
                    Slot::Exclusive(_) => "a page for a device's exclusive access",
                    Slot::Swapped(_) => "a swapped page",
                };
                let found = match run.state {
                    PagemapState::None {} => "nothing",
                    PagemapState::Present { .. } if matches!(slot, Slot::Pte | Slot::Pmd) => {
                        "another page frame"
                    }
                    PagemapState::Present { .. } => "a present page",
                    PagemapState::SwapPfn { .. } => "a swap entry with a page frame",
                };
                match out.last_mut() {
                    Some(l)
                        if l.page + l.pages == page
                            && l.predicted == predicted
                            && l.found == found =>
                    {
                        l.pages += 1;
                    }
                    _ => out.push(Mismatch {
                        what: "pagemap".into(),
                        who: format!("{actor}/{map}"),
                        page,
                        pages: 1,
                        predicted: predicted.into(),
                        found: found.into(),
                    }),
                }
            }
        }
        Ok(out)
    }

    /// Pins whose pages are blocks of another file than the one that they were taken through: its
    /// blocks were given away while somebody could still write to them (upstream 0e2f80afcfa6 lets
    /// an inode's eviction wait for them).
    pub fn reused(&self) -> Vec<Mismatch> {
        let mut out: Vec<Mismatch> = Vec::new();
        for ((_, name), pin) in &self.pins {
            let Some(of) = &pin.file else { continue };
            let has = |f: &File, pfn| f.extents.iter().any(|e| e.has_frame(pfn));
            for (page, &pfn) in (0..).zip(&pin.pfns) {
                // Files that share blocks share them as long as the pinned one has them.
                let own = self.files.get(of).is_some_and(|f| has(f, pfn));
                if own || !self.files.values().any(|f| has(f, pfn)) {
                    continue;
                }
                match out.last_mut() {
                    Some(l) if l.who == *name && l.page + l.pages == page => l.pages += 1,
                    _ => out.push(Mismatch {
                        what: "blocks".into(),
                        who: name.clone(),
                        page,
                        pages: 1,
                        predicted: "of the pinned file, or free".into(),
                        found: "another file's".into(),
                    }),
                }
            }
        }
        out
    }

    /// The name under which the ledger knows the file behind a mapping: another
    /// than the mapping was made with, where that was unlinked since.
    pub fn file_of(&self, actor: &str, map: &str) -> Option<&str> {
        match &self.map(actor, map).ok()?.backing {
            Backing::File { file, .. } => Some(file),
            _ => None,
        }
    }

    /// Whether the file behind a mapping has a block for each of these pages of the mapping that no
    /// other file has, so that a store there changes no extent.
    pub fn has_blocks(&self, actor: &str, map: &str, mut pages: std::ops::Range<u64>) -> bool {
        let Ok(m) = self.map(actor, map) else {
            return false;
        };
        let Some(file) = m.file().and_then(|name| self.files.get(name)) else {
            return false;
        };
        let shared = self.shared_blocks();
        pages.all(|p| {
            let pfn = file.pfn(m.first_page() + p);
            pfn.is_some_and(|pfn| !shared.contains(pfn))
        })
    }

    /// The mappings that an actor has, by name.
    pub fn maps_of(&self, actor: &str) -> Vec<String> {
        self.maps
            .keys()
            .filter(|(a, _)| a == actor)
            .map(|(_, m)| m.clone())
            .collect()
    }
}

/// The same for the index of pages, which goes on where both pages and index do.
fn push_index(
    out: &mut Vec<Hold>,
    pfn: u64,
    pages: u64,
    page_type: PageType,
    index: u64,
    who: &str,
) {
    if let Some(last) = out.last_mut()
        && let HoldBy::Index { first } = last.by
        && last.pfn + last.pages == pfn
        && first + last.pages == index
        && last.page_type == page_type
        && last.who == who
    {
        last.pages += pages;
        return;
    }
    out.push(Hold {
        pfn,
        pages,
        page_type,
        by: HoldBy::Index { first: index },
        who: who.to_owned(),
    });
}

/// Appends, or lengthens the last hold where it goes on.
fn push(out: &mut Vec<Hold>, hold: Hold) {
    if let Some(last) = out.last_mut()
        && last.pfn + last.pages == hold.pfn
        && last.by == hold.by
        && last.page_type == hold.page_type
        && last.who == hold.who
        // An entry of order 9 stays one hold, so that the host sees where each folio starts.
        && !matches!(hold.by, HoldBy::Entry { order } if order > 0)
    {
        last.pages += hold.pages;
        return;
    }
    out.push(hold);
}
