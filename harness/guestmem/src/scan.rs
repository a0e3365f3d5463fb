//! Reads the pages: from the list of pgmaps to regions of runs.
//!
//! The kernel's own list of pgmaps (`pgmap_array` in mm/memremap.c, what get_dev_pagemap() looks
//! in) says which pfns are ZONE_DEVICE. It is checked from two sides: every page must point back
//! to the pgmap in whose range it lies, and every subsection that has struct pages and isn't RAM
//! in use must lie in some pgmap's range.

use crate::decode::Decoder;
use crate::memory::Memory;
use crate::pagetable::{Virt, VirtError};
use crate::pgmap::{self, DevPagemap};
use crate::problems::Problems;
use crate::reading::{PagesReading, Pgmap, ProblemKind, Region};
use crate::resource::Resources;
use crate::runs::{FlagNames, Raw};
use crate::sections::Sections;
use crate::target::Target;
use crate::{layout::PAGE_STRUCT, xarray};
use std::rc::Rc;

/// Pgmaps at most.
const MAX_PGMAPS: usize = 1024;
/// Pages read at most: 128 GiB of device memory, 2 GiB of struct pages.
const MAX_PAGES: u64 = 1 << 25;
/// Ranges of all pgmaps at most.
const MAX_RANGES: usize = 4096;
/// Runs kept at most.
const MAX_RUNS: usize = 1 << 20;
/// Combinations of page flags at most.
const MAX_FLAG_SETS: usize = 4096;
/// Heads looked up one by one at most: only corrupt tails need many.
const MAX_LOOKUPS: u32 = 1 << 16;
const NOT_IN_MEMORY: &str = "its struct page isn't in the memory that was given";
/// Struct pages read at once: what fits into a second-level cache.
const CHUNK: u64 = 8192;

/// Reads every page of every pgmap.
pub(crate) fn read_pages(target: &Target, mem: &dyn Memory) -> PagesReading {
    let virt = target.virt(mem);
    let layouts = &target.layouts;
    let mut problems = Problems::default();

    let mut ranges = Vec::new();
    let found = xarray::pointers(&virt, &layouts.xarray, target.pgmap_array, MAX_PGMAPS);
    found.problems.tell(ProblemKind::PgmapList, &mut problems);
    for address in found.pointers {
        if ranges.len() > MAX_RANGES {
            break;
        }
        match pgmap::read(&virt, &layouts.pgmap, address) {
            Ok(map) => {
                let map = Rc::new(map);
                ranges.extend((0..map.ranges.len()).map(|i| (Rc::clone(&map), i)));
            }
            Err(e) => problems.add(
                ProblemKind::Pgmap,
                format!("the pgmap at {address:#x}: {e}"),
            ),
        }
    }
    if ranges.len() > MAX_RANGES {
        ranges.truncate(MAX_RANGES);
        let what = format!("there are more than {MAX_RANGES} ranges of pgmaps");
        problems.add(ProblemKind::Limit, what);
    }
    ranges.sort_by_key(|(map, i)| map.ranges[*i]);

    let sections = Sections::load(&virt, &layouts.section, &target.sections);
    sections.problems.tell(ProblemKind::Sections, &mut problems);
    let owners = if ranges.is_empty() {
        Resources::default()
    } else {
        Resources::load(&virt, &layouts.resource, target.iomem_resource)
    };
    owners.problems.tell(ProblemKind::Resources, &mut problems);

    let mut scan = Scan {
        virt: &virt,
        target,
        sections: &sections,
        problems,
        names: FlagNames::new(&layouts.page.flag_names),
        pages_left: MAX_PAGES,
        runs_left: MAX_RUNS,
        lookups_left: MAX_LOOKUPS,
        buf: Vec::new(),
        spans: Vec::new(),
    };
    let mut regions: Vec<Region> = Vec::new();
    for (map, index) in &ranges {
        let (start, pages) = map.ranges[*index];
        if let Some(last) = regions.last()
            && last.start_pfn + last.pages > start
        {
            let what = format!("the pgmap at {:#x} overlaps the one before", map.address);
            scan.problems
                .pages(ProblemKind::Overlap, start, pages, &what);
            continue;
        }
        let mut region = scan.region(map, *index);
        region.owner = owners.owner(&virt, (start + pages) * 4096 - 1);
        regions.push(region);
    }
    for (pfn, pages) in sections.offline_subsections() {
        let before = regions.partition_point(|r| r.start_pfn <= pfn);
        let claimed = before.checked_sub(1).and_then(|i| regions.get(i));
        if claimed.is_none_or(|r| pfn >= r.start_pfn + r.pages) {
            let what = "struct pages that no pgmap covers";
            scan.problems
                .pages(ProblemKind::Unclaimed, pfn, pages, what);
        }
    }
    PagesReading {
        problems: scan.problems.finish(),
        regions,
    }
}

struct Scan<'a> {
    virt: &'a Virt<'a>,
    target: &'a Target,
    sections: &'a Sections,
    problems: Problems,
    names: FlagNames<'a>,
    pages_left: u64,
    runs_left: usize,
    lookups_left: u32,
    buf: Vec<u8>,
    spans: Vec<(u64, usize)>,
}

impl Scan<'_> {
    fn region(&mut self, map: &DevPagemap, index: usize) -> Region {
        let (start, pages) = map.ranges[index];
        let metadata = if index == 0 { map.metadata } else { 0 };
        let end = start + pages;
        let mut pfn = start + metadata;
        let mut decoder = Decoder::new(
            self.virt,
            &self.target.layouts.page,
            map,
            pfn..end,
            self.lookups_left,
        );
        while pfn < end {
            let full = decoder.runs() >= self.runs_left || self.names.len() > MAX_FLAG_SETS;
            if full || self.pages_left == 0 {
                let what = "the guest has more pages or states than this reader takes";
                self.problems
                    .pages(ProblemKind::Limit, pfn, end - pfn, what);
                decoder.add(pfn, end - pfn, Raw::ABSENT, &mut self.names);
                break;
            }
            let (va, same) = self.sections.locate(pfn);
            let count = same.min(end - pfn).min(CHUNK).min(self.pages_left);
            let done = match va {
                Some(va) => self.chunk(&mut decoder, pfn, count, va),
                None => self.absent(
                    &mut decoder,
                    pfn,
                    same.min(end - pfn),
                    "no section has struct pages for it",
                ),
            };
            self.pages_left = self.pages_left.saturating_sub(done);
            pfn += done;
        }
        self.lookups_left = decoder.lookups_left();
        let runs = decoder.finish(&mut self.names);
        self.runs_left = self.runs_left.saturating_sub(runs.len());
        Region {
            kind: map.kind,
            owner: None,
            start_pfn: start,
            pages,
            metadata_pages: metadata,
            pgmap: Pgmap {
                address: map.address,
                range: index as u32,
                ranges: map.ranges.len() as u32,
                vmemmap_shift: map.vmemmap_shift,
                altmap: map.altmap,
            },
            runs,
        }
    }

    fn absent(&mut self, decoder: &mut Decoder, pfn: u64, pages: u64, why: &str) -> u64 {
        self.problems.pages(ProblemKind::Absent, pfn, pages, why);
        decoder.add(pfn, pages, Raw::ABSENT, &mut self.names);
        pages
    }

    /// Reads up to `count` struct pages from `va` on; at least one is dealt with.
    fn chunk(&mut self, decoder: &mut Decoder, pfn: u64, count: u64, va: u64) -> u64 {
        self.spans.clear();
        let unmapped = self
            .virt
            .spans(va, count as usize * PAGE_STRUCT, &mut self.spans);
        let bytes: usize = self.spans.iter().map(|s| s.1).sum();
        let mapped = (bytes / PAGE_STRUCT) as u64;
        if mapped == 0 {
            // One translation covers 4 KiB of struct pages at least.
            let one = count.min(piece(va));
            let why = match unmapped {
                Err(VirtError::Memory { .. }) => NOT_IN_MEMORY,
                _ => "its struct page isn't mapped",
            };
            return self.absent(decoder, pfn, one, why);
        }
        self.buf.resize(bytes, 0);
        let memory = self.virt.memory();
        if memory.read_spans(&self.spans, &mut self.buf).is_ok() {
            decoder.pages(pfn, va, &self.buf, &mut self.problems, &mut self.names);
            return mapped;
        }
        // Some of it isn't there: find out which, piece by piece.
        let mut done = 0;
        while done < mapped {
            let va = va.wrapping_add(done * PAGE_STRUCT as u64);
            let one = (mapped - done).min(piece(va));
            self.buf.resize(one as usize * PAGE_STRUCT, 0);
            if self.virt.read(va, &mut self.buf).is_ok() {
                decoder.pages(
                    pfn + done,
                    va,
                    &self.buf,
                    &mut self.problems,
                    &mut self.names,
                );
            } else {
                self.absent(decoder, pfn + done, one, NOT_IN_MEMORY);
            }
            done += one;
        }
        mapped
    }
}

/// Struct pages from `va` to the end of its 4 KiB, at least one.
fn piece(va: u64) -> u64 {
    ((4096 - va % 4096) / PAGE_STRUCT as u64).max(1)
}
