//! Where the kernel keeps what guestmem reads: offsets, and the table of encodings.
//!
//! Offsets come from BTF by field name. Three things are encodings rather than fields and said
//! by neither BTF nor VMCOREINFO: how a tail names its head, where a folio keeps its order, and
//! which words a tail's fields overlap. Each is chosen here by the field that is present:
//!
//! | field present | order of a large page |
//! |---|---|
//! | `page.compound_order` | that byte of the first tail |
//! | `folio._folio_order` | that byte |
//! | `folio._flags_1` | its low eight bits |
//!
//! | field present | how a tail names its head |
//! |---|---|
//! | `page.compound_head` | the head's address, bit 0 set |
//! | `page.compound_info` | the head's address, or a mask for the tail's own address, bit 0 set |
//!
//! A mask (`HUGETLB_PAGE_OPTIMIZE_VMEMMAP` with a struct page of 64 bytes) is told from an address
//! by its form: ones, then zeros; no address of a struct page looks like that.
//!
//! | field present | pins of a large page |
//! |---|---|
//! | `page.hpage_pinned_refcount` | in the second tail |
//! | `page.compound_pincount` | in the first tail |
//! | `folio._pincount` | where BTF says |
//!
//! | field present | mappings of a large page |
//! |---|---|
//! | `folio._large_mapcount` | where BTF says; every entry of every size |
//! | `page.compound_mapcount` | in the first tail; entries of the whole page only |

use crate::btf::{Btf, BtfError};

/// Bytes of a struct page; ZONE_DEVICE on x86_64 has no other.
pub const PAGE_STRUCT: usize = 64;

/// Where a folio's order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderAt {
    /// A byte this far from the head.
    Byte(usize),
    /// The low eight bits of the word this far from the head, which is the first tail's flags.
    LowByteOfFlags(usize),
}

/// What `page->mapping` says besides a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareRule {
    /// No count of sharers is kept.
    None,
    /// `mapping` is the constant 1 (PAGE_MAPPING_DAX_COW, PAGE_MAPPING_DAX_SHARED), the count in
    /// `index`, also called `share`.
    MappingIsOne,
    /// `mapping` is NULL and `share` isn't 0.
    MappingIsNull,
}

/// Offsets within a struct page and from a folio's head, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageLayout {
    /// `flags`.
    pub flags: usize,
    /// The word that holds the pgmap on a head or single page and the head on a tail.
    pub pgmap: usize,
    /// The word by which a tail names its head.
    pub head: usize,
    /// `mapping`.
    pub mapping: usize,
    /// `index`, which the count of sharers overlaps.
    pub index: usize,
    /// `_mapcount`.
    pub mapcount: usize,
    /// `_refcount`.
    pub refcount: usize,
    /// The word that says which memory control group a page is charged to; None where the kernel
    /// has no such groups.
    pub memcg: Option<usize>,
    /// A folio's order.
    pub order: OrderAt,
    /// A folio's `_large_mapcount`, from its head, or its older `compound_mapcount`; None where
    /// there is neither.
    pub large_mapcount: Option<usize>,
    /// A folio's pins, from its head, and the smallest order that has them.
    pub pincount: Option<(usize, u8)>,
    /// How sharing is told.
    pub share: ShareRule,
    /// Bit of PG_head in `flags`.
    pub head_bit: u32,
    /// Names of the low bits of `flags`, without `PG_`.
    pub flag_names: Vec<(u32, String)>,
}

/// `struct dev_pagemap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgmapLayout {
    /// Bytes to read: up to the ranges.
    pub size: usize,
    /// `type`.
    pub kind: usize,
    /// `flags`.
    pub flags: usize,
    /// `vmemmap_shift`; None before 5.17.
    pub vmemmap_shift: Option<usize>,
    /// `nr_range`.
    pub nr_range: usize,
    /// The first `struct range`.
    pub ranges: usize,
    /// `struct range`: its size, and `start` and `end` in it.
    pub range: [usize; 3],
    /// `altmap.base_pfn`, `.reserve`, `.free`.
    pub altmap: [usize; 3],
    /// Values of enum memory_type, with their names.
    pub kinds: Vec<(i64, String)>,
}

/// `struct resource`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLayout {
    /// Bytes to read.
    pub size: usize,
    /// `start`, `end`, `name`, `sibling`, `child`.
    pub at: [usize; 5],
}

/// `struct xarray` and `struct xa_node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XarrayLayout {
    /// `xarray.xa_head`.
    pub head: usize,
    /// `xa_node.shift`, one byte.
    pub shift: usize,
    /// `xa_node.slots`.
    pub slots: usize,
    /// How many slots.
    pub slot_count: usize,
}

/// `struct mem_section` and its usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionLayout {
    /// Bytes of one.
    pub size: usize,
    /// `section_mem_map`.
    pub mem_map: usize,
    /// `usage`.
    pub usage: usize,
    /// `mem_section_usage.subsection_map`: offset and bytes.
    pub subsections: (usize, usize),
}

/// All layouts of one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layouts {
    /// Struct page and folio.
    pub page: PageLayout,
    /// Struct dev_pagemap.
    pub pgmap: PgmapLayout,
    /// Struct resource.
    pub resource: ResourceLayout,
    /// The xarray.
    pub xarray: XarrayLayout,
    /// Memory sections.
    pub section: SectionLayout,
}

/// A field's offset and size, where the kernel has it.
fn optional(btf: &Btf, name: &str, path: &str) -> Result<Option<(usize, usize)>, BtfError> {
    match btf.field(name, path) {
        Ok(f) => Ok(Some((to_usize(f.offset), to_usize(f.size)))),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e),
    }
}

fn at(btf: &Btf, name: &str, path: &str) -> Result<usize, BtfError> {
    Ok(to_usize(btf.field(name, path)?.offset))
}

/// BTF's numbers are of 32 bits.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The first of several (struct, path) that the kernel has.
fn first(btf: &Btf, choices: &[(&str, &str)]) -> Result<usize, BtfError> {
    for (name, path) in choices {
        if let Some((offset, _)) = optional(btf, name, path)? {
            return Ok(offset);
        }
    }
    let (name, path) = choices.first().copied().unwrap_or_default();
    at(btf, name, path)
}

impl Layouts {
    /// Takes the layouts from BTF.
    ///
    /// # Errors
    /// If BTF lacks a field that has no other name in any era known.
    pub fn from_btf(btf: &Btf) -> Result<Layouts, BtfError> {
        Ok(Layouts {
            page: page(btf)?,
            pgmap: pgmap(btf)?,
            resource: ResourceLayout {
                size: to_usize(btf.size("resource")?),
                at: [
                    at(btf, "resource", "start")?,
                    at(btf, "resource", "end")?,
                    at(btf, "resource", "name")?,
                    at(btf, "resource", "sibling")?,
                    at(btf, "resource", "child")?,
                ],
            },
            xarray: {
                let slots = btf.field("xa_node", "slots")?;
                XarrayLayout {
                    head: at(btf, "xarray", "xa_head")?,
                    shift: at(btf, "xa_node", "shift")?,
                    slots: to_usize(slots.offset),
                    slot_count: to_usize(slots.size / 8),
                }
            },
            section: {
                let map = btf.field("mem_section_usage", "subsection_map")?;
                SectionLayout {
                    size: to_usize(btf.size("mem_section")?),
                    mem_map: at(btf, "mem_section", "section_mem_map")?,
                    usage: at(btf, "mem_section", "usage")?,
                    subsections: (to_usize(map.offset), to_usize(map.size)),
                }
            },
        })
    }
}

fn page(btf: &Btf) -> Result<PageLayout, BtfError> {
    let in_folio = |path| optional(btf, "folio", path);
    let tail = |n: usize, path| -> Result<Option<usize>, BtfError> {
        let found = optional(btf, "page", path)?;
        Ok(found.map(|(offset, _)| n * PAGE_STRUCT + offset))
    };
    let order = if let Some(byte) = tail(1, "compound_order")? {
        OrderAt::Byte(byte)
    } else if let Some((byte, _)) = in_folio("_folio_order")? {
        OrderAt::Byte(byte)
    } else {
        OrderAt::LowByteOfFlags(at(btf, "folio", "_flags_1")?)
    };
    // The second tail exists from order 2 on.
    let pincount = if let Some(offset) = tail(2, "hpage_pinned_refcount")? {
        Some((offset, 2))
    } else if let Some(offset) = tail(1, "compound_pincount")? {
        Some((offset, 1))
    } else {
        in_folio("_pincount")?.map(|(offset, _)| (offset, 1))
    };
    let folio_pgmap = in_folio("pgmap")?.is_some();
    let share = if folio_pgmap {
        ShareRule::MappingIsNull
    } else if in_folio("flags")?.is_some() {
        ShareRule::MappingIsOne
    } else {
        ShareRule::None
    };
    let (head_bit, flag_names) = flag_names(btf)?;
    let memcg = optional(btf, "page", "memcg_data")?.or(optional(btf, "page", "mem_cgroup")?);
    Ok(PageLayout {
        flags: at(btf, "page", "flags")?,
        pgmap: first(btf, &[("folio", "pgmap"), ("page", "pgmap")])?,
        head: first(btf, &[("page", "compound_info"), ("page", "compound_head")])?,
        mapping: at(btf, "page", "mapping")?,
        index: first(
            btf,
            &[
                ("page", "index"),
                ("page", "__folio_index"),
                ("page", "share"),
            ],
        )?,
        mapcount: at(btf, "page", "_mapcount")?,
        refcount: at(btf, "page", "_refcount")?,
        memcg: memcg.map(|(offset, _)| offset),
        order,
        large_mapcount: match in_folio("_large_mapcount")? {
            Some((offset, _)) => Some(offset),
            None => tail(1, "compound_mapcount")?,
        },
        pincount,
        share,
        head_bit,
        flag_names,
    })
}

/// PG_head's bit, and the first name of each bit below `__NR_PAGEFLAGS`.
fn flag_names(btf: &Btf) -> Result<(u32, Vec<(u32, String)>), BtfError> {
    let all = btf.enumerators("pageflags")?;
    let value = |wanted: &str| {
        let found = all.iter().find(|(name, _)| *name == wanted);
        found.map(|&(_, v)| v).ok_or_else(|| BtfError::NoField {
            name: "pageflags".to_owned(),
            field: wanted.to_owned(),
        })
    };
    let bits = value("__NR_PAGEFLAGS")?.clamp(0, 63);
    let head = value("PG_head")?.clamp(0, 63);
    let mut names: Vec<(u32, String)> = Vec::new();
    for (name, bit) in &all {
        let bit = u32::try_from(*bit).unwrap_or(u32::MAX);
        if i64::from(bit) < bits && !names.iter().any(|n| n.0 == bit) {
            names.push((bit, name.strip_prefix("PG_").unwrap_or(name).to_owned()));
        }
    }
    Ok((u32::try_from(head).unwrap_or(0), names))
}

fn pgmap(btf: &Btf) -> Result<PgmapLayout, BtfError> {
    let f = |path| at(btf, "dev_pagemap", path);
    let ranges = f("range")?;
    Ok(PgmapLayout {
        size: ranges,
        kind: f("type")?,
        flags: f("flags")?,
        vmemmap_shift: optional(btf, "dev_pagemap", "vmemmap_shift")?.map(|(offset, _)| offset),
        nr_range: f("nr_range")?,
        ranges,
        range: [
            to_usize(btf.size("range")?),
            at(btf, "range", "start")?,
            at(btf, "range", "end")?,
        ],
        altmap: [
            f("altmap.base_pfn")?,
            f("altmap.reserve")?,
            f("altmap.free")?,
        ],
        kinds: btf
            .enumerators("memory_type")?
            .into_iter()
            .map(|(name, value)| (value, name.to_owned()))
            .collect(),
    })
}
