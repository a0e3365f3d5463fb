//! What an operation is about: its word, its mapping and file, who does it.

use super::{DeviceRange, Op};
use crate::{Advice, PinHow};

/// The first minor number of test_hmm's devices with coherent memory (test_hmm_init()).
pub(crate) const COHERENT: u8 = 2;

impl Op {
    /// The word that a case uses for this operation, such as `map-file`.
    pub fn word(&self) -> &'static str {
        match self {
            Op::CreateNamespace { .. } => "create-namespace",
            Op::Partition { .. } => "partition",
            Op::Mkfs { .. } => "mkfs",
            Op::Mount { .. } => "mount",
            Op::Umount { .. } => "umount",
            Op::Shutdown { .. } => "shutdown",
            Op::Freeze { .. } => "freeze",
            Op::Thaw { .. } => "thaw",
            Op::Rebind {} => "rebind",
            Op::DestroyNamespace {} => "destroy-namespace",
            Op::Unbind { .. } => "unbind",
            Op::CreateRegion {} => "create-region",
            Op::DestroyRegion {} => "destroy-region",
            Op::Insmod { .. } => "insmod",
            Op::Rmmod { .. } => "rmmod",
            Op::UnbindPci { .. } => "unbind-pci",
            Op::DaxMode { .. } => "dax-mode",
            Op::CreateDax { .. } => "create-dax",
            Op::DestroyDax { .. } => "destroy-dax",
            Op::ResizeDax { .. } => "resize-dax",
            Op::ReadAttributes {} => "read-attributes",
            Op::TornDown {} => "torn-down",
            Op::Create { .. } => "create",
            Op::Truncate { .. } => "truncate",
            Op::Fallocate { .. } => "fallocate",
            Op::Clone { .. } => "clone",
            Op::Dedupe { .. } => "dedupe",
            Op::Rename { .. } => "rename",
            Op::Write { .. } => "write",
            Op::Read { .. } => "read",
            Op::CopyFile { .. } => "copy-file",
            Op::Poison { .. } => "poison",
            Op::Fsync { .. } => "fsync",
            Op::Unlink { .. } => "unlink",
            Op::Mtime { .. } => "mtime",
            Op::MapFile { .. } => "map-file",
            Op::MapDevice { .. } => "map-device",
            Op::MapAnon { .. } => "map-anon",
            Op::MapP2pmem { .. } => "map-p2pmem",
            Op::Touch { .. } => "touch",
            Op::Verify { .. } => "verify",
            Op::Unmap { .. } => "unmap",
            Op::Mprotect { .. } => "mprotect",
            Op::WriteProtect { .. } => "write-protect",
            Op::Mremap { .. } => "mremap",
            Op::Madvise { .. } => "madvise",
            Op::Mlock { .. } => "mlock",
            Op::Ask { .. } => "ask",
            Op::Msync { .. } => "msync",
            Op::Fork { .. } => "fork",
            Op::Exit {} => "exit",
            Op::Wait {} => "wait",
            Op::Pin { .. } => "pin",
            Op::Release { .. } => "release",
            Op::Gup { .. } => "gup",
            Op::HmmOpen { .. } => "hmm-open",
            Op::HmmRead(_) => "hmm-read",
            Op::HmmReadUnlocked(_) => "hmm-read-unlocked",
            Op::HmmWrite(_) => "hmm-write",
            Op::HmmMigrate(_) => "hmm-migrate",
            Op::HmmReturn(_) => "hmm-return",
            Op::HmmExclusive(_) => "hmm-exclusive",
            Op::HmmCheckExclusive(_) => "hmm-check-exclusive",
            Op::HmmSnapshot(_) => "hmm-snapshot",
            Op::HmmClose { .. } => "hmm-close",
            Op::SwapOn { .. } => "swap-on",
            Op::SwapOff {} => "swap-off",
            Op::Race { .. } => "race",
            Op::Run { .. } => "run",
            Op::MountRoot {} => "mount-root",
            Op::End {} => "end",
            Op::Checkpoint { .. } => "checkpoint",
        }
    }

    /// Whether a thread of a race can do this.
    pub fn can_race(&self) -> bool {
        matches!(
            self,
            Op::Touch { .. }
                | Op::Truncate { .. }
                | Op::Fallocate { .. }
                | Op::Fsync { .. }
                | Op::Gup { .. }
                | Op::HmmMigrate(_)
                | Op::HmmReturn(_)
                | Op::HmmRead(_)
                | Op::HmmReadUnlocked(_)
                | Op::HmmSnapshot(_)
                | Op::Madvise {
                    advice: Advice::Dontneed,
                    ..
                }
                | Op::Pin {
                    how: PinHow::Vmsplice,
                    ..
                }
        )
    }

    /// The mapping that this is about.
    pub fn map(&self) -> Option<&str> {
        match self {
            Op::MapFile { map, .. }
            | Op::MapDevice { map, .. }
            | Op::MapAnon { map, .. }
            | Op::MapP2pmem { map, .. }
            | Op::Touch { map, .. }
            | Op::Verify { map, .. }
            | Op::Unmap { map, .. }
            | Op::Mprotect { map, .. }
            | Op::WriteProtect { map, .. }
            | Op::Mremap { map, .. }
            | Op::Madvise { map, .. }
            | Op::Mlock { map, .. }
            | Op::Msync { map }
            | Op::Ask { map, .. }
            | Op::Pin { map, .. }
            | Op::Gup { map, .. } => Some(map),
            op => op.device_range().map(|of| of.map.as_str()),
        }
    }

    /// What a test_hmm device is asked about.
    pub fn device_range(&self) -> Option<&DeviceRange> {
        match self {
            Op::HmmMigrate(of)
            | Op::HmmReturn(of)
            | Op::HmmRead(of)
            | Op::HmmReadUnlocked(of)
            | Op::HmmWrite(of)
            | Op::HmmExclusive(of)
            | Op::HmmCheckExclusive(of)
            | Op::HmmSnapshot(of) => Some(of),
            _ => None,
        }
    }

    /// The file that this is about.
    pub fn file(&self) -> Option<&str> {
        match self {
            Op::Create { file, .. }
            | Op::Truncate { file, .. }
            | Op::Fallocate { file, .. }
            | Op::Unlink { file }
            | Op::CopyFile { file, .. }
            | Op::Poison {
                file: Some(file), ..
            }
            | Op::Clone { file, .. }
            | Op::Dedupe { file, .. }
            | Op::Rename { file, .. }
            | Op::Write { file, .. }
            | Op::Read { file, .. }
            | Op::Fsync { file }
            | Op::Mtime { file, .. }
            | Op::MapFile { file, .. } => Some(file),
            _ => None,
        }
    }

    /// Whether a device with device-coherent memory does this: pages that went there stay when a
    /// processor touches them.
    pub fn is_coherent(&self) -> bool {
        let device = self.device_range().and_then(|of| of.device);
        device.is_some_and(|device| device >= COHERENT)
    }

    /// Names the test_hmm device where the case left it to the fixture. Absent means 0.
    pub fn set_device(&mut self, default: u8) {
        if default == 0 {
            return;
        }
        match self {
            Op::HmmOpen { device }
            | Op::HmmClose { device }
            | Op::HmmMigrate(DeviceRange { device, .. })
            | Op::HmmReturn(DeviceRange { device, .. })
            | Op::HmmRead(DeviceRange { device, .. })
            | Op::HmmReadUnlocked(DeviceRange { device, .. })
            | Op::HmmWrite(DeviceRange { device, .. })
            | Op::HmmExclusive(DeviceRange { device, .. })
            | Op::HmmCheckExclusive(DeviceRange { device, .. })
            | Op::HmmSnapshot(DeviceRange { device, .. }) => {
                device.get_or_insert(default);
            }
            Op::Race { arm, .. } => arm.iter_mut().for_each(|op| op.set_device(default)),
            _ => {}
        }
    }

    /// Whether PID 1 does this itself rather than an actor's process.
    pub fn by_init(&self) -> bool {
        matches!(
            self,
            Op::CreateNamespace { .. }
                | Op::Partition { .. }
                | Op::Mkfs { .. }
                | Op::Mount { .. }
                | Op::Umount { .. }
                | Op::Shutdown { .. }
                | Op::Freeze { .. }
                | Op::Thaw { .. }
                | Op::Rebind {}
                | Op::DestroyNamespace {}
                | Op::Unbind { .. }
                | Op::CreateRegion {}
                | Op::DestroyRegion {}
                | Op::Insmod { .. }
                | Op::Rmmod { .. }
                | Op::UnbindPci { .. }
                | Op::DaxMode { .. }
                | Op::CreateDax { .. }
                | Op::DestroyDax { .. }
                | Op::ResizeDax { .. }
                | Op::ReadAttributes {}
                | Op::TornDown {}
                | Op::Run { .. }
                | Op::MountRoot {}
                | Op::End {}
                | Op::Checkpoint { .. }
        )
    }
}
