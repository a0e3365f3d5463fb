//! Each cell of a contract's table, changed, must make exactly the cases fail whose pages depend on
//! it: what a real kernel did is judged again by every contract that differs in one property.
//!
//! Which cells depend on a property is told from their claims alone, by the closures below.
//!
//! | variable | |
//! |---|---|
//! | `ZONEDEV_TEST_CONTRACTS` | kernels to run instead of 5.10 and its series |
//! | `ZONEDEV_TEST_SUITES` | suites to run in full instead of the default matrix |
//! | `ZONEDEV_TEST_RUN` | the folder of a run whose cells are judged instead; those that did not pass are left out |

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use camino::Utf8Path;
use guestmem::PageKind;
use proto::{Hold, HoldBy, PageType, PinHow};
use zonedev::record::{CellRecord, CellVerdict, RunFolder};
use zonedev::spec::{
    Contract, FolioRule, MapcountRule, MappingRule, PageRules, PinKind, PinRule, SharedRule,
    SpecFile,
};
use zonedev::verdict::judge_cell;

use common::project;

fn contract(name: &str) -> Contract {
    let path = project().join(format!("kernels/contracts/{name}.toml"));
    Contract::parse(&SpecFile::read(&path, "the contract").unwrap()).unwrap()
}

/// The cells of a whole run of these kernels, of all suites by default or of these in full.
fn cells(kernels: &[&str], suites: &str) -> Vec<CellRecord> {
    if let Ok(run) = std::env::var("ZONEDEV_TEST_RUN") {
        return cells_of(Utf8Path::new(&run));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonedev"));
    command
        .env("CI", "true")
        .args(["--project", project().as_str(), "matrix", "--run-dir"])
        .arg(&path)
        .stdin(Stdio::null());
    for kernel in kernels {
        command.args(["-k", kernel]);
    }
    for suite in suites.split_whitespace() {
        command.args(["-s", suite]);
    }
    let output = command.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0));
    cells_of(Utf8Path::from_path(&path).unwrap())
}

fn cells_of(run: &Utf8Path) -> Vec<CellRecord> {
    let folder = RunFolder::open(run);
    let record = folder.read_record().unwrap();
    let passed = record
        .cells
        .iter()
        .filter(|(_, v)| *v == CellVerdict::Pass {});
    let ids: BTreeSet<_> = passed.map(|(id, _)| id.clone()).collect();
    ids.iter().map(|id| folder.read_cell(id).unwrap()).collect()
}

const TYPES: [PageType; 5] = [
    PageType::Fsdax,
    PageType::Devdax,
    PageType::Private,
    PageType::Coherent,
    PageType::P2pdma,
];

fn kind(page_type: PageType) -> PageKind {
    match page_type {
        PageType::Fsdax => PageKind::FsDax,
        PageType::Devdax => PageKind::Generic,
        PageType::Private => PageKind::Private,
        PageType::Coherent => PageKind::Coherent,
        PageType::P2pdma => PageKind::PciP2pdma,
    }
}

fn rules(contract: &mut Contract, page_type: PageType) -> Option<&mut PageRules> {
    match page_type {
        PageType::Fsdax => Some(&mut contract.fsdax),
        PageType::Devdax => Some(&mut contract.devdax),
        PageType::Private => Some(&mut contract.private),
        PageType::Coherent => contract.coherent.as_mut(),
        PageType::P2pdma => contract.p2pdma.as_mut(),
    }
}

/// Whether some claim of this kind of page, at some checkpoint, is such a one.
fn claims(cell: &CellRecord, page_type: PageType, such: impl Fn(&Hold) -> bool) -> bool {
    cell.checkpoints
        .iter()
        .flat_map(|c| &c.claims.holds)
        .any(|h| h.page_type == page_type && such(h))
}

fn has_pages(cell: &CellRecord, page_type: PageType) -> bool {
    cell.checkpoints
        .iter()
        .flat_map(|c| &c.pages.regions)
        .any(|r| r.kind == kind(page_type) && r.pages > r.metadata_pages)
}

/// Whether some page still had a mapping when it was read. No claim tells where one outlives the
/// last entry: what a case unmaps between two checkpoints leaves no other trace.
fn has_mapping(cell: &CellRecord, page_type: PageType) -> bool {
    cell.checkpoints
        .iter()
        .flat_map(|c| &c.pages.regions)
        .filter(|r| r.kind == kind(page_type))
        .flat_map(|r| &r.runs)
        .any(|run| run.state.mapping_set)
}

/// Whether some page is a tail by the contract.
fn has_tails(cell: &CellRecord, page_type: PageType, folio: FolioRule) -> bool {
    match folio {
        FolioRule::None => false,
        FolioRule::Stale => claims(
            cell,
            page_type,
            |h| matches!(h.by, HoldBy::Folio { order } if order > 0),
        ),
        FolioRule::Entry => claims(
            cell,
            page_type,
            |h| matches!(h.by, HoldBy::Entry { order } if order > 0),
        ),
        FolioRule::Align => cell
            .checkpoints
            .iter()
            .flat_map(|c| &c.claims.namespaces)
            .any(|n| n.mode == "devdax" && n.align > 4096 && has_pages(cell, page_type)),
    }
}

struct Mutation {
    name: String,
    contract: Contract,
    depends: Box<dyn Fn(&CellRecord) -> bool>,
}

fn mutations(of: &Contract) -> Vec<Mutation> {
    let mut out = Vec::new();
    let mut add = |t: PageType,
                   name: &str,
                   change: &dyn Fn(&mut PageRules),
                   depends: Box<dyn Fn(&CellRecord) -> bool>| {
        let mut contract = of.clone();
        change(rules(&mut contract, t).unwrap());
        assert_ne!(&contract, of, "{t:?} {name} changes nothing");
        out.push(Mutation {
            name: format!("{t:?} {name}"),
            contract,
            depends,
        });
    };
    for t in TYPES {
        let Some(now) = of.rules(t).cloned() else {
            continue;
        };
        let folio = now.folio;
        let pte = move |c: &CellRecord| claims(c, t, |h| h.by == HoldBy::Pte {});
        let pmd = move |c: &CellRecord| claims(c, t, |h| h.by == HoldBy::Pmd {});
        add(
            t,
            "idle one more",
            &|r| r.idle += 1,
            Box::new(move |c| has_pages(c, t)),
        );
        add(t, "PTE one more", &|r| r.pte += 1, Box::new(pte));
        add(t, "PMD one more", &|r| r.pmd += 1, Box::new(pmd));
        add(
            t,
            "tail one more",
            &|r| r.tail += 1,
            Box::new(move |c| has_tails(c, t, folio)),
        );
        if now.mapcount == MapcountRule::None {
            // A PMD counts in the mapcount of a folio only.
            add(
                t,
                "mapcount counted",
                &|r| r.mapcount = MapcountRule::Counted,
                Box::new(move |c| pte(c) || (pmd(c) && has_tails(c, t, folio))),
            );
        } else if t != PageType::Private {
            add(
                t,
                "mapcount not counted",
                &|r| r.mapcount = MapcountRule::None,
                Box::new(move |c| pte(c) || pmd(c)),
            );
        }
        if now.mapping == MappingRule::SinceFault {
            add(
                t,
                "mapping set by an entry only",
                &|r| r.mapping = MappingRule::Entry,
                Box::new(move |c| has_mapping(c, t)),
            );
        }
        if let Some(shared) = now.shared {
            let other = match shared {
                SharedRule::Constant => SharedRule::Null,
                SharedRule::Null => SharedRule::Constant,
            };
            add(
                t,
                "sharing told the other way",
                &|r| r.shared = Some(other),
                Box::new(move |c| claims(c, t, |h| matches!(h.by, HoldBy::Shared { .. }))),
            );
        }
        if now.pins == PinRule::Allowed {
            let pinned = move |c: &CellRecord| claims(c, t, |h| matches!(h.by, HoldBy::Pin { .. }));
            add(
                t,
                "pins refused",
                &|r| r.pins = PinRule::Refused,
                Box::new(pinned),
            );
            for how in [
                PinHow::Vmsplice,
                PinHow::DirectWrite,
                PinHow::DirectRead,
                PinHow::IoUring,
                PinHow::GupTest,
            ] {
                // Pins of RAM are counted as those of a file's pages are; long-term ones are
                // FOLL_PIN by every contract.
                let in_ram = move |c: &CellRecord| {
                    let claims = c.checkpoints.iter().map(|c| &c.claims);
                    t == PageType::Fsdax
                        && !how.is_longterm()
                        && claims.into_iter().any(|c| c.pins_in_ram.contains_key(&how))
                };
                let by = move |c: &CellRecord| {
                    in_ram(c) || claims(c, t, |h| h.by == HoldBy::Pin { how })
                };
                let other = |kind: &mut Option<PinKind>| {
                    *kind = match kind {
                        Some(PinKind::Get) => Some(PinKind::Pin),
                        _ => Some(PinKind::Get),
                    }
                };
                add(
                    t,
                    &format!("{how:?} of the other kind"),
                    &|r| {
                        other(match how {
                            PinHow::Vmsplice => &mut r.vmsplice,
                            PinHow::DirectWrite => &mut r.direct_write,
                            PinHow::DirectRead => &mut r.direct_read,
                            PinHow::IoUring => &mut r.io_uring,
                            PinHow::GupTest => &mut r.gup_test,
                        });
                    },
                    Box::new(by),
                );
            }
        }
    }
    out
}

#[test]
fn every_cell_of_a_contracts_table_is_checked_by_the_cases_that_depend_on_it() {
    let kernels = std::env::var("ZONEDEV_TEST_CONTRACTS")
        .unwrap_or_else(|_| "5.10 5.10+zone-device-refcount".into());
    let kernels: Vec<&str> = kernels.split_whitespace().collect();
    let suites = std::env::var("ZONEDEV_TEST_SUITES").unwrap_or_default();
    let cells = cells(&kernels, &suites);
    let names: BTreeSet<&str> = cells.iter().map(|c| c.contract.as_str()).collect();
    let mut wrong = Vec::new();
    for name in names {
        let of = contract(name);
        let cells: Vec<&CellRecord> = cells.iter().filter(|c| c.contract == name).collect();
        for cell in &cells {
            assert_eq!(judge_cell(cell, &of).verdict, CellVerdict::Pass {});
        }
        let mut idle = Vec::new();
        for mutation in mutations(&of) {
            let mut some = false;
            for cell in &cells {
                let failed = judge_cell(cell, &mutation.contract).verdict != CellVerdict::Pass {};
                some |= failed;
                if failed != (mutation.depends)(cell) {
                    let how = if failed { "fails" } else { "passes" };
                    wrong.push(format!(
                        "{} {how} by contract {name} with {}",
                        cell.id, mutation.name
                    ));
                }
            }
            if !some {
                idle.push(mutation.name);
            }
        }
        // What no case of this run reaches is told, not hidden.
        println!("contract {name}: no case depends on {idle:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
