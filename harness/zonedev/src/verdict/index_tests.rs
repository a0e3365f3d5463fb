//! `index`, as it must be and as mistakes in the kernel make it.

use guestmem::{PageKind, PageRun, PageState, Part};
use proto::{Hold, HoldBy, PageType};

use super::tests::contract;
use super::*;
use crate::record::testing::{checkpoint, hold, region, state};

const START: u64 = 0x100000;

/// The violations of pages that are read as `runs`.
fn violations(
    kind: PageKind,
    contract_name: &str,
    pages: u64,
    runs: &[(u64, u64, Option<u64>, PageState)],
    holds: Vec<Hold>,
) -> Vec<(String, String, Option<u64>, u64)> {
    let mut of = region(kind, "r", START, &vec![state(0); pages as usize]);
    of.runs = runs
        .iter()
        .map(|(at, pages, index, state)| PageRun {
            pfn: START + at,
            pages: *pages,
            index: *index,
            state: state.clone(),
        })
        .collect();
    let c = checkpoint("x", vec![of], holds);
    check(&c, &contract(contract_name))
        .violations
        .into_iter()
        .map(|v| (v.what, v.found, v.offset, v.pages))
        .collect()
}

fn in_file(at: u64, pages: u64, first: u64) -> [Hold; 2] {
    let of = |by| hold(START + at, pages, PageType::Fsdax, by, "a");
    [of(HoldBy::Entry { order: 0 }), of(HoldBy::Index { first })]
}

fn associated(refcount: i32) -> PageState {
    PageState {
        mapping_set: true,
        ..state(refcount)
    }
}

#[test]
fn pages_of_a_file_count_on_from_the_first() {
    // Two extents that lie beside each other the other way round.
    let holds = || [in_file(0, 3, 7), in_file(3, 2, 1)].concat();
    let read = |second| {
        let runs = [
            (0, 3, Some(7), associated(0)),
            (3, 2, Some(second), associated(0)),
            (5, 3, None, state(0)),
        ];
        violations(PageKind::FsDax, "7.3", 8, &runs, holds())
    };
    assert_eq!(read(1), []);
    // As if they were pages of the first extent.
    let wrong = ("index".into(), "+9 pages".into(), Some(3), 2);
    assert_eq!(read(10), [wrong]);
}

#[test]
fn of_a_folio_the_head_has_an_index() {
    let part = |part, refcount, mapping_set| PageState {
        part,
        order: 9,
        mapping_set,
        large_mapcount: (part == Part::Head).then_some(1),
        pincount: (part == Part::Head).then_some(0),
        ..state(refcount)
    };
    let read = |kind, refcount, page_type, by: &[HoldBy], index| {
        let runs = [
            (0, 1, Some(index), part(Part::Head, refcount, true)),
            (1, 511, None, part(Part::Tail, 0, true)),
        ];
        let holds = by.iter().map(|by| hold(START, 512, page_type, *by, "m"));
        let mut found = violations(kind, "7.3", 512, &runs, holds.collect());
        found.retain(|v| v.0 == "index");
        found
    };
    let file = [
        HoldBy::Pmd {},
        HoldBy::Entry { order: 9 },
        HoldBy::Index { first: 1024 },
    ];
    let wrong = |off: &str| [("index".to_owned(), off.to_owned(), Some(0), 1)];
    let (kind, of) = (PageKind::FsDax, PageType::Fsdax);
    assert_eq!(read(kind, 1, of, &file, 1024), []);
    assert_eq!(read(kind, 1, of, &file, 1025), wrong("+1 pages"));
    let device = [HoldBy::Pmd {}, HoldBy::Index { first: 512 }];
    let (kind, of) = (PageKind::Generic, PageType::Devdax);
    assert_eq!(read(kind, 2, of, &device, 512), []);
    // As 7fcbd9785d4c ("device-dax: correct pgoff align in dax_set_mapping()") found it.
    assert_eq!(read(kind, 2, of, &device, 1024), wrong("+512 pages"));
}

#[test]
fn folios_that_lie_beside_each_other_have_one_index_each() {
    let part = |part, refcount| PageState {
        part,
        order: 9,
        mapping_set: true,
        large_mapcount: (part == Part::Head).then_some(1),
        pincount: (part == Part::Head).then_some(0),
        ..state(refcount)
    };
    let read = |second| {
        let runs = [
            (0, 1, Some(512), part(Part::Head, 2)),
            (1, 511, None, part(Part::Tail, 0)),
            (512, 1, Some(second), part(Part::Head, 2)),
            (513, 511, None, part(Part::Tail, 0)),
        ];
        let of = |by| hold(START, 1024, PageType::Devdax, by, "m");
        let holds = [of(HoldBy::Pmd {}), of(HoldBy::Index { first: 512 })];
        let mut found = violations(PageKind::Generic, "7.3", 1024, &runs, holds.into());
        found.retain(|v| v.0 == "index");
        found
    };
    assert_eq!(read(1024), []);
    let wrong = ("index".to_owned(), "-512 pages".to_owned(), Some(512), 1);
    assert_eq!(read(512), [wrong]);
}

#[test]
fn shared_blocks_have_a_count_in_its_place() {
    let mut holds = in_file(0, 2, 0).to_vec();
    let shared = HoldBy::Shared { count: 2 };
    holds.push(hold(START, 2, PageType::Fsdax, shared, "shared blocks"));
    let s = PageState {
        share: Some(2),
        ..state(0)
    };
    let found = violations(PageKind::FsDax, "7.3", 2, &[(0, 2, None, s)], holds);
    assert_eq!(found, []);
}
