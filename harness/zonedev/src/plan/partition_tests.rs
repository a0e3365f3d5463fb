use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::plan::{Filter, plan};
use crate::record::CellId;
use crate::spec::{Case, Contract, Fixture, SpecFile};

/// A plan on two kernels: so many cases on each fixture.
fn of(sizes: &[usize]) -> Plan {
    let file = |text: &str| SpecFile::from_text("x.toml".into(), text.to_owned());
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels/contracts/");
    let contract = |name: &str| {
        let path = camino::Utf8PathBuf::from(format!("{dir}{name}.toml"));
        Contract::parse(&SpecFile::read(&path, "the contract").unwrap()).unwrap()
    };
    let kernels = ["5.10", "6.12"].map(|name| (name.to_owned(), contract(name)));
    let mut fixtures = BTreeMap::new();
    let mut cases = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let name = format!("f{n}");
        let fixture = Fixture::parse(&name, &file("title = \"t\"\n")).unwrap();
        fixtures.insert(name.clone(), fixture);
        for case in 0..*size {
            let text = format!(
                "title = \"t\"\nfixtures = [\"{name}\"]\n[[step]]\ndo = \"checkpoint\"\nname = \"c\"\n"
            );
            cases.extend(Case::parse("fsdax", &format!("c{n}-{case}"), &file(&text)).unwrap());
        }
    }
    let filter = Filter::new(&[], &[], &cases).unwrap();
    plan(&kernels, &cases, &fixtures, &filter).unwrap()
}

fn ids(plan: &Plan) -> Vec<CellId> {
    plan.ids().cloned().collect()
}

fn parts(plan: &Plan, text: &str) -> Vec<Plan> {
    let one: Partition = text.parse().unwrap();
    let each: Vec<Plan> = one.all().map(|part| plan.clone().part(part)).collect();
    let at_once = plan.clone().parts(one);
    let of = |plans: &[Plan]| plans.iter().map(ids).collect::<Vec<_>>();
    assert_eq!(of(&each), of(&at_once));
    each
}

#[test]
fn what_can_be_meant() {
    let parse = |text: &str| text.parse::<Partition>().map(|p| p.to_string());
    assert_eq!(parse("2/4").as_deref(), Ok("fixture:2/4"));
    assert_eq!(parse("fixture:4/4").as_deref(), Ok("fixture:4/4"));
    assert_eq!(parse("hash:1/1").as_deref(), Ok("hash:1/1"));
    for wrong in [
        "",
        "2",
        "0/4",
        "5/4",
        "hash:",
        "hash:1",
        "1/0",
        "+1/4",
        "1/4/",
        "count:1/4",
        "1/1001",
        "hash:1/-4",
        " 1/4",
        "fixture:fixture:",
        "fixture:1/4;",
    ] {
        assert_eq!(parse(wrong), Err(PartitionError), "{wrong}");
    }
}

#[test]
fn a_small_fixture_is_booted_in_one_part() {
    let plan = of(&[30, 3, 2, 1, 5, 4]);
    let boots = |parts: &[Plan]| -> usize { parts.iter().map(|p| p.groups.len()).sum() };
    let (by_fixture, by_hash) = (parts(&plan, "1/3"), parts(&plan, "hash:1/3"));
    assert!(
        boots(&by_fixture) <= plan.groups.len() + 2 * 2,
        "{}",
        boots(&by_fixture)
    );
    assert!(boots(&by_hash) > boots(&by_fixture));
    for part in &by_fixture {
        let booted = part
            .groups
            .iter()
            .filter(|g| g.fixture.name != "f0")
            .count();
        assert!(booted < plan.groups.len());
    }
}

#[test]
fn a_case_keeps_its_part_by_hash_when_others_come() {
    let place = |plan: &Plan| -> BTreeMap<CellId, usize> {
        let parts = parts(plan, "hash:1/5");
        let of_part = |(n, p): (usize, &Plan)| -> Vec<_> {
            let cells = p.groups.iter().flat_map(|g| &g.cells);
            cells.map(|c| (c.id.clone(), n)).collect()
        };
        parts.iter().enumerate().flat_map(of_part).collect()
    };
    let (few, many) = (place(&of(&[9, 9])), place(&of(&[9, 9, 40])));
    assert!(few.iter().all(|(id, n)| many[id] == *n));
}

#[test]
fn more_parts_than_cases_leave_some_empty() {
    let parts = parts(&of(&[1, 1]), "1/9");
    assert_eq!(parts.iter().filter(|p| !p.groups.is_empty()).count(), 2);
}

proptest! {
    #[test]
    fn every_case_is_in_one_part_with_all_its_kernels(
        sizes in prop::collection::vec(1..20usize, 1..6), n in 1..7usize, hash in any::<bool>(),
    ) {
        let plan = of(&sizes);
        let by = if hash { "hash" } else { "fixture" };
        let parts = parts(&plan, &format!("{by}:1/{n}"));
        let mut seen = BTreeSet::new();
        for part in &parts {
            let mine: BTreeSet<CellId> = ids(part).into_iter().collect();
            prop_assert_eq!(mine.len(), part.cells());
            for id in mine {
                let other = CellId {
                    side: 1 - id.side,
                    kernel: if id.side == 0 { "6.12".into() } else { "5.10".into() },
                    ..id.clone()
                };
                prop_assert!(ids(part).contains(&other));
                prop_assert!(seen.insert(id.clone()) || id.suite == "boot", "{id} twice");
            }
        }
        prop_assert_eq!(seen, ids(&plan).into_iter().collect::<BTreeSet<_>>());
        if !hash {
            // No part has more than an even share and one piece.
            let weigh = |p: &Plan| p.cells() - p.groups.len() + BOOT * p.groups.len();
            let all: usize = parts.iter().map(weigh).sum();
            let most = parts.iter().map(weigh).max().unwrap_or(0);
            prop_assert!(most <= all / n + all / n + 2 * BOOT + 40, "{most} of {all} in {n}");
        }
    }
}
