//! What sysfs says of the namespaces.

use std::fs;
use std::path::Path;

use proto::NamespaceInfo;

/// Every namespace that is in use, by device name.
pub(super) fn scan() -> Vec<NamespaceInfo> {
    let mut out = Vec::new();
    for block in names("/sys/block") {
        let device = format!("/sys/block/{block}/device");
        if !block.starts_with("pmem") {
            continue;
        }
        let Ok(real) = fs::canonicalize(&device) else {
            continue;
        };
        // An fsdax namespace has a pfn device below its block device, or needs none: the range
        // that the e820 map calls pmem gets its pages without (pmem_should_map_pages()).
        let below = real
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if below.starts_with("pfn") {
            out.extend(read(&real, &block, "fsdax").map(in_partition));
        } else if below.starts_with("namespace") {
            let mode = fs::read_to_string(real.join("mode")).unwrap_or_default();
            let mode = match mode.trim() {
                "memory" => "fsdax",
                _ => "raw",
            };
            out.extend(read(&real, &block, mode));
        }
    }
    for dax in names("/sys/bus/dax/devices") {
        let dir = format!("/sys/bus/dax/devices/{dax}");
        let Ok(real) = fs::canonicalize(&dir) else {
            continue;
        };
        let Ok(driver) = fs::canonicalize(real.join("driver")) else {
            continue;
        };
        let mode = match driver.file_name() {
            Some(name) if name == "kmem" => "system-ram",
            Some(name) if name == "fsdev_dax" => "fsdev",
            _ => "devdax",
        };
        out.extend(read(&real, &dax, mode).map(|n| of_region(n, &real)));
    }
    out
}

/// The namespace as its partition has it, where there is one.
fn in_partition(whole: NamespaceInfo) -> NamespaceInfo {
    const SECTOR: u64 = 512;
    let dev = format!("{}p1", whole.dev);
    let bytes = |what: &str| {
        let path = format!("/sys/block/{}/{dev}/{what}", whole.dev);
        Some(number(Path::new(&path))? * SECTOR)
    };
    match (bytes("start"), bytes("size")) {
        (Some(start), Some(size)) => NamespaceInfo {
            resource: whole.resource + start,
            size,
            dev,
            ..whole
        },
        _ => whole,
    }
}

/// A device that was made of a region's free memory: it is of no namespace whose name it could
/// have, and has its own instead. Its memory may lie in several ranges.
fn of_region(device: NamespaceInfo, dir: &Path) -> NamespaceInfo {
    let region = dir.parent().map(|region| region.join("dax_region/create"));
    if !region.is_some_and(|create| create.exists()) {
        return device;
    }
    let range = |name: &String| {
        let of = |what: &str| number(&dir.join(name).join(what));
        let (start, end) = (of("start")?, of("end")?);
        Some((of("page_offset")?, (start, end - start + 1)))
    };
    let mappings = names(&dir.to_string_lossy());
    let mappings = mappings.iter().filter(|name| name.starts_with("mapping"));
    let mut ranges: Vec<(u64, (u64, u64))> = mappings.filter_map(range).collect();
    ranges.sort_unstable();
    NamespaceInfo {
        name: device.dev.clone(),
        ranges: match ranges.len() {
            0 | 1 => Vec::new(),
            _ => ranges.into_iter().map(|(_, range)| range).collect(),
        },
        ..device
    }
}

fn read(dir: &Path, dev: &str, mode: &str) -> Option<NamespaceInfo> {
    Some(NamespaceInfo {
        dev: dev.to_owned(),
        name: name(dir).unwrap_or_default(),
        mode: mode.to_owned(),
        resource: number(&dir.join("resource"))?,
        ranges: Vec::new(),
        size: number(&dir.join("size")).filter(|s| *s > 0)?,
        align: match mode {
            "devdax" | "system-ram" | "fsdev" => number(&dir.join("align"))?,
            _ => number(&dir.join("align")).unwrap_or(0),
        },
    })
}

/// The name in the label of the namespace that a device was made of: itself, or what a pfn or
/// dax device above it names.
fn name(dir: &Path) -> Option<String> {
    let label = |namespace: &Path| {
        let name = fs::read_to_string(namespace.join("alt_name")).ok()?;
        Some(name.trim().to_owned())
    };
    for at in dir.ancestors() {
        if let Ok(namespace) = fs::read_to_string(at.join("namespace")) {
            let bus = Path::new("/sys/bus/nd/devices");
            return label(&bus.join(namespace.trim()));
        }
        if at.join("alt_name").exists() {
            return label(at);
        }
    }
    None
}

fn number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|d| {
            d.flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}
