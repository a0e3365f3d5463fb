//! Which step to try next, how often, and when it is found.

use super::belief::{Belief, Trials};
use super::history::History;

/// Numbers of trials in a row that are thought of.
const BATCHES: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// Bits that a step must tell to be worth trying.
const LEAST: f64 = 1e-4;
/// A step that could not be tried makes those within this part of what is still open doubtful.
const DOUBTFUL: f64 = 1.0 / 32.0;

/// What trying costs, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Of building a step that is not built yet.
    pub build: f64,
    /// Of what comes before the first of some trials: the boot.
    pub start: f64,
    /// Of one trial.
    pub trial: f64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Try this step, until it shows or so often.
    Try {
        /// The step.
        step: usize,
        /// How often at most.
        trials: u32,
    },
    /// This step brought it.
    Found {
        /// The step.
        step: usize,
        /// How likely that is.
        likely: f64,
    },
    /// One of these did, and no step that can be tried tells which.
    Among {
        /// Ascending.
        steps: Vec<usize>,
        /// How likely it is one of them.
        likely: f64,
    },
}

/// A search: what is known of each step.
#[derive(Clone, Debug)]
pub struct Search {
    history: History,
    belief: Belief,
    seen: Vec<Trials>,
    /// Could not be tried.
    skipped: Vec<bool>,
    confidence: f64,
    costs: Costs,
}

impl Search {
    /// One that ends when a step is as likely as `confidence`. For `prior` see [`Belief::new`].
    pub fn new(history: History, prior: &[f64], confidence: f64, costs: Costs) -> Self {
        let steps = history.steps();
        Search {
            belief: Belief::new(prior),
            seen: vec![Trials::default(); steps],
            skipped: vec![false; steps],
            history,
            confidence,
            costs,
        }
    }

    /// Trials of a step that was built for them.
    pub fn tried(&mut self, step: usize, trials: Trials) {
        self.seen[step].trials += trials.trials;
        self.seen[step].shown += trials.shown;
        self.belief.learn(&self.history, step, trials);
    }

    /// A step did not build or boot, or failed otherwise: it tells nothing.
    pub fn skip(&mut self, step: usize) {
        self.skipped[step] = true;
    }

    /// Whether a step was built: those that were tried are.
    fn is_built(&self, step: usize) -> bool {
        self.seen[step].trials > 0
    }

    /// Whether a step could not be tried.
    pub fn is_skipped(&self, step: usize) -> bool {
        self.skipped[step]
    }

    /// What is believed now.
    pub fn belief(&self) -> &Belief {
        &self.belief
    }

    /// All trials of a step.
    pub fn seen(&self, step: usize) -> Trials {
        self.seen[step]
    }

    /// The steps.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What it costs from now on.
    pub fn costs(&mut self, costs: Costs) {
        self.costs = costs;
    }

    /// What tells most for what it costs.
    pub fn next(&self) -> Next {
        let (best, likely) = self.belief.best();
        if likely >= self.confidence {
            return Next::Found { step: best, likely };
        }
        let worth = self.worth(&BATCHES);
        match worth.first() {
            Some(&(step, trials, _)) => Next::Try { step, trials },
            None => self.among(),
        }
    }

    /// What is to be built while a step is tried: what comes next if it shows there and if it does
    /// not, the likelier one first.
    pub fn likely_next(&self, step: usize, trials: u32) -> Vec<usize> {
        let shows = self.belief.shows(&self.history, step, trials);
        let after = |shown: u32| {
            let mut then = self.clone();
            then.tried(step, Trials { trials, shown });
            match then.next() {
                Next::Try { step, .. } if !then.is_built(step) => Some(step),
                _ => None,
            }
        };
        let both = if shows >= 0.5 { [1, 0] } else { [0, 1] };
        let mut out: Vec<usize> = both.into_iter().filter_map(after).collect();
        out.dedup();
        out
    }

    /// Each step that can be tried with the number of trials that suits it and its worth: bits a
    /// second. Best first.
    fn worth(&self, batches: &[u32]) -> Vec<(usize, u32, f64)> {
        let doubt = self.doubt();
        let mut best: Vec<Option<(u32, f64)>> = vec![None; self.history.steps()];
        for &trials in batches {
            for (step, bits) in self
                .belief
                .tell(&self.history, trials)
                .into_iter()
                .enumerate()
            {
                if self.skipped[step] || bits < LEAST {
                    continue;
                }
                let build = if self.is_built(step) {
                    0.0
                } else {
                    self.costs.build
                };
                let worth = bits * (1.0 - doubt[step])
                    / (build + self.costs.start + f64::from(trials) * self.costs.trial);
                if best[step].is_none_or(|(_, so_far)| worth > so_far) {
                    best[step] = Some((trials, worth));
                }
            }
        }
        let mut out: Vec<(usize, u32, f64)> = (best.into_iter().enumerate())
            .filter_map(|(step, best)| best.map(|(trials, worth)| (step, trials, worth)))
            .collect();
        out.sort_by(|a, b| b.2.total_cmp(&a.2));
        out
    }

    /// How likely it is that a step can't be tried either, since one near it could not.
    fn doubt(&self) -> Vec<f64> {
        let steps = self.history.steps();
        if !self.skipped.contains(&true) {
            return vec![0.0; steps];
        }
        let bits: f64 = (self.belief.steps().iter())
            .filter(|p| **p > 0.0)
            .map(|p| -p * p.log2())
            .sum();
        let reach = (bits.exp2() * DOUBTFUL).max(0.5);
        let mut distance = vec![f64::INFINITY; steps];
        let mut last = f64::INFINITY;
        for (to, skipped) in distance.iter_mut().zip(&self.skipped) {
            last = if *skipped { 0.0 } else { last + 1.0 };
            *to = last;
        }
        last = f64::INFINITY;
        for (to, skipped) in distance.iter_mut().zip(&self.skipped).rev() {
            last = if *skipped { 0.0 } else { last + 1.0 };
            *to = to.min(last);
        }
        distance.iter().map(|d| 1.0 / (1.0 + d / reach)).collect()
    }

    /// The fewest steps that are as likely together as is wanted.
    fn among(&self) -> Next {
        let mut steps: Vec<(usize, f64)> = self.belief.steps().into_iter().enumerate().collect();
        steps.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (mut out, mut likely) = (Vec::new(), 0.0);
        for (step, p) in steps {
            if likely >= self.confidence {
                break;
            }
            out.push(step);
            likely += p;
        }
        out.sort_unstable();
        Next::Among { steps: out, likely }
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
