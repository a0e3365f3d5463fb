//! The machine that a fixture describes, and what the kernel must have, for the header comment.

use proto::{GupHow, Op, PinHow};

use crate::spec::Fixture;

use super::devices::has_e820;

/// QEMU's arguments for the hardware, a line each; none where any machine will do.
pub(super) fn qemu(fixture: &Fixture) -> Vec<String> {
    let mut out = Vec::new();
    let memory = fixture.memory.bytes() >> 20;
    match fixture.nvdimms.len() {
        0 => out.push(format!("-m {memory}M -smp {}", fixture.cpus)),
        slots => {
            let room: u64 = (fixture.nvdimms.iter())
                .map(|n| (n.size.bytes() + n.labels.bytes()).next_multiple_of(1 << 30) >> 20)
                .sum();
            out.push(format!(
                "-machine q35,nvdimm=on -smp {} -m {memory}M,slots={slots},maxmem={}M",
                fixture.cpus,
                memory + room
            ));
        }
    }
    if fixture.nodes > 1 {
        out.push(format!(
            "-object memory-backend-ram,id=ram,size={memory}M \
             -numa node,nodeid=0,cpus=0-{},memdev=ram",
            fixture.cpus - 1
        ));
        out.extend((1..fixture.nodes).map(|n| format!("-numa node,nodeid={n}")));
    }
    for (i, nvdimm) in fixture.nvdimms.iter().enumerate() {
        let size = (nvdimm.size.bytes() + nvdimm.labels.bytes()) >> 10;
        let node = match nvdimm.node {
            0 => String::new(),
            node => format!(",node={node}"),
        };
        out.push(format!("-object memory-backend-ram,id=nv{i},size={size}K"));
        out.push(format!(
            "-device nvdimm,id=nvdimm{i},memdev=nv{i},label-size={}K{node}",
            nvdimm.labels.bytes() >> 10
        ));
    }
    // Options go with the value behind them.
    for words in fixture.qemu.chunks(2) {
        out.push(words.join(" "));
    }
    out
}

/// Parameters of the kernel.
pub(super) fn parameters(fixture: &Fixture) -> Option<&str> {
    Some(fixture.cmdline.as_str()).filter(|c| !c.is_empty())
}

/// Options that the kernel must have, as far as the case shows them.
pub(super) fn options<'a>(fixture: &'a Fixture, ops: impl Iterator<Item = &'a Op>) -> Vec<String> {
    let mut out: Vec<&str> = Vec::new();
    if !fixture.nvdimms.is_empty() {
        out.extend(["ACPI_NFIT", "BLK_DEV_PMEM"]);
    } else if has_e820(fixture) {
        out.extend(["X86_PMEM_LEGACY", "BLK_DEV_PMEM"]);
    }
    for op in fixture.provision.iter().chain(ops) {
        match op {
            Op::CreateNamespace { mode, .. } if mode == "devdax" => {
                out.extend(["NVDIMM_DAX", "DEV_DAX"]);
            }
            Op::CreateNamespace { mode, .. } if mode == "fsdax" => out.push("NVDIMM_PFN"),
            Op::Mount { .. } => out.push("FS_DAX"),
            Op::CreateRegion {} => out.push("CXL_REGION"),
            Op::CreateDax { .. } => out.extend(["DEV_DAX", "DEV_DAX_HMEM"]),
            Op::DaxMode { .. } => out.push("DEV_DAX_KMEM"),
            Op::HmmOpen { .. } | Op::Insmod { .. } => out.push("TEST_HMM"),
            Op::Poison { .. } => out.push("HWPOISON_INJECT"),
            Op::SwapOn { cached } => {
                out.push("BLK_DEV_RAM");
                out.extend(cached.then_some("BLK_DEV_LOOP"));
            }
            Op::WriteProtect { .. } => out.push("USERFAULTFD"),
            Op::MapP2pmem { .. } => out.push("PCI_P2PDMA"),
            Op::Pin { how, .. } => match how {
                PinHow::Vmsplice => {}
                PinHow::DirectWrite | PinHow::DirectRead => out.push("BLK_DEV_NBD"),
                PinHow::IoUring => out.push("IO_URING"),
                PinHow::GupTest => out.push("GUP_TEST"),
            },
            Op::Gup { how, .. } => match how {
                GupHow::ProcessVmReadv => {}
                GupHow::NvmeWrite => out.push("BLK_DEV_NVME"),
                _ => out.push("GUP_TEST"),
            },
            _ => {}
        }
    }
    let mut seen = Vec::new();
    for option in out {
        let option = format!("CONFIG_{option}");
        if !seen.contains(&option) {
            seen.push(option);
        }
    }
    seen
}
