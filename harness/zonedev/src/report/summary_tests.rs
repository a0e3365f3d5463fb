use super::*;
use crate::record::testing::cell;
use crate::record::{
    AcceptState, CeilingRecord, Difference, KernelRecord, KnownFailure, KnownRecord, KnownWhat,
    SkipRecord,
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
        boots_kept: 0,
        cpu_ms: Default::default(),
        phases_ms: [("boot".to_owned(), 9_100), ("cells".to_owned(), 31_000)].into(),
        notices: vec!["5.10: the locked version is gone, built 5.10.262-1 instead".into()],
        exit_code: 1,
        ..crate::record::testing::run()
    }
}

#[test]
fn one_screen_worst_first() {
    let text = summary(&run(), "latest", &Look::plain(90));
    insta::assert_snapshot!(text);
    // Every section is there.
    assert!(text.lines().count() < 60);
    assert!(text.lines().all(|l| l.chars().count() <= 90));
}

#[test]
fn a_clean_run_is_short() {
    let mut run = run();
    run.pairs.retain(|p| p.verdict != PairVerdict::Regressed);
    run.cells.retain(|(_, v)| *v == CellVerdict::Pass {});
    (run.exit_code, run.notices) = (0, vec![]);
    (run.skips, run.over_ceiling, run.known) = (vec![], vec![], vec![]);
    insta::assert_snapshot!(summary(&run, "latest", &Look::plain(90)));
}

#[test]
fn colours_only_where_wanted_and_nothing_of_the_guest_steers() {
    let plain = summary(&run(), "latest", &Look::plain(90));
    assert!(!plain.contains('\u{1b}'));
    assert!(plain.contains("\\u{1b}[31m odd"));
    let look = Look {
        colour: true,
        ..Look::plain(90)
    };
    let coloured = summary(&run(), "latest", &look);
    assert!(coloured.contains("\u{1b}[31;1mREGRESSED\u{1b}[0m"));
}

#[test]
fn pages_without_a_prediction_are_told() {
    let mut run = run();
    run.pages_predicted = 5;
    assert!(
        summary(&run, "latest", &Look::plain(90))
            .contains("only 5 of 688128 pages read were predicted")
    );
    run.pages_read = 0;
    assert!(summary(&run, "latest", &Look::plain(90)).contains("no page was read"));
}

/// A run with more of everything than a screen has lines.
fn large() -> RunRecord {
    let mut run = run();
    for n in 0..60 {
        let text = format!("FS_DAX pages idle at {n}, baseline 1");
        let one = difference(4, "pages", "every checkpoint", (1, 1), &text);
        let verdict = [PairVerdict::Regressed, PairVerdict::ChangedAsAccepted][n % 2];
        run.pairs.push(pair(&format!("c{n}"), verdict, vec![one]));
        run.notices.push(format!("notice {n}"));
        run.skips.push(SkipRecord {
            suite: "fsdax".into(),
            contract: "5.10".into(),
            reason: format!("reason {n}"),
            skips: n as u64,
        });
    }
    run
}

#[test]
fn however_much_there_is_to_tell_it_fits_and_the_worst_is_there() {
    let run = large();
    for rows in [30, 40, 60] {
        let look = Look {
            rows,
            ..Look::plain(80)
        };
        let text = summary(&run, "latest", &look);
        assert!(text.lines().count() < rows, "{rows}: {text}");
        for part in [
            "1 cell failed\n  WARNING in try_grab_page",
            "31 cases regressed\n  WARNING",
            "35 cases changed as accepted",
            "61 notices",
            "tests skipped",
            "`zonedev report -v latest` leaves nothing out",
            "REGRESSED: 31 regressed",
        ] {
            assert!(text.contains(part), "{rows}: {part} is not in {text}");
        }
    }
    let all = Look {
        verbosity: Verbosity::All,
        ..Look::plain(80)
    };
    let text = summary(&run, "latest", &all);
    assert!(text.contains("notice 59") && text.contains("FS_DAX pages idle at 59, baseline 1"));
    assert!(!text.contains("leaves nothing out"));
}

#[test]
fn little_is_what_failed_and_the_verdict() {
    let brief = Look {
        verbosity: Verbosity::Brief,
        ..Look::plain(80)
    };
    let text = summary(&large(), "latest", &brief);
    assert!(text.contains("1 cell failed") && text.contains("REGRESSED"));
    assert!(!text.contains("accepted\n") && !text.contains("skipped\n"));
}

#[test]
fn a_pair_that_a_kernel_skips_is_no_failure_and_one_that_broke_is() {
    let mut run = run();
    run.pairs = vec![
        pair("reflink", PairVerdict::Incomparable, vec![]),
        pair("broke", PairVerdict::Incomparable, vec![]),
    ];
    let text = summary(&run, "latest", &Look::plain(80));
    assert!(text.contains("1 case could not be compared\n  fsdax/fsdax-ext4/broke"));
    assert!(text.contains("1 case not compared\n  1: the baseline skipped: ext4 has no reflink"));
}

#[test]
fn what_to_type_next_is_what_a_shell_takes_and_what_bisect_can_do() {
    let text = summary(&run(), "my runs/x", &Look::plain(200));
    for command in [
        "zonedev inspect my runs/x fsdax/fsdax-ext4/pin -k 5.10+zone-device-refcount",
        "zonedev bisect --good 5.10 --bad 5.10+zone-device-refcount -E fsdax/fsdax-ext4/pin",
    ] {
        assert!(text.contains(command), "{text}");
    }
    assert!(bisectable("tree:../linux@v6.12", "tree:../linux@HEAD"));
    assert!(bisectable("6.12", "6.12:./my.config"));
    assert!(!bisectable("6.1", "6.12") && !bisectable("6.12", "7.3"));
    assert!(!bisectable("tree:../a", "tree:../b") && !bisectable("6.12", "6.12"));
    assert_eq!(quoted("6.12+./a b.mbox"), "'6.12+./a b.mbox'");
    assert_eq!(quoted("it's"), r"'it'\''s'");
}
