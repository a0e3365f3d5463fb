//! Where guests' memory files lie.
//!
//! RAM and NVDIMMs are files, and files in a tmpfs are memory: cheap to share with clones and gone at
//! the next boot. A harness makes one directory for all of its guests and holds a lock on it as long
//! as it lives; a directory whose lock is free belongs to nobody and is swept away. Nothing is taken
//! on trust: /dev/shm may be small, as in a container, so each place is looked at first.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::error::{Result, VmError};

const PREFIX: &str = "zonedev-mem-";
const MIB: u64 = 1 << 20;

/// The places for guests' memory, best first: /dev/shm, the user's run-time directory, the cache.
pub fn memory_places(cache_dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut places = vec![Utf8PathBuf::from("/dev/shm")];
    if let Ok(dir) = std::env::var("XDG_RUNTIME_DIR") {
        places.push(dir.into());
    }
    places.push(cache_dir.join("memory"));
    places
}

/// The directories of this user's guests in `places`, also of harnesses that are dead.
pub fn memory_dirs(places: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let entries = places.iter().filter_map(|p| p.read_dir_utf8().ok());
    let dirs = entries.flatten().flatten();
    let named = dirs.filter(|e| e.file_name().starts_with(PREFIX));
    let mut out: Vec<Utf8PathBuf> = named
        .map(|e| e.into_path())
        .filter(|d| is_ours(d))
        .collect();
    out.sort();
    out
}

/// Whether it is a directory, and this user's.
fn is_ours(dir: &Utf8Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let meta = fs_err::symlink_metadata(dir);
    meta.is_ok_and(|m| m.is_dir() && m.uid() == nix::unistd::geteuid().as_raw())
}

/// Removes the directories that dead harnesses of this user left in `places`, and says which.
/// One that is in use, someone else's, or can't be removed stays.
pub fn sweep(places: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let mut removed = Vec::new();
    for place in places {
        let Ok(entries) = place.read_dir_utf8() else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().starts_with(PREFIX) && abandoned(entry.path()) {
                removed.push(entry.path().to_owned());
            }
        }
    }
    removed.sort();
    removed
}

/// Removes `dir` if it is ours and its lock is free.
pub(super) fn abandoned(dir: &Utf8Path) -> bool {
    if !is_ours(dir) {
        return false;
    }
    let Ok(file) = fs_err::File::open(dir) else {
        return false;
    };
    let Ok(lock) = Flock::lock(file.into_file(), FlockArg::LockExclusiveNonblock) else {
        return false;
    };
    // Removed while the lock is held: whoever has just made it finds out, see `make`.
    let gone = fs_err::remove_dir_all(dir).is_ok();
    drop(lock);
    gone
}

/// A locked directory for the memory of this harness's guests, removed with its last clone.
#[derive(Debug, Clone)]
pub struct MemoryDir(Arc<Inner>);

/// Removes a [`MemoryDir`] that is still there.
#[derive(Debug, Clone)]
pub struct Abandon(Weak<Inner>);

impl Abandon {
    /// See [`MemoryDir::abandon`].
    pub fn abandon(&self) {
        if let Some(inner) = self.0.upgrade() {
            MemoryDir(inner).abandon();
        }
    }
}

#[derive(Debug)]
struct Inner {
    path: Utf8PathBuf,
    tmpfs: bool,
    state: Mutex<State>,
    _lock: Flock<std::fs::File>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// What guests may come to use, bytes, beyond what `used` counts.
    reserved: u64,
}

impl MemoryDir {
    /// Makes one in the first of `places` that has room for `needed` bytes.
    pub fn create(places: &[Utf8PathBuf], needed: u64) -> Result<Self> {
        let mut looked = Vec::new();
        for place in places {
            match room(place) {
                Ok((_, free)) if free < needed => {
                    looked.push(format!("{place} has {} MiB", free / MIB))
                }
                Ok((tmpfs, _)) => match make(place, PREFIX) {
                    Ok((path, lock)) => {
                        let state = Mutex::default();
                        return Ok(Self(Arc::new(Inner {
                            path,
                            tmpfs,
                            state,
                            _lock: lock,
                        })));
                    }
                    Err(error) => looked.push(error.to_string()),
                },
                Err(error) => looked.push(error.to_string()),
            }
        }
        Err(VmError::NoSpace {
            needed_mib: needed.div_ceil(MIB),
            looked: looked.join(", "),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.0.path
    }

    /// Removes it now, with whatever guests still use: their harness is about to end.
    pub fn abandon(&self) {
        // Left-overs are for the next sweep.
        let _ = fs_err::remove_dir_all(&self.0.path);
    }

    /// Removes it at another's word, without keeping it for that.
    pub fn downgrade(&self) -> Abandon {
        Abandon(Arc::downgrade(&self.0))
    }

    /// A path in it that no other has, beginning with `name`.
    pub(super) fn unique(&self, name: &str) -> Utf8PathBuf {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.next += 1;
        self.0.path.join(format!("{name}-{}", state.next))
    }

    /// A directory for the files of one guest that may come to use `bytes`. What other guests may yet
    /// use is theirs.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reserved> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, free) = room(&self.0.path).map_err(VmError::io("look for free memory"))?;
        // What is allocated already is not free any more, and must not count twice.
        let promised = state.reserved.saturating_sub(used(&self.0.path));
        if free < promised.saturating_add(bytes) {
            let place = if self.0.tmpfs { "memory" } else { "space" };
            let looked = format!(
                "{} has {} MiB of {place}, of which {} MiB are promised to other guests",
                self.0.path,
                free / MIB,
                promised / MIB
            );
            return Err(VmError::NoSpace {
                needed_mib: bytes.div_ceil(MIB),
                looked,
            });
        }
        let path = self.0.path.join(state.next.to_string());
        fs_err::create_dir(&path).map_err(VmError::io(format!("create {path}")))?;
        state.next += 1;
        state.reserved += bytes;
        drop(state);
        Ok(Reserved {
            dir: self.clone(),
            path,
            bytes,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Left-overs are for the next sweep.
        let _ = fs_err::remove_dir_all(&self.path);
    }
}

/// One guest's directory in a [`MemoryDir`]; removed when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    dir: MemoryDir,
    path: Utf8PathBuf,
    bytes: u64,
}

impl Reserved {
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Nothing writes to the files any more: they need what they have, and no more.
    pub(super) fn settle(&mut self) {
        self.shrink(used(&self.path));
    }

    fn shrink(&mut self, bytes: u64) {
        let mut state = self
            .dir
            .0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.reserved = state
            .reserved
            .saturating_sub(self.bytes.saturating_sub(bytes));
        self.bytes = self.bytes.min(bytes);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.path);
        self.shrink(0);
    }
}

/// Makes a directory and locks it. A sweep may see it before the lock is there and take it away; then
/// another one is made. Its name is the one that /proc/PID/maps shows of the files in it: without
/// symbolic links, and in UTF-8.
pub(super) fn make(
    place: &Utf8Path,
    prefix: &str,
) -> io::Result<(Utf8PathBuf, Flock<std::fs::File>)> {
    use std::os::unix::fs::MetadataExt;
    let place = place.canonicalize_utf8()?;
    if place.as_str().contains('\n') {
        return Err(io::Error::other(format!(
            "{place:?} has a line break in its name"
        )));
    }
    loop {
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(&place)?
            .keep();
        let path = Utf8PathBuf::from_path_buf(dir)
            .map_err(|dir| io::Error::other(format!("{} is not UTF-8", dir.display())))?;
        let Ok(file) = fs_err::File::open(&path) else {
            continue;
        };
        let Ok(lock) = Flock::lock(file.into_file(), FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        let ours = lock.metadata()?.ino();
        match fs_err::metadata(&path) {
            Ok(meta) if meta.ino() == ours => return Ok((path, lock)),
            _ => {}
        }
    }
}

/// Whether a place is a tmpfs, and the bytes that may be written there. A tmpfs promises memory that
/// the host may not have: less than its free space where less is available.
pub(super) fn room(place: &Utf8Path) -> io::Result<(bool, u64)> {
    let tell = |errno: nix::Error| io::Error::other(format!("{place}: {errno}"));
    if !place.exists() && place.parent().is_some_and(Utf8Path::exists) {
        fs_err::create_dir(place)?;
    }
    let tmpfs = statfs(place.as_std_path()).map_err(tell)?.filesystem_type() == TMPFS_MAGIC;
    let stat = statvfs(place.as_std_path()).map_err(tell)?;
    let free = stat.blocks_available() * stat.fragment_size();
    Ok((
        tmpfs,
        if tmpfs {
            free.min(available_memory()?)
        } else {
            free
        },
    ))
}

/// What the host's programs could yet take without pushing others out, bytes.
pub fn available_memory() -> io::Result<u64> {
    let text = fs_err::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse()
                .ok()
        })
        .map(|kib: u64| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc/meminfo names no MemAvailable"))
}

/// The bytes that the files below `dir` have allocated.
pub(super) fn used(dir: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = dir.read_dir_utf8() else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match fs_err::symlink_metadata(entry.path()) {
            Ok(meta) if meta.is_dir() => used(entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Vec<Utf8PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, vec![path])
    }

    #[test]
    fn a_sweep_takes_what_nobody_holds_and_nothing_else() {
        let (_dir, places) = place();
        let held = MemoryDir::create(&places, 1).unwrap();
        let guest = held.reserve(1).unwrap();
        let dead = places[0].join(format!("{PREFIX}dead"));
        fs_err::create_dir_all(dead.join("0")).unwrap();
        fs_err::write(dead.join("0/ram"), "left over").unwrap();
        let other = places[0].join("something else");
        fs_err::create_dir(&other).unwrap();
        let file = places[0].join(format!("{PREFIX}file"));
        fs_err::write(&file, "").unwrap();

        assert_eq!(sweep(&places), std::slice::from_ref(&dead));
        assert!(!dead.exists());
        assert!(guest.path().exists() && other.exists() && file.exists());
        assert_eq!(sweep(&places), [""; 0]);

        let path = held.path().to_owned();
        drop(held);
        assert!(path.exists(), "a guest still uses it");
        drop(guest);
        assert!(!path.exists());
    }

    #[test]
    fn sweeping_while_making_loses_nothing() {
        let (_dir, places) = place();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep(&places);
                }
            });
            let made: Vec<_> = (0..200)
                .map(|_| MemoryDir::create(&places, 1).unwrap())
                .collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(made.iter().all(|dir| dir.path().is_dir()));
        });
    }

    #[test]
    fn no_room_names_every_place_and_what_it_has() {
        let (_dir, mut places) = place();
        places.push("/no/such/place".into());
        let error = MemoryDir::create(&places, u64::MAX / 2).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("no room for 8796093022208 MiB of guest memory: /"),
            "{text}"
        );
        assert!(text.contains("/no/such/place"), "{text}");
        assert_eq!(error.fault(), super::super::error::Fault::Host);
    }

    #[test]
    fn a_promise_holds_until_it_is_settled() {
        let (_dir, places) = place();
        let dir = MemoryDir::create(&places, 1).unwrap();
        let (_, free) = room(&places[0]).unwrap();
        let mut most = dir.reserve(free / 4 * 3).unwrap();
        assert!(matches!(
            dir.reserve(free / 2),
            Err(VmError::NoSpace { .. })
        ));
        fs_err::write(most.path().join("ram"), vec![1; 1 << 20]).unwrap();
        most.settle();
        assert!(used(most.path()) >= 1 << 20);
        dir.reserve(free / 2).unwrap();
    }
}
