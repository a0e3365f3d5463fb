//! What is to be told of a run, worst first, the same things together.

use std::collections::HashMap;

use super::recorded::Recorded;
use super::totals;
use crate::record::{
    CellId, CellVerdict, FailureKind, FlakyRecord, PairRecord, PairVerdict, SourcePlace,
};
use crate::report::sections::{Group, grouped, pages_words};
use crate::report::text::count;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// The run is not well for it.
    Error,
    /// To be looked at.
    Warning,
}

/// One thing that is to be told.
#[derive(Clone, Debug)]
pub(super) struct Finding<'a> {
    pub(super) level: Level,
    /// Under which heading: `failed`, `regressed`.
    pub(super) head: &'static str,
    /// In words; a guest's may be among them.
    pub(super) text: String,
    /// `at step 4 pin`, or empty.
    pub(super) at: String,
    /// Where it is.
    pub(super) cells: Vec<&'a CellId>,
    /// In the kernel's source.
    pub(super) place: Option<&'a SourcePlace>,
}

impl<'a> Finding<'a> {
    fn new(level: Level, head: &'static str, text: String) -> Self {
        Finding {
            level,
            head,
            text,
            at: String::new(),
            cells: Vec::new(),
            place: None,
        }
    }

    fn of(group: Group<'a>, head: &'static str) -> Self {
        let text = format!("{}{}", pages_words(group.pages), group.difference.text);
        Finding {
            at: group.at(),
            cells: group.cells,
            ..Finding::new(Level::Error, head, text)
        }
    }

    /// The first cells by name, the others counted: `a on 6.12, b on 6.12 and 3 more`.
    pub(super) fn names(&self, of: &Recorded, most: usize) -> String {
        let names = self.cells.iter().take(most).map(|id| of.cell(id));
        let names = names.collect::<Vec<_>>().join(", ");
        match self.cells.len().saturating_sub(most) {
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }
}

/// All of them. An empty list says nothing of how much ran: that is [`totals::line`]'s.
pub(super) fn findings(of: &Recorded) -> Vec<Finding<'_>> {
    let run = &of.run;
    let mut out = failed(of);
    out.extend(regressed(of));
    out.extend(errors(of, true, "went wrong by the host"));
    out.extend(errors(of, false, "went wrong by the harness"));
    if !run.unfinished.is_empty() {
        let text = format!(
            "{} of {} did not finish: the run was cut off",
            run.unfinished.len(),
            count(run.cells.len() + run.unfinished.len(), "cell")
        );
        out.push(Finding {
            cells: run.unfinished.iter().collect(),
            ..Finding::new(Level::Error, "not finished", text)
        });
    }
    for over in &run.over_ceiling {
        let text = format!(
            "{} skipped {} of {}, at most {} may be",
            over.kernel, over.skips, over.suite, over.ceiling
        );
        out.push(Finding::new(Level::Error, "too much was skipped", text));
    }
    if run.pages_predicted != run.pages_read {
        out.push(Finding::new(
            Level::Error,
            "without a prediction",
            totals::pages(run),
        ));
    }
    let ran = totals::headline(run);
    if matches!(ran, "nothing ran" | "nothing was selected") {
        let text = "no cell of the run has passed or failed".to_owned();
        out.push(Finding::new(Level::Error, "nothing ran", text));
    }
    out.extend(run.flaky.iter().map(flaky));
    let notices = run.notices.iter();
    out.extend(notices.map(|n| Finding::new(Level::Warning, "noticed", n.clone())));
    out
}

/// Cells that fail by themselves, whichever kernel's: by reason, by the worst sort of failure first.
fn failed(of: &Recorded) -> Vec<Finding<'_>> {
    let mut found: Vec<(Option<FailureKind>, usize, Finding<'_>)> = Vec::new();
    let mut by_reason: HashMap<&str, usize> = HashMap::new();
    for (id, verdict) in &of.run.cells {
        let CellVerdict::Fail { reasons, kinds, .. } = verdict else {
            continue;
        };
        let unsaid = ["it failed, and nothing says why".to_owned()];
        let said: Vec<&str> = reasons.iter().map(String::as_str).collect();
        if said.is_empty() {
            let [text] = unsaid;
            found.push((
                kinds.first().copied(),
                0,
                Finding {
                    cells: vec![id],
                    ..Finding::new(Level::Error, "failed", text)
                },
            ));
        }
        for (n, reason) in said.into_iter().enumerate() {
            if let Some(at) = by_reason.get(reason) {
                found[*at].2.cells.push(id);
                continue;
            }
            by_reason.insert(reason, found.len());
            let finding = Finding {
                cells: vec![id],
                place: of.place(id, reason),
                ..Finding::new(Level::Error, "failed", reason.to_owned())
            };
            found.push((kinds.first().copied(), n, finding));
        }
    }
    // A cell's first reason is its worst. The sort keeps the order of the cells.
    found.sort_by_key(|(kind, n, _)| (*kind, *n));
    found.into_iter().map(|(_, _, f)| f).collect()
}

/// Pairs that regressed: first those of which both cells pass, since nothing else tells of them.
fn regressed(of: &Recorded) -> Vec<Finding<'_>> {
    let failed: std::collections::HashSet<&CellId> = of
        .run
        .cells
        .iter()
        .filter(|(_, v)| matches!(v, CellVerdict::Fail { .. }))
        .map(|(id, _)| id)
        .collect();
    let all = of.run.pairs.iter();
    let (told, only): (Vec<&PairRecord>, Vec<&PairRecord>) = all
        .filter(|p| p.verdict == PairVerdict::Regressed)
        .partition(|p| failed.contains(&p.other));
    let mut out = Vec::new();
    for pairs in [only, told] {
        out.extend(
            grouped(&pairs)
                .into_iter()
                .map(|group| Finding::of(group, "regressed")),
        );
    }
    out
}

/// Cells that say nothing of the kernel.
fn errors<'a>(of: &'a Recorded, host: bool, head: &'static str) -> Vec<Finding<'a>> {
    let mut out: Vec<Finding<'a>> = Vec::new();
    for (id, verdict) in &of.run.cells {
        match verdict {
            CellVerdict::Error { reason, host: by } if *by == host => {
                match out.iter_mut().find(|f| f.text == *reason) {
                    Some(same) => same.cells.push(id),
                    None => out.push(Finding {
                        cells: vec![id],
                        ..Finding::new(Level::Error, head, reason.clone())
                    }),
                }
            }
            _ => {}
        }
    }
    out
}

fn flaky(flake: &FlakyRecord) -> Finding<'_> {
    let text = format!(
        "{} of {} runs did not pass: {}",
        flake.failed, flake.runs, flake.reason
    );
    Finding {
        cells: vec![&flake.cell],
        ..Finding::new(Level::Warning, "flaky", text)
    }
}
