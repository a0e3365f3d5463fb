//! A run on one screen, worst first.

use std::fmt::Write as _;

use super::fit::{Section, fit};
use super::sections;
use super::text::{Look, Paint, Verbosity, count, duration, quoted, wrap};
use crate::record::{CellId, CellVerdict, PairRecord, PairVerdict, RunRecord};

/// Lines of a screen on which there is room for more than one command to type next.
const TALL: usize = 40;

/// Writes the summary of a run. `typed` is what names the run on a command line: its name, or its
/// folder. It has no more lines than `look` allows, unless all is wanted.
pub fn summary(run: &RunRecord, typed: &str, look: &Look) -> String {
    let mut head = String::new();
    heading(run, look, &mut head);
    let mut foot = String::new();
    verdict(run, look, &mut foot);
    let commands = if look.rows < TALL { 1 } else { usize::MAX };
    for (command, shows) in next(run, typed).into_iter().take(commands) {
        next_line(&command, shows, look, &mut foot);
    }
    let sections: Vec<Section> = sections(run, look)
        .into_iter()
        .filter(|section| look.verbosity != Verbosity::Brief || section.is_bad())
        .collect();
    let lines = |text: &str| text.matches('\n').count();
    // One more for the line that says what is left out, one for the run's folder.
    let room = look.rows.saturating_sub(lines(&head) + lines(&foot) + 3);
    let rows = (look.verbosity != Verbosity::All).then_some(room);
    let mut out = head;
    let left_out = fit(&sections, rows, &mut out);
    out.push('\n');
    if left_out {
        let all = format!("`zonedev report -v {typed}` leaves nothing out");
        wrap(&mut out, "", &all, look.width);
    }
    out + &foot
}

/// Worst first.
fn sections(run: &RunRecord, look: &Look) -> Vec<Section> {
    let of = |verdict: PairVerdict, title: &str, paint: Paint| {
        let pairs: Vec<&PairRecord> = run.pairs.iter().filter(|p| p.verdict == verdict).collect();
        sections::verdict_block(&pairs, title, paint, look)
    };
    let (incomparable, not_compared) = sections::incomparable(run, look);
    let pairs: Vec<&PairRecord> = run.pairs.iter().collect();
    [
        sections::unfinished(run, look),
        sections::failures(run, look),
        of(PairVerdict::Regressed, "regressed", Paint::Bad),
        incomparable,
        sections::over_ceiling(run, look),
        of(PairVerdict::Fixed, "fixed", Paint::Good),
        of(
            PairVerdict::ChangedAsAccepted,
            "changed as accepted",
            Paint::Changed,
        ),
        sections::flaky(run, look),
        sections::notices(run, look),
        sections::skips(run, look),
        not_compared,
        sections::known(run, look),
        sections::log_lines(&pairs, look),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn heading(run: &RunRecord, look: &Look, out: &mut String) {
    let why = match &run.accel_reason {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    let text = format!(
        "zonedev {}, run {}, QEMU {} with {}{why}",
        run.zonedev, run.id, run.qemu, run.accel
    );
    wrap(out, "", &text, look.width);
    for (n, kernel) in run.kernels.iter().enumerate() {
        let role = if n == 0 { " (baseline)" } else { "" };
        let mut text = format!("{}{role}", kernel.name);
        if look.verbosity == Verbosity::All {
            let says = kernel.provenance.iter().map(|(k, v)| format!("{k} {v}"));
            let says: Vec<String> = says.collect();
            let _ = write!(text, ", contract {}: {}", kernel.contract, says.join(", "));
        } else {
            let says = sections::source_words(kernel);
            if !says.is_empty() {
                let _ = write!(text, ": {says}");
            }
        }
        wrap(out, "  ", &text, look.width);
    }
    if run.boots_kept > 0 {
        let text = format!(
            "{} not done again: an earlier run kept the template (--fresh boots)",
            count(run.boots_kept, "boot")
        );
        wrap(out, "  ", &text, look.width);
    }
}

fn verdict(run: &RunRecord, look: &Look, out: &mut String) {
    let n = |v: PairVerdict| run.pairs.iter().filter(|p| p.verdict == v).count();
    let tally = |word: &str, n: usize| (n > 0).then(|| format!("{n} {word}"));
    let pairs: Vec<String> = [
        tally("regressed", n(PairVerdict::Regressed)),
        tally("not comparable", n(PairVerdict::Incomparable)),
        tally("fixed", n(PairVerdict::Fixed)),
        tally("changed as accepted", n(PairVerdict::ChangedAsAccepted)),
        tally("same", n(PairVerdict::Same)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let passed = run
        .cells
        .iter()
        .filter(|(_, v)| *v == CellVerdict::Pass {})
        .count();
    let cells = format!("{passed} of {} passed", count(run.cells.len(), "cell"));
    let pages = if run.pages_read == 0 {
        "no page was read".to_owned()
    } else if run.pages_predicted == run.pages_read {
        format!("all {} pages read were predicted", run.pages_read)
    } else {
        format!(
            "only {} of {} pages read were predicted",
            run.pages_predicted, run.pages_read
        )
    };
    let phases: Vec<String> = run
        .phases_ms
        .iter()
        .map(|(name, ms)| format!("{name} {}", duration(*ms)))
        .collect();
    let phases = if phases.is_empty() {
        String::new()
    } else {
        format!(" ({})", phases.join(", "))
    };
    wrap(
        out,
        "",
        &format!("{cells}; {pages}; {}{phases}", duration(run.took_ms)),
        look.width,
    );
    if look.verbosity == Verbosity::All && !run.cpu_ms.is_empty() {
        let cpu = run.cpu_ms.iter();
        let cpu: Vec<String> = cpu
            .map(|(who, ms)| format!("{who} {}", duration(*ms)))
            .collect();
        wrap(
            out,
            "",
            &format!("processor time of its run: {}", cpu.join(", ")),
            look.width,
        );
    }
    let (word, paint) = match run.exit_code {
        0 => ("nothing regressed", Paint::Good),
        1 => ("REGRESSED", Paint::Bad),
        4 => ("nothing was selected", Paint::Bad),
        5 => ("a kernel or an image did not build", Paint::Bad),
        _ => ("the harness or the host failed", Paint::Bad),
    };
    let tallies = if pairs.is_empty() {
        String::new()
    } else {
        format!(": {}", pairs.join(", "))
    };
    let _ = writeln!(out, "{}{tallies}", look.paint(paint, word));
}

/// `next: ` and a command, with what it shows beside it or under it.
fn next_line(command: &str, shows: &str, look: &Look, out: &mut String) {
    let one = format!("next: {command}   # {shows}");
    if one.chars().count() <= look.width {
        wrap(out, "", &one, look.width);
    } else {
        wrap(out, "next: ", command, look.width);
        wrap(out, "      # ", shows, look.width);
    }
}

/// What to type next, and what that shows.
fn next(run: &RunRecord, typed: &str) -> Vec<(String, &'static str)> {
    use crate::record::AcceptState;
    let mut out = Vec::new();
    let named = |verb: &str, id: &CellId| {
        let (case, kernel) = (id.case_path(), quoted(&id.kernel));
        format!("zonedev {verb} {typed} {case} -k {kernel}")
    };
    if !run.unfinished.is_empty() {
        let resume = format!("zonedev matrix --resume {typed}");
        out.push((resume, "goes on with the cells that did not finish"));
    }
    let failed = (run.cells.iter())
        .find(|(_, v)| matches!(v, CellVerdict::Fail { .. }))
        .map(|(id, _)| id);
    let regressed = (run.pairs.iter()).find(|p| p.verdict == PairVerdict::Regressed);
    let Some(id) = failed.or(regressed.map(|p| &p.other)) else {
        return out;
    };
    let pages = "its reports, and its pages beside their prediction";
    out.push((named("inspect", id), pages));
    let there = "a shell in its guest, where it went wrong";
    out.push((named("rerun", id), there));
    if failed.is_some() {
        out.push((named("minimise", id), "the smallest case that fails so"));
    }
    let baseline = run.kernels.first().map(|k| k.name.as_str());
    if let Some(good) = baseline.filter(|good| failed.is_some() && bisectable(good, &id.kernel)) {
        let command = format!(
            "zonedev bisect --good {} --bad {} -E {}",
            quoted(good),
            quoted(&id.kernel),
            id.case_path()
        );
        out.push((command, "which change did it"));
    }
    if failed.is_none()
        && let Some(pair) = regressed
        && pair.accepted != (AcceptState::Accepted {})
    {
        let command = format!(
            "zonedev accept {typed} -E '{}' --reason TEXT",
            pair.other.case_path()
        );
        out.push((command, "where the difference is wanted"));
    }
    out
}

/// Whether changes lie between two kernels that `zonedev bisect` can take apart: a series, options,
/// or commits of one tree.
fn bisectable(good: &str, bad: &str) -> bool {
    let tree = |name: &str| {
        let path = name.strip_prefix("tree:")?;
        Some(path.split(['@', '+', ':']).next()?.to_owned())
    };
    let more = bad.strip_prefix(good);
    good != bad
        && (more.is_some_and(|m| m.starts_with(['+', ':']))
            || tree(good).is_some_and(|t| tree(bad) == Some(t)))
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
