//! What a bisection knows, as `git bisect log` tells it.

use std::fmt::Write as _;

use super::Bisection;
use crate::bisect::{At, Trials, Tried};
use crate::report::escape;

impl Bisection<'_> {
    /// The lines of `git bisect log`, which `git bisect replay` takes. Steps that have it and steps
    /// that are believed not to are told as bad and good; what is not sure yet is a comment.
    pub(super) fn log(&self) -> String {
        let mut out = String::new();
        let last = self.search.history().last();
        let _ = writeln!(out, "git bisect start");
        let mut told = Vec::new();
        for (at, came) in &self.lines {
            let At::Step(n) = at else {
                if *at == At::Good && !told.contains(at) {
                    let _ = writeln!(out, "# good: [{}]", escape(self.good_revision()));
                    let _ = writeln!(out, "git bisect good {}", escape(self.good_revision()));
                    told.push(*at);
                }
                continue;
            };
            let step = &self.question.steps[*n];
            if told.contains(at) {
                continue;
            }
            told.push(*at);
            let seen = self.search.seen(*n);
            let word = match came {
                _ if seen.shown > 0 || *n == last => "bad",
                Tried::Skipped { .. } if seen == Trials::default() => "skip",
                _ if self.lacks(*n) => "good",
                _ => {
                    let _ = writeln!(
                        out,
                        "# not sure: [{}] {}: {} of {} trials",
                        escape(&step.id),
                        escape(&step.title),
                        seen.shown,
                        seen.trials
                    );
                    continue;
                }
            };
            let _ = writeln!(
                out,
                "# {word}: [{}] {}",
                escape(&step.id),
                escape(&step.title)
            );
            let _ = writeln!(out, "git bisect {word} {}", escape(&step.id));
        }
        if let Some((step, _)) = self.found() {
            let step = &self.question.steps[step];
            let _ = writeln!(
                out,
                "# first bad commit: [{}] {}",
                escape(&step.id),
                escape(&step.title)
            );
        }
        out
    }

    /// Whether it is believed that a step has not what is looked for.
    fn lacks(&self, n: usize) -> bool {
        let contained = self.search.history().contained(n);
        let of = self.search.belief().steps().into_iter().zip(contained);
        let has: f64 = of.filter(|(_, is)| *is).map(|(p, _)| p).sum();
        has <= 1.0 - self.question.confidence
    }

    /// The good end's revision, where it is one of a tree, or its name.
    fn good_revision(&self) -> &str {
        let good = &self.question.good;
        self.question.tree_base.as_deref().unwrap_or(good)
    }
}
