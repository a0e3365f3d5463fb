//! A small run with one of everything, and with what a hostile guest would say.

use std::collections::BTreeMap;

use super::recorded::{Detail, Recorded};
use crate::record::testing::cell;
use crate::record::{
    AcceptState, CeilingRecord, CellId, CellVerdict, Difference, FailedRun, FailureKind,
    FlakyRecord, KernelRecord, KnownFailure, KnownRecord, KnownWhat, PairRecord, PairVerdict,
    RunRecord, SkipRecord, SourcePlace,
};

/// What each form must show as text and nothing else.
pub(super) const HOSTILE: &str = "x]]><b>&amp;\u{1b}[31m\u{0}\u{b}\u{fffe}\n::error::y%0A\r\n    not ok 1 z # SKIP w \
     [l](http://h) `c` | **b** @who #12 www.e.org <script>alert(1)</script> <!-- \u{202e}bidi\u{9b}2J\
     \nKTAP version 1\n1..1\nreboot: System halted # Subtest: s\n\t-- \nFrom me\n```";

const BASE: &str = "6.12";
const OTHER: &str = "6.12+./my.mbox";

fn id(case: &str, side: usize) -> CellId {
    cell(case, side, [BASE, OTHER][side]).id
}

fn kernel(name: &str, key: &str, patches: &str) -> KernelRecord {
    let mut provenance = BTreeMap::from([
        ("release".to_owned(), "6.12.117".to_owned()),
        (
            "compiler".to_owned(),
            "gcc (Debian 12.2.0-14) 12.2.0".to_owned(),
        ),
    ]);
    if !patches.is_empty() {
        provenance.insert("patches".to_owned(), patches.to_owned());
    }
    KernelRecord {
        name: name.into(),
        contract: "6.12".into(),
        provenance,
        build_key: key.into(),
    }
}

fn fail(kind: FailureKind, reasons: &[&str]) -> CellVerdict {
    CellVerdict::Fail {
        reasons: reasons.iter().map(|r| (*r).to_owned()).collect(),
        violations: Vec::new(),
        kinds: vec![kind],
    }
}

fn pair(case: &str, verdict: PairVerdict, texts: &[&str]) -> PairRecord {
    let difference = |(n, text): (usize, &&str)| Difference {
        rank: n as u8,
        kind: "operation".into(),
        at: Some("step 4 pin".into()),
        pages: (n == 1).then_some((1, 64)),
        text: (*text).into(),
    };
    PairRecord {
        baseline: id(case, 0),
        other: id(case, 1),
        verdict,
        accepted: AcceptState::NoSnapshot {},
        differences: texts.iter().enumerate().map(difference).collect(),
    }
}

/// The run.
pub(super) fn recorded() -> Recorded {
    let (pass, warned) = (
        CellVerdict::Pass {},
        "WARNING in try_grab_page at step 4 pin",
    );
    let leak = "at \"after\": namespace0.0 FS_DAX refcount of 8 pages: expected 1, found 2";
    let skip = CellVerdict::Skip {
        reason: "ext4 has no reflink | really".into(),
    };
    let error = |host| CellVerdict::Error {
        reason: "QEMU was killed".into(),
        host,
    };
    let cells = vec![
        (id("pass", 0), pass.clone()),
        (id("pass", 1), pass.clone()),
        (id("leak", 0), pass.clone()),
        (id("leak", 1), fail(FailureKind::ContractBroken, &[leak])),
        (id("warns", 0), pass.clone()),
        (
            id("warns", 1),
            fail(FailureKind::KernelReported, &[warned, leak]),
        ),
        (id("hostile", 0), pass.clone()),
        (id("hostile", 1), fail(FailureKind::TestFailed, &[HOSTILE])),
        (id("differs", 0), pass.clone()),
        (id("differs", 1), pass.clone()),
        (id("reflink", 0), skip.clone()),
        (id("reflink", 1), skip),
        (id("host", 0), error(true)),
        (id("host", 1), error(false)),
        (id("flaky", 0), pass.clone()),
        (id("flaky", 1), pass.clone()),
        (id("known", 0), pass.clone()),
        (id("known", 1), pass),
    ];
    let pairs = vec![
        pair("pass", PairVerdict::Same, &[]),
        pair("leak", PairVerdict::Regressed, &["it fails"]),
        pair("warns", PairVerdict::Regressed, &["it fails"]),
        pair("hostile", PairVerdict::Regressed, &[HOSTILE]),
        pair(
            "differs",
            PairVerdict::Regressed,
            &[
                "pin gives ENOMEM, baseline ok",
                "FS_DAX pages idle at 0, baseline 1",
            ],
        ),
        pair("reflink", PairVerdict::Incomparable, &[]),
        pair("host", PairVerdict::Incomparable, &[]),
        pair(
            "flaky",
            PairVerdict::ChangedAsAccepted,
            &["pin gives EIO, baseline ok"],
        ),
        pair("known", PairVerdict::Fixed, &[]),
    ];
    let run = RunRecord {
        id: "20261128T010000Z-7".into(),
        started: "2026-11-28T01:00:00Z".into(),
        took_ms: 48_200,
        accel_reason: Some("/dev/kvm is not there".into()),
        kernels: vec![
            kernel(BASE, "0a1b", ""),
            kernel(OTHER, "2c3d", "0001-mm.patch"),
        ],
        cells,
        unfinished: vec![id("late", 0), id("late", 1)],
        pairs,
        skips: vec![SkipRecord {
            suite: "fsdax".into(),
            contract: "6.12".into(),
            reason: "ext4 has no reflink | really".into(),
            skips: 2,
        }],
        over_ceiling: vec![CeilingRecord {
            suite: "fsdax".into(),
            kernel: OTHER.into(),
            contract: "6.12".into(),
            skips: 2,
            ceiling: 1,
        }],
        known: vec![KnownRecord {
            cell: id("known", 1),
            known: KnownFailure {
                what: KnownWhat::Report {
                    title: HOSTILE.into(),
                },
                sometimes: false,
                reason: "tails are refused".into(),
            },
        }],
        flaky: vec![FlakyRecord {
            cell: id("flaky", 1),
            runs: 3,
            failed: 2,
            reason: HOSTILE.into(),
        }],
        pages_read: 4096,
        pages_predicted: 4095,
        boots_kept: 0,
        cpu_ms: Default::default(),
        notices: vec![HOSTILE.into()],
        exit_code: 1,
        ..crate::record::testing::run()
    };
    let failed = |run, seed| FailedRun {
        run,
        seed,
        reason: HOSTILE.into(),
        others: vec![leak.into()],
    };
    let place = SourcePlace {
        function: "try_grab_page".into(),
        file: "mm/gup.c".into(),
        line: 133,
    };
    let details = BTreeMap::from([
        (
            id("warns", 1),
            Detail {
                title: "pin".into(),
                runs: 5,
                failed: vec![failed(2, Some(7)), failed(4, Some(9))],
                reports: vec![("WARNING in try_grab_page".into(), Some(place))],
                trouble: format!(
                    "WARNING in try_grab_page\n  {}\n",
                    proto::text::escape(HOSTILE)
                ),
            },
        ),
        (
            id("flaky", 1),
            Detail {
                runs: 3,
                failed: vec![failed(1, None), failed(2, None)],
                ..Detail::default()
            },
        ),
    ]);
    let took = run.cells.iter().enumerate();
    Recorded {
        took_ms: took
            .map(|(n, (id, _))| (id.clone(), 100 + n as u64))
            .collect(),
        run,
        details,
    }
}

/// One in which all is well: two cells passed, and nothing else is.
pub(super) fn well() -> Recorded {
    let mut of = recorded();
    let run = &mut of.run;
    run.cells.truncate(2);
    run.pairs.truncate(1);
    (run.unfinished, run.flaky, run.known) = (Vec::new(), Vec::new(), Vec::new());
    (run.skips, run.over_ceiling, run.notices) = (Vec::new(), Vec::new(), Vec::new());
    (run.pages_predicted, run.exit_code) = (run.pages_read, 0);
    of.details = BTreeMap::new();
    of
}
