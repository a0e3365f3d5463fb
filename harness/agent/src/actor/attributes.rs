//! What drivers show of their devices in sysfs.

use std::fs;
use std::io::Read;
use std::path::Path;

use proto::StepResult;

use super::provision::{Done, ok};

/// The buses whose devices are read.
const BUSES: [&str; 2] = ["/sys/bus/dax/devices", "/sys/bus/nd/devices"];
/// An attribute is a page at most.
const LIMIT: u64 = 4096;

/// Reads every attribute of every device, and of its groups.
pub(super) fn read_all() -> Done {
    let mut files = 0;
    for bus in BUSES {
        for device in fs::read_dir(bus).into_iter().flatten().flatten() {
            let Ok(device) = device.path().canonicalize() else {
                continue;
            };
            files += attributes(&device);
            // Groups are directories without a device of their own. A region's are its parent's.
            for dir in [Some(device.as_path()), device.parent()]
                .into_iter()
                .flatten()
            {
                for group in fs::read_dir(dir).into_iter().flatten().flatten() {
                    let path = group.path();
                    if path.is_dir() && !path.is_symlink() && !path.join("uevent").exists() {
                        files += attributes(&path);
                    }
                }
            }
        }
    }
    match files {
        0 => Err(StepResult::Lacks {
            what: "a device with attributes: the fixture has no NVDIMM and no region of device-dax"
                .into(),
        }),
        _ => ok(),
    }
}

/// How many there are in a directory that may be read. Some answer with an error, as the resource
/// of what has none.
fn attributes(dir: &Path) -> u32 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut read = 0;
    for path in entries.map(|e| e.path()).filter(|p| p.is_file()) {
        let mut text = Vec::new();
        if let Ok(file) = fs::File::open(&path) {
            let _ = file.take(LIMIT).read_to_end(&mut text);
            read += 1;
        }
    }
    read
}
