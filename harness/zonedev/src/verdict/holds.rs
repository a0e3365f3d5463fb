//! Claims as intervals: over each stretch of pages, what holds them and how often.

use std::collections::BTreeSet;

use proto::{Hold, HoldBy, PageType, PinHow};

/// Pages under one PMD.
pub(crate) const PMD_PAGES: u64 = 512;

/// All ways to pin, in the order of [`Held::pins`].
pub(crate) const PIN_HOWS: [PinHow; 5] = [
    PinHow::Vmsplice,
    PinHow::DirectWrite,
    PinHow::DirectRead,
    PinHow::IoUring,
    PinHow::GupTest,
];

/// The word that cases use.
pub(crate) fn pin_word(how: PinHow) -> &'static str {
    match how {
        PinHow::Vmsplice => "vmsplice",
        PinHow::DirectWrite => "direct-write",
        PinHow::DirectRead => "direct-read",
        PinHow::IoUring => "io-uring",
        PinHow::GupTest => "gup-test",
    }
}

/// What holds each page of a stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Page-table entries.
    pub(crate) ptes: u64,
    /// PMD entries.
    pub(crate) pmds: u64,
    /// Pins, by [`PIN_HOWS`].
    pub(crate) pins: [u64; PIN_HOWS.len()],
    /// DAX entries.
    pub(crate) entries: u64,
    /// Whether one of them has order 9.
    pub(crate) large_entry: bool,
    /// `share`: how many entries of shared blocks name the page.
    pub(crate) share: u64,
    /// `index` of each page less its frame number.
    pub(crate) ahead: Option<i128>,
    /// Whether memory_failure() marked them.
    pub(crate) poisoned: bool,
    /// Each holder in words: `main/m (PTE)`.
    pub(crate) who: BTreeSet<String>,
}

impl Held {
    /// Whether nothing holds the pages.
    pub(crate) fn is_free(&self) -> bool {
        self.who.is_empty()
    }

    /// The holders as one text.
    pub(crate) fn names(&self) -> String {
        self.who.iter().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// A stretch of pages that the same things hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// First page frame number.
    pub(crate) start: u64,
    /// One past the last.
    pub(crate) end: u64,
    /// What holds them.
    pub(crate) held: Held,
}

/// How one holder is named: `main/m (PTE)`, `a (2M entry)`, `p (vmsplice)`.
fn holder(hold: &Hold) -> String {
    let by = match hold.by {
        HoldBy::Pte {} if hold.page_type == PageType::Private => "swap entry".to_owned(),
        HoldBy::Pte {} => "PTE".to_owned(),
        HoldBy::Pmd {} if hold.page_type == PageType::Private => "swap PMD".to_owned(),
        HoldBy::Pmd {} => "PMD".to_owned(),
        HoldBy::Entry { order: 0 } => "entry".to_owned(),
        HoldBy::Entry { order: 9 } => "2M entry".to_owned(),
        HoldBy::Entry { order } => format!("entry of order {order}"),
        HoldBy::Poison {} => "poisoned".to_owned(),
        HoldBy::Shared { count } => format!("counted {count} times"),
        HoldBy::Index { first } => format!("from page {first} on"),
        HoldBy::Folio { order } => format!("of order {order}"),
        HoldBy::Pin { how } => pin_word(how).to_owned(),
    };
    format!("{} ({by})", hold.who)
}

/// Cuts `start..end` into stretches, free ones included, by the holds that lie in it.
pub(crate) fn stretches<'a>(
    start: u64,
    end: u64,
    holds: impl Iterator<Item = &'a Hold>,
) -> Vec<Stretch> {
    let mut edges: Vec<(u64, bool, &Hold)> = Vec::new();
    for hold in holds {
        let from = hold.pfn.max(start);
        let to = hold.pfn.saturating_add(hold.pages).min(end);
        if from < to {
            edges.push((from, true, hold));
            edges.push((to, false, hold));
        }
    }
    edges.sort_by_key(|(pfn, begins, _)| (*pfn, *begins));
    let mut out = Vec::new();
    let mut active: Vec<&Hold> = Vec::new();
    let mut at = start;
    let mut i = 0;
    while at < end {
        while let Some((pfn, begins, hold)) = edges.get(i)
            && *pfn <= at
        {
            if *begins {
                active.push(hold);
            } else if let Some(n) = active.iter().position(|h| std::ptr::eq(*h, *hold)) {
                active.swap_remove(n);
            }
            i += 1;
        }
        let to = edges.get(i).map_or(end, |e| e.0);
        out.push(Stretch {
            start: at,
            end: to,
            held: sum(&active),
        });
        at = to;
    }
    out
}

fn sum(active: &[&Hold]) -> Held {
    let mut held = Held::default();
    for hold in active {
        match hold.by {
            HoldBy::Pte {} => held.ptes += 1,
            HoldBy::Pmd {} => held.pmds += 1,
            HoldBy::Entry { order } => {
                held.entries += 1;
                held.large_entry |= order > 0;
            }
            HoldBy::Poison {} => held.poisoned = true,
            HoldBy::Shared { count } => held.share = held.share.max(count),
            // Where a page lies in its file is no holder.
            HoldBy::Index { first } => {
                held.ahead = Some(i128::from(first) - i128::from(hold.pfn));
                continue;
            }
            HoldBy::Folio { .. } => {}
            HoldBy::Pin { how } => {
                for (n, which) in held.pins.iter_mut().zip(PIN_HOWS) {
                    *n += u64::from(which == how);
                }
            }
        }
        held.who.insert(holder(hold));
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pte(pfn: u64, pages: u64, who: &str) -> Hold {
        Hold {
            pfn,
            pages,
            page_type: PageType::Fsdax,
            by: HoldBy::Pte {},
            who: who.into(),
        }
    }

    #[test]
    fn overlapping_holds_are_cut_at_their_edges() {
        let holds = [pte(10, 10, "a"), pte(15, 10, "b")];
        let got: Vec<_> = stretches(0, 30, holds.iter())
            .into_iter()
            .map(|s| (s.start, s.end, s.held.ptes, s.held.names()))
            .collect();
        assert_eq!(
            got,
            [
                (0, 10, 0, String::new()),
                (10, 15, 1, "a (PTE)".into()),
                (15, 20, 2, "a (PTE), b (PTE)".into()),
                (20, 25, 1, "b (PTE)".into()),
                (25, 30, 0, String::new()),
            ]
        );
    }

    proptest! {
        #[test]
        fn stretches_count_what_a_vector_of_pages_counts(
            spans in prop::collection::vec((0u64..80, 0u64..40), 0..12)
        ) {
            let holds: Vec<_> = spans.iter().map(|(p, n)| pte(*p, *n, "w")).collect();
            let cut = stretches(8, 72, holds.iter());
            let mut at = 8;
            for s in &cut {
                prop_assert_eq!(s.start, at);
                prop_assert!(s.end > s.start);
                for pfn in s.start..s.end {
                    let n = holds.iter().filter(|h| (h.pfn..h.pfn + h.pages).contains(&pfn)).count();
                    prop_assert_eq!(s.held.ptes, n as u64);
                }
                at = s.end;
            }
            prop_assert_eq!(at, 72);
        }

        #[test]
        fn any_numbers_of_the_guest_are_borne(pfn: u64, pages: u64) {
            let holds = [pte(pfn, pages, "w")];
            let pages: u64 = stretches(0, 64, holds.iter()).iter().map(|s| s.end - s.start).sum();
            prop_assert_eq!(pages, 64);
        }
    }
}
