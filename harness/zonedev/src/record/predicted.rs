//! What contract and claims predict of pages: the observation's other half.

use guestmem::{PageKind, Part, Region};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Neighbouring pages with the same prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictedRun {
    /// First page frame number.
    pub pfn: u64,
    /// 4K pages.
    pub pages: u64,
    /// `_refcount`.
    pub refcount: i64,
    /// `_mapcount` plus 1.
    pub mapcount: i64,
    /// `_large_mapcount` plus 1: of heads.
    pub large_mapcount: Option<i64>,
    /// `_pincount`: of heads.
    pub pincount: Option<i64>,
    /// Order of the folio.
    pub order: u8,
    /// Which part of its folio; `None` where the contract leaves part and order open.
    pub part: Option<Part>,
    /// Whether `mapping` is set; `None` where the contract doesn't say.
    pub mapping: Option<bool>,
    /// How many entries of shared blocks count in `share`; `None` where the contract doesn't say.
    #[serde(default)]
    pub share: Option<u64>,
    /// Whether the page is charged to a memory control group; `None` for tails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<bool>,
    /// Whether one process has the page for itself (PG_anon_exclusive): false where nobody has it
    /// or several do, `None` where it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// `index` of the first page, each page behind it has the next; `None` where nothing says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Whether the HWPoison flag is set.
    #[serde(default)]
    pub poisoned: Option<bool>,
    /// Why this refcount: `idle 1 + 1 vmsplice (get)`.
    pub because: String,
    /// What holds the pages: `a (2M entry), main/m (PMD)`; empty where nothing does.
    pub held_by: String,
}

/// The kernel's name of a kind of page: `FS_DAX`.
pub fn kind_word(kind: PageKind) -> String {
    match kind {
        PageKind::Private => "PRIVATE".into(),
        PageKind::Coherent => "COHERENT".into(),
        PageKind::FsDax => "FS_DAX".into(),
        PageKind::Generic => "GENERIC".into(),
        PageKind::PciP2pdma => "PCI_P2PDMA".into(),
        PageKind::Unknown(n) => format!("type {n}"),
    }
}

/// Owner and kind of a region: `namespace0.0 FS_DAX`.
pub fn region_name(region: &Region) -> String {
    match &region.owner {
        Some(owner) => format!("{owner} {}", kind_word(region.kind)),
        None => kind_word(region.kind),
    }
}

/// `a single page`, `a head of order 9`, `a tail of order 9`.
pub fn part_words(part: Part, order: u8) -> String {
    match part {
        Part::Single if order == 0 => "a single page".into(),
        Part::Single => format!("a single page of order {order}"),
        Part::Head => format!("a head of order {order}"),
        Part::Tail => format!("a tail of order {order}"),
    }
}
