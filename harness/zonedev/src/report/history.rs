//! What the history says, for people.

use std::fmt::Write as _;

use super::sections::some;
use super::text::{Look, Paint, count, duration, escape, wrap};
use crate::history::{Answer, Point, Rate, RunDiff, RunRef, State, Times, Track};

/// Runs shown in a row of letters.
const MAX_LETTERS: usize = 30;
/// Cases of one heading.
const MAX_CASES: usize = 40;

/// Writes which cases are red, flake, or say nothing any more; of a case that was asked for, also
/// where it is green.
pub fn history(answers: &[Answer], runs: &[RunRef], look: &Look) -> String {
    let mut out = String::new();
    span(runs, &mut out, look);
    let red = |a: &&Answer| a.standing.red;
    let flaky = |a: &&Answer| !a.standing.red && a.standing.flaky.is_some();
    let quiet = |a: &&Answer| {
        !a.standing.red && a.standing.flaky.is_none() && a.standing.now != State::Pass
    };
    let green = |a: &&Answer| !red(a) && !flaky(a) && !quiet(a);
    type Which<'a> = &'a dyn Fn(&&Answer) -> bool;
    let blocks: [(Which<'_>, &str, Paint); 4] = [
        (&red, "red", Paint::Bad),
        (&flaky, "flaky", Paint::Changed),
        (&quiet, "without a verdict in the last run", Paint::Changed),
        (&green, "green", Paint::Good),
    ];
    for (which, head, paint) in blocks {
        let some: Vec<&Answer> = answers.iter().filter(|a| which(a)).collect();
        if some.is_empty() {
            continue;
        }
        let head = format!("{} {head}", some.len());
        let _ = writeln!(out, "\n{}", look.paint(paint, &head));
        for answer in some.iter().take(MAX_CASES) {
            one(answer, look, &mut out);
        }
        if some.len() > MAX_CASES {
            let _ = writeln!(out, "  and {} more", some.len() - MAX_CASES);
        }
    }
    if answers.is_empty() && !runs.is_empty() {
        let _ = writeln!(out, "\nNothing in it is red, flaky or without a verdict.");
    }
    out
}

fn span(runs: &[RunRef], out: &mut String, look: &Look) {
    let text = match runs {
        [] => "The history is empty.".to_owned(),
        [one] => format!("1 run, {}", day(one)),
        [first, .., last] => format!("{} runs, {} to {}", runs.len(), day(first), day(last)),
    };
    wrap(out, "", &text, look.width);
}

fn day(run: &RunRef) -> String {
    format!("{} ({})", run.started, run.name)
}

fn one(answer: &Answer, look: &Look, out: &mut String) {
    let Answer {
        track,
        standing,
        changed,
    } = answer;
    let text = format!("{} on {} ({})", track.case, track.kernel, track.accel);
    wrap(out, "  ", &text, look.width);
    let indent = "      ";
    let _ = writeln!(out, "{indent}{}", letters(track));
    let mut say = |text: String| wrap(out, indent, &text, look.width);
    let at = |p: &Point| format!("{}, build {}", day(&p.run), p.build_key);
    if let Some(since) = &standing.red_since {
        say(format!("red since {}", at(since)));
    }
    match (&standing.last_green, standing.now) {
        (_, State::Pass) => {}
        (Some(green), _) => say(format!("last green {}", at(green))),
        (None, _) => say("never green in these runs".to_owned()),
    }
    for (key, (before, after)) in changed {
        say(format!("{key}: {before} -> {after}"));
    }
    if let Some(rate) = &standing.flaky {
        say(rate_words(rate));
    }
    let reason = standing.reason.as_deref();
    if let Some(reason) = reason.filter(|_| standing.red || standing.now != State::Pass) {
        say(reason.to_owned());
    }
    if let Some(ms) = standing.median_ms {
        say(format!("{} (median)", duration(ms)));
    }
}

/// `..FFsE?`: the last runs, oldest first.
fn letters(track: &Track) -> String {
    let skip = track.points.len().saturating_sub(MAX_LETTERS);
    let shown = track.points[skip..].iter();
    // A pass that needed several tries is no plain one.
    let letter = |p: &Point| match p.state {
        State::Pass if p.failed > 0 => 'f',
        state => state.letter(),
    };
    shown.map(letter).collect()
}

fn rate_words(rate: &Rate) -> String {
    format!(
        "fails {} of {} times, that is between {:.1} % and {:.1} %",
        rate.came,
        rate.of,
        rate.between.0 * 100.0,
        rate.between.1 * 100.0
    )
}

/// Writes the runs that there are, oldest first.
pub fn history_runs(runs: &[RunRef]) -> String {
    let mut out = String::new();
    for run in runs {
        let _ = writeln!(out, "{}  {}", escape(&run.started), escape(&run.name));
    }
    out
}

/// Writes what changed between two runs, what is newly red first.
pub fn history_diff(of: &RunDiff, look: &Look) -> String {
    let mut out = String::new();
    wrap(&mut out, "", &format!("from {}", day(&of.old)), look.width);
    wrap(&mut out, "", &format!("  to {}", day(&of.new)), look.width);
    if let Some((old, new)) = &of.accel {
        let text = format!("! the accelerator was {old} and is {new}");
        wrap(&mut out, "", &text, look.width);
    }
    for (kernel, changed) in &of.kernels {
        for (key, (before, after)) in changed {
            let text = format!("{kernel} {key}: {before} -> {after}");
            wrap(&mut out, "  ", &text, look.width);
        }
    }
    for (state, head, paint) in [
        (State::Fail, "newly red", Paint::Bad),
        (
            State::Error,
            "newly wrong by the harness or the host",
            Paint::Bad,
        ),
        (State::Unfinished, "newly not finished", Paint::Bad),
        (State::Skip, "newly skipped", Paint::Changed),
        (State::Pass, "newly green", Paint::Good),
    ] {
        let changes: Vec<_> = of.verdicts.iter().filter(|c| c.new == state).collect();
        if changes.is_empty() {
            continue;
        }
        let head = format!("{} {head}", count(changes.len(), "cell"));
        let _ = writeln!(out, "\n{}", look.paint(paint, &head));
        for change in changes.iter().take(MAX_CASES) {
            let was = word(change.old);
            let text = format!("{} on {}, was {was}", change.case, change.kernel);
            wrap(&mut out, "  ", &text, look.width);
            if let Some(reason) = &change.reason {
                wrap(&mut out, "      ", reason, look.width);
            }
        }
        if changes.len() > MAX_CASES {
            let _ = writeln!(out, "  and {} more", changes.len() - MAX_CASES);
        }
    }
    for (came, head, paint) in [
        (true, "new to the baseline", Paint::Changed),
        (false, "to the baseline gone", Paint::Good),
    ] {
        let changes: Vec<_> = of.differences.iter().filter(|d| d.came == came).collect();
        if changes.is_empty() {
            continue;
        }
        let head = format!("{} {head}", count(changes.len(), "difference"));
        let _ = writeln!(out, "\n{}", look.paint(paint, &head));
        for change in changes.iter().take(MAX_CASES) {
            wrap(&mut out, "  ", &change.text, look.width);
            wrap(&mut out, "      ", &some(&change.cells, 2), look.width);
        }
        if changes.len() > MAX_CASES {
            let _ = writeln!(out, "  and {} more", changes.len() - MAX_CASES);
        }
    }
    let _ = writeln!(out);
    let changed = of.verdicts.len();
    let text = format!(
        "{} in both runs, {changed} with another verdict, {} red in both; {} only in the earlier one, \
         {} only in the later one",
        count(of.both as usize, "cell"),
        of.still_red,
        of.only_old,
        of.only_new
    );
    wrap(&mut out, "", &text, look.width);
    out
}

fn word(state: State) -> &'static str {
    match state {
        State::Pass => "green",
        State::Fail => "red",
        State::Skip => "skipped",
        State::Error => "wrong by the harness or the host",
        State::Unfinished => "not finished",
    }
}

/// Writes how the time goes.
pub fn history_times(of: &Times, look: &Look) -> String {
    let mut out = String::new();
    let rows: Vec<[String; 5]> = of
        .suites
        .iter()
        .map(|s| {
            [
                escape(&format!("{} on {} ({})", s.suite, s.kernel, s.accel)),
                s.runs.to_string(),
                duration(s.cell_ms),
                duration(s.sum_ms),
                duration(s.last_ms),
            ]
        })
        .collect();
    let head = ["suite", "runs", "a cell", "all cells", "last"].map(str::to_owned);
    let width = |n: usize| {
        let all = rows.iter().chain([&head]).map(|r| r[n].chars().count());
        all.max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    for row in [&head].into_iter().chain(&rows) {
        let _ = write!(out, "{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
    if !of.slower.is_empty() {
        let head = format!("{} slower in the last run", count(of.slower.len(), "case"));
        let _ = writeln!(out, "\n{}", look.paint(Paint::Changed, &head));
    }
    for slow in of.slower.iter().take(MAX_CASES) {
        let text = format!(
            "{} on {} ({}): {}, median {}, at most {} before",
            slow.case,
            slow.kernel,
            slow.accel,
            duration(slow.last_ms),
            duration(slow.median_ms),
            duration(slow.longest_ms)
        );
        wrap(&mut out, "  ", &text, look.width);
    }
    if of.slower.len() > MAX_CASES {
        let _ = writeln!(out, "  and {} more", of.slower.len() - MAX_CASES);
    }
    out
}
