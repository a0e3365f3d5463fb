//! Claims as intervals: over each stretch of pages, what holds them and how often.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Holders of one page that are named.
const MAX_NAMED: usize = 8;

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
    /// The first [`MAX_NAMED`] holders in words, sorted, each once: `main/m (PTE)`.
    who: Vec<Arc<str>>,
    /// How many more there are.
    unnamed: usize,
}

impl Held {
    /// Whether nothing holds the pages.
    pub(crate) fn is_free(&self) -> bool {
        self.who.is_empty()
    }

    /// The holders as one text.
    pub(crate) fn names(&self) -> String {
        let mut names = self.who.join(", ");
        if self.unnamed > 0 {
            names.push_str(&format!(" and {} more", self.unnamed));
        }
        names
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
    let mut edges: Vec<(u64, bool, &Hold, Arc<str>)> = Vec::new();
    for hold in holds {
        let from = hold.pfn.max(start);
        let to = hold.pfn.saturating_add(hold.pages).min(end);
        if from < to {
            let name: Arc<str> = holder(hold).into();
            edges.push((from, true, hold, Arc::clone(&name)));
            edges.push((to, false, hold, name));
        }
    }
    edges.sort_by_key(|(pfn, begins, ..)| (*pfn, *begins));
    let mut out = Vec::new();
    let mut active = Active::default();
    let mut at = start;
    let mut i = 0;
    while at < end {
        while let Some((pfn, begins, hold, name)) = edges.get(i)
            && *pfn <= at
        {
            active.change(hold, name, *begins);
            i += 1;
        }
        let to = edges.get(i).map_or(end, |e| e.0);
        out.push(Stretch {
            start: at,
            end: to,
            held: active.held(),
        });
        at = to;
    }
    out
}

/// What holds the pages at one point: every edge changes one hold, so that many holds over the
/// same pages cost no more than few.
#[derive(Default)]
struct Active {
    counts: Held,
    large_entries: u64,
    poisons: u64,
    /// How often each count of sharers is there.
    shares: BTreeMap<u64, u64>,
    /// How often each distance of an index from its frame number is there.
    aheads: BTreeMap<i128, u64>,
    who: BTreeMap<Arc<str>, u64>,
}

impl Active {
    fn change(&mut self, hold: &Hold, name: &Arc<str>, begins: bool) {
        let step = |n: &mut u64| match begins {
            true => *n += 1,
            false => *n = n.saturating_sub(1),
        };
        let counts = &mut self.counts;
        match hold.by {
            HoldBy::Pte {} => step(&mut counts.ptes),
            HoldBy::Pmd {} => step(&mut counts.pmds),
            HoldBy::Entry { order } => {
                step(&mut counts.entries);
                if order > 0 {
                    step(&mut self.large_entries);
                }
            }
            HoldBy::Poison {} => step(&mut self.poisons),
            HoldBy::Shared { count } => {
                let n = self.shares.entry(count).or_default();
                step(n);
                if *n == 0 {
                    self.shares.remove(&count);
                }
            }
            // Where a page lies in its file is no holder.
            HoldBy::Index { first } => {
                let ahead = i128::from(first) - i128::from(hold.pfn);
                let n = self.aheads.entry(ahead).or_default();
                step(n);
                if *n == 0 {
                    self.aheads.remove(&ahead);
                }
                return;
            }
            HoldBy::Folio { .. } => {}
            HoldBy::Pin { how } => {
                let of_it = counts.pins.iter_mut().zip(PIN_HOWS);
                of_it
                    .filter(|(_, which)| *which == how)
                    .for_each(|(n, _)| step(n));
            }
        }
        let n = self.who.entry(Arc::clone(name)).or_default();
        step(n);
        if *n == 0 {
            self.who.remove(name);
        }
    }

    fn held(&self) -> Held {
        Held {
            large_entry: self.large_entries > 0,
            share: self.shares.keys().next_back().copied().unwrap_or(0),
            ahead: self.aheads.keys().next_back().copied(),
            poisoned: self.poisons > 0,
            who: self.who.keys().take(MAX_NAMED).cloned().collect(),
            unnamed: self.who.len().saturating_sub(MAX_NAMED),
            ..self.counts.clone()
        }
    }
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

    /// As many as the host takes, each over the pages of all others: without the square of their
    /// number in time or in memory.
    #[test]
    fn holds_over_the_same_pages_cost_no_more_than_apart() {
        let most = proto::MAX_HOLDS as u64;
        let holds: Vec<_> = (0..most)
            .map(|n| pte(n, 2 * most - n, &format!("main/{n:05}")))
            .collect();
        let start = std::time::Instant::now();
        let cut = stretches(0, 2 * most, holds.iter());
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
        let full = cut.iter().map(|s| s.held.ptes).max();
        assert_eq!(full, Some(most));
        assert!(cut.iter().all(|s| s.held.who.len() <= MAX_NAMED));
        assert_eq!(cut[9].held.names().matches("main/").count(), MAX_NAMED);
        assert!(
            cut[9].held.names().ends_with(" and 2 more"),
            "{}",
            cut[9].held.names()
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
