//! Blocks that files share, and what counts as a sharer.

use super::*;
use crate::HoldBy;

fn counting(loads: bool, one: bool, drops: bool) -> Ledger {
    let mut l = Ledger::default();
    l.set_behaviour(Behaviour {
        share_counts_loads: loads,
        share_counts_one: one,
        layout_break_drops_entries: drops,
        ..Behaviour::default()
    });
    l
}

/// As 6.12 and as 7.3.
fn eras() -> [(&'static str, Ledger); 2] {
    [
        ("6.12", counting(true, true, false)),
        ("7.3", counting(true, false, true)),
    ]
}

fn clone(l: &mut Ledger, file: &str, to: &str, pages: u64, pfn: u64) {
    let op = Op::Clone {
        file: file.into(),
        to: to.into(),
        offset: Size(0),
        length: None,
        to_offset: Size(0),
    };
    let blocks = [(0, pages, pfn)];
    l.apply(
        "main",
        &op,
        &OK,
        &[extents(file, &blocks), extents(to, &blocks)],
    )
    .unwrap();
}

fn shares(l: &Ledger) -> Vec<(u64, u64, u64)> {
    l.holds()
        .iter()
        .filter_map(|h| match h.by {
            HoldBy::Shared { count } => Some((h.pfn, h.pages, count)),
            _ => None,
        })
        .collect()
}

/// Both files mapped, nothing loaded yet.
fn cloned(mut l: Ledger, pages: u64) -> Ledger {
    created(&mut l, "a", pages, 0x1000);
    clone(&mut l, "a", "b", pages, 0x1000);
    mapped(&mut l, "main", "m", "a", pages, false);
    mapped(&mut l, "main", "n", "b", pages, false);
    l
}

#[test]
fn a_clone_takes_the_pages_of_both_files_out_of_page_tables() {
    for (era, mut l) in eras() {
        created(&mut l, "a", 4, 0x1000);
        created(&mut l, "b", 4, 0x2000);
        mapped(&mut l, "main", "m", "a", 4, false);
        mapped(&mut l, "main", "n", "b", 4, false);
        touch(&mut l, "main", "m", 0, 4, true, 4, None);
        touch(&mut l, "main", "n", 0, 4, true, 4, None);
        clone(&mut l, "a", "b", 4, 0x1000);
        assert_eq!(of(&l, HoldBy::Pte {}), [], "{era}");
        // What the target had is gone; the source's entries go where breaking a layout takes them.
        let kept: &[_] = if era == "6.12" { &[(0x1000, 4)] } else { &[] };
        assert_eq!(of(&l, HoldBy::Entry { order: 0 }), kept, "{era}");
    }
}

#[test]
fn loads_of_shared_blocks_count_in_share() {
    for (era, l) in eras() {
        let mut l = cloned(l, 4);
        touch(&mut l, "main", "m", 0, 4, false, 4, None);
        let one: &[_] = if era == "6.12" {
            &[(0x1000, 4, 1)]
        } else {
            &[]
        };
        assert_eq!(shares(&l), one, "{era}");
        touch(&mut l, "main", "n", 0, 2, false, 2, None);
        assert_eq!(shares(&l)[0], (0x1000, 2, 2), "{era}");
        // share isn't what it was before the second one came.
        let op = Op::Truncate {
            file: "a".into(),
            size: Size(0),
        };
        l.apply("main", &op, &OK, &[extents("a", &[])]).unwrap();
        assert_eq!(shares(&l), [(0x1000, 2, 1)], "{era}");
    }
}

#[test]
fn without_counting_loads_no_load_is_a_sharer() {
    let mut l = cloned(counting(false, true, false), 4);
    touch(&mut l, "main", "m", 0, 4, false, 4, None);
    touch(&mut l, "main", "n", 0, 4, false, 4, None);
    assert_eq!(shares(&l), []);
}

#[test]
fn a_fault_of_a_shared_block_takes_it_from_other_mappings_of_its_file() {
    let mut l = cloned(counting(true, false, true), 4);
    mapped(&mut l, "main", "o", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, false, 4, None);
    touch(&mut l, "main", "n", 0, 4, false, 4, None);
    touch(&mut l, "main", "o", 1, 1, false, 1, None);
    let ptes: Vec<_> = l
        .holds()
        .into_iter()
        .filter(|h| h.by == HoldBy::Pte {})
        .map(|h| (h.who, h.pfn, h.pages))
        .collect();
    let expected = [
        ("main/m", 0x1000, 1),
        ("main/m", 0x1002, 2),
        ("main/n", 0x1000, 4),
        ("main/o", 0x1001, 1),
    ];
    let mut expected = expected.map(|(w, p, n)| (w.to_owned(), p, n)).to_vec();
    let mut ptes = ptes;
    ptes.sort();
    expected.sort();
    assert_eq!(ptes, expected);
    // The entry was made anew: as many as before.
    assert_eq!(shares(&l), [(0x1000, 4, 2)]);
}

#[test]
fn a_store_moves_a_shared_block() {
    for (era, l) in eras() {
        let mut l = cloned(l, 4);
        touch(&mut l, "main", "m", 0, 4, false, 4, None);
        touch(&mut l, "main", "n", 0, 4, false, 4, None);
        assert!(!l.has_blocks("main", "n", 1..2), "{era}");
        let op = Op::Touch {
            map: "n".into(),
            offset: Size(0x1000),
            length: Some(Size(0x1000)),
            write: true,
        };
        let facts = [
            extents("b", &[(0, 1, 0x1000), (1, 1, 0x2000), (2, 2, 0x1002)]),
            Fact::Touched {
                map: "n".into(),
                page: 1,
                pages: 1,
                write: true,
                faults: 1,
                neighbours: None,
            },
        ];
        l.apply("main", &op, &OK, &facts).unwrap();
        assert!(l.has_blocks("main", "n", 1..2), "{era}");
        assert_eq!(l.files["b"].entries[&1].pfn, 0x2000, "{era}");
        assert_eq!(l.files["a"].entries[&1].pfn, 0x1001, "{era}");
        // The copy came of a shared block, which 6.12 counts though nobody else has it.
        let mut expected = vec![(0x1000, 1, 2), (0x1001, 1, 1), (0x1002, 2, 2)];
        if era == "6.12" {
            expected.push((0x2000, 1, 1));
        }
        assert_eq!(shares(&l), expected, "{era}");
    }
}

#[test]
fn a_pin_keeps_a_clone_waiting_with_the_pinned_file_unmapped() {
    let mut l = counting(true, true, false);
    created(&mut l, "a", 4, 0x1000);
    created(&mut l, "b", 4, 0x2000);
    mapped(&mut l, "main", "m", "a", 4, false);
    mapped(&mut l, "main", "n", "b", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    touch(&mut l, "main", "n", 0, 4, true, 4, None);
    let pin = Op::Pin {
        pin: "p".into(),
        how: PinHow::Vmsplice,
        map: "m".into(),
        offset: Size(0),
        length: Size(0x1000),
    };
    l.apply("main", &pin, &OK, &[]).unwrap();
    let op = Op::Clone {
        file: "a".into(),
        to: "b".into(),
        offset: Size(0),
        length: None,
        to_offset: Size(0),
    };
    let blocked = StepResult::Blocked {
        wchan: "xfs_wait_dax_page".into(),
    };
    l.apply("other", &op, &blocked, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x2000, 4)]);
}

#[test]
fn poison_marks_a_page_and_unmaps_it() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    let poison = |undo| Op::Poison {
        file: Some("a".into()),
        namespace: None,
        offset: Size(0x2000),
        undo,
    };
    l.apply("main", &poison(false), &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Poison {}), [(0x1002, 1)]);
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 2), (0x1003, 1)]);
    // It stays marked when the file goes.
    let op = Op::Truncate {
        file: "a".into(),
        size: Size(0),
    };
    l.apply("main", &op, &OK, &[extents("a", &[])]).unwrap();
    assert_eq!(of(&l, HoldBy::Poison {}), [(0x1002, 1)]);
}

#[test]
fn a_detached_file_system_goes_with_its_last_mapping() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    created(&mut l, "b", 4, 0x2000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    let op = Op::Umount {
        namespace: None,
        lazy: true,
    };
    l.apply("main", &op, &OK, &[]).unwrap();
    assert_eq!(l.files.len(), 1);
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 4)]);
    let op = Op::Unmap {
        map: "m".into(),
        offset: Size(0),
        length: None,
    };
    l.apply("main", &op, &OK, &[]).unwrap();
    assert_eq!(l.holds(), []);
}
