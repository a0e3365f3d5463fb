use super::*;
use crate::record::testing::{cell, checkpoint, region, state};
use guestmem::{PageKind, PageState, Part};

fn predicted(pfn: u64, pages: u64, refcount: i64, because: &str, held_by: &str) -> PredictedRun {
    PredictedRun {
        pfn,
        pages,
        refcount,
        mapcount: 0,
        large_mapcount: None,
        pincount: None,
        order: 0,
        part: Some(Part::Single),
        mapping: None,
        charged: None,
        exclusive: None,
        share: None,
        index: None,
        poisoned: Some(false),
        because: because.into(),
        held_by: held_by.into(),
    }
}

#[test]
fn prediction_beside_observation() {
    let mut states = vec![state(1); 64];
    states[9] = PageState {
        refcount: 3,
        mapping_set: true,
        ..state(0)
    };
    states[20].absent = true;
    let c = checkpoint(
        "held",
        vec![region(PageKind::FsDax, "name\u{7}space0.0", 0x200, &states)],
        vec![],
    );
    let p = [
        predicted(0x200, 8, 1, "idle 1", ""),
        predicted(
            0x208,
            4,
            1,
            "idle 1, 1 PTE counting 0",
            "a (entry), main/m (PTE)",
        ),
        predicted(0x20c, 40, 1, "idle 1", ""),
    ];
    let text = inspect(&cell("pin", 0, "5.10"), &c, &p, &Look::plain(100));
    insta::assert_snapshot!(text);
}

#[test]
fn heads_and_tails_are_folded() {
    let mut r = region(PageKind::Generic, "dax0.0", 0, &[]);
    r.pages = 512 * 100;
    for n in 0..100 {
        let head = PageState {
            part: Part::Head,
            order: 9,
            ..state(1)
        };
        let tail = PageState {
            part: Part::Tail,
            order: 9,
            ..state(0)
        };
        r.runs.push(guestmem::PageRun {
            pfn: n * 512,
            pages: 1,
            index: None,
            state: head,
        });
        r.runs.push(guestmem::PageRun {
            pfn: n * 512 + 1,
            pages: 511,
            index: None,
            state: tail,
        });
    }
    let c = checkpoint("idle", vec![r], vec![]);
    let text = inspect(&cell("map", 0, "7.3"), &c, &[], &Look::plain(100));
    assert!(text.contains("… these two 99 times more"), "{text}");
    assert!(text.contains("no prediction"));
    assert_eq!(text.lines().count(), 7, "{text}");
}
