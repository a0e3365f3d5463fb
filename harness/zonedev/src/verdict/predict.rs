//! Contract and claims give every ZONE_DEVICE page one predicted state.

use guestmem::{PageKind, Part, Region};
use proto::{Hold, HoldBy, PageType};

use super::holds::{Held, PIN_HOWS, PMD_PAGES, Stretch, pin_word, stretches};
use crate::record::{CheckpointRecord, PredictedRun};
use crate::spec::{Contract, FolioRule, MapcountRule, MappingRule, PageRules, PinKind, SharedRule};

/// FOLL_PIN on a single page: GUP_PIN_COUNTING_BIAS (include/linux/mm.h).
const PIN_BIAS: i64 = 1024;
/// The largest folio that is predicted: 1G.
const MAX_ORDER: u8 = 18;
/// Folios are as large as the guest says and a region as long: what lies beyond so many runs has
/// no prediction, and a check that leaves pages out is no pass.
const MAX_RUNS: usize = 1 << 19;

/// The kind of page that a contract has rules for.
pub(crate) fn page_type(kind: PageKind) -> Option<PageType> {
    match kind {
        PageKind::Private => Some(PageType::Private),
        PageKind::FsDax => Some(PageType::Fsdax),
        PageKind::Generic => Some(PageType::Devdax),
        PageKind::Coherent => Some(PageType::Coherent),
        PageKind::PciP2pdma => Some(PageType::P2pdma),
        PageKind::Unknown(_) => None,
    }
}

/// First page of a region that has a struct page in use, and one past its last.
pub(crate) fn data_range(region: &Region) -> (u64, u64) {
    let end = region.start_pfn.saturating_add(region.pages);
    (
        region
            .start_pfn
            .saturating_add(region.metadata_pages)
            .min(end),
        end,
    )
}

/// Order of the compound pages that a devdax namespace's alignment makes.
fn align_order(region: &Region, checkpoint: &CheckpointRecord) -> u8 {
    let (start, end) = data_range(region);
    let named = checkpoint.claims.namespaces.iter().find(|n| {
        let inside = |(first, _): (u64, u64)| (start..end).contains(&(first / 4096));
        n.mode == "devdax" && n.align >= 4096 && n.pieces().into_iter().any(inside)
    });
    let order = match named {
        Some(n) => (n.align / 4096).ilog2() as u8,
        None => region.pgmap.vmemmap_shift,
    };
    order.min(MAX_ORDER)
}

/// The prediction of every page of every region whose kind the contract covers, ascending. Pages
/// beyond the first half million runs have none.
pub fn predict(checkpoint: &CheckpointRecord, contract: &Contract) -> Vec<PredictedRun> {
    let mut out = Vec::new();
    for region in &checkpoint.pages.regions {
        let Some(page_type) = page_type(region.kind) else {
            continue;
        };
        let Some(rules) = contract.rules(page_type) else {
            continue;
        };
        let holds = || {
            checkpoint
                .claims
                .holds
                .iter()
                .filter(|h| h.page_type == page_type)
        };
        let (start, end) = data_range(region);
        let stretches = stretches(start, end, holds());
        let first = out.len();
        match rules.folio {
            FolioRule::None => predict_region(rules, &stretches, std::iter::empty(), &mut out),
            rule @ (FolioRule::Entry | FolioRule::Stale) => {
                let folios = held_folios(start, end, rule, holds());
                predict_region(rules, &stretches, folios.into_iter(), &mut out);
            }
            FolioRule::Align => {
                let order = align_order(region, checkpoint);
                let folios = align_folios(start, end, order);
                predict_region(rules, &stretches, folios, &mut out);
            }
        }
        // What pages of processes migrate to takes their charge with them, and gives it up where the
        // last reference goes (mem_cgroup_migrate(), mem_cgroup_uncharge()); no other is charged.
        let migrated = matches!(page_type, PageType::Private | PageType::Coherent);
        let whole = |run: &&mut PredictedRun| run.part != Some(Part::Tail);
        for run in out[first..].iter_mut().filter(whole) {
            run.charged = Some(migrated && !is_free(rules, run));
            run.exclusive = exclusive(rules, run).filter(|_| migrated);
        }
    }
    if checkpoint.claims.poison_unknown {
        out.iter_mut().for_each(|run| run.poisoned = None);
    }
    out
}

/// First page and order.
type Folio = (u64, u8);

/// The folios that claims name: a file's entries, or device-private ones.
fn held_folios<'a>(
    start: u64,
    end: u64,
    rule: FolioRule,
    holds: impl Iterator<Item = &'a Hold>,
) -> Vec<Folio> {
    let mut out: Vec<Folio> = holds
        .filter_map(|h| match (rule, h.by) {
            (FolioRule::Entry, HoldBy::Entry { order })
            | (FolioRule::Stale, HoldBy::Folio { order }) => Some((h.pfn, order)),
            _ => None,
        })
        .filter(|(_, order)| (1..=MAX_ORDER).contains(order))
        .filter(|(pfn, order)| {
            *pfn >= start && pfn.checked_add(1 << order).is_some_and(|last| last <= end)
        })
        .collect();
    out.sort_unstable();
    let mut free_from = start;
    out.retain(|(pfn, order)| {
        let fits = *pfn >= free_from;
        if fits {
            free_from = pfn + (1 << order);
        }
        fits
    });
    out
}

fn align_folios(start: u64, end: u64, order: u8) -> impl Iterator<Item = Folio> {
    let size = 1u64 << order;
    let count = match order {
        0 => 0,
        _ => end.saturating_sub(start) / size,
    };
    (0..count).map(move |n| (start + n * size, order))
}

fn predict_region(
    rules: &PageRules,
    stretches: &[Stretch],
    folios: impl Iterator<Item = Folio>,
    out: &mut Vec<PredictedRun>,
) {
    let mut folios = folios.peekable();
    let mut i = 0;
    let mut at = stretches.first().map_or(0, |s| s.start);
    while let (Some(stretch), true) = (stretches.get(i), out.len() < MAX_RUNS) {
        if at >= stretch.end {
            i += 1;
            continue;
        }
        match folios.peek().copied() {
            Some((head, order)) if head <= at => {
                folios.next();
                let end = head + (1 << order);
                let mut last = i;
                while stretches.get(last).is_some_and(|s| s.end < end) {
                    last += 1;
                }
                let within = &stretches[i..(last + 1).min(stretches.len())];
                predict_folio(rules, head, order, within, out);
                at = end;
            }
            next => {
                let end = next.map_or(stretch.end, |(head, _)| head.min(stretch.end));
                out.push(single(rules, at, end, &stretch.held));
                at = end;
            }
        }
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn mapping(rules: &PageRules, held: &Held) -> Option<bool> {
    match rules.mapping {
        MappingRule::Entry if held.share > 0 => match rules.shared {
            Some(SharedRule::Constant) => Some(true),
            Some(SharedRule::Null) => Some(false),
            None => None,
        },
        MappingRule::Entry => Some(held.entries > 0),
        MappingRule::SinceFault | MappingRule::Mapped if held.ptes + held.pmds > 0 => Some(true),
        // What looks like a tail of its last folio has other things there.
        MappingRule::Mapped if held.is_free() && rules.folio != FolioRule::Stale => Some(false),
        MappingRule::SinceFault | MappingRule::Mapped | MappingRule::Unchecked => None,
    }
}

/// Whether no reference is left but the idle one.
fn is_free(rules: &PageRules, run: &PredictedRun) -> bool {
    run.refcount <= i64::from(rules.idle)
}

/// A free page is nobody's own (free_zone_device_folio()), nor is one that several map
/// (page_try_share_anon_rmap()). It stays somebody's own where only pins are left.
fn exclusive(rules: &PageRules, run: &PredictedRun) -> Option<bool> {
    // The head of a large folio may be, of which other pages are mapped.
    let shared = run.part == Some(Part::Single) && run.mapcount > 1;
    (is_free(rules, run) || shared).then_some(false)
}

/// `share` of a page, where the kernel keeps it.
fn share(rules: &PageRules, held: &Held) -> Option<u64> {
    rules.shared.map(|_| held.share)
}

/// `index` where the pages are known to belong to one file or device (dax_associate_entry(),
/// dax_set_mapping()).
fn index(rules: &PageRules, held: &Held, pfn: u64) -> Option<u64> {
    if mapping(rules, held) != Some(true) || held.share > 0 {
        return None;
    }
    u64::try_from(held.ahead? + i128::from(pfn)).ok()
}

fn single(rules: &PageRules, start: u64, end: u64, held: &Held) -> PredictedRun {
    let mut sum = Sum::new(rules, PIN_BIAS);
    if rules.idle_handed_over && held.ptes + held.pmds > 0 {
        sum.handed_over();
    }
    sum.add(held.ptes, rules.pte, "PTE");
    sum.add(held.pmds, rules.pmd, "PMD");
    sum.pins(rules, &held.pins);
    PredictedRun {
        pfn: start,
        pages: end - start,
        refcount: sum.value,
        mapcount: match rules.mapcount {
            MapcountRule::None => 0,
            MapcountRule::Counted => signed(held.ptes),
        },
        large_mapcount: None,
        pincount: None,
        order: 0,
        part: (rules.folio != FolioRule::Stale || !held.is_free()).then_some(Part::Single),
        mapping: mapping(rules, held),
        share: share(rules, held),
        charged: None,
        exclusive: None,
        index: index(rules, held, start),
        poisoned: Some(held.poisoned),
        because: sum.because(),
        held_by: held.names(),
    }
}

fn predict_folio(
    rules: &PageRules,
    head: u64,
    order: u8,
    stretches: &[Stretch],
    out: &mut Vec<PredictedRun>,
) {
    let end = head + (1 << order);
    let within = || {
        stretches.iter().filter_map(move |s| {
            let (from, to) = (s.start.max(head), s.end.min(end));
            (from < to).then_some((from, to, &s.held))
        })
    };
    let (mut ptes, mut pmd_pages, mut pins) = (0u64, 0u64, [0u64; PIN_HOWS.len()]);
    for (from, to, held) in within() {
        let pages = to - from;
        ptes = ptes.saturating_add(held.ptes.saturating_mul(pages));
        pmd_pages = pmd_pages.saturating_add(held.pmds.saturating_mul(pages));
        for (sum, n) in pins.iter_mut().zip(held.pins) {
            *sum = sum.saturating_add(n.saturating_mul(pages));
        }
    }
    let pmds = pmd_pages.div_ceil(PMD_PAGES);
    let mut sum = Sum::new(rules, 1);
    sum.add(ptes, rules.pte, "PTE");
    sum.add(pmds, rules.pmd, "PMD");
    sum.pins(rules, &pins);
    let counted = rules.mapcount == MapcountRule::Counted;
    let pinned: u64 = PIN_HOWS
        .iter()
        .zip(pins)
        .filter(|(how, _)| rules.pin(**how) == PinKind::Pin)
        .map(|(_, n)| n)
        .sum();
    for (from, to, held) in within() {
        let common = PredictedRun {
            pfn: from,
            pages: to - from,
            refcount: i64::from(rules.tail),
            mapcount: if counted { signed(held.ptes) } else { 0 },
            large_mapcount: None,
            pincount: None,
            order,
            part: Some(Part::Tail),
            // The tails of an anonymous folio have other things there.
            mapping: mapping(rules, held).filter(|_| rules.mapping != MappingRule::Mapped),
            share: share(rules, held),
            charged: None,
            exclusive: None,
            index: None,
            poisoned: Some(false),
            because: format!("a tail {}", rules.tail),
            held_by: held.names(),
        };
        if from > head {
            out.push(common);
            continue;
        }
        out.push(PredictedRun {
            pages: 1,
            refcount: sum.value,
            large_mapcount: Some(if counted {
                signed(ptes.saturating_add(pmds))
            } else {
                0
            }),
            pincount: Some(signed(pinned)),
            part: Some(Part::Head),
            mapping: mapping(rules, held),
            index: index(rules, held, from),
            // The head is marked, whichever page failed (mf_generic_kill_procs()).
            poisoned: Some(within().any(|(_, _, held)| held.poisoned)),
            because: sum.because(),
            ..common.clone()
        });
        if to - from > 1 {
            out.push(PredictedRun {
                pfn: from + 1,
                pages: to - from - 1,
                ..common
            });
        }
    }
}

/// A refcount and its explanation, as both grow.
struct Sum {
    value: i64,
    because: String,
    /// Holders that count nothing, told last.
    uncounted: String,
    bias: i64,
}

impl Sum {
    fn new(rules: &PageRules, bias: i64) -> Sum {
        let because = format!("idle {}", rules.idle);
        Sum {
            value: i64::from(rules.idle),
            because,
            uncounted: String::new(),
            bias,
        }
    }

    /// The idle reference is not there while somebody else has the page.
    fn handed_over(&mut self) {
        self.value = 0;
        self.because = "handed out".into();
    }

    fn because(&self) -> String {
        format!("{}{}", self.because, self.uncounted)
    }

    fn add(&mut self, n: u64, each: i32, what: &str) {
        self.add_each(n, i64::from(each), what, "");
    }

    fn add_each(&mut self, n: u64, each: i64, what: &str, kind: &str) {
        if n == 0 {
            return;
        }
        self.value = self.value.saturating_add(signed(n).saturating_mul(each));
        match each {
            0 => self.uncounted += &format!(", {n} {what}{kind} counting 0"),
            1 => self.because += &format!(" + {n} {what}{kind}"),
            _ => self.because += &format!(" + {n} {what}{kind} x {each}"),
        }
    }

    fn pins(&mut self, rules: &PageRules, pins: &[u64; PIN_HOWS.len()]) {
        for (how, n) in PIN_HOWS.into_iter().zip(*pins) {
            let (each, kind) = match rules.pin(how) {
                PinKind::Get => (1, " (get)"),
                PinKind::Pin => (self.bias, " (pin)"),
            };
            self.add_each(n, each, pin_word(how), kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::check::tests::contract;
    use super::*;
    use crate::record::testing::{checkpoint, region, state};

    /// A pgmap may claim nearly all physical addresses, in folios of two pages each.
    #[test]
    fn a_region_as_long_as_the_guest_likes_is_predicted_in_part_and_told() {
        let mut long = region(PageKind::Generic, "dax0.0", 0x100200, &[state(1)]);
        long.pages = 1 << 39;
        long.runs[0].pages = long.pages;
        long.pgmap.vmemmap_shift = 1;
        let c = checkpoint("x", vec![long], Vec::new());
        let contract = contract("7.3");
        assert!((MAX_RUNS..MAX_RUNS + 4).contains(&predict(&c, &contract).len()));
        let checked = check(&c, &contract);
        assert!(checked.predicted < checked.pages);
    }
}
