//! What a build leaves in the cache, and its record.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::error::BuildError;
use super::source::SourceRecord;
use super::toolchain::Toolchain;
use crate::spec::ResolvedKernel;

/// The version of [`KernelRecord`]'s form. A record of another version is built again.
pub(crate) const RECORD_VERSION: u32 = 1;

/// Where a build's time went, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// Patching, linking or copying the tree, and its config.
    pub prepare: f64,
    /// `make`, from the first object to bzImage.
    pub make: f64,
    /// All of it, without getting the source and without building a patched kernel's base.
    pub total: f64,
}

/// How a kernel came to be; `record.json` beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelRecord {
    /// The form of this record.
    pub version: u32,
    /// The key of all that the kernel depends on.
    pub key: String,
    /// The name under which it was first built.
    pub name: String,
    /// The kernel's own release, as `uname -r` prints it.
    pub release: String,
    /// The source that was used.
    pub source: SourceRecord,
    /// The patches on top, in order: their files and subjects.
    pub patches: Vec<String>,
    /// The files that the patches, or a dirty tree, change.
    pub changed: Vec<Utf8PathBuf>,
    /// The key of the build that this one started from; none if it was a clean build.
    pub base: Option<String>,
    /// The compiler and its company.
    pub toolchain: Toolchain,
    /// How many objects were compiled.
    pub objects: u64,
    /// Where the time went.
    pub took: Took,
    /// Bytes of its files, by name: one that is cut off is no kernel. Empty of older builds.
    #[serde(default)]
    pub sizes: BTreeMap<String, u64>,
}

/// The files that every kernel has.
const FILES: [&str; 4] = ["bzImage", "vmlinux", "config", "System.map"];

/// Their sizes in `dir`.
pub(crate) fn sizes(dir: &Utf8Path) -> BTreeMap<String, u64> {
    let size = |name: &&str| Some(((*name).to_owned(), dir.join(name).metadata().ok()?.len()));
    FILES.iter().filter_map(size).collect()
}

/// A built kernel.
#[derive(Debug, Clone)]
pub struct KernelArtifact {
    /// The name that was asked for.
    pub name: String,
    /// The contract that its pages keep.
    pub contract: String,
    /// Where its files are.
    pub dir: Utf8PathBuf,
    /// How it came to be.
    pub record: KernelRecord,
}

impl KernelArtifact {
    /// The compressed image, for QEMU's `-kernel`.
    pub fn bz_image(&self) -> Utf8PathBuf {
        self.dir.join("bzImage")
    }

    /// The ELF file, with BTF and DWARF. Sources are named from `/linux`.
    pub fn vmlinux(&self) -> Utf8PathBuf {
        self.dir.join("vmlinux")
    }

    /// The config.
    pub fn config(&self) -> Utf8PathBuf {
        self.dir.join("config")
    }

    /// The symbols.
    pub fn system_map(&self) -> Utf8PathBuf {
        self.dir.join("System.map")
    }

    /// All that `make` said.
    pub fn log(&self) -> Utf8PathBuf {
        self.dir.join("build.log")
    }

    /// Its modules, by name and path; none for most kernels.
    pub fn modules(&self) -> Result<BTreeMap<String, Utf8PathBuf>, BuildError> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![self.dir.join("modules")];
        while let Some(dir) = dirs.pop() {
            if !dir.is_dir() {
                continue;
            }
            let read = |e| BuildError::io("read", &dir, e);
            for entry in dir.read_dir_utf8().map_err(read)? {
                let entry = entry.map_err(read)?;
                let path = entry.into_path();
                // `build` and `source` are links into the tree that it was built in.
                if path.is_symlink() {
                    continue;
                }
                if path.is_dir() {
                    dirs.push(path);
                } else if let Some(name) = path.file_name().and_then(|n| n.strip_suffix(".ko")) {
                    found.insert(name.to_owned(), path);
                }
            }
        }
        Ok(found)
    }

    /// The kernel in `dir`, if a whole one of our version is there.
    pub(crate) fn load(dir: &Utf8Path, resolved: &ResolvedKernel) -> Option<Self> {
        let text = std::fs::read_to_string(dir.join("record.json")).ok()?;
        let record: KernelRecord = serde_json::from_str(&text).ok()?;
        let whole = record.version == RECORD_VERSION
            && FILES.iter().all(|f| dir.join(f).is_file())
            && (record.sizes.is_empty() || record.sizes == sizes(dir));
        whole.then(|| Self {
            name: resolved.name.to_string(),
            contract: resolved.contract.clone(),
            dir: dir.to_owned(),
            record,
        })
    }
}

/// What built the kernel in `dir`, if a whole one is there.
pub(crate) fn toolchain(dir: &Utf8Path) -> Option<Toolchain> {
    let text = std::fs::read_to_string(dir.join("record.json")).ok()?;
    let record: KernelRecord = serde_json::from_str(&text).ok()?;
    Some(record.toolchain)
}

impl KernelRecord {
    /// Writes `record.json`.
    pub(crate) fn write(&self, dir: &Utf8Path) -> Result<(), BuildError> {
        let path = dir.join("record.json");
        let text = serde_json::to_string_pretty(self).map_err(|e| BuildError::Command {
            what: format!("write {path}"),
            detail: e.to_string(),
        })?;
        fs_err::write(&path, text + "\n").map_err(|e| BuildError::io("write", &path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_is_not_whole() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        for (n, name) in FILES.iter().enumerate() {
            std::fs::write(dir.join(name), vec![1; 10 + n]).unwrap();
        }
        let whole = sizes(dir);
        assert_eq!(whole.len(), FILES.len());
        assert_eq!(whole["vmlinux"], 11);
        std::fs::write(dir.join("vmlinux"), [1; 10]).unwrap();
        assert_ne!(sizes(dir), whole);
        std::fs::remove_file(dir.join("vmlinux")).unwrap();
        assert_ne!(sizes(dir), whole);
    }
}
