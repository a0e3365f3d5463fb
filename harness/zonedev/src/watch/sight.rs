//! A guest's pages as they were read, each stretch told from idle ones by the kernel's contract.
//!
//! Nobody keeps book of what a person does in a shell, so nothing is predicted here but what an idle
//! page looks like. What a page that is not is used for is read off its counts.

use std::collections::BTreeMap;

use guestmem::{PageState, PagesReading, Part, Region};
use proto::Checkpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::wire::About;
use crate::record::{CheckpointRecord, PredictedRun, part_words, region_name};
use crate::spec::Contract;
use crate::verdict;

/// Rows that are told of one reading; what is behind them is counted.
const MAX_ROWS: usize = 1 << 14;
/// FOLL_PIN on a single page: GUP_PIN_COUNTING_BIAS (include/linux/mm.h).
const PIN_BIAS: i64 = 1024;

/// What a page is used for, as its counts say; the order is that of what stands out.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// As the contract has a page that nobody uses.
    Idle,
    /// Its counts are an idle page's, and a file has it in its cache (`mapping`, `share`); up to 6.14
    /// a mapping of an fsdax page counts nowhere, and looks so, too.
    Entry,
    /// It counts mappings.
    Mapped,
    /// It has more references than mappings account for.
    Held,
    /// It is pinned by FOLL_PIN.
    Pinned,
    /// It has fewer references than an idle page.
    Below,
    /// The HWPoison flag is set.
    Poisoned,
    /// There is no struct page.
    Absent,
    /// The contract says nothing of such pages.
    Unknown,
}

impl Class {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Class::Idle => "idle",
            Class::Entry => "in a file",
            Class::Mapped => "mapped",
            Class::Held => "held",
            Class::Pinned => "pinned",
            Class::Below => "below idle",
            Class::Poisoned => "poisoned",
            Class::Absent => "absent",
            Class::Unknown => "unknown",
        }
    }
}

/// One look at a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sight {
    /// Which guest.
    pub about: About,
    /// Which look of its harness, from 1.
    pub number: u64,
    /// Milliseconds that the harness has had the guest.
    pub at_ms: u64,
    /// Microseconds that reading took. The guest stood still meanwhile, unless a debugger holds it.
    pub took_us: u64,
    /// QEMU's word where it does not run: `debug`, `shutdown` …
    pub stands: Option<String>,
    /// Its ranges of ZONE_DEVICE pages, ascending.
    pub regions: Vec<SightRegion>,
    /// What could not be read, in words; the guest's are escaped.
    pub problems: Vec<String>,
    /// Pages in rows that are left out.
    pub left_out: u64,
    /// The last lines of its kernel's log. The guest's words, escaped.
    pub log: Vec<String>,
}

/// One range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SightRegion {
    /// Owner and type, such as `namespace0.0 FS_DAX`. The guest's words, escaped.
    pub name: String,
    /// First page frame number, metadata included.
    pub start_pfn: u64,
    /// 4K pages, without metadata.
    pub pages: u64,
    /// Pages by class.
    pub classes: BTreeMap<Class, u64>,
    /// Stretches of equal pages, ascending, idle ones too.
    pub rows: Vec<Row>,
}

/// A stretch of pages that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The first page, from the range's start.
    pub offset: u64,
    /// 4K pages.
    pub pages: u64,
    /// What they are used for.
    pub class: Class,
    /// `_refcount`.
    pub refcount: i64,
    /// The same of an idle page.
    pub idle_refcount: Option<i64>,
    /// Mappings that the page or, for a head, its folio counts.
    pub mapcount: i64,
    /// `_pincount`, of heads.
    pub pincount: Option<i64>,
    /// What else is to be said: the part of a folio, `mapping`, `share`, flags.
    pub state: String,
}

impl Row {
    /// One past its last page.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.pages)
    }

    /// Alike but for the place.
    pub fn like(&self, other: &Row) -> bool {
        let of = |r: &Row| {
            let counts = (r.refcount, r.idle_refcount, r.mapcount, r.pincount);
            (r.class, counts, r.state.clone())
        };
        of(self) == of(other)
    }
}

/// What a reading shows. The caller fills in the rest.
pub fn sight(about: &About, reading: PagesReading, contract: &Contract) -> Sight {
    // Without claims, the prediction is that of idle pages.
    let checkpoint = CheckpointRecord {
        name: String::new(),
        step: 0,
        pages: reading,
        claims: Checkpoint::default(),
        rereads: 0,
        first: None,
        read_us: 0,
    };
    let idle = verdict::predict(&checkpoint, contract);
    let mut left = MAX_ROWS;
    let mut left_out = 0;
    let regions = checkpoint.pages.regions.iter();
    let regions = regions
        .map(|region| {
            let mut rows = rows(region, &idle);
            let mut classes = BTreeMap::new();
            for row in &rows {
                *classes.entry(row.class).or_default() += row.pages;
            }
            left_out += rows.iter().skip(left).map(|r| r.pages).sum::<u64>();
            rows.truncate(left);
            left -= rows.len();
            SightRegion {
                name: proto::text::excerpt(&region_name(region), 80),
                start_pfn: region.start_pfn,
                pages: region.pages.saturating_sub(region.metadata_pages),
                classes,
                rows,
            }
        })
        .collect();
    let problems = checkpoint.pages.problems.iter().take(20);
    Sight {
        about: about.clone(),
        number: 0,
        at_ms: 0,
        took_us: 0,
        stands: None,
        regions,
        problems: problems
            .map(|p| proto::text::excerpt(&p.what, 300))
            .collect(),
        left_out,
        log: Vec::new(),
    }
}

fn rows(region: &Region, idle: &[PredictedRun]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut head = Class::Idle;
    let mut p = idle.partition_point(|e| e.pfn.saturating_add(e.pages) <= region.start_pfn);
    for run in &region.runs {
        let end = run.pfn.saturating_add(run.pages);
        let mut at = run.pfn;
        while at < end {
            while idle
                .get(p)
                .is_some_and(|e| e.pfn.saturating_add(e.pages) <= at)
            {
                p += 1;
            }
            let e = idle.get(p).filter(|e| e.pfn <= at);
            let to = match (e, idle.get(p)) {
                (Some(e), _) => e.pfn.saturating_add(e.pages).min(end),
                (None, Some(next)) => next.pfn.min(end),
                (None, None) => end,
            };
            let row = row(region, &run.state, e, (at, to), head);
            if run.state.part != Part::Tail {
                head = row.class;
            }
            match rows.last_mut() {
                Some(last) if last.end() == row.offset && last.like(&row) => {
                    last.pages += row.pages
                }
                _ => rows.push(row),
            }
            at = to;
        }
    }
    rows
}

/// `head`: what the folio's head is used for, if the pages are tails.
fn row(
    region: &Region,
    state: &PageState,
    idle: Option<&PredictedRun>,
    (at, to): (u64, u64),
    head: Class,
) -> Row {
    let own = class(state, idle);
    // A tail counts nothing of what its folio is used for.
    let tail = state.part == Part::Tail && matches!(own, Class::Idle | Class::Entry);
    Row {
        offset: at.saturating_sub(region.start_pfn),
        pages: to - at,
        class: if tail { own.max(head) } else { own },
        refcount: i64::from(state.refcount),
        idle_refcount: idle.map(|e| e.refcount),
        mapcount: i64::from(state.large_mapcount.unwrap_or(state.mapcount)),
        pincount: state.pincount.map(i64::from),
        state: words(state),
    }
}

fn class(s: &PageState, idle: Option<&PredictedRun>) -> Class {
    if s.absent {
        return Class::Absent;
    }
    if s.flags.contains("hwpoison") {
        return Class::Poisoned;
    }
    let Some(idle) = idle else {
        return Class::Unknown;
    };
    let mappings = i64::from(s.large_mapcount.unwrap_or(s.mapcount));
    let more = i64::from(s.refcount) - idle.refcount;
    if s.pincount.is_some_and(|n| n > 0) || more >= PIN_BIAS {
        Class::Pinned
    } else if more < 0 {
        Class::Below
    } else if more > mappings.max(0) {
        Class::Held
    } else if mappings > idle.mapcount.max(0) {
        Class::Mapped
    } else if (s.mapping_set && idle.mapping == Some(false)) || s.share.is_some_and(|n| n > 0) {
        Class::Entry
    } else {
        Class::Idle
    }
}

/// What the columns of counts don't say. Single pages with no more are empty.
fn words(s: &PageState) -> String {
    if s.absent {
        return "no struct page".to_owned();
    }
    let mut out = Vec::new();
    if s.part != Part::Single || s.order > 0 {
        let words = part_words(s.part, s.order);
        out.push(words.trim_start_matches("a ").to_owned());
    }
    if s.mapping_set {
        out.push("mapping".to_owned());
    }
    if let Some(n) = s.share {
        out.push(format!("shared by {n}"));
    }
    // Every page of a device is reserved, and a head was told.
    let flags = s.flags.iter();
    let flags = flags.filter(|f| !["reserved", "head"].contains(&f.as_str()));
    out.extend(flags.map(|f| proto::text::excerpt(f, 20)));
    out.join(", ")
}

#[cfg(test)]
#[path = "sight_tests.rs"]
mod tests;
