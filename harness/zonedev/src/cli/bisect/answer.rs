//! What a bisection answers.

use std::fmt::Write as _;

use super::Bisection;
use crate::bisect::{Next, Trials};
use crate::report::escape;

/// Digits of a commit's name that are shown.
const SHOWN: usize = 12;

/// In words.
pub(super) fn how_often(seen: Trials) -> String {
    format!("failed in {} of {} trials", seen.shown, seen.trials)
}

impl Bisection<'_> {
    /// A step as `Fixes:` has it.
    pub(super) fn name(&self, n: usize) -> String {
        let step = &self.question.steps[n];
        let id = &step.id[..step.id.len().min(SHOWN)];
        format!("{id} (\"{}\")", escape(&step.title))
    }

    /// The answer, fit for a mail.
    pub(super) fn answer(&self, next: &Next) -> String {
        let mut out = String::new();
        let (mean, low, high) = self.search.belief().rate();
        let tried = |n: usize| how_often(self.search.seen(n));
        match next {
            Next::Found { step, likely } => {
                let _ = writeln!(
                    out,
                    "{} brought it, {:.2} % sure.\n",
                    self.name(*step),
                    likely * 100.0
                );
                let _ = writeln!(out, "  {}: {}", self.name(*step), tried(*step));
                for parent in self.search.history().parents(*step) {
                    let _ = writeln!(
                        out,
                        "  its parent {}: {}",
                        self.name(*parent),
                        tried(*parent)
                    );
                }
                if self.search.history().parents(*step).is_empty() {
                    let _ = writeln!(out, "  the good end: {}", how_often(self.good));
                }
                let _ = writeln!(out, "\nFixes: {}", self.name(*step));
            }
            Next::Among { steps, likely } => {
                let _ = writeln!(
                    out,
                    "One of these {} brought it, {:.2} % sure; the others of them can't be tried:\n",
                    steps.len(),
                    likely * 100.0
                );
                for step in steps {
                    let _ = writeln!(out, "  {}", self.name(*step));
                }
            }
            Next::Try { .. } => {}
        }
        let _ = writeln!(out, "\ncase: {}", self.question.case);
        if let Some(signature) = &self.signature {
            let _ = writeln!(out, "it fails so: {}", escape(signature));
        }
        let _ = writeln!(
            out,
            "between {} and {}: {} steps; where it is there it shows in {:.0} % of trials ({:.0} to {:.0})",
            self.question.good,
            self.question.bad,
            self.question.steps.len(),
            mean * 100.0,
            low * 100.0,
            high * 100.0
        );
        out
    }
}
