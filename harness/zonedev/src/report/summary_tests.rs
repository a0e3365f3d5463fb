use super::*;
use crate::record::testing::cell;
use crate::record::{
    AcceptState, CeilingRecord, KernelRecord, KnownFailure, KnownRecord, KnownWhat, SkipRecord,
};

fn difference(rank: u8, kind: &str, at: &str, pages: (u64, u64), text: &str) -> Difference {
    Difference {
        rank,
        kind: kind.into(),
        at: (!at.is_empty()).then(|| at.into()),
        pages: (pages.1 > 0).then_some(pages),
        text: text.into(),
    }
}

fn kernel(name: &str, says: &[(&str, &str)]) -> KernelRecord {
    KernelRecord {
        name: name.into(),
        contract: name.into(),
        provenance: says
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        build_key: "1a2b".into(),
    }
}

fn pair(case: &str, verdict: PairVerdict, differences: Vec<Difference>) -> PairRecord {
    PairRecord {
        baseline: cell(case, 0, "5.10").id,
        other: cell(case, 1, "5.10+zone-device-refcount").id,
        verdict,
        accepted: match verdict {
            PairVerdict::ChangedAsAccepted => AcceptState::Accepted {},
            _ => AcceptState::NoSnapshot {},
        },
        differences,
    }
}

fn run() -> RunRecord {
    let idle = |least, most| {
        difference(
            4,
            "pages",
            "every checkpoint",
            (least, most),
            "FS_DAX pages idle at 0, baseline 1",
        )
    };
    let mut pairs: Vec<PairRecord> = ["map-touch", "fork", "cow", "truncate", "punch"]
        .iter()
        .map(|c| pair(c, PairVerdict::ChangedAsAccepted, vec![idle(32256, 32768)]))
        .collect();
    pairs.push(pair(
        "pin",
        PairVerdict::Regressed,
        vec![
            difference(0, "log", "step 4 pin", (0, 0), "WARNING in try_grab_page"),
            difference(
                2,
                "operation",
                "step 4 pin",
                (0, 0),
                "pin how=vmsplice length=8K map=m pin=p gives ENOMEM, baseline ok",
            ),
            idle(32000, 32768),
            difference(
                8,
                "log-line",
                "",
                (0, 0),
                "a new kind of log line: pmem0: \u{1b}[31m odd",
            ),
        ],
    ));
    pairs.push(pair("unlink", PairVerdict::Same, vec![]));
    let mut cells = Vec::new();
    for p in &pairs {
        cells.push((p.baseline.clone(), CellVerdict::Pass {}));
        let verdict = match p.verdict {
            PairVerdict::Regressed => CellVerdict::Fail {
                reasons: vec!["WARNING in try_grab_page at step 4 pin".into()],
                violations: vec![],
                kinds: Vec::new(),
            },
            _ => CellVerdict::Pass {},
        };
        cells.push((p.other.clone(), verdict));
    }
    cells.push((
        cell("reflink", 0, "5.10").id,
        CellVerdict::Skip {
            reason: "ext4 has no reflink".into(),
        },
    ));
    RunRecord {
        took_ms: 48_200,
        accel_reason: Some(
            "/dev/kvm opens, and its trial boot never reached its first line".into(),
        ),
        kernels: vec![
            kernel(
                "5.10",
                &[
                    ("source", "linux-source-5.10 5.10.262-1"),
                    ("compiler", "gcc 12.2"),
                ],
            ),
            kernel(
                "5.10+zone-device-refcount",
                &[("series", "zone-device-refcount, 2 patches")],
            ),
        ],
        cells,
        pairs,
        skips: vec![
            SkipRecord {
                suite: "fsdax".into(),
                contract: "5.10".into(),
                reason: "ext4 has no reflink".into(),
                skips: 1,
            },
            SkipRecord {
                suite: "upstream".into(),
                contract: "5.10".into(),
                reason: "this kernel's tree has no cow.c".into(),
                skips: 2,
            },
        ],
        over_ceiling: vec![CeilingRecord {
            suite: "upstream".into(),
            kernel: "5.10".into(),
            contract: "5.10".into(),
            skips: 2,
            ceiling: 1,
        }],
        known: vec![KnownRecord {
            cell: cell("hmm-tests", 0, "5.10").id,
            known: KnownFailure {
                what: KnownWhat::Test {
                    name: "hmm.exclusive".into(),
                },
                sometimes: false,
                reason: "tails of a huge page are refused".into(),
            },
        }],
        pages_read: 688_128,
        pages_predicted: 688_128,
        phases_ms: [("boot".to_owned(), 9_100), ("cells".to_owned(), 31_000)].into(),
        notices: vec!["5.10: the locked version is gone, built 5.10.262-1 instead".into()],
        exit_code: 1,
        ..crate::record::testing::run()
    }
}

#[test]
fn one_screen_worst_first() {
    let text = summary(&run(), &Look::plain(90));
    insta::assert_snapshot!(text);
    // Every section is there.
    assert!(text.lines().count() <= 45);
    assert!(text.lines().all(|l| l.chars().count() <= 90));
}

#[test]
fn a_clean_run_is_short() {
    let mut run = run();
    run.pairs.retain(|p| p.verdict != PairVerdict::Regressed);
    run.cells.retain(|(_, v)| *v == CellVerdict::Pass {});
    (run.exit_code, run.notices) = (0, vec![]);
    (run.skips, run.over_ceiling, run.known) = (vec![], vec![], vec![]);
    insta::assert_snapshot!(summary(&run, &Look::plain(90)));
}

#[test]
fn colours_only_where_wanted_and_nothing_of_the_guest_steers() {
    let plain = summary(&run(), &Look::plain(90));
    assert!(!plain.contains('\u{1b}'));
    assert!(plain.contains("\\u{1b}[31m odd"));
    let coloured = summary(
        &run(),
        &Look {
            width: 90,
            colour: true,
        },
    );
    assert!(coloured.contains("\u{1b}[31;1mREGRESSED\u{1b}[0m"));
}

#[test]
fn pages_without_a_prediction_are_told() {
    let mut run = run();
    run.pages_predicted = 5;
    assert!(summary(&run, &Look::plain(90)).contains("only 5 of 688128 pages read were predicted"));
    run.pages_read = 0;
    assert!(summary(&run, &Look::plain(90)).contains("no page was read"));
}
