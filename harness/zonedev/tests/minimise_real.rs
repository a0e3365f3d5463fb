//! A case that fails on a kernel that is broken on purpose is made small, and stands on its own.

#![allow(clippy::unwrap_used)]

mod common;

use camino::Utf8Path;
use common::{command, project, said, turn};

const CASE: &str = "fsdax-ext4/pin-vmsplice";

/// How a command ended, and what it said.
fn zonedev(args: &[&str]) -> (i32, String) {
    let output = command(&project(), args).output().unwrap();
    let said = said(&output);
    println!("$ zonedev {}\n{said}", args.join(" "));
    (output.status.code().unwrap(), said)
}

/// Lines of a journal that are trials of candidates.
fn trials(dir: &Utf8Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("minimise.jsonl")).unwrap();
    let lines = text.lines().filter(|l| l.contains("\"event\":\"trial\""));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_leak_is_left_with_what_shows_it_and_what_was_tried_is_not_tried_again() {
    let _turn = turn();
    let temp = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(temp.path()).unwrap();
    let (run, small) = (dir.join("run"), dir.join("small"));
    let broken = format!(
        "5.10+{}",
        project().join("kernels/mutants/leak-vmsplice-5.10.patch")
    );
    let kernels = ["-k", "5.10", "-k", &broken];
    let matrix = ["matrix", "-E", CASE, "--run-dir", run.as_str()];
    let (code, _) = zonedev(&[&matrix[..], &kernels].concat());
    assert_eq!(code, 1);

    let minimise = |more: &[&str]| {
        let cell = ["minimise", run.as_str(), CASE];
        zonedev(&[&cell[..], more].concat())
    };
    let (code, said) = minimise(&["--title", "no such reason"]);
    assert_eq!(
        (code, said.contains("its reasons are")),
        (2, true),
        "{said}"
    );
    let (code, said) = minimise(&["-k", "5.10"]);
    assert_eq!((code, said.contains("did not fail")), (2, true), "{said}");
    let (code, said) = minimise(&["--run-dir", small.as_str()]);
    assert_eq!(code, 0, "{said}");
    let file = small.join("minimised.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let operations: Vec<&str> = (text.lines())
        .filter_map(|l| l.strip_prefix("do = "))
        .collect();
    assert_eq!(
        operations,
        [
            "\"create\"",
            "\"map-file\"",
            "\"pin\"",
            "\"release\"",
            "\"checkpoint\""
        ]
    );
    assert!(!text.contains("64K") && !text.contains("2M"), "{text}");

    // Killed in the middle of a line: nothing that is written down is tried again.
    let journal = small.join("minimise.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let all = trials(&small);
    let cut = whole.find(&all[all.len() / 2]).unwrap() + 20;
    std::fs::write(&journal, &whole[..cut]).unwrap();
    let (code, said) = zonedev(&["minimise", "--resume", small.as_str()]);
    assert_eq!(code, 0, "{said}");
    let again = trials(&small);
    assert_eq!(again[..all.len() / 2], all[..all.len() / 2]);
    assert!(
        again.len() < all.len() * 3 / 2,
        "{} {}",
        again.len(),
        all.len()
    );
    let resumed = std::fs::read_to_string(&file).unwrap();
    let steps = |text: &str| text[text.find("title").unwrap()..].to_owned();
    assert_eq!(steps(&resumed), steps(&text));

    // It stands on its own.
    let own = dir.join("own");
    let case = ["matrix", "--case", file.as_str(), "--run-dir", own.as_str()];
    let (code, said) = zonedev(&[&case[..], &kernels].concat());
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("own/fsdax-ext4/minimised"), "{said}");
    assert!(
        said.contains("1 cells failed") || said.contains("1 cell failed"),
        "{said}"
    );
}
