//! What the tests on real kernels share.

#![allow(dead_code, clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

/// One matrix at a time: each takes all processors.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This checkout.
pub(crate) fn project() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize_utf8()
        .unwrap()
}

/// zonedev on a project, as in CI: a test writes no pending snapshots into the checkout.
pub(crate) fn command(project: &Utf8Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonedev"));
    command
        .env("CI", "true")
        .args(["--project", project.as_str()])
        .args(args)
        .stdin(Stdio::null());
    command
}

/// The kernel that these tests boot: 5.10, which `just test` builds, unless another one is named.
pub(crate) fn kernel() -> String {
    std::env::var("ZONEDEV_TEST_RELEASE").unwrap_or("5.10".to_owned())
}

/// What was printed.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits, but not forever.
pub(crate) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(300), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The QEMUs that write into a run's folder.
pub(crate) fn qemus(run: &Utf8Path) -> Vec<u32> {
    let of_it = |pid: &u32| {
        let entry = std::path::PathBuf::from(format!("/proc/{pid}"));
        let cmdline = std::fs::read(entry.join("cmdline")).unwrap_or_default();
        let stderr = std::fs::read_link(entry.join("fd/2")).unwrap_or_default();
        String::from_utf8_lossy(&cmdline).contains("qemu-system")
            && stderr.starts_with(run.as_std_path())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(of_it).collect()
}

/// The directories with guests' memory that a process has locked.
pub(crate) fn memory_of(pid: u32) -> Vec<std::path::PathBuf> {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let open = fds.filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
    open.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("zonedev-mem-")
    })
    .collect()
}

/// All files below a directory.
pub(crate) fn files(dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut out = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.into_path()),
                _ => out.push(entry.into_path()),
            }
        }
    }
    out
}

/// Every cell's normalised observation, by its place.
pub(crate) fn observations(run: &Utf8Path) -> std::collections::BTreeMap<String, String> {
    let snaps = files(run)
        .into_iter()
        .filter(|f| f.extension() == Some("snap"));
    snaps
        .map(|f| {
            let name = f.strip_prefix(run).unwrap().to_string();
            (name, std::fs::read_to_string(&f).unwrap())
        })
        .collect()
}
