//! `zonedev report` and `zonedev history` as they are typed, on recorded runs.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};

fn data(name: &str) -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/runs")
        .join(name)
}

fn zonedev(dir: &Utf8Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zonedev"))
        .args(words)
        .current_dir(dir)
        .env(
            "ZONEDEV_PROJECT",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../.."),
        )
        .env("GITHUB_STEP_SUMMARY", dir.join("summary"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_form_of_a_run_that_failed_is_written_and_is_no_failure() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(temp.path()).unwrap();
    let run = data("leak");
    for (flag, has) in [
        ("--junit", "<failure message="),
        ("--ktap", "\nnot ok "),
        ("--json", "\"verdict\": \"fail\""),
        ("--kcidb=our_lab", "\"origin\": \"our_lab\""),
        ("--markdown", "zonedev: REGRESSED"),
        ("--mail", "4 of 6 cells passed"),
        (
            "--github",
            "::error file=suites/fsdax/pin-direct-read.toml,title=",
        ),
    ] {
        let out = zonedev(dir, &["report", run.as_str(), flag]);
        let (said, told) = (text(&out.stdout), text(&out.stderr));
        assert_eq!(out.status.code(), Some(0), "{flag}: {told}");
        assert!(said.contains(has), "{flag}:\n{said}");
        let out = zonedev(dir, &["report", run.as_str(), flag, "-o", "there"]);
        assert!(out.status.success() && out.stdout.is_empty());
        assert_eq!(std::fs::read_to_string(dir.join("there")).unwrap(), said);
    }
    // Twice, once for each --github.
    let summary = std::fs::read_to_string(dir.join("summary")).unwrap();
    assert_eq!(summary.matches("## ❌ zonedev: REGRESSED").count(), 2);
    // What other steps wrote leaves less room.
    std::fs::write(dir.join("summary"), vec![b' '; (1 << 20) - 9000]).unwrap();
    assert!(
        zonedev(dir, &["report", run.as_str(), "--github"])
            .status
            .success()
    );
    assert!(std::fs::metadata(dir.join("summary")).unwrap().len() <= 1 << 20);

    for words in [&["--junit", "--ktap"][..], &["--kcidb=Our Lab"]] {
        let out = zonedev(dir, &[&["report", run.as_str()], words].concat());
        assert_eq!(out.status.code(), Some(2), "{words:?}");
    }
    let nowhere = zonedev(
        dir,
        &["report", run.as_str(), "--mail", "-o", "no/such/folder"],
    );
    assert_eq!(nowhere.status.code(), Some(3));
}

#[test]
fn runs_are_imported_asked_and_compared() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(temp.path()).unwrap();
    std::fs::create_dir(dir.join("broken")).unwrap();
    std::fs::write(dir.join("broken/record.json"), "{").unwrap();
    let ask = |words: &[&str]| zonedev(dir, &[&["history", "--db", "h.sqlite"], words].concat());

    let none = ask(&[]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stdout));
    assert!(!dir.join("h.sqlite").exists());
    let came = ask(&["import", data("").as_str(), "broken"]);
    assert_eq!(came.status.code(), Some(2), "one is broken");
    assert!(text(&came.stdout).contains("2 new, 0 changed, 0 already there, 1 left out"));
    let again = ask(&["import", data("leak").as_str(), data("modules").as_str()]);
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stdout).contains("0 new, 0 changed, 2 already there"));

    let red = text(&ask(&[]).stdout);
    assert!(
        red.contains("2 red\n") && red.contains("pin-direct-read on 6.12+"),
        "{red}"
    );
    let json: serde_json::Value = serde_json::from_slice(&ask(&["--json"]).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    // On two kernels, and the one compared with the other.
    let green = text(&ask(&["hmm-module/close-with-pages"]).stdout);
    assert!(green.contains("3 green"), "{green}");
    assert_eq!(ask(&["no-such-case"]).status.code(), Some(4));
    let diff = ask(&["diff", "20261128T053909Z-3577", "latest"]);
    assert!(text(&diff.stdout).contains("0 cells in both runs"));
    assert_eq!(ask(&["diff", "2026", "latest"]).status.code(), Some(2));
    assert!(text(&ask(&["times"]).stdout).contains("device-private on 6.12:modules (tcg)"));
}
