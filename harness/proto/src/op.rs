//! The vocabulary of operations. One word list serves the suites, the
//! fixtures' provisioning and the shell.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Size;

/// How a pin is taken. What each one adds to a page's counts is the
/// contract's business, since it differs by era.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PinHow {
    /// vmsplice(2) of the range into a pipe that nobody reads.
    Vmsplice,
    /// An asynchronous O_DIRECT write *from* the range to a network block
    /// device whose server, the agent, withholds the answer.
    DirectWrite,
    /// An asynchronous O_DIRECT read *into* the range from the same device.
    DirectRead,
}

/// One operation in a guest. Names of maps, pins, files and actors are the
/// case's own; an operation runs in the step's actor (a process).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Op {
    // --- provisioning, done by PID 1
    /// `ndctl create-namespace` on the NVDIMM region.
    CreateNamespace {
        /// `fsdax` or `devdax`.
        mode: String,
        /// Where struct pages live: `mem` or `dev`.
        #[serde(default = "map_mem")]
        map: String,
        /// Alignment of the namespace (4K, 2M).
        #[serde(default = "pmd")]
        align: Size,
        /// Size; absent: all that is free.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<Size>,
    },
    /// mkfs of the fixture's pmem block device (4K blocks, extents that can be 2M aligned).
    Mkfs {
        /// `ext4` or `xfs`.
        fs: String,
    },
    /// Mount the pmem block device with `-o dax`.
    Mount {},
    /// Unmount it.
    Umount {},
    /// `ndctl destroy-namespace -f` of the fixture's namespace.
    DestroyNamespace {},

    // --- files
    /// Create a file with its blocks allocated and zeroed, and sync it.
    Create {
        /// Name within the mounted file system.
        file: String,
        /// Its size.
        size: Size,
    },
    /// truncate(2) to `size`.
    Truncate {
        /// The file.
        file: String,
        /// The new size.
        size: Size,
    },
    /// fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.
    Punch {
        /// The file.
        file: String,
        /// Start of the hole.
        offset: Size,
        /// Length of the hole.
        length: Size,
    },
    /// unlink(2).
    Unlink {
        /// The file.
        file: String,
    },

    // --- mappings
    /// mmap(2) of a file, read and write.
    MapFile {
        /// Name of the mapping.
        map: String,
        /// The file.
        file: String,
        /// Offset in the file.
        #[serde(default)]
        offset: Size,
        /// Length.
        length: Size,
        /// MAP_PRIVATE instead of MAP_SHARED.
        #[serde(default)]
        private: bool,
        /// `4K` places the mapping so that a PMD can't map it; `2M` so that one could.
        #[serde(default = "page")]
        align: Size,
    },
    /// mmap(2) of the fixture's device-dax character device, shared, aligned to 2M.
    MapDevice {
        /// Name of the mapping.
        map: String,
        /// Offset in the device.
        #[serde(default)]
        offset: Size,
        /// Length.
        length: Size,
    },
    /// mmap(2) of private anonymous memory, without huge pages.
    MapAnon {
        /// Name of the mapping.
        map: String,
        /// Length.
        length: Size,
    },
    /// Load from or store to each 4K page of a range.
    Touch {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
        /// Store instead of load.
        #[serde(default)]
        write: bool,
    },
    /// Check that each page of a range holds what the actors last stored
    /// there (zero where nobody did).
    Verify {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
    },
    /// munmap(2) of a whole mapping.
    Unmap {
        /// The mapping.
        map: String,
    },

    // --- processes
    /// fork(2); the child is a new actor with the parent's mappings.
    Fork {
        /// Name of the new actor.
        child: String,
    },
    /// _exit(2) of the actor; done when it has been reaped.
    Exit {},
    /// Wait for the actor's blocked operation to end; its outcome is this step's.
    Wait {},

    // --- pins
    /// Take a pin and hold it.
    Pin {
        /// Name of the pin.
        pin: String,
        /// How.
        how: PinHow,
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length.
        length: Size,
    },
    /// Let a pin go.
    Release {
        /// The pin.
        pin: String,
    },

    // --- device-private memory (test_hmm)
    /// Open the test_hmm device.
    HmmOpen {},
    /// Migrate a range of an anonymous mapping to the device.
    HmmMigrate {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
    },
    /// Close the test_hmm device.
    HmmClose {},

    // --- programs
    /// Run a program of the image and read its results.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// A program of the root file system instead of one of the initramfs.
        #[serde(default, skip_serializing_if = "is_false")]
        root: bool,
        /// The directory that it begins in; absent: `/`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
        /// How long it may run, in minutes of guest time; absent: as long as most programs may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minutes: Option<u64>,
    },
    /// Mount the fixture's root file system, read-only with a tmpfs over it, for programs that
    /// [`Op::Run`] runs in it.
    MountRoot {},
    /// Pause here: the host reads every page.
    Checkpoint {
        /// Name, unique in the case.
        name: String,
    },
}

fn map_mem() -> String {
    "mem".into()
}

fn pmd() -> Size {
    Size(Size::PMD)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
fn is_false(flag: &bool) -> bool {
    !flag
}

fn page() -> Size {
    Size(Size::PAGE)
}

impl Op {
    /// The word that a case uses for this operation, such as `map-file`.
    pub fn word(&self) -> &'static str {
        match self {
            Op::CreateNamespace { .. } => "create-namespace",
            Op::Mkfs { .. } => "mkfs",
            Op::Mount {} => "mount",
            Op::Umount {} => "umount",
            Op::DestroyNamespace {} => "destroy-namespace",
            Op::Create { .. } => "create",
            Op::Truncate { .. } => "truncate",
            Op::Punch { .. } => "punch",
            Op::Unlink { .. } => "unlink",
            Op::MapFile { .. } => "map-file",
            Op::MapDevice { .. } => "map-device",
            Op::MapAnon { .. } => "map-anon",
            Op::Touch { .. } => "touch",
            Op::Verify { .. } => "verify",
            Op::Unmap { .. } => "unmap",
            Op::Fork { .. } => "fork",
            Op::Exit {} => "exit",
            Op::Wait {} => "wait",
            Op::Pin { .. } => "pin",
            Op::Release { .. } => "release",
            Op::HmmOpen {} => "hmm-open",
            Op::HmmMigrate { .. } => "hmm-migrate",
            Op::HmmClose {} => "hmm-close",
            Op::Run { .. } => "run",
            Op::MountRoot {} => "mount-root",
            Op::Checkpoint { .. } => "checkpoint",
        }
    }

    /// Whether PID 1 does this itself rather than an actor's process.
    pub fn by_init(&self) -> bool {
        matches!(
            self,
            Op::CreateNamespace { .. }
                | Op::Mkfs { .. }
                | Op::Mount {}
                | Op::Umount {}
                | Op::DestroyNamespace {}
                | Op::Run { .. }
                | Op::MountRoot {}
                | Op::Checkpoint { .. }
        )
    }
}
