//! Walks the kernel's XArray for the pointers in it.
//!
//! Mirrors include/linux/xarray.h: an entry whose low bits are 10 is internal, a node if it is
//! greater than 4096, else a sibling of another slot; anything else that isn't 0 is a value or,
//! with low bits 00, a pointer.

use crate::layout::XarrayLayout;
use crate::pagetable::{Virt, VirtError};
use crate::problems::Words;
use std::collections::{BTreeSet, HashSet};

/// Nodes read at most.
const MAX_NODES: usize = 1 << 15;

/// What a walk found.
#[derive(Default)]
pub(crate) struct Found {
    /// Pointers, each once.
    pub(crate) pointers: BTreeSet<u64>,
    /// Why the walk isn't whole.
    pub(crate) problems: Words,
}

/// All pointers in the xarray at `array`, at most `max` of them.
pub(crate) fn pointers(virt: &Virt, layout: &XarrayLayout, array: u64, max: usize) -> Found {
    let mut found = Found::default();
    let head = match virt.uint(array.wrapping_add(layout.head as u64), 8) {
        Ok(head) => head,
        Err(e) => {
            found.problems.push(format!("the list's head: {e}"));
            return found;
        }
    };
    let mut seen = HashSet::new();
    // Entries still to look at, each with a bound for the shift of the node that it may be.
    let mut todo = vec![(head, u8::MAX)];
    while let Some((entry, below)) = todo.pop() {
        if entry & 3 == 2 && entry > 4096 {
            let node = entry - 2;
            if !seen.insert(node) {
                found
                    .problems
                    .push(format!("the node at {node:#x} is in the list twice"));
                continue;
            }
            if seen.len() > MAX_NODES {
                found
                    .problems
                    .push(format!("the list has more than {MAX_NODES} nodes"));
                break;
            }
            match read_node(virt, layout, node) {
                Ok((shift, slots)) if shift < below => {
                    todo.extend(slots.into_iter().rev().map(|slot| (slot, shift)));
                }
                Ok(_) => found
                    .problems
                    .push(format!("the node at {node:#x} is at the wrong level")),
                Err(e) => found.problems.push(format!("the node at {node:#x}: {e}")),
            }
        } else if entry != 0 && entry & 3 == 0 {
            if found.pointers.len() >= max && !found.pointers.contains(&entry) {
                found
                    .problems
                    .push(format!("the list has more than {max} entries"));
                break;
            }
            found.pointers.insert(entry);
        } else if entry & 1 == 1 {
            found
                .problems
                .push(format!("the entry {entry:#x} is a value, not a pointer"));
        }
    }
    found
}

fn read_node(virt: &Virt, layout: &XarrayLayout, node: u64) -> Result<(u8, Vec<u64>), VirtError> {
    let shift = virt.uint(node.wrapping_add(layout.shift as u64), 1)?;
    let mut bytes = vec![0; layout.slot_count.min(256) * 8];
    virt.read(node.wrapping_add(layout.slots as u64), &mut bytes)?;
    let slots = bytes.as_chunks::<8>().0.iter();
    Ok((
        u8::try_from(shift).unwrap_or(u8::MAX),
        slots.map(|word| u64::from_le_bytes(*word)).collect(),
    ))
}
