//! A template that one run kept and another takes: the same cells, the same observations, no boot.

#![allow(clippy::unwrap_used)]

mod common;

use camino::{Utf8Path, Utf8PathBuf};
use zonedev::record::{CellId, CellRecord, CellVerdict, Event, RunFolder};

use common::{command, kernel, observations, project, said, turn};

const CASE: &str = "=fsdax/fsdax-ext4/map-touch-4k";

fn run(dir: &Utf8Path, name: &str, more: &[&str]) -> Utf8PathBuf {
    let (kernel, run) = (kernel(), dir.join(name));
    let mut args = vec!["matrix", "-k", &kernel, "-E", CASE];
    args.extend(["--run-dir", run.as_str()]);
    args.extend(more);
    let out = command(&project(), &args).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    run
}

fn boot_of(run: &Utf8Path) -> CellRecord {
    let folder = RunFolder::open(run);
    let cells = folder.read_record().unwrap().cells;
    assert!(cells.iter().all(|(_, v)| *v == CellVerdict::Pass {}));
    let boots: Vec<&CellId> = cells
        .iter()
        .map(|(id, _)| id)
        .filter(|id| id.suite == "boot" && id.case != "teardown")
        .collect();
    assert_eq!(boots.len(), 1, "{boots:?}");
    folder.read_cell(boots[0]).unwrap()
}

fn kept(run: &Utf8Path) -> usize {
    RunFolder::open(run).read_record().unwrap().boots_kept
}

#[test]
fn what_nobody_used_for_long_is_pruned_and_what_today_used_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Utf8Path::from_path(dir.path()).unwrap().join("cache");
    let zonedev = |args: &[&str]| {
        let mut command = command(&project(), args);
        let out = command.env("ZONEDEV_CACHE", &cache).output().unwrap();
        (out.status.code(), said(&out))
    };
    assert_eq!(zonedev(&["cache"]).0, Some(0));
    for name in ["images/old", "images/today", "kernels/old"] {
        let place = cache.join(name);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("initrd"), vec![1; 1 << 20]).unwrap();
        if name.ends_with("old") {
            let touched = std::process::Command::new("touch")
                .args(["-d", "9 days ago", place.as_str()])
                .status();
            assert!(touched.unwrap().success());
        }
    }
    let prune = |more: &[&str]| zonedev(&[&["cache", "prune", "--older", "7"], more].concat());
    let (code, said) = prune(&["-n"]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("2 MiB, 2 in number, would be removed"),
        "{said}"
    );
    let (_, said) = prune(&["images"]);
    assert!(said.contains("images: old, used 9 days ago"), "{said}");
    let there = |name: &str| cache.join(name).exists();
    assert!(!there("images/old") && there("kernels/old") && there("images/today"));
    let (_, said) = zonedev(&["cache", "prune", "--older", "0"]);
    assert!(said.contains("1 MiB, 1 in number, are removed"), "{said}");
    assert!(there("images/today"), "it is of today");
    assert_eq!(zonedev(&["cache", "prune", "nonsense"]).0, Some(2));
}

#[test]
fn what_an_earlier_run_booted_is_not_booted_again_and_shows_the_same() {
    if std::env::var_os("ZONEDEV_TEST_KERNEL").is_none() {
        eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
        return;
    }
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();

    run(dir, "first", &[]);
    let again = run(dir, "again", &[]);
    let fresh = run(dir, "fresh", &["--fresh"]);
    assert_eq!((kept(&again), kept(&fresh)), (1, 0));
    assert_eq!(observations(&again), observations(&fresh));
    assert!(!observations(&again).is_empty());

    // The boot's record is that of the run that booted, told as such, under its own name.
    let (taken, booted) = (boot_of(&again), boot_of(&fresh));
    assert!(taken.booted_in.is_some() && booted.booted_in.is_none());
    assert_eq!(taken.id, booted.id);
    assert!(taken.log.len() > 100 && !taken.checkpoints.is_empty());
    let console = RunFolder::open(&again).cell_dir(&taken.id).unwrap();
    let console = std::fs::read_to_string(console.join("console.log")).unwrap();
    assert!(console.contains("Linux version"));
    let events = RunFolder::open(&again).events().unwrap();
    let taken = |e: &Event| matches!(e, Event::BootFinished { kept: true, .. });
    assert_eq!(events.iter().filter(|e| taken(e)).count(), 1);

    // The summary tells it, and only there.
    let report = |run: &Utf8Path| {
        let out = command(&project(), &["report", run.as_str()]).output();
        said(&out.unwrap())
    };
    let line = "1 boot not done again: an earlier run kept the template (--fresh boots)";
    assert!(report(&again).contains(line), "{}", report(&again));
    assert!(!report(&fresh).contains("not done again"));
}
