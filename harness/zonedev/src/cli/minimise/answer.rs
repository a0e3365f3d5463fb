//! What a minimisation answers.

use std::fmt::Write as _;

use super::trials::Trials;
use super::{CASE, Program};
use crate::bisect::{Belief, History, Trials as Seen};
use crate::minimise::{Head, Question};
use crate::report::escape;

/// Of trials: the mean of the rate, and the bounds of the 95 % in the middle.
pub(super) fn rate(seen: Seen) -> (f64, f64, f64) {
    let mut belief = Belief::new(&[1.0]);
    if let Ok(history) = History::line(1) {
        belief.learn(&history, 0, seen);
    }
    belief.rate()
}

fn how_often(seen: Seen) -> String {
    let (_, low, high) = rate(seen);
    match seen.shown == seen.trials {
        true => format!("{} of {} trials", seen.shown, seen.trials),
        false => format!(
            "{} of {} trials ({:.0} to {:.0} %)",
            seen.shown,
            seen.trials,
            low * 100.0,
            high * 100.0
        ),
    }
}

/// What the file says at its top.
pub(super) fn head(
    head: &Head,
    question: &Question,
    (whole, small): (&Program, &Program),
    (words, seen): (Option<&str>, Seen),
) -> Head {
    let mut out = head.clone();
    let mut say = |line: String| out.comment.push(line);
    say(format!(
        "{}, minimised by zonedev {}: {} operations to {}.",
        question.case,
        env!("CARGO_PKG_VERSION"),
        whole.steps.len(),
        small.steps.len()
    ));
    say(format!(
        "On {} it fails in {}:",
        question.kernel,
        how_often(seen)
    ));
    say(format!("  {}", words.unwrap_or(&question.signature.reason)));
    if let Some(good) = &question.good {
        say(format!("On {good} it passes."));
    }
    let more = match seen.shown < seen.trials {
        true => " --repeat 40 --until-fails",
        false => "",
    };
    say(format!(
        "  zonedev matrix -k {} --case {CASE}{more}",
        question.kernel
    ));
    out
}

/// The answer, fit for a terminal.
pub(super) fn answer(
    question: &Question,
    trials: &Trials,
    (whole, of_whole): (&Program, Seen),
    (small, of_small): (&Program, Seen),
) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} on {}", question.case, question.kernel);
    let _ = writeln!(out, "it fails so: {}", escape(&question.signature.reason));
    let _ = writeln!(
        out,
        "  the whole case: {}; failed in {}",
        whole.measure(),
        how_often(of_whole)
    );
    let _ = writeln!(
        out,
        "  what is left:   {}; failed in {}",
        small.measure(),
        how_often(of_small)
    );
    if !trials.is_enough(of_small) {
        let _ = writeln!(
            out,
            "  it fails less often than it was found to: take the rate for what it is"
        );
    }
    let minutes = (trials.searched_s / 60.0).max(f64::MIN_POSITIVE);
    let _ = writeln!(
        out,
        "{} trials in {:.0} s, {:.0} a minute, with the boots",
        trials.ran,
        trials.searched_s,
        f64::from(trials.ran) / minutes
    );
    out
}
