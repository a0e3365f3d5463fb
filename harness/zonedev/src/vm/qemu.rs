//! The QEMU in use: where it is and which it is.

use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::error::{Result, VmError};

const PROGRAM: &str = "qemu-system-x86_64";
const LIMIT: Duration = Duration::from_secs(20);

/// A QEMU that can be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The program, absolute.
    pub path: Utf8PathBuf,
    /// The first line of `--version` after "QEMU emulator version ", with the distribution's part:
    /// "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)".
    pub version: String,
}

impl Qemu {
    /// Looks for `qemu-system-x86_64` on PATH and asks for its version.
    pub async fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        for dir in std::env::split_paths(&path) {
            let Ok(candidate) = Utf8PathBuf::from_path_buf(dir.join(PROGRAM)) else {
                continue;
            };
            if candidate.is_absolute() && candidate.is_file() {
                return Self::at(&candidate).await;
            }
        }
        Err(VmError::QemuMissing {
            program: PROGRAM.to_owned(),
        })
    }

    /// Asks the program at `path` for its version.
    pub async fn at(path: &Utf8Path) -> Result<Self> {
        let output = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, output)
            .await
            .map_err(|_| VmError::Timeout {
                what: format!("{path} --version"),
                limit: LIMIT,
            })?
            .map_err(VmError::io(format!("start {path}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default().trim();
        match line.strip_prefix("QEMU emulator version ") {
            Some(version) => Ok(Self {
                path: path.to_owned(),
                version: version.to_owned(),
            }),
            None => Err(VmError::NotQemu {
                path: path.to_owned(),
                said: line.to_owned(),
            }),
        }
    }
}
