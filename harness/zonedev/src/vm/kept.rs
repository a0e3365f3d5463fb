//! Templates that are kept from one run to the next, so that what was booted once is not booted again.
//!
//! ```text
//! templates/KEY/   ram, one file for each NVDIMM, state (QEMU's), made.json, what the caller adds
//! ```
//! What is at its place is whole: it was renamed there. Its files are not forced to the disk, which
//! would take longer than the boot; one that is from before the host's last start is therefore not
//! used any more. Who uses one holds a shared lock on its directory, and who removes one an
//! exclusive lock.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};

use super::command::file;
use super::error::{Result, VmError};
use super::guest::Launcher;
use super::machine::{Machine, RAM_ID};
use super::memory::{abandoned, make, room, used};
use super::template::Template;

/// What the name of one in the making begins with.
const NEW: &str = ".new-";
const MADE: &str = "made.json";
const STATE: &str = "state";
/// Nobody has used it for this long: it goes.
const AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// What all of them may take on the disk, bytes.
const ROOM: u64 = 8 << 30;
/// What is left of the disk for others, bytes.
const SPARE: u64 = 4 << 30;

/// The place of all of them.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: Utf8PathBuf,
    room: u64,
}

/// One of them, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its directory.
    pub dir: Utf8PathBuf,
    /// What it is of, in words.
    pub what: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    /// The host's start at which it was made.
    boot: String,
    what: String,
    /// blake3 of the state.
    state: String,
}

/// A template's directory, which stays there as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    path: Utf8PathBuf,
    _lock: Flock<File>,
}

impl Held {
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }
}

impl Shelf {
    /// The one in a cache.
    pub fn of(cache: &Utf8Path) -> Self {
        Shelf {
            dir: cache.join("templates"),
            room: ROOM,
        }
    }

    /// A template that an earlier run kept under `key`, and its directory, for what was added to it.
    /// None where there is none, or none that can be used.
    pub fn take(
        &self,
        key: &str,
        machine: &Machine,
        launcher: &Launcher,
    ) -> Option<(Template, Utf8PathBuf)> {
        let path = self.dir.join(key).canonicalize_utf8().ok()?;
        let lock = File::open(&path).ok()?;
        let lock = Flock::lock(lock, FlockArg::LockSharedNonblock).ok()?;
        let made = made(&path)?;
        let state = fs_err::read(path.join(STATE)).ok()?;
        let whole = made.boot == host_boot()?
            && blake3::hash(&state).to_hex().as_str() == made.state
            && files(machine)
                .all(|(id, size)| fs_err::metadata(file(&path, id)).is_ok_and(|m| m.len() == size));
        if !whole {
            return None;
        }
        // Its age counts from here. Not having told is no reason not to use it.
        let touched = File::options().append(true).open(path.join(MADE));
        let _ = touched.and_then(|f| f.set_modified(now()));
        let held = Held {
            path: path.clone(),
            _lock: lock,
        };
        let template = Template::kept(launcher, machine.clone(), state, held);
        Some((template, path))
    }

    /// Keeps a template under `key`, with what `add` writes into its directory; `what` tells people
    /// what it is. The least recently used go where there is no room. Says whether there was any.
    ///
    /// # Errors
    /// Where the shelf can't be written.
    pub fn keep(
        &self,
        key: &str,
        template: &Template,
        what: &str,
        add: impl FnOnce(&Utf8Path) -> io::Result<()>,
    ) -> Result<bool> {
        let fail = |what: String| VmError::io(what);
        fs_err::create_dir_all(&self.dir).map_err(fail(format!("create {}", self.dir)))?;
        let bytes = used(template.files().path());
        if !self.make_room(bytes) {
            return Ok(false);
        }
        let (path, lock) =
            make(&self.dir, NEW).map_err(fail(format!("create a directory in {}", self.dir)))?;
        let wrote = self.write(&path, template, what, add);
        if let Err(source) = wrote {
            // What is left of it is for the next sweep.
            let _ = fs_err::remove_dir_all(&path);
            let what = format!("keep a template in {}", self.dir);
            return Err(VmError::Io { what, source });
        }
        let to = self.dir.join(key);
        if fs_err::rename(&path, &to).is_err() {
            // One is there: of another harness, which made the same, or one that can't be used.
            let _ = remove(&to);
            let renamed = fs_err::rename(&path, &to);
            if renamed.is_err() {
                let _ = fs_err::remove_dir_all(&path);
            }
        }
        drop(lock);
        Ok(true)
    }

    fn write(
        &self,
        to: &Utf8Path,
        template: &Template,
        what: &str,
        add: impl FnOnce(&Utf8Path) -> io::Result<()>,
    ) -> io::Result<()> {
        for (id, _) in files(template.machine()) {
            copy(&file(template.files().path(), id), &file(to, id))?;
        }
        fs_err::write(to.join(STATE), template.state())?;
        add(to)?;
        let made = Made {
            boot: host_boot().ok_or_else(|| io::Error::other("the host has no boot id"))?,
            what: what.to_owned(),
            state: blake3::hash(template.state()).to_hex().to_string(),
        };
        fs_err::write(to.join(MADE), serde_json::to_vec(&made)?)
    }

    /// Removes what is too old, of an earlier start of the host, or was left by a harness that died;
    /// then the least recently used until `bytes` more have room. Says whether they have.
    fn make_room(&self, bytes: u64) -> bool {
        if let Ok(entries) = self.dir.read_dir_utf8() {
            let new = entries.flatten().filter(|e| e.file_name().starts_with(NEW));
            for entry in new {
                abandoned(entry.path());
            }
        }
        let mut all = self.list();
        all.sort_by_key(|kept| kept.used);
        let now = now();
        let boot = host_boot();
        all.retain(|kept| {
            let old = now.duration_since(kept.used).is_ok_and(|age| age > AGE);
            let of_now = made(&kept.dir).is_some_and(|m| Some(m.boot) == boot);
            !((old || !of_now) && remove(&kept.dir))
        });
        let mut total: u64 = all.iter().map(|kept| kept.bytes).sum();
        let Ok((_, free)) = room(&self.dir) else {
            return false;
        };
        let mut free = free.saturating_sub(SPARE);
        for kept in all {
            if total.saturating_add(bytes) <= self.room && bytes <= free {
                break;
            }
            if remove(&kept.dir) {
                total -= kept.bytes;
                free += kept.bytes;
            }
        }
        total.saturating_add(bytes) <= self.room && bytes <= free
    }

    /// All that are there, by name.
    pub fn list(&self) -> Vec<Kept> {
        let Ok(entries) = self.dir.read_dir_utf8() else {
            return Vec::new();
        };
        let mut all: Vec<Kept> = entries
            .flatten()
            .filter(|e| !e.file_name().starts_with(NEW))
            .map(|entry| {
                let dir = entry.into_path();
                let used_at = fs_err::metadata(dir.join(MADE)).and_then(|m| m.modified());
                Kept {
                    what: made(&dir).map_or_else(|| "what can't be read".to_owned(), |m| m.what),
                    bytes: used(&dir),
                    used: used_at.unwrap_or(SystemTime::UNIX_EPOCH),
                    dir,
                }
            })
            .collect();
        all.sort_by(|a, b| a.dir.cmp(&b.dir));
        all
    }

    /// Removes those that `which` says of, and tells which they were. One that is in use stays.
    pub fn prune(&self, which: impl Fn(&Kept) -> bool) -> Vec<Kept> {
        let all = self.list().into_iter();
        all.filter(|kept| which(kept) && remove(&kept.dir))
            .collect()
    }
}

/// What one says of itself, if it is whole so far.
fn made(dir: &Utf8Path) -> Option<Made> {
    serde_json::from_slice(&fs_err::read(dir.join(MADE)).ok()?).ok()
}

/// Removes one that nobody uses.
fn remove(dir: &Utf8Path) -> bool {
    let Ok(lock) = File::open(dir) else {
        return false;
    };
    let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        return false;
    };
    let gone = fs_err::remove_dir_all(dir).is_ok();
    drop(lock);
    gone
}

/// The memory of a machine: its backends' ids and sizes in bytes.
fn files(machine: &Machine) -> impl Iterator<Item = (&str, u64)> {
    let nvdimms = machine.nvdimms.iter();
    let ram = (RAM_ID, machine.memory_mib << 20);
    nvdimms
        .map(|n| (n.id.as_str(), n.file_bytes()))
        .chain([ram])
}

/// A file's times are by the wall clock.
#[allow(clippy::disallowed_methods)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Which start of the host this is.
fn host_boot() -> Option<String> {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Copies a file with its holes.
fn copy(from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    let mut from = fs_err::File::open(from)?.into_file();
    let mut to = fs_err::File::create_new(to)?.into_file();
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0i64;
    loop {
        let data = match lseek(&from, at, Whence::SeekData) {
            Ok(data) => data,
            // Nothing but a hole from here on.
            Err(Errno::ENXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let hole = lseek(&from, data, Whence::SeekHole)?;
        from.seek(SeekFrom::Start(data as u64))?;
        to.seek(SeekFrom::Start(data as u64))?;
        let len = (hole - data) as u64;
        let copied = io::copy(&mut io::Read::take(&mut from, len), &mut to)?;
        if copied != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at = hole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn shelf(room: u64) -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::of(Utf8Path::from_path(dir.path()).unwrap());
        shelf.room = room;
        (dir, shelf)
    }

    /// One that nobody could run.
    fn lay(shelf: &Shelf, key: &str, bytes: usize, age: Duration, boot: &str) {
        let dir = shelf.dir.join(key);
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join(RAM_ID), vec![1; bytes]).unwrap();
        let made = Made {
            boot: boot.to_owned(),
            what: key.to_owned(),
            state: String::new(),
        };
        fs_err::write(dir.join(MADE), serde_json::to_vec(&made).unwrap()).unwrap();
        let file = File::options().append(true).open(dir.join(MADE)).unwrap();
        file.set_modified(now() - age).unwrap();
    }

    fn keys(shelf: &Shelf) -> Vec<String> {
        shelf.list().into_iter().map(|k| k.what).collect()
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let file = File::create(dir.join("a")).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], 1 << 20).unwrap();
        file.write_all_at(&[8; 5000], 40 << 20).unwrap();
        copy(&dir.join("a"), &dir.join("b")).unwrap();
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        assert!(read("a") == read("b"));
        let blocks = std::fs::metadata(dir.join("b")).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{blocks}");
        File::create(dir.join("hole"))
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        copy(&dir.join("hole"), &dir.join("c")).unwrap();
        assert_eq!(std::fs::metadata(dir.join("c")).unwrap().len(), 1 << 20);
    }

    #[test]
    fn the_least_recently_used_make_room_and_what_is_used_stays() {
        let (_dir, shelf) = shelf(10 << 20);
        let boot = host_boot().unwrap();
        let hours = |n: u64| Duration::from_secs(n * 3600);
        lay(&shelf, "oldest", 3 << 20, hours(3), &boot);
        lay(&shelf, "older", 3 << 20, hours(2), &boot);
        lay(&shelf, "new", 3 << 20, hours(1), &boot);
        let user = File::open(shelf.dir.join("oldest")).unwrap();
        let user = Flock::lock(user, FlockArg::LockSharedNonblock).unwrap();
        assert!(shelf.make_room(3 << 20));
        assert_eq!(keys(&shelf), ["new", "oldest"]);
        drop(user);
        assert!(!shelf.make_room(11 << 20), "there is never so much room");
    }

    #[test]
    fn what_is_too_old_or_from_before_the_hosts_last_start_goes() {
        let (_dir, shelf) = shelf(1 << 30);
        let boot = host_boot().unwrap();
        lay(&shelf, "aged", 1, AGE * 2, &boot);
        lay(&shelf, "before", 1, Duration::ZERO, "another start");
        lay(&shelf, "good", 1, Duration::ZERO, &boot);
        let torn = shelf.dir.join("torn");
        fs_err::create_dir(&torn).unwrap();
        let dead = shelf.dir.join(format!("{NEW}dead"));
        fs_err::create_dir(&dead).unwrap();
        assert!(shelf.make_room(1));
        assert_eq!(keys(&shelf), ["good"]);
        assert!(!dead.exists() && !torn.exists());
    }

    #[test]
    fn those_that_are_named_are_pruned() {
        let (_dir, shelf) = shelf(1 << 30);
        let boot = host_boot().unwrap();
        lay(&shelf, "a", 1, Duration::ZERO, &boot);
        lay(&shelf, "b", 1, Duration::ZERO, &boot);
        let gone = shelf.prune(|kept| kept.what == "a");
        assert_eq!(gone.len(), 1);
        assert_eq!(keys(&shelf), ["b"]);
    }
}
