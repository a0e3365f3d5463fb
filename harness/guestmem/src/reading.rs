//! What a reading gives: plain data, to be written down as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

/// All ZONE_DEVICE pages of a guest at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagesReading {
    /// One per range of a dev_pagemap, ascending by pfn, not overlapping.
    pub regions: Vec<Region>,
    /// What could not be read or doesn't fit. Where there are any, the reading isn't whole.
    pub problems: Vec<Problem>,
}

/// One range of a dev_pagemap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The pgmap's type.
    pub kind: PageKind,
    /// The innermost resource of /proc/iomem at the region's last page, such as `namespace0.0`,
    /// `dax0.1`, `hmm_dmirror`.
    pub owner: Option<String>,
    /// First pfn of the range, metadata included.
    pub start_pfn: u64,
    /// Pages (4 KiB) of the range, metadata included.
    pub pages: u64,
    /// Pages at the start that the altmap keeps for itself: they hold struct pages or an info
    /// block, and their own struct pages were never initialised. No run covers them.
    pub metadata_pages: u64,
    /// The pgmap behind it.
    pub pgmap: Pgmap,
    /// Runs of equal pages, ascending; together they cover every page after the metadata.
    pub runs: Vec<PageRun>,
}

/// What a dev_pagemap says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pgmap {
    /// Its kernel virtual address; differs from boot to boot.
    pub address: u64,
    /// Which of its ranges this region is.
    pub range: u32,
    /// How many ranges it has.
    pub ranges: u32,
    /// Order of the compound pages that it was set up with (`vmemmap_shift`); 0 for single pages
    /// and where the kernel has no such field.
    pub vmemmap_shift: u8,
    /// Whether its struct pages live in the device (`--map=dev`).
    pub altmap: bool,
}

/// Type of a pgmap: enum memory_type.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// MEMORY_DEVICE_PRIVATE.
    Private,
    /// MEMORY_DEVICE_COHERENT.
    Coherent,
    /// MEMORY_DEVICE_FS_DAX.
    FsDax,
    /// MEMORY_DEVICE_GENERIC: devdax.
    Generic,
    /// MEMORY_DEVICE_PCI_P2PDMA.
    PciP2pdma,
    /// A value that this kernel's enum doesn't name, or a name not known here.
    Unknown(u32),
}

impl PageKind {
    /// The kind behind an enumerator's name.
    pub(crate) fn from_name(name: &str) -> Option<PageKind> {
        Some(match name {
            "MEMORY_DEVICE_PRIVATE" => PageKind::Private,
            "MEMORY_DEVICE_COHERENT" => PageKind::Coherent,
            "MEMORY_DEVICE_FS_DAX" => PageKind::FsDax,
            "MEMORY_DEVICE_GENERIC" => PageKind::Generic,
            "MEMORY_DEVICE_PCI_P2PDMA" => PageKind::PciP2pdma,
            _ => return None,
        })
    }
}

/// Neighbouring pages in the same state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageRun {
    /// First pfn.
    pub pfn: u64,
    /// How many pages.
    pub pages: u64,
    /// `index` of the first, each page behind it has the next: of single pages and heads of FS_DAX
    /// and GENERIC memory that `mapping` says belong to one file or device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The state of each.
    pub state: PageState,
}

/// What a struct page says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageState {
    /// `_refcount`, of the page itself also where it is a tail.
    pub refcount: i32,
    /// `_mapcount` plus 1, of the page itself.
    pub mapcount: i32,
    /// `_large_mapcount`, or before there was one (6.10) `compound_mapcount`, plus 1: heads only,
    /// and only where the kernel keeps either.
    pub large_mapcount: Option<i32>,
    /// Pins counted apart from references: heads only, and only where the kernel counts them so.
    pub pincount: Option<i32>,
    /// Order of the folio that the page is in; 0 for a single page.
    pub order: u8,
    /// Which part of its folio.
    pub part: Part,
    /// Whether `mapping` isn't NULL, in the page itself or, for a tail, in its head: what stands
    /// there in a tail is poison or other fields.
    pub mapping_set: bool,
    /// How many files share the page by reflink; None where it isn't shared. A tail's is its head's.
    pub share: Option<u64>,
    /// Whether the page is charged to a memory control group: of single pages and heads, where the
    /// kernel has such groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<bool>,
    /// Names of the low bits of `flags`, without `PG_`. A tail keeps fields of its folio there, so
    /// of a tail only `reserved` and `hwpoison` are told.
    pub flags: Flags,
    /// There is no struct page, or it can't be read; the other fields are empty and mean nothing.
    pub absent: bool,
}

/// Part of a folio.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A page of its own.
    Single,
    /// The first of several.
    Head,
    /// One of those behind it.
    Tail,
}

/// A set of page flag names, cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "BTreeSet<String>", into = "BTreeSet<String>")]
#[schemars(with = "BTreeSet<String>")]
pub struct Flags(Arc<BTreeSet<String>>);

impl From<BTreeSet<String>> for Flags {
    fn from(names: BTreeSet<String>) -> Flags {
        Flags(Arc::new(names))
    }
}

impl From<Flags> for BTreeSet<String> {
    fn from(flags: Flags) -> BTreeSet<String> {
        (*flags.0).clone()
    }
}

impl Deref for Flags {
    type Target = BTreeSet<String>;

    fn deref(&self) -> &BTreeSet<String> {
        &self.0
    }
}

/// Something that kept a reading from being whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What sort.
    pub kind: ProblemKind,
    /// First pfn concerned, where it concerns pages.
    pub pfn: Option<u64>,
    /// How many pages from there.
    pub pages: u64,
    /// What was found, in words.
    pub what: String,
}

/// Sorts of [`Problem`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The list of pgmaps could not be read to its end.
    PgmapList,
    /// A dev_pagemap can't be read or makes no sense.
    Pgmap,
    /// Two ranges overlap; the second is left out.
    Overlap,
    /// The memory sections could not be read to their end.
    Sections,
    /// Pages of a range have no struct page, or it isn't mapped or not in memory.
    Absent,
    /// A page's pgmap pointer isn't that of the range it lies in.
    WrongPgmap,
    /// A tail whose head can't be: beyond the range, too far, or no head.
    WrongHead,
    /// Struct pages that belong neither to RAM nor to any pgmap.
    Unclaimed,
    /// The resource tree could not be read to its end; owners may be missing.
    Resources,
    /// A bound of the reader was reached; the rest was left out.
    Limit,
}

impl PagesReading {
    /// Whether every page of every region was read and nothing was found amiss.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}
