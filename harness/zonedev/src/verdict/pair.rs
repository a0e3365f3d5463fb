//! The verdict of a pair: one case on the baseline and on another kernel.

use std::collections::BTreeMap;

use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices};

use super::cell::step_words;
use super::log::log_differences;
use super::normal::{normalised, op_words};
use super::pages::page_differences;
use super::snapshot::agrees;
use crate::record::{
    AcceptState, CellRecord, CellVerdict, Difference, End, PairRecord, PairVerdict, StepRecord,
    TestStatus,
};

/// Lines shown of an observation that isn't its accepted snapshot.
const MAX_DIFF_LINES: usize = 6;

/// Compares the cells of a pair and judges the pair.
///
/// `accepted_…` is the text of each side's accepted snapshot, where there is one. Log lines of a
/// new kind are told as differences and never change the verdict.
pub fn pair(
    base: &CellRecord,
    other: &CellRecord,
    base_verdict: &CellVerdict,
    other_verdict: &CellVerdict,
    accepted_base: Option<&str>,
    accepted_other: Option<&str>,
) -> PairRecord {
    let mut differences = Vec::new();
    log_differences(base, other, &mut differences);
    end_difference(base, other, &mut differences);
    step_differences(base, other, &mut differences);
    result_differences(base, other, &mut differences);
    page_differences(base, other, &mut differences);
    let real = differences.iter().any(|d| d.kind != "log-line");

    if let (Some(a), Some(b)) = (accepted_base, accepted_other)
        && !agrees(a, b)
        && agrees(&normalised(base), &normalised(other))
    {
        differences.push(Difference {
            rank: 6,
            kind: "accepted".into(),
            at: None,
            pages: None,
            text: format!(
                "the accepted difference no longer occurs: {}",
                line_differences(a, b)
            ),
        });
    }
    let mut drifted = false;
    let sides = [
        (base, accepted_base, "the baseline"),
        (other, accepted_other, "this kernel"),
    ];
    for (cell, accepted, who) in sides {
        let Some(accepted) = accepted else { continue };
        let now = normalised(cell);
        if !agrees(accepted, &now) {
            drifted = true;
            differences.push(drift(who, accepted, &now));
        }
    }
    let accepted = match (accepted_base, accepted_other) {
        (Some(_), Some(_)) if !drifted => AcceptState::Accepted {},
        _ if drifted => AcceptState::NotAsAccepted {},
        _ => AcceptState::NoSnapshot {},
    };
    differences.sort();
    differences.dedup();
    let verdict = match (base_verdict, other_verdict) {
        (CellVerdict::Skip { .. } | CellVerdict::Error { .. }, _)
        | (_, CellVerdict::Skip { .. } | CellVerdict::Error { .. }) => PairVerdict::Incomparable,
        (CellVerdict::Fail { .. }, CellVerdict::Pass {}) => PairVerdict::Fixed,
        (CellVerdict::Pass {}, CellVerdict::Fail { .. }) => PairVerdict::Regressed,
        // A cell that fails is never changed as accepted, only as bad as the baseline or otherwise bad.
        (CellVerdict::Fail { .. }, CellVerdict::Fail { .. }) if real => PairVerdict::Regressed,
        (CellVerdict::Fail { .. }, CellVerdict::Fail { .. }) => PairVerdict::Same,
        (CellVerdict::Pass {}, CellVerdict::Pass {}) if drifted => PairVerdict::Regressed,
        (CellVerdict::Pass {}, CellVerdict::Pass {}) if !real => PairVerdict::Same,
        (CellVerdict::Pass {}, CellVerdict::Pass {}) => match accepted {
            AcceptState::Accepted {} => PairVerdict::ChangedAsAccepted,
            _ => PairVerdict::Regressed,
        },
    };
    PairRecord {
        baseline: base.id.clone(),
        other: other.id.clone(),
        verdict,
        accepted,
        differences,
    }
}

fn end_words(cell: &CellRecord) -> String {
    match &cell.end {
        End::Finished {} => "finished".into(),
        End::Skipped { reason } => format!("skipped: {reason}"),
        End::BootFailed { .. } => "did not boot".into(),
        End::GuestDied { step, how } => {
            format!("the guest died at {}: {how}", step_words(cell, *step))
        }
        End::Hung { step, at } => format!("hung at {}: {at}", step_words(cell, Some(*step))),
        End::AgentLost { step, how } => {
            format!("the agent was lost at {}: {how}", step_words(cell, *step))
        }
        End::HarnessError { message } => format!("the harness failed: {message}"),
        End::HostError { message } => format!("the host failed: {message}"),
    }
}

/// Whether two cells ended alike. Where exactly they hung, and what more is known of it, differs from
/// run to run.
fn same_end(base: &End, other: &End) -> bool {
    let how = |how: &str| how.split(';').next().map(str::to_owned);
    match (base, other) {
        (End::Hung { step: a, .. }, End::Hung { step: b, .. }) => a == b,
        (End::GuestDied { step: a, how: b }, End::GuestDied { step: c, how: d }) => {
            a == c && how(b) == how(d)
        }
        _ => base == other,
    }
}

fn end_difference(base: &CellRecord, other: &CellRecord, out: &mut Vec<Difference>) {
    if !same_end(&base.end, &other.end) {
        out.push(Difference {
            rank: 1,
            kind: "end".into(),
            at: None,
            pages: None,
            text: format!("{}, baseline {}", end_words(other), end_words(base)),
        });
    }
}

fn outcome_words(step: &StepRecord) -> String {
    step.outcome
        .as_ref()
        .map_or_else(|| "not run".into(), |o| o.result.word().to_owned())
}

/// Outcomes of operations, by their place in the case.
fn step_differences(base: &CellRecord, other: &CellRecord, out: &mut Vec<Difference>) {
    for (b, n) in same_steps(base, other) {
        let (b, o) = (&base.steps[b], &other.steps[n]);
        let (x, y) = (outcome_words(b), outcome_words(o));
        // Steps behind a guest's death are told by the end.
        let told = y == "not run" && other.end != End::Finished {}
            || x == "not run" && base.end != End::Finished {};
        if x != y && !told {
            out.push(Difference {
                rank: 2,
                kind: "operation".into(),
                at: Some(step_words(other, Some(n))),
                pages: None,
                text: format!("{} gives {y}, baseline {x}", op_words(&o.op)),
            });
        }
    }
}

/// Positions of the steps that both sides have: a contract can leave steps of a case out.
fn same_steps(base: &CellRecord, other: &CellRecord) -> Vec<(usize, usize)> {
    let names = |cell: &CellRecord| -> Vec<String> {
        let name = |s: &StepRecord| format!("{} {:?}", s.actor, s.op);
        cell.steps.iter().map(name).collect()
    };
    capture_diff_slices(Algorithm::Myers, &names(base), &names(other))
        .into_iter()
        .filter_map(|op| match op {
            DiffOp::Equal {
                old_index,
                new_index,
                len,
            } => Some((old_index, new_index, len)),
            _ => None,
        })
        .flat_map(|(old, new, len)| (0..len).map(move |i| (old + i, new + i)))
        .collect()
}

fn status_word(status: TestStatus) -> &'static str {
    match status {
        TestStatus::Pass => "passes",
        TestStatus::Fail => "fails",
        TestStatus::Skip => "is skipped",
        TestStatus::Missing => "is not reported",
    }
}

/// Results by test name. A test that one kernel's tree doesn't have ranks below a changed one.
fn result_differences(base: &CellRecord, other: &CellRecord, out: &mut Vec<Difference>) {
    let by_name = |cell: &CellRecord| -> BTreeMap<String, TestStatus> {
        cell.results
            .iter()
            .map(|r| (r.name.clone(), r.status))
            .collect()
    };
    let (b, o) = (by_name(base), by_name(other));
    let mut add = |rank, text| {
        out.push(Difference {
            rank,
            kind: "result".into(),
            at: None,
            pages: None,
            text,
        });
    };
    for (name, now) in &o {
        match b.get(name) {
            Some(before) if before == now => {}
            Some(before) => add(
                3,
                format!(
                    "{name} {}, on the baseline it {}",
                    status_word(*now),
                    status_word(*before)
                ),
            ),
            None => add(
                7,
                format!(
                    "{name} {}, the baseline has no such test",
                    status_word(*now)
                ),
            ),
        }
    }
    for (name, before) in b.iter().filter(|(name, _)| !o.contains_key(*name)) {
        add(
            7,
            format!(
                "{name} is gone, on the baseline it {}",
                status_word(*before)
            ),
        );
    }
}

/// An observation that isn't its accepted snapshot.
fn drift(who: &str, accepted: &str, now: &str) -> Difference {
    Difference {
        rank: 6,
        kind: "accepted".into(),
        at: None,
        pages: None,
        text: format!(
            "{who} does not read as its accepted snapshot: {}",
            line_differences(accepted, now)
        ),
    }
}

/// The first lines in which two observations differ, in one line.
pub fn line_differences(before: &str, now: &str) -> String {
    let diff = TextDiff::from_lines(before.trim_end(), now.trim_end());
    let mut lines: Vec<String> = diff
        .iter_all_changes()
        .filter_map(|c| match c.tag() {
            ChangeTag::Delete => Some(format!("- {}", c.value().trim())),
            ChangeTag::Insert => Some(format!("+ {}", c.value().trim())),
            ChangeTag::Equal => None,
        })
        .collect();
    if lines.len() > MAX_DIFF_LINES {
        let more = lines.len() - MAX_DIFF_LINES;
        lines.truncate(MAX_DIFF_LINES);
        lines.push(format!("and {more} lines more"));
    }
    lines.join("; ")
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
