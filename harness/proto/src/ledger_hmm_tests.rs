//! Exclusive access, huge pages, kinds of memory, snapshots and pins of device memory.

use super::*;
use crate::DeviceRange;

const MISSING: &str = "ENOENT";

struct Case(Ledger);

impl Case {
    fn new(memory: Memory, pages: u64) -> Self {
        let mut case = Case(Ledger::default());
        let op = Op::MapAnon {
            map: "m".into(),
            length: Size(pages * 4096),
            memory,
        };
        let fact = Fact::Mapped {
            map: "m".into(),
            backing: Backing::Anon { memory },
            pages,
        };
        case.0.apply("main", &op, &OK, &[fact]).unwrap();
        case.does("main", &Op::HmmOpen { device: None });
        case
    }

    fn does(&mut self, actor: &str, op: &Op) {
        self.0.apply(actor, op, &OK, &[]).unwrap();
    }

    fn touch(&mut self, actor: &str, page: u64, pages: u64, write: bool) {
        touch(&mut self.0, actor, "m", page, pages, write, pages, None);
    }

    /// Migrates, with the 2M stretches that a snapshot calls one entry.
    fn migrate(&mut self, page: u64, pages: u64, device: u8, errno: Option<&str>, large: &[u64]) {
        let op = Op::HmmMigrate(DeviceRange {
            map: "m".into(),
            offset: Size(page * 4096),
            length: Some(Size(pages * 4096)),
            device: Some(device),
        });
        let result = errno.map_or(OK, |errno| StepResult::Errno {
            errno: errno.into(),
            call: "ioctl".into(),
        });
        let fact = Fact::Large {
            map: "m".into(),
            pages: large.to_vec(),
        };
        self.0.apply("main", &op, &result, &[fact]).unwrap();
    }

    /// Pages of the mapping that pagemap would call swapped, by what the ledger predicts.
    fn agrees(&mut self, actor: &str, states: &[(u64, PagemapState)]) -> bool {
        let mut page = 0;
        let mut runs = Vec::new();
        for (pages, state) in states {
            runs.push(PagemapRun {
                page,
                pages: *pages,
                state: *state,
            });
            page += pages;
        }
        let fact = Fact::Pagemap {
            map: "m".into(),
            runs,
        };
        let op = Op::Checkpoint { name: "x".into() };
        let facts = std::slice::from_ref(&fact);
        self.0.apply(actor, &op, &OK, facts).unwrap();
        self.0.compare(actor, &fact).unwrap().is_empty()
    }

    fn held(&self) -> Vec<(u64, u64, HoldBy)> {
        let holds = self.0.holds().into_iter();
        holds.map(|h| (h.pfn, h.pages, h.by)).collect()
    }
}

fn away(pfn: u64) -> PagemapState {
    PagemapState::SwapPfn { kind: 30, pfn }
}

const HERE: PagemapState = PagemapState::Present { pfn: 7 };
const FOLIO: HoldBy = HoldBy::Folio { order: 9 };

fn exclusive(pages: u64) -> Op {
    Op::HmmExclusive(DeviceRange {
        map: "m".into(),
        offset: Size(0),
        length: Some(Size(pages * 4096)),
        device: None,
    })
}

#[test]
fn exclusive_pages_stay_in_ram_until_a_processor_or_fork_takes_them_back() {
    let mut c = Case::new(Memory::Private, 4);
    c.touch("main", 0, 4, true);
    c.does("main", &exclusive(4));
    assert!(c.agrees("main", &[(4, away(9))]));
    assert_eq!(c.held(), []);
    c.touch("main", 0, 1, false);
    // The exclusive ones don't migrate.
    c.migrate(0, 4, 0, Some(MISSING), &[]);
    assert!(c.agrees("main", &[(1, away(0x1000)), (3, away(9))]));
    assert_eq!(c.held(), [(0x1000, 1, HoldBy::Pte {})]);
    c.does("main", &Op::Fork { child: "c".into() });
    assert!(c.agrees("main", &[(1, away(0x1000)), (3, HERE)]));
    assert!(c.agrees("c", &[(1, away(0x1000)), (3, HERE)]));
    // Of a page that is shared on the device, the device gets a copy, and the page comes back.
    c.does("main", &exclusive(1));
    assert!(c.agrees("c", &[(4, HERE)]));
    assert_eq!(c.held(), []);
}

#[test]
fn a_huge_page_on_the_device_is_one_folio_until_a_part_of_it_faults() {
    let mut c = Case::new(Memory::Huge, 1024);
    for start in [0, 512] {
        touch(&mut c.0, "main", "m", start, 512, true, 1, None);
    }
    c.migrate(0, 1024, 0, None, &[0, 512]);
    assert!(c.agrees("main", &[(1024, away(0x2000))]));
    let folios = [(0x2000, 512, FOLIO), (0x2200, 512, FOLIO)];
    assert!(folios.iter().all(|f| c.held().contains(f)));
    assert!(c.held().contains(&(0x2000, 1024, HoldBy::Pmd {})));
    // A hole in the first makes PTEs of its entry, and leaves the folio.
    let unmap = Op::Unmap {
        map: "m".into(),
        offset: Size(0),
        length: Some(Size(4096)),
    };
    c.does("main", &unmap);
    let none = PagemapState::None {};
    assert!(c.agrees("main", &[(1, none), (1023, away(0x2001))]));
    assert!(c.held().contains(&(0x2001, 511, HoldBy::Pte {})));
    assert!(folios.iter().all(|f| c.held().contains(f)));
    // A fault splits it and brings one page; one of the other brings all.
    c.touch("main", 1, 1, false);
    c.touch("main", 600, 1, false);
    assert!(c.agrees(
        "main",
        &[(1, none), (1, HERE), (510, away(0x2002)), (512, HERE)]
    ));
    assert_eq!(c.held(), [(0x2002, 510, HoldBy::Pte {})]);
}

#[test]
fn a_huge_page_that_no_snapshot_calls_one_is_small_ones_for_the_child_too() {
    let mut c = Case::new(Memory::Huge, 512);
    touch(&mut c.0, "main", "m", 0, 1, true, 1, Some(true));
    c.does("main", &Op::Fork { child: "c".into() });
    c.migrate(0, 512, 0, None, &[]);
    for actor in ["main", "c"] {
        assert!(c.agrees(actor, &[(512, away(0x2000))]));
    }
    assert!(c.held().iter().all(|h| h.2 == HoldBy::Pte {}));
    assert_eq!(c.held().iter().map(|h| h.1).sum::<u64>(), 1024);
}

#[test]
fn a_stretch_that_is_none_is_refused() {
    let mut c = Case::new(Memory::Huge, 512);
    for page in [1, 512, u64::MAX] {
        let fact = Fact::Large {
            map: "m".into(),
            pages: vec![page],
        };
        assert!(c.0.apply("main", &Op::Wait {}, &OK, &[fact]).is_err());
    }
}

#[test]
fn another_device_s_fault_brings_pages_back_and_its_own_does_not() {
    for (device, left) in [(0, 4), (1, 2)] {
        let mut c = Case::new(Memory::Private, 4);
        c.touch("main", 0, 4, true);
        c.migrate(0, 4, 0, None, &[]);
        let read = Op::HmmRead(DeviceRange {
            map: "m".into(),
            offset: Size(0),
            length: Some(Size(8192)),
            device: Some(device),
        });
        c.does("main", &read);
        // Nor does the other one's migration take them.
        c.migrate(2, 2, 1, Some(MISSING), &[]);
        let there: Vec<_> = match left {
            4 => vec![(4, away(0x1000))],
            _ => vec![(2, HERE), (2, away(0x1002))],
        };
        assert!(c.agrees("main", &there));
        assert_eq!(c.held().iter().map(|h| h.1).sum::<u64>(), left);
    }
}

#[test]
fn only_what_is_anonymous_and_in_ram_migrates() {
    let none = PagemapState::None {};
    let mut c = Case::new(Memory::File, 4);
    c.touch("main", 0, 2, false);
    c.touch("main", 1, 1, true);
    c.migrate(0, 4, 0, Some(MISSING), &[]);
    assert!(c.agrees("main", &[(1, HERE), (1, away(0x1000)), (2, none)]));
    let mut c = Case::new(Memory::Shared, 4);
    c.touch("main", 0, 2, true);
    c.migrate(0, 4, 0, Some(MISSING), &[]);
    assert!(c.agrees("main", &[(2, HERE), (2, none)]));
    assert_eq!(c.held(), []);
    let mut c = Case::new(Memory::Private, 4);
    c.touch("main", 0, 4, true);
    let pageout = Op::Madvise {
        map: "m".into(),
        offset: Size(0),
        length: None,
        advice: Advice::Pageout,
    };
    assert!(!c.agrees("main", &[(2, away(3)), (2, HERE)]));
    c.does("main", &pageout);
    assert!(c.agrees("main", &[(2, away(3)), (2, HERE)]));
    c.migrate(0, 4, 0, Some(MISSING), &[]);
    assert!(c.agrees("main", &[(2, away(3)), (2, away(0x1000))]));
    assert_eq!(c.held(), [(0x1000, 2, HoldBy::Pte {})]);
    c.does("main", &Op::SwapOff {});
    assert!(c.agrees("main", &[(2, HERE), (2, away(0x1000))]));
}

#[test]
fn a_snapshot_must_tell_what_was_done() {
    let mut c = Case::new(Memory::Private, 6);
    c.touch("main", 1, 1, false);
    c.touch("main", 2, 4, true);
    c.migrate(3, 1, 0, None, &[]);
    c.migrate(4, 1, 1, None, &[]);
    let judge = |permissions: &[u8]| {
        let op = Op::HmmSnapshot(DeviceRange {
            map: "m".into(),
            offset: Size(0),
            length: None,
            device: None,
        });
        let fact = Fact::Snapshot {
            map: "m".into(),
            page: 0,
            permissions: permissions.to_vec(),
        };
        c.0.judge("main", &op, &[fact])
    };
    assert_eq!(judge(&[0, 0x11, 2, 0x22, 0, 2]), None);
    let why = judge(&[0, 0x11, 1, 0x22, 0, 2]).unwrap();
    assert!(why.contains("page 2 of m"), "{why}");
    assert!(judge(&[0, 0x11, 2, 0x22, 0]).is_some());
    c.does("main", &Op::Fork { child: "c".into() });
    let judged = c.0.permissions(c.0.map("main", "m").unwrap(), 3, 0);
    assert_eq!(judged, 0x21);
}

#[test]
fn pins_keep_coherent_pages_where_they_are_and_a_longterm_one_moves_them_first() {
    for (how, on_device, in_ram) in [(PinHow::Vmsplice, 2, 1), (PinHow::IoUring, 0, 3)] {
        let mut c = Case::new(Memory::Private, 4);
        c.does("main", &Op::HmmOpen { device: Some(2) });
        c.touch("main", 0, 4, true);
        c.migrate(0, 3, 2, None, &[]);
        assert!(c.agrees("main", &[(4, PagemapState::Present { pfn: 0x40000 })]));
        let pin = Op::Pin {
            pin: "p".into(),
            how,
            map: "m".into(),
            offset: Size(4096),
            length: Size(3 * 4096),
        };
        c.does("main", &pin);
        let pins = |c: &Case| {
            of(&c.0, HoldBy::Pin { how })
                .iter()
                .map(|p| p.1)
                .sum::<u64>()
        };
        assert_eq!(pins(&c), on_device);
        assert_eq!(c.0.pins_in_ram().get(&how), Some(&in_ram));
        // What is pinned in RAM stays there, and what is pinned on the device as well.
        c.migrate(0, 4, 2, Some(MISSING), &[]);
        c.does("main", &Op::HmmClose { device: Some(2) });
        assert_eq!(pins(&c), on_device);
        c.does("main", &Op::Release { pin: "p".into() });
        assert_eq!(pins(&c), 0);
    }
}
