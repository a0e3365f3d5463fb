//! The QEMU in use: where it is and which it is.

use std::collections::BTreeSet;
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

    /// Names of the devices that it has.
    ///
    /// Fails where it can't be started or does not answer.
    pub async fn devices(&self) -> Result<BTreeSet<String>> {
        let text = ask(&self.path, &["-device", "help"]).await?;
        Ok(text.lines().filter_map(device).map(str::to_owned).collect())
    }

    /// Asks the program at `path` for its version.
    pub async fn at(path: &Utf8Path) -> Result<Self> {
        let text = ask(path, &["--version"]).await?;
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

/// What the program prints.
async fn ask(path: &Utf8Path, args: &[&str]) -> Result<String> {
    let output = Command::new(path)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output)
        .await
        .map_err(|_| VmError::Timeout {
            what: format!("{path} {}", args.join(" ")),
            limit: LIMIT,
        })?
        .map_err(VmError::io(format!("start {path}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The name in a line of `-device help`: `name "nvme", bus PCI, desc "…"`.
fn device(line: &str) -> Option<&str> {
    line.strip_prefix("name \"")?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_in_its_line() {
        assert_eq!(
            device("name \"cxl-type3\", bus PCI, desc \"CXL\""),
            Some("cxl-type3")
        );
        assert_eq!(device("Storage devices:"), None);
    }
}
