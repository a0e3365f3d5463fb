//! The kernel's log and what it reported of its own trouble.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::record::{CellRecord, DumpedPage, Frame, Splat, Task, normalise};

/// Lines kept at each end of a log, and beside them every line of the first reports.
const MAX_ENDS: usize = 700;
/// Reports kept of one cell.
const MAX_REPORTS: usize = 60;
/// Lines kept of one report.
const MAX_REPORT_LINES: usize = 250;

/// Numbers the kinds of lines of several cells: two lines of one kind differ in addresses and
/// numbers only.
#[derive(Default)]
pub(super) struct Kinds(HashMap<String, u32>);

impl Kinds {
    fn number(&mut self, text: &str) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(normalise(text)).or_insert(next)
    }
}

/// Time in microseconds, step, who printed it, text, number of its kind.
type Line = (Option<u64>, Option<usize>, String, String, u32);

/// A cell's log as it is shown.
#[derive(Debug, Default, Serialize)]
pub(super) struct Log {
    /// By their place in the record; `lines` of a report are such places.
    lines: BTreeMap<usize, Line>,
    total: usize,
    reports: Vec<Report>,
    /// Reports that are left out.
    #[serde(skip_serializing_if = "is_zero")]
    more_reports: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[derive(Debug, Serialize)]
struct Report {
    kind: String,
    title: String,
    step: Option<usize>,
    /// Whether the step's contract lets it expect such a report, or it is known of this kernel.
    expected: bool,
    own: Vec<usize>,
    task: Option<Task>,
    cpu: Option<u32>,
    registers: BTreeMap<String, String>,
    trace: Vec<Frame>,
    page: Option<DumpedPage>,
    cut: bool,
}

/// Takes a cell's log over.
pub(super) fn log(cell: &CellRecord, kinds: &mut Kinds) -> Log {
    let total = cell.log.len();
    let reports: Vec<Report> = cell
        .splats
        .iter()
        .take(MAX_REPORTS)
        .map(|s| report(cell, s))
        .collect();
    let mut keep: Vec<usize> = (0..total.min(MAX_ENDS))
        .chain(total.saturating_sub(MAX_ENDS)..total)
        .chain(reports.iter().flat_map(|r| r.own.iter().copied()))
        .collect();
    keep.sort_unstable();
    keep.dedup();
    let lines = keep
        .into_iter()
        .filter_map(|i| {
            let line = cell.log.get(i)?;
            let caller = line.caller.clone().unwrap_or_default();
            let kind = kinds.number(&line.text);
            Some((
                i,
                (line.time_us, line.step, caller, line.text.clone(), kind),
            ))
        })
        .collect();
    Log {
        lines,
        total,
        more_reports: cell.splats.len().saturating_sub(reports.len()),
        reports,
    }
}

fn report(cell: &CellRecord, splat: &Splat) -> Report {
    let step = splat.step.and_then(|n| cell.steps.get(n));
    let of_step = step.is_some_and(|s| s.expected_splats.contains(&splat.title));
    let known = cell
        .known_failures
        .iter()
        .any(|k| k.what.is_report(&splat.title));
    Report {
        kind: splat.kind.clone(),
        title: splat.title.clone(),
        step: splat.step,
        expected: of_step || known,
        own: splat.own_lines().take(MAX_REPORT_LINES).collect(),
        task: splat.task.clone(),
        cpu: splat.cpu,
        registers: splat.registers.clone(),
        trace: splat.trace.clone(),
        page: splat.page.clone(),
        cut: splat.cut,
    }
}
