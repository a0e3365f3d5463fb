//! A run that is cut off, whenever and however, can be reported and gone on with; nothing that had
//! finished is done again, and nothing is left behind.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zonedev::record::{RunFolder, RunRecord};

use common::{command, memory_of, project, qemus, said, turn, wait_until};

/// A few cells of one kernel.
const WHAT: [&str; 5] = ["matrix", "-k", "5.10", "-E", "fsdax-ext4/map-"];

struct Place {
    _dir: tempfile::TempDir,
    run: Utf8PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
        Place { _dir: dir, run }
    }

    fn begin(&self) -> Child {
        let mut command = command(&project(), &WHAT);
        command.args(["--run-dir", self.run.as_str()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn resume(&self) -> std::process::Command {
        command(&project(), &["matrix", "--resume", self.run.as_str()])
    }

    /// The cells that have finished, and when.
    fn finished(&self) -> BTreeMap<PathBuf, SystemTime> {
        let mut out = BTreeMap::new();
        let mut todo = vec![self.run.join("cells").into_std_path_buf()];
        while let Some(dir) = todo.pop() {
            let Ok(entries) = std::fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries.map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                } else if path.ends_with("cell.json.zst") {
                    out.insert(path.clone(), entry.metadata().unwrap().modified().unwrap());
                }
            }
        }
        out
    }

    fn record(&self) -> RunRecord {
        RunFolder::open(&self.run).read_record().unwrap()
    }

    fn qemus(&self) -> usize {
        qemus(&self.run).len()
    }
}

#[test]
fn a_killed_run_is_reported_and_resumed_without_repeating_what_had_finished() {
    let _turn = turn();
    let place = Place::new();
    // Before the first cell, between cells, and again in the resumed run.
    for cells in [0, 2, 4] {
        let mut child = if place.run.join("begun.json").exists() {
            place
                .resume()
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        } else {
            place.begin()
        };
        wait_until("cells finish", || {
            place.run.join("begun.json").exists() && place.finished().len() >= cells
        });
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        wait_until("QEMU ends with its harness", || place.qemus() == 0);
    }
    let before = place.finished();
    assert!(before.len() >= 4, "{before:?}");

    let report = command(&project(), &["report", place.run.as_str()])
        .output()
        .unwrap();
    assert_eq!(report.status.code(), Some(0), "{}", said(&report));
    assert!(
        said(&report).contains("the run was cut off"),
        "{}",
        said(&report)
    );
    let record = place.record();
    assert_eq!(record.exit_code, 3);
    assert_eq!(record.cells.len(), before.len());
    let unfinished = record.unfinished.len();
    assert!(unfinished > 0);

    let output = place.resume().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let record = place.record();
    assert_eq!(record.cells.len(), before.len() + unfinished);
    assert_eq!(record.unfinished, []);
    let after = place.finished();
    for (cell, time) in &before {
        // A machine is booted again for the cells that are left.
        let boots = cell.to_string_lossy().contains("/boot/");
        assert!(boots || after[cell] == *time, "{cell:?} ran again");
    }

    let again = place.resume().output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("is over"), "{}", said(&again));
}

#[test]
fn an_interrupted_run_tells_what_had_finished_and_leaves_nothing() {
    let _turn = turn();
    let place = Place::new();
    let mut begun = command(&project(), &WHAT);
    begun.args(["--run-dir", place.run.as_str()]);
    let child = begun
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a cell finishes", || place.finished().len() >= 2);

    let second = place.resume().output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", said(&second));
    assert!(
        said(&second).contains("its harness still runs"),
        "{}",
        said(&second)
    );

    let memory: Vec<PathBuf> = memory_of(child.id());
    assert!(!memory.is_empty());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let words = said(&output);
    assert!(
        words.contains("cells had finished") && words.contains("--resume"),
        "{words}"
    );
    wait_until("QEMU ends with its harness", || place.qemus() == 0);
    for left in memory {
        assert!(!left.exists(), "{}", left.display());
    }
    let output = place.resume().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_run_without_space_says_so_keeps_what_it_has_and_goes_on_later() {
    let _turn = turn();
    let place = Place::new();
    let case = "cells/0-5.10/fsdax/fsdax-ext4/map-touch-4k";
    let full = place.run.join(case).join("cell.json.new");
    std::fs::create_dir_all(full.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let output = place.begin_and_wait();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("os error 28"), "{}", said(&output));
    assert!(said(&output).contains("--resume"), "{}", said(&output));
    std::fs::remove_file(&full).unwrap();
    let before = place.finished();
    let output = place.resume().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(place.finished().len() > before.len());
}

impl Place {
    fn begin_and_wait(&self) -> Output {
        let mut command = command(&project(), &WHAT);
        command
            .args(["--run-dir", self.run.as_str()])
            .output()
            .unwrap()
    }
}

/// Where a run goes that was not told.
#[test]
fn a_folder_without_a_run_can_not_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(dir.path()).unwrap();
    for what in [vec!["matrix", "--resume"], vec!["report"]] {
        let mut args = what.clone();
        args.push(path.as_str());
        let output = command(&project(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}
