use super::super::check::tests::contract;
use super::*;
use crate::record::testing::{cell, checkpoint, log, region, splat, state, step};
use crate::record::{FailedRun, KnownFailure, KnownWhat, Left, Repeats, TestResult};
use guestmem::PageKind;
use proto::{Op, StepResult};

fn reasons(cell: &CellRecord) -> Vec<String> {
    match judge_cell(cell, &contract("5.10")).verdict {
        CellVerdict::Fail { reasons, .. } => reasons,
        other => vec![format!("{other:?}")],
    }
}

fn mark(name: &str) -> Op {
    Op::Checkpoint { name: name.into() }
}

/// One checkpoint with four idle pages.
fn good() -> CellRecord {
    let mut c = cell("map-touch", 0, "5.10");
    c.steps = vec![
        step(
            Op::Mount {
                namespace: None,
                read_only: false,
            },
            StepResult::Ok {},
        ),
        step(mark("idle"), StepResult::Ok {}),
    ];
    let pages = vec![region(
        PageKind::FsDax,
        "namespace0.0",
        0x200,
        &[state(1), state(1), state(1), state(1)],
    )];
    c.checkpoints = vec![checkpoint("idle", pages, vec![])];
    c
}

#[test]
fn a_cell_that_agrees_passes_and_says_how_much_was_predicted() {
    let judged = judge_cell(&good(), &contract("5.10"));
    assert_eq!(judged.verdict, CellVerdict::Pass {});
    assert_eq!((judged.pages_read, judged.pages_predicted), (4, 4));
}

#[test]
fn what_did_not_run_never_passes() {
    let mut c = good();
    c.checkpoints.clear();
    c.steps.pop();
    assert_eq!(reasons(&c), ["nothing was checked"]);
    let mut c = good();
    c.checkpoints.clear();
    assert_eq!(reasons(&c), ["0 of 1 checkpoints were read"]);
    let mut c = good();
    c.steps[0].outcome = None;
    assert_eq!(
        reasons(&c),
        ["1 of 2 steps did not run, the first: step 0 mount"]
    );
    let mut c = good();
    c.steps.push(step(
        Op::Run {
            root: false,
            cwd: None,
            minutes: None,
            poisons: false,
            argv: vec!["hmm-tests".into()],
        },
        StepResult::Ok {},
    ));
    assert_eq!(reasons(&c), ["a program ran and reported no result"]);
    let mut c = good();
    c.checkpoints[0].pages.regions[0].kind = PageKind::Unknown(9);
    let r = reasons(&c);
    assert!(
        r.iter()
            .any(|r| r == "at \"idle\": only 0 of 4 pages could be predicted"),
        "{r:?}"
    );
}

#[test]
fn skipped_and_failed_harness_are_no_word_about_the_kernel() {
    let mut c = good();
    c.end = End::Skipped {
        reason: "no xfs".into(),
    };
    assert_eq!(reasons(&c), ["Skip { reason: \"no xfs\" }"]);
    c.end = End::HarnessError {
        message: "disk full".into(),
    };
    assert_eq!(
        reasons(&c),
        ["Error { reason: \"disk full\", host: false }"]
    );
}

#[test]
fn an_unexpected_success_is_a_failure_too() {
    let mut c = good();
    c.steps[0].expected = "ENOMEM".into();
    assert_eq!(reasons(&c), ["step 0 mount gave ok, expected ENOMEM"]);
    let errno = StepResult::Errno {
        errno: "EBUSY".into(),
        call: "mount".into(),
    };
    c.steps[0] = step(
        Op::Mount {
            namespace: None,
            read_only: false,
        },
        errno,
    );
    assert_eq!(
        reasons(&c),
        ["step 0 mount gave EBUSY from mount, expected ok"]
    );
}

#[test]
fn worst_comes_first() {
    let mut c = good();
    c.end = End::GuestDied {
        step: Some(1),
        how: "panic".into(),
    };
    c.steps[1].outcome = None;
    c.steps[0].expected = "blocked".into();
    c.log = vec![log("BUG: Bad page state in process x", Some(0))];
    c.splats = vec![splat("Bad page", "BUG: Bad page state", (0, 1), Some(0))];
    c.checkpoints[0].pages.regions[0].runs[0].state.refcount = 2;
    assert_eq!(
        reasons(&c),
        [
            "the guest died at step 1 checkpoint: panic",
            "BUG: Bad page state at step 0 mount",
            "step 0 mount gave ok, expected blocked",
            "at \"idle\": namespace0.0 FS_DAX refcount of 4 pages from pfn 0x200 (page 0): expected 1, found 2 (idle 1)",
        ]
    );
    c.end = End::Hung {
        step: 1,
        at: "no answer".into(),
    };
    assert_eq!(
        reasons(&c)[..2],
        [
            "BUG: Bad page state at step 0 mount",
            "step 1 checkpoint did not end: no answer",
        ]
    );
    c.steps[0].expected_splats = vec!["BUG: Bad page state".into()];
    assert!(!reasons(&c).iter().any(|r| r.contains("Bad page")));
}

#[test]
fn known_failures_and_their_end() {
    let mut c = good();
    let result = |name: &str, status| TestResult {
        name: name.into(),
        status,
        message: "a\nb".into(),
    };
    c.results = vec![
        result("a", TestStatus::Pass),
        result("b", TestStatus::Fail),
        result("c", TestStatus::Missing),
        result("d", TestStatus::Skip),
    ];
    assert_eq!(
        reasons(&c),
        ["test b failed: a", "test c never reported: a"]
    );
    let known = |names: &[&str]| -> Vec<KnownFailure> {
        let one = |name: &&str| KnownFailure {
            what: KnownWhat::Test {
                name: (*name).into(),
            },
            sometimes: false,
            reason: "why".into(),
        };
        names.iter().map(one).collect()
    };
    // A known failure covers itself and nothing beside it.
    c.known_failures = known(&["b"]);
    assert_eq!(reasons(&c), ["test c never reported: a"]);
    assert_eq!(known_seen(&c, &[]), c.known_failures);
    c.known_failures = known(&["a", "b", "c", "d", "z"]);
    assert_eq!(
        reasons(&c),
        [
            "test a passed, and is listed as known to fail: a",
            "test c never reported: a",
            "test d was skipped, and is listed as known to fail: a",
            "test z is listed as known to go wrong and did not run",
        ]
    );
    assert_eq!(known_seen(&c, &[]).len(), 1);
}

#[test]
fn a_known_break_of_the_contract_hides_nothing_beside_it() {
    let known = |found: &str| KnownFailure {
        what: KnownWhat::Violation {
            checkpoint: "idle".into(),
            what: "refcount".into(),
            expected: "1".into(),
            found: found.into(),
        },
        sometimes: false,
        reason: "why".into(),
    };
    let mut c = good();
    c.known_failures = vec![known("2")];
    assert_eq!(
        reasons(&c),
        [
            "at \"idle\": refcount 2 instead of 1 is listed as known to go wrong and happens no longer"
        ]
    );
    // One page of the region is held once more than is claimed.
    let run = &mut c.checkpoints[0].pages.regions[0].runs[0];
    run.state.refcount += 1;
    let judged = judge_cell(&c, &contract("5.10"));
    assert_eq!(
        (judged.verdict, judged.known.len()),
        (CellVerdict::Pass {}, 1)
    );
    c.known_failures = vec![known("3")];
    assert_eq!(reasons(&c).len(), 2);
    // A report beside the known break, and one that is known itself.
    c.known_failures = vec![known("2")];
    let report = |title: &str| splat("BUG", title, (0, 0), None);
    c.splats = vec![report("BUG: x in y"), report("BUG: z")];
    assert_eq!(reasons(&c).len(), 2);
    for title in ["BUG: x in y", "BUG: z", "BUG: not seen"] {
        c.known_failures.push(KnownFailure {
            what: KnownWhat::Report {
                title: title.into(),
            },
            sometimes: false,
            reason: "why".into(),
        });
    }
    assert_eq!(
        reasons(&c),
        ["BUG: not seen is listed as known to go wrong and happens no longer"]
    );
    c.splats.clear();
    // Another break beside the known one.
    c.known_failures = vec![known("2")];
    c.checkpoints[0].pages.regions[0].runs[0].state.mapcount += 1;
    let said = reasons(&c);
    assert!(said.len() == 1 && said[0].contains("mapcount"), "{said:?}");
}

#[test]
fn a_page_that_outlives_its_fixture_is_told() {
    let mut c = good();
    c.steps[0] = step(Op::TornDown {}, StepResult::Ok {});
    c.checkpoints[0].step = 1;
    assert_eq!(
        reasons(&c),
        ["at \"idle\": 4 pages of namespace0.0 FS_DAX are left after the teardown"]
    );
    // The driver is a part of the kernel, and its pages stay; unless it is a module.
    c.checkpoints[0].pages.regions[0].kind = PageKind::Private;
    assert_eq!(
        judge_cell(&c, &contract("5.10")).verdict,
        CellVerdict::Pass {}
    );
    let module = "test_hmm".into();
    c.steps
        .insert(0, step(Op::Rmmod { module }, StepResult::Ok {}));
    c.checkpoints[0].step = 2;
    assert_eq!(reasons(&c).len(), 1);
}

#[test]
fn a_fixture_without_the_pages_that_it_gives_fails() {
    let mut c = good();
    c.fixture_pages = vec![PageKind::FsDax];
    assert_eq!(
        judge_cell(&c, &contract("5.10")).verdict,
        CellVerdict::Pass {}
    );
    c.fixture_pages.push(PageKind::PciP2pdma);
    assert_eq!(
        reasons(&c),
        ["at \"idle\": the fixture has no PCI_P2PDMA page"]
    );
}

#[test]
fn a_cell_that_fails_in_some_of_its_runs_is_told_with_its_rate() {
    let mut c = good();
    let failed = |run| FailedRun {
        others: Vec::new(),
        run,
        seed: Some(u64::from(run) + 6),
        reason: "a leak".into(),
    };
    c.repeats = Some(Repeats {
        runs: 20,
        failed: Vec::new(),
        tolerated: false,
        otherwise: Vec::new(),
    });
    assert_eq!(reasons(&c), ["Pass"]);
    let some = c.repeats.as_mut().unwrap();
    some.failed = vec![failed(2), failed(11)];
    assert_eq!(
        reasons(&c),
        ["2 of 20 runs did not pass: 2 (seed 8), 11 (seed 17)"]
    );
    // A flake that the user tolerates is told elsewhere.
    c.repeats.as_mut().unwrap().tolerated = true;
    assert_eq!(reasons(&c), ["Pass"]);
}

#[test]
fn runs_that_pass_and_are_observed_otherwise_are_no_pass() {
    let mut c = good();
    let other = FailedRun {
        others: Vec::new(),
        run: 4,
        seed: None,
        reason: "- a: 8 at refcount 1; + a: 8 at refcount 2".into(),
    };
    c.repeats = Some(Repeats {
        runs: 5,
        failed: Vec::new(),
        tolerated: false,
        otherwise: vec![other],
    });
    assert_eq!(
        reasons(&c),
        [
            "1 of 5 runs were observed otherwise than the first that passed, 4: - a: 8 at refcount \
             1; + a: 8 at refcount 2"
        ]
    );
    let CellVerdict::Fail { kinds, .. } = judge_cell(&c, &contract("5.10")).verdict else {
        panic!("it passes");
    };
    assert_eq!(kinds, [FailureKind::Unstable]);
}

/// Each sort of failure has its kind, and a cell may have several.
#[test]
fn failures_have_their_kinds() {
    use FailureKind as K;
    let kinds = |c: &CellRecord| match judge_cell(c, &contract("5.10")).verdict {
        CellVerdict::Fail { kinds, .. } => kinds,
        other => panic!("{other:?}"),
    };
    let ended = |end: End| {
        let mut c = good();
        c.end = end;
        kinds(&c)
    };
    let died = |how: &str| End::GuestDied {
        step: Some(1),
        how: how.into(),
    };
    assert!(ended(died("panic")).contains(&K::GuestDied));
    assert!(ended(died("guest-reset")).contains(&K::GuestRebooted));
    let lost = End::AgentLost {
        step: Some(1),
        how: "garbage".into(),
    };
    assert!(ended(lost).contains(&K::AgentLost));
    let hung = End::Hung {
        step: 1,
        at: "x".into(),
    };
    assert!(ended(hung).contains(&K::KernelHung));
    let mut c = good();
    c.splats = vec![splat("BUG", "BUG: x", (0, 0), None)];
    c.steps[0].outcome.as_mut().unwrap().result = StepResult::WrongData {
        offset: 0,
        expected: 1,
        found: 2,
    };
    assert_eq!(kinds(&c), [K::KernelReported, K::DataWrong]);
}

#[test]
fn counters_return_once_the_case_s_processes_are_gone() {
    let left = |mapped: i64, tables: i64| {
        let counters = [
            ("nr_mapped", 900),
            ("unaccounted_nr_mapped", mapped),
            ("unaccounted_nr_page_table_pages", tables),
        ];
        Some(Left {
            counters: counters.map(|(n, v)| (n.to_owned(), v)).into(),
            problem: None,
        })
    };
    let mut c = good();
    c.before = left(3, 8);
    c.left = left(3, 8);
    assert_eq!(reasons(&c), ["Pass"]);
    c.left = left(1, 9);
    let tables = "after the case: nr_page_table_pages is +1 pages off, of which no process has any";
    assert_eq!(
        reasons(&c),
        [
            "after the case: nr_mapped is -2 pages off, of which no process has any",
            tables
        ]
    );
    let nobody = |pages: i64| {
        let mut left = left(3, 8);
        let counters = left.as_mut().map(|l| &mut l.counters);
        counters.map(|c| c.insert("ram_of_nobody".into(), pages));
        left
    };
    (c.before, c.left) = (nobody(900), nobody(900 + RAM_BOUND));
    assert_eq!(reasons(&c), ["Pass"]);
    c.left = nobody(901 + RAM_BOUND);
    assert_eq!(
        reasons(&c),
        ["after the case: 3073 pages of RAM more are neither free nor anybody's"]
    );
    c.before = left(3, 8);
    // Where the kernel's own tables count, they tell nothing.
    let mut contract = contract("5.10");
    contract.features.kernel_page_tables_counted = true;
    c.left = left(3, 9);
    assert_eq!(judge_cell(&c, &contract).verdict, CellVerdict::Pass {});
    assert_eq!(reasons(&c), [tables]);
    if let Some(l) = &mut c.left {
        l.problem = Some("end actors by SIGKILL: b is in dax_layout (D)".into());
    }
    assert!(reasons(&c)[0].starts_with("at the end: end actors"));
    // A program may leave what it likes.
    c.left = left(5, 9);
    c.steps.push(step(
        Op::Run {
            root: false,
            cwd: None,
            minutes: None,
            poisons: false,
            argv: vec!["x".into()],
        },
        StepResult::Ok {},
    ));
    assert_eq!(reasons(&c), ["a program ran and reported no result"]);
}

#[test]
fn known_outcomes_and_ends_stand_for_themselves() {
    let known = |what| KnownFailure {
        what,
        sometimes: false,
        reason: "why".into(),
    };
    let outcome = |op: &str, gives: &str| {
        known(KnownWhat::Outcome {
            op: op.into(),
            gives: gives.into(),
        })
    };
    let mut c = good();
    let wrong = StepResult::Died {
        how: "signal 9".into(),
    };
    c.steps[0] = step(
        Op::Mount {
            namespace: None,
            read_only: false,
        },
        wrong,
    );
    assert_eq!(
        reasons(&c),
        ["step 0 mount gave died (signal 9), expected ok"]
    );
    c.known_failures = vec![outcome("mount", "died")];
    assert_eq!(reasons(&c), ["Pass"]);
    c.known_failures = vec![outcome("mount", "ok"), outcome("umount", "died")];
    assert_eq!(reasons(&c).len(), 3);

    let mut c = good();
    c.end = End::GuestDied {
        step: Some(1),
        how: "panic".into(),
    };
    assert_eq!(reasons(&c), ["the guest died at step 1 checkpoint: panic"]);
    c.known_failures = vec![known(KnownWhat::End { how: "died".into() })];
    assert_eq!(reasons(&c), ["Pass"]);
    c.end = End::Hung {
        step: 1,
        at: "no answer".into(),
    };
    assert_eq!(
        reasons(&c),
        [
            "step 1 checkpoint did not end: no answer",
            "the guest died is listed as known to go wrong and happens no longer"
        ]
    );
}
