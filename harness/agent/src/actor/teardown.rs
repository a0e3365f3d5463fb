//! The check that nothing of a fixture is left, as far as the guest can tell. The pages are the
//! host's to look at.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::provision::{Done, ok};
use crate::wire::failed;

/// Device nodes whose pages, or whose driver's, are ZONE_DEVICE pages.
const NODES: [&str; 3] = ["/dev/pmem", "/dev/dax", "/dev/hmm_dmirror"];

/// Fails with everything that is left.
pub(super) fn check() -> Done {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    left.extend(mounted(&mounts).map(|at| format!("a mount on {at}")));
    for (bus, kinds) in [
        ("nd", &["pmem", "pfn", "dax"][..]),
        ("cxl", &["region"][..]),
    ] {
        left.extend(bound(bus, kinds));
    }
    for entry in fs::read_dir("/sys/bus/dax/devices")
        .into_iter()
        .flatten()
        .flatten()
    {
        // A region's first device stays, without memory.
        let size = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        if size.trim() != "0" {
            left.push(format!("device {}", entry.file_name().to_string_lossy()));
        }
    }
    for line in fs::read_to_string("/proc/modules")
        .unwrap_or_default()
        .lines()
    {
        left.extend(line.split(' ').next().map(|name| format!("module {name}")));
    }
    left.extend(holders());
    if left.is_empty() {
        ok()
    } else {
        Err(failed(format!(
            "tear the fixture down: {} left",
            left.join(", ")
        )))
    }
}

/// Where pmem is mounted.
fn mounted(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let device = words.next()?;
        NODES.iter().any(|n| device.starts_with(n)).then_some(())?;
        words.next()
    })
}

/// Namespaces and what is made of them, where a driver has them.
fn bound(bus: &str, kinds: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir(format!("/sys/bus/{bus}/devices"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_namespace = name.starts_with("namespace");
        let of_kind = kinds.iter().any(|k| name.starts_with(k));
        if (is_namespace || of_kind) && entry.path().join("driver").exists() {
            out.push(format!("device {name}"));
        }
    }
    out
}

/// Processes that have such a node open or mapped.
fn holders() -> Vec<String> {
    let mut out = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        if !name.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let dir = process.path();
        let maps = fs::read_to_string(dir.join("maps")).unwrap_or_default();
        let maps = maps.lines().filter_map(|l| l.split_whitespace().nth(5));
        let mut paths: Vec<String> = maps.map(str::to_owned).collect();
        for fd in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
            paths.extend(fs::read_link(fd.path()).map(|p| p.to_string_lossy().into_owned()));
        }
        let held = |path: &&String| {
            NODES.iter().any(|n| path.starts_with(n))
                || path.starts_with("/mnt/")
                || path.starts_with("/run/mnt-")
        };
        if let Some(path) = paths.iter().find(held) {
            out.push(format!("process {} with {path}", name.to_string_lossy()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_pmem_are_told_from_others() {
        let text = "proc /proc proc rw 0 0\n/dev/pmem0 /mnt ext4 rw,dax=always 0 0\n";
        assert_eq!(mounted(text).collect::<Vec<_>>(), ["/mnt"]);
    }
}
