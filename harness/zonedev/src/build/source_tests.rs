use super::*;
use crate::build::cache::Cache;
use crate::build::event::{BuildEvent, BuildSink, Quiet};
use crate::build::lock::SourceLock;
use std::sync::Mutex;

fn git(dir: &Utf8Path, args: &[&str]) -> String {
    let mut cmd = proc::command("git");
    cmd.args([
        "-C",
        dir.as_str(),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
    ])
    .args(args);
    proc::run(&mut cmd, "git").unwrap()
}

struct Place {
    _dir: tempfile::TempDir,
    root: Utf8PathBuf,
    ctx: BuildCtx,
}

/// A project with an empty cache, and a git tree `linux` that looks like a kernel.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    let linux = root.join("linux");
    std::fs::create_dir_all(linux.join("mm")).unwrap();
    std::fs::create_dir_all(root.join("kernels")).unwrap();
    for (name, text) in [
        ("Makefile", "VERSION = 6\nPATCHLEVEL = 12\n"),
        ("Kconfig", ""),
        ("mm/a.c", "a\n"),
        (".gitignore", "*.o\n"),
    ] {
        std::fs::write(linux.join(name), text).unwrap();
    }
    git(&linux, &["init", "-q", "-b", "main"]);
    git(&linux, &["add", "-A"]);
    git(&linux, &["commit", "-q", "-m", "one"]);
    git(&linux, &["tag", "v1"]);
    let mut ctx = BuildCtx::new(root.clone(), Cache::at(root.join("cache")).unwrap());
    ctx.lock = SourceLock::at(root.join("kernels/sources.lock"));
    Place {
        _dir: dir,
        root,
        ctx,
    }
}

fn tree(rev: Option<&str>) -> SourceSpec {
    SourceSpec::Tree {
        path: "linux".into(),
        rev: rev.map(str::to_owned),
    }
}

fn take(p: &Place, spec: &SourceSpec) -> Result<Identified, BuildError> {
    obtain(&p.ctx, spec, &Reporter::new("x", &Quiet))
}

#[test]
fn a_dirty_tree_is_its_commit_with_changes_on_top() {
    let p = place();
    let clean = take(&p, &tree(None)).unwrap();
    assert!(!clean.record.dirty && clean.overlay.is_empty());
    assert_eq!(
        std::fs::read_to_string(pristine(&p.ctx, &clean).join("mm/a.c")).unwrap(),
        "a\n"
    );
    std::fs::write(p.root.join("linux/mm/a.c"), "changed\n").unwrap();
    std::fs::write(p.root.join("linux/mm/new.c"), "new\n").unwrap();
    std::fs::write(p.root.join("linux/mm/a.o"), "ignored\n").unwrap();
    std::fs::remove_file(p.root.join("linux/Kconfig")).unwrap();
    let dirty = take(&p, &tree(None)).unwrap();
    assert_eq!(dirty.id, clean.id, "the pristine part is shared");
    assert!(dirty.record.dirty);
    let paths: Vec<_> = dirty.overlay.paths().map(Utf8Path::as_str).collect();
    assert_eq!(paths, ["Kconfig", "mm/a.c", "mm/new.c"]);
    let at_head = take(&p, &tree(Some("HEAD"))).unwrap();
    assert!(at_head.overlay.is_empty());
}

#[test]
fn a_revision_is_its_files_and_not_its_commit() {
    let p = place();
    git(
        &p.root.join("linux"),
        &["commit", "-q", "--allow-empty", "-m", "two"],
    );
    assert_eq!(
        take(&p, &tree(Some("v1"))).unwrap().id,
        take(&p, &tree(Some("main"))).unwrap().id
    );
    let e = take(&p, &tree(Some("v9"))).unwrap_err();
    assert_eq!(e.class(), crate::build::ErrorClass::Spec);
    assert!(e.to_string().contains("has no revision v9"), "{e}");
}

#[test]
fn revisions_are_made_of_the_files_of_one_of_them() {
    let mut p = place();
    let linux = p.root.join("linux");
    for n in ["0", "1", "2"] {
        std::fs::write(linux.join("mm/a.c"), n).unwrap();
        std::fs::write(linux.join(format!("mm/{n}.c")), "\u{fc}\n").unwrap();
        git(&linux, &["add", "-A"]);
        git(&linux, &["commit", "-q", "-m", n]);
    }
    std::os::unix::fs::symlink("a.c", linux.join("mm/link.c")).unwrap();
    std::fs::remove_file(linux.join("Kconfig")).unwrap();
    git(&linux, &["add", "-A"]);
    git(&linux, &["update-index", "--chmod=+x", "mm/1.c"]);
    git(&linux, &["commit", "-q", "-m", "last"]);
    git(&linux, &["reset", "-q", "--hard"]);
    let plain = take(&p, &tree(Some("v1"))).unwrap();
    p.ctx.tree_base = Some("v1".into());
    let same = take(&p, &tree(Some("v1"))).unwrap();
    assert_eq!((&same.id, same.overlay.is_empty()), (&plain.id, true));
    let last = take(&p, &tree(Some("main"))).unwrap();
    assert_eq!(last.id, plain.id);
    assert_eq!(
        last.record.version.as_deref(),
        Some(git(&linux, &["rev-parse", "main"]).trim())
    );
    let paths: Vec<_> = last.overlay.paths().map(Utf8Path::as_str).collect();
    assert_eq!(
        paths,
        [
            "Kconfig",
            "mm/0.c",
            "mm/1.c",
            "mm/2.c",
            "mm/a.c",
            "mm/link.c"
        ]
    );
    // Laid over the files of v1, they are the commit's.
    let made = p.root.join("made");
    tree::archive(&linux, "v1", {
        std::fs::create_dir(&made).unwrap();
        &made
    })
    .unwrap();
    last.overlay.apply(&made).unwrap();
    git(&made, &["init", "-q"]);
    git(&made, &["add", "-A"]);
    let now = git(&made, &["write-tree"]);
    assert_eq!(now, git(&linux, &["rev-parse", "main^{tree}"]));
    // What is not committed comes on top.
    std::fs::write(linux.join("mm/a.c"), "dirty").unwrap();
    let dirty = take(&p, &tree(None)).unwrap();
    assert!(dirty.record.dirty && dirty.overlay != last.overlay);
    assert_eq!(dirty.id, plain.id);
}

#[test]
fn plain_files_are_known_by_their_content() {
    let p = place();
    std::fs::remove_dir_all(p.root.join("linux/.git")).unwrap();
    let first = take(&p, &tree(None)).unwrap();
    assert!(pristine(&p.ctx, &first).join("mm/a.c").exists());
    std::fs::write(p.root.join("linux/mm/a.c"), "changed\n").unwrap();
    assert_ne!(take(&p, &tree(None)).unwrap().id, first.id);
    std::fs::write(p.root.join("linux/.config"), "").unwrap();
    assert!(
        take(&p, &tree(None))
            .unwrap_err()
            .to_string()
            .contains("mrproper")
    );
}

#[test]
fn a_tag_is_locked_to_its_commit() {
    let mut p = place();
    let spec = SourceSpec::Git {
        url: format!("file://{}/linux", p.root),
        tag: "v1".to_owned(),
    };
    p.ctx.locked = true;
    let e = take(&p, &spec).unwrap_err();
    assert!(matches!(e, BuildError::Locked { .. }), "{e}");
    p.ctx.locked = false;
    let first = take(&p, &spec).unwrap();
    assert!(!pristine(&p.ctx, &first).join(".git").exists());
    assert_eq!(identify(&p.ctx, &spec).unwrap().unwrap().id, first.id);

    // The tag moves, and the cache is lost.
    let linux = p.root.join("linux");
    std::fs::write(linux.join("mm/a.c"), "moved\n").unwrap();
    git(&linux, &["commit", "-q", "-a", "-m", "two"]);
    git(&linux, &["tag", "-f", "v1"]);
    std::fs::remove_dir_all(pristine(&p.ctx, &first)).unwrap();
    p.ctx.locked = true;
    let e = take(&p, &spec).unwrap_err();
    assert!(e.to_string().contains("--locked forbids"), "{e}");
    p.ctx.locked = false;
    struct Notices(Mutex<Vec<String>>);
    impl BuildSink for Notices {
        fn event(&self, event: BuildEvent) {
            if let BuildEvent::Notice { message, .. } = event {
                self.0.lock().unwrap().push(message);
            }
        }
    }
    let notices = Notices(Mutex::default());
    let second = obtain(&p.ctx, &spec, &Reporter::new("x", &notices)).unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(second.record.replaces, first.record.version);
    assert!(notices.0.lock().unwrap()[0].contains("building that instead"));
}

#[test]
fn a_tarball_must_have_its_checksum() {
    let p = place();
    let file = p.root.join("linux-6.12.tar.gz");
    proc::run(
        proc::command("tar").args(["-C", p.root.as_str(), "-czf", file.as_str(), "linux"]),
        "tar",
    )
    .unwrap();
    let sum = proc::run(proc::command("sha256sum").arg(&file), "sum").unwrap();
    let sha256 = sum.split_whitespace().next().unwrap().to_owned();
    let spec = |sha256: &str| SourceSpec::Tarball {
        at: "linux-6.12.tar.gz".into(),
        sha256: sha256.to_owned(),
    };
    let e = take(&p, &spec(&"0".repeat(64))).unwrap_err();
    assert!(matches!(e, BuildError::Checksum { .. }), "{e}");
    let good = take(&p, &spec(&sha256)).unwrap();
    assert!(pristine(&p.ctx, &good).join("mm/a.c").is_file());
}

#[test]
fn what_is_no_kernel_is_refused_and_not_kept() {
    let p = place();
    let linux = p.root.join("linux");
    git(&linux, &["rm", "-q", "Kconfig"]);
    git(&linux, &["commit", "-q", "-m", "no kernel"]);
    let e = take(&p, &tree(None)).unwrap_err();
    assert!(e.to_string().contains("is no kernel"), "{e}");
    let kept = std::fs::read_dir(p.root.join("cache/sources"))
        .unwrap()
        .count();
    assert_eq!(kept, 0);
}
