//! What README.md shows; the other pages show some of it, too.

use super::{Before, How, LEAK_SERIES, Made, RUN, Rule, Run, Try};

pub(super) static RULES: &[Rule] = &[
    (
        "./just test-matrix",
        &[
            How::Recipe("{{zonedev}} matrix \"$@\""),
            How::Lists {
                of: Some("zonedev matrix"),
                cells: &["fsdax/fsdax-ext4/pin-vmsplice on 5.10+zone-device-refcount"],
            },
        ],
    ),
    (
        "./just test",
        &[How::Recipe("cargo test --workspace --locked")],
    ),
    ("./just bench", &[How::Recipe("{{zonedev}} bench \"$@\"")]),
    (
        "zonedev matrix -k 5.10 -k 5.10+kernels/mutants/leak-vmsplice-5.10.patch -s fsdax -E fsdax-ext4/ -E p",
        &[
            How::Lists {
                of: None,
                cells: &[
                    "fsdax/fsdax-ext4/collapse-pinned",
                    "fsdax/fsdax-ext4/pin-vmsplice",
                ],
            },
            How::Runs(Run {
                more: "-E =fsdax/fsdax-ext4/pin-vmsplice --run-dir ahead/leak",
                how: Try::Ahead,
                code: 1,
                says: &[
                    "REGRESSED: 1 regressed",
                    "# its reports, and its pages beside their prediction",
                    "# which change did it",
                ],
                // The case that hangs is not among these.
                as_shown: Some(&[
                    "did not end",
                    "unix",
                    "collapse-pinned",
                    "insert-pinned",
                    "pin-outlives",
                    "pin-vmsplice",
                    "cells failed",
                    "cells passed",
                    "run 5m",
                ]),
                ..RUN
            }),
        ],
    ),
    (
        "zonedev matrix -k 6.12 -k 7.3 -s fsdax",
        &[How::Lists {
            of: None,
            cells: &["fsdax/fsdax-xfs/"],
        }],
    ),
    (
        "zonedev matrix -k 6.12 -k 6.12+./my.mbox",
        &[How::Lists {
            of: None,
            cells: &["device-private/", "fsdax/"],
        }],
    ),
    (
        "zonedev matrix -k tree:../linux@v6.12 -k tree:../linux",
        &[How::Lists {
            of: None,
            cells: &["fsdax/fsdax-ext4/"],
        }],
    ),
    (
        "zonedev matrix --full",
        &[How::Lists {
            of: None,
            cells: &[
                "fsdax/fsdax-ext4-map-dev/",
                "devdax/devdax-1g/",
                "boot/fsdax-ext4/teardown",
            ],
        }],
    ),
    (
        "zonedev matrix -k 6.12 -E fsdax-xfs-reflink",
        &[How::Lists {
            of: None,
            cells: &["fsdax/fsdax-xfs-reflink/"],
        }],
    ),
    (
        "zonedev matrix -k 6.12:modules -E hmm-module",
        &[How::Lists {
            of: None,
            cells: &["device-private/hmm-module/"],
        }],
    ),
    (
        "zonedev matrix -k 6.12 -k 7.3 -s upstream",
        &[How::Lists {
            of: None,
            cells: &["upstream/"],
        }],
    ),
    (
        "zonedev matrix -k 6.12 --fstests ../xfstests -E fstests",
        &[How::Lists {
            of: None,
            cells: &["upstream/fstests-xfs/fstests-generic-413"],
        }],
    ),
    (
        "zonedev inspect latest fsdax-ext4/pin-vmsplice",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            says: &["\"released\"", "namespace0.0 FS_DAX", "predicted"],
            ..RUN
        })],
    ),
    (
        "zonedev inspect latest fsdax-ext4/truncate-pinned",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Hung)],
            says: &[
                "ext4_break_layouts",
                "fs/ext4/inode.c:",
                "no answer within 60 s",
            ],
            ..RUN
        })],
    ),
    (
        "zonedev matrix -k 6.12 --dump-hung",
        &[How::Lists {
            of: None,
            cells: &["fsdax/fsdax-ext4/truncate-pinned"],
        }],
    ),
    (
        "zonedev core latest truncate-pinned",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Hung)],
            how: Try::Once,
            says: &[
                "truncate-pinned.core: ",
                "drgn -c truncate-pinned.core -s /",
            ],
            leaves: &["truncate-pinned.core"],
            ..RUN
        })],
    ),
    (
        "zonedev report latest",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            says: &["REGRESSED: 1 regressed", "run: "],
            ..RUN
        })],
    ),
    (
        "zonedev report latest --mail",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            says: &["3 of 4 cells passed"],
            ..RUN
        })],
    ),
    (
        "zonedev history import target/runs/*",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Series), Before::Latest(Made::Leak)],
            says: &["0 left out"],
            leaves: &["target/history.sqlite"],
            ..RUN
        })],
    ),
    (
        "zonedev history",
        &[How::Runs(Run {
            says: &[
                " red",
                "fsdax/fsdax-ext4/pin-vmsplice on 5.10+kernels/mutants/leak-vmsplice-5.10.patch",
                "red since ",
                "expected 1, found 2",
            ],
            ..RUN
        })],
    ),
    (
        "zonedev report latest --html",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            says: &["target/runs/", "report.html"],
            leaves: &["target/runs/latest/report.html"],
            ..RUN
        })],
    ),
    (
        "zonedev matrix --resume RUN",
        &[How::Runs(Run {
            before: &[Before::CutOff(Made::Leak, "RUN")],
            code: 1,
            says: &["3 of 4 cells passed", "REGRESSED: 1 regressed"],
            leaves: &["RUN/record.json"],
            ..RUN
        })],
    ),
    (
        "zonedev diff monday:pin latest:pin",
        &[How::Runs(Run {
            before: &[
                Before::Copy(Made::Leak, "target/runs/monday"),
                Before::Latest(Made::Leak),
            ],
            says: &["no difference"],
            ..RUN
        })],
    ),
    (
        "zonedev accept latest -E pin --reason 'it waits'",
        &[How::Runs(Run {
            before: &[Before::NotAccepted, Before::Latest(Made::Series)],
            says: &["accepted suites/fsdax/snapshots/fsdax__fsdax-ext4__pin-vmsplice"],
            ..RUN
        })],
    ),
    (
        "zonedev matrix --full --partition 2/8",
        &[How::Lists {
            of: None,
            cells: &["fsdax/"],
        }],
    ),
    (
        "zonedev matrix --full --executor slurm",
        &[How::Elsewhere(
            "harness/zonedev/tests/slurm_real.rs",
            &["fn a_run_on_a_cluster_is_the_local_run("],
        )],
    ),
    (
        "zonedev minimise latest pin-direct-read",
        &[How::Elsewhere(
            "harness/zonedev/tests/minimise_real.rs",
            &[
                "fn a_leak_is_left_with_what_shows_it_and_what_was_tried_is_not_tried_again(",
                "[\"minimise\", run.as_str(), CASE]",
            ],
        )],
    ),
    (
        "zonedev matrix -k 6.12 --case minimised.toml",
        &[
            How::Lists {
                of: None,
                cells: &["own/fsdax-ext4/minimised on 6.12"],
            },
            How::Runs(Run {
                instead: &[("6.12", "5.10")],
                more: "--run-dir ahead/minimised",
                how: Try::Ahead,
                says: &["2 of 2 cells passed"],
                ..RUN
            }),
        ],
    ),
    (
        "zonedev c-program fsdax/fsdax-ext4/pin-direct-read",
        &[How::Runs(Run {
            says: &["GPL-2.0", "int main(", "ndctl create-namespace"],
            ..RUN
        })],
    ),
    (
        "zonedev bisect --good tree:../linux@v6.12 --bad tree:../linux@HEAD -E fsdax/fsdax-ext4/pin-vmsplice",
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
        "zonedev coverage latest",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            says: &["| suite | 5.10 |", "| fsdax | 1 (1) |"],
            ..RUN
        })],
    ),
    (
        "zonedev coverage --lines latest",
        // Of a run without counts it says what to do.
        &[
            How::Runs(Run {
                before: &[Before::Latest(Made::Leak)],
                code: 4,
                says: &["zonedev matrix -k 6.12:gcov"],
                ..RUN
            }),
            How::Lists {
                of: Some("zonedev matrix -k 6.12:gcov"),
                cells: &["fsdax/"],
            },
        ],
    ),
    (
        "zonedev list kernels",
        &[How::Runs(Run {
            says: &[
                "5.10+zone-device-refcount",
                "KERNEL:debug",
                // The files that pages show.
                "shown Linux 7.2, Debian's source (contract 7.3)",
                "contributed Linux 7.2, Debian's source (contract 7.3)",
                "5.10+shown mm: remove the extra ZONE_DEVICE struct page reference",
            ],
            ..RUN
        })],
    ),
    (
        "zonedev shell 6.12 --fixture fsdax-xfs",
        &[How::Runs(Run {
            instead: &[("6.12", "5.10")],
            stdin: "stat -f -c %T /mnt; echo 'as typed'; exit 3\n",
            code: 3,
            says: &["xfs as typed"],
            ..RUN
        })],
    ),
    (
        "zonedev rerun latest fsdax-ext4/pin-vmsplice --until pinned",
        &[How::Runs(Run {
            before: &[Before::Latest(Made::Leak)],
            stdin: "grep -l /mnt/a /proc/[0-9]*/maps | wc -l; exit 4\n",
            code: 4,
            says: &["next would be step 6 main: release pin=p"],
            ..RUN
        })],
    ),
    (
        "zonedev watch",
        &[How::Runs(Run {
            how: Try::BesideAShell,
            says: &[
                "shell 5.10 with fsdax-ext4 (process ",
                "namespace0.0 FS_DAX: 65536 pages",
                "16 held",
            ],
            ..RUN
        })],
    ),
    (
        "zonedev cache",
        &[How::Runs(Run {
            says: &["kernels", "templates", "in all"],
            ..RUN
        })],
    ),
    (
        "zonedev doctor",
        &[How::Runs(Run {
            says: &["qemu", "processors"],
            ..RUN
        })],
    ),
];
