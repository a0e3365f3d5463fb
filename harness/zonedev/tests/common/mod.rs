//! What the tests on real kernels share.

#![allow(dead_code, clippy::unwrap_used)]

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
