//! The vocabulary of operations. One word list serves the suites, the
//! fixtures' provisioning and the shell.

mod about;
mod absent;

pub(crate) use about::COHERENT;
use absent::{is_false, is_once, is_private, map_mem, once, page, pmd};

use std::num::NonZero;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Advice, AskHow, DaxMode, FallocateMode, GupHow, Memory, PinHow, Protection, ReadBy, Size,
};

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
        /// `fsdax`, `devdax` or `raw` (no struct pages; `map` and `align` mean nothing then).
        mode: String,
        /// Where struct pages live: `mem` or `dev`.
        #[serde(default = "map_mem")]
        map: String,
        /// Alignment of the namespace (4K, 2M, 1G).
        #[serde(default = "pmd")]
        align: Size,
        /// Size; absent: all that is free.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<Size>,
        /// A name for it, written into its label, where a fixture has several of one mode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The region to make it in, counted by address from 0; absent: the first with room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<u32>,
        /// The NUMA node that its region must belong to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
    },
    /// A partition of a namespace's block device, from there to its end. It stands for the namespace
    /// from then on.
    Partition {
        /// Where it begins.
        start: Size,
        /// As with `mkfs`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// mkfs of a namespace's block device (4K blocks, extents that can be 2M aligned).
    Mkfs {
        /// `ext4` or `xfs`.
        fs: String,
        /// With reflink (xfs).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reflink: bool,
        /// With reverse mappings (xfs): a failed page is traced to its files by them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rmapbt: bool,
        /// Name of the namespace; absent: the one without a name, or the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// Mount a namespace's block device with `-o dax`. The files of a namespace with a name
    /// are called `NAME/FILE` from then on.
    Mount {
        /// As with `mkfs`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// `-o ro`.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
    },
    /// Unmount it.
    Umount {
        /// As with `mkfs`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// MNT_DETACH: its name is gone at once, the file system with the last user of it.
        #[serde(default, skip_serializing_if = "is_false")]
        lazy: bool,
    },
    /// Cut the file system off as a crash would: what its journal has not committed is lost
    /// (FS_IOC_SHUTDOWN without a flush of the log). It can be unmounted then, and mounted again.
    Shutdown {
        /// As with `mkfs`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// ioctl FIFREEZE: waits for whoever writes, and whoever comes then waits for `thaw`.
    Freeze {
        /// As with `mkfs`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// ioctl FITHAW.
    Thaw {
        /// As with `mkfs`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// `ndctl disable-namespace all` and `enable-namespace all`: the drivers go and come, as at a
    /// reboot, and what the medium holds stays.
    Rebind {},
    /// `ndctl destroy-namespace -f` of all of the fixture's namespaces.
    DestroyNamespace {},
    /// Unbind the driver of a namespace's device, whoever uses it.
    Unbind {
        /// Its mode, `fsdax` or `devdax`.
        mode: String,
        /// Its name; absent: the one without a name, or the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// `cxl create-region` of all persistent CXL memory of one memory device; namespaces are
    /// made in it as on an NVDIMM.
    CreateRegion {},
    /// `cxl destroy-region -f` of all regions.
    DestroyRegion {},
    /// Load a module of the image.
    Insmod {
        /// Its name, such as `test_hmm`.
        module: String,
    },
    /// Unload a module.
    Rmmod {
        /// Its name.
        module: String,
    },
    /// Unbind a PCI driver from every device that it has.
    UnbindPci {
        /// Its name, such as `nvme`.
        driver: String,
    },
    /// Bind the device-dax instance to the driver of a mode: `devdax` (device_dax), `fsdev`
    /// (fsdev_dax), or `system-ram` (kmem), whose memory comes online as movable and is taken
    /// offline again before it goes back.
    DaxMode {
        /// The mode.
        mode: DaxMode,
        /// Its name, such as `dax0.1`; absent: the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Make a device-dax device of what is free in the region of soft-reserved memory. It is
    /// called as the kernel calls it: `dax0.0` is the first, and a number that became free is
    /// taken again.
    CreateDax {
        /// Its size.
        size: Size,
        /// Its alignment (4K, 2M).
        #[serde(default = "pmd")]
        align: Size,
        /// The physical address that it begins at; absent: where the kernel finds room first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Size>,
    },
    /// Unbind such a device from its driver, give it another size, and bind it again.
    ResizeDax {
        /// Its name, such as `dax0.1`.
        device: String,
        /// Its size from now on.
        size: Size,
    },
    /// Read every attribute that drivers of NVDIMMs and device-dax show in sysfs; what
    /// each says, and whether it may be read, is left open.
    ReadAttributes {},
    /// Unbind such a device from its driver, and give its memory back to the region.
    DestroyDax {
        /// Its name, such as `dax0.1`.
        device: String,
    },
    /// Check that the fixture is torn down: no mount of its devices, no namespace, region,
    /// module or bound driver that provisioning brought, nobody but PID 1 at work. At the
    /// checkpoints that follow, the host finds no ZONE_DEVICE page that belongs to it.
    TornDown {},

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
    /// fallocate(2) of a range, which is of whole blocks where the mode asks for it.
    Fallocate {
        /// The file.
        file: String,
        /// What to do with the range.
        mode: FallocateMode,
        /// Start of the range.
        offset: Size,
        /// Length of the range.
        length: Size,
    },
    /// ioctl FICLONERANGE: the blocks of a range of a file are blocks of another as well, which is
    /// made where there is none.
    Clone {
        /// The file.
        file: String,
        /// The other file.
        to: String,
        /// Start of the range.
        #[serde(default)]
        offset: Size,
        /// Length of the range; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
        /// Where it comes to lie in the other file.
        #[serde(default)]
        to_offset: Size,
    },
    /// ioctl FIDEDUPERANGE: as `clone`, where both ranges hold the same; `EBADE` where they don't.
    Dedupe {
        /// The file.
        file: String,
        /// The other file.
        to: String,
        /// Start of the range.
        #[serde(default)]
        offset: Size,
        /// Length of the range.
        length: Size,
        /// Start of the range of the other file.
        #[serde(default)]
        to_offset: Size,
    },
    /// rename(2), over `to` where there is such a file.
    Rename {
        /// The file.
        file: String,
        /// Its new name.
        to: String,
    },
    /// pwrite(2) of a word to each 4K page of a range.
    Write {
        /// The file.
        file: String,
        /// Start of the range.
        #[serde(default)]
        offset: Size,
        /// Length.
        length: Size,
    },
    /// Read each 4K page of a range, which must hold what was last stored there.
    Read {
        /// The file.
        file: String,
        /// Start of the range.
        #[serde(default)]
        offset: Size,
        /// Length.
        length: Size,
        /// Which way.
        #[serde(default, skip_serializing_if = "ReadBy::is_plain")]
        by: ReadBy,
    },
    /// copy_file_range(2) of a whole file to one that is made for it.
    CopyFile {
        /// The file.
        file: String,
        /// The new one.
        to: String,
        /// Length.
        length: Size,
    },
    /// memory_failure() of the page below an offset of a file or of a device-dax device, by
    /// debugfs: no process needs to map it.
    Poison {
        /// The file; absent: a device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// Name of the devdax namespace; absent: the one without a name, or the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Offset.
        #[serde(default)]
        offset: Size,
        /// unpoison_memory() instead.
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
    },
    /// fsync(2).
    Fsync {
        /// The file.
        file: String,
    },
    /// unlink(2).
    Unlink {
        /// The file.
        file: String,
    },

    /// Look at the time of a file's last modification. It must be later than when the actor looked
    /// last, or the same.
    Mtime {
        /// The file.
        file: String,
        /// Which of both; absent where the actor looks for the first time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later: Option<bool>,
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
        /// MAP_SYNC: a store faults until the file system's metadata are on the medium.
        #[serde(default)]
        sync: bool,
        /// MAP_POPULATE.
        #[serde(default, skip_serializing_if = "is_false")]
        populate: bool,
        /// `4K` places the mapping so that a PMD can't map it; `2M` so that one could.
        #[serde(default = "page")]
        align: Size,
    },
    /// mmap(2) of the fixture's device-dax character device, shared, aligned to 2M.
    MapDevice {
        /// Name of the mapping.
        map: String,
        /// Name of the devdax namespace, or of a device made by `create-dax`; absent: the one
        /// without a name, or the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Offset in the device.
        #[serde(default)]
        offset: Size,
        /// Length.
        length: Size,
        /// MAP_PRIVATE instead of MAP_SHARED.
        #[serde(default, skip_serializing_if = "is_false")]
        private: bool,
        /// At an address of the kernel's choice, which must suit the device's alignment.
        #[serde(default, skip_serializing_if = "is_false")]
        anywhere: bool,
    },
    /// mmap(2) of memory that belongs to no file of the fixture, aligned to 2M.
    MapAnon {
        /// Name of the mapping.
        map: String,
        /// Length.
        length: Size,
        /// What stands behind it.
        #[serde(default, skip_serializing_if = "is_private")]
        memory: Memory,
    },
    /// mmap(2) of the fixture's peer-to-peer memory (`p2pmem/allocate` of the PCI device that has
    /// such): pages come from its pool and are mapped at once. What they hold is what the last
    /// user left.
    MapP2pmem {
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
    /// munmap(2) of a mapping, or of a range of it.
    Unmap {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
    },
    /// mprotect(2) of a range.
    Mprotect {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
        /// What may still be done.
        access: Protection,
    },
    /// UFFDIO_WRITEPROTECT of a range: a store raises SIGBUS (UFFD_FEATURE_SIGBUS) until it is undone.
    WriteProtect {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
        /// Take it back.
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
    },
    /// mremap(2) of a whole mapping to other addresses.
    Mremap {
        /// The mapping.
        map: String,
        /// `4K` places it so that a PMD can't map it; `2M` so that one could.
        #[serde(default = "page")]
        align: Size,
    },
    /// madvise(2) of a range.
    Madvise {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
        /// The advice.
        advice: Advice,
    },
    /// mlock(2) of a range, which populates it.
    Mlock {
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
    },
    /// A call that asks about pages, and must leave them as they are. What it answers is left open.
    Ask {
        /// Which.
        how: AskHow,
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
    },
    /// msync(2) with MS_SYNC of a whole mapping.
    Msync {
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

    /// A call that takes pins and lets them go again.
    Gup {
        /// How.
        how: GupHow,
        /// The mapping.
        map: String,
        /// Start within the mapping.
        #[serde(default)]
        offset: Size,
        /// Length; absent: to the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<Size>,
    },

    // --- device-private and device-coherent memory (test_hmm)
    /// Open a test_hmm device.
    HmmOpen {
        /// Its minor number: 0 and 1 have device-private memory, 2 and 3 device-coherent memory,
        /// where the driver was given ranges for it. Absent: the fixture's, as everywhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<u8>,
    },
    /// Migrate a range to the device: what is private and anonymous there, and in RAM. ENOENT
    /// tells that the device lacks some of the range afterwards.
    HmmMigrate(DeviceRange),
    /// The device gives its pages of a range back (HMM_DMIRROR_MIGRATE_TO_SYS). EAGAIN tells that
    /// not all of the range was on the device, or that some could not move.
    HmmReturn(DeviceRange),
    /// The device reads a range, which must hold what was last stored there; pages on the device
    /// stay there.
    HmmRead(DeviceRange),
    /// The same by hmm_range_fault_unlocked_timeout() (7.3), whose faults may let go of the mmap
    /// lock.
    HmmReadUnlocked(DeviceRange),
    /// The device stores to each 4K page of a range; pages on the device stay there.
    HmmWrite(DeviceRange),
    /// The device takes a range for its exclusive access (make_device_exclusive()): the pages stay
    /// in RAM, and a processor that touches one takes it back.
    HmmExclusive(DeviceRange),
    /// Ask the device whether it has exclusive access to a page of a range: EPERM if so.
    HmmCheckExclusive(DeviceRange),
    /// What the device may do with each page of a range, without a fault (hmm_range_fault()). It
    /// must be what follows from the operations before.
    HmmSnapshot(DeviceRange),
    /// Close the test_hmm device.
    HmmClose {
        /// The device; absent: the fixture's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<u8>,
    },

    // --- swap
    /// swapon(2) of /dev/ram0.
    SwapOn {
        /// Of a loop device over it: what is swapped in stays in the swap cache then, past which
        /// pages go of a disk that answers at once (BLK_FEAT_SYNCHRONOUS).
        #[serde(default, skip_serializing_if = "is_false")]
        cached: bool,
    },
    /// swapoff(2) of it.
    SwapOff {},

    // --- concurrency
    /// Threads of the actor that do one thing each at nearly the same time, round after round.
    /// What each comes to is not told: signals and errors are part of a race. Between rounds all
    /// threads must find the same words in the same pages. At the end the
    /// actor leaves a state that is known: the files that took part are holes of the size that
    /// they had, mappings of them have no entries, and each page of anonymous memory that took
    /// part has been stored to; where a device-coherent device did, after MADV_DONTNEED.
    Race {
        /// How often.
        rounds: u32,
        /// How often the first thread does its part in each round; where more than once, the
        /// others go on with theirs until it has.
        #[serde(default = "once", skip_serializing_if = "is_once")]
        turns: NonZero<u32>,
        /// From which the delays of every thread in every round follow.
        seed: u64,
        /// What each thread does: `touch`, `truncate`, `fallocate`, `fsync`, `madvise` with `dontneed`,
        /// `pin` by vmsplice, which is let go at once, `gup`, `hmm-migrate`, `hmm-return`,
        /// `hmm-read`, `hmm-read-unlocked` or `hmm-snapshot`.
        arm: Vec<Op>,
    },

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
        /// It fails pages of memory on purpose (MADV_HWPOISON).
        #[serde(default, skip_serializing_if = "is_false")]
        poisons: bool,
    },
    /// Mount the fixture's root file system, read-only with a tmpfs over it, for programs that
    /// [`Op::Run`] runs in it.
    MountRoot {},
    /// The case is over: every actor is killed, and must go. What is left of the case then is what
    /// it leaked: the counters of its answer are those of the kernel alone.
    End {},
    /// Pause here: the host reads every page.
    Checkpoint {
        /// Name, unique in the case.
        name: String,
    },
}

/// A range of a mapping, and the test_hmm device that is asked about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceRange {
    /// The mapping.
    pub map: String,
    /// Start within the mapping.
    #[serde(default)]
    pub offset: Size,
    /// Length; absent: to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Size>,
    /// The device; absent: the fixture's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u8>,
}

#[cfg(test)]
#[path = "op_tests.rs"]
mod tests;
