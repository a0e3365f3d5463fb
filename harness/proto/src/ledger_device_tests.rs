//! Several devices and namespaces at a time.

use super::*;
use crate::{DeviceRange, NamespaceInfo};

#[test]
fn coherent_pages_stay_where_they_are_when_touched_and_go_with_their_own_device() {
    let mut l = Ledger::default();
    l.set_behaviour(Behaviour {
        hmm_close_evicts: true,
        ..Behaviour::default()
    });
    let anon = Fact::Mapped {
        map: "m".into(),
        backing: Backing::Anon {
            memory: Memory::Private,
        },
        pages: 4,
    };
    let op = Op::MapAnon {
        map: "m".into(),
        length: Size(16384),
        memory: Memory::Private,
    };
    l.apply("main", &op, &OK, &[anon]).unwrap();
    let open = |device| Op::HmmOpen { device };
    l.apply("main", &open(Some(2)), &OK, &[]).unwrap();
    let migrate = Op::HmmMigrate(DeviceRange {
        map: "m".into(),
        offset: Size(0),
        length: Some(Size(8192)),
        device: Some(2),
    });
    l.apply("main", &migrate, &OK, &[]).unwrap();
    touch(&mut l, "main", "m", 0, 4, true, 2, None);
    let runs = vec![PagemapRun {
        page: 0,
        pages: 4,
        state: PagemapState::Present { pfn: 0x40000 },
    }];
    let lookup = Fact::Pagemap {
        map: "m".into(),
        runs,
    };
    let facts = std::slice::from_ref(&lookup);
    l.apply("main", &Op::Checkpoint { name: "x".into() }, &OK, facts)
        .unwrap();
    assert_eq!(l.compare("main", &lookup).unwrap(), []);
    let held = l.holds();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].page_type, held[0].pfn, held[0].pages),
        (PageType::Coherent, 0x40000, 2)
    );
    // Another device's end is no matter.
    l.apply("c", &open(None), &OK, &[]).unwrap();
    l.apply("c", &Op::HmmClose { device: None }, &OK, &[])
        .unwrap();
    assert_eq!(l.holds().len(), 1);
    l.apply("main", &Op::HmmClose { device: Some(2) }, &OK, &[])
        .unwrap();
    assert_eq!(l.holds(), []);
}

#[test]
fn umount_of_one_namespace_leaves_the_files_of_others() {
    let entry = HoldBy::Entry { order: 0 };
    let mut l = Ledger::default();
    for (file, map, pfn) in [("a", "m", 0x1000), ("second/a", "n", 0x2000)] {
        created(&mut l, file, 2, pfn);
        mapped(&mut l, "main", map, file, 2, false);
        touch(&mut l, "main", map, 0, 2, true, 2, None);
        let op = Op::Unmap {
            map: map.into(),
            offset: Size(0),
            length: None,
        };
        l.apply("main", &op, &OK, &[]).unwrap();
    }
    let umount = |namespace: Option<&str>| Op::Umount {
        namespace: namespace.map(str::to_owned),
        lazy: false,
    };
    assert_eq!(of(&l, entry), [(0x1000, 2), (0x2000, 2)]);
    l.apply("main", &umount(None), &OK, &[]).unwrap();
    assert_eq!(of(&l, entry), [(0x2000, 2)]);
    l.apply("main", &umount(Some("second")), &OK, &[]).unwrap();
    assert_eq!(of(&l, entry), []);
}

#[test]
fn each_dax_device_has_its_own_frames() {
    let mut l = Ledger::default();
    let device = |name: &str, ranges: &[(u64, u64)]| NamespaceInfo {
        dev: "dax0.0".into(),
        name: name.into(),
        mode: "devdax".into(),
        resource: ranges[0].0,
        size: ranges.iter().map(|(_, bytes)| bytes).sum(),
        align: Size::PAGE,
        ranges: ranges.to_vec(),
    };
    let devices = [
        device("first", &[(0x1000 << 12, 0x10 << 12)]),
        device(
            "second",
            &[(0x8000 << 12, 1 << 12), (0x9000 << 12, 2 << 12)],
        ),
    ];
    l.set_devices(devices.iter());
    for (map, namespace) in [("m", "second"), ("n", "first")] {
        let op = Op::MapDevice {
            map: map.into(),
            namespace: Some(namespace.into()),
            offset: Size(4096),
            length: Size(4096),
            private: false,
            anywhere: false,
        };
        let fact = Fact::Mapped {
            map: map.into(),
            backing: Backing::Device {
                first_page: 1,
                namespace: namespace.into(),
            },
            pages: 1,
        };
        l.apply("main", &op, &OK, &[fact]).unwrap();
        touch(&mut l, "main", map, 0, 1, true, 1, None);
    }
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1001, 1), (0x9000, 1)]);
    // One of them goes, and what the other has stays.
    let gone = Op::DestroyDax {
        device: "second".into(),
    };
    l.apply("main", &gone, &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x1001, 1)]);
}

#[test]
fn a_store_that_took_no_fault_where_an_entry_forbids_it_is_told() {
    let mut l = Ledger::default();
    created(&mut l, "a", 8, 0x1000);
    mapped(&mut l, "main", "m", "a", 8, false);
    touch(&mut l, "main", "m", 0, 4, true, 4, Some(false));
    let store = |faults| {
        let op = Op::Touch {
            map: "m".into(),
            offset: Size(0),
            length: None,
            write: true,
        };
        let fact = Fact::Touched {
            map: "m".into(),
            page: 0,
            pages: 8,
            write: true,
            faults,
            neighbours: Some(false),
        };
        (op, fact)
    };
    let told = |l: &Ledger, faults| {
        let (op, fact) = store(faults);
        l.judge("main", &op, &[fact]).is_some()
    };
    assert!(!told(&l, 0), "what is writable needs none");
    let fsync = Op::Fsync { file: "a".into() };
    l.apply("main", &fsync, &OK, &[]).unwrap();
    assert!(told(&l, 3) && !told(&l, 4));
}

#[test]
fn peer_to_peer_memory_keeps_the_frames_that_it_was_mapped_with() {
    let mut l = Ledger::default();
    let op = Op::MapP2pmem {
        map: "m".into(),
        length: Size(4 * 4096),
    };
    let looked_up = |pfn| Fact::Pagemap {
        map: "m".into(),
        runs: vec![PagemapRun {
            page: 0,
            pages: 4,
            state: PagemapState::Present { pfn },
        }],
    };
    let made = Fact::Mapped {
        map: "m".into(),
        backing: Backing::P2pmem {},
        pages: 4,
    };
    l.apply("main", &op, &OK, &[made, looked_up(0x2000)])
        .unwrap();
    let fork = Op::Fork {
        child: "child".into(),
    };
    l.apply("main", &fork, &OK, &[]).unwrap();
    assert_eq!(of(&l, HoldBy::Pte {}), [(0x2000, 4), (0x2000, 4)]);
    assert!(l.holds().iter().all(|h| h.page_type == PageType::P2pdma));
    // A look that finds others is no source any more.
    let other = looked_up(0x3000);
    l.apply("main", &fork, &OK, std::slice::from_ref(&other))
        .unwrap();
    assert_eq!(l.compare("main", &other).unwrap()[0].pages, 4);
    assert_eq!(l.compare("child", &looked_up(0x2000)).unwrap(), []);
    let gone = Op::UnbindPci {
        driver: "nvme".into(),
    };
    l.apply("main", &gone, &OK, &[]).unwrap();
    assert_eq!(l.holds(), []);
}

#[test]
fn pages_know_where_they_lie_in_their_file_or_device() {
    let mut l = Ledger::default();
    let device = NamespaceInfo {
        dev: "dax0.0".into(),
        name: String::new(),
        mode: "devdax".into(),
        resource: 0x1000 << 12,
        size: 0x400 << 12,
        align: Size::PMD,
        ranges: Vec::new(),
    };
    l.set_devices(std::iter::once(&device));
    created(&mut l, "a", 2, 0x8000);
    mapped(&mut l, "main", "m", "a", 2, false);
    touch(&mut l, "main", "m", 1, 1, true, 1, None);
    let fact = Fact::Mapped {
        map: "d".into(),
        backing: Backing::Device {
            namespace: String::new(),
            first_page: 512,
        },
        pages: 512,
    };
    let op = Op::MapDevice {
        map: "d".into(),
        namespace: None,
        offset: Size(2 << 20),
        length: Size(2 << 20),
        private: false,
        anywhere: false,
    };
    l.apply("main", &op, &OK, &[fact]).unwrap();
    touch(&mut l, "main", "d", 3, 1, true, 1, Some(true));
    let at = |l: &Ledger| {
        let holds = l.holds();
        let index = |h: &crate::Hold| match h.by {
            HoldBy::Index { first } => Some((h.pfn, h.pages, first)),
            _ => None,
        };
        holds.iter().filter_map(index).collect::<Vec<_>>()
    };
    assert_eq!(at(&l), [(0x1200, 512, 512), (0x8001, 1, 1)]);
    let unmap = |map: &str| Op::Unmap {
        map: map.into(),
        offset: Size(0),
        length: None,
    };
    // A file's page keeps its entry; of a device's, nothing is claimed any more.
    l.apply("main", &unmap("m"), &OK, &[]).unwrap();
    l.apply("main", &unmap("d"), &OK, &[]).unwrap();
    assert_eq!(at(&l), [(0x8001, 1, 1)]);
}
