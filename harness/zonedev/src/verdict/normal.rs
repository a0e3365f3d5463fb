//! The observation of a cell as one small text that two runs of the same inputs write alike:
//! what an accepted snapshot holds, and what a person reviews.
//!
//! No frame number, time, address or counter that drifts stands in it. A page is named by what
//! holds it, since blocks lie elsewhere after each mkfs and private pages after each boot; all
//! that nothing holds is a count by state.

use std::fmt::Write as _;

use proto::text::escape;
use proto::{Op, StepResult};

use super::cell::step_words;
use super::check::pins_out;
use super::classes::classify;
use crate::record::{CellRecord, CheckpointRecord, End, TestStatus};

/// Writes the observation down; see the module's words.
pub fn normalised(cell: &CellRecord) -> String {
    let mut out = String::new();
    let _ = write(cell, &mut out);
    // Of a record that somebody changed, names hold anything.
    let lines: Vec<String> = out.lines().map(escape).collect();
    lines.join("\n") + "\n"
}

fn write(cell: &CellRecord, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}: {}", cell.id.case_path(), cell.title)?;
    match &cell.end {
        End::Finished {} => {}
        End::Skipped { reason } => writeln!(out, "skipped: {reason}")?,
        End::BootFailed { .. } => writeln!(out, "the kernel did not boot")?,
        End::GuestDied { step, .. } => {
            writeln!(out, "the guest died at {}", step_words(cell, *step))?;
        }
        End::Hung { step, .. } => writeln!(out, "{} did not end", step_words(cell, Some(*step)))?,
        End::AgentLost { step, .. } => {
            writeln!(out, "the agent was lost at {}", step_words(cell, *step))?;
        }
        End::HarnessError { .. } => writeln!(out, "the harness failed")?,
        End::HostError { .. } => writeln!(out, "the host failed")?,
    }
    if !cell.steps.is_empty() {
        writeln!(out, "\nsteps")?;
    }
    for (n, step) in cell.steps.iter().enumerate() {
        let result = match &step.outcome {
            Some(o) => result_words(&o.result),
            None => "not run".into(),
        };
        let wrong = match &step.outcome {
            Some(o) if o.result.word() != step.expected => {
                format!(" (expected {})", step.expected)
            }
            _ => String::new(),
        };
        writeln!(
            out,
            "  {n} {}: {}: {result}{wrong}",
            step.actor,
            op_words(&step.op)
        )?;
    }
    for checkpoint in &cell.checkpoints {
        write_checkpoint(checkpoint, out)?;
    }
    let sometimes = |title: &str| {
        let mut of_it = cell.known_failures.iter().filter(|k| k.sometimes);
        of_it.any(|k| k.what.is_report(title))
    };
    let mut splats = cell
        .splats
        .iter()
        .filter(|s| !sometimes(&s.title))
        .peekable();
    if splats.peek().is_some() {
        writeln!(out, "\nkernel reports")?;
    }
    for splat in splats {
        writeln!(out, "  {}: {}", step_words(cell, splat.step), splat.title)?;
    }
    if !cell.results.is_empty() {
        writeln!(out, "\nresults")?;
    }
    for result in &cell.results {
        let word = match result.status {
            TestStatus::Pass => "pass",
            TestStatus::Fail => "fail",
            TestStatus::Skip => "skip",
            TestStatus::Missing => "missing",
        };
        writeln!(out, "  {}: {word}", result.name)?;
    }
    Ok(())
}

fn write_checkpoint(checkpoint: &CheckpointRecord, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\ncheckpoint {}", checkpoint.name)?;
    for problem in &checkpoint.pages.problems {
        writeln!(out, "  not read: {:?}", problem.kind)?;
    }
    for m in &checkpoint.claims.mismatches {
        writeln!(
            out,
            "  pagemap of {}: pages {}+{}: {} instead of {}",
            m.who, m.page, m.pages, m.found, m.predicted
        )?;
    }
    if let Some(pins) = pins_out(checkpoint).filter(|n| *n != 0) {
        writeln!(out, "  {pins} FOLL_PIN references are out")?;
    }
    for (kind, pages) in classify(checkpoint) {
        let owners = if pages.owners.is_empty() {
            String::new()
        } else {
            format!(" of {}", pages.owners.join(", "))
        };
        writeln!(out, "  {kind}{owners}: {} pages", pages.pages)?;
        // Held pages first, by name; what nothing holds comes last.
        let (idle, held): (Vec<_>, Vec<_>) = pages
            .classes
            .iter()
            .partition(|(class, _)| class.named.is_empty());
        for (class, states) in held.into_iter().chain(idle) {
            let who = if class.named.is_empty() {
                "idle"
            } else {
                &class.named
            };
            write!(out, "    {who}:")?;
            let one = states.len() == 1;
            if !one {
                writeln!(out)?;
            }
            for (state, n) in states {
                let indent = if one { " " } else { "      " };
                writeln!(out, "{indent}{n} at {}", state.words())?;
            }
        }
    }
    Ok(())
}

/// The outcome's word, and what of its detail is the same in every run.
fn result_words(result: &StepResult) -> String {
    match result {
        StepResult::Errno { errno, call } => format!("{errno} from {call}"),
        StepResult::Signal { signal } => signal.clone(),
        other => other.word().to_owned(),
    }
}

/// An operation as `word key=value`, keys sorted, values that say nothing left out; of a race, what
/// its threads do and how often: an observation may not depend on its seed.
pub(crate) fn op_words(op: &Op) -> String {
    if let Op::Race {
        rounds, turns, arm, ..
    } = op
    {
        let arms: Vec<&str> = arm.iter().map(Op::word).collect();
        let turns = match turns.get() {
            1 => String::new(),
            turns => format!(" turns={turns}"),
        };
        return format!("race rounds={rounds}{turns} of {}", arms.join(", "));
    }
    let mut out = op.word().to_owned();
    let json = serde_json::to_value(op).unwrap_or_default();
    let mut fields: Vec<_> = json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "do")
        .collect();
    fields.sort_by_key(|(key, _)| key.as_str());
    for (key, value) in fields {
        use serde_json::Value as V;
        let value = match value {
            V::Null | V::Bool(false) => continue,
            V::String(text) if text == "0" => continue,
            V::String(text) => text.clone(),
            V::Bool(true) => {
                let _ = write!(out, " {key}");
                continue;
            }
            V::Array(list) => list
                .iter()
                .map(|v| v.as_str().unwrap_or_default())
                .collect::<Vec<_>>()
                .join(" "),
            other => other.to_string(),
        };
        let _ = write!(out, " {key}={value}");
    }
    out
}

#[cfg(test)]
#[path = "normal_tests.rs"]
mod tests;
