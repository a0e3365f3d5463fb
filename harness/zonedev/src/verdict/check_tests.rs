use super::*;
use crate::record::testing::{checkpoint, hold, namespace, region, runs, state};
use crate::spec::{FolioRule, MapcountRule, MappingRule, SpecFile};
use camino::Utf8Path;
use std::collections::BTreeSet;

use guestmem::{Flags, PageKind, PageState, Part, Problem, ProblemKind};
use proptest::prelude::*;
use proto::{Mismatch, PinHow};

pub(crate) fn contract(name: &str) -> Contract {
    let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/contracts");
    let file = SpecFile::read(&dir.join(format!("{name}.toml")), "the contract").unwrap();
    Contract::parse(&file).unwrap()
}

const ERAS: [&str; 5] = ["5.10", "5.10+zone-device-refcount", "6.1", "6.12", "7.3"];
const START: u64 = 0x100200;
const PAGES: u64 = 2048;
const PTE: HoldBy = HoldBy::Pte {};
const PMD: HoldBy = HoldBy::Pmd {};

/// What each page is predicted to be, reckoned page by page: slow, and written apart from
/// `predict`.
fn reckon(contract: &Contract, page_type: PageType, order: u8, holds: &[Hold]) -> Vec<PageState> {
    let rules = contract.rules(page_type).unwrap();
    let over = |pfn: u64| {
        holds
            .iter()
            .filter(move |h| (h.pfn..h.pfn + h.pages).contains(&pfn))
    };
    let counted = rules.mapcount == MapcountRule::Counted;
    let mut out: Vec<PageState> = Vec::new();
    for pfn in START..START + PAGES {
        let entry = over(pfn).any(|h| matches!(h.by, HoldBy::Entry { order: 9 }));
        let folio = match rules.folio {
            FolioRule::Align => order,
            FolioRule::Entry if entry => 9,
            _ => 0,
        };
        let ptes = over(pfn).filter(|h| h.by == PTE).count() as i32;
        let mapped = over(pfn).any(|h| h.by == PTE || h.by == PMD);
        let held = over(pfn).any(|h| matches!(h.by, HoldBy::Entry { .. }));
        let idle = if rules.idle_handed_over && mapped {
            0
        } else {
            rules.idle
        };
        let mut s = state(idle);
        s.mapcount = if counted { ptes } else { 0 };
        s.mapping_set = match rules.mapping {
            MappingRule::Entry => held,
            MappingRule::SinceFault | MappingRule::Mapped => mapped,
            MappingRule::Unchecked => false,
        };
        if folio > 0 {
            let first = START + (pfn - START) / (1 << folio) * (1 << folio);
            s.order = folio;
            s.part = if pfn == first { Part::Head } else { Part::Tail };
            if pfn != first {
                s.refcount = rules.tail;
            } else {
                let (mut large, mut pins) = (0, 0);
                for p in first..first + (1 << folio) {
                    for h in over(p) {
                        match h.by {
                            HoldBy::Pte {} => {
                                s.refcount += rules.pte;
                                large += 1;
                            }
                            HoldBy::Pmd {} if p % 512 == 0 => {
                                s.refcount += rules.pmd;
                                large += 1;
                            }
                            HoldBy::Pin { how } => {
                                s.refcount += 1;
                                pins += i32::from(rules.pin(how) == PinKind::Pin);
                            }
                            _ => {}
                        }
                    }
                }
                s.large_mapcount = Some(if counted { large } else { 0 });
                s.pincount = Some(pins);
            }
        } else {
            for h in over(pfn) {
                s.refcount += match h.by {
                    HoldBy::Pte {} => rules.pte,
                    HoldBy::Pmd {} => rules.pmd,
                    HoldBy::Pin { how } if rules.pin(how) == PinKind::Pin => 1024,
                    HoldBy::Pin { .. } => 1,
                    HoldBy::Entry { .. }
                    | HoldBy::Shared { .. }
                    | HoldBy::Folio { .. }
                    | HoldBy::Index { .. }
                    | HoldBy::Poison {} => 0,
                };
            }
        }
        out.push(s);
    }
    out
}

fn kind(page_type: PageType) -> PageKind {
    match page_type {
        PageType::Fsdax => PageKind::FsDax,
        PageType::Devdax => PageKind::Generic,
        PageType::Private => PageKind::Private,
        PageType::Coherent => PageKind::Coherent,
        PageType::P2pdma => PageKind::PciP2pdma,
    }
}

fn reading(
    page_type: PageType,
    order: u8,
    states: &[PageState],
    holds: Vec<Hold>,
) -> CheckpointRecord {
    let mut c = checkpoint(
        "held",
        vec![region(kind(page_type), "namespace0.0", START, states)],
        holds,
    );
    c.claims
        .namespaces
        .push(namespace("devdax", START, PAGES, 4096 << order));
    c
}

fn any_hold(page_type: PageType) -> BoxedStrategy<Hold> {
    let small = (0..PAGES, 1u64..600).prop_map(move |(o, n)| (START + o, n.min(PAGES - o)));
    let large = (0..PAGES / 512).prop_map(|o| (START + o * 512, 512u64));
    let how = prop_oneof![
        Just(PinHow::Vmsplice),
        Just(PinHow::DirectWrite),
        Just(PinHow::DirectRead)
    ];
    let who = "[ab]";
    let of = move |(pfn, pages): (u64, u64), by, who: String| hold(pfn, pages, page_type, by, &who);
    prop_oneof![
        (small.clone(), who).prop_map(move |(r, w)| of(r, PTE, w)),
        (large.clone(), who).prop_map(move |(r, w)| of(r, PMD, w)),
        (large, who).prop_map(move |(r, w)| of(r, HoldBy::Entry { order: 9 }, w)),
        (small.clone(), who).prop_map(move |(r, w)| of(r, HoldBy::Entry { order: 0 }, w)),
        (small, how, who).prop_map(move |(r, how, w)| of(r, HoldBy::Pin { how }, w)),
    ]
    .boxed()
}

/// An era, a kind of page, the order of a devdax alignment, holds.
fn any_claims() -> impl Strategy<Value = (usize, PageType, u8, Vec<Hold>)> {
    let types = prop_oneof![
        Just(PageType::Fsdax),
        Just(PageType::Devdax),
        Just(PageType::Private),
        Just(PageType::P2pdma)
    ];
    (0..ERAS.len(), types, prop_oneof![Just(0u8), Just(9u8)]).prop_flat_map(|(era, t, order)| {
        let holds = prop::collection::vec(any_hold(t), 0..8);
        (Just(era), Just(t), Just(order), holds)
    })
}

/// Without what the contract forbids in itself.
fn wrong_pages(checked: &Checked) -> Vec<&Violation> {
    checked
        .violations
        .iter()
        .filter(|v| v.what != "pin")
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_was_reckoned_page_by_page_agrees((era, t, order, holds) in any_claims()) {
        let contract = contract(ERAS[era]);
        let states = reckon(&contract, t, order, &holds);
        let checked = check(&reading(t, order, &states, holds), &contract);
        prop_assert_eq!(wrong_pages(&checked), Vec::<&Violation>::new());
        prop_assert_eq!((checked.predicted, checked.pages), (PAGES, PAGES));
    }

    #[test]
    fn one_reference_too_many_or_too_few_is_always_found(
        (era, t, order, holds) in any_claims(), at in 0..PAGES, by in prop_oneof![Just(-1), Just(1)]
    ) {
        let contract = contract(ERAS[era]);
        let mut states = reckon(&contract, t, order, &holds);
        let was = states[at as usize].refcount;
        states[at as usize].refcount += by;
        let checked = check(&reading(t, order, &states, holds), &contract);
        let wrong = wrong_pages(&checked);
        prop_assert_eq!(wrong.len(), 1);
        prop_assert_eq!(
            (wrong[0].what.as_str(), wrong[0].pfn, wrong[0].pages),
            ("refcount", Some(START + at), 1)
        );
        prop_assert_eq!(&wrong[0].expected, &was.to_string());
        prop_assert_eq!(&wrong[0].found, &(was + by).to_string());
    }

    #[test]
    fn claims_of_any_numbers_are_borne(
        pfn: u64, pages: u64, order: u8, era in 0..ERAS.len(), shift: u8, metadata: u64
    ) {
        let holds = vec![
            hold(pfn, pages, PageType::Fsdax, HoldBy::Entry { order }, "x"),
            hold(pfn, pages, PageType::Devdax, PMD, "x"),
        ];
        let mut c = checkpoint("x", vec![
            region(PageKind::FsDax, "a", 0, &[state(1)]),
            region(PageKind::Generic, "b", u64::MAX - 4, &[state(1), state(0)]),
        ], holds);
        c.pages.regions[1].pgmap.vmemmap_shift = shift;
        c.pages.regions[1].metadata_pages = metadata;
        let checked = check(&c, &contract(ERAS[era]));
        prop_assert!(checked.predicted <= checked.pages);
    }
}

#[test]
fn a_device_private_folio_counts_at_its_head_and_a_split_entry_counts_each_pte() {
    let contract = contract("7.3");
    let folio = || {
        hold(
            START,
            512,
            PageType::Private,
            HoldBy::Folio { order: 9 },
            "folio",
        )
    };
    let by = |by, pages| hold(START, pages, PageType::Private, by, "main/m");
    for (entry, head) in [(by(HoldBy::Pmd {}, 512), 1), (by(HoldBy::Pte {}, 500), 500)] {
        let c = checkpoint(
            "x",
            vec![region(PageKind::Private, "r", START, &vec![state(0); 512])],
            vec![folio(), entry],
        );
        let predicted = super::super::predict::predict(&c, &contract);
        assert_eq!((predicted[0].pages, predicted[0].refcount), (1, head));
        assert_eq!(predicted[0].large_mapcount, Some(head));
        assert!(
            predicted[1..]
                .iter()
                .all(|p| p.refcount == 0 && p.order == 9)
        );
        assert_eq!(predicted.iter().map(|p| p.pages).sum::<u64>(), 512);
    }
}

#[test]
fn a_leak_of_one_reference_is_named_with_its_reason() {
    let mut states = vec![state(1); 64];
    for s in &mut states[8..24] {
        s.refcount = 3;
        s.mapping_set = true;
    }
    let pin = HoldBy::Pin {
        how: PinHow::Vmsplice,
    };
    let holds = vec![
        hold(
            START + 8,
            16,
            PageType::Fsdax,
            HoldBy::Entry { order: 0 },
            "a",
        ),
        hold(START + 8, 16, PageType::Fsdax, PTE, "main/m"),
        hold(START + 8, 16, PageType::Fsdax, pin, "p"),
    ];
    let c = checkpoint(
        "held",
        vec![region(PageKind::FsDax, "namespace0.0", START, &states)],
        holds,
    );
    let checked = check(&c, &contract("5.10"));
    insta::assert_json_snapshot!(checked.violations, @r#"
    [
      {
        "checkpoint": "held",
        "region": "namespace0.0 FS_DAX",
        "pfn": 1049096,
        "offset": 8,
        "pages": 16,
        "what": "refcount",
        "expected": "2",
        "found": "3",
        "because": "idle 1 + 1 vmsplice (get), 1 PTE counting 0"
      }
    ]
    "#);
}

#[test]
fn every_check_that_cannot_run_is_a_violation() {
    let contract = contract("7.3");
    let what = |c: &CheckpointRecord| -> Vec<String> {
        check(c, &contract)
            .violations
            .into_iter()
            .map(|v| v.what)
            .collect()
    };
    let one = |kind, s: PageState| checkpoint("x", vec![region(kind, "r", START, &[s])], vec![]);

    assert_eq!(what(&one(PageKind::FsDax, state(0))), Vec::<String>::new());
    assert_eq!(what(&one(PageKind::Unknown(9), state(0))), ["kind of page"]);
    assert_eq!(
        check(&one(PageKind::Unknown(9), state(0)), &contract).predicted,
        0
    );
    let absent = PageState {
        absent: true,
        ..state(0)
    };
    assert_eq!(what(&one(PageKind::FsDax, absent)), ["struct page"]);

    let mut c = one(PageKind::FsDax, state(0));
    c.pages.problems.push(Problem {
        kind: ProblemKind::Absent,
        pfn: Some(START),
        pages: 1,
        what: "not mapped".into(),
    });
    assert_eq!(what(&c), ["reading"]);

    let mut c = one(PageKind::FsDax, state(0));
    c.pages.regions[0].pages = 4;
    assert_eq!(what(&c), ["reading"]);
    let checked = check(&c, &contract);
    assert_eq!((checked.predicted, checked.pages), (1, 4));

    let mut c = one(PageKind::FsDax, state(0));
    c.claims.mismatches.push(Mismatch {
        what: "pagemap".into(),
        who: "main/m".into(),
        page: 3,
        pages: 2,
        predicted: "a PTE to its DAX page".into(),
        found: "nothing".into(),
    });
    assert_eq!(what(&c), ["pagemap"]);

    for (pfn, page_type) in [(7, PageType::Fsdax), (START, PageType::Devdax)] {
        let mut c = one(PageKind::FsDax, state(0));
        c.claims
            .holds
            .push(hold(pfn, 1, page_type, HoldBy::Entry { order: 0 }, "a"));
        assert!(what(&c).contains(&"claim".to_owned()), "{pfn:#x}");
    }
}

#[test]
fn pins_must_balance_where_the_kernel_counts_them() {
    let contract = contract("6.12");
    let mut s = state(1 + 1024);
    s.mapping_set = true;
    let holds = vec![
        hold(START, 1, PageType::Fsdax, HoldBy::Entry { order: 0 }, "a"),
        hold(
            START,
            1,
            PageType::Fsdax,
            HoldBy::Pin {
                how: PinHow::DirectWrite,
            },
            "p",
        ),
    ];
    let mut c = checkpoint("x", vec![region(PageKind::FsDax, "r", START, &[s])], holds);
    assert_eq!(check(&c, &contract).violations, []);
    c.claims.counters.insert("nr_foll_pin_acquired".into(), 40);
    assert_eq!(
        check(&c, &contract).violations,
        [],
        "one counter alone says nothing"
    );
    c.claims.counters.insert("nr_foll_pin_released".into(), 39);
    assert_eq!(check(&c, &contract).violations, []);
    c.claims.counters.insert("nr_foll_pin_released".into(), 36);
    c.claims.pins_in_ram = [(PinHow::IoUring, 3), (PinHow::Vmsplice, 5)].into();
    assert_eq!(
        check(&c, &contract).violations,
        [],
        "pages of RAM count too"
    );
    c.claims.pins_in_ram.clear();
    c.claims.counters.insert("nr_foll_pin_released".into(), 40);
    let violations = check(&c, &contract).violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(
        (
            violations[0].expected.as_str(),
            violations[0].found.as_str()
        ),
        ("1 out", "0 out")
    );
}

#[test]
fn a_pin_that_the_contract_refuses_is_told_even_where_the_counts_agree() {
    let mut s = state(1);
    s.mapping_set = true;
    let holds = vec![
        hold(START, 1, PageType::Fsdax, HoldBy::Entry { order: 0 }, "a"),
        hold(
            START,
            1,
            PageType::Fsdax,
            HoldBy::Pin {
                how: PinHow::Vmsplice,
            },
            "p",
        ),
    ];
    let c = checkpoint("x", vec![region(PageKind::FsDax, "r", START, &[s])], holds);
    let v = check(&c, &contract("5.10+zone-device-refcount")).violations;
    assert_eq!(v.len(), 1);
    assert_eq!(
        (v[0].what.as_str(), v[0].expected.as_str()),
        ("pin", "refused")
    );
}

#[test]
fn equal_violations_in_many_places_are_told_once() {
    let states: Vec<_> = (0..4096)
        .map(|n| state(if n % 512 == 0 { 2 } else { 1 }))
        .collect();
    let c = checkpoint(
        "x",
        vec![region(PageKind::FsDax, "r", START, &states)],
        vec![],
    );
    let v = check(&c, &contract("5.10")).violations;
    assert_eq!(v.len(), 1);
    assert_eq!((v[0].pfn, v[0].pages, v[0].ranges), (Some(START), 8, 8));

    let wild: Vec<_> = (0..4096).map(state).collect();
    let c = checkpoint(
        "x",
        vec![region(PageKind::FsDax, "r", START, &wild)],
        vec![],
    );
    let v = check(&c, &contract("5.10")).violations;
    assert_eq!(v.len(), MAX_VIOLATIONS + 1);
    assert_eq!(v[MAX_VIOLATIONS].found, (4095 - MAX_VIOLATIONS).to_string());
}

#[test]
fn a_whole_gibibyte_of_huge_pages_is_checked() {
    let contract = contract("7.3");
    let pages = 262_144u64;
    let mut head = state(1);
    (head.part, head.order, head.pincount, head.large_mapcount) = (Part::Head, 9, Some(0), Some(0));
    let tail = PageState {
        refcount: 0,
        part: Part::Tail,
        pincount: None,
        large_mapcount: None,
        ..head.clone()
    };
    let mut list = Vec::new();
    for folio in 0..pages / 512 {
        list.extend(runs(START + folio * 512, std::slice::from_ref(&head)));
        let mut tails = runs(START + folio * 512 + 1, std::slice::from_ref(&tail));
        tails[0].pages = 511;
        list.extend(tails);
    }
    let mut r = region(PageKind::Generic, "dax0.0", START, &[]);
    (r.pages, r.runs) = (pages, list);
    let mut c = checkpoint("x", vec![r], vec![]);
    c.claims
        .namespaces
        .push(namespace("devdax", START, pages, 2 << 20));
    let checked = check(&c, &contract);
    assert_eq!((checked.violations.len(), checked.predicted), (0, pages));
}

#[test]
fn coherent_and_p2pdma_pages_are_predicted_where_the_contract_has_them() {
    let states = [state(0), state(0)];
    for (page_type, name, covered) in [
        (PageType::Coherent, "6.12", true),
        (PageType::Coherent, "5.10", false),
        (PageType::P2pdma, "7.3", true),
        (PageType::P2pdma, "5.10+zone-device-refcount", true),
    ] {
        let c = reading(page_type, 0, &states, Vec::new());
        let checked = check(&c, &contract(name));
        assert_eq!(
            checked.violations.is_empty(),
            covered,
            "{page_type:?} on {name}"
        );
        assert_eq!(
            checked.predicted == checked.pages,
            covered,
            "{page_type:?} on {name}"
        );
    }
}

#[test]
fn a_page_in_a_state_that_its_type_cannot_have_is_told() {
    let with = |names: &[&str]| {
        let mut s = state(1);
        s.flags = names
            .iter()
            .map(|n| (*n).to_owned())
            .collect::<std::collections::BTreeSet<_>>()
            .into();
        let pages = vec![region(PageKind::FsDax, "r", START, &[s])];
        let found = check(&checkpoint("x", pages, vec![]), &contract("5.10")).violations;
        found
            .into_iter()
            .map(|v| format!("{}: {}", v.what, v.found))
            .collect::<Vec<_>>()
    };
    assert!(with(&["reserved", "dirty", "referenced"]).is_empty());
    assert_eq!(with(&["reserved", "lru", "locked"]), ["flags: lru, locked"]);
    assert_eq!(with(&[]), ["flags: no reserved"]);
}

#[test]
fn share_is_told_by_each_era_in_its_way() {
    let holds = || {
        let entry = HoldBy::Entry { order: 0 };
        vec![
            hold(START, 1, PageType::Fsdax, entry, "a"),
            hold(START, 1, PageType::Fsdax, entry, "b"),
            hold(START, 1, PageType::Fsdax, HoldBy::Shared { count: 2 }, "s"),
        ]
    };
    let found = |era: &str, mapping_set, share| {
        let mut s = state(contract(era).fsdax.idle);
        s.mapping_set = mapping_set;
        s.share = share;
        let c = checkpoint(
            "x",
            vec![region(PageKind::FsDax, "r", START, &[s])],
            holds(),
        );
        let v = check(&c, &contract(era)).violations;
        v.into_iter().map(|v| v.what).collect::<Vec<_>>()
    };
    for (era, mapping_set) in [("6.12", true), ("7.3", false)] {
        assert_eq!(found(era, mapping_set, Some(2)), [""; 0], "{era}");
        assert_eq!(found(era, !mapping_set, Some(2)), ["mapping"], "{era}");
        assert_eq!(found(era, mapping_set, Some(1)), ["share"], "{era}");
        assert_eq!(found(era, mapping_set, None), ["share"], "{era}");
    }
}

#[test]
fn the_mapping_of_an_anonymous_page_is_set_while_it_is_mapped_and_gone_when_it_is_free() {
    let found = |era: &str, mapped: bool, mapping_set| {
        let rules = contract(era).private;
        let mut s = state(rules.idle + i32::from(mapped));
        s.mapcount = i32::from(mapped);
        s.mapping_set = mapping_set;
        let holds = match mapped {
            true => vec![hold(START, 1, PageType::Private, PTE, "a")],
            false => vec![],
        };
        let pages = vec![region(kind(PageType::Private), "r", START, &[s])];
        let v = check(&checkpoint("x", pages, holds), &contract(era)).violations;
        v.into_iter().map(|v| v.what).collect::<Vec<_>>()
    };
    for era in ["5.10", "5.10+zone-device-refcount", "6.1", "6.12", "7.3"] {
        assert_eq!(found(era, true, true), [""; 0], "{era}");
        assert_eq!(found(era, true, false), ["mapping"], "{era}");
        assert_eq!(found(era, false, false), [""; 0], "{era}");
    }
    assert_eq!(found("6.12", false, true), ["mapping"]);
    // A free page may still look like a tail of the folio that it was in.
    assert_eq!(found("7.3", false, true), [""; 0]);
}

#[test]
fn a_share_that_nobody_claims_is_told() {
    let mut s = state(1);
    s.share = Some(0);
    let c = checkpoint("x", vec![region(PageKind::FsDax, "r", START, &[s])], vec![]);
    let v = check(&c, &contract("6.1")).violations;
    assert_eq!(
        (v[0].expected.as_str(), v[0].found.as_str()),
        ("not shared", "shared by 0")
    );
}

#[test]
fn poison_is_set_on_the_page_or_the_head_and_nowhere_else() {
    let poisoned = |mut s: PageState| {
        s.flags = Flags::from(BTreeSet::from(["hwpoison", "reserved"].map(str::to_owned)));
        s
    };
    let holds = vec![hold(START + 1, 1, PageType::Fsdax, HoldBy::Poison {}, "m")];
    let check = |states: &[PageState]| {
        let c = checkpoint(
            "x",
            vec![region(PageKind::FsDax, "r", START, states)],
            holds.clone(),
        );
        let v = check(&c, &contract("6.12")).violations;
        v.into_iter()
            .map(|v| (v.what, v.pfn, v.found))
            .collect::<Vec<_>>()
    };
    assert_eq!(check(&[state(1), poisoned(state(1))]), []);
    let word = |w: &str| w.to_owned();
    assert_eq!(
        check(&[poisoned(state(1)), state(1)]),
        [
            (word("hwpoison"), Some(START), word("set")),
            (word("hwpoison"), Some(START + 1), word("clear")),
        ]
    );
}

#[test]
fn what_migrates_is_charged_as_long_as_it_is_in_use_and_nothing_else_ever() {
    let what = |kind, page_type, by: Option<HoldBy>, refcount, charged| -> Vec<String> {
        let mut s = state(refcount);
        s.charged = charged;
        if by == Some(PTE) && page_type == PageType::Private {
            (s.mapcount, s.mapping_set) = (1, true);
        }
        let holds = by.map(|by| hold(START, 1, page_type, by, "main/m"));
        let c = checkpoint(
            "x",
            vec![region(kind, "r", START, &[s])],
            Vec::from_iter(holds),
        );
        let broken = check(&c, &contract("6.12")).violations;
        broken.into_iter().map(|v| v.found).collect()
    };
    let private =
        |by, refcount, charged| what(PageKind::Private, PageType::Private, by, refcount, charged);
    assert_eq!(private(Some(PTE), 1, Some(true)), [""; 0]);
    assert_eq!(private(Some(PTE), 1, Some(false)), ["not charged"]);
    assert_eq!(private(None, 0, Some(true)), ["charged"]);
    assert_eq!(private(None, 0, Some(false)), [""; 0]);
    let fsdax = |charged| what(PageKind::FsDax, PageType::Fsdax, None, 1, charged);
    assert_eq!(fsdax(Some(true)), ["charged"]);
    assert_eq!(fsdax(Some(false)), [""; 0]);
    let exclusive = |by: Option<HoldBy>, ptes: usize| -> Vec<String> {
        let mut s = state(ptes as i32);
        s.flags = BTreeSet::from(["reserved", "owner_2"].map(str::to_owned)).into();
        (s.mapcount, s.mapping_set) = (ptes as i32, ptes > 0);
        let private = PageType::Private;
        let holds = by.map(|by| hold(START, 1, private, by, "main/m"));
        let holds = std::iter::repeat_n(holds, ptes).flatten().collect();
        let c = checkpoint(
            "x",
            vec![region(PageKind::Private, "r", START, &[s])],
            holds,
        );
        let broken = check(&c, &contract("6.12")).violations;
        broken.into_iter().map(|v| v.found).collect()
    };
    assert_eq!(exclusive(Some(PTE), 1), [""; 0]);
    assert_eq!(exclusive(Some(PTE), 2), ["anon_exclusive"]);
    assert_eq!(exclusive(None, 0), ["anon_exclusive"]);
    // A kernel without groups says nothing.
    assert_eq!(private(Some(PTE), 1, None), [""; 0]);
}
