//! A run as a list of tests with their results, for forms that know nothing else: each cell, each
//! pair, and what holds of the run as a whole.

use std::collections::BTreeMap;

use super::recorded::Recorded;
use super::totals::{self, Totals};
use crate::record::{CellId, CellVerdict, FailedRun, PairRecord, PairVerdict};
use crate::report::sections::pages_words;

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    /// With what sort of failure it is, and the reasons, worst first.
    Fail {
        kind: String,
        reasons: Vec<String>,
    },
    Skip {
        reason: String,
    },
    /// It says nothing of the kernel.
    Error {
        kind: &'static str,
        reason: String,
    },
}

/// One test.
#[derive(Clone, Debug)]
pub(super) struct Test<'a> {
    /// `fsdax/fsdax-ext4/map-touch`.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// Milliseconds, where it is known.
    pub(super) took_ms: Option<u64>,
    /// What else is to be known of it.
    pub(super) notes: Vec<String>,
    /// Reports with their traces: lines, escaped.
    pub(super) trouble: &'a str,
    /// Runs of several that did not pass.
    pub(super) failed_runs: &'a [FailedRun],
}

/// Tests that belong together.
#[derive(Clone, Debug)]
pub(super) struct Suite<'a> {
    /// `fsdax on 6.12`, `7.3 compared with 6.12`, `the run`.
    pub(super) name: String,
    pub(super) tests: Vec<Test<'a>>,
}

impl<'a> Test<'a> {
    fn new(name: String, outcome: Outcome) -> Self {
        Test {
            name,
            outcome,
            took_ms: None,
            notes: Vec::new(),
            trouble: "",
            failed_runs: &[],
        }
    }
}

/// Every cell by suite and kernel, every pair by kernel, and the run.
pub(super) fn suites(of: &Recorded) -> Vec<Suite<'_>> {
    let mut cells: BTreeMap<(usize, String), Suite<'_>> = BTreeMap::new();
    let mut add = |id: &CellId, test| {
        let name = || format!("{} on {}", id.suite, of.kernel(id));
        let suite = cells
            .entry((id.side, id.suite.clone()))
            .or_insert_with(|| Suite {
                name: name(),
                tests: Vec::new(),
            });
        suite.tests.push(test);
    };
    for (id, verdict) in &of.run.cells {
        add(id, cell(of, id, verdict));
    }
    for id in &of.run.unfinished {
        add(id, unfinished(id));
    }
    let mut out: Vec<Suite<'_>> = cells.into_values().collect();
    let mut pairs: BTreeMap<usize, Suite<'_>> = BTreeMap::new();
    for record in &of.run.pairs {
        let name = || {
            let (other, base) = (of.kernel(&record.other), of.kernel(&record.baseline));
            format!("{other} compared with {base}")
        };
        let suite = pairs.entry(record.other.side).or_insert_with(|| Suite {
            name: name(),
            tests: Vec::new(),
        });
        suite.tests.push(pair(record));
    }
    out.extend(pairs.into_values());
    out.push(whole(of));
    for suite in &mut out {
        suite.tests.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

/// A cell that was planned and of which the run has nothing.
pub(super) fn unfinished<'a>(id: &CellId) -> Test<'a> {
    let outcome = Outcome::Error {
        kind: "not finished",
        reason: "it did not finish: the run was cut off".to_owned(),
    };
    Test::new(id.case_path(), outcome)
}

/// One that ended.
pub(super) fn cell<'a>(of: &'a Recorded, id: &CellId, verdict: &CellVerdict) -> Test<'a> {
    let outcome = match verdict {
        CellVerdict::Pass {} => Outcome::Pass,
        CellVerdict::Fail { reasons, kinds, .. } => Outcome::Fail {
            kind: kinds.first().map_or("failed", |k| k.word()).to_owned(),
            reasons: reasons.clone(),
        },
        CellVerdict::Skip { reason } => Outcome::Skip {
            reason: reason.clone(),
        },
        CellVerdict::Error { reason, host } => Outcome::Error {
            kind: if *host {
                "the host failed"
            } else {
                "the harness failed"
            },
            reason: reason.clone(),
        },
    };
    let mut test = Test::new(id.case_path(), outcome);
    test.took_ms = of.took_ms.get(id).copied();
    if let Some(detail) = of.details.get(id) {
        test.trouble = &detail.trouble;
        test.failed_runs = &detail.failed;
        if detail.runs > 1 {
            let failed = detail.failed.len();
            let words = format!("{failed} of {} runs did not pass", detail.runs);
            test.notes.push(words);
        }
    }
    for known in of.run.known.iter().filter(|k| k.cell == *id) {
        let words = format!("known: {}: {}", known.known.what, known.known.reason);
        test.notes.push(words);
    }
    test
}

/// What a cell differs in from its baseline's.
pub(super) fn pair<'a>(record: &PairRecord) -> Test<'a> {
    let differences = record.differences.iter().filter(|d| d.kind != "log-line");
    let words = differences.map(|d| {
        let at = d.at.as_ref().map(|at| format!(", at {at}"));
        let at = at.unwrap_or_default();
        format!("{}{}{at}", pages_words(d.pages), d.text)
    });
    let words: Vec<String> = words.collect();
    let with = |outcome, notes| {
        let mut test = Test::new(record.other.case_path(), outcome);
        test.notes = notes;
        test
    };
    let notes = |words: Vec<String>, head: &str| {
        let mut out = vec![head.to_owned()];
        out.extend(words);
        out
    };
    match record.verdict {
        PairVerdict::Regressed => with(
            Outcome::Fail {
                kind: "regressed".to_owned(),
                reasons: words,
            },
            Vec::new(),
        ),
        PairVerdict::Incomparable => with(
            Outcome::Skip {
                reason: "one side did not run or could not be judged".to_owned(),
            },
            words,
        ),
        PairVerdict::Same => with(Outcome::Pass, words),
        PairVerdict::ChangedAsAccepted => with(Outcome::Pass, notes(words, "changed as accepted:")),
        PairVerdict::Fixed => with(
            Outcome::Pass,
            notes(words, "fixed: the baseline fails here"),
        ),
    }
}

/// What holds of the run as a whole: that anything ran, all of it, and that every page had its
/// prediction.
fn whole<'a>(of: &Recorded) -> Suite<'a> {
    let run = &of.run;
    let totals = Totals::of(run);
    let check = |name: &str, fails: Vec<String>, kind: &str| {
        let outcome = match fails.is_empty() {
            true => Outcome::Pass,
            false => Outcome::Fail {
                kind: kind.to_owned(),
                reasons: fails,
            },
        };
        Test::new(name.to_owned(), outcome)
    };
    let only = |is: bool, words: String| if is { vec![words] } else { Vec::new() };
    let nothing = totals.passed + totals.failed == 0;
    let mut ran = check("cells ran", only(nothing, totals.cells()), "nothing ran");
    ran.notes.push(totals.cells());
    let cut = only(
        totals.unfinished > 0,
        format!("{} did not finish", totals.unfinished),
    );
    let unpredicted = only(run.pages_predicted != run.pages_read, totals::pages(run));
    let mut pages = check("pages were predicted", unpredicted, "unchecked");
    pages.notes.push(totals::pages(run));
    let over = run.over_ceiling.iter().map(|over| {
        format!(
            "{} skipped {} of {}, at most {} may be",
            over.kernel, over.skips, over.suite, over.ceiling
        )
    });
    Suite {
        name: "the run".to_owned(),
        tests: vec![
            ran,
            check("every cell finished", cut, "not finished"),
            pages,
            check(
                "no more was skipped than may be",
                over.collect(),
                "too much was skipped",
            ),
        ],
    }
}
