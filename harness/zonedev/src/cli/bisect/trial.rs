//! Building a kernel, and running a case on it so often.

use std::slice;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::{Child, Command};

use crate::bisect::{Trials, Tried, without_numbers};
use crate::cli::exit::Failure;
use crate::cli::own;
use crate::record::{CellVerdict, FailedRun, RunFolder};

/// How often what the host broke is tried.
const HOST_TRIES: u32 = 3;

/// Who tries kernels.
pub(super) struct Trier<'a> {
    pub(super) project: &'a Utf8Path,
    /// Where its files are.
    pub(super) dir: Utf8PathBuf,
    /// SUITE/FIXTURE/CASE.
    pub(super) case: String,
    /// A revision of whose objects others are built.
    pub(super) tree_base: Option<String>,
}

/// What came of building a kernel.
pub(super) enum Built {
    /// The hash of its vmlinux.
    Kernel(String),
    /// Why it can't be built.
    Not(String),
    /// Why it is no kernel that could be built.
    NoSuch(String),
}

/// What came of running the case.
pub(super) enum Runs {
    /// It ran.
    Ran {
        /// How often.
        runs: u32,
        /// The reasons of each run that failed.
        failed: Vec<Vec<String>>,
        /// Seconds that the runs took, one after the other.
        took_s: f64,
    },
    /// Why it can't run.
    Not(String),
}

/// What the failure is that is looked for.
#[derive(Clone, Copy)]
pub(super) enum Signature<'a> {
    /// A part of a reason.
    Part(&'a str),
    /// A reason, numbers left out.
    Whole(&'a str),
    /// Any.
    Any,
}

impl Signature<'_> {
    fn is(self, reason: &str) -> bool {
        match self {
            Signature::Part(part) => reason.contains(part),
            Signature::Whole(whole) => without_numbers(reason) == whole,
            Signature::Any => true,
        }
    }

    /// What runs tell of it. One that fails otherwise tells nothing.
    pub(super) fn judge(self, runs: u32, failed: &[Vec<String>]) -> Tried {
        let shows = |reasons: &&Vec<String>| reasons.iter().any(|r| self.is(r));
        let shown = failed.iter().filter(shows).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let trials = runs.saturating_sub(count(failed.len() - shown));
        match failed.iter().find(|reasons| !shows(reasons)) {
            Some(reasons) if trials == 0 => Tried::Skipped {
                reason: format!(
                    "it fails otherwise: {}",
                    reasons.first().map_or("", String::as_str)
                ),
            },
            _ => Tried::Ran {
                seen: Trials {
                    trials,
                    shown: count(shown),
                },
            },
        }
    }
}

impl Trier<'_> {
    /// A command that is told what trees are built from.
    fn zonedev(&self, word: &str, log: &Utf8Path) -> Result<Command, Failure> {
        let mut command = own::zonedev(self.project, word, fs_err::File::create(log)?)?;
        if let Some(base) = &self.tree_base {
            command.args(["--tree-base", base]);
        }
        Ok(command)
    }

    /// The folder of the last run.
    pub(super) fn run_dir(&self) -> Utf8PathBuf {
        self.dir.join("trial")
    }

    /// Begins to build a kernel. Who drops the child ends it.
    pub(super) fn build_ahead(&self, kernel: &str) -> Result<Child, Failure> {
        let mut command = self.zonedev("build", &self.dir.join("ahead.log"))?;
        Ok(command.args(["--bzimage", kernel]).spawn()?)
    }

    /// Builds a kernel.
    pub(super) async fn build(&self, kernel: &str) -> Result<Built, Failure> {
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
                    return Ok(Built::Kernel(hasher.finalize().to_hex().to_string()));
                }
                Some(5) => return Ok(Built::Not(first_error(&said))),
                Some(2) => return Ok(Built::NoSuch(said.trim().to_owned())),
                _ => {}
            }
        }
        Err(Failure::harness(format!(
            "failed {HOST_TRIES} times to build {kernel}; see {log}"
        )))
    }

    /// Runs the case so often, or until it fails.
    pub(super) async fn run(
        &self,
        kernel: &str,
        trials: u32,
        until_fails: bool,
    ) -> Result<Runs, Failure> {
        let (run, log) = (self.run_dir(), self.dir.join("trial.log"));
        for _ in 0..HOST_TRIES {
            if run.exists() {
                fs_err::remove_dir_all(&run)?;
            }
            let mut command = self.zonedev("matrix", &log)?;
            command.args(["-k", kernel, "-E", &format!("={}", self.case)]);
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
            let mut host = false;
            let mut otherwise = None;
            let mut seen = None;
            for (id, verdict) in &record.cells {
                let asked = id.case_path() == self.case;
                match verdict {
                    CellVerdict::Error { .. } => host = true,
                    CellVerdict::Skip { reason } if asked => otherwise = Some(reason.clone()),
                    // Its fixture's boot.
                    CellVerdict::Fail { reasons, .. } if !asked => {
                        otherwise = Some(reasons.first().cloned().unwrap_or_default());
                    }
                    CellVerdict::Fail { .. } | CellVerdict::Pass {} if asked => {
                        seen = Some((RunFolder::open(&run).read_cell(id)?, verdict));
                    }
                    _ => {}
                }
            }
            if host {
                continue;
            }
            if let Some(reason) = otherwise {
                return Ok(Runs::Not(reason));
            }
            let Some((cell, verdict)) = seen else {
                return Err(Failure::request(
                    format!("no cell is called {}", self.case),
                    "give the whole SUITE/FIXTURE/CASE, see `zonedev list cases`",
                ));
            };
            let all = |run: &FailedRun| [slice::from_ref(&run.reason), &run.others].concat();
            let (runs, failed) = match (&cell.repeats, verdict) {
                (Some(repeats), _) => (repeats.runs, repeats.failed.iter().map(all).collect()),
                (None, CellVerdict::Fail { reasons, .. }) => (trials, vec![reasons.clone()]),
                (None, _) => (trials, Vec::new()),
            };
            return Ok(Runs::Ran {
                runs,
                failed,
                took_s: cell.took_ms as f64 / 1000.0,
            });
        }
        Err(Failure::harness(format!(
            "failed {HOST_TRIES} times to run {kernel}; see {log}"
        )))
    }
}

/// What a build ended with: the compiler's first error, or our own words.
fn first_error(said: &str) -> String {
    let compiler = said.lines().find(|line| line.contains("error:"));
    // Wrapped by its printer: its lines begin with bars.
    let ours = said.split_once("× ").map(|(_, words)| {
        let lines = words
            .lines()
            .map(|line| line.trim().trim_start_matches("│ "));
        let lines: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
        lines.join(" ")
    });
    let bare = |line: &str| line.trim().trim_start_matches("│ ").to_owned();
    let error = compiler.map(bare).or(ours);
    let error = error.unwrap_or_else(|| "see build.log".to_owned());
    format!("it does not build: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_otherwise_is_no_answer() {
        let runs = |reasons: &[&[&str]]| -> Vec<Vec<String>> {
            let own = |r: &&[&str]| r.iter().map(|s| (*s).to_owned()).collect();
            reasons.iter().map(own).collect()
        };
        let leaks = runs(&[&["at \"released\": refcount 2 at pfn 0x1002ff", "a WARNING"]]);
        let whole = Signature::Whole("at \"released\": refcount N at pfn N");
        let shown = |shown| Tried::Ran {
            seen: Trials { trials: 4, shown },
        };
        assert_eq!(whole.judge(4, &leaks), shown(1));
        assert_eq!(Signature::Part("WARN").judge(4, &leaks), shown(1));
        assert_eq!(Signature::Any.judge(4, &[]), shown(0));
        let hung = runs(&[&["it hung"]]);
        let both = [leaks, hung.clone()].concat();
        let three = Trials {
            trials: 3,
            shown: 1,
        };
        assert_eq!(whole.judge(4, &both), Tried::Ran { seen: three });
        let Tried::Skipped { reason } = whole.judge(1, &hung) else {
            panic!("a hang is no leak");
        };
        assert_eq!(reason, "it fails otherwise: it hung");
        assert_eq!(Signature::Any.judge(4, &both), shown(2));
    }

    #[test]
    fn the_first_error_of_a_build_is_told() {
        let said =
            "build x\n  CC mm/gup.o\nmm/gup.c:3:2: error: #error \"no\"\nmm/gup.c:4: error: y\n";
        assert!(first_error(said).ends_with("build: mm/gup.c:3:2: error: #error \"no\""));
        assert!(first_error("killed\n").ends_with("build: see build.log"));
        let wrapped = "zonedev:   × the patch p.patch does\n  │ not apply\n\n";
        assert!(first_error(wrapped).ends_with("build: the patch p.patch does not apply"));
    }
}
