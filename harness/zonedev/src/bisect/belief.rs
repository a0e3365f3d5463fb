//! What the trials so far let believe: which step brought it, and how often it shows.

use serde::{Deserialize, Serialize};

use super::history::History;

/// Rates that are thought of, beside always.
const RATES: usize = 24;
/// How likely it is from the outset that it shows always.
const ALWAYS: f64 = 0.5;
/// How often a step shows what it does not have: never, but for what nobody thought of.
const FALSE_ALARM: f64 = 1e-9;

/// Trials of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trials {
    /// How many there were.
    pub trials: u32,
    /// In how many it showed.
    pub shown: u32,
}

/// For each step and each rate, how likely it is that this step brought it and it shows so often.
#[derive(Clone, Debug)]
pub struct Belief {
    /// Ascending; the last is 1.
    rates: Vec<f64>,
    /// By step, then by rate; they sum to 1.
    joint: Vec<Vec<f64>>,
}

impl Belief {
    /// Before any trial. `prior` has a weight for each step, of which only the ratios count; none may
    /// be 0.
    pub fn new(prior: &[f64]) -> Self {
        let rates: Vec<f64> = (0..RATES)
            .map(|n| (n as f64 + 0.5) / RATES as f64)
            .chain([1.0])
            .collect();
        let of_rate = |n: usize| match n {
            RATES => ALWAYS,
            _ => (1.0 - ALWAYS) / RATES as f64,
        };
        let whole: f64 = prior.iter().sum();
        let joint = prior
            .iter()
            .map(|p| (0..rates.len()).map(|n| p / whole * of_rate(n)).collect())
            .collect();
        Belief { rates, joint }
    }

    /// Takes trials of a step into account.
    pub fn learn(&mut self, history: &History, step: usize, seen: Trials) {
        if seen.trials == 0 {
            return;
        }
        let contained = history.contained(step);
        let likely = |rate: f64| {
            let (shown, not) = (f64::from(seen.shown), f64::from(seen.trials - seen.shown));
            power(rate, shown) * power(1.0 - rate, not)
        };
        let with: Vec<f64> = self.rates.iter().map(|r| likely(*r)).collect();
        let without = likely(FALSE_ALARM);
        let mut whole = 0.0;
        for (of_step, contained) in self.joint.iter_mut().zip(contained) {
            for (p, with) in of_step.iter_mut().zip(&with) {
                *p *= if contained { *with } else { without };
                whole += *p;
            }
        }
        // Where nothing fits any more, as when each trial contradicts the other, all stays open.
        if whole > 0.0 {
            self.joint.iter_mut().flatten().for_each(|p| *p /= whole);
        }
    }

    /// How likely it is for each step that it brought it.
    pub fn steps(&self) -> Vec<f64> {
        self.joint.iter().map(|of| of.iter().sum()).collect()
    }

    /// The likeliest step, and how likely it is.
    pub fn best(&self) -> (usize, f64) {
        let steps = self.steps().into_iter().enumerate();
        steps.fold(
            (0, 0.0),
            |best, (n, p)| if p > best.1 { (n, p) } else { best },
        )
    }

    /// The rate: its mean, and the bounds of the 95 % in the middle.
    pub fn rate(&self) -> (f64, f64, f64) {
        let of: Vec<f64> = (0..self.rates.len())
            .map(|n| self.joint.iter().map(|of| of[n]).sum())
            .collect();
        let mean = self.rates.iter().zip(&of).map(|(r, p)| r * p).sum();
        let at = |share: f64| {
            let mut sum = 0.0;
            let within = |p: &&f64| {
                sum += **p;
                sum < share
            };
            self.rates[of.iter().take_while(within).count().min(RATES)]
        };
        (mean, at(0.025), at(0.975))
    }

    /// How likely it is that it shows in so many trials of a step.
    pub fn shows(&self, history: &History, step: usize, trials: u32) -> f64 {
        let shows = |rate: &f64| 1.0 - power(1.0 - rate, f64::from(trials));
        let shows: Vec<f64> = self.rates.iter().map(shows).collect();
        let contained = history.contained(step);
        let of = self.joint.iter().zip(contained).filter(|(_, is)| *is);
        of.map(|(of, _)| of.iter().zip(&shows).map(|(p, s)| p * s).sum::<f64>())
            .sum()
    }

    /// What so many trials of each step would tell, in bits, on the mean. The first trial in which it
    /// shows ends them.
    pub fn tell(&self, history: &History, trials: u32) -> Vec<f64> {
        let shows: Vec<f64> = (self.rates.iter())
            .map(|r| 1.0 - power(1.0 - r, f64::from(trials)))
            .collect();
        let sums = history.sums(|step| {
            let of = &self.joint[step];
            let p: f64 = of.iter().sum();
            let shown: f64 = of.iter().zip(&shows).map(|(p, s)| p * s).sum();
            // Rounding must not make it more than certain.
            let rest = if p > 0.0 {
                p * entropy((shown / p).min(1.0))
            } else {
                0.0
            };
            [shown, rest]
        });
        let tells = sums
            .into_iter()
            .map(|[shown, rest]| entropy(shown.min(1.0)) - rest);
        tells.map(|bits| bits.max(0.0)).collect()
    }
}

/// `0^0` is 1: what was never tried contradicts nothing.
fn power(base: f64, n: f64) -> f64 {
    if n == 0.0 { 1.0 } else { base.powf(n) }
}

/// Of a coin, in bits.
fn entropy(p: f64) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    of(p) + of(1.0 - p)
}
