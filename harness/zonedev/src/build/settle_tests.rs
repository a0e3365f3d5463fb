use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::build::cache::Cache;
use crate::build::event::{BuildEvent, BuildSink};
use crate::build::lock::SourceLock;
use crate::build::proc;
use crate::build::source::fetch;

#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl BuildSink for Notices {
    fn event(&self, event: BuildEvent) {
        if let BuildEvent::Notice { message, .. } = event {
            self.0.lock().unwrap().push(message);
        }
    }
}

struct Place {
    _dir: tempfile::TempDir,
    /// A bare repository with the tags v6.12.1 (annotated) and v6.12.2.
    mirror: Utf8PathBuf,
    ctx: BuildCtx,
    notices: Notices,
}

fn git(dir: &Utf8Path, args: &[&str]) -> String {
    let mut cmd = proc::command("git");
    cmd.args([
        "-C",
        dir.as_str(),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
    ]);
    proc::run(cmd.args(args), "git").unwrap()
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    let linux = root.join("linux");
    std::fs::create_dir_all(root.join("kernels")).unwrap();
    std::fs::create_dir_all(&linux).unwrap();
    git(&linux, &["init", "-q", "-b", "main"]);
    for (tag, how) in [("v6.12.1", vec!["-a", "-m", "t"]), ("v6.12.2", vec![])] {
        std::fs::write(linux.join("Makefile"), tag).unwrap();
        std::fs::write(linux.join("Kconfig"), "").unwrap();
        git(&linux, &["add", "-A"]);
        git(&linux, &["commit", "-q", "-m", tag]);
        git(&linux, &[&["tag"], how.as_slice(), &[tag]].concat());
    }
    let mirror = root.join("mirror.git");
    git(&root, &["clone", "-q", "--bare", "linux", mirror.as_str()]);
    let mut ctx = BuildCtx::new(root.clone(), Cache::at(root.join("cache")).unwrap());
    ctx.lock = SourceLock::at(root.join("kernels/sources.lock"));
    ctx.git = Some(format!("file://{mirror}"));
    Place {
        _dir: dir,
        mirror,
        ctx,
        notices: Notices::default(),
    }
}

fn gone() -> LockedDebian {
    LockedDebian {
        suite: "bookworm-security".into(),
        package: "linux-source-6.12".into(),
        version: "6.12.1-1~deb12u1".into(),
        sha256: "0".repeat(64),
        size: 7,
    }
}

/// A remote that no test ever reaches.
fn remote(tag: &str) -> SourceSpec {
    SourceSpec::Git {
        url: "https://kernel.invalid/linux.git".into(),
        tag: tag.into(),
    }
}

#[test]
fn a_version_that_is_gone_is_taken_from_the_tag_of_its_release() {
    let p = place();
    let report = Reporter::new("x", &p.notices);
    let others = [remote("v6.12.2"), remote("v6.12.1")];
    let found = same_release(&p.ctx, &gone(), &others, &report)
        .unwrap()
        .unwrap();
    let commit = git(&p.mirror, &["rev-parse", "v6.12.1^{commit}"]);
    assert_eq!(found.record.version.as_deref(), Some(commit.trim()));
    assert_eq!(found.record.used, others[1]);
    assert_eq!(found.record.replaces.as_deref(), Some("6.12.1-1~deb12u1"));
    let said = p.notices.0.lock().unwrap().join("\n");
    assert!(said.contains("is asked instead of"), "{said}");
    assert!(
        said.contains("is gone from the mirror: building the tag v6.12.1"),
        "{said}"
    );
    // Nothing was cloned; now it is, and is what was promised.
    assert!(!pristine(&p.ctx, &found).exists());
    let fetched = fetch(&p.ctx, found.clone(), &report).unwrap();
    assert_eq!((&fetched.id, &fetched.record), (&found.id, &found.record));
    let makefile = pristine(&p.ctx, &fetched).join("Makefile");
    assert_eq!(std::fs::read_to_string(makefile).unwrap(), "v6.12.1");
    // The commit is locked under the address that the kernel's file names.
    let known = identify(&p.ctx, &others[1]).unwrap().unwrap();
    assert_eq!(known.id, fetched.id);
}

#[test]
fn another_release_is_no_substitute_and_a_remote_that_fails_is_told() {
    let mut p = place();
    let none = |p: &Place, others: &[SourceSpec]| {
        let report = Reporter::new("x", &p.notices);
        same_release(&p.ctx, &gone(), others, &report)
            .unwrap()
            .is_none()
    };
    assert!(none(&p, &[remote("v6.12.2")]));
    assert!(p.notices.0.lock().unwrap().is_empty());
    git(&p.mirror, &["tag", "-d", "v6.12.1"]);
    assert!(none(&p, &[remote("v6.12.1")]));
    p.ctx.git = Some(format!("file://{}/nowhere", p.mirror));
    assert!(none(&p, &[remote("v6.12.1")]));
    let said = p.notices.0.lock().unwrap().join("\n");
    assert!(said.contains("it has no v6.12.1"), "{said}");
    assert!(said.contains("can't be had from git"), "{said}");
    assert!(!p.ctx.lock.path().exists(), "nothing was locked");
}

#[test]
fn with_locked_only_a_locked_commit_takes_the_place() {
    let mut p = place();
    let others = [remote("v6.12.1")];
    let report = Reporter::new("x", &p.notices);
    p.ctx.locked = true;
    assert!(
        same_release(&p.ctx, &gone(), &others, &report)
            .unwrap()
            .is_none()
    );
    p.ctx.locked = false;
    same_release(&p.ctx, &gone(), &others, &report)
        .unwrap()
        .unwrap();
    p.ctx.locked = true;
    let found = same_release(&p.ctx, &gone(), &others, &report)
        .unwrap()
        .unwrap();
    // A mirror that tells another commit is refused then.
    git(&p.mirror, &["tag", "-f", "v6.12.1", "v6.12.2"]);
    let e = fetch(&p.ctx, found, &report).unwrap_err();
    assert!(matches!(e, BuildError::Locked { .. }), "{e}");
}
