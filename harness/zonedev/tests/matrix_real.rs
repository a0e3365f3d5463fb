//! The whole path on real kernels: builds (or takes from the cache), boots,
//! drives and judges Linux 5.10, stock and patched.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use zonedev::record::{PairVerdict, RunFolder, RunRecord};

use common::{command, project, turn};

fn zonedev(args: &[&str]) -> Output {
    command(&project(), args).output().unwrap()
}

/// A matrix in a folder of its own: how it ended, what it printed, its record.
struct Run {
    code: i32,
    out: String,
    record: Option<RunRecord>,
    _dir: tempfile::TempDir,
}

fn matrix(args: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
    let mut all = vec!["matrix", "--run-dir", path.as_str()];
    all.extend(args);
    let output = zonedev(&all);
    let out = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{out}");
    let record = RunFolder::open(&path).read_record().ok();
    Run {
        code: output.status.code().unwrap_or(-1),
        out,
        record,
        _dir: dir,
    }
}

fn mutant(name: &str) -> String {
    format!("5.10+{}", project().join("kernels/mutants").join(name))
}

#[test]
fn a_kernel_against_itself_shows_no_difference() {
    let _turn = turn();
    let run = matrix(&["-k", "5.10", "-k", "5.10", "-E", "fsdax-ext4/map-touch"]);
    assert_eq!(run.code, 0);
    let record = run.record.unwrap();
    // Two cases and the boot of their template, each side booted for itself.
    assert_eq!(record.pairs.len(), 3);
    assert!(
        record.pairs.iter().all(|p| p.verdict == PairVerdict::Same),
        "{:?}",
        record.pairs
    );
    assert!(record.pages_read > 100_000);
    assert_eq!(record.pages_read, record.pages_predicted);
}

#[test]
fn the_series_makes_idle_pages_zero_and_pins_refused() {
    let _turn = turn();
    let run = matrix(&["-E", "fsdax-ext4/pin-vmsplice"]);
    assert_eq!(run.code, 0, "as accepted");
    let record = run.record.unwrap();
    let pair = record
        .pairs
        .iter()
        .find(|p| p.other.case == "pin-vmsplice")
        .unwrap();
    assert_eq!(pair.verdict, PairVerdict::ChangedAsAccepted);
    let texts: Vec<&str> = pair.differences.iter().map(|d| d.text.as_str()).collect();
    let all = texts.join("\n");
    assert!(
        all.contains("FS_DAX") && all.contains("idle at 0, baseline 1"),
        "{all}"
    );
    assert!(all.contains("ENOMEM"), "{all}");
    assert!(all.contains("try_grab_page"), "{all}");
}

#[test]
fn a_leaked_reference_is_named_by_type_checkpoint_and_count() {
    let _turn = turn();
    let run = matrix(&[
        "-k",
        "5.10",
        "-k",
        &mutant("leak-vmsplice-5.10.patch"),
        "-E",
        "fsdax-ext4/pin-vmsplice",
    ]);
    assert_eq!(run.code, 1);
    for said in ["FS_DAX", "released", "expected 1", "found 2"] {
        assert!(run.out.contains(said), "`{said}` is missing");
    }
}

#[test]
fn a_kernel_that_does_not_boot_is_told_so_and_is_a_failure() {
    let _turn = turn();
    let run = matrix(&[
        "-k",
        "5.10",
        "-k",
        &mutant("does-not-boot.patch"),
        "-E",
        "fsdax-ext4/map-touch-4k",
    ]);
    assert_eq!(run.code, 1);
    assert!(run.out.contains("boot"), "{}", run.out);
    assert!(run.out.contains("panic"), "{}", run.out);
}

#[test]
fn a_kernel_that_does_not_compile_is_a_build_failure() {
    let _turn = turn();
    let run = matrix(&[
        "-k",
        "5.10",
        "-k",
        &mutant("does-not-compile.patch"),
        "-E",
        "map-touch-4k",
    ]);
    assert_eq!(run.code, 5);
    assert!(run.out.contains("mm/"), "{}", run.out);
    assert!(run.out.contains("error:"), "{}", run.out);
}

#[test]
fn a_patch_that_does_not_apply_is_named_with_its_file() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let patch = dir.path().join("wrong.patch");
    std::fs::write(
        &patch,
        "From: a <a@b>\nSubject: [PATCH] wrong\n\n---\ndiff --git a/mm/memremap.c b/mm/memremap.c\n--- a/mm/memremap.c\n+++ b/mm/memremap.c\n@@ -3,3 +3,3 @@\n no such line\n-nor this one\n+but this\n and not that\n",
    )
    .unwrap();
    let run = matrix(&[
        "-k",
        "5.10",
        "-k",
        &format!("5.10+{}", patch.display()),
        "-E",
        "map-touch-4k",
    ]);
    assert!(
        run.out.contains("wrong.patch") && run.out.contains("mm/memremap.c"),
        "{}",
        run.out
    );
    assert!(run.out.contains("hunk 1"), "{}", run.out);
    assert_eq!(run.code, 5);
}

/// A copy of the project's data, to break.
fn copy() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    for part in ["kernels", "images", "suites"] {
        let done = Command::new("cp")
            .args(["-r", project().join(part).as_str(), path.as_str()])
            .status();
        assert!(done.unwrap().success());
    }
    (dir, path)
}

#[test]
fn an_option_that_does_not_exist_stops_the_build_with_its_name() {
    let _turn = turn();
    let (_dir, path) = copy();
    let fragment = path.join("kernels/config/5.10.config");
    let text = std::fs::read_to_string(&fragment).unwrap() + "CONFIG_NO_SUCH_THING=y\n";
    std::fs::write(&fragment, text).unwrap();
    let output = command(&path, &["build", "5.10"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("NO_SUCH_THING"), "{said}");
    assert_eq!(output.status.code(), Some(5), "{said}");
}

#[test]
fn wrong_words_have_a_line_and_a_remedy() {
    let (_dir, path) = copy();
    let case = path.join("suites/fsdax/map-touch-4k.toml");
    let text = std::fs::read_to_string(&case)
        .unwrap()
        .replace("do = \"touch\"", "do = \"tuch\"");
    std::fs::write(&case, text).unwrap();
    let output = command(&path, &["list", "cases"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("map-touch-4k.toml:") && said.contains("tuch"),
        "{said}"
    );
}

#[test]
fn requests_that_mean_nothing_have_codes_of_their_own() {
    assert_eq!(
        zonedev(&["matrix", "-E", "no-such-case"]).status.code(),
        Some(4)
    );
    assert_eq!(
        zonedev(&["matrix", "-s", "no-such-suite"]).status.code(),
        Some(2)
    );
    assert_eq!(zonedev(&["matrix", "-k", "1.0"]).status.code(), Some(2));
    assert_eq!(
        zonedev(&["matrix", "--no-such-option"]).status.code(),
        Some(2)
    );
}

#[test]
fn two_instances_at_once_do_not_disturb_each_other() {
    let _turn = turn();
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let children: Vec<_> = dirs
        .iter()
        .map(|dir| {
            let run = dir.path().join("run");
            let args = [
                "matrix",
                "-k",
                "5.10",
                "-E",
                "fsdax-ext4/map-touch-4k",
                "--run-dir",
                run.to_str().unwrap(),
            ];
            command(&project(), &args)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// A `qemu-system-x86_64` for PATH, which crashes at its first boot of a guest and at its first
/// start of a clone, and is QEMU itself otherwise.
fn crashing_qemu(dir: &std::path::Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let program = dir.join("qemu-system-x86_64");
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        r#"#!/bin/sh
case "$*" in
*-incoming*) what=clone ;;
*-initrd*) what=boot ;;
*) what= ;;
esac
if [ -n "$what" ] && mkdir "{dir}/$what" 2>/dev/null; then kill -SEGV $$; fi
PATH="{path}" exec qemu-system-x86_64 "$@"
"#,
        dir = dir.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{path}", dir.display())
}

#[test]
fn a_qemu_that_crashes_is_tried_once_more_and_told() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let args = ["matrix", "-k", "5.10", "-E", "fsdax-ext4/map-touch-4k"];
    let output = command(&project(), &args)
        .env("PATH", crashing_qemu(dir.path()))
        .args(["--run-dir", dir.path().join("run").to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(dir.path().join("boot").is_dir() && dir.path().join("clone").is_dir());
    let record = RunFolder::open(Utf8Path::from_path(&dir.path().join("run")).unwrap())
        .read_record()
        .unwrap();
    let again = record
        .notices
        .iter()
        .filter(|n| n.ends_with("tried once more"));
    assert_eq!(again.count(), 2, "{:?}", record.notices);
}

#[test]
fn a_cache_that_cannot_be_written_is_the_hosts_trouble() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::write(&cache, "").unwrap();
    let output = command(&project(), &["build", "5.10"])
        .env("ZONEDEV_CACHE", &cache)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(cache.to_str().unwrap()), "{said}");
}
