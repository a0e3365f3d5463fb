//! `zonedev bisect`: which change between a good and a bad kernel brought a failure.
//!
//! Every step is built and run by a `zonedev` of its own: what goes wrong in it is not ours.

mod answer;
mod trial;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::bisect::{
    At, Costs, History, Journal, Line, Next, Question, Search, Step, Trials, Tried,
};
use crate::build::commits_between;
use crate::spec::{Base, KernelName};

use super::args::BisectArgs;
use super::exit::{Exit, Failure};

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
    trial: 4.0,
};

/// A bisection that goes on.
struct Bisection<'a> {
    project: &'a Utf8Path,
    dir: Utf8PathBuf,
    question: Question,
    journal: Journal,
    search: Search,
    /// Why the bad end fails.
    signature: Option<String>,
    /// What the good end showed.
    good: Trials,
    /// The vmlinux of each step that ran.
    tried: Vec<(String, Tried)>,
    /// Seconds and how many: of builds, of trials.
    spent: [(f64, f64); 2],
}

pub(super) async fn run(project: &Utf8Path, args: &BisectArgs) -> Result<Exit, Failure> {
    let mut bisection = match &args.resume {
        Some(dir) => resume(project, dir)?,
        None => begin(project, args)?,
    };
    bisection.ends().await?;
    let next = bisection.steps().await?;
    let text = bisection.answer(&next);
    let place = bisection.dir.join("result.txt");
    fs_err::write(&place, &text)?;
    out!("{text}");
    outln!("written: {place}");
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
    let dir = args
        .run_dir
        .clone()
        .ok_or_else(|| missing("--run-dir, a new folder"))?;
    let dir = std::path::absolute(&dir)?;
    let dir = Utf8PathBuf::from_path_buf(dir).map_err(|_| missing("a folder in UTF-8"))?;
    let (steps, tree_base) = steps(good, bad)?;
    let question = Question {
        good: good.clone(),
        bad: bad.clone(),
        case: case.clone(),
        title: args.title.clone(),
        confidence: args.confidence,
        tree_base,
        steps,
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

/// The commits of a tree between the ends, parents first.
fn steps(good: &str, bad: &str) -> Result<(Vec<Step>, Option<String>), Failure> {
    let (from, to) = (KernelName::parse(good)?, KernelName::parse(bad)?);
    let both = |name: &KernelName| match &name.base {
        Base::Tree {
            path,
            rev: Some(rev),
        } => Some((path.clone(), rev.clone())),
        _ => None,
    };
    let (Some((path, first)), Some((other, last))) = (both(&from), both(&to)) else {
        return Err(Failure::request(
            format!("{good} and {bad} are no two revisions of a tree"),
            "name both as tree:PATH@REV",
        ));
    };
    if path != other || from.flavours != to.flavours || from.series != to.series {
        return Err(Failure::request(
            format!("{good} and {bad} differ in more than the revision"),
            "use one tree, one flavour and one series for both",
        ));
    }
    let mut numbers = BTreeMap::new();
    let mut steps = Vec::new();
    for commit in commits_between(&path, &first, &last)? {
        let parents = commit.parents.iter();
        let parents = parents.filter_map(|p| numbers.get(p).copied()).collect();
        numbers.insert(commit.id.clone(), steps.len());
        let mut name = to.clone();
        name.base = Base::Tree {
            path: path.clone(),
            rev: Some(commit.id.clone()),
        };
        steps.push(Step {
            kernel: name.to_string(),
            id: commit.id,
            title: commit.title,
            parents,
        });
    }
    Ok((steps, Some(first)))
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
        Ok(Bisection {
            project,
            dir,
            search: Search::new(history, &prior, question.confidence, FIRST_COSTS),
            question,
            journal,
            signature: None,
            good: Trials::default(),
            tried: Vec::new(),
            spent: [(0.0, 0.0); 2],
        })
    }

    fn kernel(&self, at: At) -> &str {
        match at {
            At::Good => &self.question.good,
            At::Step(n) => &self.question.steps[n].kernel,
        }
    }

    /// Takes a line of the journal into account.
    fn learn(&mut self, line: Line) {
        match line {
            Line::Asked { .. } => {}
            Line::Signature { reason } => self.signature = Some(reason),
            Line::Tried {
                at,
                came,
                vmlinux,
                build_s,
                trials_s,
            } => {
                match (&came, at) {
                    (Tried::Ran { seen }, At::Good) => {
                        self.good.trials += seen.trials;
                        self.good.shown += seen.shown;
                    }
                    (Tried::Ran { seen }, At::Step(n)) => self.search.tried(n, *seen),
                    (Tried::Skipped { .. }, At::Step(n)) => self.search.skip(n),
                    (Tried::Skipped { .. }, At::Good) => {}
                }
                if build_s > 0.0 {
                    self.spent[0].0 += build_s;
                    self.spent[0].1 += 1.0;
                }
                if let Tried::Ran { seen } = &came {
                    self.spent[1].0 += trials_s;
                    self.spent[1].1 += f64::from(seen.trials);
                }
                let mean = |(sum, n): (f64, f64), first: f64| if n > 0.0 { sum / n } else { first };
                self.search.costs(Costs {
                    build: mean(self.spent[0], FIRST_COSTS.build),
                    trial: mean(self.spent[1], FIRST_COSTS.trial),
                });
                if let Some(vmlinux) = vmlinux {
                    self.tried.push((vmlinux, came));
                }
            }
        }
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
