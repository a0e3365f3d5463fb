//! A cell's record, made into the data that its view is drawn from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cells::Cells;
use super::log::{self, Kinds, Log};
use super::picture::{Pictures, pictures};
use super::rerun::Command;
use super::steps::{Step, steps};
use crate::record::{
    CellId, CellRecord, CellVerdict, CheckpointRecord, End, FailureKind, Hang, KnownFailure, Left,
    PairRecord, Repeats, TestResult, Violation,
};

/// Results of programs that are kept; those that did not pass come first.
const MAX_RESULTS: usize = 1500;
/// Violations that are kept.
const MAX_VIOLATIONS: usize = 400;

/// What the page tells of a cell without its details.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Whether its record could be read.
    pub(super) recorded: bool,
    /// Pages read, over all checkpoints.
    pub(super) pages: u64,
    pub(super) title: String,
}

/// Everything that is shown of one cell.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    side: usize,
    /// `pass`, `fail`, `skip`, `error` or `unfinished`.
    verdict: &'static str,
    /// Whether an error is the host's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    host: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<Pair>,
    again: Vec<Command>,
    /// Why there is no more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Recorded>,
}

/// A reason and the place that it names.
#[derive(Debug, Serialize)]
struct Reason {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<(&'static str, String)>,
}

impl Reason {
    fn of(text: &str) -> Reason {
        let place = super::escape::place(text);
        Reason {
            place: place.map(|(key, value)| (key, value.to_owned())),
            text: text.to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Pair {
    verdict: &'static str,
    accepted: &'static str,
    /// Rank, kind, place, pages, text.
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Difference {
    kind: String,
    at: Option<String>,
    place: Option<(&'static str, String)>,
    text: String,
}

/// What is left of the record.
#[derive(Debug, Serialize)]
struct Recorded {
    title: String,
    contract: String,
    isolation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    booted_in: Option<String>,
    accel: String,
    took_ms: u64,
    end: String,
    /// The step that it ended in, where it did not finish.
    ended_at: Option<usize>,
    steps: Vec<Step>,
    checkpoints: Vec<Checkpoint>,
    pages: Pictures,
    counters: Counters,
    log: Log,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<TestResult>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known: Vec<KnownFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hang: Option<Hang>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<Repeats>,
    /// What this report leaves out of the record, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Checkpoint {
    name: String,
    step: usize,
    read_us: u64,
    #[serde(skip_serializing_if = "is_zero")]
    rereads: u32,
    /// What could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// Who, what, where, predicted, found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mismatches: Vec<String>,
    /// Why nothing is predicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    unpredicted: Option<String>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The kernel's counters over the checkpoints; those that never change are left out.
#[derive(Debug, Default, Serialize)]
struct Counters {
    /// By name the value at each checkpoint.
    at: BTreeMap<String, Vec<Option<i64>>>,
    /// By name the value before the case and when its processes were gone.
    around: BTreeMap<String, (Option<i64>, Option<i64>)>,
    /// Why the processes did not go.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What a cell's verdict and its pair say.
pub(super) struct Judged<'a> {
    pub(super) verdict: Option<&'a CellVerdict>,
    pub(super) pair: Option<&'a PairRecord>,
    pub(super) again: Vec<Command>,
}

/// Makes the data of a cell.
pub(super) fn detail(
    id: &CellId,
    record: Result<&CellRecord, String>,
    judged: Judged<'_>,
    kinds: &mut Kinds,
    cells: &dyn Cells,
) -> (Detail, Facts) {
    let mut out = Detail {
        side: id.side,
        verdict: word(judged.verdict),
        host: matches!(judged.verdict, Some(CellVerdict::Error { host: true, .. })),
        kinds: Vec::new(),
        reasons: Vec::new(),
        violations: Vec::new(),
        pair: judged.pair.map(pair),
        again: judged.again,
        missing: None,
        record: None,
    };
    match judged.verdict {
        Some(CellVerdict::Fail {
            reasons,
            violations,
            kinds,
        }) => {
            out.reasons = reasons.iter().map(|r| Reason::of(r)).collect();
            out.violations = violations.iter().take(MAX_VIOLATIONS).cloned().collect();
            out.kinds = kinds.iter().copied().map(FailureKind::word).collect();
        }
        Some(CellVerdict::Skip { reason } | CellVerdict::Error { reason, .. }) => {
            out.reasons = vec![Reason::of(reason)];
        }
        Some(CellVerdict::Pass {}) | None => {}
    }
    let record = match record {
        Ok(record) => record,
        Err(why) => {
            out.missing = Some(why);
            return (out, Facts::default());
        }
    };
    let (recorded, pages) = recorded(record, kinds, cells);
    out.record = Some(recorded);
    let facts = Facts {
        recorded: true,
        pages,
        title: record.title.clone(),
    };
    (out, facts)
}

/// The verdict's short word.
pub(super) fn word(verdict: Option<&CellVerdict>) -> &'static str {
    match verdict {
        Some(CellVerdict::Pass {}) => "pass",
        Some(CellVerdict::Fail { .. }) => "fail",
        Some(CellVerdict::Skip { .. }) => "skip",
        Some(CellVerdict::Error { .. }) => "error",
        None => "unfinished",
    }
}

/// A pair's short word.
pub(super) fn pair_word(pair: &PairRecord) -> &'static str {
    use crate::record::PairVerdict as V;
    match pair.verdict {
        V::Same => "same",
        V::ChangedAsAccepted => "changed",
        V::Regressed => "regressed",
        V::Fixed => "fixed",
        V::Incomparable => "",
    }
}

fn pair(of: &PairRecord) -> Pair {
    use crate::record::AcceptState as A;
    Pair {
        verdict: pair_word(of),
        accepted: match of.accepted {
            A::Accepted {} => "accepted",
            A::NotAsAccepted {} => "not as accepted",
            A::NoSnapshot {} => "no snapshot",
        },
        differences: of
            .differences
            .iter()
            .map(|d| Difference {
                kind: d.kind.clone(),
                place: d
                    .at
                    .as_deref()
                    .and_then(super::escape::place)
                    .map(|(k, v)| (k, v.to_owned())),
                at: d.at.clone(),
                text: format!(
                    "{}{}",
                    crate::report::sections::pages_words(d.pages),
                    d.text
                ),
            })
            .collect(),
    }
}

fn recorded(record: &CellRecord, kinds: &mut Kinds, cells: &dyn Cells) -> (Recorded, u64) {
    let mut left_out = Vec::new();
    let mut predicted = Vec::new();
    let mut checkpoints = Vec::new();
    for c in &record.checkpoints {
        let (runs, why) = match cells.predict(record, c) {
            Ok(runs) => (runs, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        predicted.push(runs);
        checkpoints.push(checkpoint(c, why));
    }
    let pages = pictures(record, &predicted, cells);
    let read = pages
        .read
        .iter()
        .map(|(n, _)| *n)
        .fold(0, u64::saturating_add);
    let mut results = record.results.clone();
    if results.len() > MAX_RESULTS {
        use crate::record::TestStatus::Pass;
        results.sort_by_key(|r| r.status == Pass);
        left_out.push(format!("{} results", results.len() - MAX_RESULTS));
        results.truncate(MAX_RESULTS);
    }
    let (end, ended_at) = end(&record.end);
    let out = Recorded {
        title: record.title.clone(),
        contract: record.contract.clone(),
        isolation: record.isolation.clone(),
        booted_in: record.booted_in.clone(),
        accel: record.accel.clone(),
        took_ms: record.took_ms,
        end,
        ended_at,
        steps: steps(record, cells),
        checkpoints,
        pages,
        counters: counters(record),
        log: log::log(record, kinds),
        results,
        known: record.known_failures.clone(),
        hang: record.hang.clone(),
        repeats: record.repeats.clone(),
        left_out,
    };
    (out, read)
}

fn checkpoint(of: &CheckpointRecord, unpredicted: Option<String>) -> Checkpoint {
    Checkpoint {
        name: of.name.clone(),
        step: of.step,
        read_us: of.read_us,
        rereads: of.rereads,
        problems: of.pages.problems.iter().map(|p| p.what.clone()).collect(),
        mismatches: of
            .claims
            .mismatches
            .iter()
            .map(|m| {
                let last = m.page.saturating_add(m.pages).saturating_sub(1);
                format!(
                    "{} of {}, pages {}-{last}: predicted {}, found {}",
                    m.what, m.who, m.page, m.predicted, m.found
                )
            })
            .collect(),
        unpredicted,
    }
}

fn end(of: &End) -> (String, Option<usize>) {
    match of {
        End::Finished {} => ("finished".into(), None),
        End::Skipped { reason } => (format!("skipped: {reason}"), None),
        End::BootFailed { reason } => (format!("the kernel did not boot: {reason}"), None),
        End::GuestDied { step, how } => (format!("the guest died: {how}"), *step),
        End::Hung { step, at } => (format!("hung: {at}"), Some(*step)),
        End::AgentLost { step, how } => (format!("the agent was lost: {how}"), *step),
        End::HarnessError { message } => (format!("the harness failed: {message}"), None),
        End::HostError { message } => (format!("the host failed: {message}"), None),
    }
}

fn counters(record: &CellRecord) -> Counters {
    let of = |c: &CheckpointRecord| c.claims.counters.clone();
    let at: Vec<BTreeMap<String, i64>> = record.checkpoints.iter().map(of).collect();
    let names: BTreeSet<&String> = at.iter().flat_map(BTreeMap::keys).collect();
    let mut out = Counters::default();
    for name in names {
        let values: Vec<Option<i64>> = at.iter().map(|c| c.get(name).copied()).collect();
        let pins = name.starts_with("nr_foll_pin_");
        if pins || values.iter().any(|v| Some(v) != values.first()) {
            out.at.insert(name.clone(), values);
        }
    }
    let value = |of: &Option<Left>, name: &str| {
        let of = of.as_ref()?;
        of.counters.get(name).copied()
    };
    let sides = [&record.before, &record.left];
    for name in sides.into_iter().flatten().flat_map(|l| l.counters.keys()) {
        let around = (value(&record.before, name), value(&record.left, name));
        if around.0 != around.1 {
            out.around.insert(name.clone(), around);
        }
    }
    out.problem = record.left.as_ref().and_then(|l| l.problem.clone());
    out
}
