//! Calls that change an address space or a file.

use super::*;

fn span(map: &str, page: u64, pages: u64) -> (String, Size, Option<Size>) {
    (map.into(), Size(page * 4096), Some(Size(pages * 4096)))
}

/// `m` maps file `a`, 1024 pages from 0x1000 on, by two PMDs.
fn two_pmds(l: &mut Ledger) {
    created(l, "a", 1024, 0x1000);
    mapped(l, "main", "m", "a", 1024, false);
    touch(l, "main", "m", 0, 512, true, 1, None);
    touch(l, "main", "m", 512, 512, true, 1, None);
    assert_eq!(of(l, HoldBy::Pmd {}), [(0x1000, 1024)]);
}

#[test]
fn what_splits_a_vma_within_a_pmd_zaps_all_of_it() {
    let mut l = Ledger::default();
    two_pmds(&mut l);
    let mprotect = |page, pages| {
        let (map, offset, length) = span("m", page, pages);
        Op::Mprotect {
            map,
            offset,
            length,
            access: crate::Protection::Read,
        }
    };
    l.apply("main", &mprotect(16, 1), &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pmd {}), [(0x1200, 512)]);
    // On a boundary nothing is split.
    l.apply("main", &mprotect(512, 512), &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pmd {}), [(0x1200, 512)]);
    let (map, offset, length) = span("m", 512, 512);
    let op = Op::Unmap {
        map,
        offset,
        length,
    };
    l.apply("main", &op, &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pmd {}), []);
    assert_eq!(of(&l, HoldBy::Entry { order: 9 }).len(), 2);
    assert_eq!(l.maps_of("main"), ["m"]);
}

#[test]
fn mremap_keeps_a_pmd_only_at_a_huge_alignment() {
    let mut l = Ledger::default();
    two_pmds(&mut l);
    let to = |align| Op::Mremap {
        map: "m".into(),
        align: Size(align),
    };
    l.apply("main", &to(Size::PMD), &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pmd {}), [(0x1000, 1024)]);
    l.apply("main", &to(Size::PAGE), &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pmd {}), []);
}

#[test]
fn a_poisoned_page_goes_out_of_every_mapping_by_its_signal() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    for map in ["m", "n"] {
        mapped(&mut l, "main", map, "a", 4, false);
        touch(&mut l, "main", map, 0, 4, true, 4, Some(false));
    }
    let (map, offset, length) = span("m", 1, 1);
    let op = Op::Madvise {
        map,
        offset,
        length,
        advice: Advice::Hwpoison,
    };
    let signal = StepResult::Signal {
        signal: "SIGBUS".into(),
    };
    let told = |map: &str, code, page, lsb| {
        let map = map.into();
        let fact = Fact::Signalled {
            map,
            code,
            page,
            lsb,
        };
        l.judge("main", &op, &[fact])
    };
    assert_eq!(told("m", 4, 1, 12), None);
    assert_eq!(told("n", 4, 1, 12), None);
    assert_eq!(
        told("m", 4, 1, 21).unwrap(),
        "find the page at 4K of m in the signal as it must be: it tells si_code 4 \
         (BUS_MCEERR_AR is 4), page 1 of `m`, si_addr_lsb 21"
    );
    for (map, code, page) in [("m", 4, 0), ("m", 5, 1), ("", 4, 1), ("m", 4, 9)] {
        assert!(told(map, code, page, 12).is_some(), "{map} {code} {page}");
    }
    l.apply("main", &op, &signal, &[]).unwrap();
    assert_eq!(
        of(&l, HoldBy::Pte {}),
        [(0x1000, 1), (0x1000, 1), (0x1002, 2), (0x1002, 2)]
    );
}

#[test]
fn a_file_renamed_over_another_keeps_its_own_pages() {
    let mut l = Ledger::default();
    created(&mut l, "a", 2, 0x1000);
    created(&mut l, "b", 2, 0x2000);
    for file in ["a", "b"] {
        mapped(&mut l, "main", file, file, 2, false);
        touch(&mut l, "main", file, 0, 2, true, 2, Some(false));
    }
    let op = Op::Rename {
        file: "b".into(),
        to: "a".into(),
    };
    l.apply("main", &op, &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 2), (0x2000, 2)]);
    assert_eq!(l.file_of("main", "b"), Some("a"));
    let op = Op::Unmap {
        map: "a".into(),
        offset: Size(0),
        length: None,
    };
    l.apply("main", &op, &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Entry { order: 0 }), [(0x2000, 2)]);
}

#[test]
fn a_write_to_a_hole_takes_its_zero_page_away() {
    let mut l = Ledger::default();
    created(&mut l, "a", 0, 0);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, false, 4, Some(false));
    assert!(faults_in_the_zero_page(&l, "main", "m", 0, 4));
    let op = Op::Write {
        file: "a".into(),
        offset: Size(4096),
        length: Size(4096),
    };
    let fact = extents("a", &[(1, 1, 0x1001)]);
    l.apply("main", &op, &OK, &[fact]).unwrap();
    assert!(!faults_in_the_zero_page(&l, "main", "m", 1, 1));
    assert!(faults_in_the_zero_page(&l, "main", "m", 2, 2));
    assert_eq!(of(&l, HoldBy::Pte {}), []);
}

#[test]
fn a_shifted_range_takes_one_block_more_on_xfs() {
    for (fs, left) in [("ext4", 2), ("xfs", 1)] {
        let mut l = Ledger::default();
        l.apply(
            "main",
            &Op::Mkfs {
                fs: fs.into(),
                reflink: false,
                rmapbt: false,
                namespace: None,
            },
            &OK,
            &[],
        )
        .unwrap();
        created(&mut l, "a", 8, 0x1000);
        mapped(&mut l, "main", "m", "a", 8, false);
        touch(&mut l, "main", "m", 0, 8, true, 8, Some(false));
        let op = Op::Fallocate {
            file: "a".into(),
            mode: FallocateMode::CollapseRange,
            offset: Size(2 * 4096),
            length: Size(4096),
        };
        l.apply("main", &op, &OK, &[]).unwrap();
        assert_eq!(of(&l, HoldBy::Pte {}), []);
        assert_eq!(of(&l, HoldBy::Entry { order: 0 }), [(0x1000, left)], "{fs}");
    }
}
