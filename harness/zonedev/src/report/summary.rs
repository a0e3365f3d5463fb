//! A run on one screen, worst first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{Look, Paint, count, duration, wrap};
use crate::record::{CellId, CellVerdict, Difference, PairRecord, PairVerdict, RunRecord};

/// Differences shown under one verdict.
const MAX_DIFFERENCES: usize = 14;
/// Failing cells' reasons shown.
const MAX_REASONS: usize = 10;
/// Log-line differences shown in all.
const MAX_LINES: usize = 5;

/// Writes the summary of a run.
pub fn summary(run: &RunRecord, look: &Look) -> String {
    let mut out = String::new();
    head(run, look, &mut out);
    unfinished(run, look, &mut out);
    failures(run, look, &mut out);
    for (verdict, title, paint) in [
        (PairVerdict::Regressed, "regressed", Paint::Bad),
        (
            PairVerdict::Incomparable,
            "could not be compared",
            Paint::Bad,
        ),
        (PairVerdict::Fixed, "fixed", Paint::Good),
        (
            PairVerdict::ChangedAsAccepted,
            "changed as accepted",
            Paint::Changed,
        ),
        (PairVerdict::Same, "same", Paint::Good),
    ] {
        let pairs: Vec<&PairRecord> = run.pairs.iter().filter(|p| p.verdict == verdict).collect();
        verdict_block(&pairs, title, paint, look, &mut out);
    }
    log_lines(&run.pairs.iter().collect::<Vec<_>>(), look, &mut out);
    flaky(run, look, &mut out);
    known(run, look, &mut out);
    skips(run, look, &mut out);
    foot(run, look, &mut out);
    out
}

fn head(run: &RunRecord, look: &Look, out: &mut String) {
    let why = match &run.accel_reason {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    wrap(
        out,
        "",
        &format!(
            "zonedev {}, run {}, QEMU {} with {}{why}",
            run.zonedev, run.id, run.qemu, run.accel
        ),
        look.width,
    );
    for (n, kernel) in run.kernels.iter().enumerate() {
        let role = if n == 0 { " (baseline)" } else { "" };
        let says: Vec<String> = kernel
            .provenance
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        let says = if says.is_empty() {
            String::new()
        } else {
            format!(": {}", says.join(", "))
        };
        let text = format!("{}{role}, contract {}{says}", kernel.name, kernel.contract);
        wrap(out, "  ", &text, look.width);
    }
    for notice in &run.notices {
        wrap(out, "  ! ", notice, look.width);
    }
}

/// Cells of a run that was cut off.
fn unfinished(run: &RunRecord, look: &Look, out: &mut String) {
    if run.unfinished.is_empty() {
        return;
    }
    let planned = run.unfinished.len() + run.cells.len();
    let head = format!(
        "{} of {} did not finish",
        run.unfinished.len(),
        count(planned, "cell")
    );
    let _ = writeln!(out, "\n{}", look.paint(Paint::Bad, &head));
    let names: Vec<String> = run.unfinished.iter().map(ToString::to_string).collect();
    wrap(out, "  ", &some(&names, 3), look.width);
}

/// Cells that passed only when they were tried again.
fn flaky(run: &RunRecord, look: &Look, out: &mut String) {
    if run.flaky.is_empty() {
        return;
    }
    let head = format!("{} flaky", count(run.flaky.len(), "cell"));
    let _ = writeln!(out, "\n{}", look.paint(Paint::Changed, &head));
    for flake in run.flaky.iter().take(MAX_REASONS) {
        let text = format!(
            "{} of {} runs did not pass: {}",
            flake.failed, flake.runs, flake.reason
        );
        wrap(out, "  ", &text, look.width);
        wrap(out, "      in ", &flake.cell.to_string(), look.width);
    }
    if run.flaky.len() > MAX_REASONS {
        let _ = writeln!(out, "  and {} more", run.flaky.len() - MAX_REASONS);
    }
}

/// Cells that fail by themselves, whichever side they are on.
fn failures(run: &RunRecord, look: &Look, out: &mut String) {
    let mut grouped: Vec<(String, Vec<&CellId>)> = Vec::new();
    let mut failed = 0;
    for (id, verdict) in &run.cells {
        let (reasons, what) = match verdict {
            CellVerdict::Fail { reasons, .. } => (reasons.clone(), ""),
            CellVerdict::Error {
                reason,
                host: false,
            } => (vec![reason.clone()], "the harness failed: "),
            CellVerdict::Error { reason, host: true } => {
                (vec![reason.clone()], "the host failed: ")
            }
            CellVerdict::Pass {} | CellVerdict::Skip { .. } => continue,
        };
        failed += 1;
        for reason in reasons {
            let text = format!("{what}{reason}");
            match grouped.iter_mut().find(|(t, _)| *t == text) {
                Some((_, cells)) => cells.push(id),
                None => grouped.push((text, vec![id])),
            }
        }
    }
    if failed == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "\n{}",
        look.paint(Paint::Bad, &format!("{} failed", count(failed, "cell")))
    );
    for (text, cells) in grouped.iter().take(MAX_REASONS) {
        wrap(out, "  ", text, look.width);
        let names: Vec<String> = cells.iter().map(ToString::to_string).collect();
        wrap(out, "      in ", &some(&names, 2), look.width);
    }
    if grouped.len() > MAX_REASONS {
        let _ = writeln!(
            out,
            "  and {} more",
            count(grouped.len() - MAX_REASONS, "reason")
        );
    }
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

pub(super) fn verdict_block(
    pairs: &[&PairRecord],
    title: &str,
    paint: Paint,
    look: &Look,
    out: &mut String,
) {
    let groups = grouped(pairs);
    let quiet = groups.is_empty() && !matches!(paint, Paint::Bad);
    if pairs.is_empty() || quiet {
        return;
    }
    let head = format!("{} {title}", count(pairs.len(), "case"));
    let _ = writeln!(out, "\n{}", look.paint(paint, &head));
    for group in groups.iter().take(MAX_DIFFERENCES) {
        let text = format!("{}{}", pages_words(group.pages), group.difference.text);
        wrap(out, "  ", &text, look.width);
        let at = match group.at() {
            at if at.is_empty() => at,
            at => format!("{at}, "),
        };
        let cases = match group.cases.len() {
            n if n == pairs.len() && n > 3 => format!("in all {n} cases"),
            n if n > 3 => format!("in {n} cases: {}", some(&group.cases, 2)),
            _ => format!("in {}", group.cases.join(", ")),
        };
        wrap(out, "      ", &format!("{at}{cases}"), look.width);
    }
    if groups.len() > MAX_DIFFERENCES {
        let _ = writeln!(
            out,
            "  and {} more",
            count(groups.len() - MAX_DIFFERENCES, "difference")
        );
    }
    if groups.is_empty() {
        let names: Vec<String> = pairs.iter().map(|p| p.other.case_path()).collect();
        wrap(out, "  ", &some(&names, 4), look.width);
    }
}

/// Kinds of log lines on one side only: for information.
pub(super) fn log_lines(pairs: &[&PairRecord], look: &Look, out: &mut String) {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for d in pairs
        .iter()
        .flat_map(|p| &p.differences)
        .filter(|d| d.kind == "log-line")
    {
        *lines.entry(&d.text).or_default() += 1;
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{}",
        look.paint(
            Paint::Dim,
            "other lines in the kernel log (no verdict depends on them)"
        )
    );
    for (text, n) in lines.iter().take(MAX_LINES) {
        let times = if *n > 1 {
            format!(" (in {n} cases)")
        } else {
            String::new()
        };
        wrap(out, "  ", &format!("{text}{times}"), look.width);
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(out, "  and {} more", count(lines.len() - MAX_LINES, "kind"));
    }
}

/// Skips by reason, and where there are more than a suite allows.
fn skips(run: &RunRecord, look: &Look, out: &mut String) {
    if !run.skips.is_empty() {
        let total: u64 = run.skips.iter().map(|s| s.skips).sum();
        let head = format!("{} skipped", count(total as usize, "test"));
        let _ = writeln!(out, "\n{}", look.paint(Paint::Head, &head));
        let mut reasons: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
        for skip in &run.skips {
            let one = reasons.entry(&skip.reason).or_default();
            one.0 += skip.skips;
            let place = format!("{} on {}", skip.suite, skip.contract);
            if !one.1.contains(&place) {
                one.1.push(place);
            }
        }
        for (reason, (n, places)) in reasons {
            wrap(
                out,
                "  ",
                &format!("{n}: {reason} ({})", some(&places, 3)),
                look.width,
            );
        }
    }
    for over in &run.over_ceiling {
        let text = format!(
            "{} skipped {} of {}, at most {} may be (suites/{}/skips.toml)",
            over.kernel, over.skips, over.suite, over.ceiling, over.suite
        );
        let _ = writeln!(out);
        wrap(out, "", &look.paint(Paint::Bad, &text), look.width);
    }
}

/// What went wrong as stock kernels are known to.
fn known(run: &RunRecord, look: &Look, out: &mut String) {
    if run.known.is_empty() {
        return;
    }
    let head = format!(
        "{}, known of these kernels",
        count(run.known.len(), "failure")
    );
    let _ = writeln!(out, "\n{}", look.paint(Paint::Head, &head));
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in &run.known {
        let name = format!("{} ({})", one.known.what, one.cell);
        reasons.entry(&one.known.reason).or_default().push(name);
    }
    for (reason, tests) in reasons {
        wrap(out, "  ", reason, look.width);
        wrap(out, "      ", &some(&tests, 4), look.width);
    }
}

fn foot(run: &RunRecord, look: &Look, out: &mut String) {
    let n = |v: PairVerdict| run.pairs.iter().filter(|p| p.verdict == v).count();
    let tally = |word: &str, n: usize| (n > 0).then(|| format!("{n} {word}"));
    let pairs: Vec<String> = [
        tally("regressed", n(PairVerdict::Regressed)),
        tally("not comparable", n(PairVerdict::Incomparable)),
        tally("fixed", n(PairVerdict::Fixed)),
        tally("changed as accepted", n(PairVerdict::ChangedAsAccepted)),
        tally("same", n(PairVerdict::Same)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let passed = run
        .cells
        .iter()
        .filter(|(_, v)| *v == CellVerdict::Pass {})
        .count();
    let cells = format!("{passed} of {} passed", count(run.cells.len(), "cell"));
    let pages = if run.pages_read == 0 {
        "no page was read".to_owned()
    } else if run.pages_predicted == run.pages_read {
        format!("all {} pages read were predicted", run.pages_read)
    } else {
        format!(
            "only {} of {} pages read were predicted",
            run.pages_predicted, run.pages_read
        )
    };
    let phases: Vec<String> = run
        .phases_ms
        .iter()
        .map(|(name, ms)| format!("{name} {}", duration(*ms)))
        .collect();
    let phases = if phases.is_empty() {
        String::new()
    } else {
        format!(" ({})", phases.join(", "))
    };
    let _ = writeln!(out);
    wrap(
        out,
        "",
        &format!("{cells}; {pages}; {}{phases}", duration(run.took_ms)),
        look.width,
    );
    let (word, paint) = match run.exit_code {
        0 => ("nothing regressed", Paint::Good),
        1 => ("REGRESSED", Paint::Bad),
        4 => ("nothing was selected", Paint::Bad),
        5 => ("a kernel or an image did not build", Paint::Bad),
        _ => ("the harness or the host failed", Paint::Bad),
    };
    let tallies = if pairs.is_empty() {
        String::new()
    } else {
        format!(": {}", pairs.join(", "))
    };
    let _ = writeln!(out, "{}{tallies}", look.paint(paint, word));
    if let Some(next) = next(run) {
        wrap(out, "next: ", &next, look.width);
    }
}

/// What to type next.
fn next(run: &RunRecord) -> Option<String> {
    use crate::record::AcceptState;
    let cell_of = |id: &CellId| {
        let (case, kernel) = (id.case_path(), &id.kernel);
        format!("zonedev inspect {} {case} -k {kernel}", run.id)
    };
    let failed = run
        .cells
        .iter()
        .find(|(_, v)| matches!(v, CellVerdict::Fail { .. }));
    if let Some((id, _)) = failed {
        return Some(format!(
            "{} shows its pages beside their prediction",
            cell_of(id)
        ));
    }
    let worst = run
        .pairs
        .iter()
        .find(|p| p.verdict == PairVerdict::Regressed)?;
    if worst.accepted != (AcceptState::Accepted {}) {
        let look = cell_of(&worst.other);
        return Some(format!(
            "{look} shows the pages; where the difference is wanted, `zonedev accept {} --reason TEXT` accepts it",
            run.id
        ));
    }
    Some(cell_of(&worst.other))
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
