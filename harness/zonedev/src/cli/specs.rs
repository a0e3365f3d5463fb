//! Whether two runs come from the same specs: a hash of every file that decides which cells there are,
//! what they do, and how they are judged. Not the accepted snapshots: whoever judges brings his own.

use camino::{Utf8Path, Utf8PathBuf};

use super::args::Selection;

/// Files that are specs, below these folders of a project.
const FOLDERS: [&str; 3] = ["suites", "images", "kernels/contracts"];

/// In hex, the same for the same files wherever the project lies.
pub(super) fn hash(project: &Utf8Path, selection: &Selection) -> std::io::Result<String> {
    of(project, &FOLDERS, &selection.cases)
}

/// The same of what images are made of.
pub(super) fn of_images(project: &Utf8Path) -> std::io::Result<String> {
    of(project, &["images"], &[])
}

fn of(project: &Utf8Path, folders: &[&str], more: &[Utf8PathBuf]) -> std::io::Result<String> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&project.join(folder), &mut files)?;
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    let mut add = |name: &str, path: &Utf8Path| -> std::io::Result<()> {
        let bytes = fs_err::read(path)?;
        for part in [name.as_bytes(), &bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Ok(())
    };
    for path in &files {
        add(path.strip_prefix(project).unwrap_or(path).as_str(), path)?;
    }
    for path in more {
        add(path.file_name().unwrap_or_default(), path)?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn collect(folder: &Utf8Path, into: &mut Vec<Utf8PathBuf>) -> std::io::Result<()> {
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(entry.path(), into)?;
        } else if matches!(entry.path().extension(), Some("toml" | "lock")) {
            into.push(entry.into_path());
        }
    }
    Ok(())
}
