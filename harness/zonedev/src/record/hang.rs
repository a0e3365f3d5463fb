//! What a guest that answers no more still says.

use proto::Standing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Frame, Task};

/// The file in a cell's folder with the memory of its guest: an ELF core, compressed by zstd.
pub const CORE: &str = "guest.core.zst";

/// What was tried to learn where a guest hangs, and what it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hang {
    /// Where the operation stood when the agent was heard of last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Bytes on the console when it was asked first: what came later is no report of its own.
    #[serde(default)]
    pub asked_at: u64,
    /// In the order in which it was tried.
    pub rungs: Vec<Rung>,
    /// The tasks that wait, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<WaitingTask>,
    /// Where each processor is, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<String>,
}

impl Hang {
    /// Adds what a rung gave, or why it gave nothing.
    pub fn add(&mut self, what: &str, gave: Result<String, String>) {
        self.rungs.push(Rung {
            what: what.to_owned(),
            answered: gave.is_ok(),
            gave: gave.unwrap_or_else(|e| e),
        });
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// Such as `sysrq: blocked tasks`.
    pub what: String,
    /// Whether it gave anything.
    pub answered: bool,
    /// What, or why not.
    pub gave: String,
}

/// A task as sysrq shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitingTask {
    /// Which.
    pub task: Task,
    /// Its state's letter: `D` waits uninterruptibly, `R` runs.
    pub state: String,
    /// Where, innermost first.
    pub trace: Vec<Frame>,
}
