//! Attaches to a guest: finds and checks VMCOREINFO, the page tables and the layouts.

use crate::btf::BtfError;
use crate::kernel::KernelInfo;
use crate::layout::{Layouts, PAGE_STRUCT};
use crate::memory::Memory;
use crate::pagetable::{Levels, Virt, VirtError};
use crate::reading::PagesReading;
use crate::sections::SectionTable;
use crate::vmcoreinfo::{MAX_TEXT, VmCoreInfo, VmCoreInfoError, starts_note};

/// Where x86_64 links the kernel image (`__START_KERNEL_map`).
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Notes tried when RAM is searched.
const MAX_CANDIDATES: usize = 64;
/// Bytes searched at once.
const SEARCH_STEP: usize = 1 << 20;

/// Why a guest can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel's types lack something.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// VMCOREINFO lacks something.
    #[error(transparent)]
    VmCoreInfo(#[from] VmCoreInfoError),
    /// The vmlinux lacks a symbol.
    #[error(
        "find symbol {0} in the vmlinux; use the unstripped one of the build, with ZONE_DEVICE"
    )]
    NoSymbol(&'static str),
    /// VMCOREINFO is nowhere in guest memory.
    #[error(
        "find VMCOREINFO in guest memory ({looked}); attach after the kernel booted, and with the vmlinux that it runs"
    )]
    NotFound {
        /// What was tried, and why it didn't do.
        looked: String,
    },
    /// The guest runs another kernel than the vmlinux.
    #[error("match the guest with the vmlinux: {0}; use the vmlinux of the kernel that it runs")]
    OtherKernel(String),
    /// Guest memory contradicts itself.
    #[error("check the guest's memory map: {0}; the guest is corrupt or of a kind not known here")]
    Unfit(String),
}

/// A guest's kernel: where its page tables, lists and layouts are. Holds no memory of the guest, so
/// that one target serves all clones of a template.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) root: u64,
    pub(crate) levels: Levels,
    pub(crate) layouts: Layouts,
    pub(crate) pgmap_array: u64,
    pub(crate) iomem_resource: u64,
    pub(crate) sections: SectionTable,
    info: VmCoreInfo,
}

impl Target {
    /// Finds VMCOREINFO where the vmlinux's symbols lead, or else by searching RAM for it, and
    /// checks that the guest runs that kernel.
    ///
    /// # Errors
    /// If there is no VMCOREINFO of that kernel, or something that every reading needs is missing.
    pub fn attach(mem: &dyn Memory, kernel: &KernelInfo) -> Result<Target, AttachError> {
        let layouts = Layouts::from_btf(kernel.btf())?;
        let mut looked = Vec::new();
        match note_by_symbol(mem, kernel) {
            Ok(info) => match Target::with_info(mem, kernel, &layouts, info) {
                Ok(target) => return Ok(target),
                Err(e) => looked.push(format!("by symbol: {e}")),
            },
            Err(e) => looked.push(format!("by symbol: {e}")),
        }
        let found = search(mem);
        looked.push(format!("by search: {} found", found.len()));
        for info in found {
            match Target::with_info(mem, kernel, &layouts, info) {
                Ok(target) => return Ok(target),
                Err(e @ AttachError::OtherKernel(_)) => return Err(e),
                Err(e) => looked.push(e.to_string()),
            }
        }
        looked.truncate(4);
        Err(AttachError::NotFound {
            looked: looked.join("; "),
        })
    }

    /// The guest's VMCOREINFO.
    pub fn vmcoreinfo(&self) -> &VmCoreInfo {
        &self.info
    }

    /// The layouts in use.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// The kernel's virtual memory, as the paused guest has it now.
    pub fn virt<'m>(&self, mem: &'m dyn Memory) -> Virt<'m> {
        Virt::new(mem, self.root, self.levels)
    }

    /// Reads every ZONE_DEVICE page. What can't be read is told in the reading's problems.
    pub fn read_pages(&self, mem: &dyn Memory) -> PagesReading {
        crate::scan::read_pages(self, mem)
    }

    fn with_info(
        mem: &dyn Memory,
        kernel: &KernelInfo,
        layouts: &Layouts,
        info: VmCoreInfo,
    ) -> Result<Target, AttachError> {
        check_kernel(kernel, layouts, &info)?;
        let table = info.address("SYMBOL(init_top_pgt)")?;
        let phys_base = info.number("NUMBER(phys_base)")?;
        let root = table
            .wrapping_sub(START_KERNEL_MAP)
            .wrapping_add_signed(phys_base);
        let levels = match info.number("NUMBER(pgtable_l5_enabled)") {
            Ok(1) => Levels::Five,
            Ok(_) | Err(VmCoreInfoError::Missing(_)) => Levels::Four,
            Err(e) => return Err(e.into()),
        };
        if !maps_itself(&Virt::new(mem, root, levels), table, root) {
            return Err(AttachError::Unfit(format!(
                "the page tables at {root:#x} don't map themselves"
            )));
        }
        let offset = info.address("KERNELOFFSET").unwrap_or(0);
        let symbol = |name| {
            let link = kernel.symbol(name).ok_or(AttachError::NoSymbol(name))?;
            Ok::<u64, AttachError>(link.wrapping_add(offset))
        };
        let section_bits = info.number("NUMBER(SECTION_SIZE_BITS)")?;
        let pages_shift = u32::try_from(section_bits - 12)
            .ok()
            .filter(|s| (6..=24).contains(s))
            .ok_or_else(|| AttachError::Unfit(format!("sections of 2^{section_bits} bytes")))?;
        let root_count = info.number("LENGTH(mem_section)")?;
        Ok(Target {
            root,
            levels,
            layouts: layouts.clone(),
            pgmap_array: symbol("pgmap_array")?,
            iomem_resource: symbol("iomem_resource")?,
            sections: SectionTable {
                roots: info.address("SYMBOL(mem_section)")?,
                root_count: u64::try_from(root_count)
                    .map_err(|_| AttachError::Unfit(format!("{root_count} section roots")))?,
                pages_shift,
            },
            info,
        })
    }
}

/// Compares what VMCOREINFO and the vmlinux both say.
fn check_kernel(
    kernel: &KernelInfo,
    layouts: &Layouts,
    info: &VmCoreInfo,
) -> Result<(), AttachError> {
    let other = |what: String| AttachError::OtherKernel(what);
    if let (Some(ours), Some(theirs)) = (kernel.build_id(), info.build_id()) {
        let ours: String = ours.iter().map(|b| format!("{b:02x}")).collect();
        if ours != theirs {
            return Err(other(format!("its build id is {theirs}, not {ours}")));
        }
    }
    let offset = info.address("KERNELOFFSET").unwrap_or(0);
    let theirs = info.address("SYMBOL(init_top_pgt)")?;
    let ours = kernel
        .symbol("init_top_pgt")
        .ok_or(AttachError::NoSymbol("init_top_pgt"))?;
    if ours.wrapping_add(offset) != theirs {
        return Err(other(format!(
            "its init_top_pgt is at {theirs:#x}, not {ours:#x}"
        )));
    }
    let page = &layouts.page;
    let head = match info.number("OFFSET(page.compound_info)") {
        Err(VmCoreInfoError::Missing(_)) => "OFFSET(page.compound_head)",
        _ => "OFFSET(page.compound_info)",
    };
    for (key, ours) in [
        ("PAGESIZE", 4096),
        ("NUMBER(PG_head_mask)", 1 << page.head_bit),
        ("SIZE(page)", PAGE_STRUCT),
        ("SIZE(mem_section)", layouts.section.size),
        (
            "OFFSET(mem_section.section_mem_map)",
            layouts.section.mem_map,
        ),
        ("OFFSET(page.flags)", page.flags),
        ("OFFSET(page._refcount)", page.refcount),
        ("OFFSET(page._mapcount)", page.mapcount),
        ("OFFSET(page.mapping)", page.mapping),
        ("OFFSET(page.lru)", page.pgmap),
        (head, page.head),
    ] {
        let theirs = info.number(key)?;
        if usize::try_from(theirs) != Ok(ours) {
            return Err(other(format!("its {key} is {theirs}, not {ours}")));
        }
    }
    Ok(())
}

/// Whether the tables at `root` map the address of the top table to `root`.
fn maps_itself(virt: &Virt, table: u64, root: u64) -> bool {
    virt.translate(table).is_ok_and(|t| t.gpa == root)
}

/// Follows vmcoreinfo_note, a pointer, taking the kernel to lie where it was linked to
/// (phys_base 0), as it does with `nokaslr` and an ordinary boot loader.
fn note_by_symbol(mem: &dyn Memory, kernel: &KernelInfo) -> Result<VmCoreInfo, AttachError> {
    let symbol = |name| kernel.symbol(name).ok_or(AttachError::NoSymbol(name));
    let table = symbol("init_top_pgt")?;
    let pointer = symbol("vmcoreinfo_note")?;
    let root = table.wrapping_sub(START_KERNEL_MAP);
    let virt = [Levels::Four, Levels::Five]
        .map(|levels| Virt::new(mem, root, levels))
        .into_iter()
        .find(|virt| maps_itself(virt, table, root))
        .ok_or_else(|| AttachError::Unfit("no page tables where init_top_pgt was linked".into()))?;
    let unfit = |e: VirtError| AttachError::Unfit(e.to_string());
    let note = virt.uint(pointer, 8).map_err(unfit)?;
    let gpa = virt.translate(note).map_err(unfit)?.gpa;
    Ok(VmCoreInfo::from_note(&note_bytes(mem, gpa))?)
}

/// The bytes of a note, as many as there are: it is physically contiguous.
fn note_bytes(mem: &dyn Memory, gpa: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let mut at = gpa;
    while bytes.len() < MAX_TEXT + 4096 {
        let step = 4096 - (at % 4096) as usize;
        if mem.read(at, &mut piece[..step]).is_err() {
            break;
        }
        bytes.extend(&piece[..step]);
        let Some(next) = at.checked_add(step as u64) else {
            break;
        };
        at = next;
    }
    bytes
}

/// Every page that starts like the note, up to a number of candidates.
fn search(mem: &dyn Memory) -> Vec<VmCoreInfo> {
    let mut found = Vec::new();
    let mut buf = vec![0; SEARCH_STEP];
    for range in mem.ranges() {
        let mut at = range.start.next_multiple_of(4096);
        while at < range.end {
            let step = (range.end - at).min(SEARCH_STEP as u64) as usize;
            if mem.read(at, &mut buf[..step]).is_ok() {
                for (i, page) in buf[..step].chunks(4096).enumerate() {
                    if !starts_note(page) {
                        continue;
                    }
                    let bytes = note_bytes(mem, at + i as u64 * 4096);
                    found.extend(VmCoreInfo::from_note(&bytes));
                    if found.len() >= MAX_CANDIDATES {
                        return found;
                    }
                }
            }
            at += step as u64;
        }
    }
    found
}
