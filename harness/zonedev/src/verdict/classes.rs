//! The pages of a checkpoint in classes: what holds them, and in which state they are. Offsets
//! and frames play no part, so that two boots and two kernels can be compared.

use std::collections::BTreeMap;

use guestmem::{PageKind, PageState, Part};

use super::holds::{Held, PIN_HOWS, pin_word, stretches};
use super::predict::{data_range, page_type};
use crate::record::{CheckpointRecord, kind_word, part_words};

/// How many pages of a class are in which state.
pub(crate) type Histogram<K> = BTreeMap<K, u64>;

/// What of a state is the same in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) refcount: i32,
    pub(crate) mapcount: i32,
    pub(crate) pincount: i32,
    pub(crate) part: String,
    pub(crate) mapping: bool,
    pub(crate) share: u64,
    pub(crate) poisoned: bool,
    pub(crate) absent: bool,
}

impl Seen {
    fn new(s: &PageState) -> Seen {
        if s.absent {
            return Seen {
                refcount: 0,
                mapcount: 0,
                pincount: 0,
                part: String::new(),
                mapping: false,
                share: 0,
                poisoned: false,
                absent: true,
            };
        }
        Seen {
            refcount: s.refcount,
            mapcount: s.large_mapcount.unwrap_or(s.mapcount),
            pincount: s.pincount.unwrap_or(0),
            part: part_words(s.part, s.order),
            mapping: s.mapping_set,
            share: s.share.unwrap_or(0),
            poisoned: s.flags.contains("hwpoison"),
            absent: false,
        }
    }

    /// Refcount first, then whatever isn't as in a plain page.
    pub(crate) fn words(&self) -> String {
        if self.absent {
            return "no struct page".into();
        }
        let mut out = format!("refcount {}", self.refcount);
        if self.mapcount != 0 {
            out += &format!(", mapcount {}", self.mapcount);
        }
        if self.pincount != 0 {
            out += &format!(", pincount {}", self.pincount);
        }
        if self.part != "a single page" {
            out += &format!(", {}", self.part);
        }
        if self.mapping {
            out += ", mapping set";
        }
        if self.share != 0 {
            out += &format!(", shared by {}", self.share);
        }
        if self.poisoned {
            out += ", hwpoison";
        }
        out
    }
}

/// What holds the pages of a class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    /// By name: `a (2M entry), main/m (PMD)`; empty where nothing does.
    pub(crate) named: String,
    /// By sort: `mapped once (PMD)`, `idle`; the same across cases.
    pub(crate) sort: String,
}

/// All pages of one kind at a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KindPages {
    /// Owners of the regions, sorted, each once.
    pub(crate) owners: Vec<String>,
    /// Pages, metadata left out.
    pub(crate) pages: u64,
    /// Pages by class and state.
    pub(crate) classes: BTreeMap<Class, Histogram<Seen>>,
}

/// The pages of a checkpoint by kind.
pub(crate) fn classify(checkpoint: &CheckpointRecord) -> BTreeMap<String, KindPages> {
    let mut out: BTreeMap<String, KindPages> = BTreeMap::new();
    for region in &checkpoint.pages.regions {
        let (start, end) = data_range(region);
        let kind = out.entry(kind_word(region.kind)).or_default();
        kind.pages += end - start;
        kind.owners.extend(region.owner.clone());
        let wanted = page_type(region.kind);
        let holds = checkpoint
            .claims
            .holds
            .iter()
            .filter(|h| Some(h.page_type) == wanted);
        let stretches = stretches(start, end, holds);
        let mut i = 0;
        for run in &region.runs {
            let run_end = run.pfn.saturating_add(run.pages).min(end);
            let mut at = run.pfn.max(start);
            while at < run_end {
                let Some(stretch) = stretches.get(i) else {
                    break;
                };
                if stretch.end <= at {
                    i += 1;
                    continue;
                }
                let to = stretch.end.min(run_end);
                let class = Class {
                    named: stretch.held.names(),
                    sort: sort(&stretch.held, region.kind),
                };
                let mut seen = Seen::new(&run.state);
                if stretch.held.is_free() && is_stale(region.kind) && !seen.absent {
                    seen.part = part_words(Part::Single, 0);
                }
                let states = kind.classes.entry(class).or_default();
                *states.entry(seen).or_default() += to - at;
                at = to;
            }
        }
    }
    for kind in out.values_mut() {
        kind.owners.sort();
        kind.owners.dedup();
    }
    out
}

/// Whether free pages of this kind may still look like parts of the folio that they last belonged
/// to (see `FolioRule::Stale`): which of them do depends on the order in which they were used.
fn is_stale(kind: PageKind) -> bool {
    matches!(kind, PageKind::Private | PageKind::Coherent)
}

fn times(n: u64) -> String {
    match n {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}

/// What holds a page, without names.
fn sort(held: &Held, kind: PageKind) -> String {
    let mut parts = Vec::new();
    if held.ptes > 0 && kind == PageKind::Private {
        parts.push(format!("mapped {} (swap entry)", times(held.ptes)));
    } else if held.ptes > 0 {
        parts.push(format!("mapped {} (PTE)", times(held.ptes)));
    }
    if held.pmds > 0 {
        parts.push(format!("mapped {} (PMD)", times(held.pmds)));
    }
    for (how, n) in PIN_HOWS.into_iter().zip(held.pins) {
        if n > 0 {
            parts.push(format!("pinned {} ({})", times(n), pin_word(how)));
        }
    }
    if held.large_entry && held.pmds == 0 {
        parts.push("in a DAX entry of 2M".into());
    } else if held.entries > 0 && parts.is_empty() {
        parts.push("in a DAX entry only".into());
    }
    if parts.is_empty() {
        "idle".into()
    } else {
        parts.join(", ")
    }
}
