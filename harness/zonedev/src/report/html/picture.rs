//! The pages of a cell as a picture: across, stretches of pages that are alike at every checkpoint;
//! down, the checkpoints; in each field the state that was read beside the one that was predicted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use guestmem::{PageKind, PageRun, Region};
use serde::Serialize;

use super::cells::{Broken, Cells};
use crate::record::{CellRecord, PredictedRun, part_words, region_name};

/// Columns drawn of one region; of those behind, only the ones with something wrong.
const MAX_COLUMNS: usize = 240;
/// Columns with something wrong that are drawn beyond those.
const MAX_WRONG: usize = 120;
/// Counts told of a region at a checkpoint.
const MAX_COUNTS: usize = 6;

/// What was read and predicted of pages that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct State {
    /// Empty struct page: there is none, or it can't be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    absent: bool,
    read: Fields,
    /// `None`: nothing predicts these pages.
    predicted: Option<Fields>,
    /// Why that refcount.
    #[serde(skip_serializing_if = "String::is_empty")]
    because: String,
    /// What holds the pages.
    #[serde(skip_serializing_if = "String::is_empty")]
    held: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<Broken>,
}

/// The fields of a page; what is `None` is not there, or not predicted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
struct Fields {
    refcount: i64,
    mapcount: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    large_mapcount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pincount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charged: Option<bool>,
    /// `index` less the page's offset in the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poisoned: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    flags: String,
}

impl State {
    fn of(region: &Region, run: &PageRun, e: Option<&PredictedRun>, broken: Vec<Broken>) -> State {
        let s = &run.state;
        let ahead = |index: Option<u64>, pfn: u64| {
            let offset = i128::from(pfn) - i128::from(region.start_pfn);
            index.and_then(|i| i64::try_from(i128::from(i) - offset).ok())
        };
        let flags: Vec<&str> = s.flags.iter().map(String::as_str).collect();
        State {
            absent: s.absent,
            read: Fields {
                refcount: s.refcount.into(),
                mapcount: s.mapcount.into(),
                large_mapcount: s.large_mapcount.map(i64::from),
                pincount: s.pincount.map(i64::from),
                folio: (!s.absent).then(|| part_words(s.part, s.order)),
                mapping: Some(s.mapping_set),
                share: s.share,
                charged: s.charged,
                ahead: ahead(run.index, run.pfn),
                poisoned: Some(s.flags.contains("hwpoison")),
                flags: flags.join(" "),
            },
            predicted: e.map(|e| Fields {
                refcount: e.refcount,
                mapcount: e.mapcount,
                large_mapcount: e.large_mapcount,
                pincount: e.pincount,
                folio: e.part.map(|part| part_words(part, e.order)),
                mapping: e.mapping,
                share: e.share,
                charged: e.charged,
                ahead: ahead(e.index, e.pfn),
                poisoned: e.poisoned,
                flags: String::new(),
            }),
            because: e.map(|e| e.because.clone()).unwrap_or_default(),
            held: e.map(|e| e.held_by.clone()).unwrap_or_default(),
            broken,
        }
    }

    /// Not as predicted, or not predicted.
    fn wrong(&self) -> bool {
        self.absent || self.predicted.is_none() || !self.broken.is_empty()
    }
}

/// Stretches of pages, one after the other, so often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    /// Offset in the region, in pages; of the first one, where there are several.
    from: u64,
    /// 4K pages of one of them.
    pages: u64,
    /// A head and its tails come again and again: the two columns with the same `times` above 1
    /// stand for so many pairs.
    #[serde(skip_serializing_if = "is_one")]
    times: u64,
    /// By checkpoint the index of the state, or -1 where the region wasn't there.
    states: Vec<i32>,
}

fn is_one(n: &u64) -> bool {
    *n == 1
}

/// A region over all checkpoints.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Picture {
    /// Such as `namespace0.0 FS_DAX`.
    name: String,
    start_pfn: u64,
    pages: u64,
    /// Pages at its start that hold struct pages.
    metadata: u64,
    columns: Vec<Column>,
    /// Pages of columns that are left out.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
    /// Whether nothing holds a page of it, nothing differs and nothing changes.
    quiet: bool,
    /// By checkpoint: how many pages were read with which refcount, most first, and how many of
    /// them are not as predicted.
    counts: Vec<Vec<(i64, u64, u64)>>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Sums over the pages that something held, or that changed or differed, at any checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    refcount: i64,
    predicted: i64,
    mapcount: i64,
}

/// What a cell's pages are drawn from.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pictures {
    pub(super) states: Vec<State>,
    pub(super) regions: Vec<Picture>,
    /// How many pages `sums` are over.
    pub(super) watched: u64,
    /// By checkpoint.
    pub(super) sums: Vec<Sums>,
    /// By checkpoint: pages read, and with a prediction.
    pub(super) read: Vec<(u64, u64)>,
}

/// The states met so far.
#[derive(Default)]
struct Interned {
    states: Vec<State>,
    known: HashMap<State, i32>,
}

impl Interned {
    fn index(&mut self, state: State) -> i32 {
        if let Some(i) = self.known.get(&state) {
            return *i;
        }
        let i = i32::try_from(self.states.len()).unwrap_or(i32::MAX);
        self.states.push(state.clone());
        self.known.insert(state, i);
        i
    }

    fn get(&self, index: i32) -> Option<&State> {
        usize::try_from(index).ok().and_then(|i| self.states.get(i))
    }
}

/// Offset, pages and state of a stretch at one checkpoint.
type Stretch = (u64, u64, i32);

/// Draws every region of a cell. `predicted` holds one list for each checkpoint.
pub(super) fn pictures(
    cell: &CellRecord,
    predicted: &[Vec<PredictedRun>],
    cells: &dyn Cells,
) -> Pictures {
    let checkpoints = cell.checkpoints.len();
    let mut interned = Interned::default();
    let mut order: Vec<Key> = Vec::new();
    let mut stretches: HashMap<Key, Vec<Option<Vec<Stretch>>>> = HashMap::new();
    let mut out = Pictures {
        sums: vec![Sums::default(); checkpoints],
        read: vec![(0, 0); checkpoints],
        ..Pictures::default()
    };
    for (n, checkpoint) in cell.checkpoints.iter().enumerate() {
        let predicted = predicted.get(n).map_or(&[][..], Vec::as_slice);
        for region in &checkpoint.pages.regions {
            let key = Key::of(region);
            let of_region = stretches.entry(key.clone()).or_insert_with(|| {
                order.push(key);
                vec![None; checkpoints]
            });
            let read = beside(region, predicted, cells, &mut interned);
            for (_, pages, state) in &read {
                out.read[n].0 = out.read[n].0.saturating_add(*pages);
                let known = interned
                    .get(*state)
                    .is_some_and(|s| s.predicted.is_some() && !s.absent);
                out.read[n].1 = out.read[n].1.saturating_add(if known { *pages } else { 0 });
            }
            of_region[n] = Some(read);
        }
    }
    for key in order {
        let Some(read) = stretches.remove(&key) else {
            continue;
        };
        out.regions
            .push(key.draw(&read, &interned, &mut out.sums, &mut out.watched));
    }
    out.states = interned.states;
    out
}

/// What makes two regions the same at two checkpoints.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: PageKind,
    name: String,
    start_pfn: u64,
    pages: u64,
    metadata: u64,
}

impl Key {
    fn of(region: &Region) -> Key {
        Key {
            kind: region.kind,
            name: region_name(region),
            start_pfn: region.start_pfn,
            pages: region.pages,
            metadata: region.metadata_pages,
        }
    }

    fn draw(
        self,
        read: &[Option<Vec<Stretch>>],
        interned: &Interned,
        sums: &mut [Sums],
        watched: &mut u64,
    ) -> Picture {
        let columns = columns(read);
        let mut quiet = true;
        for column in &columns {
            if !is_watched(column, interned) {
                continue;
            }
            quiet = false;
            *watched = watched.saturating_add(column.pages);
            for (sum, state) in sums.iter_mut().zip(&column.states) {
                let Some(state) = interned.get(*state).filter(|s| !s.absent) else {
                    continue;
                };
                let pages = i64::try_from(column.pages).unwrap_or(i64::MAX);
                let add = |to: &mut i64, n: i64| *to = to.saturating_add(pages.saturating_mul(n));
                add(&mut sum.refcount, state.read.refcount);
                add(&mut sum.mapcount, state.read.mapcount);
                let predicted = state.predicted.as_ref().map_or(0, |p| p.refcount);
                add(&mut sum.predicted, predicted);
            }
        }
        let counts = read
            .iter()
            .map(|at| at.as_ref().map_or_else(Vec::new, |at| counts(at, interned)))
            .collect();
        let (columns, left_out) = shown(folded(columns), interned);
        Picture {
            name: self.name,
            start_pfn: self.start_pfn,
            pages: self.pages,
            metadata: self.metadata,
            columns,
            left_out,
            quiet,
            counts,
        }
    }
}

/// Whether anything happens to its pages, as far as the checkpoints see.
fn is_watched(column: &Column, interned: &Interned) -> bool {
    let there = || column.states.iter().filter(|s| **s >= 0);
    let first = there().next();
    there().any(|s| Some(s) != first)
        || there().any(|s| {
            let state = interned.get(*s);
            state.is_some_and(|s| !s.held.is_empty() || s.wrong())
        })
}

/// A region's runs cut where the prediction changes, in order.
fn beside(
    region: &Region,
    predicted: &[PredictedRun],
    cells: &dyn Cells,
    interned: &mut Interned,
) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    let mut p = predicted.partition_point(|e| e.pfn.saturating_add(e.pages) <= region.start_pfn);
    for run in &region.runs {
        let end = run.pfn.saturating_add(run.pages);
        let mut at = run.pfn;
        while at < end {
            let over = |e: &PredictedRun| e.pfn.saturating_add(e.pages) <= at;
            while predicted.get(p).is_some_and(over) {
                p += 1;
            }
            let e = predicted.get(p).filter(|e| e.pfn <= at);
            let to = match (e, predicted.get(p)) {
                (Some(e), _) => e.pfn.saturating_add(e.pages).min(end),
                (None, Some(next)) => next.pfn.min(end),
                (None, None) => end,
            };
            let broken = match e {
                Some(e) if !run.state.absent => cells.broken(run, e),
                _ => Vec::new(),
            };
            let state = interned.index(State::of(region, run, e, broken));
            let from = at.saturating_sub(region.start_pfn);
            match out.last_mut() {
                Some(last) if last.2 == state && last.0 + last.1 == from => last.1 += to - at,
                _ => out.push((from, to - at, state)),
            }
            at = to;
        }
    }
    out
}

/// The stretches of all checkpoints cut at each other's borders; neighbours that are alike at every
/// checkpoint are one.
fn columns(read: &[Option<Vec<Stretch>>]) -> Vec<Column> {
    let borders: BTreeSet<u64> = read
        .iter()
        .flatten()
        .flatten()
        .flat_map(|(from, pages, _)| [*from, from.saturating_add(*pages)])
        .collect();
    let mut at = vec![0; read.len()];
    let mut out: Vec<Column> = Vec::new();
    for (from, to) in borders.iter().zip(borders.iter().skip(1)) {
        let states: Vec<i32> = read
            .iter()
            .zip(&mut at)
            .map(|(read, at)| {
                let Some(read) = read else { return -1 };
                while read
                    .get(*at)
                    .is_some_and(|(f, n, _)| f.saturating_add(*n) <= *from)
                {
                    *at += 1;
                }
                let here = read.get(*at).filter(|(f, _, _)| f <= from);
                here.map_or(-1, |(_, _, state)| *state)
            })
            .collect();
        if states.iter().all(|s| *s < 0) {
            continue;
        }
        match out.last_mut() {
            Some(last) if last.states == states && last.from + last.pages == *from => {
                last.pages += to - from;
            }
            _ => out.push(Column {
                from: *from,
                pages: to - from,
                times: 1,
                states,
            }),
        }
    }
    out
}

/// Pairs that come again right behind each other (a head and its tails do) become one pair.
fn folded(columns: Vec<Column>) -> Vec<Column> {
    let alike = |a: &Column, b: &Column| (a.pages, &a.states) == (b.pages, &b.states);
    let mut out: Vec<Column> = Vec::new();
    let mut i = 0;
    while let Some(first) = columns.get(i) {
        let Some(second) = columns.get(i + 1) else {
            out.push(first.clone());
            break;
        };
        let again = columns[i + 2..]
            .chunks_exact(2)
            .take_while(|pair| alike(&pair[0], first) && alike(&pair[1], second))
            .count();
        if again == 0 {
            out.push(first.clone());
            i += 1;
            continue;
        }
        for column in [first, second] {
            out.push(Column {
                times: again as u64 + 1,
                ..column.clone()
            });
        }
        i += 2 + 2 * again;
    }
    out
}

/// As many columns as are drawn, and how many pages the others have.
fn shown(columns: Vec<Column>, interned: &Interned) -> (Vec<Column>, u64) {
    let wrong = |c: &Column| {
        let mut states = c.states.iter().filter_map(|s| interned.get(*s));
        states.any(State::wrong)
    };
    let (mut out, mut left_out, mut beyond) = (Vec::new(), 0u64, 0);
    for column in columns {
        if out.len() < MAX_COLUMNS || (beyond < MAX_WRONG && wrong(&column)) {
            beyond += usize::from(out.len() >= MAX_COLUMNS);
            out.push(column);
        } else {
            left_out = left_out.saturating_add(column.pages.saturating_mul(column.times));
        }
    }
    (out, left_out)
}

fn counts(read: &[Stretch], interned: &Interned) -> Vec<(i64, u64, u64)> {
    let mut by: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for (_, pages, state) in read {
        let Some(state) = interned.get(*state).filter(|s| !s.absent) else {
            continue;
        };
        let one = by.entry(state.read.refcount).or_default();
        one.0 = one.0.saturating_add(*pages);
        one.1 = one.1.saturating_add(if state.wrong() { *pages } else { 0 });
    }
    let mut out: Vec<(i64, u64, u64)> = by.into_iter().map(|(n, (p, w))| (n, p, w)).collect();
    // What is wrong is never left out for what is many.
    out.sort_by_key(|(n, pages, wrong)| (*wrong == 0, std::cmp::Reverse(*pages), *n));
    out.truncate(MAX_COUNTS);
    out.sort_by_key(|(n, pages, _)| (std::cmp::Reverse(*pages), *n));
    out
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
