//! Reads struct dev_pagemap (include/linux/memremap.h).

use crate::layout::PgmapLayout;
use crate::pagetable::{Virt, VirtError};
use crate::reading::PageKind;

/// PGMAP_ALTMAP_VALID.
const ALTMAP_VALID: u32 = 1;
/// Ranges of one pgmap at most; the kernel's users have one or two.
const MAX_RANGES: u32 = 256;
/// x86_64's physical addresses have 52 bits.
const MAX_PHYSICAL: u64 = 1 << 52;

/// A pgmap as the guest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevPagemap {
    pub(crate) address: u64,
    pub(crate) kind: PageKind,
    pub(crate) vmemmap_shift: u8,
    pub(crate) altmap: bool,
    /// Pages at the start of the first range that the altmap keeps.
    pub(crate) metadata: u64,
    /// First pfn and pages of each range.
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// Why a pgmap isn't one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PgmapError {
    #[error(transparent)]
    Virt(#[from] VirtError),
    #[error("it says of itself: {0}")]
    Nonsense(String),
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(|b| b.first_chunk::<N>());
    found.copied().unwrap_or([0; N])
}

/// Reads the pgmap at kernel virtual address `address`.
pub(crate) fn read(
    virt: &Virt,
    layout: &PgmapLayout,
    address: u64,
) -> Result<DevPagemap, PgmapError> {
    let nonsense = |what: String| PgmapError::Nonsense(what);
    let mut bytes = vec![0; layout.size.min(4096)];
    virt.read(address, &mut bytes)?;
    let u32_at = |at| u32::from_le_bytes(word(&bytes, at));
    let u64_at = |at| u64::from_le_bytes(word(&bytes, at));

    let value = u32_at(layout.kind);
    let named = layout.kinds.iter().find(|k| k.0 == i64::from(value));
    let kind = named
        .and_then(|k| PageKind::from_name(&k.1))
        .unwrap_or(PageKind::Unknown(value));
    let count = u32_at(layout.nr_range);
    if count == 0 || count > MAX_RANGES {
        return Err(nonsense(format!("{count} ranges")));
    }
    let altmap = u32_at(layout.flags) & ALTMAP_VALID != 0;
    let [_, reserve, free] = layout.altmap.map(u64_at);

    let [size, start_at, end_at] = layout.range;
    let mut table = vec![0; size.min(64) * count as usize];
    virt.read(address.wrapping_add(layout.ranges as u64), &mut table)?;
    let mut ranges = Vec::new();
    for entry in table.chunks_exact(size.clamp(1, 64)) {
        let start = u64::from_le_bytes(word(entry, start_at));
        let last = u64::from_le_bytes(word(entry, end_at));
        let fits = start < last && last < MAX_PHYSICAL && start % 4096 == 0 && last % 4096 == 4095;
        if !fits {
            return Err(nonsense(format!("a range from {start:#x} to {last:#x}")));
        }
        ranges.push((start / 4096, (last - start) / 4096 + 1));
    }
    let metadata = if altmap {
        reserve.saturating_add(free)
    } else {
        0
    };
    let first = ranges.first().map_or(0, |r| r.1);
    if metadata > first {
        return Err(nonsense(format!(
            "an altmap of {metadata} pages in a range of {first}"
        )));
    }
    let shift = layout.vmemmap_shift.map_or(0, u64_at);
    Ok(DevPagemap {
        address,
        kind,
        vmemmap_shift: u8::try_from(shift)
            .map_err(|_| nonsense(format!("compound pages of order {shift}")))?,
        altmap,
        metadata,
        ranges,
    })
}
