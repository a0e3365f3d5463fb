//! The workflows of GitHub Actions and what their jobs run, as far as that goes without GitHub: their form, the
//! issue with a `gh` that writes down what it is asked, the history with a remote of our own, and the plan
//! where a Debian version is gone.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use serde_yaml_ng::Value;

use common::{command, project, said};

fn workflows() -> BTreeMap<String, Value> {
    let dir = project().join(".github/workflows");
    let files = dir.read_dir_utf8().unwrap().flatten();
    let read = |path: &Utf8Path| serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap());
    files
        .map(|f| (f.file_name().to_owned(), read(f.path()).unwrap()))
        .collect()
}

/// Every job, with its workflow's name and its own.
fn jobs() -> Vec<(String, Value)> {
    let of = |(file, workflow): (String, Value)| {
        let jobs = workflow["jobs"].as_mapping().unwrap().clone();
        jobs.into_iter()
            .map(move |(name, job)| (format!("{file} {}", name.as_str().unwrap()), job))
    };
    workflows().into_iter().flat_map(of).collect()
}

fn steps(job: &Value) -> Vec<Value> {
    job["steps"].as_sequence().cloned().unwrap_or_default()
}

#[test]
fn nothing_has_more_rights_than_it_says() {
    for (file, workflow) in workflows() {
        let top = workflow["permissions"].as_mapping();
        assert!(
            top.is_some_and(|p| p.is_empty()),
            "{file} gives rights to all jobs"
        );
    }
    let mut writers = Vec::new();
    for (name, job) in jobs() {
        let rights = job["permissions"].as_mapping();
        let rights = rights.unwrap_or_else(|| panic!("{name} has no permissions"));
        for (what, right) in rights {
            if right.as_str() != Some("read") {
                writers.push(format!("{name}: {}", what.as_str().unwrap()));
            }
        }
    }
    writers.sort();
    assert_eq!(
        writers,
        ["nightly.yml history: contents", "nightly.yml issue: issues"]
    );
}

#[test]
fn every_action_is_a_commit_and_every_image_the_same() {
    let mut images = Vec::new();
    for (name, job) in jobs() {
        for step in steps(&job) {
            let Some(uses) = step["uses"].as_str() else {
                continue;
            };
            let (_, rev) = uses.split_once('@').unwrap();
            let hex = rev.len() == 40 && rev.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(hex, "{name}: {uses}");
        }
        let image = job["container"]
            .as_str()
            .or(job["container"]["image"].as_str());
        images.extend(image.map(str::to_owned));
    }
    images.dedup();
    assert_eq!(images.len(), 1, "{images:?}");
}

#[test]
fn no_shell_line_and_no_name_of_a_file_holds_what_was_typed_or_told() {
    for (name, job) in jobs() {
        for step in steps(&job) {
            let run = step["run"].as_str().unwrap_or_default();
            assert!(!run.contains("${{"), "{name}: {run}");
            // In a container the shell is sh, which has no pipefail.
            assert!(
                !run.contains("| tee") || name.contains("host"),
                "{name}: {run}"
            );
        }
    }
    for (file, _) in workflows() {
        let text =
            std::fs::read_to_string(project().join(".github/workflows").join(&file)).unwrap();
        for told in ["github.event.", "github.head_ref", "secrets."] {
            assert!(!text.contains(told), "{file} takes {told}");
        }
    }
}

#[test]
fn all_is_well_only_if_every_other_job_was() {
    for file in ["ci.yml", "nightly.yml"] {
        let workflow = &workflows()[file];
        let jobs = workflow["jobs"].as_mapping().unwrap();
        let well = &jobs["all-well"];
        let needs: Vec<&str> = well["needs"]
            .as_sequence()
            .unwrap()
            .iter()
            .flat_map(Value::as_str)
            .collect();
        let others: Vec<&str> = jobs
            .keys()
            .flat_map(Value::as_str)
            .filter(|n| *n != "all-well")
            .collect();
        assert_eq!(needs, others, "{file}");
        assert_eq!(well["if"].as_str(), Some("always()"));
        let run = steps(well)[0]["run"].as_str().unwrap().to_owned();
        let ends = |results: &str| {
            let mut sh = Command::new("sh");
            sh.args(["-ec", &run]).env("RESULTS", results);
            sh.output().unwrap().status.success()
        };
        let all = vec!["success"; needs.len()];
        assert!(ends(&all.join(" ")), "{file}");
        for n in 0..needs.len() {
            for other in ["failure", "cancelled", "skipped", ""] {
                let mut results = all.clone();
                results[n] = other;
                assert!(!ends(&results.join(" ")), "{file}: {results:?}");
            }
        }
    }
}

#[test]
fn what_jobs_call_is_there() {
    let justfile = std::fs::read_to_string(project().join("Justfile")).unwrap();
    for (name, job) in jobs() {
        for step in steps(&job) {
            for word in step["run"].as_str().unwrap_or_default().split_whitespace() {
                if word.starts_with("harness/") {
                    let mode = project()
                        .join(word)
                        .metadata()
                        .unwrap()
                        .permissions()
                        .mode();
                    assert!(mode & 0o111 != 0, "{name}: {word}");
                }
            }
            let run = step["run"].as_str().unwrap_or_default();
            if let Some(recipe) = run
                .strip_prefix("./just ")
                .and_then(|r| r.split_whitespace().next())
                .filter(|word| !word.starts_with("--"))
            {
                let there = justfile.lines().any(|l| {
                    l.strip_prefix(recipe)
                        .is_some_and(|rest| rest.starts_with([' ', ':']))
                });
                assert!(there, "{name}: {recipe}");
            }
        }
    }
}

/// A program of this name that comes before all others on PATH.
fn program(dir: &Path, name: &str, script: &str) -> String {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = bin.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

/// What `gh` was asked for, a line each, with the bodies' files written out.
fn told(exit_code: &str, open: &str, report: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = r#"#!/bin/sh
{
    echo "gh $*"
    while [ $# -gt 0 ]; do
        if [ "$1" = --body-file ]; then echo "<<"; cat "$2"; echo ">>"; fi
        shift
    done
} >>"$LOG"
case $(head -n 1 "$LOG") in *) tail -n 1 "$LOG" | grep -q 'issue list' && printf '%s\n' "$OPEN" ;; esac
exit 0
"#;
    let path = program(dir.path(), "gh", script);
    let file = dir.path().join("report.md");
    std::fs::write(&file, report).unwrap();
    let ran = Command::new(project().join("harness/ci/tell-issue"))
        .arg(&file)
        .env("PATH", path)
        .env("LOG", &log)
        .env("OPEN", open)
        .env("EXIT_CODE", exit_code)
        .env("GITHUB_SERVER_URL", "https://github.example")
        .env("GITHUB_REPOSITORY", "o/r")
        .env("GITHUB_RUN_ID", "7")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    std::fs::read_to_string(&log).unwrap()
}

#[test]
fn one_issue_is_opened_updated_and_closed() {
    let hostile = "`$(touch /tmp/x)`; rm -rf \u{1b}[2J --title x\n";
    let opened = told("1", "", hostile);
    assert!(
        opened.contains("gh issue create --title nightly: something regressed --label nightly"),
        "{opened}"
    );
    assert!(
        opened.contains("actions/runs/7") && opened.contains(hostile),
        "{opened}"
    );
    let again = told("1", "12", "r");
    assert!(
        again.contains("gh issue edit 12 ") && again.contains("gh issue comment 12 "),
        "{again}"
    );
    assert!(!again.contains("create"), "{again}");
    let green = told("0", "12", "r");
    assert!(green.contains("gh issue close 12 "), "{green}");
    assert_eq!(told("0", "", "r").lines().count(), 1);
    assert!(told("3", "", "r").contains("was not finished"));
    assert!(told("", "", "").contains("there is no merged run"));
    let long = told("1", "", &"\u{fc}".repeat(40_000));
    assert!(
        long.contains("goes on in the artifact") && long.len() < 65_000,
        "{}",
        long.len()
    );
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(args)
        .output()
        .unwrap();
    assert!(out.status.success(), "{args:?}: {}", said(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn nights_are_kept_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    git(dir, &["init", "-q", "--bare", "origin.git"]);
    git(dir, &["init", "-q", "-b", "main", "first"]);
    let first = dir.join("first");
    std::fs::write(first.join("code"), "x").unwrap();
    git(&first, &["add", "-A"]);
    git(&first, &["commit", "-q", "-m", "one"]);
    git(&first, &["remote", "add", "origin", "../origin.git"]);
    git(&first, &["push", "-q", "origin", "main"]);
    git(dir, &["clone", "-q", "-b", "main", "origin.git", "second"]);
    let keep = |clone: &str, name: &str| -> Output {
        let run = dir.join(name);
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("record.json"), name).unwrap();
        let archive = dir.join(format!("{name}.tar.gz"));
        let tar = Command::new("tar")
            .arg("-C")
            .arg(dir)
            .arg("-czf")
            .args([&archive, Path::new(name)])
            .status();
        assert!(tar.unwrap().success());
        let mut keep = Command::new(project().join("harness/ci/keep-history"));
        keep.current_dir(dir.join(clone))
            .arg(&archive)
            .output()
            .unwrap()
    };
    for (clone, name) in [
        ("first", "20261101T0-1"),
        ("second", "20261102T0-1"),
        ("first", "20261103T0-1"),
        ("first", "20261101T0-1"),
    ] {
        let kept = keep(clone, name);
        assert!(kept.status.success(), "{}", said(&kept));
    }
    let listed = git(
        &dir.join("origin.git"),
        &["ls-tree", "-r", "--name-only", "history"],
    );
    let names =
        ["20261101T0-1", "20261102T0-1", "20261103T0-1"].map(|n| format!("runs/{n}.tar.gz\n"));
    assert_eq!(listed, names.concat(), "and no code");
    assert_eq!(
        git(&dir.join("origin.git"), &["rev-list", "--count", "history"]).trim(),
        "3"
    );
    // A remote that moved on between fetch and push: its hook takes the first push and refuses it.
    let hook = dir.join("origin.git/hooks/pre-receive");
    std::fs::write(
        &hook,
        "#!/bin/sh\nmkdir \"$GIT_DIR/once\" 2>/dev/null && exit 1\nexit 0\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
    let kept = keep("second", "20261104T0-1");
    assert!(kept.status.success(), "{}", said(&kept));
    assert!(dir.join("origin.git/once").is_dir());
}

/// A copy of the project's data and an empty cache, with an apt whose mirror has nothing but 5.10.999.
fn without_the_locked_version(dir: &Path) -> (Utf8PathBuf, String) {
    let path = Utf8PathBuf::from_path_buf(dir.join("project")).unwrap();
    std::fs::create_dir(&path).unwrap();
    for part in ["kernels", "images", "suites"] {
        let done = Command::new("cp")
            .args(["-r", project().join(part).as_str(), path.as_str()])
            .status();
        assert!(done.unwrap().success());
    }
    let show = format!(
        "#!/bin/sh\nprintf 'Package: linux-source-5.10\\nVersion: 5.10.999-1\\nSize: 7\\nSHA256: {}\\n\\n'\n",
        "0".repeat(64)
    );
    program(dir, "apt-cache", &show);
    let path_variable = program(dir, "apt-get", "#!/bin/sh\nexit 0\n");
    (path, path_variable)
}

#[test]
fn a_plan_takes_the_git_tag_where_the_debian_version_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (copy, path) = without_the_locked_version(dir.path());
    // A remote with the tag that the kernel's file names beside the Debian source.
    let linux = dir.path().join("linux");
    std::fs::create_dir(&linux).unwrap();
    git(&linux, &["init", "-q"]);
    std::fs::write(linux.join("Makefile"), "").unwrap();
    std::fs::write(linux.join("Kconfig"), "").unwrap();
    git(&linux, &["add", "-A"]);
    git(&linux, &["commit", "-q", "-m", "Linux"]);
    let lock = std::fs::read_to_string(copy.join("kernels/sources.lock")).unwrap();
    let version = lock
        .split("version = \"")
        .find(|v| v.starts_with("5.10."))
        .unwrap();
    let release = version.split('-').next().unwrap();
    git(&linux, &["tag", &format!("v{release}")]);
    let commit = git(&linux, &["rev-parse", "HEAD"]);
    let plan = |git: &Path, cache: &str, more: &[&str]| {
        let mut args = vec![
            "ci-plan",
            "-k",
            "5.10",
            "-E",
            "map-touch-4k",
            "--shards",
            "1/2",
        ];
        args.extend(more);
        command(&copy, &args)
            .env("PATH", &path)
            .env("ZONEDEV_CACHE", dir.path().join(cache))
            .env("ZONEDEV_KERNEL_GIT", git)
            .output()
            .unwrap()
    };
    let planned = plan(&linux, "cache", &[]);
    let words = said(&planned);
    assert_eq!(planned.status.code(), Some(0), "{words}");
    assert!(
        words.contains("is gone from the mirror: building the tag"),
        "{words}"
    );
    let json: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(json["builds"][0]["kernels"], "-k 5.10");
    assert_eq!(json["shards"].as_array().unwrap().len(), 2);
    let locked = std::fs::read_to_string(copy.join("kernels/sources.lock")).unwrap();
    assert!(
        locked.contains(commit.trim()) && !locked.contains("5.10.999"),
        "{locked}"
    );
    // Whoever has that lock has the same plan, also where nothing but the lock is allowed.
    let mut again = command(&copy, &["build", "--locked", "5.10"]);
    let again = again
        .env("PATH", &path)
        .env("ZONEDEV_CACHE", dir.path().join("cache"))
        .env("ZONEDEV_KERNEL_GIT", &linux)
        .output()
        .unwrap();
    let words = said(&again);
    assert!(
        dir.path().join("cache/sources").read_dir().unwrap().count() == 1,
        "{words}"
    );

    // Without git, the newest that Debian has.
    std::fs::write(copy.join("kernels/sources.lock"), lock).unwrap();
    let planned = plan(&dir.path().join("nowhere"), "cache2", &[]);
    let words = said(&planned);
    assert_eq!(planned.status.code(), Some(0), "{words}");
    assert!(
        words.contains("can't be had from git") && words.contains("5.10.999-1"),
        "{words}"
    );
    let newest: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_ne!(newest["builds"][0]["key"], json["builds"][0]["key"]);
}
