//! What the pages of docs/ show.

use super::{Before, How, LEAK_SERIES, Made, RUN, Rule, Run, Try};

const ONE_CASE: &str = "-E =fsdax/fsdax-ext4/pin-vmsplice";
/// Steps that are releases or options need sources or a kernel that are not at hand: the search alone.
const STEPS: &str = "harness/zonedev/src/bisect/search_tests.rs";

/// Runs on a cluster of two nodes.
const SLURM: &str = "harness/zonedev/tests/slurm_real.rs";

pub(super) static RULES: &[Rule] = &[
    // docs/accept.md.
    (
        "zonedev diff 20261127T010000Z-1 latest",
        &[How::Runs(Run {
            before: &[
                Before::Copy(Made::Leak, "target/runs/20261127T010000Z-1"),
                Before::Latest(Made::Series),
            ],
            code: 1,
            says: &["of the first run only"],
            ..RUN
        })],
    ),
    (
        "zonedev diff latest:'pin-vmsplice on 6.12' latest:'pin-vmsplice on 7.3'",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Series)],
            instead: &[("6.12", "5.10"), ("7.3", "5.10+zone-device-refcount")],
            code: 1,
            says: &["ENOMEM", "WARNING in try_grab_page"],
            ..RUN
        })],
    ),
    (
        "zonedev accept latest -E fsdax-ext4/pin-vmsplice --reason 'the series lets pins go'",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Series), Before::NotAccepted],
            says: &["1 accepted, 1 were already, 0 refused"],
            ..RUN
        })],
    ),
    (
        "zonedev matrix -k 5.10 -k 5.10+zone-device-refcount -E =fsdax/fsdax-ext4/pin-vmsplice",
        &[How::Runs(Run {
            more: "--run-dir ahead/series",
            how: Try::Ahead,
            code: 1,
            as_shown: Some(&[]),
            ..RUN
        })],
    ),
    (
        "zonedev accept latest -E 'pin-vmsplice on 5.10+zone' --reason 'a page with no reference to spare can not be spliced'",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Series), Before::NotAccepted],
            as_shown: Some(&[]),
            ..RUN
        })],
    ),
    // docs/adding-a-kernel.md.
    (
        "zonedev matrix -k 6.12 -k 6.12:./my.config",
        &[How::Lists {
            of: None,
            cells: &["fsdax/"],
        }],
    ),
    (
        "zonedev matrix -k 6.12 -k 6.12:debug",
        &[How::Lists {
            of: None,
            cells: &["fsdax/"],
        }],
    ),
    // docs/bisect.md.
    (
        "zonedev bisect --good tree:../linux@v6.12 --bad tree:../linux@HEAD -E fsdax/fsdax-ext4/pin-direct-read",
        &[
            How::Runs(Run {
                // No kernel, but a tree with its revisions.
                code: 2,
                says: &[
                    "can't be built",
                    "is no kernel: it has no Makefile or no Kconfig",
                ],
                ..RUN
            }),
            How::Elsewhere(LEAK_SERIES.0, LEAK_SERIES.1),
        ],
    ),
    (
        "zonedev bisect --good 6.12.107 --bad 6.12.117 -E fsdax/fsdax-ext4/pin-direct-read",
        &[How::Elsewhere(
            STEPS,
            &["fn what_always_shows_takes_no_more_steps_than_halving("],
        )],
    ),
    (
        "zonedev bisect --good 5.10 --bad 5.10+./my.mbox -E fsdax/fsdax-ext4/pin-vmsplice",
        &[How::Elsewhere(LEAK_SERIES.0, LEAK_SERIES.1)],
    ),
    (
        "zonedev bisect --good 6.12 --bad 6.12:./my.config -E fsdax/fsdax-ext4/pin-direct-read",
        &[How::Elsewhere(
            STEPS,
            &["fn what_always_shows_takes_no_more_steps_than_halving("],
        )],
    ),
    (
        "zonedev bisect --good tree:linux@good --bad tree:linux@near -E fsdax/fsdax-ext4/pin-direct-read",
        &[
            How::Runs(Run {
                // No kernel, but a tree with its revisions.
                instead: &[
                    ("tree:linux@good", "tree:../linux@v6.12"),
                    ("tree:linux@near", "tree:../linux@v6.13"),
                ],
                code: 2,
                says: &[
                    "can't be built",
                    "is no kernel: it has no Makefile or no Kconfig",
                ],
                ..RUN
            }),
            How::Elsewhere(LEAK_SERIES.0, LEAK_SERIES.1),
        ],
    ),
    (
        "git bisect start BAD GOOD",
        &[How::Elsewhere(
            "harness/zonedev/tests/bisect_real.rs",
            &["fn one_step_ends_as_git_bisect_run_wants_it("],
        )],
    ),
    (
        "git bisect run zonedev --project ../zonedev bisect-step -E fsdax/fsdax-ext4/pin-direct-read --title refcount",
        &[How::Elsewhere(
            "harness/zonedev/tests/bisect_real.rs",
            &[
                "[\"bisect-step\", \"-k\", kernel, \"-E\", CASE]",
                "\"--title\", \"found 2\"",
            ],
        )],
    ),
    // docs/by-hand.md.
    (
        "zonedev shell 7.3",
        &[How::Runs(Run {
            instead: &[("7.3", "5.10")],
            how: Try::AtATerminal,
            as_shown: Some(&["/]# "]),
            ..RUN
        })],
    ),
    (
        "zonedev shell 6.12 --gdb",
        &[How::Elsewhere(
            "harness/zonedev/tests/by_hand_real.rs",
            &[
                "fn gdb_finds_a_guest_from_its_first_instruction_on(",
                "[\"--gdb\", ",
            ],
        )],
    ),
    (
        "zonedev rerun RUN fsdax-ext4/pin-vmsplice -k 6.12 --until pinned",
        &[How::Runs(Run {
            before: &[Before::Copy(Made::Leak, "RUN")],
            instead: &[("6.12", "5.10")],
            stdin: "exit 0\n",
            as_shown: Some(&[]),
            ..RUN
        })],
    ),
    // docs/failures.md.
    (
        "zonedev matrix -k 6.12 -E truncate-pinned --dump-hung",
        &[
            How::Lists {
                of: None,
                cells: &["fsdax/fsdax-ext4/truncate-pinned on 6.12"],
            },
            How::Runs(Run {
                // Its pin is never let go.
                instead: &[("-k 6.12", "-k 5.10+./my.patch")],
                more: "-E =fsdax/fsdax-ext4/truncate-pinned --run-dir ahead/hung",
                how: Try::Ahead,
                code: 1,
                says: &[
                    "waits in ext4_break_layouts (fs/ext4/inode.c:",
                    "`zonedev core` opens",
                ],
                ..RUN
            }),
        ],
    ),
    (
        "drgn -c truncate-pinned.core -s VMLINUX",
        &[How::Runs(Run {
            needs: &["command -v drgn"],
            stdin: "print(prog['init_uts_ns'].name.release.string_().decode())\n",
            says: &["5.10"],
            ..RUN
        })],
    ),
    (
        "crash VMLINUX truncate-pinned.core",
        &[How::Runs(Run {
            needs: &["command -v crash"],
            stdin: "sys\nquit\n",
            says: &["RELEASE: 5.10", "DUMPFILE: truncate-pinned.core"],
            ..RUN
        })],
    ),
    // docs/formats.md.
    (
        "zonedev report latest --json | python3 docs/schema/failed.py",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            needs: &["python3 -c 'import jsonschema'"],
            says: &["found 2", "3 of 4 cells passed under "],
            ..RUN
        })],
    ),
    // docs/fuzzing.md.
    (
        "./just fuzz",
        &[
            How::Recipe("harness/fuzz/run {{seconds}} {{target}}"),
            How::Elsewhere("harness/fuzz/tests/corpus.rs", &["#[test]"]),
        ],
    ),
    (
        "./just fuzz 600",
        &[How::Recipe("harness/fuzz/run {{seconds}} {{target}}")],
    ),
    (
        "./just fuzz 60 console",
        &[How::Recipe("harness/fuzz/run {{seconds}} {{target}}")],
    ),
    // docs/history.md.
    (
        "zonedev history import nightly.tar.gz",
        &[How::Runs(Run {
            before: &[Before::Packed(Made::Leak, "nightly.tar.gz")],
            says: &[": changed since, imported again", "0 left out"],
            ..RUN
        })],
    ),
    (
        "zonedev history fsdax-ext4/pin",
        &[How::Runs(Run {
            says: &["fsdax/fsdax-ext4/pin-vmsplice on 5.10 (tcg)"],
            ..RUN
        })],
    ),
    (
        "zonedev history diff latest~1 latest",
        &[How::Runs(Run {
            says: &[
                "cells in both runs, ",
                " with another verdict",
                "only in the later one",
            ],
            ..RUN
        })],
    ),
    (
        "zonedev history times",
        &[How::Runs(Run {
            says: &["fsdax"],
            ..RUN
        })],
    ),
    (
        "zonedev history runs",
        &[How::Runs(Run {
            says: &["2026"],
            ..RUN
        })],
    ),
    // docs/minimise.md.
    (
        "zonedev matrix -k 6.12 -k 6.12+./my.mbox -s fsdax",
        &[How::Lists {
            of: None,
            cells: &["fsdax/fsdax-ext4/pin-direct-read"],
        }],
    ),
    (
        "zonedev minimise latest fsdax-ext4/pin-direct-read",
        &[How::Elsewhere(
            "harness/zonedev/tests/minimise_real.rs",
            &[
                "const CASE: &str = \"fsdax-ext4/pin-vmsplice\"",
                "[\"minimise\", run.as_str(), CASE]",
            ],
        )],
    ),
    // docs/cluster.md.
    (
        "zonedev matrix --full -k 6.12 -k 7.3 --executor slurm",
        &[How::Elsewhere(SLURM, &["\"--executor\", \"slurm\""])],
    ),
    (
        "zonedev matrix --full -k 6.12 -k 7.3 --executor slurm --tasks 40 -j 4 --slurm-args '--account=mm --partition=long'",
        &[How::Elsewhere(
            SLURM,
            &[
                "\"--executor\", \"slurm\"",
                "\"--slurm-args\", \"--partition=",
            ],
        )],
    ),
    (
        "eval \"$(just slurm-up)\"",
        &[How::Elsewhere(
            SLURM,
            &["harness/slurm/up", "export SLURM_CONF="],
        )],
    ),
    (
        "zonedev matrix -E fsdax-ext4/map-touch --executor slurm --tasks 2",
        &[How::Elsewhere(
            SLURM,
            &["\"--executor\", \"slurm\"", "\"--tasks\""],
        )],
    ),
    ("just slurm-down", &[How::Recipe("harness/slurm/down")]),
    // docs/nightly.md.
    (
        "zonedev matrix -k 5.10 -k 5.10+zone-device-refcount -E map-touch --partition 1/3 --run-dir a",
        PART,
    ),
    (
        "zonedev matrix -k 5.10 -k 5.10+zone-device-refcount -E map-touch --partition 2/3 --run-dir b",
        PART,
    ),
    (
        "zonedev matrix -k 5.10 -k 5.10+zone-device-refcount -E map-touch --partition 3/3 --run-dir c",
        PART,
    ),
    (
        "zonedev merge a b c --run-dir whole",
        &[How::Runs(Run {
            leaves: &["whole/record.json"],
            as_shown: Some(&["cells passed", "m03s)"]),
            ..RUN
        })],
    ),
    (
        "git fetch origin history && git worktree add ../history FETCH_HEAD",
        &[How::Runs(Run {
            before: &[Before::Remote(Made::Leak)],
            leaves: &["../history/runs/*.tar.gz"],
            ..RUN
        })],
    ),
    (
        "zonedev history import ../history/runs/*.tar.gz",
        &[How::Runs(Run {
            says: &["0 left out"],
            ..RUN
        })],
    ),
    (
        "git checkout COMMIT-OF-THE-NIGHT",
        &[How::Runs(Run {
            instead: &[("COMMIT-OF-THE-NIGHT", "HEAD")],
            ..RUN
        })],
    ),
    (
        "just ci-shard fixture:2/8 full",
        &[
            How::Recipe("{{ci}} shard \"$@\""),
            How::Lists {
                of: Some(
                    "zonedev matrix --full -k 5.10 -k 5.10+zone-device-refcount -k 6.1 -k 6.12 -k 7.2 -k 7.3 --partition fixture:2/8",
                ),
                cells: &[],
            },
        ],
    ),
    (
        "just ci-merge",
        &[
            How::Recipe("{{ci}} merge"),
            // The recipe's line, on the parts that the page made.
            How::Runs(Run {
                instead: &[(
                    "just ci-merge",
                    "mkdir -p target/ci && for n in a b c; do cp -r $n target/ci/shard-$n; done && harness/ci/run merge",
                )],
                says: &["exit-code=0"],
                leaves: &["target/ci/merged.tar.zst"],
                ..RUN
            }),
        ],
    ),
    // docs/reading-a-report.md.
    (
        "zonedev matrix -k 5.10 -k 5.10+./my.patch -E vmsplice",
        &[
            How::Lists {
                of: None,
                cells: &["fsdax/fsdax-ext4/pin-vmsplice"],
            },
            How::Runs(Run {
                more: ONE_CASE,
                code: 1,
                says: &["on 5.10+./my.patch", "REGRESSED: 1 regressed"],
                leaves: &["target/runs/latest/record.json"],
                ..RUN
            }),
        ],
    ),
    // docs/writing-a-case.md.
    (
        "zonedev matrix -k 5.10 --case my-case.toml",
        &[
            How::Lists {
                of: Some("zonedev matrix -k 5.10 --case known.toml"),
                cells: &["own/fsdax-ext4/known"],
            },
            How::Runs(Run {
                more: "--run-dir ahead/own",
                how: Try::Ahead,
                says: &["4 of 4 cells passed"],
                ..RUN
            }),
        ],
    ),
    (
        "zonedev inspect latest my-case -c pinned",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Own)],
            says: &[
                "at \"pinned\"",
                "predicted",
                "1 vmsplice (get)",
                "there is also own/fsdax-xfs/my-case",
            ],
            ..RUN
        })],
    ),
    (
        "zonedev list operations",
        &[How::Runs(Run {
            says: &["create-namespace", "checkpoint"],
            ..RUN
        })],
    ),
];

/// The cases of one suite, which are one for each part, are run.
const PART: &[How] = &[
    How::Lists {
        of: None,
        cells: &["map-touch"],
    },
    How::Runs(Run {
        more: "-s devdax",
        how: Try::Ahead,
        says: &["nothing regressed: "],
        ..RUN
    }),
];
