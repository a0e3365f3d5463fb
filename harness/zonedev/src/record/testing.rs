//! Records to test with.

use std::collections::BTreeMap;

use std::collections::BTreeSet;

use guestmem::{PageKind, PageRun, PageState, PagesReading, Part, Pgmap, Region};
use proto::{Checkpoint, Hold, HoldBy, NamespaceInfo, Op, Outcome, PageType, StepResult};

use super::{
    CellId, CellRecord, CheckpointRecord, End, LogLine, RECORD_VERSION, RunRecord, Splat,
    StepRecord,
};

pub(crate) fn state(refcount: i32) -> PageState {
    PageState {
        refcount,
        mapcount: 0,
        large_mapcount: None,
        pincount: None,
        order: 0,
        part: Part::Single,
        mapping_set: false,
        share: None,
        charged: None,
        flags: BTreeSet::from(["reserved".to_owned()]).into(),
        absent: false,
    }
}

/// Joins equal neighbours, as guestmem does.
pub(crate) fn runs(start: u64, states: &[PageState]) -> Vec<PageRun> {
    let mut out: Vec<PageRun> = Vec::new();
    for (pfn, state) in (start..).zip(states) {
        match out.last_mut() {
            Some(last) if last.state == *state => last.pages += 1,
            _ => out.push(PageRun {
                pfn,
                pages: 1,
                index: None,
                state: state.clone(),
            }),
        }
    }
    out
}

pub(crate) fn region(kind: PageKind, owner: &str, start_pfn: u64, states: &[PageState]) -> Region {
    Region {
        kind,
        owner: Some(owner.into()),
        start_pfn,
        pages: states.len() as u64,
        metadata_pages: 0,
        pgmap: Pgmap {
            address: 0,
            range: 0,
            ranges: 1,
            vmemmap_shift: 0,
            altmap: false,
        },
        runs: runs(start_pfn, states),
    }
}

pub(crate) fn hold(pfn: u64, pages: u64, page_type: PageType, by: HoldBy, who: &str) -> Hold {
    Hold {
        pfn,
        pages,
        page_type,
        by,
        who: who.into(),
    }
}

pub(crate) fn namespace(mode: &str, pfn: u64, pages: u64, align: u64) -> NamespaceInfo {
    NamespaceInfo {
        dev: "x".into(),
        name: String::new(),
        mode: mode.into(),
        resource: pfn * 4096,
        size: pages * 4096,
        align,
        ranges: Vec::new(),
    }
}

pub(crate) fn checkpoint(name: &str, regions: Vec<Region>, holds: Vec<Hold>) -> CheckpointRecord {
    CheckpointRecord {
        name: name.into(),
        step: 0,
        pages: PagesReading {
            regions,
            problems: Vec::new(),
        },
        claims: Checkpoint {
            holds,
            pins_in_ram: BTreeMap::new(),
            poison_unknown: false,
            mismatches: Vec::new(),
            counters: BTreeMap::new(),
            namespaces: Vec::new(),
        },
        rereads: 0,
        first: None,
        read_us: 0,
    }
}

pub(crate) fn step(op: Op, result: StepResult) -> StepRecord {
    StepRecord {
        actor: "main".into(),
        op,
        expected: "ok".into(),
        expected_splats: Vec::new(),
        every_splat: false,
        outcome: Some(Outcome {
            result,
            facts: Vec::new(),
            output: None,
            took_us: 7,
        }),
    }
}

pub(crate) fn cell(case: &str, side: usize, kernel: &str) -> CellRecord {
    CellRecord {
        id: CellId {
            suite: "fsdax".into(),
            fixture: "fsdax-ext4".into(),
            case: case.into(),
            side,
            kernel: kernel.into(),
        },
        title: "map a file and touch it".into(),
        accel: "tcg".into(),
        isolation: "clone".into(),
        contract: kernel.into(),
        end: End::Finished {},
        steps: Vec::new(),
        checkpoints: Vec::new(),
        log: Vec::new(),
        splats: Vec::new(),
        results: Vec::new(),
        known_failures: Vec::new(),
        repeats: None,
        hang: None,
        left: None,
        before: None,
        fixture_pages: Vec::new(),
        booted_in: None,
        took_ms: 80,
    }
}

pub(crate) fn log(text: &str, step: Option<usize>) -> LogLine {
    LogLine {
        time_us: Some(1),
        text: text.into(),
        step,
        caller: None,
    }
}

/// A report of which no more is known than its title.
pub(crate) fn splat(kind: &str, title: &str, lines: (usize, usize), step: Option<usize>) -> Splat {
    Splat {
        kind: kind.into(),
        title: title.into(),
        lines,
        others: Vec::new(),
        step,
        function: None,
        task: None,
        cpu: None,
        registers: BTreeMap::new(),
        trace: Vec::new(),
        page: None,
        cut: false,
    }
}

/// A run in which nothing happened.
pub(crate) fn run() -> RunRecord {
    RunRecord {
        version: RECORD_VERSION,
        id: "20261122-160000".into(),
        zonedev: "0.1.0".into(),
        started: "2026-11-22T16:00:00Z".into(),
        took_ms: 0,
        accel: "tcg".into(),
        accel_reason: None,
        qemu: "7.2.22".into(),
        kernels: Vec::new(),
        cells: Vec::new(),
        unfinished: Vec::new(),
        flaky: Vec::new(),
        pairs: Vec::new(),
        skips: Vec::new(),
        over_ceiling: Vec::new(),
        known: Vec::new(),
        pages_read: 0,
        pages_predicted: 0,
        boots_kept: 0,
        cpu_ms: Default::default(),
        phases_ms: BTreeMap::new(),
        notices: Vec::new(),
        exit_code: 0,
    }
}
