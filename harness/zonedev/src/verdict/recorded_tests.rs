//! The contracts against readings of real guests that guestmem recorded; what these held is told
//! in its `tests/recorded.rs`: 16 pages of a file mapped, touched and 4 of them held by vmsplice,
//! a file of 4 MiB touched, 2 MiB of a device touched.

use guestmem::{KernelInfo, PagesReading, SparseImage, Target};
use proto::{Hold, HoldBy, PageType, PinHow};

use super::check;
use super::check::tests::contract;
use crate::record::CheckpointRecord;
use crate::record::testing::{checkpoint, hold, namespace};

fn reading(name: &str) -> PagesReading {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../guestmem/tests/recorded");
    let file = |part: &str| std::fs::read(dir.join(name).join(part)).unwrap();
    let unpack = |part: &str| zstd::decode_all(&file(part)[..]).unwrap();
    let symbols = serde_json::from_slice(&file("symbols.json")).unwrap();
    let kernel = KernelInfo::from_parts(symbols, unpack("btf.zst"), None).unwrap();
    let memory = SparseImage::decode(&unpack("memory.zst")).unwrap();
    Target::attach(&memory, &kernel)
        .unwrap()
        .read_pages(&memory)
}

/// `large`: whether the kernel mapped the large file by PMDs.
fn held(name: &str, large: bool) -> CheckpointRecord {
    let pages = reading(name);
    let (fsdax, devdax) = (pages.regions[0].start_pfn, pages.regions[2].start_pfn);
    let of = |pfn, n, by, who: &str| hold(pfn, n, PageType::Fsdax, by, who);
    let mut holds: Vec<Hold> = vec![
        of(fsdax + 32256, 16, HoldBy::Entry { order: 0 }, "a"),
        of(fsdax + 32256, 16, HoldBy::Pte {}, "main/a"),
        of(
            fsdax + 32256,
            4,
            HoldBy::Pin {
                how: PinHow::Vmsplice,
            },
            "p",
        ),
        hold(
            devdax + 512,
            512,
            PageType::Devdax,
            HoldBy::Pmd {},
            "main/d",
        ),
    ];
    if large {
        for at in [31232, 31744] {
            holds.push(of(fsdax + at, 512, HoldBy::Entry { order: 9 }, "b"));
        }
        holds.push(of(fsdax + 31232, 1024, HoldBy::Pmd {}, "main/b"));
    } else {
        holds.push(of(fsdax + 31232, 1024, HoldBy::Entry { order: 0 }, "b"));
        holds.push(of(fsdax + 31232, 1024, HoldBy::Pte {}, "main/b"));
    }
    let mut c = checkpoint("held", Vec::new(), holds);
    c.pages = pages;
    c.claims
        .namespaces
        .push(namespace("devdax", devdax, 16384, 2 << 20));
    c
}

#[test]
fn three_eras_keep_their_contracts() {
    for (name, large) in [("5.10", false), ("6.12", false), ("7.3", true)] {
        let checked = check(&held(name, large), &contract(name));
        assert_eq!(checked.violations, [], "{name}");
        assert_eq!(
            (checked.predicted, checked.pages),
            (211_968, 211_968),
            "{name}"
        );
    }
}

#[test]
fn no_era_keeps_the_contract_of_another() {
    for (name, large, other) in [
        ("5.10", false, "5.10+zone-device-refcount"),
        ("5.10", false, "6.1"),
        ("6.12", false, "5.10"),
        ("6.12", false, "7.3"),
        ("7.3", true, "6.12"),
    ] {
        let checked = check(&held(name, large), &contract(other));
        assert!(!checked.violations.is_empty(), "{name} under {other}");
    }
}

/// A claim that is missing is found as well as a count that is wrong.
#[test]
fn a_mapping_that_nobody_claims_is_found() {
    let mut c = held("7.3", true);
    c.claims.holds.retain(|h| h.who != "main/b");
    let found: Vec<_> = check(&c, &contract("7.3"))
        .violations
        .into_iter()
        .map(|v| (v.what, v.pages, v.expected, v.found))
        .collect();
    let want = [("refcount", 2, "0", "1"), ("large mapcount", 2, "0", "1")];
    assert_eq!(
        found,
        want.map(|(w, n, e, f)| (w.to_owned(), n, e.to_owned(), f.to_owned()))
    );
}
