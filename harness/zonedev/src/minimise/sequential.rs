//! When enough trials of a candidate have been seen: Wald's sequential probability ratio test.
//!
//! Two rates are compared: one that is good enough, and one that is too rare. Each trial adds
//! `ln(p1/p0)` where it shows and `ln((1-p1)/(1-p0))` where it does not; the test ends where the sum
//! passes `ln((1-b)/a)`, which accepts, or falls below `ln(b/(1-a))`, which refuses. A candidate that is
//! too rare is accepted with a likelihood of no more than `a/(1-b)`, one that is good enough is refused
//! with no more than `b/(1-a)`; one that never shows is never accepted.

use crate::bisect::Trials;

/// So many trials without a decision refuse.
const MOST: u32 = 1000;
/// What fails always is to go on doing so.
const NEARLY_ALWAYS: f64 = 0.9;
const NOT_ALWAYS: f64 = 1.0 / 3.0;
/// Parts of the whole case's rate that are enough, and too rare.
const ENOUGH: f64 = 1.0 / 2.0;
const RARE: f64 = 1.0 / 8.0;

/// What a test compares, and how often it may be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// A rate that is good enough.
    pub enough: f64,
    /// A rate that is too rare.
    pub rare: f64,
    /// How likely what is too rare may be accepted.
    pub accepts_rare: f64,
    /// How likely what is good enough may be refused.
    pub refuses_enough: f64,
}

impl Figures {
    /// For a case that failed in each of its trials: three that show in a row accept, and one that does
    /// not, at the first, refuses.
    pub const ALWAYS: Figures = Figures {
        enough: NEARLY_ALWAYS,
        rare: NOT_ALWAYS,
        accepts_rare: 0.05,
        refuses_enough: 0.2,
    };

    /// For a case that fails at this rate: half of it is enough, an eighth is too rare.
    pub fn of_rate(rate: f64) -> Figures {
        let rate = rate.clamp(0.001, 1.0);
        Figures {
            enough: rate * ENOUGH,
            rare: rate * RARE,
            accepts_rare: 0.01,
            refuses_enough: 0.05,
        }
    }
}

/// The trials of one candidate, as far as they went.
#[derive(Clone, Copy, Debug)]
pub struct Sequential {
    figures: Figures,
    seen: Trials,
    sum: f64,
    decided: Option<bool>,
}

impl Sequential {
    /// Before the first trial.
    pub fn new(figures: Figures) -> Self {
        Sequential {
            figures,
            seen: Trials::default(),
            sum: 0.0,
            decided: None,
        }
    }

    /// Takes a trial into account. What is decided stays so.
    pub fn learn(&mut self, shows: bool) {
        let Figures {
            enough,
            rare,
            accepts_rare,
            refuses_enough,
        } = self.figures;
        self.seen.trials += 1;
        self.seen.shown += u32::from(shows);
        self.sum += match shows {
            true => (enough / rare).ln(),
            false => ((1.0 - enough) / (1.0 - rare)).ln(),
        };
        if self.decided.is_some() {
            return;
        }
        if self.sum >= ((1.0 - refuses_enough) / accepts_rare).ln() {
            self.decided = Some(true);
        } else if self.sum <= (refuses_enough / (1.0 - accepts_rare)).ln()
            || self.seen.trials >= MOST
        {
            self.decided = Some(false);
        }
    }

    /// What came of it, where that is clear.
    pub fn decided(&self) -> Option<bool> {
        self.decided
    }

    /// All its trials.
    pub fn seen(&self) -> Trials {
        self.seen
    }

    /// The fewest trials that can still decide it.
    pub fn fewest(&self) -> u32 {
        if self.decided.is_some() {
            return 0;
        }
        let until = |shows| {
            let mut ahead = *self;
            let mut n = 0;
            while ahead.decided.is_none() {
                ahead.learn(shows);
                n += 1;
            }
            n
        };
        until(true).min(until(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often of so many candidates of this rate are accepted, and the mean of their trials.
    fn accepted(figures: Figures, rate: f64, of: u32, seed: u64) -> (f64, f64) {
        let mut dice = super::super::testing::Dice(seed);
        let (mut yes, mut trials) = (0, 0);
        for _ in 0..of {
            let mut test = Sequential::new(figures);
            while test.decided().is_none() {
                test.learn(dice.happens(rate));
            }
            yes += u32::from(test.decided() == Some(true));
            trials += test.seen().trials;
        }
        let of = f64::from(of);
        (f64::from(yes) / of, f64::from(trials) / of)
    }

    #[test]
    fn what_is_too_rare_is_accepted_no_more_often_than_stated() {
        for rate in [0.1, 0.3, 0.5, 0.8, 1.0] {
            let figures = Figures::of_rate(rate);
            let (wrong, _) = accepted(figures, figures.rare, 10_000, 1);
            let bound = figures.accepts_rare / (1.0 - figures.refuses_enough);
            assert!(wrong <= bound * 1.2, "{rate}: {wrong}, at most {bound}");
            let (right, trials) = accepted(figures, figures.enough, 10_000, 2);
            let bound = figures.refuses_enough / (1.0 - figures.accepts_rare);
            assert!(right >= 1.0 - bound * 1.2, "{rate}: {right}");
            let (whole, of_whole) = accepted(figures, rate, 1_000, 3);
            let (never, of_never) = accepted(figures, 0.0, 500, 4);
            println!(
                "{rate}: too rare {wrong}, enough {right} in {trials}, whole {whole} in {of_whole}, never in {of_never}"
            );
            assert_eq!(never, 0.0);
            assert!(whole > 0.99, "{rate}: {whole}");
        }
    }

    #[test]
    fn what_fails_always_takes_one_trial_to_refuse_and_three_to_accept() {
        let mut test = Sequential::new(Figures::ALWAYS);
        assert_eq!(test.fewest(), 1);
        test.learn(false);
        assert_eq!(test.decided(), Some(false));
        let mut test = Sequential::new(Figures::ALWAYS);
        for n in 0..3 {
            assert_eq!(test.decided(), None, "{n}");
            test.learn(true);
        }
        assert_eq!((test.decided(), test.fewest()), (Some(true), 0));
        let (wrong, _) = accepted(Figures::ALWAYS, NOT_ALWAYS, 20_000, 5);
        assert!(wrong <= 0.065, "{wrong}");
        let (right, _) = accepted(Figures::ALWAYS, 1.0, 100, 6);
        assert_eq!(right, 1.0);
    }

    #[test]
    fn a_decision_stands() {
        let mut test = Sequential::new(Figures::of_rate(0.3));
        while test.decided().is_none() {
            test.learn(true);
        }
        assert_eq!(test.seen().trials, 4);
        for _ in 0..500 {
            test.learn(false);
        }
        assert_eq!(test.decided(), Some(true));
    }
}
