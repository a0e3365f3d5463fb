//! A project of its own in which the commands are typed, and what stands around it.

use std::os::unix::fs::symlink;

use camino::{Utf8Path, Utf8PathBuf};

use crate::common::project;

/// What the series observes in this case, which nobody has accepted here.
const NOT_ACCEPTED: &str = "fsdax__fsdax-ext4__pin-vmsplice@5.10+zone-device-refcount.snap";

pub(crate) struct Place {
    _temp: tempfile::TempDir,
    /// The project.
    pub(crate) dir: Utf8PathBuf,
}

/// Links of all that a folder has, but for what is named.
fn links(from: &Utf8Path, to: &Utf8Path, but: &[&str]) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir_utf8().unwrap().map(Result::unwrap) {
        if !but.contains(&entry.file_name()) {
            symlink(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn copies(from: &Utf8Path, to: &Utf8Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in from.read_dir_utf8().unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        let place = Place {
            _temp: temp,
            dir: top.join("zonedev"),
        };
        let (from, dir) = (project(), &place.dir);
        std::fs::create_dir(dir).unwrap();
        for part in ["images", "harness", "docs", "Cargo.toml", "Cargo.lock"] {
            symlink(from.join(part), dir.join(part)).unwrap();
        }
        // Pages say which files one may add.
        let own = ["contracts", "series"];
        links(&from.join("kernels"), &dir.join("kernels"), &own);
        for part in own.map(|p| format!("kernels/{p}")) {
            links(&from.join(&part), &dir.join(&part), &[]);
        }
        // What is accepted here is no file of the checkout.
        links(
            &from.join("suites"),
            &dir.join("suites"),
            &["boot", "fsdax"],
        );
        for suite in ["suites/boot", "suites/fsdax"] {
            links(&from.join(suite), &dir.join(suite), &["snapshots"]);
            let snapshots = format!("{suite}/snapshots");
            copies(&from.join(&snapshots), &dir.join(&snapshots));
        }
        // The agent is built once for all.
        let guest = from.join("target/guest");
        std::fs::create_dir_all(&guest).unwrap();
        std::fs::create_dir(dir.join("target")).unwrap();
        symlink(guest, dir.join("target/guest")).unwrap();

        let mutant = from.join("kernels/mutants/leak-vmsplice-5.10.patch");
        for name in ["my.mbox", "my.patch"] {
            std::fs::copy(&mutant, dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("my.config"), "CONFIG_DEBUG_LIST=y\n").unwrap();
        place.fstests();
        place.linux();
        place.not_accepted();
        place
    }

    /// As before anybody accepted what the series does to one case.
    pub(crate) fn not_accepted(&self) {
        let file = self.dir.join("suites/fsdax/snapshots").join(NOT_ACCEPTED);
        let _ = std::fs::remove_file(file);
    }

    fn beside(&self, name: &str) -> Utf8PathBuf {
        self.dir.with_file_name(name)
    }

    /// As much of a built fstests as a plan reads.
    fn fstests(&self) {
        let dir = self.beside("xfstests");
        for (file, text) in [
            ("check", ""),
            ("src/feature", ""),
            (
                "tests/generic/413",
                "#! /bin/bash\n. ./common/preamble\n_begin_fstest dax auto\n",
            ),
            ("tests/ext4/group.list", ""),
            ("tests/xfs/group.list", ""),
        ] {
            let file = dir.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
    }

    /// As much of a kernel's tree as a plan reads: its version, at a tag and at HEAD, and a change.
    fn linux(&self) {
        let makefile = |minor: u32| format!("VERSION = 6\nPATCHLEVEL = {minor}\n");
        let dir = self.beside("linux");
        std::fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "--quiet"]);
        for (minor, tag) in [(12, "v6.12"), (13, "v6.13")] {
            std::fs::write(dir.join("Makefile"), makefile(minor)).unwrap();
            git(&dir, &["add", "Makefile"]);
            git(&dir, &["commit", "--quiet", "-m", tag]);
            git(&dir, &["tag", tag]);
        }
        std::fs::write(dir.join("dirty"), "not committed").unwrap();
    }

    /// The project as a checkout whose remote has nights on a branch of its own.
    pub(crate) fn remote(&self, run: &Utf8Path) {
        let (remote, nights) = (self.beside("remote"), self.beside("nights"));
        for dir in [&remote, &nights, &self.dir] {
            std::fs::create_dir_all(dir).unwrap();
            git(dir, &["init", "--quiet"]);
        }
        git(
            &self.dir,
            &["commit", "--quiet", "--allow-empty", "-m", "the night's"],
        );
        git(&self.dir, &["remote", "add", "origin", remote.as_str()]);
        std::fs::create_dir(nights.join("runs")).unwrap();
        let name = run.file_name().unwrap();
        self.pack(run, &nights.join(format!("runs/{name}.tar.gz")));
        git(&nights, &["add", "runs"]);
        git(&nights, &["commit", "--quiet", "-m", name]);
        git(
            &nights,
            &["push", "--quiet", remote.as_str(), "HEAD:history"],
        );
    }

    /// A run's folder as CI keeps it.
    pub(crate) fn pack(&self, run: &Utf8Path, to: &Utf8Path) {
        let (parent, name) = (run.parent().unwrap(), run.file_name().unwrap());
        let mut tar = std::process::Command::new("tar");
        tar.args(["-C", parent.as_str(), "-czf", to.as_str()]);
        tar.args([format!("{name}/begun.json"), format!("{name}/record.json")]);
        assert!(tar.status().unwrap().success());
    }
}

pub(crate) fn git(dir: &Utf8Path, args: &[&str]) {
    let mut git = std::process::Command::new("git");
    git.args(["-c", "user.name=A", "-c", "user.email=a@zonedev.example"]);
    let done = git.args(args).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {done:?}");
}

pub(crate) fn copy(from: &Utf8Path, to: &Utf8Path) {
    let _ = std::fs::remove_dir_all(to);
    let mut copy = std::process::Command::new("cp");
    let done = copy.args(["-r", from.as_str(), to.as_str()]).status();
    assert!(done.unwrap().success());
}
