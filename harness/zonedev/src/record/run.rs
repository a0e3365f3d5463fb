//! A whole run: kernels, cells, pairs, and the events on the way.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CellId, KnownFailure, Violation};

/// Version of `record.json`; rises when a reader of an older version would misread it.
pub const RECORD_VERSION: u32 = 1;

/// A kernel of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelRecord {
    /// As typed.
    pub name: String,
    /// Its contract.
    pub contract: String,
    /// What was built: source, version, checksum, series, toolchain, in words by key.
    pub provenance: BTreeMap<String, String>,
    /// Key of the build in the cache.
    pub build_key: String,
}

/// What sort of failure it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The kernel did not reach the agent, or its fixture could not be provisioned.
    BootFailed,
    /// The kernel panicked.
    GuestDied,
    /// The guest reset or powered off, unasked.
    GuestRebooted,
    /// A step did not end in its time.
    KernelHung,
    /// The agent gave up, or its channel carried what is not its word.
    AgentLost,
    /// The kernel reported trouble of its own.
    KernelReported,
    /// What was read is not what was written.
    DataWrong,
    /// An operation came to something else than is expected of it.
    OperationFailed,
    /// Counts, counters or what is left break the contract.
    ContractBroken,
    /// A program's test failed.
    TestFailed,
    /// What is listed as known to go wrong does not.
    KnownGone,
    /// Runs of the same case on the same kernel were observed otherwise.
    Unstable,
    /// Less was checked than was to be.
    Unchecked,
}

impl FailureKind {
    /// In the field's words.
    pub fn word(self) -> &'static str {
        match self {
            FailureKind::BootFailed => "boot failed",
            FailureKind::GuestDied => "guest died",
            FailureKind::GuestRebooted => "guest rebooted",
            FailureKind::KernelHung => "kernel hung",
            FailureKind::AgentLost => "agent lost",
            FailureKind::KernelReported => "kernel reported",
            FailureKind::DataWrong => "data wrong",
            FailureKind::OperationFailed => "operation failed",
            FailureKind::ContractBroken => "contract broken",
            FailureKind::TestFailed => "test failed",
            FailureKind::KnownGone => "known gone",
            FailureKind::Unstable => "unstable",
            FailureKind::Unchecked => "unchecked",
        }
    }
}

/// Of one cell, on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CellVerdict {
    /// Every check ran and agreed.
    Pass {},
    /// What was wrong, worst first, in words; violations as data beside it.
    Fail {
        /// Each a sentence fragment without the cell's name.
        reasons: Vec<String>,
        /// Broken contracts.
        violations: Vec<Violation>,
        /// What sorts of failure these are, worst first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds: Vec<FailureKind>,
    },
    /// Not run.
    Skip {
        /// Why.
        reason: String,
    },
    /// The harness or the host.
    Error {
        /// What.
        reason: String,
        /// Whether it was the host.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        host: bool,
    },
}

/// Whether a difference is an accepted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AcceptState {
    /// Both sides read as their accepted snapshots.
    Accepted {},
    /// One side differs from its accepted snapshot.
    NotAsAccepted {},
    /// There is no accepted snapshot for one side.
    NoSnapshot {},
}

/// One difference between the sides of a pair, told once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Rank for sorting, 0 is worst: kernel reports, ends, operations, results, counts.
    pub rank: u8,
    /// `log`, `end`, `operation`, `result`, `pages`, `counter`, `accepted`, `log-line`. The last
    /// is told and never changes a verdict.
    pub kind: String,
    /// The checkpoint or operation, where it has one: `"after"`, `every checkpoint`, `step 3 pin`.
    pub at: Option<String>,
    /// How many 4K pages, where it is about pages: least and most over the checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<(u64, u64)>,
    /// In words, without the number of pages: `FS_DAX pages idle at 0, baseline 1`.
    pub text: String,
}

/// Of the two cells of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PairVerdict {
    /// No difference.
    Same,
    /// Differences, all of them as the accepted snapshots say.
    ChangedAsAccepted,
    /// Differences that nobody accepted, or the other side fails where the baseline passes.
    Regressed,
    /// The baseline fails and the other side passes.
    Fixed,
    /// One side did not run or could not be judged.
    Incomparable,
}

/// Two cells of one case, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairRecord {
    /// Of the baseline.
    pub baseline: CellId,
    /// Of the other kernel.
    pub other: CellId,
    /// The verdict.
    pub verdict: PairVerdict,
    /// Whether the snapshots agree.
    pub accepted: AcceptState,
    /// Worst first.
    pub differences: Vec<Difference>,
}

/// Skips of one suite on kernels of one contract for one reason: cells that did not run, and tests
/// that a program left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipRecord {
    /// The suite.
    pub suite: String,
    /// The contract of the kernels.
    pub contract: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub skips: u64,
}

/// More skips than the suite's `skips.toml` allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CeilingRecord {
    /// The suite.
    pub suite: String,
    /// The kernel as it was typed, with its position in the request.
    pub kernel: String,
    /// Its contract.
    pub contract: String,
    /// How many there are.
    pub skips: u64,
    /// How many there may be.
    pub ceiling: u64,
}

/// A cell that passed only when it was tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlakyRecord {
    /// Which.
    pub cell: CellId,
    /// How often it ran.
    pub runs: u32,
    /// How often it did not pass.
    pub failed: u32,
    /// Why, the first time.
    pub reason: String,
}

/// What went wrong as stock kernels are known to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownRecord {
    /// In which cell.
    pub cell: CellId,
    /// Which, and why.
    pub known: KnownFailure,
}

/// `begun.json`: what a run is, once its kernels are built and before its first cell. With the
/// cells that have finished it is all that a report needs, and what `--resume` goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Name of the run.
    pub id: String,
    /// Version of zonedev.
    pub zonedev: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// The command line.
    pub command: Vec<String>,
    /// Where it was typed.
    pub directory: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Why it is not KVM, where it isn't.
    pub accel_reason: Option<String>,
    /// Version of QEMU.
    pub qemu: String,
    /// In the request's order; the first is the baseline.
    pub kernels: Vec<KernelRecord>,
    /// Every cell, those of boots included.
    pub cells: Vec<CellId>,
}

/// `record.json`: the whole run without the cells' pages, which lie in `cells/…/cell.json.zst`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Name of the run, also of its folder.
    pub id: String,
    /// Version of zonedev.
    pub zonedev: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// Milliseconds, start to end.
    pub took_ms: u64,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Why it is not KVM, where it isn't.
    pub accel_reason: Option<String>,
    /// Version of QEMU.
    pub qemu: String,
    /// In the request's order; the first is the baseline.
    pub kernels: Vec<KernelRecord>,
    /// Each cell's verdict, in the order in which they ended.
    pub cells: Vec<(CellId, CellVerdict)>,
    /// Cells that did not finish: the run was cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<CellId>,
    /// Each pair.
    pub pairs: Vec<PairRecord>,
    /// What was skipped, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skips: Vec<SkipRecord>,
    /// Where more was skipped than may be: the run is not green.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_ceiling: Vec<CeilingRecord>,
    /// What went wrong as it is known to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownRecord>,
    /// Cells that passed only when they were tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flaky: Vec<FlakyRecord>,
    /// ZONE_DEVICE pages read, summed over checkpoints, and how many of these had a prediction.
    pub pages_read: u64,
    /// See `pages_read`.
    pub pages_predicted: u64,
    /// Boots that were not done again, since an earlier run had kept their templates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub boots_kept: usize,
    /// Milliseconds by phase: `build`, `boot`, `cells`, `judge`.
    pub phases_ms: BTreeMap<String, u64>,
    /// Processor time of the phase `run`, milliseconds: of `guests` (QEMU as a whole) and of the
    /// `harness`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_ms: BTreeMap<String, u64>,
    /// Loud messages, such as a locked source that was gone.
    pub notices: Vec<String>,
    /// Exit code that the run ended with.
    pub exit_code: u8,
}

/// Everything that happens in a run, in one enum: the journal holds these as
/// JSON lines, and every reporter feeds on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Event {
    RunStarted {
        id: String,
        cells: usize,
        accel: String,
    },
    BuildStarted {
        what: String,
    },
    BuildProgress {
        what: String,
        phase: String,
        done: u64,
        total: Option<u64>,
    },
    BuildFinished {
        what: String,
        took_ms: u64,
        cached: bool,
    },
    BuildFailed {
        what: String,
        message: String,
    },
    Notice {
        message: String,
    },
    BootStarted {
        what: String,
    },
    BootFinished {
        what: String,
        took_ms: u64,
        cloneable: bool,
        /// An earlier run had done it, and its template was kept.
        #[serde(default)]
        kept: bool,
    },
    CellStarted {
        cell: CellId,
    },
    CellStep {
        cell: CellId,
        step: usize,
        steps: usize,
        op: String,
    },
    CellFinished {
        cell: CellId,
        verdict: CellVerdict,
        took_ms: u64,
    },
    RunFinished {
        exit_code: u8,
        took_ms: u64,
    },
}
fn is_zero(n: &usize) -> bool {
    *n == 0
}
