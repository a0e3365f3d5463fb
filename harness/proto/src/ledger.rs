//! The ledger: what the agent holds because of what it did.
//!
//! It follows operations and the facts that they reported, by the rules of
//! mm and DAX as documented at each step, and predicts the holds on every
//! ZONE_DEVICE page. It never looks at a page's counts. pagemap is compared
//! with it, and is used as a source only for the frames of device-private
//! pages, which nothing else names.

mod device;
mod done;
mod files;
mod huge;
mod memory;
mod private;
mod shared;
mod told;
mod touched;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use thiserror::Error;

use crate::{
    Advice, Backing, Behaviour, Extent, Fact, Memory, NamespaceInfo, Op, PageType, PagemapState,
    PinHow, Size, StepResult,
};

/// 4K pages under one PMD.
const PMD_PAGES: u64 = 512;

/// A fact that contradicts what the ledger knows, so that no prediction can follow.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LedgerError {
    /// A name that no operation introduced.
    #[error("follow {0}: no such {1} is known")]
    Unknown(String, &'static str),
    /// A range outside of its mapping.
    #[error("follow pages {1}+{2} of {0}: it is shorter")]
    Range(String, u64, u64),
}

/// One page of a mapping, as predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// No entry.
    None,
    /// A page-table entry for a DAX page, or for one of peer-to-peer memory.
    Pte,
    /// Under a PMD entry for DAX pages.
    Pmd,
    /// The zero page of a hole: present, of no interest.
    Zero,
    /// An ordinary page; equal ids are one page shared by fork.
    Anon(u64),
    /// The same, moved to a device: its minor number.
    Private(u64, u8),
    /// The same, on a device whose memory the CPU maps.
    Coherent(u64, u8),
    /// The same, in RAM for a device's exclusive access.
    Exclusive(u64),
    /// The same, swapped out.
    Swapped(u64),
}

#[derive(Clone, Debug)]
struct Map {
    backing: Backing,
    slots: Vec<Slot>,
    /// Whether the entry of each slot lets a processor store.
    writable: Vec<bool>,
    /// Whether the VMA does.
    allowed: Vec<bool>,
    /// First slots of the 2M stretches of anonymous memory that one PMD entry maps.
    pmds: BTreeSet<usize>,
    /// Those that a device's snapshot called so after the migration that is being followed.
    large_seen: BTreeSet<usize>,
    /// Whether the VMA has an anon_vma, so that fork() copies its entries.
    anon_vma: bool,
    /// Frames of private and coherent pages as pagemap last said, by page; of peer-to-peer memory,
    /// as it said when they were mapped.
    looked_up: BTreeMap<u64, u64>,
    /// Pages that pagemap last called swapped.
    swapped_out: BTreeSet<u64>,
    /// Ranges that a child of fork() does not get (MADV_DONTFORK).
    not_forked: Vec<std::ops::Range<usize>>,
}

impl Map {
    fn first_page(&self) -> u64 {
        match &self.backing {
            Backing::File { first_page, .. } | Backing::Device { first_page, .. } => *first_page,
            Backing::Anon { .. } | Backing::P2pmem {} => 0,
        }
    }

    fn is_private_file(&self) -> bool {
        matches!(self.backing, Backing::File { private: true, .. })
    }

    fn of_file(&self, name: &str) -> bool {
        self.file() == Some(name)
    }

    fn file(&self) -> Option<&str> {
        match &self.backing {
            Backing::File { file, .. } => Some(file),
            _ => None,
        }
    }

    /// What memory it is, where it belongs to no file of the fixture.
    fn memory(&self) -> Option<Memory> {
        match self.backing {
            Backing::Anon { memory } => Some(memory),
            _ => None,
        }
    }

    /// The VMA is split before `page`: a PMD entry across it is split as well. The split of
    /// a file's zaps it, that of anonymous memory makes PTEs (__split_huge_pmd_locked()).
    fn split(&mut self, page: usize) {
        if page == 0 || page >= self.slots.len() {
            return;
        }
        let stretch = self.stretch(page as u64);
        if stretch.start != page {
            self.pmds.remove(&stretch.start);
        }
        if stretch.start != page && self.slots[page] == Slot::Pmd {
            self.slots[stretch].fill(Slot::None);
        }
    }

    /// The slots of the 2M stretch of the file or device that `page` lies in,
    /// as far as this mapping reaches.
    fn stretch(&self, page: u64) -> std::ops::Range<usize> {
        let first = self.first_page();
        let start = (first + page) / PMD_PAGES * PMD_PAGES;
        let from = start.saturating_sub(first);
        let to = (start + PMD_PAGES - first).min(self.slots.len() as u64);
        from as usize..to as usize
    }
}

/// An entry of the DAX page cache, for pages that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DaxEntry {
    /// 0 or 9.
    order: u8,
    /// First frame.
    pfn: u64,
}

impl DaxEntry {
    fn pfns(self) -> std::ops::Range<u64> {
        self.pfn..self.pfn.saturating_add(1 << self.order)
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    extents: Vec<Extent>,
    /// DAX entries by first page of the file.
    entries: BTreeMap<u64, DaxEntry>,
    /// The same for holes that were read: entries of the zero page, or of the huge one.
    zeros: BTreeMap<u64, u8>,
    unlinked: bool,
    /// Pages whose block is another one since this operation.
    moved: BTreeSet<u64>,
}

impl File {
    fn pfn(&self, page: u64) -> Option<u64> {
        Extent::pfn_in(&self.extents, page)
    }

    /// The first page of the entry that covers a page.
    fn entry(&self, page: u64) -> Option<u64> {
        let start = page / PMD_PAGES * PMD_PAGES;
        if self.entries.get(&start).is_some_and(|e| e.order == 9) {
            return Some(start);
        }
        self.entries.contains_key(&page).then_some(page)
    }

    /// Takes the entries that reach into these pages. Those of blocks are answered: they may have
    /// counted as sharers, see [`Ledger::disassociated`].
    #[must_use]
    fn drop_entries(&mut self, from: u64, to: u64) -> Vec<DaxEntry> {
        if from >= to {
            return Vec::new();
        }
        let outside = |page: u64, order: u8| page + (1 << order) <= from || page >= to;
        self.zeros.retain(|&page, &mut order| outside(page, order));
        let mut gone = Vec::new();
        self.entries.retain(|&page, entry| {
            let stays = outside(page, entry.order);
            if !stays {
                gone.push(*entry);
            }
            stays
        });
        gone
    }

    /// The entry of the hole at `page` goes. Answers the pages that it covered.
    fn drop_zero(&mut self, page: u64) -> Option<std::ops::Range<u64>> {
        let start = page / PMD_PAGES * PMD_PAGES;
        if self.zeros.get(&start) == Some(&9) {
            self.zeros.remove(&start);
            return Some(start..start + PMD_PAGES);
        }
        self.zeros.remove(&page).map(|_| page..page + 1)
    }

    /// A fault by way of PTEs (`pmd`: by a PMD) at `page` finds a hole's entry that it
    /// can't use: a huge one, or one of a hole that has got a block since. That is
    /// taken out of all page tables (grab_mapping_entry(), dax_insert_entry()). Answers
    /// the pages, if any.
    fn replace_zero(&mut self, page: u64, pmd: bool) -> Option<std::ops::Range<u64>> {
        let start = page / PMD_PAGES * PMD_PAGES;
        let block = self.pfn(page).is_some();
        if self.zeros.get(&start) == Some(&9) && (!pmd || block) {
            self.zeros.remove(&start);
            return Some(start..start + PMD_PAGES);
        }
        if block && self.zeros.remove(&page).is_some() {
            return Some(page..page + 1);
        }
        None
    }
}

#[derive(Clone, Debug)]
struct Pin {
    how: PinHow,
    page_type: PageType,
    /// The file that it was taken through.
    file: Option<String>,
    pfns: Vec<u64>,
    /// Pages of anonymous memory that it holds, which therefore do not migrate.
    ids: BTreeSet<u64>,
    /// Pages of RAM that it holds besides, 4K each.
    in_ram: u64,
}

/// See the module's words. One per case; a clone of a template starts from
/// the template's.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    maps: BTreeMap<(String, String), Map>,
    files: BTreeMap<String, File>,
    /// `share` of each page of which entries of shared blocks exist, by frame.
    shares: BTreeMap<u64, u64>,
    /// Frames that memory_failure() marked.
    poisoned: BTreeMap<u64, PageType>,
    /// A program ran that marks frames of which only it knows.
    poison_unknown: bool,
    /// By actor and name: a pin goes with the process that took it.
    pins: BTreeMap<(String, String), Pin>,
    /// The open files of test_hmm devices: minor number, and who shares each through fork.
    mirrors: Vec<(u8, BTreeSet<String>)>,
    /// Ranges of frames of each device-dax device, by the name of its namespace.
    devices: BTreeMap<String, Vec<Range<u64>>>,
    /// Those of an alignment of 1G.
    gigantic: BTreeSet<String>,
    /// First ids of 512 pages each that are one device-private folio.
    large: BTreeSet<u64>,
    behaviour: Behaviour,
    /// What mkfs made, by the name of the namespace.
    file_systems: BTreeMap<Option<String>, String>,
    next_id: u64,
    unlinks: u64,
}

impl Ledger {
    /// Which of the behaviours that eras differ in this kernel is expected to show.
    pub fn set_behaviour(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    /// Names the device-dax devices.
    pub fn set_devices<'a>(&mut self, devices: impl Iterator<Item = &'a NamespaceInfo>) {
        let frames = |(start, size): (u64, u64)| start / Size::PAGE..(start + size) / Size::PAGE;
        self.devices.clear();
        self.gigantic.clear();
        for device in devices {
            let ranges = device.pieces().into_iter().map(frames).collect();
            self.devices.insert(device.name.clone(), ranges);
            if device.align == Size::PUD {
                self.gigantic.insert(device.name.clone());
            }
        }
    }

    /// The frame of a page of a device.
    fn device_pfn(&self, namespace: &str, mut page: u64) -> Option<u64> {
        for range in self.devices.get(namespace)? {
            let pages = range.end - range.start;
            if page < pages {
                return Some(range.start + page);
            }
            page -= pages;
        }
        None
    }

    /// Follows one finished operation of `actor`.
    ///
    /// # Errors
    /// Where a fact names what was never introduced; the ledger is then as it was
    /// up to that fact.
    pub fn apply(
        &mut self,
        actor: &str,
        op: &Op,
        result: &StepResult,
        facts: &[Fact],
    ) -> Result<(), LedgerError> {
        if matches!(result, StepResult::Died { .. }) {
            self.drop_actor(actor);
            return Ok(());
        }
        if let Op::Write {
            file,
            offset,
            length,
        } = op
        {
            let from = offset.bytes() / Size::PAGE;
            self.written(file, from..from.saturating_add(length.pages()), facts);
        }
        for file in self.files.values_mut() {
            file.moved.clear();
        }
        for fact in facts {
            self.fact(actor, fact)?;
        }
        match result {
            StepResult::Blocked { .. } => {
                // break_layouts() unmaps the whole file before it waits for its pages
                // (dax_layout_busy_page(), later dax_break_layout_inode()).
                if let Op::Truncate { file, .. } | Op::Fallocate { file, .. } = op {
                    self.unmap_file(file, 0..0);
                }
                // kill_dev_dax() unmaps the device before its pages are waited for.
                if matches!(op, Op::DestroyNamespace {}) {
                    self.unmap_devices(None);
                }
                if let Op::DestroyDax { device } | Op::ResizeDax { device, .. } = op {
                    self.unmap_devices(Some(device));
                }
                // munmap(2) has zapped; what waits is the end of a file that it was the last to map
                // (dax_break_layout_final()).
                if let Op::Unmap {
                    map,
                    offset,
                    length,
                } = op
                {
                    let range = self.range(actor, map, *offset, *length)?;
                    self.zap(actor, map, range)?;
                }
                if let Op::Clone { file, to, .. } | Op::Dedupe { file, to, .. } = op {
                    self.clone_waits([file, to]);
                }
            }
            StepResult::Ok {} => self.done(actor, op)?,
            // The contents are compared when both layouts are broken.
            StepResult::Errno { errno, .. } if errno == "EBADE" => {
                if let Op::Dedupe { file, to, .. } = op {
                    self.layouts_broken([file, to]);
                }
            }
            // What could migrate has done so: the driver looks afterwards whether it lacks some.
            StepResult::Errno { errno, .. }
                if errno == "ENOENT" && matches!(op, Op::HmmMigrate(_)) =>
            {
                self.done(actor, op)?;
            }
            // What was on the device and not pinned came back.
            StepResult::Errno { errno, .. }
                if errno == "EAGAIN" && matches!(op, Op::HmmReturn(_)) =>
            {
                self.done(actor, op)?;
            }
            // The signal tells that the poison was taken note of.
            StepResult::Signal { .. }
                if matches!(
                    op,
                    Op::Madvise {
                        advice: Advice::Hwpoison,
                        ..
                    }
                ) =>
            {
                self.done(actor, op)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn map(&self, actor: &str, map: &str) -> Result<&Map, LedgerError> {
        self.maps
            .get(&(actor.to_owned(), map.to_owned()))
            .ok_or_else(|| LedgerError::Unknown(format!("{actor}/{map}"), "mapping"))
    }

    fn map_mut(&mut self, actor: &str, map: &str) -> Result<&mut Map, LedgerError> {
        self.maps
            .get_mut(&(actor.to_owned(), map.to_owned()))
            .ok_or_else(|| LedgerError::Unknown(format!("{actor}/{map}"), "mapping"))
    }

    /// Pages of a mapping, as far as it reaches; to the end where `length` is absent.
    fn range(
        &self,
        actor: &str,
        map: &str,
        offset: Size,
        length: Option<Size>,
    ) -> Result<std::ops::Range<usize>, LedgerError> {
        let whole = self.map(actor, map)?.slots.len() as u64;
        let from = (offset.bytes() / Size::PAGE).min(whole);
        let to = length.map_or(whole, |l| from.saturating_add(l.pages()).min(whole));
        Ok(from as usize..to as usize)
    }

    fn fact(&mut self, actor: &str, fact: &Fact) -> Result<(), LedgerError> {
        match fact {
            Fact::Mapped {
                map,
                backing,
                pages,
            } => {
                // The guest is not trusted: 16 GiB of mapping is more than any case asks for.
                if *pages > 4 << 20 {
                    return Err(LedgerError::Range(map.clone(), 0, *pages));
                }
                // p2pmem_alloc_mmap() inserts every page.
                let p2pmem = *backing == Backing::P2pmem {};
                let slot = if p2pmem { Slot::Pte } else { Slot::None };
                let m = Map {
                    backing: backing.clone(),
                    slots: vec![slot; *pages as usize],
                    writable: vec![p2pmem; *pages as usize],
                    allowed: vec![true; *pages as usize],
                    pmds: BTreeSet::new(),
                    large_seen: BTreeSet::new(),
                    anon_vma: false,
                    looked_up: BTreeMap::new(),
                    swapped_out: BTreeSet::new(),
                    not_forked: Vec::new(),
                };
                self.maps.insert((actor.to_owned(), map.clone()), m);
            }
            Fact::Extents { file, extents } => self.blocks_are(file, extents),
            Fact::Touched {
                map,
                page,
                pages,
                write,
                faults,
                neighbours,
            } => {
                self.touched(actor, map, *page, *pages, *write, *faults, *neighbours)?;
            }
            // Judged by what was done, see `Ledger::judge`.
            Fact::Snapshot { .. } | Fact::Signalled { .. } => {}
            Fact::Large { map, pages } => self.observed_large(actor, map, pages)?,
            Fact::Pagemap { map, runs } => {
                let m = self.map_mut(actor, map)?;
                if m.backing == (Backing::P2pmem {}) && !m.looked_up.is_empty() {
                    return Ok(());
                }
                m.looked_up.clear();
                m.swapped_out.clear();
                for run in runs {
                    if let PagemapState::SwapPfn { .. } = run.state {
                        let end = run.page.saturating_add(run.pages).min(m.slots.len() as u64);
                        m.swapped_out.extend(run.page..end);
                    }
                    if let PagemapState::SwapPfn { pfn, .. } | PagemapState::Present { pfn } =
                        run.state
                    {
                        let end = run.page.saturating_add(run.pages).min(m.slots.len() as u64);
                        for page in run.page..end {
                            m.looked_up
                                .insert(page, pfn.saturating_add(page - run.page));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn is_on_xfs(&self, file: &str) -> bool {
        let namespace = namespace_of(file).map(str::to_owned);
        self.file_systems
            .get(&namespace)
            .is_some_and(|fs| fs == "xfs")
    }

    fn drop_actor(&mut self, actor: &str) {
        self.maps.retain(|(a, _), _| a != actor);
        self.pins.retain(|(a, _), _| a != actor);
        self.close_mirror(actor, None);
        self.evict_unlinked();
    }

    /// An unlinked file goes with its last mapping.
    fn evict_unlinked(&mut self) {
        let gone: Vec<String> = self
            .files
            .iter()
            .filter(|(name, f)| f.unlinked && !self.maps.values().any(|m| m.of_file(name)))
            .map(|(name, _)| name.clone())
            .collect();
        self.forget_files(&gone);
    }

    /// These files and all their entries are gone.
    fn forget_files(&mut self, names: &[String]) {
        for name in names {
            let entries = match self.files.remove(name) {
                Some(mut f) => f.drop_entries(0, u64::MAX),
                None => continue,
            };
            self.disassociated(&entries);
        }
    }

    /// The kind of DAX page behind a mapping; of anonymous memory, of what is on a device.
    fn page_type(&self, m: &Map) -> PageType {
        match m.backing {
            Backing::File { .. } => PageType::Fsdax,
            Backing::Device { .. } => PageType::Devdax,
            Backing::P2pmem {} => PageType::P2pdma,
            Backing::Anon { .. } => PageType::Private,
        }
    }

    /// The predicted frame of a page that GUP pins: it has an entry, or had one of 1G until the
    /// look that followed.
    fn pinned_pfn(&self, m: &Map, page: u64) -> Option<u64> {
        match &m.backing {
            Backing::Device {
                first_page,
                namespace,
            } if self.gigantic.contains(namespace) => self.device_pfn(namespace, first_page + page),
            _ => self.dax_pfn(m, page),
        }
    }

    /// The predicted frame of a page of a DAX mapping, where it has an entry.
    fn dax_pfn(&self, m: &Map, page: u64) -> Option<u64> {
        if !matches!(m.slots.get(page as usize)?, Slot::Pte | Slot::Pmd) {
            return None;
        }
        match &m.backing {
            Backing::File {
                file, first_page, ..
            } => self.files.get(file)?.pfn(first_page + page),
            Backing::Device {
                first_page,
                namespace,
            } => self.device_pfn(namespace, first_page + page),
            Backing::P2pmem {} => m.looked_up.get(&page).copied(),
            Backing::Anon { .. } => None,
        }
    }
}

fn is_coherent(device: u8) -> bool {
    device >= crate::op::COHERENT
}

/// The name of the namespace that a file lies on.
fn namespace_of(file: &str) -> Option<&str> {
    file.split_once('/').map(|(namespace, _)| namespace)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
