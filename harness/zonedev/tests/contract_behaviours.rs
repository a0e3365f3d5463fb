//! Each behaviour that a contract states, stated the other way, must make a case fail that depends
//! on it, and no other.
//!
//! The agent predicts from behaviours while a guest runs, so that each takes a run of its own. The
//! kernels are those of `ZONEDEV_TEST_CONTRACTS`, 5.10 by default.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};

use camino::Utf8Path;
use proto::{FallocateMode, Op};
use zonedev::record::{CellRecord, CellVerdict, RunFolder};

use common::project;

/// A key of `[behaviour]`.
struct Stated {
    key: &'static str,
    /// The cases to run, as options of `zonedev matrix`.
    selection: &'static [&'static str],
    /// Whether a cell depends on it.
    depends: fn(&CellRecord) -> bool,
    /// Contracts under which no case does.
    idle: &'static [&'static str],
}

fn does(cell: &CellRecord, such: impl Fn(&Op) -> bool) -> bool {
    cell.steps.iter().any(|s| such(&s.op))
}

fn pins(cell: &CellRecord) -> bool {
    does(cell, |op| matches!(op, Op::Pin { .. }))
}

fn shares(cell: &CellRecord) -> bool {
    does(cell, |op| {
        matches!(
            op,
            Op::Clone { .. } | Op::Dedupe { .. } | Op::CopyFile { .. }
        )
    })
}

/// Whether a file is cut, so that its layout is broken.
fn cuts(cell: &CellRecord) -> bool {
    does(cell, |op| {
        let mode = match op {
            Op::Truncate { .. } => return true,
            Op::Fallocate { mode, .. } => mode,
            _ => return false,
        };
        *mode != FallocateMode::UnshareRange
    })
}

const REFUSES: &str = "5.10+zone-device-refcount";

const STATED: [Stated; 8] = [
    Stated {
        key: "hmm_close_evicts",
        selection: &["-s", "device-private", "-E", "hmm/close-with-pages"],
        depends: |c| does(c, |op| matches!(op, Op::HmmClose { .. })),
        idle: &[],
    },
    Stated {
        key: "hmm_faults_foreign",
        selection: &["-s", "device-private", "-E", "hmm/two-"],
        depends: |c| {
            does(c, |op| {
                op.device_range().is_some_and(|r| r.device == Some(1))
            })
        },
        idle: &[],
    },
    Stated {
        key: "share_counts_loads",
        selection: &["-s", "fsdax", "-E", "fsdax-xfs-reflink/reflink"],
        depends: shares,
        idle: &["5.10", REFUSES],
    },
    Stated {
        key: "share_counts_one",
        selection: &["-s", "fsdax", "-E", "fsdax-xfs-reflink/reflink"],
        depends: shares,
        idle: &["5.10", REFUSES],
    },
    Stated {
        key: "layout_break_drops_entries",
        selection: &["-s", "fsdax", "-E", "fsdax-xfs/punch"],
        depends: cuts,
        idle: &[],
    },
    Stated {
        key: "layout_break_waits_for_mappings",
        selection: &["-s", "fsdax", "-E", "fsdax-xfs/truncate-pinned"],
        depends: |c| cuts(c) && pins(c),
        idle: &[REFUSES],
    },
    Stated {
        key: "evict_waits",
        selection: &["-s", "fsdax", "-E", "fsdax-xfs/unlink-pinned"],
        depends: pins,
        idle: &[],
    },
    Stated {
        key: "teardown_waits",
        selection: &["-s", "devdax", "-E", "devdax-2m/destroy-pinned"],
        depends: pins,
        idle: &[REFUSES],
    },
];

/// States a behaviour the other way.
fn state_otherwise(contract: &Utf8Path, key: &str) {
    let mut text: toml::Table = std::fs::read_to_string(contract).unwrap().parse().unwrap();
    let behaviour = text
        .entry("behaviour")
        .or_insert_with(|| toml::Table::new().into())
        .as_table_mut()
        .unwrap();
    let now = behaviour.get(key).and_then(toml::Value::as_bool);
    behaviour.insert(key.into(), (!now.unwrap_or_default()).into());
    std::fs::write(contract, text.to_string()).unwrap();
}

/// The cells of a run in a copy of the project whose contract says the opposite.
fn cells(kernel: &str, stated: &Stated) -> Vec<(CellRecord, CellVerdict)> {
    let dir = tempfile::tempdir().unwrap();
    let copy = Utf8Path::from_path(dir.path()).unwrap();
    for entry in project().read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        let to = copy.join(entry.file_name());
        if entry.file_name() != "kernels" {
            std::os::unix::fs::symlink(entry.path(), to).unwrap();
            continue;
        }
        let done = Command::new("cp")
            .args(["-r", entry.path().as_str(), to.as_str()])
            .status();
        assert!(done.unwrap().success());
    }
    state_otherwise(
        &copy.join(format!("kernels/contracts/{kernel}.toml")),
        stated.key,
    );
    let run = copy.join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_zonedev"))
        .env("CI", "true")
        .args(["--project", copy.as_str(), "matrix", "-k", kernel])
        .args(stated.selection)
        .args(["--run-dir", run.as_str()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let folder = RunFolder::open(&run);
    let record = folder.read_record().unwrap();
    (record.cells.into_iter())
        .map(|(id, verdict)| (folder.read_cell(&id).unwrap(), verdict))
        .collect()
}

#[test]
fn every_behaviour_of_a_contract_is_checked_by_the_cases_that_depend_on_it() {
    let kernels = std::env::var("ZONEDEV_TEST_CONTRACTS").unwrap_or_else(|_| "5.10".into());
    let mut wrong = Vec::new();
    for kernel in kernels.split_whitespace() {
        for stated in &STATED {
            let mut some = false;
            for (cell, verdict) in cells(kernel, stated) {
                let ran = !matches!(verdict, CellVerdict::Pass {} | CellVerdict::Skip { .. });
                some |= ran;
                if ran && !(stated.depends)(&cell) {
                    wrong.push(format!("{} fails by {}", cell.id, stated.key));
                }
            }
            if some == stated.idle.contains(&kernel) {
                let how = if some { "a" } else { "no" };
                wrong.push(format!("{how} case of {kernel} depends on {}", stated.key));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
