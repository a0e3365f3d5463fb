//! What a guest is made of, where its memory lies, and the key that names all of it.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::accel::Accel;
use super::error::{Result, VmError};
use super::qemu::Qemu;

/// What every guest's kernel is told: log to the first UART, stay where it was linked, place programs
/// always alike (the kernel's own mremap_test finds its place taken now and then), report a panic
/// by a reset (which stops the machine, see [`super::Guest`]), take all marks written to /dev/kmsg,
/// trust the emulated processor's random numbers, not to judge timers by a busy host's pace, and to
/// panic on an NMI that nobody explains: it is ours.
pub const BASE_CMDLINE: &str = "console=ttyS0 nokaslr norandmaps panic=-1 printk.devkmsg=on random.trust_cpu=on no_timer_check unknown_nmi_panic";

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Where RAM goes on behind the PCI hole.
const ABOVE_4G: u64 = 4 * GIB;
/// The id of RAM's backend.
pub(super) const RAM_ID: &str = "ram";

/// A machine to boot: all that its template depends on, apart from the host and QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Who executes it.
    pub accel: Accel,
    /// Virtual CPUs.
    pub cpus: u32,
    /// RAM, MiB.
    pub memory_mib: u64,
    /// NUMA nodes. The first has all CPUs and all RAM; 1: nothing is said of nodes.
    pub nodes: u32,
    /// The kernel, a bzImage.
    pub kernel: Utf8PathBuf,
    /// The initramfs.
    pub initrd: Utf8PathBuf,
    /// The kernel's command line; usually begins with [`BASE_CMDLINE`].
    pub cmdline: String,
    /// Its NVDIMMs, in the order of their addresses.
    pub nvdimms: Vec<Nvdimm>,
    /// Read-only disks, in the order of their letters: /dev/vda first. Clones share the files.
    pub disks: Vec<Utf8PathBuf>,
    /// A fixture's own QEMU arguments, as they are.
    pub extra: Vec<String>,
    /// Whether all its devices' state can be moved, and so a template made of it.
    pub cloneable: bool,
}

/// An emulated NVDIMM. A kernel numbers its regions in an order of its own (seen: the second as pmem0);
/// in the guest, tell them apart by address or size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvdimm {
    /// Its name in QEMU: lower case letters, digits and dashes, unique in its machine.
    pub id: String,
    /// What the guest sees of it, MiB; the label area comes on top.
    pub size_mib: u64,
    /// Its label area, KiB: 0 for none, or at least 128.
    pub label_kib: u64,
    /// Its NUMA node, below the machine's `nodes`.
    pub node: u32,
}

impl Nvdimm {
    /// The size of the file behind it, bytes.
    pub fn file_bytes(&self) -> u64 {
        self.size_mib * MIB + self.label_kib * 1024
    }
}

/// A range of guest-physical memory and the file that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    /// Guest-physical address, bytes.
    pub(super) gpa: u64,
    /// Bytes.
    pub(super) len: u64,
    /// The backend's id: [`RAM_ID`] or an NVDIMM's.
    pub(super) backend: String,
    /// Where in the backend's file it begins, bytes.
    pub(super) offset: u64,
}

impl Machine {
    /// All memory that the guest could come to use, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_mib * MIB + self.nvdimms.iter().map(Nvdimm::file_bytes).sum::<u64>()
    }

    /// A name for all that a template of this machine depends on: the machine, the contents of its
    /// kernel and initramfs, QEMU, and the host's processor. Equal keys, equal templates.
    ///
    /// Fails where the kernel or the initramfs can't be read.
    pub fn key(&self, qemu: &Qemu) -> Result<String> {
        #[derive(Serialize)]
        struct Contents<'a> {
            format: u32,
            machine: Machine,
            kernel: String,
            initrd: String,
            disks: Vec<String>,
            qemu: &'a Qemu,
            cpu: &'a str,
            host: String,
        }
        let contents = Contents {
            format: 2,
            machine: Self {
                kernel: "".into(),
                initrd: "".into(),
                disks: Vec::new(),
                ..self.clone()
            },
            kernel: digest(&self.kernel)?,
            initrd: digest(&self.initrd)?,
            disks: self
                .disks
                .iter()
                .map(|d| digest(d))
                .collect::<Result<_>>()?,
            qemu,
            cpu: self.accel.cpu(),
            host: host_cpu(),
        };
        let text = serde_json::to_vec(&contents).map_err(|source| VmError::Io {
            what: "write down a machine".to_owned(),
            source: source.into(),
        })?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(VmError::Machine { what });
        if !(1..=64).contains(&self.cpus) {
            return wrong(format!("{} CPUs, of 1 to 64", self.cpus));
        }
        if !(64..=1 << 18).contains(&self.memory_mib) {
            return wrong(format!(
                "{} MiB of RAM, of 64 to {}",
                self.memory_mib,
                1 << 18
            ));
        }
        if !(1..=8).contains(&self.nodes) || self.nvdimms.iter().any(|n| n.node >= self.nodes) {
            return wrong(format!(
                "{} NUMA nodes, of 1 to 8, or an NVDIMM on another one",
                self.nodes
            ));
        }
        let mut seen = BTreeSet::from([RAM_ID]);
        for nvdimm in &self.nvdimms {
            let id = nvdimm.id.as_str();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if !id.starts_with(|c: char| c.is_ascii_lowercase()) || !id.chars().all(plain) {
                return wrong(format!(
                    "an NVDIMM is called {id:?}; use letters, digits and dashes"
                ));
            }
            if !seen.insert(id) {
                return wrong(format!("two things are called {id:?}"));
            }
            if !(1..=1 << 20).contains(&nvdimm.size_mib) {
                return wrong(format!(
                    "NVDIMM {id} has {} MiB, of 1 to {}",
                    nvdimm.size_mib,
                    1 << 20
                ));
            }
            let label = nvdimm.label_kib;
            if label != 0 && !(128..=1 << 20).contains(&label) || label % 4 != 0 {
                return wrong(format!(
                    "NVDIMM {id} has a label area of {label} KiB, of 0 or 128 and up"
                ));
            }
        }
        Ok(())
    }

    /// Where RAM and NVDIMMs lie: as QEMU's pc_q35_init() splits RAM around the PCI hole, and at the
    /// addresses that [`super::command`] gives the NVDIMMs, each at a gigabyte of its own, so that no
    /// label area puts the next one at an odd address.
    pub(super) fn layout(&self) -> Vec<Region> {
        let ram = self.memory_mib * MIB;
        let below = if ram >= 0xb000_0000 { 0x8000_0000 } else { ram };
        let region = |gpa, len, backend: &str, offset| Region {
            gpa,
            len,
            backend: backend.to_owned(),
            offset,
        };
        let mut regions = vec![region(0, below, RAM_ID, 0)];
        if ram > below {
            regions.push(region(ABOVE_4G, ram - below, RAM_ID, below));
        }
        let mut next = (ABOVE_4G + ram - below).next_multiple_of(GIB);
        for nvdimm in &self.nvdimms {
            let len = nvdimm.size_mib * MIB;
            regions.push(region(next, len, &nvdimm.id, 0));
            next = (next + nvdimm.file_bytes()).next_multiple_of(GIB);
        }
        regions
    }

    /// `-m`'s maxmem, MiB: room for every NVDIMM at its address.
    pub(super) fn max_memory_mib(&self) -> u64 {
        let room: u64 = self
            .nvdimms
            .iter()
            .map(|n| n.file_bytes().next_multiple_of(GIB) / MIB)
            .sum();
        self.memory_mib + room
    }
}

/// The host processor's name, as the kernel gives it.
pub(super) fn host_cpu() -> String {
    let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    format!(
        "{} {} {} {}",
        field("model name"),
        field("cpu family"),
        field("model"),
        field("stepping")
    )
}

fn digest(path: &Utf8Path) -> Result<String> {
    let read = || -> io::Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs_err::File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    read().map_err(VmError::io(format!("read {path}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn machine() -> Machine {
        Machine {
            accel: Accel::Tcg,
            cpus: 2,
            memory_mib: 512,
            nodes: 1,
            kernel: "/k/bzImage".into(),
            initrd: "/k/initrd".into(),
            cmdline: BASE_CMDLINE.to_owned(),
            nvdimms: vec![Nvdimm {
                id: "pmem0".into(),
                size_mib: 256,
                label_kib: 128,
                node: 0,
            }],
            disks: Vec::new(),
            extra: Vec::new(),
            cloneable: true,
        }
    }

    #[test]
    fn ram_is_split_around_the_pci_hole() {
        let mut machine = machine();
        machine.nvdimms.push(Nvdimm {
            id: "pmem1".into(),
            size_mib: 1024,
            label_kib: 128,
            node: 0,
        });
        machine.nvdimms.push(Nvdimm {
            id: "pmem2".into(),
            size_mib: 16,
            label_kib: 0,
            node: 0,
        });
        let show = |m: &Machine| {
            let line =
                |r: &Region| format!("{:#x}+{:#x} {}@{:#x}", r.gpa, r.len, r.backend, r.offset);
            m.layout().iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            show(&machine),
            [
                "0x0+0x20000000 ram@0x0",
                "0x100000000+0x10000000 pmem0@0x0",
                "0x140000000+0x40000000 pmem1@0x0",
                "0x1c0000000+0x1000000 pmem2@0x0",
            ]
        );
        machine.nvdimms.clear();
        machine.memory_mib = 2815;
        assert_eq!(show(&machine), ["0x0+0xaff00000 ram@0x0"]);
        machine.memory_mib = 2816;
        assert_eq!(
            show(&machine),
            [
                "0x0+0x80000000 ram@0x0",
                "0x100000000+0x30000000 ram@0x80000000"
            ]
        );
    }

    #[test]
    fn a_key_follows_contents_and_not_paths() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let file = |name: &str, text: &str| {
            fs_err::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        let qemu = Qemu {
            path: "/usr/bin/qemu".into(),
            version: "7.2".into(),
        };
        let one = Machine {
            kernel: file("a", "kernel"),
            initrd: file("b", "initrd"),
            ..machine()
        };
        let moved = Machine {
            kernel: file("c", "kernel"),
            ..one.clone()
        };
        let key = one.key(&qemu).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(key, one.key(&qemu).unwrap());
        assert_eq!(key, moved.key(&qemu).unwrap());
        let differing = [
            Machine {
                kernel: file("d", "other"),
                ..one.clone()
            },
            Machine {
                cpus: 1,
                ..one.clone()
            },
            Machine {
                accel: Accel::Kvm,
                ..one.clone()
            },
            Machine {
                nvdimms: Vec::new(),
                ..one.clone()
            },
            Machine {
                cmdline: "quiet".into(),
                ..one.clone()
            },
        ];
        for other in differing {
            assert_ne!(key, other.key(&qemu).unwrap(), "{other:?}");
        }
        assert_ne!(
            key,
            one.key(&Qemu {
                version: "8.0".into(),
                ..qemu.clone()
            })
            .unwrap()
        );
        let missing = Machine {
            kernel: dir.join("none"),
            ..one
        };
        assert_eq!(
            missing.key(&qemu).unwrap_err().to_string(),
            format!("read {dir}/none")
        );
    }

    #[test]
    fn an_impossible_machine_is_told() {
        let wrong = |change: fn(&mut Machine)| {
            let mut machine = machine();
            change(&mut machine);
            machine.check().unwrap_err().to_string()
        };
        assert!(machine().check().is_ok());
        assert!(wrong(|m| m.cpus = 0).contains("0 CPUs"));
        assert!(wrong(|m| m.nvdimms[0].node = 1).contains("NUMA"));
        assert!(wrong(|m| m.memory_mib = 1).contains("1 MiB of RAM"));
        assert!(wrong(|m| m.nvdimms[0].id = "a,b".into()).contains("\"a,b\""));
        assert!(wrong(|m| m.nvdimms[0].id = "ram".into()).contains("two things are called"));
        assert!(wrong(|m| m.nvdimms[0].label_kib = 4).contains("label area of 4 KiB"));
        assert!(wrong(|m| m.nvdimms[0].size_mib = 0).contains("0 MiB"));
    }
}
