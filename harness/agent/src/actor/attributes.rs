//! What drivers show of their devices in sysfs.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use proto::StepResult;

use super::provision::{Done, ok};

/// The buses whose devices are read.
const BUSES: [&str; 2] = ["/sys/bus/dax/devices", "/sys/bus/nd/devices"];
/// An attribute is a page at most.
const LIMIT: u64 = 4096;

/// Reads every attribute of every device, and of its groups.
pub(super) fn read_all() -> Done {
    let mut dirs = BTreeSet::new();
    for device in BUSES.into_iter().flat_map(entries) {
        let Ok(device) = device.canonicalize() else {
            continue;
        };
        // A region's groups are its devices' neighbours.
        dirs.extend(device.parent().into_iter().flat_map(groups));
        dirs.extend(groups(&device));
        dirs.insert(device);
    }
    let files: u32 = dirs.iter().map(|dir| attributes(dir)).sum();
    match files {
        0 => Err(StepResult::Lacks {
            what: "a device with attributes: the fixture has no NVDIMM and no region of device-dax"
                .into(),
        }),
        _ => ok(),
    }
}

fn entries(dir: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The groups of attributes in a directory: what has no device of its own.
fn groups(dir: &Path) -> impl Iterator<Item = PathBuf> {
    entries(dir).filter(|p| p.is_dir() && !p.is_symlink() && !p.join("uevent").exists())
}

/// How many there are in a directory that may be read. Some answer with an error, as the resource
/// of what has none.
fn attributes(dir: &Path) -> u32 {
    let mut read = 0;
    for path in entries(dir).filter(|p| p.is_file()) {
        let mut text = Vec::new();
        if let Ok(file) = fs::File::open(&path) {
            let _ = file.take(LIMIT).read_to_end(&mut text);
            read += 1;
        }
    }
    read
}
