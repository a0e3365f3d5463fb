//! One step: built, and tried so often.

use std::slice;
use std::time::Instant;

use camino::Utf8Path;
use tokio::process::Command;

use super::Bisection;
use super::answer::how_often;
use crate::bisect::{At, Line, Trials, Tried, without_numbers};
use crate::cli::exit::Failure;
use crate::cli::own;
use crate::record::{CellVerdict, Repeats, RunFolder};
use crate::report::escape;

/// How often what the host broke is tried.
const HOST_TRIES: u32 = 3;

impl Bisection<'_> {
    /// Builds a kernel and runs the case on it, and writes down what came of it.
    pub(super) async fn attempt(
        &mut self,
        at: At,
        trials: u32,
        until_fails: bool,
    ) -> Result<(), Failure> {
        let kernel = self.kernel(at).to_owned();
        let words = match at {
            At::Good => "the good end".to_owned(),
            At::Step(n) if n == self.search.history().last() => "the bad end".to_owned(),
            At::Step(n) => self.name(n),
        };
        let clock = Instant::now();
        let built = self.build(&kernel).await?;
        let build_s = clock.elapsed().as_secs_f64();
        let vmlinux = match built {
            Ok(vmlinux) => vmlinux,
            Err(reason) => {
                errln!("{words}: {}", escape(&reason));
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
            Tried::Ran { seen } => how_often(*seen),
            Tried::Skipped { reason } => format!("skipped: {}", escape(reason)),
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

    /// A command that is told what the steps are built from.
    fn zonedev(&self, word: &str, log: &Utf8Path) -> Result<Command, Failure> {
        let mut command = own::zonedev(self.project, word, fs_err::File::create(log)?)?;
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
        repeats: Option<Repeats>,
        verdict: &CellVerdict,
    ) -> Result<Tried, Failure> {
        let failed: Vec<Vec<String>> = match (&repeats, verdict) {
            (Some(repeats), _) => repeats
                .failed
                .iter()
                .map(|run| [slice::from_ref(&run.reason), &run.others].concat())
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
}
