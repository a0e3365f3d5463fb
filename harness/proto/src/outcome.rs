//! What an operation did, as far as the operation itself can tell.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Memory;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StepResult {
    /// It did what it was asked.
    Ok {},
    /// The system call failed.
    Errno {
        /// Name such as `ENOMEM`.
        errno: String,
        /// The call, such as `vmsplice`.
        call: String,
    },
    /// A signal came of it, such as `SIGBUS` of a touch.
    Signal {
        /// Name of the signal.
        signal: String,
    },
    /// Still in the kernel after the time that was given.
    Blocked {
        /// /proc/PID/wchan of the actor: the kernel function that it sleeps in.
        wchan: String,
    },
    /// The actor died of it.
    Died {
        /// `signal SIGKILL` or `exit 1`.
        how: String,
    },
    /// What was read is not what was written.
    WrongData {
        /// First wrong byte offset within the mapping.
        offset: u64,
        /// The 64-bit words: expected and found.
        expected: u64,
        /// Found instead.
        found: u64,
    },
    /// The kernel or the machine has no such thing, so that nothing built on it can be.
    Lacks {
        /// What, as a fragment for people.
        what: String,
    },
    /// A helper program or the agent failed; the message says how.
    Failed {
        /// A fragment for people.
        message: String,
    },
}

impl StepResult {
    /// The short word that a case's `expect` uses: `ok`, `ENOMEM`, `SIGBUS`,
    /// `blocked`, `died`, `wrong-data`, `lacks`, `failed`.
    pub fn word(&self) -> &str {
        match self {
            StepResult::Ok {} => "ok",
            StepResult::Errno { errno, .. } => errno,
            StepResult::Signal { signal } => signal,
            StepResult::Blocked { .. } => "blocked",
            StepResult::Died { .. } => "died",
            StepResult::WrongData { .. } => "wrong-data",
            StepResult::Lacks { .. } => "lacks",
            StepResult::Failed { .. } => "failed",
        }
    }
}

/// What stands behind a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Backing {
    /// A file on the DAX file system.
    File {
        /// Its name.
        file: String,
        /// First 4K page of the file that is mapped.
        first_page: u64,
        /// MAP_PRIVATE.
        private: bool,
    },
    /// The device-dax device.
    Device {
        /// First 4K page of the device that is mapped.
        first_page: u64,
        /// Name of its namespace; empty where it has none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        namespace: String,
    },
    /// Memory that belongs to no file of the fixture.
    Anon {
        /// Which.
        #[serde(default)]
        memory: Memory,
    },
    /// Pages of the pool of a PCI device's peer-to-peer memory.
    P2pmem {},
}

/// A stretch of a file and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// First 4K page in the file.
    pub page: u64,
    /// 4K pages.
    pub pages: u64,
    /// Page frame number of the first page: region base + FIEMAP's physical offset.
    pub pfn: u64,
}

impl Extent {
    /// The frame of a page of the file, where this stretch has it.
    pub fn pfn(&self, page: u64) -> Option<u64> {
        let into = page.checked_sub(self.page)?;
        (into < self.pages).then(|| self.pfn + into)
    }

    /// The same of several stretches.
    pub fn pfn_in(extents: &[Extent], page: u64) -> Option<u64> {
        extents.iter().find_map(|e| e.pfn(page))
    }

    /// Whether a frame lies in this stretch.
    pub fn has_frame(&self, pfn: u64) -> bool {
        pfn >= self.pfn && pfn - self.pfn < self.pages
    }
}

/// What /proc/PID/pagemap says of a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PagemapState {
    /// Nothing there.
    None {},
    /// Present; consecutive pages have consecutive frames.
    Present {
        /// Frame of the first page.
        pfn: u64,
    },
    /// A swap entry that names a frame (device-private, migration); consecutive.
    SwapPfn {
        /// Swap type.
        kind: u8,
        /// Frame of the first page.
        pfn: u64,
    },
}

/// A run of equal or consecutive pagemap entries of one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PagemapRun {
    /// First 4K page within the mapping.
    pub page: u64,
    /// 4K pages.
    pub pages: u64,
    /// What is there.
    pub state: PagemapState,
}

/// Something that an operation learnt on the way, from which the ledger goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(tag = "fact", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fact {
    /// A mapping was made.
    Mapped {
        /// Its name.
        map: String,
        /// What stands behind it.
        backing: Backing,
        /// 4K pages.
        pages: u64,
    },
    /// A part of a mapping, within one 2M stretch of the file or device, was touched.
    Touched {
        /// The mapping.
        map: String,
        /// First 4K page within the mapping.
        page: u64,
        /// 4K pages touched.
        pages: u64,
        /// Stores, not loads.
        write: bool,
        /// Page faults that the loop took (minor and major).
        faults: u64,
        /// Whether pages of the same 2M stretch that were neither touched now
        /// nor before became present: a PMD was mapped. `None` where no such page exists.
        neighbours: Option<bool>,
    },
    /// Where a file's blocks lie now (FIEMAP).
    Extents {
        /// The file.
        file: String,
        /// In order of `page`.
        extents: Vec<Extent>,
    },
    /// Which 2M stretches of a mapping the device has by one PMD entry, as a snapshot of the
    /// device's says.
    Large {
        /// The mapping.
        map: String,
        /// The first 4K page of each, within the mapping.
        pages: Vec<u64>,
    },
    /// What a device's snapshot of a range says, in the words of HMM_DMIRROR_PROT_*.
    Snapshot {
        /// The mapping.
        map: String,
        /// First 4K page within the mapping.
        page: u64,
        /// One for each 4K page.
        permissions: Vec<u8>,
    },
    /// What the siginfo of a signal says that came of an operation.
    Signalled {
        /// The mapping that si_addr lies in; empty where none of the actor's has it.
        map: String,
        /// si_code, such as 4 for BUS_MCEERR_AR.
        code: i32,
        /// The 4K page of the mapping; of the address space where there is none.
        page: u64,
        /// si_addr_lsb: log2 of the bytes that are lost.
        lsb: u8,
    },
    /// What pagemap says of a whole mapping.
    Pagemap {
        /// The mapping.
        map: String,
        /// In order, without gaps.
        runs: Vec<PagemapRun>,
    },
}

/// What a program of the image printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProgramOutput {
    /// Standard output and error as one text, lossy UTF-8, cut at 1 MiB.
    pub text: String,
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Whether the text was cut.
    pub cut: bool,
}

/// The end of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// How it ended.
    pub result: StepResult,
    /// What was learnt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// Of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ProgramOutput>,
    /// Microseconds of guest time.
    pub took_us: u64,
}
