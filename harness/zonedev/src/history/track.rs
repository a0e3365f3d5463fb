//! One case on one kernel under one accelerator, over the runs.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rates::{Rate, median};

/// A run, by what people call it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct RunRef {
    /// RFC 3339, UTC.
    pub started: String,
    /// Its name.
    pub name: String,
    /// In the database; runs sort by start and this.
    pub id: i64,
}

/// A kernel's build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelRef {
    /// Key of the build in the cache; of a pair, those of both.
    pub build_key: String,
    /// Its provenance: source, version, patches, compiler.
    pub says: BTreeMap<String, String>,
}

/// What a cell came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Every check ran and agreed.
    Pass,
    /// It failed; of a pair: it regressed.
    Fail,
    /// It was not run.
    Skip,
    /// The harness or the host failed.
    Error,
    /// The run was cut off before.
    Unfinished,
}

impl State {
    pub(super) fn of(word: &str) -> State {
        match word {
            "pass" => State::Pass,
            "fail" => State::Fail,
            "skip" => State::Skip,
            "error" => State::Error,
            _ => State::Unfinished,
        }
    }

    /// In one letter, for a row of many.
    pub fn letter(self) -> char {
        match self {
            State::Pass => '.',
            State::Fail => 'F',
            State::Skip => 's',
            State::Error => 'E',
            State::Unfinished => '?',
        }
    }

    /// Worst last.
    pub(super) fn weight(self) -> u8 {
        match self {
            State::Skip => 0,
            State::Pass => 1,
            State::Unfinished => 2,
            State::Error => 3,
            State::Fail => 4,
        }
    }
}

/// What came of it in one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Which run.
    pub run: RunRef,
    /// What it came to.
    pub state: State,
    /// The worst reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// How often it ran in this run.
    pub tries: u64,
    /// How often it did not pass then.
    pub failed: u64,
    /// Of which build.
    pub build_key: String,
}

/// One case on one kernel under one accelerator, oldest run first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Track {
    /// `suite/fixture/case`.
    pub case: String,
    /// The kernel as it was typed; of a pair `7.3 against 6.12`.
    pub kernel: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// What came of it.
    pub points: Vec<Point>,
}

/// Where a track stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// In its last run.
    pub now: State,
    /// Whether it failed in the last run that said anything of the kernel: passed or failed.
    pub red: bool,
    /// The first run that failed after the last one that passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red_since: Option<Point>,
    /// The last run that passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_green: Option<Point>,
    /// Why, the last time that it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often it failed, on builds on which it also passed; `None` where there is no such build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaky: Option<Rate>,
    /// The middle of the times of the runs that passed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<u64>,
}

impl Track {
    /// Adds what one more cell of the same name came to: two kernels of a run that are named alike
    /// are one track, of which the worse counts.
    pub(super) fn add(&mut self, point: Point) {
        match self.points.last_mut() {
            Some(last) if last.run == point.run => {
                last.tries += point.tries;
                last.failed += point.failed;
                if point.state.weight() > last.state.weight() {
                    let (tries, failed) = (last.tries, last.failed);
                    *last = Point {
                        tries,
                        failed,
                        ..point
                    };
                }
            }
            _ => self.points.push(point),
        }
    }

    /// Where it stands; `None` of a track without points.
    pub fn standing(&self) -> Option<Standing> {
        let last = self.points.last()?;
        let is = |p: &&Point, state| p.state == state;
        let green = self.points.iter().rposition(|p| p.state == State::Pass);
        let after = &self.points[green.map_or(0, |g| g + 1)..];
        let red_since = after.iter().find(|p| is(p, State::Fail));
        let last_red = self.points.iter().rfind(|p| is(p, State::Fail));
        let passed = self.points.iter().filter(|p| is(p, State::Pass));
        let times: Vec<u64> = passed.filter_map(|p| p.took_ms).collect();
        Some(Standing {
            now: last.state,
            red: red_since.is_some(),
            red_since: red_since.cloned(),
            last_green: green.map(|g| self.points[g].clone()),
            reason: match last_red {
                Some(red) => red.reason.clone(),
                None => last.reason.clone(),
            },
            flaky: self.flaky(),
            median_ms: median(&times),
        })
    }

    /// Of the builds that both passed and failed. One that only fails is red, and no flake.
    fn flaky(&self) -> Option<Rate> {
        let mut builds: HashMap<&str, (u64, u64)> = HashMap::new();
        for point in &self.points {
            let build = builds.entry(&point.build_key).or_default();
            build.0 += point.failed.min(point.tries);
            build.1 += point.tries;
        }
        let mixed = builds
            .values()
            .filter(|(failed, of)| *failed > 0 && failed < of);
        let (failed, of) = mixed.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        (of > 0).then(|| Rate::new(failed, of))
    }
}
