//! Which patch of a series did it, on real kernels, with the harness killed on the way.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use common::{command, project, said, turn, wait_until};

const CASE: &str = "fsdax/fsdax-ext4/pin-vmsplice";

/// A patch that changes no kernel: a file that nothing builds.
fn note(n: u32) -> String {
    format!(
        "From 0 Mon Sep 17 00:00:00 2001\nFrom: A <a@zonedev.example>\n\
         Date: Sat, 28 Nov 2026 00:00:00 +0000\nSubject: [PATCH] mm: note {n}\n\n---\n\
         diff --git a/mm/note-{n}.txt b/mm/note-{n}.txt\nnew file mode 100644\n--- /dev/null\n\
         +++ b/mm/note-{n}.txt\n@@ -0,0 +1 @@\n+note {n}\n-- \n2.0\n\n"
    )
}

fn mutant() -> Utf8PathBuf {
    project().join("kernels/mutants/leak-vmsplice-5.10.patch")
}

/// Four patches of which the third leaks, in an mbox.
fn series(dir: &Utf8Path) -> Utf8PathBuf {
    let path = dir.join("four.mbox");
    let leak = std::fs::read_to_string(mutant()).unwrap();
    let leak = leak.split_once('\n').unwrap().1;
    let mbox = format!(
        "{}{}From 0 Mon Sep 17 00:00:00 2001\n{leak}\n{}",
        note(1),
        note(2),
        note(4)
    );
    std::fs::write(&path, mbox).unwrap();
    path
}

/// How often something was tried, by the journal.
fn tried(dir: &Utf8Path) -> usize {
    let journal = std::fs::read_to_string(dir.join("bisect.jsonl")).unwrap_or_default();
    journal.matches("\"event\":\"tried\"").count()
}

/// Ends a bisection by SIGKILL once so many kernels were tried.
fn killed_after(mut command: Command, dir: &Utf8Path, times: usize) {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_until("the bisection tries kernels", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        tried(dir) >= times
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!dir.join("result.txt").exists());
}

#[test]
fn the_patch_of_a_series_is_found_by_a_bisection_that_is_killed_twice() {
    let _turn = turn();
    let temp = tempfile::tempdir().unwrap();
    let temp = Utf8Path::from_path(temp.path()).unwrap();
    let bad = format!("5.10+{}", series(temp));
    let dir = temp.join("bisection");
    let begin = [
        "bisect", "--good", "5.10", "--bad", &bad, "-E", CASE, "--series",
    ];
    let begin = [&begin[..], &["--run-dir", dir.as_str()]].concat();
    killed_after(command(&project(), &begin), &dir, 1);
    let again = command(&project(), &begin).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    let resume = ["bisect", "--resume", dir.as_str(), "--no-minimise"];
    killed_after(command(&project(), &resume), &dir, 2);

    let output = command(&project(), &resume).output().unwrap();
    let text = said(&output);
    println!("{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.starts_with("0003.patch (\"fs/splice: MUTANT: leak the reference"),
        "{text}"
    );
    for words in [
        "before it, 0002.patch (\"mm: note 2\"): failed in 0 of",
        "that heals it",
        "found 2",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json = std::fs::read_to_string(dir.join("result.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["found"]["id"], "0003.patch");
    assert_eq!(json["kind"], "patches");
    assert_eq!(json["revert"]["heals"], true);
    assert!(json["likely"].as_f64().unwrap() >= 0.99);
    // Nothing is tried again, and the same is said.
    let before = tried(&dir);
    let output = command(&project(), &[&resume[..], &["--json"]].concat())
        .output()
        .unwrap();
    assert_eq!(tried(&dir), before);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["found"], json["found"]);

    let log = command(&project(), &["bisect", "--log", dir.as_str()])
        .output()
        .unwrap();
    let log = said(&log);
    assert!(
        log.starts_with("git bisect start\n# bad: [0004.patch]"),
        "{log}"
    );
    assert!(log.contains("git bisect good 0002.patch\n"), "{log}");
    assert!(log.contains("git bisect bad 0003.patch\n"), "{log}");
    assert!(log.contains("# first bad commit: [0003.patch]"), "{log}");
}

#[test]
fn ends_that_do_not_differ_are_told() {
    let _turn = turn();
    let temp = tempfile::tempdir().unwrap();
    let temp = Utf8Path::from_path(temp.path()).unwrap();
    let path = temp.join("one.patch");
    std::fs::write(&path, note(1)).unwrap();
    let dir = temp.join("bisection");
    let worse = format!("5.10+{}", mutant());
    let bad = format!("{worse}+{path}");
    let args = ["bisect", "--good", &worse, "--bad", &bad, "-E", CASE];
    let args = [&args[..], &["--run-dir", dir.as_str()]].concat();
    let output = command(&project(), &args).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("the ends do not differ"), "{text}");
}

#[test]
fn one_step_ends_as_git_bisect_run_wants_it() {
    let _turn = turn();
    let step = |kernel: &str, more: &[&str]| {
        let args = ["bisect-step", "-k", kernel, "-E", CASE];
        let output = command(&project(), &[&args[..], more].concat())
            .output()
            .unwrap();
        println!("{}", said(&output));
        output.status.code().unwrap()
    };
    let leak = format!("5.10+{}", mutant());
    assert_eq!(step("5.10", &[]), 0);
    assert_eq!(step(&leak, &[]), 1);
    assert_eq!(step(&leak, &["--title", "found 2"]), 1);
    assert_eq!(step(&leak, &["--title", "a hang"]), 125);
    let broken = project().join("kernels/mutants/does-not-compile.patch");
    assert_eq!(step(&format!("5.10+{broken}"), &[]), 125);
    assert_eq!(step("5.11", &[]), 128);
    assert_eq!(step("5.10", &["--trials", "x"]), 128);
    let nowhere = Command::new(env!("CARGO_BIN_EXE_zonedev"))
        .args(["--project", "/nowhere", "bisect-step", "-E", CASE])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(128));
}
