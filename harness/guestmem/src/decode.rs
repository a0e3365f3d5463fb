//! Makes states of struct pages.
//!
//! Most pages equal the one before, so a page is first compared by the few words that make its
//! state, and only decoded where they differ.

use crate::layout::{OrderAt, PAGE_STRUCT, PageLayout, ShareRule};
use crate::pagetable::Virt;
use crate::pgmap::DevPagemap;
use crate::problems::Problems;
use crate::reading::{PageKind, PageRun, Part, ProblemKind};
use crate::runs::{FlagNames, Raw, Runs};
use std::ops::Range;

/// Bytes from a head on that hold its folio's fields: the head and three tails.
const FOLIO: usize = 4 * PAGE_STRUCT;
/// Largest order believed; x86_64 has folios of up to 1 GiB, order 18.
const MAX_ORDER: u8 = 18;

/// The words that make a page's state.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    flags: u64,
    head: u64,
    pgmap: u64,
    mapping_set: bool,
    share: Option<u64>,
    index: Option<u64>,
    charged: Option<bool>,
    mapcount: u32,
    refcount: u32,
}

/// The large folio that was met last.
#[derive(Clone, Copy)]
struct Folio {
    va: u64,
    end: u64,
    order: u8,
    mapping_set: bool,
    share: Option<u64>,
}

/// Decodes the pages of one region, in the order of their pfns.
pub(crate) struct Decoder<'a> {
    virt: &'a Virt<'a>,
    layout: &'a PageLayout,
    pgmap: u64,
    kind: PageKind,
    data: Range<u64>,
    flag_mask: u64,
    tail_mask: u64,
    runs: Runs,
    last: Option<Key>,
    folio: Option<Folio>,
    lookups_left: u32,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    word.map_or(0, |w| u64::from_le_bytes(*w))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    word.map_or(0, |w| u32::from_le_bytes(*w))
}

/// Whether a word is ones and then at least seven zeros, as a mask that leads from a tail to its
/// head is.
fn is_mask(word: u64) -> bool {
    word.leading_ones() + word.trailing_zeros() == 64 && word.trailing_zeros() >= 7
}

impl<'a> Decoder<'a> {
    /// A decoder of the pages `data` of a range of `map`, which reads at most `lookups_left` heads
    /// out of order.
    pub(crate) fn new(
        virt: &'a Virt<'a>,
        layout: &'a PageLayout,
        map: &DevPagemap,
        data: Range<u64>,
        lookups_left: u32,
    ) -> Decoder<'a> {
        let bits = |wanted: &dyn Fn(&str) -> bool| {
            let named = layout.flag_names.iter().filter(|(_, name)| wanted(name));
            named.fold(0, |mask, (bit, _)| mask | 1u64 << (bit & 63))
        };
        Decoder {
            virt,
            layout,
            pgmap: map.address,
            kind: map.kind,
            data,
            flag_mask: bits(&|_| true),
            tail_mask: bits(&|name| matches!(name, "reserved" | "hwpoison")),
            runs: Runs::default(),
            last: None,
            folio: None,
            lookups_left,
        }
    }

    /// How many runs there are so far.
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// How many heads may still be read out of order.
    pub(crate) fn lookups_left(&self) -> u32 {
        self.lookups_left
    }

    /// Adds pages in a state that needs no decoding.
    pub(crate) fn add(&mut self, pfn: u64, pages: u64, raw: Raw, names: &mut FlagNames) {
        self.last = None;
        self.runs.add(pfn, pages, raw, names);
    }

    /// All runs.
    pub(crate) fn finish(self, names: &mut FlagNames) -> Vec<PageRun> {
        self.runs.finish(names)
    }

    /// Decodes the struct pages in `bytes`, the first being that of `pfn`, at `va`.
    pub(crate) fn pages(
        &mut self,
        pfn: u64,
        va: u64,
        bytes: &[u8],
        problems: &mut Problems,
        names: &mut FlagNames,
    ) {
        for (i, page) in bytes.as_chunks::<PAGE_STRUCT>().0.iter().enumerate() {
            let pfn = pfn + i as u64;
            let key = self.key(page, pfn);
            let va = va.wrapping_add((i * PAGE_STRUCT) as u64);
            if self.last == Some(key) && self.goes_on(&key, pfn, va) {
                self.runs.again(1);
                continue;
            }
            let raw = if key.head & 1 == 1 {
                self.tail(&key, pfn, va, problems)
            } else {
                if key.pgmap != self.pgmap {
                    let what = format!(
                        "the page points to a pgmap at {:#x}, its range belongs to {:#x}",
                        key.pgmap, self.pgmap
                    );
                    problems.pages(ProblemKind::WrongPgmap, pfn, 1, &what);
                }
                let rest = &bytes[i * PAGE_STRUCT..];
                self.head_or_single(&key, pfn, va, rest)
            };
            self.runs.add(pfn, 1, raw, names);
            self.last = Some(key);
        }
    }

    fn key(&self, page: &[u8; PAGE_STRUCT], pfn: u64) -> Key {
        let l = self.layout;
        let (head, mapping) = (u64_at(page, l.head), u64_at(page, l.mapping));
        let index = u64_at(page, l.index);
        Key {
            flags: u64_at(page, l.flags) & self.flag_mask,
            head,
            pgmap: u64_at(page, l.pgmap),
            mapping_set: mapping != 0,
            share: self.share(mapping, index),
            index: self.index(head, mapping, index, pfn),
            charged: l
                .memcg
                .filter(|_| head & 1 == 0)
                .map(|at| u64_at(page, at) != 0),
            mapcount: u32_at(page, l.mapcount),
            refcount: u32_at(page, l.refcount),
        }
    }

    fn share(&self, mapping: u64, index: u64) -> Option<u64> {
        let shared = self.kind == PageKind::FsDax
            && match self.layout.share {
                ShareRule::None => false,
                ShareRule::MappingIsOne => mapping == 1,
                ShareRule::MappingIsNull => mapping == 0 && index != 0,
            };
        shared.then_some(index)
    }

    /// `index` less the frame number, wrapped: of a page or head of which `mapping` is an
    /// address_space, and the word not a tail's field, a count of sharers or an address of anonymous
    /// memory.
    fn index(&self, head: u64, mapping: u64, index: u64, pfn: u64) -> Option<u64> {
        let of_a_file = matches!(self.kind, PageKind::FsDax | PageKind::Generic)
            && head & 1 == 0
            && mapping != 0
            && self.share(mapping, index).is_none();
        of_a_file.then(|| index.wrapping_sub(pfn))
    }

    /// Whether a page whose words equal those of the page before is also in the same state: a
    /// single page is, a tail if it has the same head.
    fn goes_on(&self, key: &Key, pfn: u64, va: u64) -> bool {
        if key.head & 1 == 1 {
            self.folio
                .is_some_and(|f| pfn < f.end && f.va == head_of(key.head, va))
        } else {
            key.pgmap == self.pgmap && !self.is_head(key.flags)
        }
    }

    fn is_head(&self, flags: u64) -> bool {
        flags >> self.layout.head_bit & 1 == 1
    }

    fn head_or_single(&mut self, key: &Key, pfn: u64, va: u64, bytes: &[u8]) -> Raw {
        let mut raw = Raw {
            flags: key.flags,
            refcount: key.refcount.cast_signed(),
            mapcount: key.mapcount.cast_signed().wrapping_add(1),
            large_mapcount: None,
            pincount: None,
            order: 0,
            part: Part::Single,
            mapping_set: key.mapping_set,
            share: key.share,
            charged: key.charged,
            index: key.index,
            absent: false,
        };
        self.folio = None;
        if self.is_head(key.flags) {
            let folio = self.folio_bytes(va, bytes);
            let l = self.layout;
            raw.part = Part::Head;
            raw.order = self.order(&folio);
            raw.large_mapcount = l
                .large_mapcount
                .map(|at| u32_at(&folio, at).cast_signed().wrapping_add(1));
            raw.pincount = l
                .pincount
                .filter(|&(_, least)| raw.order >= least)
                .map(|(at, _)| u32_at(&folio, at).cast_signed());
            self.folio = Some(Folio {
                va,
                end: pfn + (1 << raw.order.min(MAX_ORDER)),
                order: raw.order,
                mapping_set: key.mapping_set,
                share: key.share,
            });
        }
        raw
    }

    fn tail(&mut self, key: &Key, pfn: u64, va: u64, problems: &mut Problems) -> Raw {
        let head = head_of(key.head, va);
        let known = self.folio.filter(|f| f.va == head && pfn < f.end);
        let folio = known.or_else(|| self.look_up(head, pfn, va));
        if folio.is_none() {
            let what = format!("the tail names {:#x} as its head", key.head);
            problems.pages(ProblemKind::WrongHead, pfn, 1, &what);
        }
        self.folio = folio;
        Raw {
            flags: key.flags & self.tail_mask,
            refcount: key.refcount.cast_signed(),
            mapcount: key.mapcount.cast_signed().wrapping_add(1),
            large_mapcount: None,
            pincount: None,
            order: folio.map_or(0, |f| f.order),
            part: Part::Tail,
            mapping_set: folio.is_some_and(|f| f.mapping_set),
            share: folio.and_then(|f| f.share),
            charged: None,
            index: None,
            absent: false,
        }
    }

    /// The folio whose head is at `head`, if that is a head before `pfn` and reaches it.
    fn look_up(&mut self, head: u64, pfn: u64, va: u64) -> Option<Folio> {
        self.lookups_left = self.lookups_left.checked_sub(1)?;
        let back = va.checked_sub(head)?;
        let first = pfn.checked_sub(back / PAGE_STRUCT as u64)?;
        if back == 0 || back % PAGE_STRUCT as u64 != 0 || !self.data.contains(&first) {
            return None;
        }
        let bytes = self.folio_bytes(head, &[]);
        let page = bytes.first_chunk::<PAGE_STRUCT>()?;
        let key = self.key(page, first);
        let order = self.order(&bytes);
        let end = first + (1 << order.min(MAX_ORDER));
        let fits = key.head & 1 == 0 && self.is_head(key.flags) && pfn < end;
        fits.then_some(Folio {
            va: head,
            end,
            order,
            mapping_set: key.mapping_set,
            share: key.share,
        })
    }

    /// The head at `va` and its first tails: from `bytes`, which start there, or from memory.
    /// What isn't there reads as zeros.
    fn folio_bytes(&self, va: u64, bytes: &[u8]) -> [u8; FOLIO] {
        let mut folio = [0; FOLIO];
        if let Some(whole) = bytes.first_chunk::<FOLIO>() {
            return *whole;
        }
        if self.virt.read(va, &mut folio).is_err() {
            folio.fill(0);
            let known = bytes.len().min(FOLIO);
            folio[..known].copy_from_slice(&bytes[..known]);
        }
        folio
    }

    fn order(&self, folio: &[u8; FOLIO]) -> u8 {
        let (OrderAt::Byte(at) | OrderAt::LowByteOfFlags(at)) = self.layout.order;
        // The low byte of a little-endian word is its first.
        folio.get(at).copied().unwrap_or(0)
    }
}

/// The address of the head that a tail at `va` names by `word`.
fn head_of(word: u64, va: u64) -> u64 {
    let info = word & !1;
    if is_mask(info) { va & info } else { info }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SparseImage;
    use crate::pagetable::Levels;
    use crate::reading::Problem;

    const MAP: u64 = 0xffff_8880_0100_0000;
    const VA: u64 = 0xffff_ea00_0400_0000;
    const PFN: u64 = 0x10_0000;

    /// The offsets that 7.3 has: pgmap and head share a word, the order is in the first tail's
    /// flags.
    fn layout(share: ShareRule) -> PageLayout {
        let names = [
            (0, "locked"),
            (3, "uptodate"),
            (6, "head"),
            (13, "reserved"),
        ];
        PageLayout {
            flags: 0,
            pgmap: 8,
            head: 8,
            mapping: 24,
            index: 32,
            mapcount: 48,
            refcount: 52,
            memcg: Some(56),
            order: OrderAt::LowByteOfFlags(64),
            large_mapcount: Some(64 + 16),
            pincount: Some((64 + 28, 1)),
            share,
            head_bit: 6,
            flag_names: names.map(|(bit, name)| (bit, name.to_owned())).into(),
        }
    }

    fn page(flags: u64, word: u64, mapping: u64, index: u64, refcount: i32) -> [u8; 64] {
        let mut page = [0; 64];
        for (at, value) in [(0, flags), (8, word), (24, mapping), (32, index)] {
            page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        page[48..52].copy_from_slice(&(-1i32).to_le_bytes());
        page[52..56].copy_from_slice(&refcount.to_le_bytes());
        page
    }

    fn decode(pages: &[[u8; 64]], share: ShareRule) -> (Vec<PageRun>, Vec<Problem>) {
        let nothing = SparseImage::default();
        let virt = Virt::new(&nothing, 0, Levels::Four);
        let layout = layout(share);
        let map = DevPagemap {
            address: MAP,
            kind: PageKind::FsDax,
            vmemmap_shift: 0,
            altmap: false,
            metadata: 0,
            ranges: vec![(PFN, pages.len() as u64)],
        };
        let end = PFN + pages.len() as u64;
        let mut decoder = Decoder::new(&virt, &layout, &map, PFN..end, 100);
        let mut problems = Problems::default();
        let mut names = FlagNames::new(&layout.flag_names);
        decoder.pages(PFN, VA, &pages.concat(), &mut problems, &mut names);
        (decoder.finish(&mut names), problems.finish())
    }

    /// A head and its tails of order 2, tails naming their head by `word`.
    fn folio(word: u64) -> Vec<[u8; 64]> {
        let mut pages = vec![page(1 << 6, MAP, 0xabc0, 7, 1)];
        // The first tail's flags hold the order, its other words the folio's counts.
        let mut first = page(1 << 13 | 2, word, 0, 0, 0);
        first[16..20].copy_from_slice(&2i32.to_le_bytes());
        first[28..32].copy_from_slice(&5i32.to_le_bytes());
        pages.push(first);
        pages.extend([page(1 << 13, word, 0xdead_0000_0000_0400, 0, 0); 2]);
        pages
    }

    #[test]
    fn tails_find_their_head_by_pointer_and_by_mask() {
        let mask = u64::MAX << (2 + 6);
        for words in [[VA | 1, (VA + 256) | 1], [mask | 1, mask | 1]] {
            let pages: Vec<_> = words.iter().flat_map(|&w| folio(w)).collect();
            let (runs, problems) = decode(&pages, ShareRule::MappingIsNull);
            assert_eq!(problems, []);
            let shape: Vec<_> = runs.iter().map(|r| (r.pages, r.state.part)).collect();
            assert_eq!(shape, [(1, Part::Head), (3, Part::Tail)].repeat(2));
            let head = &runs[0].state;
            assert_eq!((head.order, head.refcount, head.mapcount), (2, 1, 0));
            assert_eq!((head.large_mapcount, head.pincount), (Some(3), Some(5)));
            let tail = &runs[1].state;
            assert_eq!(
                (tail.order, tail.mapping_set, tail.pincount),
                (2, true, None)
            );
            // "locked" would be the order's lowest bits read as a flag.
            assert_eq!(tail.flags.iter().collect::<Vec<_>>(), ["reserved"]);
        }
    }

    #[test]
    fn the_index_of_a_file_goes_on_from_page_to_page() {
        let of = |index| page(0, MAP, 0xabc0, index, 1);
        let free = page(0, MAP, 0, 0, 0);
        let shared = page(0, MAP, 0, 2, 1);
        let mut pages = vec![of(7), of(8), of(9), of(3), of(4), free, shared];
        // In pages that a head begins: its tails have other fields there.
        pages.extend(folio((VA + 7 * 64) | 1));
        let (runs, problems) = decode(&pages, ShareRule::MappingIsNull);
        assert_eq!(problems, []);
        let read: Vec<_> = runs.iter().map(|r| (r.pages, r.index)).collect();
        let rest = [(1, None), (1, None), (1, Some(7)), (3, None)];
        assert_eq!(read, [&[(3, Some(7)), (2, Some(3))], &rest[..]].concat());
    }

    #[test]
    fn tails_of_a_head_elsewhere_are_told() {
        let mut pages = folio(VA | 1);
        pages.push(page(1 << 13, VA | 1, 0, 0, 0));
        pages.push(page(1 << 13, (VA + 0x10_0000) | 1, 0, 0, 0));
        pages.push(page(1 << 13, u64::MAX, 0, 0, 0));
        let (runs, problems) = decode(&pages, ShareRule::MappingIsNull);
        let kinds: Vec<_> = problems.iter().map(|p| (p.kind, p.pfn)).collect();
        let wrong = |i| (ProblemKind::WrongHead, Some(PFN + i));
        assert_eq!(kinds, [wrong(4), wrong(5), wrong(6)]);
        let last = runs.last().unwrap();
        assert_eq!(
            (last.pages, last.state.part, last.state.order),
            (3, Part::Tail, 0)
        );
    }

    #[test]
    fn a_page_of_another_pgmap_is_told() {
        let good = page(0, MAP, 0, 0, 1);
        let bad = page(0, MAP + 64, 0, 0, 1);
        let (runs, problems) = decode(&[good, bad, bad, good], ShareRule::None);
        assert_eq!(runs.len(), 1);
        assert_eq!(problems.len(), 1);
        let p = &problems[0];
        assert_eq!(
            (p.kind, p.pfn, p.pages),
            (ProblemKind::WrongPgmap, Some(PFN + 1), 2)
        );
    }

    #[test]
    fn sharing_is_told_as_each_era_keeps_it() {
        let pages = [
            page(0, MAP, 0, 0, 0),
            page(0, MAP, 0xabc0, 3, 1),
            page(0, MAP, 0xabc0, 4, 1),
            page(0, MAP, 1, 5, 1),
            page(0, MAP, 0, 2, 1),
        ];
        let shares = |rule| {
            let (runs, problems) = decode(&pages, rule);
            assert_eq!(problems, []);
            runs.into_iter()
                .map(|r| (r.pages, r.state.mapping_set, r.state.share))
                .collect::<Vec<_>>()
        };
        let idle = (1, false, None);
        assert_eq!(shares(ShareRule::None), [idle, (3, true, None), idle]);
        assert_eq!(
            shares(ShareRule::MappingIsOne),
            [idle, (2, true, None), (1, true, Some(5)), idle]
        );
        assert_eq!(
            shares(ShareRule::MappingIsNull),
            [idle, (3, true, None), (1, false, Some(2))]
        );
    }

    #[test]
    fn masks_and_pointers_are_told_apart() {
        let va = 0xffff_ea00_1234_0000 + 64 * 700;
        for order in 1..=18u32 {
            let mask = u64::MAX << (order + 6);
            assert_eq!(head_of(mask | 1, va), va & mask, "order {order}");
        }
        for pointer in [
            0xffff_ea00_0000_0000u64,
            0xffd4_0000_0000_0000,
            0xffff_ea00_1234_0000,
        ] {
            assert_eq!(head_of(pointer | 1, va), pointer);
        }
        assert_eq!(head_of(0xffff_ffff_ffff_ffff, va), 0xffff_ffff_ffff_fffe);
    }
}
