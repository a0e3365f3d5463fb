//! The directory in which everything built is kept, safe against two builds at once and against
//! being killed in the middle.
//!
//! ```text
//! downloads/   packages and tarballs, by checksum
//! apt/         private apt roots, one a suite
//! sources/     unpacked sources, by identity; never written to again
//! trees/       by source and compiler: TREE/work, where all its kernels are built, and TREE/kept/KEY,
//!              the objects of the last few without patches
//! kernels/     what a build of a kernel leaves, by key
//! images/      initramfs archives and root file systems, by key
//! selftests/   kernels' own test programs, by key
//! templates/   booted machines that runs keep for later ones: see `vm/kept.rs`
//! locks/ tmp/ logs/
//! ```
//! Whatever is at its final place is whole: it was renamed there. What a killed build leaves in
//! `tmp/` or `work` belongs to a lock, and is removed by the next who holds that lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use camino::{Utf8Path, Utf8PathBuf};

use super::error::BuildError;
use super::event::{Phase, Reporter};

/// What a kernel's build takes on disk at most, unpacked source included: 1.7 GiB of source
/// (6.12) and 1.5 GiB of objects, as measured, and room to link.
pub(crate) const KERNEL_NEEDS: u64 = 4 << 30;

/// A cache directory.
#[derive(Debug, Clone)]
pub struct Cache {
    root: Utf8PathBuf,
}

impl Cache {
    /// The cache of the environment: `$ZONEDEV_CACHE`, `$XDG_CACHE_HOME/zonedev`, or
    /// `~/.cache/zonedev`.
    pub fn of_user() -> Result<Self, BuildError> {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let root = var("ZONEDEV_CACHE")
            .map(Utf8PathBuf::from)
            .or_else(|| Some(Utf8PathBuf::from(var("XDG_CACHE_HOME")?).join("zonedev")))
            .or_else(|| Some(Utf8PathBuf::from(var("HOME")?).join(".cache/zonedev")))
            .ok_or_else(|| BuildError::Request {
                message: "there is no place for the cache: HOME is not set".to_owned(),
                remedy: "set ZONEDEV_CACHE to a directory".to_owned(),
            })?;
        Self::at(root)
    }

    /// The cache in `root`, which is created.
    pub fn at(root: impl Into<Utf8PathBuf>) -> Result<Self, BuildError> {
        let root = root.into();
        let root = match root.is_absolute() {
            true => root,
            false => std::env::current_dir()
                .ok()
                .and_then(|d| Utf8PathBuf::from_path_buf(d).ok())
                .unwrap_or_default()
                .join(root),
        };
        if root.as_str().contains([' ', ':', '\'', '"', '\\']) {
            return Err(BuildError::Request {
                message: format!("a kernel can't be built in {root}: make stumbles over its name"),
                remedy: "set ZONEDEV_CACHE to a path without spaces, colons and quotes".to_owned(),
            });
        }
        for dir in [
            "downloads",
            "apt",
            "sources",
            "trees",
            "kernels",
            "images",
            "selftests",
            "locks",
            "tmp",
            "logs",
        ] {
            create_dir(&root.join(dir))?;
        }
        // Kept out of backups, by the convention of bford.info/cachedir.
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            fs_err::write(&tag, "Signature: 8a477f597d28d172789f06886806bc55\n")
                .map_err(|e| BuildError::io("write", &tag, e))?;
        }
        Ok(Self { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// The ELF file of a kernel that was built, by its key, if it is still there.
    pub fn vmlinux(&self, key: &str) -> Option<Utf8PathBuf> {
        let path = self.path("kernels", key).join("vmlinux");
        path.is_file().then_some(path)
    }

    /// A place in it.
    pub(crate) fn path(&self, room: &str, name: &str) -> Utf8PathBuf {
        self.root.join(room).join(name)
    }

    /// Takes the lock `name`, waiting for whoever holds it, and says for whom. Sweeps what a
    /// killed holder left in `tmp/`.
    pub(crate) fn lock(&self, name: &str, report: &Reporter<'_>) -> Result<CacheLock, BuildError> {
        let path = self.path("locks", &format!("{name}.lock"));
        let fail = |e| BuildError::io("lock", &path, e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another build".to_owned(),
                    known => known
                        .chars()
                        .filter(|c| !c.is_control())
                        .take(200)
                        .collect(),
                };
                report.phase(Phase::Wait, format!("for {holder}"));
                file.lock().map_err(fail)?;
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        file.set_len(0).map_err(fail)?;
        file.rewind().map_err(fail)?;
        writeln!(
            file,
            "the build of {} (process {})",
            report.what(),
            std::process::id()
        )
        .map_err(fail)?;
        let lock = CacheLock {
            file,
            name: name.to_owned(),
        };
        self.sweep(&lock)?;
        Ok(lock)
    }

    /// A fresh empty directory under `tmp/` that belongs to `lock`.
    pub(crate) fn temp(&self, lock: &CacheLock, what: &str) -> Result<Utf8PathBuf, BuildError> {
        let path = self.path("tmp", &format!("{}~{what}", lock.name));
        remove(&path)?;
        create_dir(&path)?;
        Ok(path)
    }

    fn sweep(&self, lock: &CacheLock) -> Result<(), BuildError> {
        let tmp = self.root.join("tmp");
        let prefix = format!("{}~", lock.name);
        let entries = tmp
            .read_dir_utf8()
            .map_err(|e| BuildError::io("read", &tmp, e))?;
        for entry in entries
            .flatten()
            .filter(|e| e.file_name().starts_with(&prefix))
        {
            remove(entry.path())?;
        }
        Ok(())
    }

    /// Moves a finished thing to its place. Who finds the place taken has built the same.
    pub(crate) fn publish(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), BuildError> {
        match fs_err::rename(from, to) {
            Ok(()) => Ok(()),
            Err(_) if to.exists() => remove(from),
            Err(e) => Err(BuildError::io("move the result to", to, e)),
        }
    }

    /// Notes that something in it is used, for whoever makes room. Not having told harms nothing.
    #[allow(
        clippy::disallowed_methods,
        reason = "a file's times are by the wall clock"
    )]
    pub(crate) fn touch(&self, place: &Utf8Path) {
        let used = File::open(place).and_then(|f| f.set_modified(std::time::SystemTime::now()));
        let _ = used;
    }

    /// An error if the disk has not `needed` bytes left for `what`.
    pub(crate) fn need_space(&self, needed: u64, what: &str) -> Result<(), BuildError> {
        match free_space(&self.root) {
            Some(free) if free < needed => Err(BuildError::DiskFull {
                dir: self.root.clone(),
                what: what.to_owned(),
                needed,
                free,
            }),
            _ => Ok(()),
        }
    }
}

/// A lock that is held; released when dropped, and by the kernel when we die.
#[derive(Debug)]
pub(crate) struct CacheLock {
    file: File,
    name: String,
}

impl CacheLock {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Bytes free for us on the disk of `dir`; none if it can't be told.
pub(crate) fn free_space(dir: &Utf8Path) -> Option<u64> {
    let dir = dir.ancestors().find(|d| d.exists())?;
    let stat = nix::sys::statvfs::statvfs(dir.as_std_path()).ok()?;
    Some(stat.blocks_available() * stat.fragment_size())
}

pub(crate) fn create_dir(path: &Utf8Path) -> Result<(), BuildError> {
    fs_err::create_dir_all(path).map_err(|e| BuildError::io("create the directory", path, e))
}

/// Removes a file or a tree; nothing there is fine.
pub(crate) fn remove(path: &Utf8Path) -> Result<(), BuildError> {
    let gone = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
    };
    gone.map_err(|e| BuildError::io("remove", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::event::{BuildEvent, BuildSink, Quiet};
    use std::sync::Mutex;
    use std::time::Duration;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(Utf8Path::from_path(dir.path()).unwrap().join("c")).unwrap();
        (dir, cache)
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<BuildEvent>>);
    impl BuildSink for Kept {
        fn event(&self, event: BuildEvent) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn the_second_waits_and_says_for_whom() {
        let (_dir, cache) = cache();
        let first = cache.lock("k", &Reporter::new("5.10", &Quiet)).unwrap();
        let order = Mutex::new(Vec::new());
        let kept = Kept::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _second = cache.lock("k", &Reporter::new("6.12", &kept)).unwrap();
                order.lock().unwrap().push("second");
            });
            while kept.0.lock().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(2));
            }
            order.lock().unwrap().push("first");
            drop(first);
        });
        assert_eq!(*order.lock().unwrap(), ["first", "second"]);
        let events = kept.0.into_inner().unwrap();
        let BuildEvent::Phase {
            phase: Phase::Wait,
            detail,
            ..
        } = &events[0]
        else {
            panic!("{events:?}");
        };
        assert!(
            detail.starts_with("for the build of 5.10 (process "),
            "{detail}"
        );
    }

    #[test]
    fn what_a_killed_build_left_is_swept_by_the_next_of_the_same_lock_only() {
        let (_dir, cache) = cache();
        let report = Reporter::new("x", &Quiet);
        let lock = cache.lock("a", &report).unwrap();
        let left = cache.temp(&lock, "tree").unwrap();
        let other = cache
            .temp(&cache.lock("b", &report).unwrap(), "tree")
            .unwrap();
        std::fs::write(left.join("f"), "x").unwrap();
        drop(lock);
        cache.lock("a", &report).unwrap();
        assert!(!left.exists());
        assert!(other.exists());
    }

    #[test]
    fn publishing_what_is_there_already_keeps_the_first() {
        let (_dir, cache) = cache();
        let lock = cache.lock("a", &Reporter::new("x", &Quiet)).unwrap();
        let place = cache.path("kernels", "key");
        for text in ["first", "second"] {
            let temp = cache.temp(&lock, text).unwrap();
            std::fs::write(temp.join("f"), text).unwrap();
            cache.publish(&temp, &place).unwrap();
            assert!(!temp.exists());
        }
        assert_eq!(std::fs::read_to_string(place.join("f")).unwrap(), "first");
    }

    #[test]
    fn too_little_space_names_directory_and_need() {
        let (_dir, cache) = cache();
        let e = cache
            .need_space(u64::MAX, "the build of 5.10")
            .unwrap_err()
            .to_string();
        assert!(
            e.contains(cache.root().as_str()) && e.contains("the build of 5.10 needs about"),
            "{e}"
        );
        cache.need_space(1, "x").unwrap();
    }

    #[test]
    fn a_path_that_make_can_not_take_is_refused() {
        let e = Cache::at("/tmp/with space/c").unwrap_err().to_string();
        assert!(e.contains("ZONEDEV_CACHE"), "{e}");
    }
}
