//! The contract check of one checkpoint.

use std::collections::HashMap;

use guestmem::{PageRun, Region};
use proto::{Hold, HoldBy, PageType, PinHow};

use super::holds::{PIN_HOWS, PMD_PAGES, pin_word};
use super::predict::{data_range, page_type, predict};
use crate::record::{
    CheckpointRecord, PredictedRun, Violation, kind_word, part_words, region_name,
};
use crate::spec::{Contract, PinKind, PinRule};

/// Violations kept of one checkpoint; a wild guest could make one per page.
const MAX_VIOLATIONS: usize = 256;

/// Flags of pages that the allocator, the LRU lists, slab or an I/O have: no ZONE_DEVICE page at
/// rest. (A free page of the buddy allocator would have a mapcount.)
const NEVER: [&str; 5] = ["lru", "mlocked", "slab", "locked", "writeback"];
/// What __init_zone_device_page() sets, so that nothing takes the page for one of RAM.
const ALWAYS: &str = "reserved";
/// PG_anon_exclusive, by the names that its bit has had.
const EXCLUSIVE: [&str; 3] = ["anon_exclusive", "owner_2", "mappedtodisk"];
const AT_REST: &str = "a ZONE_DEVICE page at rest";

/// What a check found, and how much it could check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Everything that is not as contract and claims say.
    pub violations: Vec<Violation>,
    /// Pages that were read and had a prediction.
    pub predicted: u64,
    /// All pages of all regions, without metadata. Less predicted than this is not a pass.
    pub pages: u64,
}

/// Compares every page of a checkpoint with its one predicted state, and the claims with what
/// was read.
pub fn check(checkpoint: &CheckpointRecord, contract: &Contract) -> Checked {
    let mut found = Found::new(&checkpoint.name);
    let mut checked = Checked::default();
    for problem in &checkpoint.pages.problems {
        found.add(
            "the reading",
            problem.pfn,
            None,
            problem.pages,
            Broken {
                what: "reading".into(),
                expected: "every page read".into(),
                found: problem.what.clone(),
                because: "a reading that isn't whole can't be judged".into(),
            },
        );
    }
    check_holds(checkpoint, contract, &mut found);
    for m in &checkpoint.claims.mismatches {
        found.add(
            &m.who,
            None,
            Some(m.page),
            m.pages,
            Broken {
                what: m.what.clone(),
                expected: m.predicted.clone(),
                found: m.found.clone(),
                because: "the operations before".into(),
            },
        );
    }
    check_pins(checkpoint, contract, &mut found);
    let predicted = predict(checkpoint, contract);
    for region in &checkpoint.pages.regions {
        let (start, end) = data_range(region);
        checked.pages += end - start;
        if page_type(region.kind)
            .and_then(|t| contract.rules(t))
            .is_none()
        {
            found.add(
                &region_name(region),
                Some(start),
                Some(start - region.start_pfn),
                end - start,
                Broken {
                    what: "kind of page".into(),
                    expected: "a kind that the contract covers".into(),
                    found: kind_word(region.kind),
                    because: "no page goes unchecked".into(),
                },
            );
            continue;
        }
        let from = predicted.partition_point(|p| p.pfn < start);
        let to = predicted.partition_point(|p| p.pfn < end);
        checked.predicted += compare(region, &predicted[from..to.max(from)], &mut found);
    }
    checked.violations = found.finish();
    checked
}

/// Two sorted lists of runs side by side; gives the number of pages that both name.
fn compare(region: &Region, predicted: &[PredictedRun], found: &mut Found) -> u64 {
    let name = region_name(region);
    let (start, end) = data_range(region);
    let mut compared = 0;
    let mut at = start;
    let mut expected = predicted.iter().peekable();
    let unread = |found: &mut Found, from: u64, to: u64| {
        if from < to {
            found.add(
                &name,
                Some(from),
                Some(from - region.start_pfn),
                to - from,
                Broken {
                    what: "reading".into(),
                    expected: "every page read".into(),
                    found: "pages without an observation".into(),
                    because: "a reading that isn't whole can't be judged".into(),
                },
            );
        }
    };
    for run in &region.runs {
        let run_end = run.pfn.saturating_add(run.pages).min(end);
        let run_start = run.pfn.max(at);
        unread(found, at, run_start.min(end));
        let mut pfn = run_start;
        while pfn < run_end {
            let Some(e) = expected.peek() else { break };
            let e_end = e.pfn.saturating_add(e.pages);
            if e_end <= pfn {
                expected.next();
                continue;
            }
            let to = e_end.min(run_end);
            if run.state.absent {
                found.add(
                    &name,
                    Some(pfn),
                    Some(pfn - region.start_pfn),
                    to - pfn,
                    Broken {
                        what: "struct page".into(),
                        expected: "present".into(),
                        found: "absent".into(),
                        because: "each page of a region has one".into(),
                    },
                );
            } else {
                compared += to - pfn;
                for broken in broken(run, e) {
                    found.add(
                        &name,
                        Some(pfn),
                        Some(pfn - region.start_pfn),
                        to - pfn,
                        broken,
                    );
                }
            }
            pfn = to;
        }
        at = at.max(run_end);
    }
    unread(found, at, end);
    compared
}

/// What of a page's state is not as predicted.
pub(crate) fn broken(run: &PageRun, e: &PredictedRun) -> Vec<Broken> {
    let s = &run.state;
    let mut out = Vec::new();
    let mut differ = |what: &str, expected: String, found: String, because: &str| {
        if expected != found {
            out.push(Broken {
                what: what.into(),
                expected,
                found,
                because: because.into(),
            });
        }
    };
    if e.refcount != i64::from(s.refcount) {
        differ(
            "refcount",
            e.refcount.to_string(),
            s.refcount.to_string(),
            &e.because,
        );
    }
    let holders = if e.held_by.is_empty() {
        "nothing holds it"
    } else {
        &e.held_by
    };
    if e.mapcount != i64::from(s.mapcount) {
        differ(
            "mapcount",
            e.mapcount.to_string(),
            s.mapcount.to_string(),
            holders,
        );
    }
    if let (Some(expected), Some(found)) = (e.large_mapcount, s.large_mapcount) {
        differ(
            "large mapcount",
            expected.to_string(),
            found.to_string(),
            holders,
        );
    }
    match (e.pincount, s.pincount) {
        (Some(expected), Some(found)) => {
            differ(
                "pincount",
                expected.to_string(),
                found.to_string(),
                &e.because,
            );
        }
        (Some(expected), None) if expected > 0 => {
            differ(
                "pincount",
                expected.to_string(),
                "not counted".into(),
                &e.because,
            );
        }
        _ => {}
    }
    if let Some(part) = e.part
        && (part, e.order) != (s.part, s.order)
    {
        differ(
            "folio",
            part_words(part, e.order),
            part_words(s.part, s.order),
            holders,
        );
    }
    if let Some(set) = e.mapping
        && set != s.mapping_set
    {
        let word = |set: bool| if set { "set" } else { "NULL" }.to_owned();
        differ("mapping", word(set), word(s.mapping_set), holders);
    }
    if let (Some(expected), Some(found)) = (e.charged, s.charged) {
        let word = |charged: bool| match charged {
            true => "charged",
            false => "not charged",
        };
        differ(
            "memory control group",
            word(expected).into(),
            word(found).into(),
            holders,
        );
    }
    if e.exclusive == Some(false) && EXCLUSIVE.into_iter().any(|f| s.flags.contains(f)) {
        differ(
            "flags",
            "no anon_exclusive".into(),
            "anon_exclusive".into(),
            holders,
        );
    }
    let wrong: Vec<&str> = NEVER.into_iter().filter(|f| s.flags.contains(*f)).collect();
    if !wrong.is_empty() {
        differ(
            "flags",
            format!("no {}", NEVER.join(", ")),
            wrong.join(", "),
            AT_REST,
        );
    }
    if !s.flags.contains(ALWAYS) {
        differ("flags", ALWAYS.into(), format!("no {ALWAYS}"), AT_REST);
    }
    // Both count on from the first page of their runs.
    let ahead = |index: u64, pfn: u64| i128::from(index) - i128::from(pfn);
    if let (Some(expected), Some(found)) = (e.index, run.index) {
        let off = ahead(found, run.pfn) - ahead(expected, e.pfn);
        if off != 0 {
            let found = format!("{off:+} pages");
            differ("index", "as in the file".into(), found, holders);
        }
    }
    let word = |set: bool| if set { "set" } else { "clear" }.to_owned();
    if let Some(expected) = e.poisoned {
        let poisoned = s.flags.contains("hwpoison");
        differ("hwpoison", word(expected), word(poisoned), holders);
    }
    if let Some(share) = e.share {
        let word = |n: Option<u64>| match n {
            None => "not shared".to_owned(),
            Some(n) => format!("shared by {n}"),
        };
        let expected = Some(share).filter(|n| *n > 0);
        differ("share", word(expected), word(s.share), holders);
    }
    out
}

/// Each claim must lie in one region of its kind, and be one that the contract knows.
fn check_holds(checkpoint: &CheckpointRecord, contract: &Contract, found: &mut Found) {
    for hold in &checkpoint.claims.holds {
        let end = hold.pfn.saturating_add(hold.pages);
        let region = checkpoint.pages.regions.iter().find(|r| {
            let (from, to) = data_range(r);
            hold.pfn >= from && end <= to && hold.pages > 0
        });
        let mut wrong = |what: &str, expected: String, is: String| {
            let region_words = region.map_or_else(|| "claims".to_owned(), region_name);
            let offset = region.map(|r| hold.pfn - r.start_pfn);
            found.add(
                &region_words,
                Some(hold.pfn),
                offset,
                hold.pages,
                Broken {
                    what: what.into(),
                    expected,
                    found: is,
                    because: format!("claimed by {}", hold.who),
                },
            );
        };
        match region.map(|r| r.kind) {
            None => wrong(
                "claim",
                "a range within one region".into(),
                "no such region".into(),
            ),
            Some(kind) if page_type(kind) != Some(hold.page_type) => {
                wrong("claim", type_word(hold.page_type).into(), kind_word(kind));
            }
            Some(_) => {}
        }
        if let HoldBy::Pin { how } = hold.by
            && let Some(rules) = contract.rules(hold.page_type)
            && rules.pins != PinRule::Allowed
        {
            let expected = match rules.pins {
                PinRule::Refused => "refused",
                PinRule::Bug => "the caller dead of it",
                _ => "the page moved back to RAM first",
            };
            wrong("pin", expected.into(), format!("held by {}", pin_word(how)));
        }
        if !whole(hold) {
            wrong("claim", "whole 2M stretches".into(), "a part of one".into());
        }
    }
}

/// Whether a hold by PMD entries or large DAX entries covers whole ones.
fn whole(hold: &Hold) -> bool {
    let size = match hold.by {
        HoldBy::Pmd {} => PMD_PAGES,
        HoldBy::Entry { order } | HoldBy::Folio { order } => match 1u64.checked_shl(order.into()) {
            Some(size) => size,
            None => return false,
        },
        _ => 1,
    };
    hold.pfn.is_multiple_of(size) && hold.pages.is_multiple_of(size)
}

fn type_word(page_type: PageType) -> &'static str {
    match page_type {
        PageType::Fsdax => "FS_DAX",
        PageType::Devdax => "GENERIC",
        PageType::Private => "PRIVATE",
        PageType::Coherent => "COHERENT",
        PageType::P2pdma => "PCI_P2PDMA",
    }
}

/// As many FOLL_PIN references are out as the claims hold.
fn check_pins(checkpoint: &CheckpointRecord, contract: &Contract, found: &mut Found) {
    let Some(out) = pins_out(checkpoint) else {
        return;
    };
    let held: i64 = checkpoint
        .claims
        .holds
        .iter()
        .filter(|h| match h.by {
            HoldBy::Pin { how } => {
                let rules = contract.rules(h.page_type);
                PIN_HOWS.contains(&how) && rules.is_some_and(|r| r.pin(how) == PinKind::Pin)
            }
            _ => false,
        })
        .map(|h| i64::try_from(h.pages).unwrap_or(i64::MAX))
        .fold(0, i64::saturating_add);
    let in_ram = checkpoint
        .claims
        .pins_in_ram
        .iter()
        .filter(|(how, _)| ram_pin(contract, **how) == PinKind::Pin)
        .map(|(_, pages)| i64::try_from(*pages).unwrap_or(i64::MAX))
        .fold(0, i64::saturating_add);
    let held = held.saturating_add(in_ram);
    if out != held {
        found.add(
            "vmstat",
            None,
            None,
            0,
            Broken {
                what: "pins balanced".into(),
                expected: format!("{held} out"),
                found: format!("{out} out"),
                because: "nr_foll_pin_acquired - nr_foll_pin_released against the pins claimed"
                    .into(),
            },
        );
    }
}

/// What a pin takes on pages of RAM: as of a file's pages, and long-term ones have been FOLL_PIN
/// since there is that (5.6).
fn ram_pin(contract: &Contract, how: PinHow) -> PinKind {
    match how.is_longterm() {
        true => PinKind::Pin,
        false => contract.fsdax.pin(how),
    }
}

/// FOLL_PIN references that are out, where the kernel counts them.
pub(crate) fn pins_out(checkpoint: &CheckpointRecord) -> Option<i64> {
    let counters = &checkpoint.claims.counters;
    let acquired = counters.get("nr_foll_pin_acquired")?;
    let released = counters.get("nr_foll_pin_released")?;
    Some(acquired.saturating_sub(*released))
}

/// What is wrong, without the place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    pub(crate) what: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    because: String,
}

/// Collects violations; those that say the same of one region become one.
struct Found {
    checkpoint: String,
    list: Vec<(Violation, u64)>,
    known: HashMap<(String, Broken), usize>,
    left_out: u64,
}

impl Found {
    fn new(checkpoint: &str) -> Found {
        Found {
            checkpoint: checkpoint.to_owned(),
            list: Vec::new(),
            known: HashMap::new(),
            left_out: 0,
        }
    }

    fn add(
        &mut self,
        region: &str,
        pfn: Option<u64>,
        offset: Option<u64>,
        pages: u64,
        broken: Broken,
    ) {
        let place = pfn.or(offset);
        let end = place.unwrap_or(0).saturating_add(pages);
        let key = (region.to_owned(), broken);
        if place.is_some()
            && let Some((v, last)) = self.known.get(&key).and_then(|i| self.list.get_mut(*i))
        {
            v.ranges += u64::from(Some(*last) != place);
            v.pages = v.pages.saturating_add(pages);
            *last = end;
            return;
        }
        if self.list.len() >= MAX_VIOLATIONS {
            self.left_out += 1;
            return;
        }
        let (region, b) = key.clone();
        self.known.insert(key, self.list.len());
        let violation = Violation {
            checkpoint: self.checkpoint.clone(),
            region,
            pfn,
            offset,
            pages,
            ranges: 1,
            what: b.what,
            expected: b.expected,
            found: b.found,
            because: b.because,
        };
        self.list.push((violation, end));
    }

    fn finish(self) -> Vec<Violation> {
        let mut out: Vec<Violation> = self.list.into_iter().map(|(v, _)| v).collect();
        if self.left_out > 0 {
            out.push(Violation {
                checkpoint: self.checkpoint,
                region: "the check".into(),
                pfn: None,
                offset: None,
                pages: 0,
                ranges: 1,
                what: "further violations".into(),
                expected: "none".into(),
                found: self.left_out.to_string(),
                because: format!("only {MAX_VIOLATIONS} kinds are told"),
            });
        }
        out
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
pub(crate) mod tests;

#[cfg(test)]
#[path = "index_tests.rs"]
mod index_tests;
