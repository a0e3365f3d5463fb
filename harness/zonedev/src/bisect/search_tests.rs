//! Simulated histories: how many trials it takes, and how often the right step is named.

use super::*;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn happens(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < p
    }
}

/// How a simulated search went.
struct Went {
    next: Next,
    steps: usize,
    trials: u32,
}

const COSTS: Costs = Costs {
    build: 30.0,
    start: 10.0,
    trial: 3.0,
};

/// Searches where `culprit` brought what shows at `rate`, and `broken` steps do not build.
fn search(history: &History, culprit: usize, rate: f64, broken: &[bool], dice: &mut Dice) -> Went {
    let prior = vec![1.0; history.steps()];
    let mut search = Search::new(history.clone(), &prior, 0.995, COSTS);
    // The bad end, as often as it takes to see it five times.
    let mut at_end = Trials::default();
    while at_end.shown < 5 || at_end.trials < 12 {
        at_end.trials += 1;
        at_end.shown += u32::from(dice.happens(rate));
    }
    search.tried(history.last(), at_end);
    let mut went = Went {
        next: Next::Found {
            step: 0,
            likely: 0.0,
        },
        steps: 0,
        trials: 0,
    };
    let mut tried = vec![false; history.steps()];
    tried[history.last()] = true;
    for _ in 0..10_000 {
        went.next = search.next();
        let Next::Try { step, trials } = went.next else {
            return went;
        };
        went.steps += usize::from(!std::mem::replace(&mut tried[step], true));
        if broken[step] {
            search.skip(step);
            continue;
        }
        let has = history.contained(step)[culprit];
        let mut seen = Trials::default();
        while seen.trials < trials && seen.shown == 0 {
            seen.trials += 1;
            seen.shown += u32::from(has && dice.happens(rate));
        }
        went.trials += seen.trials;
        search.tried(step, seen);
    }
    panic!("no end");
}

fn log2(n: usize) -> usize {
    n.next_power_of_two().trailing_zeros() as usize
}

#[test]
fn what_always_shows_takes_no_more_steps_than_halving() {
    let mut dice = Dice(1);
    for n in [1, 2, 3, 12, 40, 64, 100, 1000] {
        let history = History::line(n).unwrap();
        let fine = vec![false; n];
        let each: Vec<usize> = match n {
            1000 => (0..50).map(|_| dice.below(n)).collect(),
            _ => (0..n).collect(),
        };
        for culprit in each {
            let went = search(&history, culprit, 1.0, &fine, &mut dice);
            let Next::Found { step, .. } = went.next else {
                panic!("{:?}", went.next);
            };
            assert_eq!(step, culprit, "of {n}");
            assert!(went.steps <= log2(n), "{} steps of {n}", went.steps);
        }
    }
}

/// A history with merges: side branches of a few steps.
fn merged(n: usize, dice: &mut Dice) -> History {
    let mut parents: Vec<Vec<usize>> = vec![vec![]];
    let mut tip = 0;
    while parents.len() < n {
        let base = tip;
        let side = dice.below(6);
        if side == 0 || parents.len() + 2 * side + 2 > n {
            parents.push(vec![tip]);
            tip = parents.len() - 1;
            continue;
        }
        let mut ends = [base, base];
        for end in &mut ends {
            for _ in 0..side {
                parents.push(vec![*end]);
                *end = parents.len() - 1;
            }
        }
        parents.push(ends.to_vec());
        tip = parents.len() - 1;
    }
    History::of(parents).unwrap()
}

/// How many searches of each kind: a few in every test run, thousands in `just simulate`.
fn searches(few: u32) -> u32 {
    let asked = std::env::var("ZONEDEV_SIMULATED");
    asked.map_or(few, |n| n.parse().expect("ZONEDEV_SIMULATED is a number"))
}

/// Of many searches: how many named the right step, how many a range with it, and the means of
/// steps and trials.
#[derive(Debug, Default)]
struct Tally {
    searches: u32,
    right: u32,
    within: u32,
    steps: f64,
    trials: f64,
    most: u32,
}

fn many(
    searches: u32,
    history: impl Fn(&mut Dice) -> History,
    rate: f64,
    broken: f64,
    seed: u64,
) -> Tally {
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    for _ in 0..searches {
        let history = history(&mut dice);
        let n = history.steps();
        let culprit = dice.below(n);
        let mut skips: Vec<bool> = (0..n).map(|_| dice.happens(broken)).collect();
        // The ends were tried.
        skips[n - 1] = false;
        let went = search(&history, culprit, rate, &skips, &mut dice);
        tally.searches += 1;
        tally.steps += went.steps as f64 / f64::from(searches);
        tally.trials += f64::from(went.trials) / f64::from(searches);
        tally.most = tally.most.max(went.trials);
        match went.next {
            Next::Found { step, .. } => tally.right += u32::from(step == culprit),
            Next::Among { steps, .. } => tally.within += u32::from(steps.contains(&culprit)),
            Next::Try { .. } => unreachable!(),
        }
    }
    tally
}

/// Halving with so many repeats of each step that it is right as often: how many trials that takes.
fn halving(n: usize, rate: f64, right: f64) -> f64 {
    let steps = log2(n) as f64;
    // About half of the steps have it, and each of those must show it once.
    let each = 1.0 - right.powf(2.0 / steps);
    let repeats = (each.ln() / (1.0 - rate).ln()).ceil();
    let until_shown: f64 = (0..repeats as i32).map(|k| (1.0 - rate).powi(k)).sum();
    steps / 2.0 * (repeats + until_shown)
}

#[test]
fn what_shows_now_and_then_is_found_all_the_same() {
    let line = |n: usize| move |_: &mut Dice| History::line(n).unwrap();
    let asked = searches(8);
    for (rate, broken) in [
        (1.0, 0.0),
        (1.0, 0.3),
        (0.7, 0.0),
        (0.3, 0.0),
        (0.3, 0.1),
        (0.1, 0.0),
    ] {
        if asked < 100 && rate == 0.1 {
            continue;
        }
        for merges in [false, true] {
            let tally = match merges {
                false => many(asked, line(64), rate, broken, 7),
                true => many(asked, |d| merged(64, d), rate, broken, 7),
            };
            let plain = halving(64, rate, 0.995);
            println!(
                "64, merges {merges}, rate {rate}, {broken} broken: {tally:?}, halving {plain}"
            );
            let right = tally.right + tally.within;
            // Of a few, one may be wrong.
            let least = (tally.searches * 99).div_ceil(100).min(tally.searches - 1);
            assert!(right >= least, "{tally:?}");
            assert!(broken > 0.0 || tally.within == 0, "{tally:?}");
        }
    }
}

#[test]
fn twenty_thousand_steps_are_no_more_than_fifteen() {
    let asked = searches(1).div_ceil(20);
    let tally = many(asked, |_| History::line(20_000).unwrap(), 1.0, 0.0, 3);
    assert_eq!(
        (tally.right, tally.steps <= 15.0),
        (asked, true),
        "{tally:?}"
    );
    let tally = many(asked, |dice| merged(2_000, dice), 0.5, 0.0, 4);
    println!("2000 with merges, rate 0.5: {tally:?}");
    assert!(tally.right + 1 >= asked, "{tally:?}");
}

#[test]
fn a_run_of_steps_that_do_not_build_is_named_as_a_range() {
    let history = History::line(64).unwrap();
    let mut dice = Dice(5);
    let mut broken = vec![false; 64];
    broken[20..40].fill(true);
    let went = search(&history, 30, 1.0, &broken, &mut dice);
    let steps: Vec<usize> = (20..=40).collect();
    assert!(
        matches!(&went.next, Next::Among { steps: s, .. } if *s == steps),
        "{:?}",
        went.next
    );
    // One beside them is named all the same.
    for culprit in [19, 41] {
        let went = search(&history, culprit, 1.0, &broken, &mut dice);
        let is = matches!(went.next, Next::Found { step, .. } if step == culprit);
        assert!(is, "{culprit}: {:?}", went.next);
    }
}

#[test]
fn the_rate_has_bounds_that_narrow() {
    let history = History::line(8).unwrap();
    let mut search = Search::new(history, &[1.0; 8], 0.99, COSTS);
    let (_, low, high) = search.belief().rate();
    assert!(low < 0.2 && high == 1.0, "{low} {high}");
    let seen = Trials {
        trials: 40,
        shown: 12,
    };
    search.tried(7, seen);
    let (mean, low, high) = search.belief().rate();
    assert!((0.25..0.36).contains(&mean), "{mean}");
    assert!(low > 0.13 && high < 0.5, "{low} {high}");
    assert_eq!(search.seen(7), seen);
}

#[test]
fn a_prior_draws_the_first_step_to_it() {
    let history = History::line(64).unwrap();
    let mut prior = vec![1.0; 64];
    prior[50] = 1000.0;
    let search = Search::new(history, &prior, 0.99, COSTS);
    let Next::Try { step, .. } = search.next() else {
        panic!("nothing to try");
    };
    assert!([49, 50].contains(&step), "{step}");
}

#[test]
fn what_may_come_next_is_foretold() {
    let mut search = Search::new(History::line(64).unwrap(), &[1.0; 64], 0.99, COSTS);
    let at_end = Trials {
        trials: 12,
        shown: 12,
    };
    search.tried(63, at_end);
    let Next::Try { step, trials } = search.next() else {
        panic!("nothing to try");
    };
    let foretold = search.likely_next(step, trials);
    assert_eq!(foretold.len(), 2);
    for shown in [0, trials] {
        let mut then = search.clone();
        then.tried(step, Trials { trials, shown });
        let Next::Try { step: next, .. } = then.next() else {
            panic!("it can't be over");
        };
        assert!(foretold.contains(&next), "{next} of {foretold:?}");
    }
}
