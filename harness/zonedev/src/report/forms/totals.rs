//! How much ran, and what came of it: every form tells this, most of all where all is well.

use crate::record::{CellVerdict, PairVerdict, RunRecord};
use crate::report::text::{count, duration};

/// Numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) planned: usize,
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) harness: usize,
    pub(super) host: usize,
    pub(super) skipped: usize,
    pub(super) unfinished: usize,
}

impl Totals {
    pub(super) fn of(run: &RunRecord) -> Totals {
        let mut out = Totals {
            planned: run.cells.len() + run.unfinished.len(),
            unfinished: run.unfinished.len(),
            ..Totals::default()
        };
        for (_, verdict) in &run.cells {
            *match verdict {
                CellVerdict::Pass {} => &mut out.passed,
                CellVerdict::Fail { .. } => &mut out.failed,
                CellVerdict::Skip { .. } => &mut out.skipped,
                CellVerdict::Error { host: false, .. } => &mut out.harness,
                CellVerdict::Error { host: true, .. } => &mut out.host,
            } += 1;
        }
        out
    }

    /// `70 of 74 cells passed, 2 failed, 1 was skipped, 1 did not finish`.
    pub(super) fn cells(&self) -> String {
        let mut out = format!("{} of {} passed", self.passed, count(self.planned, "cell"));
        for (n, words) in [
            (self.failed, "failed"),
            (self.host, "went wrong by the host"),
            (self.harness, "went wrong by the harness"),
            (self.unfinished, "did not finish"),
            (self.skipped, "skipped"),
        ] {
            if n > 0 {
                out += &format!(", {n} {words}");
            }
        }
        out
    }
}

/// How many pages were read, and whether each had its prediction.
pub(super) fn pages(run: &RunRecord) -> String {
    match (run.pages_read, run.pages_predicted) {
        (0, _) => "no page was read".to_owned(),
        (read, predicted) if read == predicted => format!("all {read} pages read were predicted"),
        (read, predicted) => format!("only {predicted} of {read} pages read were predicted"),
    }
}

/// What came of the pairs: `2 regressed, 35 same`; empty where there are none.
pub(super) fn pairs(run: &RunRecord) -> String {
    let words = [
        (PairVerdict::Regressed, "regressed"),
        (PairVerdict::Incomparable, "not comparable"),
        (PairVerdict::Fixed, "fixed"),
        (PairVerdict::ChangedAsAccepted, "changed as accepted"),
        (PairVerdict::Same, "same"),
    ];
    let words = words.iter().filter_map(|(verdict, word)| {
        let n = run.pairs.iter().filter(|p| p.verdict == *verdict).count();
        (n > 0).then(|| format!("{n} {word}"))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The whole in a few words. A run that was cut off, or of which nothing ran, is never well.
pub(super) fn headline(run: &RunRecord) -> &'static str {
    let totals = Totals::of(run);
    match run.exit_code {
        1 => "REGRESSED",
        4 => "nothing was selected",
        5 => "a kernel or an image did not build",
        _ if totals.unfinished > 0 => "cut off",
        0 if totals.passed == 0 => "nothing ran",
        0 => "nothing regressed",
        _ => "the harness or the host failed",
    }
}

/// Whether nothing is wrong, and something ran.
pub(super) fn is_well(run: &RunRecord) -> bool {
    headline(run) == "nothing regressed"
}

/// How it ran: `QEMU 7.2.22 with tcg (no /dev/kvm)`. Emulation is never silent.
pub(super) fn machine(run: &RunRecord) -> String {
    let why = match &run.accel_reason {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    format!("QEMU {} with {}{why}", run.qemu, run.accel)
}

/// Cells, pages and time in one line.
pub(super) fn line(run: &RunRecord) -> String {
    let mut out = format!("{}; {}", Totals::of(run).cells(), pages(run));
    let pairs = pairs(run);
    if !pairs.is_empty() {
        out += &format!("; pairs: {pairs}");
    }
    if run.took_ms > 0 {
        out += &format!("; {}", duration(run.took_ms));
    }
    out
}
