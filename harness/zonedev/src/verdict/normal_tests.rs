use super::super::check;
use super::super::check::tests::contract;
use super::*;
use crate::record::testing::{cell, checkpoint, hold, namespace, region, splat, state, step};
use crate::record::{KnownFailure, KnownWhat, TestResult};
use guestmem::{PageKind, Part};
use proto::{HoldBy, PageType, PinHow, Size};

/// A 2M file of 7.3, mapped by one PMD, with a pin of two pages, at `base`; two private pages.
pub(crate) fn large(base: u64, private: u64) -> CellRecord {
    let mut states = vec![state(0); 1024];
    for (n, s) in states[512..].iter_mut().enumerate() {
        s.order = 9;
        s.mapping_set = true;
        s.part = if n == 0 { Part::Head } else { Part::Tail };
        if n == 0 {
            s.refcount = 3;
            s.large_mapcount = Some(1);
            s.pincount = Some(2);
        }
    }
    let fsdax = region(PageKind::FsDax, "namespace0.0", base, &states);
    let mut states = vec![state(0); 64];
    for s in &mut states[7..9] {
        (s.refcount, s.mapcount, s.mapping_set) = (1, 1, true);
    }
    let device = region(PageKind::Private, "hmm_dmirror", private, &states);
    let at = base + 512;
    let pin = HoldBy::Pin {
        how: PinHow::DirectWrite,
    };
    let holds = vec![
        hold(at, 512, PageType::Fsdax, HoldBy::Entry { order: 9 }, "a"),
        hold(at, 512, PageType::Fsdax, HoldBy::Pmd {}, "main/m"),
        hold(at + 3, 2, PageType::Fsdax, pin, "p"),
        hold(private + 7, 2, PageType::Private, HoldBy::Pte {}, "main/x"),
    ];
    let mut c = cell("pin", 0, "7.3");
    c.steps = vec![
        step(
            Op::Create {
                file: "a".into(),
                size: Size(2 << 20),
            },
            StepResult::Ok {},
        ),
        step(
            Op::Pin {
                pin: "p".into(),
                how: PinHow::DirectWrite,
                map: "m".into(),
                offset: Size(3 * 4096),
                length: Size(8192),
            },
            StepResult::Ok {},
        ),
        step(
            Op::Checkpoint {
                name: "held".into(),
            },
            StepResult::Ok {},
        ),
    ];
    c.checkpoints = vec![checkpoint("held", vec![fsdax, device], holds)];
    let counters = &mut c.checkpoints[0].claims.counters;
    counters.insert("nr_foll_pin_acquired".into(), 5000);
    counters.insert("nr_foll_pin_released".into(), 4998);
    c.checkpoints[0]
        .claims
        .namespaces
        .push(namespace("fsdax", base, 1024, 2 << 20));
    c
}

#[test]
fn what_a_review_shows() {
    let mut c = large(0x100000, 0xfce0000);
    assert_eq!(check(&c.checkpoints[0], &contract("7.3")).violations, []);
    c.splats.push(splat(
        "WARNING",
        "WARNING in try_grab_folio",
        (0, 0),
        Some(1),
    ));
    c.results.push(TestResult {
        name: "hmm.migrate".into(),
        status: TestStatus::Fail,
        message: "took 12 ms".into(),
    });
    insta::assert_snapshot!(normalised(&c), @r#"
    fsdax/fsdax-ext4/pin: map a file and touch it

    steps
      0 main: create file=a size=2M: ok
      1 main: pin how=direct-write length=8K map=m offset=12K pin=p: ok
      2 main: checkpoint name=held: ok

    checkpoint held
      2 FOLL_PIN references are out
      FS_DAX of namespace0.0: 1024 pages
        a (2M entry), main/m (PMD):
          509 at refcount 0, a tail of order 9, mapping set
          1 at refcount 3, mapcount 1, pincount 2, a head of order 9, mapping set
        a (2M entry), main/m (PMD), p (direct-write): 2 at refcount 0, a tail of order 9, mapping set
        idle: 512 at refcount 0
      PRIVATE of hmm_dmirror: 64 pages
        main/x (swap entry): 2 at refcount 1, mapcount 1, mapping set
        idle: 62 at refcount 0

    kernel reports
      step 1 pin: WARNING in try_grab_folio

    results
      hmm.migrate: fail
    "#);
}

/// What comes sometimes is neither a failure nor a difference; anything else that comes is both.
#[test]
fn a_report_that_comes_sometimes_is_no_difference() {
    let mut c = large(0x100000, 0xfce0000);
    let without = normalised(&c);
    c.known_failures.push(KnownFailure {
        what: KnownWhat::Report {
            title: "WARNING in f".into(),
        },
        sometimes: true,
        reason: "which comes first".into(),
    });
    assert_eq!(normalised(&c), without);
    c.splats
        .push(splat("WARNING", "WARNING in f", (0, 0), Some(1)));
    assert_eq!(normalised(&c), without);
    c.splats
        .push(splat("WARNING", "WARNING in g", (0, 0), Some(1)));
    assert!(normalised(&c).ends_with("kernel reports\n  step 1 pin: WARNING in g\n"));
    c.known_failures[0].sometimes = false;
    assert!(normalised(&c).contains("WARNING in f"));
}

#[test]
fn neither_frames_nor_times_nor_counters_show() {
    let mut moved = large(0x240000, 0xfcd0000);
    moved.took_ms = 1;
    moved.accel = "kvm".into();
    moved.steps[0].outcome.as_mut().unwrap().took_us = 99;
    let counters = &mut moved.checkpoints[0].claims.counters;
    counters.insert("nr_foll_pin_acquired".into(), 10);
    counters.insert("nr_foll_pin_released".into(), 8);
    counters.insert("nr_free_pages".into(), 1);
    assert_eq!(normalised(&moved), normalised(&large(0x100000, 0xfce0000)));
}

#[test]
fn ends_and_outcomes_show() {
    let mut c = cell("truncate", 0, "5.10");
    let blocked = StepResult::Blocked {
        wchan: "wait_var_event".into(),
    };
    c.steps = vec![step(
        Op::Truncate {
            file: "a".into(),
            size: Size(0),
        },
        blocked,
    )];
    c.steps.push(step(Op::Wait {}, StepResult::Ok {}));
    c.steps[1].outcome = None;
    c.end = End::Hung {
        step: 0,
        at: "x".into(),
    };
    insta::assert_snapshot!(normalised(&c), @r"
    fsdax/fsdax-ext4/truncate: map a file and touch it
    step 0 truncate did not end

    steps
      0 main: truncate file=a: blocked (expected ok)
      1 main: wait: not run
    ");
}
