//! What the cache holds, and removing what nobody has used for long.

use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};

use super::artifact::KernelRecord;
use super::cache::{Cache, remove};
use super::error::BuildError;

/// What a run of today may still read is never removed.
pub const YOUNGEST: Duration = Duration::from_secs(24 * 3600);

/// The rooms whose entries can be made again from what is named beside them.
const ROOMS: [(&str, &str); 6] = [
    ("kernels", "built kernels"),
    ("trees", "objects that builds start from"),
    ("sources", "unpacked sources"),
    (
        "downloads",
        "packages and tarballs, which need the network again",
    ),
    ("images", "initramfs archives and root file systems"),
    ("selftests", "kernels' own tests"),
];

/// A room of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Its directory in the cache.
    pub name: &'static str,
    /// What is in it.
    pub what: &'static str,
    /// Its entries, the least recently used first.
    pub entries: Vec<Entry>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// What it is, in words: of a kernel, its name and release.
    pub what: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
}

impl Room {
    /// Bytes of all its entries.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.bytes).sum()
    }
}

/// Everything in the cache that can be made again, templates apart (they have a room of their own).
///
/// # Errors
/// Where a room can't be read.
pub fn stock(cache: &Cache) -> Result<Vec<Room>, BuildError> {
    ROOMS
        .into_iter()
        .map(|(name, what)| {
            let dir = cache.root().join(name);
            let listed = dir
                .read_dir_utf8()
                .map_err(|e| BuildError::io("read", &dir, e))?;
            let mut entries: Vec<Entry> = listed.flatten().filter_map(|e| entry(&e)).collect();
            entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
            Ok(Room {
                name,
                what,
                entries,
            })
        })
        .collect()
}

/// Removes entries, each at once and as a whole.
///
/// # Errors
/// Where one can't be removed; those before it are gone.
pub fn discard(cache: &Cache, entries: &[Entry]) -> Result<(), BuildError> {
    for entry in entries {
        let name = entry.path.file_name().unwrap_or("entry");
        let gone = cache
            .root()
            .join("tmp")
            .join(format!("discarded-{}-{name}", std::process::id()));
        fs_err::rename(&entry.path, &gone).map_err(|e| BuildError::io("remove", &entry.path, e))?;
        remove(&gone)?;
    }
    Ok(())
}

fn entry(entry: &camino::Utf8DirEntry) -> Option<Entry> {
    let path = entry.path().to_owned();
    let used = entry.metadata().ok()?.modified().ok()?;
    let record = fs_err::read(path.join("record.json")).ok();
    let record: Option<KernelRecord> = record.and_then(|r| serde_json::from_slice(&r).ok());
    let name = path.file_name().unwrap_or_default();
    Some(Entry {
        what: match record {
            Some(record) => format!("{} ({})", record.name, record.release),
            None => name.to_owned(),
        },
        bytes: allocated(&path),
        used,
        path,
    })
}

/// Bytes on the disk of a file, or of all below a directory.
fn allocated(path: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.symlink_metadata() else {
        return 0;
    };
    let below = || path.read_dir_utf8().into_iter().flatten().flatten();
    let below: u64 = match meta.is_dir() {
        true => below().map(|e| allocated(e.path())).sum(),
        false => 0,
    };
    meta.blocks() * 512 + below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_listed_by_use_and_discarded_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(Utf8Path::from_path(dir.path()).unwrap().join("c")).unwrap();
        for (name, days) in [("old", 9u64), ("new", 2)] {
            let place = cache.path("images", name);
            fs_err::create_dir(&place).unwrap();
            fs_err::write(place.join("initrd"), vec![1; 100_000]).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 - days * 86_400);
            std::fs::File::open(&place)
                .unwrap()
                .set_modified(used)
                .unwrap();
        }
        let images = |rooms: Vec<Room>| rooms.into_iter().find(|r| r.name == "images").unwrap();
        let room = images(stock(&cache).unwrap());
        let names: Vec<&str> = room.entries.iter().map(|e| e.what.as_str()).collect();
        assert_eq!(names, ["old", "new"]);
        assert!(room.bytes() >= 200_000);
        discard(&cache, &room.entries[..1]).unwrap();
        let left = images(stock(&cache).unwrap());
        assert_eq!(left.entries, room.entries[1..]);
        assert_eq!(cache.root().join("tmp").read_dir_utf8().unwrap().count(), 0);

        // Who uses one says so.
        cache.touch(&left.entries[0].path);
        let touched = images(stock(&cache).unwrap());
        assert!(
            touched.entries[0].used > left.entries[0].used
                || touched.entries[0].used.elapsed().is_ok()
        );
    }
}
