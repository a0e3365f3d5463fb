//! What a run has to tell, by sort: blocks whose items stand worst first.

use std::collections::BTreeMap;

use super::fit::Section;
use super::text::{Look, Paint, count, wrap};
use crate::record::{
    CellId, CellVerdict, Difference, KernelRecord, PairRecord, PairVerdict, RunRecord,
};

/// Cells that did not finish which are named.
const UNFINISHED: usize = 3;

/// Items of the form `text`, and `      where` under it.
fn item(text: &str, place: &str, look: &Look) -> String {
    let mut out = String::new();
    wrap(&mut out, "  ", text, look.width);
    if !place.is_empty() {
        wrap(&mut out, "      ", place, look.width);
    }
    out
}

/// Cells of a run that was cut off.
pub(super) fn unfinished(run: &RunRecord, look: &Look) -> Option<Section> {
    if run.unfinished.is_empty() {
        return None;
    }
    let planned = run.unfinished.len() + run.cells.len();
    let head = format!(
        "{} of {} did not finish",
        run.unfinished.len(),
        count(planned, "cell")
    );
    let mut section = Section::new(Paint::Bad, &head, "item", look);
    let names: Vec<String> = run.unfinished.iter().map(ToString::to_string).collect();
    section.item(item(&some(&names, UNFINISHED), "", look));
    Some(section)
}

/// Cells that passed only when they were tried again.
pub(super) fn flaky(run: &RunRecord, look: &Look) -> Option<Section> {
    let head = format!("{} flaky", count(run.flaky.len(), "cell"));
    let mut section = Section::new(Paint::Changed, &head, "cell", look);
    for flake in &run.flaky {
        let text = format!(
            "{} of {} runs did not pass: {}",
            flake.failed, flake.runs, flake.reason
        );
        section.item(item(&text, &format!("in {}", flake.cell), look));
    }
    (!run.flaky.is_empty()).then_some(section)
}

/// Cells that fail by themselves, whichever side they are on.
pub(super) fn failures(run: &RunRecord, look: &Look) -> Option<Section> {
    let mut grouped: Vec<(String, Vec<String>)> = Vec::new();
    let mut failed = 0;
    for (id, verdict) in &run.cells {
        let (reasons, what) = match verdict {
            CellVerdict::Fail { reasons, .. } => (reasons.as_slice(), ""),
            CellVerdict::Error {
                reason,
                host: false,
            } => (std::slice::from_ref(reason), "the harness failed: "),
            CellVerdict::Error { reason, host: true } => {
                (std::slice::from_ref(reason), "the host failed: ")
            }
            CellVerdict::Pass {} | CellVerdict::Skip { .. } => continue,
        };
        failed += 1;
        for reason in reasons {
            let text = format!("{what}{reason}");
            let name = id.to_string();
            match grouped.iter_mut().find(|(t, _)| *t == text) {
                Some((_, cells)) => cells.push(name),
                None => grouped.push((text, vec![name])),
            }
        }
    }
    let head = format!("{} failed", count(failed, "cell"));
    let mut section = Section::new(Paint::Bad, &head, "reason", look);
    for (text, cells) in grouped {
        section.item(item(&text, &format!("in {}", some(&cells, 2)), look));
    }
    (failed > 0).then_some(section)
}

/// The same difference of several cases, told once.
pub(super) struct Group<'a> {
    pub(super) difference: &'a Difference,
    pub(super) pages: Option<(u64, u64)>,
    pub(super) places: Vec<&'a str>,
    cases: Vec<String>,
    /// The cells of the kernels that differ from the baseline.
    pub(super) cells: Vec<&'a CellId>,
}

impl Group<'_> {
    /// `at step 3 pin, step 4 pin`; empty where it is nowhere in particular.
    pub(super) fn at(&self) -> String {
        match self.places.as_slice() {
            [] => String::new(),
            several if several.len() <= 3 => format!("at {}", several.join(", ")),
            several => format!("at {} places", several.len()),
        }
    }
}

pub(super) fn grouped<'a>(pairs: &[&'a PairRecord]) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(u8, &str, &str), Group<'a>> = BTreeMap::new();
    let several = {
        let mut others: Vec<_> = pairs.iter().map(|p| p.other.side).collect();
        others.sort_unstable();
        others.dedup();
        others.len() > 1
    };
    for pair in pairs {
        for d in pair.differences.iter().filter(|d| d.kind != "log-line") {
            let group = groups
                .entry((d.rank, &d.kind, &d.text))
                .or_insert_with(|| Group {
                    difference: d,
                    pages: None,
                    places: Vec::new(),
                    cases: Vec::new(),
                    cells: Vec::new(),
                });
            group.pages = match (group.pages, d.pages) {
                (Some((a, b)), Some((c, e))) => Some((a.min(c), b.max(e))),
                (a, b) => a.or(b),
            };
            if let Some(at) = d.at.as_deref()
                && !group.places.contains(&at)
            {
                group.places.push(at);
            }
            if !group.cells.contains(&&pair.other) {
                group.cells.push(&pair.other);
            }
            let case = if several {
                pair.other.to_string()
            } else {
                pair.other.case_path()
            };
            if !group.cases.contains(&case) {
                group.cases.push(case);
            }
        }
    }
    groups.into_values().collect()
}

/// A number of pages, or from least to most.
pub(super) fn pages_words(pages: Option<(u64, u64)>) -> String {
    match pages {
        None => String::new(),
        Some((least, most)) if least == most => format!("{least} "),
        Some((least, most)) => format!("{least} to {most} "),
    }
}

pub(super) fn some(names: &[String], most: usize) -> String {
    let shown = names
        .iter()
        .take(most)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The differences of pairs, each told once; `None` where there is nothing to tell.
pub(super) fn verdict_block(
    pairs: &[&PairRecord],
    title: &str,
    paint: Paint,
    look: &Look,
) -> Option<Section> {
    let groups = grouped(pairs);
    let quiet = groups.is_empty() && paint != Paint::Bad;
    if pairs.is_empty() || quiet {
        return None;
    }
    let head = format!("{} {title}", count(pairs.len(), "case"));
    let mut section = Section::new(paint, &head, "difference", look);
    for group in &groups {
        let text = format!("{}{}", pages_words(group.pages), group.difference.text);
        let at = match group.at() {
            at if at.is_empty() => at,
            at => format!("{at}, "),
        };
        let cases = match group.cases.len() {
            n if n == pairs.len() && n > 3 => format!("in all {n} cases"),
            n if n > 3 => format!("in {n} cases: {}", some(&group.cases, 2)),
            _ => format!("in {}", group.cases.join(", ")),
        };
        section.item(item(&text, &format!("{at}{cases}"), look));
    }
    if groups.is_empty() {
        let names: Vec<String> = pairs.iter().map(|p| p.other.case_path()).collect();
        section.item(item(&some(&names, 4), "", look));
    }
    Some(section)
}

/// A pair of which one side or both were skipped, which is no fault.
fn one_sided(pair: &PairRecord, skipped: &BTreeMap<&CellId, &str>) -> bool {
    skipped.contains_key(&pair.baseline) || skipped.contains_key(&pair.other)
}

/// Pairs that could not be compared: first those where something went wrong, then those that a
/// kernel skipped, by reason.
pub(super) fn incomparable(run: &RunRecord, look: &Look) -> (Option<Section>, Option<Section>) {
    let skipped: BTreeMap<&CellId, &str> = (run.cells.iter())
        .filter_map(|(id, verdict)| match verdict {
            CellVerdict::Skip { reason } => Some((id, reason.as_str())),
            _ => None,
        })
        .collect();
    let (by_skip, wrong): (Vec<&PairRecord>, Vec<&PairRecord>) = (run.pairs.iter())
        .filter(|p| p.verdict == PairVerdict::Incomparable)
        .partition(|p| one_sided(p, &skipped));
    let wrong = verdict_block(&wrong, "could not be compared", Paint::Bad, look);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for pair in &by_skip {
        let (side, reason) = match (skipped.get(&pair.baseline), skipped.get(&pair.other)) {
            (Some(reason), Some(_)) => ("both skipped", reason),
            (Some(reason), None) => ("the baseline skipped", reason),
            (None, Some(reason)) => ("only the baseline ran", reason),
            (None, None) => continue,
        };
        *reasons.entry(format!("{side}: {reason}")).or_default() += 1;
    }
    let head = format!("{} not compared", count(by_skip.len(), "case"));
    let mut section = Section::new(Paint::Head, &head, "reason", look);
    for (reason, n) in most_first(reasons) {
        section.item(item(&format!("{n}: {reason}"), "", look));
    }
    (wrong, (!by_skip.is_empty()).then_some(section))
}

fn most_first(of: BTreeMap<String, usize>) -> Vec<(String, usize)> {
    let mut all: Vec<(String, usize)> = of.into_iter().collect();
    all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    all
}

/// Kinds of log lines on one side only: for information.
pub(super) fn log_lines(pairs: &[&PairRecord], look: &Look) -> Option<Section> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for d in pairs
        .iter()
        .flat_map(|p| &p.differences)
        .filter(|d| d.kind == "log-line")
    {
        *lines.entry(d.text.clone()).or_default() += 1;
    }
    let head = "other lines in the kernel log (no verdict depends on them)";
    let mut section = Section::new(Paint::Dim, head, "kind", look);
    let none = lines.is_empty();
    for (text, n) in most_first(lines) {
        let times = if n > 1 {
            format!(" (in {n} cases)")
        } else {
            String::new()
        };
        section.item(item(&format!("{text}{times}"), "", look));
    }
    (!none).then_some(section)
}

/// How many skips there are for each reason, and where: `fsdax on 6.12`.
pub(super) fn skips_by_reason(run: &RunRecord) -> BTreeMap<&str, (u64, Vec<String>)> {
    let mut reasons: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for skip in &run.skips {
        let one = reasons.entry(&skip.reason).or_default();
        one.0 += skip.skips;
        let place = format!("{} on {}", skip.suite, skip.contract);
        if !one.1.contains(&place) {
            one.1.push(place);
        }
    }
    reasons
}

/// Skips by reason, those of most tests first.
pub(super) fn skips(run: &RunRecord, look: &Look) -> Option<Section> {
    let total: u64 = run.skips.iter().map(|s| s.skips).sum();
    let head = format!("{} skipped", count(total as usize, "test"));
    let mut section = Section::new(Paint::Head, &head, "reason", look);
    let mut reasons: Vec<_> = skips_by_reason(run).into_iter().collect();
    reasons.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    for (reason, (n, places)) in reasons {
        let text = format!("{n}: {reason} ({})", some(&places, 3));
        section.item(item(&text, "", look));
    }
    (!run.skips.is_empty()).then_some(section)
}

/// Where more was skipped than a suite allows: the run is not green.
pub(super) fn over_ceiling(run: &RunRecord, look: &Look) -> Option<Section> {
    let mut section = Section::new(Paint::Bad, "more skipped than may be", "suite", look);
    for over in &run.over_ceiling {
        let text = format!(
            "{} skipped {} of {}, at most {} may be (suites/{}/skips.toml)",
            over.kernel, over.skips, over.suite, over.ceiling, over.suite
        );
        section.item(item(&text, "", look));
    }
    (!run.over_ceiling.is_empty()).then_some(section)
}

/// What went wrong as stock kernels are known to.
pub(super) fn known(run: &RunRecord, look: &Look) -> Option<Section> {
    let head = format!(
        "{}, known of these kernels",
        count(run.known.len(), "failure")
    );
    let mut section = Section::new(Paint::Head, &head, "reason", look);
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in &run.known {
        let name = format!("{} ({})", one.known.what, one.cell);
        reasons.entry(&one.known.reason).or_default().push(name);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, tests)| std::cmp::Reverse(tests.len()));
    for (reason, tests) in reasons {
        section.item(item(reason, &some(&tests, 2), look));
    }
    (!run.known.is_empty()).then_some(section)
}

/// Loud messages of the run.
pub(super) fn notices(run: &RunRecord, look: &Look) -> Option<Section> {
    let head = count(run.notices.len(), "notice");
    let mut section = Section::new(Paint::Changed, &head, "notice", look);
    for notice in &run.notices {
        section.item(item(notice, "", look));
    }
    (!run.notices.is_empty()).then_some(section)
}

/// Which source a kernel is: what tells it apart from others of its name.
pub(super) fn source_words(kernel: &KernelRecord) -> String {
    let of = |key: &str| kernel.provenance.get(key).cloned();
    let source = of("version")
        .or_else(|| of("commit"))
        .or_else(|| of("release"));
    // Each with its title in such quotes, as far as it has one.
    let patches = of("patches").map(|names| match names.matches('“').count() {
        0 | 1 => "1 patch".to_owned(),
        n => format!("{n} patches"),
    });
    let dirty = of("dirty").map(|_| "uncommitted changes".to_owned());
    let says: Vec<String> = [source, patches, dirty].into_iter().flatten().collect();
    says.join(", ")
}
