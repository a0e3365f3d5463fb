//! The messages in the frames.

use std::collections::BTreeMap;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Hold, Mismatch, Op, Outcome, PinHow, Profile};

/// Rises with every change that an older peer would misread.
pub const PROTOCOL_VERSION: u32 = 5;

/// One operation to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Chosen by the host, repeated in the answer.
    pub id: u64,
    /// The process that runs it; `main` exists from the start of a case.
    pub actor: String,
    /// What to do.
    pub op: Op,
    /// After this many milliseconds in one sleeping state an operation counts
    /// as blocked; `None`: wait for its end.
    pub blocked_after_ms: Option<u64>,
    /// Text for /dev/kmsg before the operation, so that the host can tell which
    /// log lines belong to it.
    pub mark: String,
}

/// Behaviours in which eras differ and from which the ledger's prediction
/// follows; the host takes them from the kernel's contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// Closing the test_hmm device brings its pages back to RAM (744dd97752ef, 7.1,
    /// and the stable trees of 6.1 and 6.12).
    #[serde(default)]
    pub hmm_close_evicts: bool,
    /// Breaking a file's layout, as truncate and punch do, drops the DAX entries of the whole
    /// file once its pages are idle (dax_break_layout() calls dax_delete_mapping_range(), 6.15).
    #[serde(default)]
    pub layout_break_drops_entries: bool,
    /// A truncate that waits for a pin waits for page-table entries too: whoever touches the page
    /// meanwhile keeps it waiting, for as long as the page stays mapped. From 6.15 on an entry is
    /// a reference, and wait_page_idle() waits for none.
    #[serde(default)]
    pub layout_break_waits_for_mappings: bool,
    /// Tearing a region down waits until no page of it is held (before 5.18, when each page
    /// held a reference to its pgmap).
    #[serde(default)]
    pub teardown_waits: bool,
    /// A DAX entry of a block that several files have counts in `share` also where it came of a
    /// load (dax_insert_entry() of 6.3 on; before, only a copied block's did).
    #[serde(default)]
    pub share_counts_loads: bool,
    /// The same where it is the only entry of that block (dax_page_share_get(), up to 6.14); later
    /// only from the second entry on (dax_associate_entry()).
    #[serde(default)]
    pub share_counts_one: bool,
    /// A device that faults pages of another one gets them back to RAM; before 8a295dbbaf72
    /// (5.19) hmm_range_fault() failed with EFAULT.
    #[serde(default)]
    pub hmm_faults_foreign: bool,
    /// Evicting an inode waits for its pinned pages (0e2f80afcfa6, 6.15).
    #[serde(default)]
    pub evict_waits: bool,
}

/// Host to guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostMessage {
    /// First message on a channel, also to a clone.
    Hello {
        /// [`PROTOCOL_VERSION`] of the host.
        version: u32,
        /// What the contract says of this kernel.
        behaviour: Behaviour,
    },
    /// Run one operation.
    Run(Request),
    /// Fork who serves the port for shells ([`crate::ToShell`]). Not answered: the port is.
    Shell {},
    /// Hand over what a kernel that profiles itself has counted.
    Profile {},
    /// Sync and power off.
    PowerOff {},
}

/// A namespace as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NamespaceInfo {
    /// Block or character device, such as `pmem0` or `dax0.0`.
    pub dev: String,
    /// The name in its label; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `fsdax`, `devdax` or `raw`.
    pub mode: String,
    /// Physical address of the first byte of data.
    pub resource: u64,
    /// Bytes of data.
    pub size: u64,
    /// Alignment, bytes; 0 where it has none.
    pub align: u64,
    /// Where its memory lies apart: address and bytes of each range, as they follow one another
    /// in the device. Empty: `size` bytes from `resource` on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(u64, u64)>,
}

impl NamespaceInfo {
    /// Address and bytes of each range.
    pub fn pieces(&self) -> Vec<(u64, u64)> {
        match self.ranges.is_empty() {
            true => vec![(self.resource, self.size)],
            false => self.ranges.clone(),
        }
    }

    /// The physical address of a byte of data.
    pub fn address(&self, mut offset: u64) -> Option<u64> {
        for (start, size) in self.pieces() {
            if offset < size {
                return start.checked_add(offset);
            }
            offset -= size;
        }
        None
    }
}

/// What the agent holds and counts at a checkpoint; it has settled, and does
/// nothing until the next request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Predicted holds, coalesced, sorted.
    pub holds: Vec<Hold>,
    /// Pages of RAM that pins hold besides, by the way to pin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins_in_ram: BTreeMap<PinHow, u64>,
    /// A program that ran fails pages on purpose; nobody knows which.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poison_unknown: bool,
    /// Where pagemap disagrees with the prediction.
    pub mismatches: Vec<Mismatch>,
    /// /proc/vmstat lines that matter, after stat_refresh.
    pub counters: BTreeMap<String, i64>,
    /// The provisioned namespaces.
    pub namespaces: Vec<NamespaceInfo>,
}

/// Where an operation stands that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The process that does it: the actor, or a program that it waits for.
    pub pid: i32,
    /// Its state's letter, as /proc has it: `D` waits uninterruptibly, `R` runs.
    pub state: String,
    /// The function that it sleeps in; empty where it does not.
    pub wchan: String,
    /// /proc/PID/stack, innermost first, without addresses: `dax_break_layout+0x10/0x20`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    /// The pins that are held meanwhile, by prediction; at most [`Standing::MAX_PINS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Hold>,
}

impl Standing {
    /// Pins told.
    pub const MAX_PINS: usize = 16;
    /// Frames told.
    pub const MAX_FRAMES: usize = 32;
}

/// Guest to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentMessage {
    /// The answer to Hello.
    Ready {
        /// [`PROTOCOL_VERSION`] of the agent.
        version: u32,
        /// `uname -r`.
        release: String,
        /// /proc/uptime in milliseconds.
        uptime_ms: u64,
    },
    /// The end of a request.
    Done {
        /// Of the request.
        id: u64,
        /// What happened.
        outcome: Outcome,
        /// With [`Op::Checkpoint`] only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkpoint: Option<Box<Checkpoint>>,
    },
    /// Said every second or two while an operation runs: PID 1 lives, and this is where the
    /// operation stands. Not an answer.
    Alive {
        /// Of the request.
        id: u64,
        /// Where it stands.
        standing: Box<Standing>,
    },
    /// The answer to Profile.
    Profile {
        /// Empty on a kernel that does not profile itself.
        profile: Profile,
    },
    /// The agent cannot go on; said once, then it stops.
    Fatal {
        /// Why.
        message: String,
    },
}
