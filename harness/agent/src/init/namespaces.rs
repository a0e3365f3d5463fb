//! What sysfs says of the namespaces.

use std::fs;
use std::path::Path;

use proto::NamespaceInfo;

/// Every namespace whose pages are ZONE_DEVICE pages, by device name.
pub(super) fn scan() -> Vec<NamespaceInfo> {
    let mut out = Vec::new();
    for block in names("/sys/block") {
        // Only a namespace with struct pages has a pfn device below its block device.
        let device = format!("/sys/block/{block}/device");
        if block.starts_with("pmem")
            && let Ok(real) = fs::canonicalize(&device)
            && real
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("pfn"))
        {
            out.extend(read(&real, &block, "fsdax"));
        }
    }
    for dax in names("/sys/bus/dax/devices") {
        let dir = format!("/sys/bus/dax/devices/{dax}");
        if Path::new(&dir).join("driver").exists() {
            out.extend(read(Path::new(&dir), &dax, "devdax"));
        }
    }
    out
}

fn read(dir: &Path, dev: &str, mode: &str) -> Option<NamespaceInfo> {
    Some(NamespaceInfo {
        dev: dev.to_owned(),
        mode: mode.to_owned(),
        resource: number(&dir.join("resource"))?,
        size: number(&dir.join("size")).filter(|s| *s > 0)?,
        align: number(&dir.join("align"))?,
    })
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
