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
    /// PIN_LONGTERM_TEST_START of gup_test: FOLL_PIN | FOLL_LONGTERM | FOLL_WRITE. One at a time.
    GupTest,
}

impl PinHow {
    /// Whether the kernel is told that the pin may stay for long (FOLL_LONGTERM).
    pub fn is_longterm(self) -> bool {
        matches!(self, PinHow::IoUring | PinHow::GupTest)
    }
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
    /// MADV_POPULATE_READ.
    PopulateRead,
    /// MADV_POPULATE_WRITE.
    PopulateWrite,
    /// MADV_FREE: the kernel may drop what is in RAM when it needs some; nothing here makes it.
    Free,
    /// MADV_PAGEOUT: to swap, at once.
    Pageout,
    /// MADV_COLD: the next to go when RAM is short.
    Cold,
    /// MADV_SOFT_OFFLINE of each page, as root: what is in RAM moves, device pages can't (EIO).
    SoftOffline,
}

/// A call that asks about pages of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AskHow {
    /// The node of each page: move_pages(2) without nodes.
    MovePages,
    /// The node of the first page: get_mempolicy(2) with MPOL_F_ADDR and MPOL_F_NODE.
    Mempolicy,
    /// mincore(2).
    Mincore,
    /// /proc/self/smaps and numa_maps, whole.
    Smaps,
}

/// What stands behind memory that belongs to no file of the fixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Private anonymous memory, without huge pages.
    #[default]
    Private,
    /// The same where huge pages are asked for (MADV_HUGEPAGE), aligned to 2M.
    Huge,
    /// Private memory of the 2M pages that the fixture reserves (MAP_HUGETLB).
    Hugetlb,
    /// Shared anonymous memory: pages of tmpfs.
    Shared,
    /// MAP_PRIVATE of a tmpfs file without blocks: what is stored to is anonymous, the rest is
    /// the file's.
    File,
}

/// A call that pins pages and lets go of them before it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GupHow {
    /// process_vm_readv(2) of the actor's own memory: FOLL_PIN.
    ProcessVmReadv,
    /// pwrite(2) with O_DIRECT to the NVMe namespace of the fixture: the controller reads the pages,
    /// also those of peer-to-peer memory (FOLL_PCI_P2PDMA).
    NvmeWrite,
    /// GUP_FAST_BENCHMARK of gup_test: get_user_pages_fast().
    GupFast,
    /// PIN_FAST_BENCHMARK: pin_user_pages_fast().
    PinFast,
    /// PIN_LONGTERM_BENCHMARK: pin_user_pages() with FOLL_LONGTERM.
    PinLongterm,
    /// GUP_BASIC_TEST: get_user_pages().
    GupBasic,
    /// PIN_BASIC_TEST: pin_user_pages().
    PinBasic,
    /// DUMP_USER_PAGES_TEST: get_user_pages(), and dump_page() of the first.
    DumpUserPages,
}

/// Which way a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReadBy {
    /// pread(2).
    #[default]
    Pread,
    /// O_DIRECT from the block device below, where the file's blocks were last seen. The file
    /// system need not be mounted.
    Device,
    /// sendfile(2) into a memfd.
    Sendfile,
}

impl ReadBy {
    /// Whether it is pread(2).
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
    pub(crate) fn is_plain(&self) -> bool {
        *self == ReadBy::Pread
    }
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
    /// The same, with its memory out of use: unplugged at once where kmem has a `state` (7.3), and
    /// offline block by block where it has none.
    Unplugged,
    /// Pages as a file system wants them, with no mmap(2) of the device itself (fsdev_dax, 7.x).
    Fsdev,
}
