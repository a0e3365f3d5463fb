//! Joins neighbouring pages in the same state into runs.

use crate::reading::{Flags, PageRun, PageState, Part};
use std::collections::{BTreeSet, HashMap};

/// A page's state, before names are given to its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) flags: u64,
    pub(crate) refcount: i32,
    pub(crate) mapcount: i32,
    pub(crate) large_mapcount: Option<i32>,
    pub(crate) pincount: Option<i32>,
    pub(crate) order: u8,
    pub(crate) part: Part,
    pub(crate) mapping_set: bool,
    pub(crate) share: Option<u64>,
    pub(crate) charged: Option<bool>,
    /// `index` less the page's frame number, wrapped, where it means something: the same for
    /// neighbours in a file.
    pub(crate) index: Option<u64>,
    pub(crate) absent: bool,
}

impl Raw {
    /// No struct page.
    pub(crate) const ABSENT: Raw = Raw {
        flags: 0,
        refcount: 0,
        mapcount: 0,
        large_mapcount: None,
        pincount: None,
        order: 0,
        part: Part::Single,
        mapping_set: false,
        share: None,
        charged: None,
        index: None,
        absent: true,
    };
}

/// Gives names to flag bits, each combination once.
pub(crate) struct FlagNames<'a> {
    names: &'a [(u32, String)],
    known: HashMap<u64, Flags>,
}

impl<'a> FlagNames<'a> {
    pub(crate) fn new(names: &'a [(u32, String)]) -> FlagNames<'a> {
        FlagNames {
            names,
            known: HashMap::new(),
        }
    }

    /// How many combinations there were so far.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    fn name(&mut self, bits: u64) -> Flags {
        let names = self.names;
        let flags = self.known.entry(bits).or_insert_with(|| {
            let set = names.iter().filter(|(bit, _)| bits >> bit & 1 == 1);
            Flags::from(set.map(|(_, name)| name.clone()).collect::<BTreeSet<_>>())
        });
        flags.clone()
    }
}

/// The runs of one region, growing.
#[derive(Default)]
pub(crate) struct Runs {
    done: Vec<PageRun>,
    last: Option<(u64, u64, Raw)>,
}

impl Runs {
    /// Adds `pages` pages from `pfn` on, all in state `raw`; `pfn` is where the last run ended.
    pub(crate) fn add(&mut self, pfn: u64, pages: u64, raw: Raw, names: &mut FlagNames) {
        match &mut self.last {
            Some((_, n, last)) if *last == raw => *n += pages,
            _ => {
                self.flush(names);
                self.last = Some((pfn, pages, raw));
            }
        }
    }

    /// Adds `pages` more in the state of the last.
    pub(crate) fn again(&mut self, pages: u64) {
        if let Some((_, n, _)) = &mut self.last {
            *n += pages;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.done.len() + usize::from(self.last.is_some())
    }

    fn flush(&mut self, names: &mut FlagNames) {
        if let Some((pfn, pages, raw)) = self.last.take() {
            self.done.push(PageRun {
                pfn,
                pages,
                index: raw.index.map(|ahead| pfn.wrapping_add(ahead)),
                state: PageState {
                    refcount: raw.refcount,
                    mapcount: raw.mapcount,
                    large_mapcount: raw.large_mapcount,
                    pincount: raw.pincount,
                    order: raw.order,
                    part: raw.part,
                    mapping_set: raw.mapping_set,
                    share: raw.share,
                    charged: raw.charged,
                    flags: names.name(raw.flags),
                    absent: raw.absent,
                },
            });
        }
    }

    pub(crate) fn finish(mut self, names: &mut FlagNames) -> Vec<PageRun> {
        self.flush(names);
        self.done
    }
}
