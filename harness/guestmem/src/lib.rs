//! Reads every `ZONE_DEVICE` struct page of a paused x86_64 Linux guest, from outside.
//!
//! The way from a guest to its pages:
//!
//! ```text
//! Memory (a process, a dump, a recorded image)
//!   + KernelInfo (symbols and BTF of the vmlinux that the guest runs)
//!   -> Target::attach: VMCOREINFO, page tables, layouts
//!   -> Target::read_pages: pgmap_array -> dev_pagemap -> struct pages -> PagesReading
//! ```
//!
//! No kernel version is known by number: layouts come from VMCOREINFO and BTF, and the few
//! things that neither says are a table of encodings in [`layout`], chosen by features present.
//!
//! The guest is the thing under test, so nothing read from it is believed: each walk is bounded,
//! each pointer is checked by reading it, and what doesn't fit becomes a [`Problem`] beside the
//! part of the reading that could be had.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod btf;
mod decode;
mod kernel;
pub mod layout;
mod memory;
mod pagetable;
mod pgmap;
mod problems;
mod reading;
mod resource;
mod runs;
mod scan;
mod sections;
mod target;
mod vmcoreinfo;
mod xarray;

pub use btf::{Btf, BtfError, Field, reduce};
pub use kernel::{KernelError, KernelInfo, SYMBOLS};
pub use memory::{
    BackedRange, DumpMemory, MemError, Memory, ProcessMemory, Recorder, Segment, SparseImage,
    segments_from_maps,
};
pub use pagetable::{Levels, Translation, Virt, VirtError};
pub use reading::{
    Flags, PageKind, PageRun, PageState, PagesReading, Part, Pgmap, Problem, ProblemKind, Region,
};
pub use target::{AttachError, Target};
pub use vmcoreinfo::{VmCoreInfo, VmCoreInfoError};
