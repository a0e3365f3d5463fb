//! `kernels/sources.lock`: the exact version and checksum behind each source that can move.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::apt::Listed;
use super::error::BuildError;
use crate::spec::SpecFile;

const HEAD: &str = "\
# The exact sources that kernels are built from. Written by zonedev when a kernel is first built,
# and when a locked version is gone from its mirror; checked in, so that everyone builds the same.
";

/// A Debian source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedDebian {
    pub(crate) suite: String,
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

impl LockedDebian {
    /// As an index lists it.
    pub(crate) fn listed(&self) -> Listed {
        Listed {
            version: self.version.clone(),
            sha256: self.sha256.clone(),
            size: self.size,
        }
    }
}

/// A tag of a git remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedGit {
    pub(crate) url: String,
    pub(crate) tag: String,
    pub(crate) commit: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    debian: Vec<LockedDebian>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    git: Vec<LockedGit>,
}

/// The lock file. Reading it is cheap, and every change reads it again first.
#[derive(Debug, Clone)]
pub(crate) struct SourceLock {
    path: Utf8PathBuf,
}

impl SourceLock {
    pub(crate) fn at(path: impl Into<Utf8PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    fn read(&self) -> Result<Content, BuildError> {
        if !self.path.exists() {
            return Ok(Content::default());
        }
        Ok(SpecFile::read(&self.path, "the lock of the sources")?.parse()?)
    }

    pub(crate) fn debian(
        &self,
        suite: &str,
        package: &str,
    ) -> Result<Option<LockedDebian>, BuildError> {
        let mut content = self.read()?;
        content
            .debian
            .retain(|d| d.suite == suite && d.package == package);
        Ok(content.debian.pop())
    }

    /// What is locked of one release of a package of kernel sources.
    pub(crate) fn release(
        &self,
        suite: &str,
        package: &str,
        release: &str,
    ) -> Result<Option<LockedDebian>, BuildError> {
        let mut content = self.read()?;
        content.debian.retain(|d| {
            d.suite == suite && d.package == package && release_in(&d.version) == release
        });
        Ok(content.debian.pop())
    }

    /// Locks one release of a package beside others of it.
    pub(crate) fn set_release(&self, new: LockedDebian) -> Result<(), BuildError> {
        let key = |d: &LockedDebian| {
            let release = release_in(&d.version).to_owned();
            (d.package.clone(), d.suite.clone(), release)
        };
        self.change(|content| {
            content.debian.retain(|d| key(d) != key(&new));
            content.debian.push(new);
            content.debian.sort_by_key(key);
        })
    }

    pub(crate) fn git(&self, url: &str, tag: &str) -> Result<Option<LockedGit>, BuildError> {
        let mut content = self.read()?;
        content.git.retain(|g| g.url == url && g.tag == tag);
        Ok(content.git.pop())
    }

    pub(crate) fn set_debian(&self, new: LockedDebian) -> Result<(), BuildError> {
        self.change(|content| {
            content
                .debian
                .retain(|d| (&d.suite, &d.package) != (&new.suite, &new.package));
            content.debian.push(new);
            content
                .debian
                .sort_by(|a, b| (&a.package, &a.suite).cmp(&(&b.package, &b.suite)));
        })
    }

    pub(crate) fn set_git(&self, new: LockedGit) -> Result<(), BuildError> {
        self.change(|content| {
            content
                .git
                .retain(|g| (&g.url, &g.tag) != (&new.url, &new.tag));
            content.git.push(new);
            content
                .git
                .sort_by(|a, b| (&a.url, &a.tag).cmp(&(&b.url, &b.tag)));
        })
    }

    /// Changes the file as a whole: whoever reads it sees the old one or the new one. Builders
    /// hold a lock of the cache meanwhile, so that no change is lost.
    fn change(&self, edit: impl FnOnce(&mut Content)) -> Result<(), BuildError> {
        let mut content = self.read()?;
        edit(&mut content);
        let text = toml::to_string(&content).map_err(|e| BuildError::Command {
            what: format!("write {}", self.path),
            detail: e.to_string(),
        })?;
        let temp = self.path.with_extension("lock.new");
        fs_err::write(&temp, format!("{HEAD}\n{text}"))
            .map_err(|e| BuildError::io("write", &temp, e))?;
        fs_err::rename(&temp, &self.path).map_err(|e| BuildError::io("write", &self.path, e))
    }
}

/// The release of Linux in a Debian version, such as `6.12.107` of `6.12.107-1~deb12u1`.
pub(crate) fn release_in(version: &str) -> &str {
    version.split('-').next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(package: &str, version: &str) -> LockedDebian {
        LockedDebian {
            suite: "s".into(),
            package: package.into(),
            version: version.into(),
            sha256: "0".repeat(64),
            size: 7,
        }
    }

    #[test]
    fn releases_are_locked_beside_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let lock = SourceLock::at(Utf8Path::from_path(dir.path()).unwrap().join("l"));
        for version in ["6.12.9-1", "6.12.11-1~deb12u1", "6.12.9-2"] {
            lock.set_release(debian("a", version)).unwrap();
        }
        let locked = |release: &str| lock.release("s", "a", release).unwrap().map(|d| d.version);
        assert_eq!(locked("6.12.9").as_deref(), Some("6.12.9-2"));
        assert_eq!(locked("6.12.11").as_deref(), Some("6.12.11-1~deb12u1"));
        assert_eq!(locked("6.12.1"), None);
    }

    #[test]
    fn entries_are_replaced_and_sorted_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let lock = SourceLock::at(
            Utf8Path::from_path(dir.path())
                .unwrap()
                .join("sources.lock"),
        );
        assert_eq!(lock.debian("s", "b").unwrap(), None);
        for one in [debian("b", "1"), debian("a", "1"), debian("b", "2")] {
            lock.set_debian(one).unwrap();
        }
        lock.set_git(LockedGit {
            url: "u".into(),
            tag: "t".into(),
            commit: "c".into(),
        })
        .unwrap();
        assert_eq!(lock.debian("s", "b").unwrap(), Some(debian("b", "2")));
        assert_eq!(lock.git("u", "t").unwrap().unwrap().commit, "c");
        insta::assert_snapshot!(std::fs::read_to_string(lock.path()).unwrap());
    }

    #[test]
    fn a_broken_lock_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let lock = SourceLock::at(
            Utf8Path::from_path(dir.path())
                .unwrap()
                .join("sources.lock"),
        );
        std::fs::write(lock.path(), "[[debian]]\nsuite = \"s\"\nnonsense = 1\n").unwrap();
        let e = lock.debian("s", "p").unwrap_err();
        assert!(
            e.to_string().contains("sources.lock:3: unknown field"),
            "{e}"
        );
    }
}
