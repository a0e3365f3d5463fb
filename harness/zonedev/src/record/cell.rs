//! What one cell produced.

use std::collections::BTreeMap;
use std::fmt;

use guestmem::{PageKind, PagesReading};
use proto::{Checkpoint, Op, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hang, Splat};

/// One case on one kernel. `side` tells apart two kernels that are named alike.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct CellId {
    /// The suite, such as `fsdax`.
    pub suite: String,
    /// The fixture that the case runs on, such as `fsdax-ext4`.
    pub fixture: String,
    /// The case, such as `map-touch`.
    pub case: String,
    /// Position of the kernel in the request; 0 is the baseline.
    pub side: usize,
    /// The kernel as it was typed.
    pub kernel: String,
}

impl CellId {
    /// `suite/fixture/case`: equal for the cells of a pair.
    pub fn case_path(&self) -> String {
        format!("{}/{}/{}", self.suite, self.fixture, self.case)
    }

    /// Whether this stands for the boot and provisioning of a fixture.
    pub fn is_provisioning(&self) -> bool {
        self.suite == "boot" && self.case == "provision"
    }

    /// A relative folder for the cell's files; it leads nowhere else, whatever the names are.
    pub fn folder(&self) -> String {
        let kernel = file_name(&self.kernel);
        let mut out = format!("cells/{}-{kernel}", self.side);
        let case = self.case.split('/');
        for name in [self.suite.as_str(), self.fixture.as_str()]
            .into_iter()
            .chain(case)
        {
            out.push('/');
            out.push_str(&match name {
                "" | "." | ".." => "_".to_owned(),
                name => file_name(name),
            });
        }
        out
    }
}

/// Characters of a name that file systems take.
const LONGEST: usize = 120;

/// Of a kernel with many patches, or of patches far down, the beginning and a digest.
fn file_name(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || ".-_+@".contains(c);
    let name: String = text
        .chars()
        .map(|c| if keep(c) { c } else { '_' })
        .collect();
    if name.len() <= LONGEST {
        return name;
    }
    let digest = blake3::hash(text.as_bytes()).to_hex();
    format!("{}~{}", &name[..LONGEST - 17], &digest[..16])
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.case_path(), self.kernel)
    }
}

/// One line of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Microseconds since boot, where the line has a time.
    pub time_us: Option<u64>,
    /// The text after the time, control characters escaped.
    pub text: String,
    /// Index into [`CellRecord::steps`] of the operation that ran; `None` before the first.
    pub step: Option<usize>,
    /// Who printed it (CONFIG_PRINTK_CALLER): `T12` a task, `C0` a processor in an interrupt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

/// Of one KTAP line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TestStatus {
    /// `ok`
    Pass,
    /// `not ok`
    Fail,
    /// `ok # SKIP`
    Skip,
    /// Announced but never reported, or the program died in it.
    Missing,
}

/// One result of a program that speaks KTAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestResult {
    /// Such as `hmm.hmm_device_private.migrate`.
    pub name: String,
    /// How it ended.
    pub status: TestStatus,
    /// Diagnostics or the skip's reason, one text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What stock kernels are known to do wrong in a cell, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownFailure {
    /// What.
    pub what: KnownWhat,
    /// Whether it is no matter where it stays away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sometimes: bool,
    /// Why, with the upstream commit that ends it where there is one.
    pub reason: String,
}

/// What is known to go wrong: this and nothing beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KnownWhat {
    /// A program's test fails.
    Test {
        /// Its name, such as `hmm.hmm_device_private.exclusive`.
        name: String,
    },
    /// The kernel reports so.
    Report {
        /// The report's title.
        title: String,
    },
    /// Steps of this operation come to this instead of what is expected of them.
    Outcome {
        /// The operation's word.
        op: String,
        /// The outcome's word.
        gives: String,
    },
    /// The guest does not see the case's end.
    End {
        /// `died` or `hung`.
        how: String,
    },
    /// The contract is broken so. As [`Violation`] has it.
    Violation {
        /// The checkpoint.
        checkpoint: String,
        /// What was looked at.
        what: String,
        /// By contract and claims.
        expected: String,
        /// In the guest.
        found: String,
    },
}

impl KnownWhat {
    /// Whether it is the report of this title.
    pub fn is_report(&self, of: &str) -> bool {
        matches!(self, KnownWhat::Report { title } if title == of)
    }

    /// Whether a violation is the one that is known.
    pub fn is(&self, v: &Violation) -> bool {
        match self {
            KnownWhat::Test { .. }
            | KnownWhat::Report { .. }
            | KnownWhat::Outcome { .. }
            | KnownWhat::End { .. } => false,
            KnownWhat::Violation {
                checkpoint,
                what,
                expected,
                found,
            } => {
                (checkpoint, what, expected, found)
                    == (&v.checkpoint, &v.what, &v.expected, &v.found)
            }
        }
    }
}

impl std::fmt::Display for KnownWhat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KnownWhat::Test { name } => write!(f, "test {name}"),
            KnownWhat::Report { title } => write!(f, "{title}"),
            KnownWhat::Outcome { op, gives } => write!(f, "{op} gives {gives}"),
            KnownWhat::End { how } => write!(f, "the guest {how}"),
            KnownWhat::Violation {
                checkpoint,
                what,
                expected,
                found,
            } => write!(
                f,
                "at \"{checkpoint}\": {what} {found} instead of {expected}"
            ),
        }
    }
}

/// One step of the case as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// The process that ran it.
    pub actor: String,
    /// The operation.
    pub op: Op,
    /// One of the words of [`proto::StepResult::word`]: what the contract lets expect.
    pub expected: String,
    /// Titles of kernel reports that the contract lets this step cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_splats: Vec<String>,
    /// Whether each of these must come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_splat: bool,
    /// What happened; `None` where the cell ended before.
    pub outcome: Option<Outcome>,
}

/// A named moment: pages and claims.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRecord {
    /// Its name in the case.
    pub name: String,
    /// Index of its step.
    pub step: usize,
    /// Every ZONE_DEVICE page.
    pub pages: PagesReading,
    /// What the agent says that it holds.
    pub claims: Checkpoint,
    /// How often the pages were read again until they agreed with the contract
    /// (0: at once); the first reading is in `first` where it was more than once.
    pub rereads: u32,
    /// The first reading, where it was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<PagesReading>,
    /// Microseconds that reading took, with the guest paused.
    pub read_us: u64,
}

/// A page, or a run of them, that differs from its one predicted count, or any
/// other rule of the contract that is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// The checkpoint.
    pub checkpoint: String,
    /// Owner and type, such as `namespace0.0 FS_DAX`.
    pub region: String,
    /// First page frame number, where pages are meant.
    pub pfn: Option<u64>,
    /// The same as an offset in pages from the region's start.
    pub offset: Option<u64>,
    /// 4K pages, of all the ranges together.
    pub pages: u64,
    /// In how many ranges these pages lie; `pfn` and `offset` are of the first.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranges: u64,
    /// What was looked at: `refcount`, `pincount`, `mapping`, `pagemap`, `pins balanced`…
    pub what: String,
    /// By contract and claims.
    pub expected: String,
    /// In the guest.
    pub found: String,
    /// Why that was expected, such as `idle 1 + 1 vmsplice`.
    pub because: String,
}

fn one() -> u64 {
    1
}

fn is_one(n: &u64) -> bool {
    *n == 1
}

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "end", rename_all = "kebab-case", deny_unknown_fields)]
pub enum End {
    /// All steps ran.
    Finished {},
    /// It never ran, for this reason.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The kernel did not reach the agent.
    BootFailed {
        /// The last lines of its log, or what else is known.
        reason: String,
    },
    /// The guest died or was reset during this step.
    GuestDied {
        /// Index of the step.
        step: Option<usize>,
        /// How: `panic`, `reset`, `QEMU exited`.
        how: String,
    },
    /// A step did not end in its time.
    Hung {
        /// Index of the step.
        step: usize,
        /// Where, as far as known.
        at: String,
    },
    /// The agent gave up, or what came over its channel was not its word.
    AgentLost {
        /// Index of the step.
        step: Option<usize>,
        /// How.
        how: String,
    },
    /// The harness failed; no word about the kernel.
    HarnessError {
        /// What.
        message: String,
    },
    /// The host failed: QEMU crashed, memory or space ran out. No word about the kernel.
    HostError {
        /// What.
        message: String,
    },
}

impl End {
    /// What went wrong, where it was not the kernel that did.
    pub fn not_the_kernel(&self) -> Option<&str> {
        match self {
            End::HarnessError { message } | End::HostError { message } => Some(message),
            _ => None,
        }
    }
}

/// Everything that one cell left behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellRecord {
    /// Which cell.
    pub id: CellId,
    /// Title of the case.
    pub title: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// `clone` or `boot`.
    pub isolation: String,
    /// Name of the contract that judged it.
    pub contract: String,
    /// How it ended.
    pub end: End,
    /// The steps.
    pub steps: Vec<StepRecord>,
    /// The checkpoints reached.
    pub checkpoints: Vec<CheckpointRecord>,
    /// The kernel log from the clone's start (for the boot cell: from the kernel's first line).
    pub log: Vec<LogLine>,
    /// Reports in the log.
    pub splats: Vec<Splat>,
    /// Results of programs.
    pub results: Vec<TestResult>,
    /// What is known to go wrong on this kernel (the case's `known` list).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_failures: Vec<KnownFailure>,
    /// Kinds of page that its fixture gives: its first checkpoint has them. Of the cells of a
    /// fixture itself only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixture_pages: Vec<PageKind>,
    /// What was left when the case was over and its processes were gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// The same before the case began: of its fixture, provisioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Left>,
    /// What a guest that answered no more still said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hang: Option<Hang>,
    /// Where it ran more than once. The rest of the record is of the first run that did not pass,
    /// or of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// The run whose boot this is, where it was not done again: its template was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_in: Option<String>,
    /// Milliseconds from its start to its end, of all runs together.
    pub took_ms: u64,
}

/// What is there when no process of the case is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// The kernel's counters. Those named `unaccounted_…` are in pages and without the agent's own.
    pub counters: BTreeMap<String, i64>,
    /// Why the processes of the case did not go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a cell went that ran more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// How often it ran.
    pub runs: u32,
    /// The runs that did not pass.
    pub failed: Vec<FailedRun>,
    /// Each of them passed when it was tried again (`--retries`): a flake, and no failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tolerated: bool,
    /// The runs that passed and were observed otherwise than the first that did, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub otherwise: Vec<FailedRun>,
}

/// A run of a cell that did not pass, or not like the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailedRun {
    /// Which, from 1.
    pub run: u32,
    /// Seed of its first race.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Why, the first reason.
    pub reason: String,
    /// The other reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_many_patches_has_a_folder_all_the_same() {
        let patch = |n| format!("+/home/me/series/{:0>40}/{n:04}-mm.patch", n);
        let mut id = super::super::testing::cell("a", 0, "6.12").id;
        id.kernel = format!("6.12{}", (0..9).map(patch).collect::<String>());
        let one = id.folder();
        let longest = one.split('/').map(str::len).max();
        assert!(longest <= Some(LONGEST + 4), "{one}");
        assert!(one.starts_with("cells/0-6.12+_home_me_series_"), "{one}");
        id.kernel.push_str(&patch(9));
        assert_ne!(one, id.folder());
    }
}
