//! Claims as the host receives them: which pages are held, by what.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PinHow;

/// The kind of ZONE_DEVICE page that the agent believes it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PageType {
    /// MEMORY_DEVICE_FS_DAX.
    Fsdax,
    /// MEMORY_DEVICE_GENERIC of a device-dax device.
    Devdax,
    /// MEMORY_DEVICE_PRIVATE.
    Private,
    /// MEMORY_DEVICE_COHERENT.
    Coherent,
    /// MEMORY_DEVICE_PCI_P2PDMA.
    P2pdma,
}

/// What holds a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HoldBy {
    /// One page-table entry for each page (for private pages: one swap entry).
    Pte {},
    /// One PMD entry for 512 pages.
    Pmd {},
    /// An entry in the DAX page cache of a file, of this order (0 or 9): no
    /// reference by itself, but `mapping` is set and, from 6.15 on, a folio.
    Entry {
        /// log2 of its pages.
        order: u8,
    },
    /// `share` of the page: so many DAX entries of shared blocks name it. No reference.
    Shared {
        /// How many.
        count: u64,
    },
    /// `index` of the first page; those behind it have the next ones. No reference.
    Index {
        /// Page of the file or device.
        first: u64,
    },
    /// The HWPoison flag. No reference.
    Poison {},
    /// The pages are one folio of this order: no reference by itself.
    Folio {
        /// log2 of its pages.
        order: u8,
    },
    /// A pin, one for each page.
    Pin {
        /// How it was taken.
        how: PinHow,
    },
}

/// A run of pages that one thing holds once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// First page frame number.
    pub pfn: u64,
    /// 4K pages.
    pub pages: u64,
    /// What kind of page.
    pub page_type: PageType,
    /// What holds it.
    pub by: HoldBy,
    /// Who: `main/m` for actor `main`'s mapping `m`, a file's or a pin's name.
    pub who: String,
}

/// Something read in the guest that is not what the ledger predicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Mismatch {
    /// What was looked at: `pagemap` of a mapping, or the `blocks` under a pin.
    pub what: String,
    /// `actor/map`, or a pin's name.
    pub who: String,
    /// First 4K page within the mapping or the pin.
    pub page: u64,
    /// 4K pages.
    pub pages: u64,
    /// Predicted, in words.
    pub predicted: String,
    /// What is there, in words.
    pub found: String,
}
