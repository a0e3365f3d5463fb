//! What the kernel has counted of its own code, where it was built to (CONFIG_GCOV_KERNEL).
//!
//! The counts are those since boot, also in a clone: what its machine did before belongs to what
//! the case reached.

use std::fs;
use std::path::{Path, PathBuf};

use proto::{MAX_PROFILE, Profile, ProfileFile};

const GCOV: &str = "/sys/kernel/debug/gcov";

/// Reads all counts that there are.
pub(super) fn profile() -> Profile {
    read(Path::new(GCOV))
}

fn read(root: &Path) -> Profile {
    let mut out = Profile::default();
    let mut room = MAX_PROFILE;
    for path in counts(root) {
        let name = path.strip_prefix(root).unwrap_or(&path);
        let name = name.to_string_lossy().into_owned();
        match fs::read(&path) {
            Ok(bytes) if bytes.len() <= room => {
                room -= bytes.len();
                out.files.push(ProfileFile::new(name, &bytes));
            }
            Ok(bytes) => {
                out.left_out
                    .push(format!("{name}: {} bytes are too many", bytes.len()));
            }
            Err(e) => out.left_out.push(format!("{name}: {e}")),
        }
    }
    out
}

/// Every file of counts below a directory, in order. The directories are the kernel's, and as
/// deep as the path that it was built at.
fn counts(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|e| e == "gcda") => {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}
