//! The ways in which some operations can be done.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// io_uring's registered buffers: FOLL_PIN | FOLL_LONGTERM, until they are unregistered.
    IoUring,
}

/// What fallocate(2) does with a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FallocateMode {
    /// FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.
    PunchHole,
    /// FALLOC_FL_ZERO_RANGE.
    ZeroRange,
    /// FALLOC_FL_COLLAPSE_RANGE: what lies behind moves down.
    CollapseRange,
    /// FALLOC_FL_INSERT_RANGE: what lies there and behind moves up.
    InsertRange,
    /// FALLOC_FL_UNSHARE_RANGE: blocks that other files have too are copied.
    UnshareRange,
}

/// What mprotect(2) leaves of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// PROT_NONE.
    None,
    /// PROT_READ.
    Read,
    /// PROT_READ | PROT_WRITE.
    ReadWrite,
}

/// The advice of madvise(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// MADV_DONTNEED.
    Dontneed,
    /// MADV_DONTFORK.
    Dontfork,
    /// MADV_HWPOISON of each page, as root.
    Hwpoison,
    /// MADV_REMOVE: punches a hole into the file below.
    Remove,
}

/// A call that pins pages and lets go of them before it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GupHow {
    /// process_vm_readv(2) of the actor's own memory: FOLL_PIN.
    ProcessVmReadv,
}

/// What a device-dax instance is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DaxMode {
    /// A character device.
    Devdax,
    /// Memory of the kernel's.
    SystemRam,
}
