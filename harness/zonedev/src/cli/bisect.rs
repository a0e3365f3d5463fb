//! `zonedev bisect`: which change between a good and a bad kernel brought a failure.
//!
//! Every step is built and run by a `zonedev` of its own: what goes wrong in it is not ours.

use std::process::Stdio;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use crate::bisect::{
    At, Costs, History, Journal, Line, Next, Question, Search, Step, Trials, Tried, without_numbers,
};
use crate::record::{CellVerdict, RunFolder};
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
/// How often what the host broke is tried.
const HOST_TRIES: u32 = 3;

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
    let text = bisection.tell(&next).await?;
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
    let range = format!("{first}..{last}");
    let log = git(
        &path,
        &[
            "log",
            "--topo-order",
            "--reverse",
            "--format=%H %P%x00%s",
            &range,
        ],
    )?;
    let mut numbers = std::collections::BTreeMap::new();
    let mut steps = Vec::new();
    for line in log.lines() {
        let (commits, title) = line.split_once('\0').unwrap_or((line, ""));
        let mut commits = commits.split(' ').filter(|c| !c.is_empty());
        let Some(commit) = commits.next() else {
            continue;
        };
        let parents = commits.filter_map(|p| numbers.get(p).copied()).collect();
        numbers.insert(commit.to_owned(), steps.len());
        let mut name = to.clone();
        name.base = Base::Tree {
            path: path.clone(),
            rev: Some(commit.to_owned()),
        };
        steps.push(Step {
            kernel: name.to_string(),
            id: commit.to_owned(),
            title: title.to_owned(),
            parents,
        });
    }
    Ok((steps, Some(first)))
}

fn git(path: &Utf8Path, args: &[&str]) -> Result<String, Failure> {
    let out = std::process::Command::new("git")
        .args(["-C", path.as_str()])
        .args(args)
        .env("LC_ALL", "C")
        .output()?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(Failure::request(
            format!("failed to ask git in {path}: {}", said.trim()),
            "name a git tree and revisions that it has",
        ));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
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
        let costs = Costs {
            build: 60.0,
            trial: 4.0,
        };
        Ok(Bisection {
            project,
            dir,
            search: Search::new(history, &prior, question.confidence, costs),
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
                let mean = |(sum, n): (f64, f64), else_: f64| if n > 0.0 { sum / n } else { else_ };
                self.search.costs(Costs {
                    build: mean(self.spent[0], 60.0),
                    trial: mean(self.spent[1], 4.0),
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

    /// Builds a kernel and runs the case on it, and writes down what came of it.
    async fn attempt(&mut self, at: At, trials: u32, until_fails: bool) -> Result<(), Failure> {
        let kernel = self.kernel(at).to_owned();
        let words = match at {
            At::Good => "the good end".to_owned(),
            At::Step(n) if n == self.search.history().last() => "the bad end".to_owned(),
            At::Step(n) => {
                let step = &self.question.steps[n];
                format!("{} {}", &step.id[..step.id.len().min(12)], step.title)
            }
        };
        let clock = Instant::now();
        let built = self.build(&kernel).await?;
        let build_s = clock.elapsed().as_secs_f64();
        let vmlinux = match built {
            Ok(vmlinux) => vmlinux,
            Err(reason) => {
                errln!("{words}: {reason}");
                let came = Tried::Skipped { reason };
                return self.told(Line::Tried {
                    at,
                    came,
                    vmlinux: None,
                    build_s,
                    trials_s: 0.0,
                });
            }
        };
        // What is the same file is not tried again.
        let same = self.tried.iter().find(|(of, came)| {
            let enough =
                matches!(came, Tried::Ran { seen } if seen.shown > 0 || seen.trials >= trials);
            *of == vmlinux && (enough || matches!(came, Tried::Skipped { .. }))
        });
        let new = matches!(at, At::Step(n) if self.search.seen(n) == Trials::default());
        let clock = Instant::now();
        let came = match same {
            Some((_, came)) if new => came.clone(),
            _ => self.trials(&kernel, trials, until_fails).await?,
        };
        let says = match &came {
            Tried::Ran { seen } => format!("failed in {} of {} trials", seen.shown, seen.trials),
            Tried::Skipped { reason } => format!("skipped: {reason}"),
        };
        errln!("{words}: {says}");
        self.told(Line::Tried {
            at,
            came,
            vmlinux: Some(vmlinux),
            build_s,
            trials_s: clock.elapsed().as_secs_f64(),
        })
    }

    fn zonedev(&self, word: &str, log: &Utf8Path) -> Result<Command, Failure> {
        let log = fs_err::File::create(log)?.into_file();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--project", self.project.as_str(), word])
            // Nothing of what is looked for is to be accepted.
            .env("CI", "true")
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .kill_on_drop(true);
        if let Some(base) = &self.question.tree_base {
            command.args(["--tree-base", base]);
        }
        Ok(command)
    }

    /// Builds a kernel: the hash of its vmlinux, or why it can't be tried.
    async fn build(&self, kernel: &str) -> Result<Result<String, String>, Failure> {
        let log = self.dir.join("build.log");
        for _ in 0..HOST_TRIES {
            let mut command = self.zonedev("build", &log)?;
            let status = command.args(["--bzimage", kernel]).status().await?;
            let said = fs_err::read_to_string(&log)?;
            match status.code() {
                Some(0) => {
                    let image = said.lines().next_back().unwrap_or_default();
                    let vmlinux = Utf8Path::new(image).with_file_name("vmlinux");
                    let mut hasher = blake3::Hasher::new();
                    hasher.update_reader(fs_err::File::open(&vmlinux)?)?;
                    return Ok(Ok(hasher.finalize().to_hex().to_string()));
                }
                Some(5) => {
                    let error = said.lines().find(|line| line.contains("error:"));
                    let error = error.unwrap_or("see build.log").trim();
                    return Ok(Err(format!("it does not build: {error}")));
                }
                Some(2) => {
                    return Err(Failure::request(
                        format!("{kernel} can't be built: {}", said.trim()),
                        "name kernels that `zonedev build` builds",
                    ));
                }
                _ => {}
            }
        }
        Err(Failure::harness(format!(
            "failed {HOST_TRIES} times to build {kernel}; see {log}"
        )))
    }

    /// Runs the case so often, or until it fails.
    async fn trials(
        &mut self,
        kernel: &str,
        trials: u32,
        until_fails: bool,
    ) -> Result<Tried, Failure> {
        let (run, log) = (self.dir.join("trial"), self.dir.join("trial.log"));
        for _ in 0..HOST_TRIES {
            if run.exists() {
                fs_err::remove_dir_all(&run)?;
            }
            let mut command = self.zonedev("matrix", &log)?;
            command.args(["-k", kernel, "-E", &self.question.case]);
            command.args(["--repeat", &trials.to_string(), "--run-dir", run.as_str()]);
            if until_fails {
                command.arg("--until-fails");
            }
            let status = command.status().await?;
            let Ok(record) = RunFolder::open(&run).read_record() else {
                if status.code() == Some(2) || status.code() == Some(4) {
                    let said = fs_err::read_to_string(&log)?;
                    return Err(Failure::request(
                        format!("the case can't be run: {}", said.trim()),
                        "see `zonedev list cases`",
                    ));
                }
                continue;
            };
            let mut host = None;
            let mut otherwise = None;
            let mut seen = None;
            for (id, verdict) in &record.cells {
                let asked = id.case_path() == self.question.case;
                match verdict {
                    CellVerdict::Error { reason, .. } => host = Some(reason.clone()),
                    CellVerdict::Skip { reason } if asked => otherwise = Some(reason.clone()),
                    CellVerdict::Fail { reasons, .. } if !asked => {
                        otherwise = Some(reasons.first().cloned().unwrap_or_default());
                    }
                    CellVerdict::Fail { .. } | CellVerdict::Pass {} if asked => {
                        let cell = RunFolder::open(&run).read_cell(id)?;
                        seen = Some((cell.repeats, verdict.clone()));
                    }
                    _ => {}
                }
            }
            if host.is_some() {
                continue;
            }
            if let Some(reason) = otherwise {
                return Ok(Tried::Skipped { reason });
            }
            let Some((repeats, verdict)) = seen else {
                return Err(Failure::request(
                    format!("no cell is called {}", self.question.case),
                    "give the whole SUITE/FIXTURE/CASE, see `zonedev list cases`",
                ));
            };
            return self.judge(trials, repeats, &verdict);
        }
        Err(Failure::harness(format!(
            "failed {HOST_TRIES} times to run {kernel}; see {log}"
        )))
    }

    /// Whether what failed is what is looked for.
    fn judge(
        &mut self,
        trials: u32,
        repeats: Option<crate::record::Repeats>,
        verdict: &CellVerdict,
    ) -> Result<Tried, Failure> {
        let failed: Vec<Vec<String>> = match (&repeats, verdict) {
            (Some(repeats), _) => repeats
                .failed
                .iter()
                .map(|run| {
                    let mut all = vec![run.reason.clone()];
                    all.extend(run.others.iter().cloned());
                    all
                })
                .collect(),
            (None, CellVerdict::Fail { reasons, .. }) => vec![reasons.clone()],
            (None, _) => Vec::new(),
        };
        let runs = repeats.map_or(trials, |r| r.runs);
        if self.signature.is_none()
            && let Some(first) = failed.iter().flatten().find(|reason| {
                let part = self.question.title.as_deref().unwrap_or_default();
                reason.contains(part)
            })
        {
            let reason = without_numbers(first);
            self.told(Line::Signature { reason })?;
        }
        let is = |reason: &String| match (&self.question.title, &self.signature) {
            (Some(title), _) => reason.contains(title.as_str()),
            (None, Some(signature)) => without_numbers(reason) == *signature,
            (None, None) => false,
        };
        let shown = failed
            .iter()
            .filter(|reasons| reasons.iter().any(is))
            .count();
        let other = failed.iter().find(|reasons| !reasons.iter().any(is));
        match other.and_then(|reasons| reasons.first()) {
            Some(reason) => Ok(Tried::Skipped {
                reason: format!("it fails otherwise: {reason}"),
            }),
            None => Ok(Tried::Ran {
                seen: Trials {
                    trials: runs,
                    shown: u32::try_from(shown).unwrap_or(u32::MAX),
                },
            }),
        }
    }

    /// The answer, fit for a mail.
    async fn tell(&self, next: &Next) -> Result<String, Failure> {
        use std::fmt::Write as _;
        let mut out = String::new();
        let (mean, low, high) = self.search.belief().rate();
        let tried = |n: usize| {
            let seen = self.search.seen(n);
            format!("failed in {} of {} trials", seen.shown, seen.trials)
        };
        let name = |n: usize| {
            let step = &self.question.steps[n];
            format!("{} (\"{}\")", &step.id[..step.id.len().min(12)], step.title)
        };
        match next {
            Next::Found { step, likely } => {
                let _ = writeln!(
                    out,
                    "{} brought it, {:.2} % sure.\n",
                    name(*step),
                    likely * 100.0
                );
                let _ = writeln!(out, "  {}: {}", name(*step), tried(*step));
                for parent in self.search.history().parents(*step) {
                    let _ = writeln!(out, "  its parent {}: {}", name(*parent), tried(*parent));
                }
                if self.search.history().parents(*step).is_empty() {
                    let good = self.good;
                    let _ = writeln!(
                        out,
                        "  the good end: failed in {} of {} trials",
                        good.shown, good.trials
                    );
                }
                let _ = writeln!(out, "\nFixes: {}", name(*step));
            }
            Next::Among { steps, likely } => {
                let _ = writeln!(
                    out,
                    "One of these {} brought it, {:.2} % sure; the others of them can't be tried:\n",
                    steps.len(),
                    likely * 100.0
                );
                for step in steps {
                    let _ = writeln!(out, "  {}", name(*step));
                }
            }
            Next::Try { .. } => {}
        }
        let _ = writeln!(out, "\ncase: {}", self.question.case);
        if let Some(signature) = &self.signature {
            let _ = writeln!(out, "it fails so: {}", crate::report::escape(signature));
        }
        let _ = writeln!(
            out,
            "between {} and {}: {} steps; where it is there it shows in {:.0} % of trials ({:.0} to {:.0})",
            self.question.good,
            self.question.bad,
            self.question.steps.len(),
            mean * 100.0,
            low * 100.0,
            high * 100.0
        );
        Ok(out)
    }
}
