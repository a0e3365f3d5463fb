//! What a bisection answers: as JSON, and as a text fit for a mail.

use std::fmt::Write as _;

use camino::Utf8PathBuf;
use serde::Serialize;

use super::Bisection;
use crate::bisect::{Kind, Next, Trials};
use crate::cli::exit::Failure;
use crate::record::{CellRecord, CellVerdict, RunFolder};
use crate::report::{Look, escape, trouble};

/// Columns of a mail.
const WIDTH: usize = 76;
/// Digits of a commit's name that are shown.
const SHOWN: usize = 12;

/// In words.
pub(super) fn how_often(seen: Trials) -> String {
    format!("failed in {} of {} trials", seen.shown, seen.trials)
}

/// A step, and what its trials showed.
#[derive(Debug, Serialize)]
pub(super) struct StepAnswer {
    id: String,
    title: String,
    kernel: String,
    /// How likely it is that this one brought it.
    likely: f64,
    trials: u32,
    shown: u32,
}

/// The bad end without the step that is blamed.
#[derive(Debug, Serialize)]
pub(super) struct RevertAnswer {
    kernel: Option<String>,
    trials: u32,
    shown: u32,
    /// Whether it is healed; none where it could not be tried.
    heals: Option<bool>,
    why_not: Option<String>,
    /// Other steps that had to go with it.
    with: Vec<String>,
}

/// `result.json`.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    kind: Kind,
    good: String,
    bad: String,
    case: String,
    /// Why the case fails, numbers left out.
    signature: Option<String>,
    /// The step that brought it.
    found: Option<StepAnswer>,
    /// Its parents, or the good end.
    before: Vec<StepAnswer>,
    /// Where none is found: one of these brought it.
    among: Vec<StepAnswer>,
    /// How likely that is.
    likely: f64,
    revert: Option<RevertAnswer>,
    /// In how many trials it shows where it is: the mean, and the bounds of 95 %.
    rate: [f64; 3],
    /// Steps between the ends, and how many of them were tried and skipped.
    steps: usize,
    tried: usize,
    skipped: usize,
    trials: u32,
    build_seconds: f64,
    trial_seconds: f64,
    /// The reasons of a run at the bad end, and what its kernel said.
    reasons: Vec<String>,
    report: String,
    /// The smallest case that shows it.
    minimised: Option<String>,
    /// The file with a C program of it.
    c_program: Option<Utf8PathBuf>,
}

impl Bisection<'_> {
    /// A step as `Fixes:` has it.
    pub(super) fn name(&self, n: usize) -> String {
        let step = &self.question.steps[n];
        match self.question.kind {
            Kind::Commits => {
                let id = &step.id[..step.id.len().min(SHOWN)];
                format!("{id} (\"{}\")", escape(&step.title))
            }
            Kind::Options => escape(&step.id),
            Kind::Releases | Kind::Patches => {
                format!("{} (\"{}\")", escape(&step.id), escape(&step.title))
            }
        }
    }

    fn step_answer(&self, n: usize, likely: &[f64]) -> StepAnswer {
        let (step, seen) = (&self.question.steps[n], self.search.seen(n));
        StepAnswer {
            id: step.id.clone(),
            title: step.title.clone(),
            kernel: step.kernel.clone(),
            likely: likely[n],
            trials: seen.trials,
            shown: seen.shown,
        }
    }

    /// What is known at the end.
    pub(super) fn answer(&self, next: &Next) -> Result<Answer, Failure> {
        let likely = self.search.belief().steps();
        let of = |n: usize| self.step_answer(n, &likely);
        let (found, among, share) = match next {
            Next::Found { step, likely } => (Some(*step), Vec::new(), *likely),
            Next::Among { steps, likely } => {
                (None, steps.iter().copied().map(of).collect(), *likely)
            }
            Next::Try { .. } => (None, Vec::new(), 0.0),
        };
        let parents = found.map_or(&[][..], |step| self.search.history().parents(step));
        let mut before: Vec<StepAnswer> = parents.iter().copied().map(of).collect();
        if found.is_some() && parents.is_empty() {
            before.push(StepAnswer {
                id: self.question.good.clone(),
                title: "the good end".to_owned(),
                kernel: self.question.good.clone(),
                likely: 0.0,
                trials: self.good.trials,
                shown: self.good.shown,
            });
        }
        let (mean, low, high) = self.search.belief().rate();
        let all = 0..self.search.history().steps();
        let trials =
            all.clone().map(|n| self.search.seen(n).trials).sum::<u32>() + self.good.trials;
        let bad = self.bad_cell()?;
        Ok(Answer {
            kind: self.question.kind,
            good: self.question.good.clone(),
            bad: self.question.bad.clone(),
            case: self.question.case.clone(),
            signature: self.signature.clone(),
            found: found.map(of),
            before,
            among,
            likely: share,
            revert: found.and_then(|step| self.revert_answer(step)),
            rate: [mean, low, high],
            steps: self.search.history().steps(),
            tried: all
                .clone()
                .filter(|n| self.search.seen(*n).trials > 0)
                .count(),
            skipped: all.filter(|n| self.search.is_skipped(*n)).count(),
            trials,
            build_seconds: self.spent[0].0,
            trial_seconds: self.spent[1].0 + self.spent[2].0,
            reasons: bad
                .as_ref()
                .map_or_else(Vec::new, |(_, reasons)| reasons.clone()),
            report: bad.map_or_else(String::new, |(cell, _)| trouble(&cell, &Look::plain(WIDTH))),
            minimised: fs_err::read_to_string(self.minimised_case()).ok(),
            c_program: Some(self.c_program()).filter(|path| path.exists()),
        })
    }

    fn revert_answer(&self, step: usize) -> Option<RevertAnswer> {
        let reverted = self.reverted.as_ref().filter(|r| r.step == step)?;
        let mut with = self.goes_with(step);
        with.remove(&step);
        Some(RevertAnswer {
            kernel: reverted.kernel.clone(),
            trials: reverted.seen.trials,
            shown: reverted.seen.shown,
            heals: (reverted.seen.trials > 0).then_some(reverted.seen.shown == 0),
            why_not: reverted.why_not.clone(),
            with: with.into_iter().map(|n| self.name(n)).collect(),
        })
    }

    /// The run at the bad end that failed, and why.
    fn bad_cell(&self) -> Result<Option<(CellRecord, Vec<String>)>, Failure> {
        let folder = RunFolder::open(&self.bad_end());
        let Ok(record) = folder.read_record() else {
            return Ok(None);
        };
        let mut cells = record.cells.iter();
        let Some((id, verdict)) = cells.find(|(id, _)| id.case_path() == self.question.case) else {
            return Ok(None);
        };
        let cell = folder.read_cell(id)?;
        let failed = cell.repeats.as_ref().and_then(|r| r.failed.first());
        let reasons = match (failed, verdict) {
            (Some(run), _) => [std::slice::from_ref(&run.reason), &run.others].concat(),
            (None, CellVerdict::Fail { reasons, .. }) => reasons.clone(),
            (None, _) => Vec::new(),
        };
        Ok(Some((cell, reasons)))
    }
}

/// Reasons of a failed run that are shown.
const REASONS: usize = 6;

impl Answer {
    fn named(&self, step: &StepAnswer) -> String {
        let id = match self.kind {
            Kind::Commits => &step.id[..step.id.len().min(SHOWN)],
            _ => &step.id,
        };
        match step.title.is_empty() {
            true => escape(id),
            false => format!("{} (\"{}\")", escape(id), escape(&step.title)),
        }
    }

    /// Fit for a mail.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let sure = |likely: f64| format!("{:.2} % sure", (likely * 100.0).min(99.99));
        let often = |step: &StepAnswer| {
            how_often(Trials {
                trials: step.trials,
                shown: step.shown,
            })
        };
        if let Some(found) = &self.found {
            let name = self.named(found);
            let _ = writeln!(out, "{name} brought it ({}).\n", sure(self.likely));
            let _ = writeln!(out, "  with it: {}", often(found));
            for before in &self.before {
                let _ = writeln!(
                    out,
                    "  before it, {}: {}",
                    self.named(before),
                    often(before)
                );
            }
            if let Some(revert) = &self.revert {
                let _ = writeln!(out, "  {}", revert.text());
            }
        } else {
            let _ = writeln!(
                out,
                "One of these {} brought it ({}); what would tell them apart can't be tried:\n",
                self.among.len(),
                sure(self.likely)
            );
            for step in &self.among {
                let _ = writeln!(out, "  {}", self.named(step));
            }
        }
        let _ = writeln!(out, "\nThe case is {}.", escape(&self.case));
        if !self.reasons.is_empty() {
            let _ = writeln!(out, "On {} it fails so:\n", escape(&self.bad));
            for reason in self.reasons.iter().take(REASONS) {
                let _ = writeln!(out, "  {}", escape(reason));
            }
            if self.reasons.len() > REASONS {
                let _ = writeln!(out, "  and {} more", self.reasons.len() - REASONS);
            }
        }
        if !self.report.is_empty() {
            let _ = writeln!(out, "\nThe kernel's report:\n\n{}", self.report.trim_end());
        }
        if let Some(case) = &self.minimised {
            let _ = writeln!(out, "\nThe smallest case that shows it:\n");
            for line in case.lines() {
                let _ = writeln!(out, "    {}", escape(line));
            }
        }
        if let Some(path) = &self.c_program {
            let _ = writeln!(out, "\nThe same as a C program: {}", escape(path.as_str()));
        }
        let [mean, low, high] = self.rate.map(|rate| rate * 100.0);
        let _ = writeln!(
            out,
            "\nBetween {} and {}: {} steps, {} tried, {} skipped, {} trials; {:.0} s of builds, {:.0} s of \
             trials. Where it is, it shows in {mean:.0} % of trials ({low:.0} to {high:.0}).",
            escape(&self.good),
            escape(&self.bad),
            self.steps,
            self.tried,
            self.skipped,
            self.trials,
            self.build_seconds,
            self.trial_seconds,
        );
        if let (Some(found), Kind::Commits) = (&self.found, self.kind) {
            let _ = writeln!(out, "\nFixes: {}", self.named(found));
        }
        out
    }
}

impl RevertAnswer {
    fn text(&self) -> String {
        let with = match self.with.as_slice() {
            [] => String::new(),
            with => format!(" (and {}, which need it)", with.join(", ")),
        };
        let seen = how_often(Trials {
            trials: self.trials,
            shown: self.shown,
        });
        match (self.heals, &self.why_not) {
            (_, Some(why)) => format!(
                "the bad end without it{with} can't be tried: {}",
                escape(why)
            ),
            (Some(true), _) => format!("the bad end without it{with}: {seen}: that heals it"),
            (Some(false), _) => {
                format!(
                    "the bad end without it{with}: {seen}: that does NOT heal it, something else fails so, too"
                )
            }
            (None, None) => "the bad end without it can't be had".to_owned(),
        }
    }
}
