use super::super::check::tests::contract;
use super::super::judge_cell;
use super::*;
use crate::record::TestResult;
use crate::record::testing::{cell, checkpoint, hold, log, region, splat, state, step};
use guestmem::{PageKind, PageState};
use proto::{HoldBy, Op, PageType, StepResult};

/// Three checkpoints of a region of 64 pages with 8 mapped in between; `idle` and `mapped` are
/// the counts.
fn run(side: usize, kernel: &str, idle: i32, mapped: i32) -> CellRecord {
    let mut c = cell("map-touch", side, kernel);
    for name in ["before", "held", "after"] {
        let mut states = vec![state(idle); 64];
        let mut holds = Vec::new();
        if name == "held" {
            for s in &mut states[8..16] {
                *s = PageState {
                    mapping_set: true,
                    ..state(mapped)
                };
            }
            holds.push(hold(8, 8, PageType::Fsdax, HoldBy::Entry { order: 0 }, "a"));
            holds.push(hold(8, 8, PageType::Fsdax, HoldBy::Pte {}, "main/m"));
        }
        let pages = vec![region(PageKind::FsDax, "namespace0.0", 0, &states)];
        c.checkpoints.push(checkpoint(name, pages, holds));
        c.steps.push(step(
            Op::Checkpoint { name: name.into() },
            StepResult::Ok {},
        ));
    }
    c
}

fn old() -> CellRecord {
    run(0, "5.10", 1, 1)
}

fn patched() -> CellRecord {
    run(1, "5.10+zone-device-refcount", 0, 0)
}

fn judge(base: &CellRecord, other: &CellRecord, snaps: [Option<&str>; 2]) -> PairRecord {
    let verdict = |c: &CellRecord| judge_cell(c, &contract(&c.contract)).verdict;
    pair(
        base,
        other,
        &verdict(base),
        &verdict(other),
        snaps[0],
        snaps[1],
    )
}

fn told(p: &PairRecord) -> Vec<String> {
    p.differences
        .iter()
        .map(|d| {
            let pages = d
                .pages
                .map(|(a, b)| format!("{a}-{b} "))
                .unwrap_or_default();
            format!(
                "{} {}: {pages}{}",
                d.rank,
                d.at.as_deref().unwrap_or("-"),
                d.text
            )
        })
        .collect()
}

#[test]
fn a_kernel_against_itself_shows_nothing() {
    let p = judge(
        &old(),
        &CellRecord {
            id: run(1, "5.10", 1, 1).id,
            ..old()
        },
        [None, None],
    );
    assert_eq!((p.verdict, told(&p)), (PairVerdict::Same, vec![]));
}

#[test]
fn each_difference_is_told_once_with_its_checkpoints() {
    let p = judge(&old(), &patched(), [None, None]);
    assert_eq!(
        told(&p),
        [
            "4 \"held\": 8-8 FS_DAX pages mapped once (PTE) at 0, baseline 1",
            "4 every checkpoint: 56-64 FS_DAX pages idle at 0, baseline 1",
        ]
    );
    assert_eq!(p.verdict, PairVerdict::Regressed, "nobody accepted it");
    assert_eq!(p.accepted, AcceptState::NoSnapshot {});
}

#[test]
fn accepted_differences_are_told_as_such_until_one_side_drifts() {
    let (b, o) = (normalised(&old()), normalised(&patched()));
    let p = judge(&old(), &patched(), [Some(&b), Some(&o)]);
    assert_eq!(p.verdict, PairVerdict::ChangedAsAccepted);
    assert_eq!(p.accepted, AcceptState::Accepted {});
    let p = judge(&old(), &patched(), [Some(&b), Some(&b)]);
    assert_eq!(p.verdict, PairVerdict::Regressed);
    let last = told(&p).pop().unwrap();
    assert!(
        last.starts_with("6 -: this kernel does not read as its accepted snapshot: - "),
        "{last}"
    );
    let p = judge(&old(), &old(), [Some(&o), Some(&b)]);
    assert_eq!(
        p.verdict,
        PairVerdict::Regressed,
        "both sides alike, and neither as accepted"
    );
    assert!(
        told(&p)[0].starts_with("6 -: the accepted difference no longer occurs: "),
        "{:?}",
        told(&p)
    );
    let p = judge(&old(), &old(), [Some(&b), Some(&b)]);
    assert_eq!((p.verdict, told(&p)), (PairVerdict::Same, vec![]));
}

#[test]
fn a_broken_contract_is_never_changed_as_accepted() {
    let mut leak = patched();
    leak.checkpoints[2].pages.regions[0].runs[0].state.refcount = 1;
    let (b, o) = (normalised(&old()), normalised(&leak));
    let p = judge(&old(), &leak, [Some(&b), Some(&o)]);
    assert_eq!(
        (p.verdict, p.accepted),
        (PairVerdict::Regressed, AcceptState::Accepted {})
    );
    let p = judge(&leak, &leak, [None, None]);
    assert_eq!(p.verdict, PairVerdict::Same, "as bad as the baseline");
    let p = judge(&leak, &patched(), [None, None]);
    assert_eq!(p.verdict, PairVerdict::Fixed);
}

#[test]
fn one_leaked_page_is_named_among_the_others() {
    let mut leak = old();
    let states: Vec<_> = (0..64).map(|n| state(if n == 9 { 2 } else { 1 })).collect();
    leak.checkpoints[2].pages.regions = vec![region(PageKind::FsDax, "namespace0.0", 0, &states)];
    let p = judge(&old(), &leak, [None, None]);
    assert_eq!(
        told(&p),
        ["4 \"after\": 64-64 FS_DAX pages idle at 1 (63) and 2 (1), baseline 1"]
    );
}

#[test]
fn reports_steps_ends_and_results_come_before_pages() {
    let mut o = patched();
    let errno = StepResult::Errno {
        errno: "ENOMEM".into(),
        call: "vmsplice".into(),
    };
    o.steps[1] = step(
        Op::Umount {
            namespace: None,
            lazy: false,
        },
        errno,
    );
    o.end = End::GuestDied {
        step: Some(2),
        how: "panic".into(),
    };
    o.log = vec![
        log("WARNING: x", Some(1)),
        log("pmem0: odd 12 thing", Some(1)),
        log("tsc: Refined 3", None),
    ];
    o.splats = vec![splat(
        "WARNING",
        "WARNING in try_grab_page",
        (0, 1),
        Some(1),
    )];
    let result = |name: &str, status| TestResult {
        name: name.into(),
        status,
        message: String::new(),
    };
    o.results = vec![
        result("t.a", TestStatus::Fail),
        result("t.new", TestStatus::Pass),
    ];
    let mut b = old();
    b.steps[1] = step(
        Op::Umount {
            namespace: None,
            lazy: false,
        },
        StepResult::Ok {},
    );
    b.results = vec![
        result("t.a", TestStatus::Pass),
        result("t.old", TestStatus::Pass),
    ];
    insta::assert_snapshot!(told(&judge(&b, &o, [None, None])).join("\n"), @r#"
    0 step 1 umount: WARNING in try_grab_page
    1 -: the guest died at step 2 checkpoint: panic, baseline finished
    2 step 1 umount: umount gives ENOMEM, baseline ok
    3 -: t.a fails, on the baseline it passes
    4 "held": 8-8 FS_DAX pages mapped once (PTE) at 0, baseline 1
    4 every checkpoint: 56-64 FS_DAX pages idle at 0, baseline 1
    7 -: t.new passes, the baseline has no such test
    7 -: t.old is gone, on the baseline it passes
    8 -: a new kind of log line: pmem0: odd N thing
    "#);
}

#[test]
fn log_lines_alone_change_no_verdict() {
    let mut o = old();
    o.log = vec![log("pmem0: odd 12 thing", None)];
    let p = judge(&old(), &o, [None, None]);
    assert_eq!((p.verdict, p.differences.len()), (PairVerdict::Same, 1));
}

#[test]
fn a_side_that_did_not_run_is_incomparable() {
    let mut o = old();
    o.end = End::Skipped {
        reason: "no xfs".into(),
    };
    assert_eq!(
        judge(&old(), &o, [None, None]).verdict,
        PairVerdict::Incomparable
    );
}
