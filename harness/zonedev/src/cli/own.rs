//! A `zonedev` of its own for what may go wrong without us.

use std::process::Stdio;

use camino::Utf8Path;
use tokio::process::Command;

use super::exit::Failure;
use crate::build::die_with_us;

/// A command of zonedev, as a user would type it: what goes wrong in it is not ours. What it says
/// goes to `log`.
pub(super) fn zonedev(
    project: &Utf8Path,
    word: &str,
    log: fs_err::File,
) -> Result<Command, Failure> {
    let log = log.into_file();
    // Not by its path: who bisects for hours may compile another one meanwhile.
    let mut command = std::process::Command::new("/proc/self/exe");
    die_with_us(&mut command, None);
    let mut command = Command::from(command);
    command
        .args(["--project", project.as_str(), word])
        // Nothing of a broken kernel is to be accepted.
        .env("CI", "true")
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .kill_on_drop(true);
    Ok(command)
}
