//! The root file system: an erofs on the first disk, read-only, with a tmpfs over it, so that
//! programs may write wherever they like and nothing of it outlives the guest.

use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::{MsFlags, mount};
use proto::StepResult;

use crate::wire::{ROOT, errno, failed, io_errno};

/// The disk that holds it.
const DISK: &str = "/dev/vda";
/// A second disk, where the fixture has one: a tree of tests that somebody named.
const SECOND: &str = "/dev/vdb";
/// Where the second one is in the root file system.
const SECOND_DIR: &str = "fstests";

/// Mounts it with everything that programs expect in it.
pub(super) fn prepare() -> Result<(), StepResult> {
    if !fs::exists(DISK).unwrap_or(false) {
        return Err(failed(format!(
            "mount the root file system: there is no {DISK}; does the fixture name a `root`?"
        )));
    }
    // Programs write their scratch files to it.
    over(DISK, "root", ROOT)?;
    if fs::exists(SECOND).unwrap_or(false) {
        over(SECOND, "second", &format!("{ROOT}/{SECOND_DIR}"))?;
    }
    for (kind, dir) in [
        ("proc", "proc"),
        ("sysfs", "sys"),
        ("devtmpfs", "dev"),
        ("tmpfs", "run"),
        ("tmpfs", "dev/shm"),
    ] {
        new(kind, kind, &format!("{ROOT}/{dir}"), "")?;
    }
    // Kernels may leave these out, and say so to the tests that need them.
    let _ = new(
        "debugfs",
        "debugfs",
        &format!("{ROOT}/sys/kernel/debug"),
        "",
    );
    let _ = new(
        "tracefs",
        "tracefs",
        &format!("{ROOT}/sys/kernel/tracing"),
        "",
    );
    // A shell's process substitution goes through it, and devtmpfs has none.
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = symlink(target, format!("/dev/{name}"));
    }
    Ok(())
}

/// Mounts the erofs of a disk on `dir`, with a tmpfs over it.
fn over(disk: &str, name: &str, dir: &str) -> Result<(), StepResult> {
    let base = format!("/run/{name}");
    let lower = format!("{base}/lower");
    make(&lower)?;
    mount(
        Some(disk),
        lower.as_str(),
        Some("erofs"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .map_err(|e| errno("mount erofs", e))?;
    let rw = format!("{base}/rw");
    new("tmpfs", "tmpfs", &rw, "size=75%")?;
    let (upper, work) = (format!("{rw}/upper"), format!("{rw}/work"));
    make(&upper)?;
    make(&work)?;
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    new("overlay", "overlay", dir, &options)
}

fn new(source: &str, kind: &str, dir: &str, options: &str) -> Result<(), StepResult> {
    // Where a file system provides the directory itself, this fails and need not succeed.
    let _ = fs::create_dir_all(dir);
    mount(
        Some(source),
        dir,
        Some(kind),
        MsFlags::empty(),
        Some(options),
    )
    .map_err(|e| errno(&format!("mount {kind}"), e))
}

fn make(dir: &str) -> Result<(), StepResult> {
    fs::create_dir_all(dir).map_err(|e| io_errno("mkdir", &e))
}
