//! The verdict of one cell on its own.

use std::collections::BTreeSet;

use proto::StepResult;

use super::check::{Checked, check};
use crate::record::{
    CellRecord, CellVerdict, End, FailedRun, FailureKind, KnownFailure, KnownWhat, Left,
    StepRecord, TestStatus, Violation, kind_word, region_name,
};
use crate::spec::{Contract, HUNG};

/// Pages of RAM that a case may leave with nobody who is known to have them. Cases leave up to a
/// hundred in what the kernel keeps for the next use, and test_hmm adds a chunk of memory to a device
/// where it needs one, whose struct pages are 1024.
const RAM_BOUND: i64 = 3 * 1024;
/// Reasons told of one cell; a program may report ten thousand failures.
const MAX_REASONS: usize = 200;

/// A cell's verdict, and how much of it was predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedCell {
    /// The verdict.
    pub verdict: CellVerdict,
    /// Pages read, summed over the checkpoints.
    pub pages_read: u64,
    /// How many of these had a prediction.
    pub pages_predicted: u64,
    /// What went wrong as it is known to.
    pub known: Vec<KnownFailure>,
}

/// Judges a cell by its contract and by what its case expects.
pub fn judge_cell(cell: &CellRecord, contract: &Contract) -> JudgedCell {
    let checks: Vec<Checked> = cell
        .checkpoints
        .iter()
        .map(|c| check(c, contract))
        .collect();
    let pages_read = checks.iter().map(|c| c.pages).sum();
    let pages_predicted = checks.iter().map(|c| c.predicted).sum();
    let verdict = match &cell.end {
        End::Skipped { reason } => CellVerdict::Skip {
            reason: reason.clone(),
        },
        End::HarnessError { message } => CellVerdict::Error {
            reason: message.clone(),
            host: false,
        },
        End::HostError { message } => CellVerdict::Error {
            reason: message.clone(),
            host: true,
        },
        _ => {
            let is_known = |v: &&Violation| cell.known_failures.iter().any(|k| k.what.is(v));
            let violations: Vec<Violation> = checks
                .iter()
                .flat_map(|c| c.violations.iter().filter(|v| !is_known(v)).cloned())
                .collect();
            let why = reasons(cell, contract, &checks, &violations);
            if why.reasons.is_empty() {
                CellVerdict::Pass {}
            } else {
                CellVerdict::Fail {
                    reasons: why.reasons,
                    violations,
                    kinds: why.kinds.into_iter().collect(),
                }
            }
        }
    };
    JudgedCell {
        verdict,
        pages_read,
        pages_predicted,
        known: known_seen(cell, &checks),
    }
}

/// Why a cell fails, and what sorts of failure that is.
#[derive(Default)]
struct Why {
    reasons: Vec<String>,
    kinds: BTreeSet<FailureKind>,
}

impl Why {
    /// Adds what `find` finds, all of one kind.
    fn add(&mut self, kind: FailureKind, find: impl FnOnce(&mut Vec<String>)) {
        let before = self.reasons.len();
        find(&mut self.reasons);
        if self.reasons.len() > before {
            self.kinds.insert(kind);
        }
    }
}

fn reasons(
    cell: &CellRecord,
    contract: &Contract,
    checks: &[Checked],
    violations: &[Violation],
) -> Why {
    use FailureKind as K;
    let mut why = Why::default();
    why.add(end_kind(&cell.end), |r| ended(cell, r));
    let ends = why.reasons.len();
    why.add(K::KernelReported, |r| reports(cell, r));
    // A kernel that hangs has often said why.
    if matches!(cell.end, End::Hung { .. }) {
        why.reasons.rotate_left(ends);
    }
    let wrong = |s: &&StepRecord| {
        matches!(
            s.outcome.as_ref().map(|o| &o.result),
            Some(StepResult::WrongData { .. })
        )
    };
    let data = cell.steps.iter().any(|s| wrong(&s));
    why.add(
        if data {
            K::DataWrong
        } else {
            K::OperationFailed
        },
        |r| {
            steps(cell, r);
        },
    );
    why.add(K::ContractBroken, |r| {
        r.extend(violations.iter().map(violation_words));
    });
    why.add(K::TestFailed, |r| results(cell, r));
    why.add(K::KnownGone, |r| known_gone(cell, checks, r));
    why.add(K::ContractBroken, |r| {
        fixture_pages(cell, r);
        left_over(cell, r);
        not_returned(cell, contract, r);
    });
    why.add(K::Unstable, |r| unstable(cell, r));
    why.add(K::Unchecked, |r| checked_all(cell, checks, r));
    let more = why.reasons.len().saturating_sub(MAX_REASONS);
    if more > 0 {
        why.reasons.truncate(MAX_REASONS);
        why.reasons.push(format!("{more} further reasons"));
    }
    rate(cell, &mut why.reasons);
    why
}

/// The kind of a cell that did not see its end.
fn end_kind(end: &End) -> FailureKind {
    match end {
        End::Hung { .. } => FailureKind::KernelHung,
        End::AgentLost { .. } => FailureKind::AgentLost,
        End::GuestDied { how, .. } if how.starts_with("guest-") => FailureKind::GuestRebooted,
        End::GuestDied { .. } => FailureKind::GuestDied,
        _ => FailureKind::BootFailed,
    }
}

/// Such as `step 3 pin`.
pub(crate) fn step_words(cell: &CellRecord, step: Option<usize>) -> String {
    match step.map(|n| (n, cell.steps.get(n))) {
        Some((n, Some(s))) => format!("step {n} {}", s.op.word()),
        Some((n, None)) => format!("step {n}"),
        None => "before the first step".into(),
    }
}

fn ended(cell: &CellRecord, reasons: &mut Vec<String>) {
    let how = end_word(&cell.end);
    if is_known(
        cell,
        |k| matches!(k, KnownWhat::End { how: h } if Some(h.as_str()) == how),
    ) {
        return;
    }
    match &cell.end {
        End::BootFailed { reason } => reasons.push(format!("the kernel did not boot: {reason}")),
        End::GuestDied { step, how } => {
            if step.is_some_and(|s| ends_as_expected(cell, s, how)) {
                return;
            }
            reasons.push(format!(
                "the guest died at {}: {how}",
                step_words(cell, *step)
            ));
        }
        End::Hung { step, .. } if ends_as_expected(cell, *step, HUNG) => {}
        End::Hung { step, at } => {
            reasons.push(format!(
                "{} did not end: {at}",
                step_words(cell, Some(*step))
            ));
        }
        End::AgentLost { step, how } => {
            reasons.push(format!(
                "the agent was lost at {}: {how}",
                step_words(cell, *step)
            ));
        }
        End::Finished {}
        | End::Skipped { .. }
        | End::HarnessError { .. }
        | End::HostError { .. } => {}
    }
}

/// How a guest that did not see the case's end went.
fn end_word(end: &End) -> Option<&'static str> {
    match end {
        End::GuestDied { .. } => Some("died"),
        End::AgentLost { .. } => Some("lost"),
        End::Hung { .. } => Some("hung"),
        _ => None,
    }
}

fn is_known(cell: &CellRecord, is: impl Fn(&KnownWhat) -> bool) -> bool {
    cell.known_failures.iter().any(|k| is(&k.what))
}

/// A guest is only expected to hang or to die with the reports that the step expects of it; one that
/// resets or powers off may do so without a word.
fn ends_as_expected(cell: &CellRecord, step: usize, how: &str) -> bool {
    cell.steps.get(step).is_some_and(|s| {
        let wordless = how.starts_with("guest-");
        s.expected == how
            && (wordless || !s.expected_splats.is_empty())
            && s.expected_splats.iter().all(|t| came(cell, step, t))
    })
}

/// Whether the kernel reported this in a step.
fn came(cell: &CellRecord, step: usize, title: &str) -> bool {
    let mut of_step = cell.splats.iter().filter(|r| r.step == Some(step));
    of_step.any(|r| r.title == title)
}

/// Kernel reports that no step expects. Expected ones that never came are no matter, where the step
/// does not ask for them: a warning that fires once may have fired before.
fn reports(cell: &CellRecord, reasons: &mut Vec<String>) {
    let known = |title: &str| is_known(cell, |k| k.is_report(title));
    for splat in cell.splats.iter().filter(|s| !known(&s.title)) {
        let expected = splat
            .step
            .and_then(|n| cell.steps.get(n))
            .is_some_and(|s| s.expected_splats.contains(&splat.title));
        if !expected {
            reasons.push(format!(
                "{} at {}{}",
                splat.title,
                step_words(cell, splat.step),
                splat
                    .place()
                    .map(|p| format!(" ({}:{})", p.file, p.line))
                    .unwrap_or_default()
            ));
        }
    }
    for (n, step) in cell.steps.iter().enumerate().filter(|(_, s)| s.every_splat) {
        let missing = step.expected_splats.iter().filter(|t| !came(cell, n, t));
        reasons.extend(missing.map(|t| {
            format!(
                "{t} was expected at {} and did not come",
                step_words(cell, Some(n))
            )
        }));
    }
}

fn steps(cell: &CellRecord, reasons: &mut Vec<String>) {
    for (n, step) in cell.steps.iter().enumerate() {
        let Some(outcome) = &step.outcome else {
            continue;
        };
        let word = outcome.result.word();
        if word != step.expected && !is_known(cell, |k| is_outcome(k, step)) {
            reasons.push(format!(
                "{} gave {word}{}, expected {}",
                step_words(cell, Some(n)),
                detail(&outcome.result),
                step.expected
            ));
        }
    }
    // Where the cell ended early, its end says so.
    let not_run = cell.steps.iter().filter(|s| s.outcome.is_none()).count();
    if not_run > 0 && cell.end == (End::Finished {}) {
        let first = cell.steps.iter().position(|s| s.outcome.is_none());
        reasons.push(format!(
            "{not_run} of {} steps did not run, the first: {}",
            cell.steps.len(),
            step_words(cell, first)
        ));
    }
}

/// Whether a step came to what is known, where something else is expected.
fn is_outcome(known: &KnownWhat, step: &StepRecord) -> bool {
    let KnownWhat::Outcome { op, gives } = known else {
        return false;
    };
    let word = step.outcome.as_ref().map(|o| o.result.word());
    step.op.word() == op && word == Some(gives) && *gives != step.expected
}

/// What an outcome says beyond its word.
fn detail(result: &proto::StepResult) -> String {
    use proto::StepResult as R;
    match result {
        R::Errno { call, .. } => format!(" from {call}"),
        R::Blocked { wchan } => format!(" in {wchan}"),
        R::Died { how } => format!(" ({how})"),
        R::Failed { message } => format!(" ({message})"),
        R::Lacks { what } => format!(" ({what})"),
        R::WrongData {
            offset,
            expected,
            found,
        } => {
            format!(" ({found:#x} instead of {expected:#x} at {offset:#x})")
        }
        R::Ok {} | R::Signal { .. } => String::new(),
    }
}

/// A violation as one fragment.
pub(crate) fn violation_words(v: &Violation) -> String {
    let pages = match (v.pages, v.ranges) {
        (0, _) => String::new(),
        (1, _) => " of 1 page".to_owned(),
        (n, 1) => format!(" of {n} pages"),
        (n, ranges) => format!(" of {n} pages in {ranges} ranges"),
    };
    let place = match (v.pfn, v.offset) {
        (Some(pfn), Some(offset)) => format!(" from pfn {pfn:#x} (page {offset})"),
        (Some(pfn), None) => format!(" from pfn {pfn:#x}"),
        (None, Some(offset)) => format!(" from page {offset}"),
        (None, None) => String::new(),
    };
    format!(
        "at \"{}\": {} {}{pages}{place}: expected {}, found {} ({})",
        v.checkpoint, v.region, v.what, v.expected, v.found, v.because
    )
}

fn results(cell: &CellRecord, reasons: &mut Vec<String>) {
    let known = |name: &str| {
        is_known(
            cell,
            |k| matches!(k, KnownWhat::Test { name: n } if n == name),
        )
    };
    for result in &cell.results {
        // What is known is a test that fails: one that dies, or leaves itself out, is another matter.
        let said = match (result.status, known(&result.name)) {
            (TestStatus::Fail, false) => "failed",
            (TestStatus::Missing, _) => "never reported",
            (TestStatus::Pass, true) => "passed, and is listed as known to fail",
            (TestStatus::Skip, true) => "was skipped, and is listed as known to fail",
            _ => continue,
        };
        let why = result.message.lines().next().unwrap_or_default();
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        reasons.push(format!("test {} {said}{why}", result.name));
    }
}

/// What is listed as known and was not to be seen. A test that ran is told by [`results`].
fn known_gone(cell: &CellRecord, checks: &[Checked], reasons: &mut Vec<String>) {
    for known in cell.known_failures.iter().filter(|k| !k.sometimes) {
        let gone = match &known.what {
            KnownWhat::Test { name } => {
                let ran = cell.results.iter().any(|r| r.name == *name);
                (!ran).then_some("and did not run")
            }
            _ => (!seen(known, cell, checks)).then_some("and happens no longer"),
        };
        if let Some(gone) = gone {
            reasons.push(format!(
                "{} is listed as known to go wrong {gone}",
                known.what
            ));
        }
    }
}

fn seen(known: &KnownFailure, cell: &CellRecord, checks: &[Checked]) -> bool {
    match &known.what {
        KnownWhat::Test { name } => {
            let mut of_it = cell.results.iter().filter(|r| r.name == *name).peekable();
            of_it.peek().is_some() && of_it.all(|r| r.status == TestStatus::Fail)
        }
        KnownWhat::Report { title } => cell.splats.iter().any(|s| s.title == *title),
        what @ KnownWhat::Outcome { .. } => cell.steps.iter().any(|s| is_outcome(what, s)),
        KnownWhat::End { how } => end_word(&cell.end) == Some(how),
        what @ KnownWhat::Violation { .. } => checks
            .iter()
            .flat_map(|c| &c.violations)
            .any(|v| what.is(v)),
    }
}

/// What went wrong as it is known to.
fn known_seen(cell: &CellRecord, checks: &[Checked]) -> Vec<KnownFailure> {
    let known = cell.known_failures.iter();
    known.filter(|k| seen(k, cell, checks)).cloned().collect()
}

/// A fixture that brought no pages has not been provisioned, whatever its steps said.
fn fixture_pages(cell: &CellRecord, reasons: &mut Vec<String>) {
    let Some(first) = cell.checkpoints.first() else {
        return;
    };
    for kind in &cell.fixture_pages {
        if !first.pages.regions.iter().any(|r| r.kind == *kind) {
            reasons.push(format!(
                "at \"{}\": the fixture has no {} page",
                first.name,
                kind_word(*kind)
            ));
        }
    }
}

/// Once the case's processes are gone, the counters are where they were before it.
fn not_returned(cell: &CellRecord, contract: &Contract, reasons: &mut Vec<String>) {
    let Some(left) = &cell.left else { return };
    if let Some(problem) = &left.problem {
        reasons.push(format!("at the end: {problem}"));
    }
    if let Some(lost) = left.counters.get("lost_anon_pages")
        && *lost != 0
    {
        reasons.push(format!(
            "after the case: {lost} anonymous pages of RAM are mapped nowhere and not free"
        ));
    }
    // Programs come and go as they like, and a fixture's teardown is no life of a page.
    let is_judged = |op: &proto::Op| !matches!(op, proto::Op::Run { .. } | proto::Op::TornDown {});
    let (Some(before), true) = (&cell.before, cell.steps.iter().all(|s| is_judged(&s.op))) else {
        return;
    };
    let nobody = |at: &Left| at.counters.get("ram_of_nobody").copied();
    if let (Some(then), Some(now)) = (nobody(before), nobody(left))
        && now.saturating_sub(then) > RAM_BOUND
    {
        reasons.push(format!(
            "after the case: {} pages of RAM more are neither free nor anybody's",
            now.saturating_sub(then)
        ));
    }
    for (name, now) in &left.counters {
        let Some(counter) = name.strip_prefix("unaccounted_") else {
            continue;
        };
        if counter == "nr_page_table_pages" && contract.features.kernel_page_tables_counted {
            continue;
        }
        match before.counters.get(name) {
            Some(then) if then != now => reasons.push(format!(
                "after the case: {counter} is {:+} pages off, of which no process has any",
                now.saturating_sub(*then)
            )),
            _ => {}
        }
    }
}

/// Runs that passed, and not like the first.
fn unstable(cell: &CellRecord, reasons: &mut Vec<String>) {
    let Some(repeats) = &cell.repeats else { return };
    let Some(first) = repeats.otherwise.first() else {
        return;
    };
    reasons.push(format!(
        "{} of {} runs were observed otherwise than the first that passed, {}: {}",
        repeats.otherwise.len(),
        repeats.runs,
        which(&repeats.otherwise),
        first.reason
    ));
}

/// Runs, by number and seed.
fn which(runs: &[FailedRun]) -> String {
    const SHOWN: usize = 8;
    let one = |f: &FailedRun| match f.seed {
        Some(seed) => format!("{} (seed {seed})", f.run),
        None => f.run.to_string(),
    };
    let mut which: Vec<String> = runs.iter().take(SHOWN).map(one).collect();
    if runs.len() > SHOWN {
        which.push("…".into());
    }
    which.join(", ")
}

/// How often it did not pass, where it ran more than once.
fn rate(cell: &CellRecord, reasons: &mut Vec<String>) {
    let Some(repeats) = cell
        .repeats
        .as_ref()
        .filter(|r| !r.failed.is_empty() && !r.tolerated)
    else {
        return;
    };
    reasons.push(format!(
        "{} of {} runs did not pass: {}",
        repeats.failed.len(),
        repeats.runs,
        which(&repeats.failed)
    ));
}

/// After a fixture has been torn down, none of its pages is there. test_hmm's are where the
/// driver is a part of the kernel.
fn left_over(cell: &CellRecord, reasons: &mut Vec<String>) {
    use guestmem::PageKind as K;
    let position = |is: fn(&proto::Op) -> bool| cell.steps.iter().position(|s| is(&s.op));
    let Some(down) = position(|op| matches!(op, proto::Op::TornDown {})) else {
        return;
    };
    let unloaded = position(|op| matches!(op, proto::Op::Rmmod { .. })).is_some();
    for checkpoint in cell.checkpoints.iter().filter(|c| c.step > down) {
        for region in &checkpoint.pages.regions {
            if matches!(region.kind, K::Private | K::Coherent) && !unloaded {
                continue;
            }
            reasons.push(format!(
                "at \"{}\": {} pages of {} are left after the teardown",
                checkpoint.name,
                region.pages,
                region_name(region)
            ));
        }
    }
}

/// A check that could not run never reads as a pass.
fn checked_all(cell: &CellRecord, checks: &[Checked], reasons: &mut Vec<String>) {
    for (checkpoint, c) in cell.checkpoints.iter().zip(checks) {
        if c.predicted < c.pages {
            reasons.push(format!(
                "at \"{}\": only {} of {} pages could be predicted",
                checkpoint.name, c.predicted, c.pages
            ));
        }
    }
    let planned = cell
        .steps
        .iter()
        .filter(|s| matches!(s.op, proto::Op::Checkpoint { .. }))
        .count();
    if cell.end == (End::Finished {}) && planned > cell.checkpoints.len() {
        reasons.push(format!(
            "{} of {planned} checkpoints were read",
            cell.checkpoints.len()
        ));
    }
    let runs = cell
        .steps
        .iter()
        .any(|s| matches!(s.op, proto::Op::Run { .. }));
    if cell.end == (End::Finished {}) && runs && cell.results.is_empty() {
        reasons.push("a program ran and reported no result".into());
    }
    if cell.checkpoints.is_empty() && cell.results.is_empty() && reasons.is_empty() {
        reasons.push("nothing was checked".into());
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
