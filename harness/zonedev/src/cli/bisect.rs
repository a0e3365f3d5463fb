//! `zonedev bisect`: which change between a good and a bad kernel brought a failure.
//!
//! Every step is built and run by a `zonedev` of its own: what goes wrong in it is not ours.

mod answer;
mod attempt;
mod log;
mod minimised;
mod one_step;
mod revert;
mod steps;
mod trial;

pub(super) use one_step::one_step;

use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Child;

use crate::bisect::{At, Costs, History, Journal, Line, Next, Question, Search, Trials, Tried};

use super::args::BisectArgs;
use super::exit::{Exit, Failure};
use super::{matrix, setup};
use trial::Trier;

/// Trials of the bad end, at least, and until it was seen so often.
const LEAST_TRIALS: u32 = 12;
const LEAST_SHOWN: u32 = 5;
/// Trials of the bad end, at most.
const MOST_TRIALS: u32 = 120;
/// How unlikely it must be that an end or a parent has it and never showed it.
const UNLIKELY: f64 = 0.005;
/// What is thought to be spent before anything was.
const FIRST_COSTS: Costs = Costs {
    build: 60.0,
    start: 12.0,
    trial: 3.0,
};
/// Seconds in which nothing is built.
const CACHED: f64 = 3.0;
/// Processors from which on a kernel is built while another is tried.
const CORES_FOR_AHEAD: usize = 4;

/// A bisection that goes on.
struct Bisection<'a> {
    trier: Trier<'a>,
    question: Question,
    journal: Journal,
    search: Search,
    /// Why the bad end fails.
    signature: Option<String>,
    /// What the good end showed.
    good: Trials,
    /// The bad end without the step that is blamed.
    reverted: Option<Reverted>,
    /// The vmlinux of each step that ran.
    tried: Vec<(String, Tried)>,
    /// Everything that was tried, in order, as far as it ran.
    lines: Vec<(At, Tried)>,
    /// Seconds and how many: of builds, of boots, of trials.
    spent: [(f64, f64); 3],
    /// How many kernels may be built ahead, and which are.
    ahead: usize,
    building: Vec<(String, Child)>,
}

/// The bad end without a step.
struct Reverted {
    step: usize,
    /// None if it can't be had.
    kernel: Option<String>,
    seen: Trials,
    /// Why it could not be tried.
    why_not: Option<String>,
}

pub(super) async fn run(project: &Utf8Path, args: &BisectArgs) -> Result<Exit, Failure> {
    if let Some(dir) = &args.log {
        out!("{}", resume(project, dir)?.log());
        return Ok(Exit::Good);
    }
    let mut bisection = match &args.resume {
        Some(dir) => resume(project, dir)?,
        None => begin(project, args)?,
    };
    bisection.ahead = args.ahead.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        usize::from(cores >= CORES_FOR_AHEAD)
    });
    bisection.ends().await?;
    let next = bisection.steps().await?;
    if let Next::Found { step, .. } = next {
        bisection.revert(step).await?;
    }
    if !args.no_minimise {
        bisection.minimise().await?;
    }
    let answer = bisection.answer(&next)?;
    let text = answer.text();
    let json = serde_json::to_string_pretty(&answer).map_err(std::io::Error::from)?;
    let dir = &bisection.trier.dir;
    fs_err::write(dir.join("result.txt"), &text)?;
    fs_err::write(dir.join("result.json"), &json)?;
    match args.json {
        true => outln!("{json}"),
        false => out!("{text}"),
    }
    errln!("written: {}", dir.join("result.txt"));
    Ok(match next {
        Next::Found { .. } => Exit::Good,
        _ => Exit::Regressed,
    })
}

fn begin<'a>(project: &'a Utf8Path, args: &BisectArgs) -> Result<Bisection<'a>, Failure> {
    let missing = |what: &str| {
        Failure::request(
            format!("a bisection needs {what}"),
            "zonedev bisect --good A --bad B -E SUITE/FIXTURE/CASE",
        )
    };
    let good = args.good.as_ref().ok_or_else(|| missing("--good"))?;
    let bad = args.bad.as_ref().ok_or_else(|| missing("--bad"))?;
    let case = args
        .case
        .as_ref()
        .ok_or_else(|| missing("-E, the case that fails"))?;
    let case = setup::one_case(project, case)?;
    let dir = folder(project, args.run_dir.as_deref())?;
    let (good, bad) = (steps::absolute(good)?, steps::absolute(bad)?);
    let found = steps::find(project, args, &good, &bad, &dir)?;
    let question = Question {
        kind: found.kind,
        good,
        bad,
        case,
        title: args.title.clone(),
        confidence: args.confidence,
        tree_base: found.tree_base,
        steps: found.steps,
    };
    let journal = Journal::begin(&dir, &question).map_err(|e| {
        Failure::request(
            format!("failed to begin the journal in {dir}: {e}"),
            "name a folder that holds no bisection yet, or go on with --resume DIR",
        )
    })?;
    Bisection::of(project, dir, question, journal)
}

fn resume<'a>(project: &'a Utf8Path, dir: &Utf8Path) -> Result<Bisection<'a>, Failure> {
    let none = |why: String| {
        Failure::request(
            format!("failed to read the bisection in {dir}: {why}"),
            "name the folder that was given to --run-dir",
        )
    };
    let (journal, lines) = Journal::resume(dir).map_err(|e| none(e.to_string()))?;
    let mut lines = lines.into_iter();
    let Some(Line::Asked { question }) = lines.next() else {
        return Err(none("it does not begin with what is asked".to_owned()));
    };
    let mut bisection = Bisection::of(project, dir.to_owned(), question, journal)?;
    for line in lines {
        bisection.learn(line);
    }
    Ok(bisection)
}

/// A new folder, or one that holds no bisection yet.
fn folder(project: &Utf8Path, given: Option<&Utf8Path>) -> Result<Utf8PathBuf, Failure> {
    if let Some(path) = given.filter(|path| Journal::is_in(path)) {
        return Err(Failure::request(
            format!("{path} holds a bisection"),
            format!("name another folder, or go on with --resume {path}"),
        ));
    }
    #[expect(clippy::disallowed_methods, reason = "the date in a folder's name")]
    let now = SystemTime::now();
    let (path, _) = matrix::run_folder_in(&project.join("target/bisections"), given, now)?;
    Ok(path)
}

impl<'a> Bisection<'a> {
    fn of(
        project: &'a Utf8Path,
        dir: Utf8PathBuf,
        question: Question,
        journal: Journal,
    ) -> Result<Self, Failure> {
        let parents = question.steps.iter().map(|s| s.parents.clone()).collect();
        let history = History::of(parents).map_err(|e| {
            Failure::request(
                format!("failed to order what lies between the ends: {e}"),
                "name a good end that the bad one comes from",
            )
        })?;
        let prior = vec![1.0; history.steps()];
        let trier = Trier {
            project,
            dir,
            case: question.case.clone(),
            tree_base: question.tree_base.clone(),
        };
        Ok(Bisection {
            trier,
            search: Search::new(history, &prior, question.confidence, FIRST_COSTS),
            question,
            journal,
            signature: None,
            good: Trials::default(),
            reverted: None,
            tried: Vec::new(),
            lines: Vec::new(),
            spent: [(0.0, 0.0); 3],
            ahead: 0,
            building: Vec::new(),
        })
    }

    /// Takes a line of the journal into account.
    fn learn(&mut self, line: Line) {
        match line {
            Line::Asked { .. } => {}
            Line::Signature { reason } => self.signature = Some(reason),
            Line::Reverted { step, kernel } => {
                self.reverted = Some(Reverted {
                    step,
                    kernel,
                    seen: Trials::default(),
                    why_not: None,
                });
            }
            Line::Tried {
                at,
                came,
                vmlinux,
                build_s,
                trials_s,
                start_s,
            } => {
                match (&came, at) {
                    (Tried::Ran { seen }, At::Good) => {
                        self.good.trials += seen.trials;
                        self.good.shown += seen.shown;
                    }
                    (Tried::Ran { seen }, At::Step(n)) => self.search.tried(n, *seen),
                    (Tried::Skipped { .. }, At::Step(n)) => self.search.skip(n),
                    (Tried::Skipped { .. }, At::Good) => {}
                    (came, At::Without(_)) => {
                        if let Some(reverted) = &mut self.reverted {
                            reverted.learn(came);
                        }
                    }
                }
                self.lines.push((at, came.clone()));
                // What was in the cache says nothing of what is not.
                if build_s > CACHED {
                    self.spent[0].0 += build_s;
                    self.spent[0].1 += 1.0;
                }
                if let (Tried::Ran { seen }, true) = (&came, trials_s > 0.0) {
                    self.spent[1].0 += start_s;
                    self.spent[1].1 += 1.0;
                    self.spent[2].0 += trials_s - start_s;
                    self.spent[2].1 += f64::from(seen.trials);
                }
                let mean = |(sum, n): (f64, f64), first: f64| if n > 0.0 { sum / n } else { first };
                self.search.costs(Costs {
                    build: mean(self.spent[0], FIRST_COSTS.build),
                    start: mean(self.spent[1], FIRST_COSTS.start),
                    trial: mean(self.spent[2], FIRST_COSTS.trial),
                });
                if let Some(vmlinux) = vmlinux {
                    self.tried.push((vmlinux, came));
                }
            }
        }
    }

    /// The folder of a run at the bad end that failed.
    fn bad_end(&self) -> Utf8PathBuf {
        self.trier.dir.join("bad-end")
    }

    /// The step that is found, if one is, and how likely that is.
    fn found(&self) -> Option<(usize, f64)> {
        let (step, likely) = self.search.belief().best();
        (likely >= self.question.confidence).then_some((step, likely))
    }

    fn told(&mut self, line: Line) -> Result<(), Failure> {
        self.journal.tell(&line)?;
        self.learn(line);
        Ok(())
    }

    /// How often something that has it may fail to show it before it is believed not to.
    fn enough(&self) -> u32 {
        let (rate, ..) = self.search.belief().rate();
        let n = UNLIKELY.ln() / (1.0 - rate.min(0.99)).ln();
        (n.ceil() as u32).clamp(3, MOST_TRIALS)
    }

    /// Tries both ends, as far as that was not done before.
    async fn ends(&mut self) -> Result<(), Failure> {
        let last = self.search.history().last();
        loop {
            let seen = self.search.seen(last);
            if seen.shown >= LEAST_SHOWN && seen.trials >= LEAST_TRIALS {
                break;
            }
            if seen.trials >= MOST_TRIALS {
                if seen.shown > 0 {
                    break;
                }
                return Err(Failure::request(
                    format!("the bad end did not fail in {} trials", seen.trials),
                    "name a bad end that fails, or another case",
                ));
            }
            self.attempt(At::Step(last), LEAST_TRIALS, false).await?;
            if self.search.seen(last).trials == seen.trials {
                return Err(Failure::request(
                    "the bad end can't be tried".to_owned(),
                    "see what is told above",
                ));
            }
        }
        while self.good.trials < self.enough() {
            let before = self.good.trials;
            self.attempt(At::Good, self.enough() - before, true).await?;
            if self.good.shown > 0 {
                return Err(Failure::request(
                    format!(
                        "the ends do not differ: the good one failed in {} of {} trials, too",
                        self.good.shown, self.good.trials
                    ),
                    "name a good end that does not fail so",
                ));
            }
            if self.good.trials == before {
                return Err(Failure::request(
                    "the good end can't be tried".to_owned(),
                    "see what is told above",
                ));
            }
        }
        Ok(())
    }

    /// Tries steps until one is found, or none is left that tells anything.
    async fn steps(&mut self) -> Result<Next, Failure> {
        loop {
            let next = self.search.next();
            match next {
                Next::Try { step, trials } => self.attempt(At::Step(step), trials, true).await?,
                Next::Found { step, .. } => {
                    // The evidence: it shows at this step, and not at those before it.
                    if self.search.is_skipped(step) {
                        return Ok(next);
                    }
                    if self.search.seen(step).shown == 0 {
                        self.attempt(At::Step(step), self.enough(), true).await?;
                        continue;
                    }
                    let parents = self.search.history().parents(step).to_vec();
                    let enough = self.enough();
                    let doubted = parents.into_iter().find(|p| {
                        let seen = self.search.seen(*p);
                        seen.trials < enough && !self.search.is_skipped(*p)
                    });
                    match doubted {
                        Some(parent) => {
                            let more = enough - self.search.seen(parent).trials;
                            self.attempt(At::Step(parent), more, true).await?;
                        }
                        None => return Ok(next),
                    }
                }
                Next::Among { .. } => return Ok(next),
            }
        }
    }
}

impl Reverted {
    fn learn(&mut self, came: &Tried) {
        match came {
            Tried::Ran { seen } => {
                self.seen.trials += seen.trials;
                self.seen.shown += seen.shown;
            }
            Tried::Skipped { reason } => self.why_not = Some(reason.clone()),
        }
    }
}
