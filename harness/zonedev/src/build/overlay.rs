//! The difference between a pristine source and what is built from it: the changed files of a
//! dirty tree, the files that a series touches. Pristine files are shared by hard links, so a
//! changed file is always a new file, never written in place.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::cache::{create_dir, remove};
use super::error::BuildError;

/// What becomes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Remove,
    File { bytes: Vec<u8>, executable: bool },
    Link { target: String },
}

impl Change {
    /// A file as it is; `Remove` where there is none.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, BuildError> {
        let fail = |e| BuildError::io("read", path, e);
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Change::Remove);
            }
            Err(e) => return Err(fail(e)),
        };
        if meta.is_symlink() {
            let target = path.read_link_utf8().map_err(fail)?;
            return Ok(Change::Link {
                target: target.into_string(),
            });
        }
        let bytes = fs_err::read(path).map_err(fail)?;
        Ok(Change::File {
            bytes,
            executable: meta.permissions().mode() & 0o100 != 0,
        })
    }

    /// Makes `path` so.
    pub(crate) fn write(&self, path: &Utf8Path) -> Result<(), BuildError> {
        remove(path)?;
        if let (Some(parent), false) = (path.parent(), *self == Change::Remove) {
            create_dir(parent)?;
        }
        let fail = |e| BuildError::io("write", path, e);
        match self {
            Change::Remove => Ok(()),
            Change::Link { target } => std::os::unix::fs::symlink(target, path).map_err(fail),
            Change::File { bytes, executable } => {
                fs_err::write(path, bytes).map_err(fail)?;
                let mode = if *executable { 0o755 } else { 0o644 };
                fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail)
            }
        }
    }
}

/// Changed files by their path in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overlay(BTreeMap<Utf8PathBuf, Change>);

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, path: &Utf8Path) -> Option<&Change> {
        self.0.get(path)
    }

    /// Adds a change; a path that would leave the tree is refused.
    pub(crate) fn set(&mut self, path: Utf8PathBuf, change: Change) -> Result<(), BuildError> {
        if !is_inside(&path) {
            return Err(BuildError::Request {
                message: format!("the path {path} leads out of the kernel's tree"),
                remedy: "use a patch or a tree that stays inside".to_owned(),
            });
        }
        self.0.insert(path, change);
        Ok(())
    }

    /// Adds changes that come after these.
    pub(crate) fn extend(&mut self, later: Overlay) {
        self.0.extend(later.0);
    }

    /// The changes of some paths.
    pub(crate) fn only(&self, keep: impl Fn(&Utf8Path) -> bool) -> Self {
        let kept = self.0.iter().filter(|(path, _)| keep(path));
        Self(kept.map(|(p, c)| (p.clone(), c.clone())).collect())
    }

    /// The changed paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Utf8Path> {
        self.0.keys().map(Utf8PathBuf::as_path)
    }

    /// Changes the files of `tree`.
    pub(crate) fn apply(&self, tree: &Utf8Path) -> Result<(), BuildError> {
        for (path, change) in &self.0 {
            change.write(&tree.join(path))?;
        }
        Ok(())
    }

    /// What each path becomes, as a digest.
    pub(crate) fn digests(&self) -> BTreeMap<Utf8PathBuf, String> {
        let digest = |path: &Utf8Path| {
            let mut hasher = blake3::Hasher::new();
            self.only(|p| p == path).hash_into(&mut hasher);
            hasher.finalize().to_hex().to_string()
        };
        self.paths()
            .map(|path| (path.to_owned(), digest(path)))
            .collect()
    }

    /// Adds all of it to a key.
    pub(crate) fn hash_into(&self, hasher: &mut blake3::Hasher) {
        for (path, change) in &self.0 {
            let (kind, bytes): (&[u8], &[u8]) = match change {
                Change::Remove => (b"-", b""),
                Change::File {
                    bytes,
                    executable: false,
                } => (b"f", bytes),
                Change::File {
                    bytes,
                    executable: true,
                } => (b"x", bytes),
                Change::Link { target } => (b"l", target.as_bytes()),
            };
            for part in [path.as_str().as_bytes(), kind, bytes] {
                hasher
                    .update(&(part.len() as u64).to_le_bytes())
                    .update(part);
            }
        }
    }
}

/// Whether a relative path stays inside.
pub(crate) fn is_inside(path: &Utf8Path) -> bool {
    path.components().next().is_some()
        && path
            .components()
            .all(|c| matches!(c, Utf8Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_linked_original_is_never_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let (pristine, work) = (root.join("pristine"), root.join("work"));
        for d in [&pristine, &work] {
            std::fs::create_dir(d).unwrap();
        }
        std::fs::write(pristine.join("a.c"), "old").unwrap();
        std::fs::hard_link(pristine.join("a.c"), work.join("a.c")).unwrap();
        let mut overlay = Overlay::default();
        overlay
            .set(
                "a.c".into(),
                Change::File {
                    bytes: b"new".to_vec(),
                    executable: true,
                },
            )
            .unwrap();
        overlay
            .set(
                "d/l".into(),
                Change::Link {
                    target: "../a.c".into(),
                },
            )
            .unwrap();
        overlay.apply(&work).unwrap();
        assert_eq!(
            std::fs::read_to_string(pristine.join("a.c")).unwrap(),
            "old"
        );
        assert_eq!(
            Change::read(&work.join("a.c")).unwrap(),
            *overlay.get("a.c".into()).unwrap()
        );
        assert_eq!(std::fs::read_to_string(work.join("d/l")).unwrap(), "new");
        overlay.set("a.c".into(), Change::Remove).unwrap();
        overlay.apply(&work).unwrap();
        assert!(!work.join("a.c").exists());
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["../x", "/etc/x", "a/../../x", ""] {
            assert!(
                Overlay::default().set(path.into(), Change::Remove).is_err(),
                "{path}"
            );
        }
    }
}
