use super::*;
use crate::{DeviceRange, FallocateMode, HoldBy, PagemapRun};

const OK: StepResult = StepResult::Ok {};

fn mapped(l: &mut Ledger, actor: &str, map: &str, file: &str, pages: u64, private: bool) {
    let op = Op::MapFile {
        map: map.into(),
        file: file.into(),
        offset: Size(0),
        length: Size(pages * 4096),
        private,
        sync: false,
        populate: false,
        align: Size(4096),
    };
    let fact = Fact::Mapped {
        map: map.into(),
        backing: Backing::File {
            file: file.into(),
            first_page: 0,
            private,
        },
        pages,
    };
    l.apply(actor, &op, &OK, &[fact]).unwrap();
}

/// Where a file's blocks are: first page, pages, first frame.
fn extents(file: &str, of: &[(u64, u64, u64)]) -> Fact {
    Fact::Extents {
        file: file.into(),
        extents: of
            .iter()
            .map(|&(page, pages, pfn)| Extent { page, pages, pfn })
            .collect(),
    }
}

fn created(l: &mut Ledger, file: &str, pages: u64, pfn: u64) {
    let op = Op::Create {
        file: file.into(),
        size: Size(pages * 4096),
    };
    l.apply("main", &op, &OK, &[extents(file, &[(0, pages, pfn)])])
        .unwrap();
}

#[allow(clippy::too_many_arguments)]
fn touch(
    l: &mut Ledger,
    actor: &str,
    map: &str,
    page: u64,
    pages: u64,
    write: bool,
    faults: u64,
    neighbours: Option<bool>,
) {
    let op = Op::Touch {
        map: map.into(),
        offset: Size(page * 4096),
        length: Some(Size(pages * 4096)),
        write,
    };
    let fact = Fact::Touched {
        map: map.into(),
        page,
        pages,
        write,
        faults,
        neighbours,
    };
    l.apply(actor, &op, &OK, &[fact]).unwrap();
}

fn of(l: &Ledger, by: HoldBy) -> Vec<(u64, u64)> {
    l.holds()
        .iter()
        .filter(|h| h.by == by)
        .map(|h| (h.pfn, h.pages))
        .collect()
}

#[test]
fn a_touch_loop_with_one_fault_is_a_pmd() {
    let mut l = Ledger::default();
    created(&mut l, "a", 512, 0x1000);
    mapped(&mut l, "main", "m", "a", 512, false);
    touch(&mut l, "main", "m", 0, 512, true, 1, None);
    assert_eq!(of(&l, HoldBy::Pmd {}), [(0x1000, 512)]);
    assert_eq!(of(&l, HoldBy::Entry { order: 9 }), [(0x1000, 512)]);
}

#[test]
fn a_touch_loop_with_a_fault_for_each_page_is_ptes() {
    let mut l = Ledger::default();
    created(&mut l, "a", 512, 0x1000);
    mapped(&mut l, "main", "m", "a", 512, false);
    touch(&mut l, "main", "m", 0, 512, true, 512, None);
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 512)]);
    assert_eq!(of(&l, HoldBy::Entry { order: 0 }), [(0x1000, 512)]);
}

#[test]
fn one_page_touched_is_judged_by_its_neighbours() {
    for (neighbours, by) in [(true, HoldBy::Pmd {}), (false, HoldBy::Pte {})] {
        let mut l = Ledger::default();
        created(&mut l, "a", 512, 0x1000);
        mapped(&mut l, "main", "m", "a", 512, false);
        touch(&mut l, "main", "m", 3, 1, true, 1, Some(neighbours));
        let pages = if neighbours {
            (0x1000, 512)
        } else {
            (0x1003, 1)
        };
        assert_eq!(of(&l, by), [pages]);
    }
}

#[test]
fn a_child_holds_nothing_of_a_shared_mapping_until_it_touches() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    l.apply(
        "main",
        &Op::Fork {
            child: "child".into(),
        },
        &OK,
        &[],
    )
    .unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 4)]);
    touch(&mut l, "child", "m", 0, 2, false, 2, Some(false));
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 2), (0x1000, 4)]);
    l.apply("child", &Op::Exit {}, &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 4)]);
}

#[test]
fn a_private_copy_lets_its_dax_page_go() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, true);
    touch(&mut l, "main", "m", 0, 4, false, 4, None);
    touch(&mut l, "main", "m", 1, 1, true, 1, None);
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 1), (0x1002, 2)]);
    // fork() copies the entries of a mapping that has copies.
    l.apply("main", &Op::Fork { child: "c".into() }, &OK, &[])
        .unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}).len(), 4);
}

#[test]
fn a_truncate_that_waits_has_unmapped_but_keeps_the_entries() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    let pin = Op::Pin {
        pin: "p".into(),
        how: PinHow::Vmsplice,
        map: "m".into(),
        offset: Size(4096),
        length: Size(4096),
    };
    l.apply("main", &pin, &OK, &[]).unwrap();
    let cut = Op::Truncate {
        file: "a".into(),
        size: Size(0),
    };
    let wchan = "ext4_break_layouts".to_owned();
    l.apply("b", &cut, &StepResult::Blocked { wchan }, &[])
        .unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), []);
    assert_eq!(of(&l, HoldBy::Entry { order: 0 }), [(0x1000, 4)]);
    assert_eq!(
        of(
            &l,
            HoldBy::Pin {
                how: PinHow::Vmsplice
            }
        ),
        [(0x1001, 1)]
    );
    l.apply("main", &Op::Release { pin: "p".into() }, &OK, &[])
        .unwrap();
    l.apply("b", &cut, &OK, &[extents("a", &[])]).unwrap();
    assert_eq!(l.holds(), []);
}

#[test]
fn blocks_given_away_under_a_pin_are_told() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    let pin = Op::Pin {
        pin: "p".into(),
        how: PinHow::Vmsplice,
        map: "m".into(),
        offset: Size(4096),
        length: Size(8192),
    };
    l.apply("main", &pin, &OK, &[]).unwrap();
    // A copy by reference shares blocks with the file that still has them.
    created(&mut l, "shares", 4, 0x1000);
    assert_eq!(l.reused(), []);
    for file in ["shares", "a"] {
        l.apply("main", &Op::Unlink { file: file.into() }, &OK, &[])
            .unwrap();
    }
    let unmap = Op::Unmap {
        map: "m".into(),
        offset: Size(0),
        length: None,
    };
    l.apply("main", &unmap, &OK, &[]).unwrap();
    assert_eq!(l.reused(), [], "free blocks are no one's");
    // Also where the new file has the old one's name.
    created(&mut l, "a", 2, 0x1002);
    let told = l.reused();
    assert_eq!((told.len(), told[0].page, told[0].pages), (1, 1, 1));
    l.apply("main", &Op::Release { pin: "p".into() }, &OK, &[])
        .unwrap();
    assert_eq!(l.reused(), []);
}

#[test]
fn a_refused_pin_holds_nothing() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    let pin = Op::Pin {
        pin: "p".into(),
        how: PinHow::Vmsplice,
        map: "m".into(),
        offset: Size(0),
        length: Size(4096),
    };
    let refused = StepResult::Errno {
        errno: "ENOMEM".into(),
        call: "vmsplice".into(),
    };
    l.apply("main", &pin, &refused, &[]).unwrap();
    assert_eq!(
        of(
            &l,
            HoldBy::Pin {
                how: PinHow::Vmsplice
            }
        ),
        []
    );
}

#[test]
fn an_unlinked_file_lives_as_long_as_its_last_mapping() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    l.apply("main", &Op::Unlink { file: "a".into() }, &OK, &[])
        .unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1000, 4)]);
    l.apply(
        "main",
        &Op::Unmap {
            map: "m".into(),
            offset: Size(0),
            length: None,
        },
        &OK,
        &[],
    )
    .unwrap();
    assert_eq!(l.holds(), []);
}

#[test]
fn a_device_page_shared_by_fork_comes_back_for_both() {
    let mut l = Ledger::default();
    let anon = Fact::Mapped {
        map: "m".into(),
        backing: Backing::Anon {
            memory: Memory::Private,
        },
        pages: 2,
    };
    l.apply(
        "main",
        &Op::MapAnon {
            map: "m".into(),
            length: Size(8192),
            memory: Memory::Private,
        },
        &OK,
        &[anon],
    )
    .unwrap();
    touch(&mut l, "main", "m", 0, 2, true, 2, None);
    let migrate = Op::HmmMigrate(DeviceRange {
        map: "m".into(),
        offset: Size(0),
        length: None,
        device: None,
    });
    l.apply("main", &migrate, &OK, &[]).unwrap();
    let lookup = Fact::Pagemap {
        map: "m".into(),
        runs: vec![PagemapRun {
            page: 0,
            pages: 2,
            state: PagemapState::SwapPfn {
                kind: 30,
                pfn: 0xfce0000,
            },
        }],
    };
    l.apply(
        "main",
        &Op::Checkpoint { name: "x".into() },
        &OK,
        std::slice::from_ref(&lookup),
    )
    .unwrap();
    l.apply("main", &Op::Fork { child: "c".into() }, &OK, &[])
        .unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0xfce0000, 2), (0xfce0000, 2)]);
    assert_eq!(l.compare("c", &lookup), Ok(vec![]));
    touch(&mut l, "c", "m", 0, 1, true, 2, None);
    assert_eq!(of(&l, HoldBy::Pte {}), [(0xfce0001, 1), (0xfce0001, 1)]);
    // pagemap still says both: a mismatch for page 0 of each.
    assert_eq!(l.compare("main", &lookup).unwrap()[0].pages, 1);
}

#[test]
fn facts_about_what_is_not_there_are_errors() {
    let mut l = Ledger::default();
    let fact = Fact::Touched {
        map: "m".into(),
        page: 0,
        pages: 1,
        write: false,
        faults: 0,
        neighbours: None,
    };
    let op = Op::Touch {
        map: "m".into(),
        offset: Size(0),
        length: None,
        write: false,
    };
    assert!(l.apply("main", &op, &OK, &[fact]).is_err());
    mapped(&mut l, "main", "m", "a", 4, false);
    let fact = Fact::Touched {
        map: "m".into(),
        page: 3,
        pages: u64::MAX,
        write: false,
        faults: 0,
        neighbours: None,
    };
    assert!(l.apply("main", &op, &OK, &[fact]).is_err());
}

fn faults_in_the_zero_page(l: &Ledger, actor: &str, map: &str, page: u64, pages: u64) -> bool {
    let run = PagemapRun {
        page,
        pages,
        state: PagemapState::Present { pfn: 0x42 },
    };
    let fact = Fact::Pagemap {
        map: map.into(),
        runs: vec![run],
    };
    l.compare(actor, &fact).unwrap().is_empty()
}

#[test]
fn a_small_fault_in_a_hole_takes_the_huge_zero_page_from_everybody() {
    let mut l = Ledger::default();
    created(&mut l, "a", 0, 0);
    mapped(&mut l, "main", "h", "a", 512, false);
    mapped(&mut l, "main", "i", "a", 512, false);
    touch(&mut l, "main", "h", 0, 1, false, 1, Some(true));
    assert!(faults_in_the_zero_page(&l, "main", "h", 0, 512));
    touch(&mut l, "main", "i", 3, 1, false, 1, Some(false));
    assert!(faults_in_the_zero_page(&l, "main", "i", 3, 1));
    assert!(!faults_in_the_zero_page(&l, "main", "h", 0, 512));
    // A block for the page takes the small one as well.
    touch(&mut l, "main", "h", 3, 1, false, 1, Some(false));
    assert!(faults_in_the_zero_page(&l, "main", "h", 3, 1));
    created(&mut l, "a", 4, 0x1000);
    touch(&mut l, "main", "i", 3, 1, true, 1, Some(false));
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1003, 1)]);
    assert!(!faults_in_the_zero_page(&l, "main", "h", 3, 1));
}

#[test]
fn a_punched_hole_leaves_private_copies_and_truncation_does_not() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, true);
    touch(&mut l, "main", "m", 1, 2, true, 2, Some(false));
    let punch = Op::Fallocate {
        mode: FallocateMode::PunchHole,
        file: "a".into(),
        offset: Size(0),
        length: Size(4 * 4096),
    };
    l.apply("main", &punch, &OK, &[]).unwrap();
    assert!(faults_in_the_zero_page(&l, "main", "m", 1, 2));
    let cut = Op::Truncate {
        file: "a".into(),
        size: Size(4096),
    };
    l.apply("main", &cut, &OK, &[]).unwrap();
    assert!(!faults_in_the_zero_page(&l, "main", "m", 1, 2));
}

#[test]
fn a_pin_goes_with_the_actor_that_took_it() {
    let mut l = Ledger::default();
    created(&mut l, "a", 4, 0x1000);
    mapped(&mut l, "main", "m", "a", 4, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, None);
    let fork = Op::Fork { child: "c".into() };
    l.apply("main", &fork, &OK, &[]).unwrap();
    touch(&mut l, "c", "m", 0, 4, true, 4, None);
    let pin = Op::Pin {
        pin: "p".into(),
        how: PinHow::Vmsplice,
        map: "m".into(),
        offset: Size(0),
        length: Size(8192),
    };
    l.apply("main", &pin, &OK, &[]).unwrap();
    l.apply("c", &pin, &OK, &[]).unwrap();
    let by = HoldBy::Pin {
        how: PinHow::Vmsplice,
    };
    assert_eq!(of(&l, by).len(), 2);
    l.apply("c", &Op::Exit {}, &OK, &[]).unwrap();
    assert_eq!(of(&l, by), [(0x1000, 2)]);
}

#[test]
fn the_last_to_close_the_device_brings_everybody_s_pages_back() {
    for evicts in [false, true] {
        let mut l = Ledger::default();
        l.set_behaviour(Behaviour {
            hmm_close_evicts: evicts,
            ..Behaviour::default()
        });
        l.apply("main", &Op::HmmOpen { device: None }, &OK, &[])
            .unwrap();
        let anon = Fact::Mapped {
            map: "m".into(),
            backing: Backing::Anon {
                memory: Memory::Private,
            },
            pages: 2,
        };
        let op = Op::MapAnon {
            map: "m".into(),
            length: Size(8192),
            memory: Memory::Private,
        };
        l.apply("main", &op, &OK, &[anon]).unwrap();
        // Never touched: migration makes the pages.
        let migrate = Op::HmmMigrate(DeviceRange {
            map: "m".into(),
            offset: Size(0),
            length: None,
            device: None,
        });
        l.apply("main", &migrate, &OK, &[]).unwrap();
        let lookup = Fact::Pagemap {
            map: "m".into(),
            runs: vec![PagemapRun {
                page: 0,
                pages: 2,
                state: PagemapState::SwapPfn {
                    kind: 30,
                    pfn: 0xfce0000,
                },
            }],
        };
        let facts = std::slice::from_ref(&lookup);
        l.apply("main", &Op::Checkpoint { name: "x".into() }, &OK, facts)
            .unwrap();
        let fork = Op::Fork { child: "c".into() };
        l.apply("main", &fork, &OK, &[]).unwrap();
        l.apply("main", &Op::HmmClose { device: None }, &OK, &[])
            .unwrap();
        assert_eq!(of(&l, HoldBy::Pte {}).len(), 2);
        l.apply("c", &Op::Exit {}, &OK, &[]).unwrap();
        assert_eq!(of(&l, HoldBy::Pte {}).is_empty(), evicts);
    }
}

#[test]
fn a_punched_hole_takes_the_whole_files_entries_where_the_layout_break_does() {
    for (drops, left) in [(false, vec![(0x1002, 2)]), (true, vec![])] {
        let mut l = Ledger::default();
        l.set_behaviour(Behaviour {
            layout_break_drops_entries: drops,
            ..Behaviour::default()
        });
        created(&mut l, "a", 4, 0x1000);
        mapped(&mut l, "main", "m", "a", 4, false);
        touch(&mut l, "main", "m", 0, 4, true, 4, None);
        let punch = Op::Fallocate {
            mode: FallocateMode::PunchHole,
            file: "a".into(),
            offset: Size(0),
            length: Size(8192),
        };
        let fact = extents("a", &[(2, 2, 0x1002)]);
        l.apply("main", &punch, &OK, &[fact]).unwrap();
        assert_eq!(of(&l, HoldBy::Entry { order: 0 }), left);
    }
}

#[path = "ledger_change_tests.rs"]
mod change;

#[path = "ledger_device_tests.rs"]
mod devices;

#[path = "ledger_shared_tests.rs"]
mod shared;

#[path = "ledger_hmm_tests.rs"]
mod hmm;
