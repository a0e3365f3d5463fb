//! Devices of device-dax made of what is free in a region, by the kernel's own files
//! (Documentation/ABI/testing/sysfs-bus-dax): `daxctl create-device` wants depmod's index of
//! modules to bind a driver, which kernels without modules have not.

use std::fs;
use std::path::{Path, PathBuf};

use proto::{Size, StepResult};

use super::provision::{Done, ok};
use crate::wire::{failed, io_errno};

const PLATFORM: &str = "/sys/devices/platform";
const DRIVER: &str = "/sys/bus/dax/drivers/device_dax";

/// The directory of the one region of soft-reserved memory.
fn region() -> Result<PathBuf, StepResult> {
    let devices = fs::read_dir(PLATFORM).map_err(|e| io_errno("open", &e))?;
    let nested = fs::read_dir(format!("{PLATFORM}/hmem_platform.0"));
    let mut found: Vec<PathBuf> = devices
        .chain(nested.into_iter().flatten())
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("dax_region/create").exists())
        .collect();
    found.sort();
    match found.len() {
        0 => Err(StepResult::Lacks {
            what: "a region of soft-reserved memory: the kernel was built without CONFIG_DEV_DAX_HMEM, \
                   or the fixture reserves none"
                .into(),
        }),
        1 => Ok(found.remove(0)),
        several => Err(failed(format!(
            "find the region of soft-reserved memory: there are {several}"
        ))),
    }
}

fn read(path: &Path) -> Result<String, StepResult> {
    let text =
        fs::read_to_string(path).map_err(|e| io_errno(&format!("read {}", path.display()), &e))?;
    Ok(text.trim().to_owned())
}

fn write(path: &Path, text: &str) -> Result<(), StepResult> {
    fs::write(path, text).map_err(|e| io_errno(&format!("write {text} to {}", path.display()), &e))
}

/// The first device of the region that has no memory yet, or a new one.
fn blank(region: &Path) -> Result<PathBuf, StepResult> {
    let mut devices: Vec<PathBuf> = fs::read_dir(region)
        .map_err(|e| io_errno("open", &e))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.join("size").exists()
                && path
                    .file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with("dax"))
                && path.file_name() != Some("dax_region".as_ref())
        })
        .collect();
    devices.sort();
    for device in devices {
        if read(&device.join("size"))? == "0" {
            return Ok(device);
        }
    }
    write(&region.join("dax_region/create"), "1")?;
    let seed = read(&region.join("dax_region/seed"))?;
    Ok(region.join(seed))
}

fn named(region: &Path, name: &str) -> Result<PathBuf, StepResult> {
    let device = region.join(name);
    match device.exists() {
        true => Ok(device),
        false => Err(failed(format!(
            "find {name}: the region has no such device"
        ))),
    }
}

/// Makes one of `size`, at a physical address of the region or where there is room, and binds it as a
/// character device.
pub(super) fn create(size: Size, align: Size, at: Option<Size>) -> Done {
    let region = region()?;
    let device = blank(&region)?;
    write(&device.join("align"), &align.bytes().to_string())?;
    match at {
        None => write(&device.join("size"), &size.bytes().to_string())?,
        Some(at) => {
            let range = format!("{:x}-{:x}", at.bytes(), at.bytes() + size.bytes() - 1);
            write(&device.join("mapping"), &range)?;
        }
    }
    let name = device
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if !device.join("driver").exists() {
        write(&Path::new(DRIVER).join("bind"), &name)?;
    }
    ok()
}

/// Gives one another size, unbound for as long as that takes.
pub(super) fn resize(name: &str, size: Size) -> Done {
    let device = named(&region()?, name)?;
    write(&device.join("driver/unbind"), name)?;
    write(&device.join("size"), &size.bytes().to_string())?;
    write(&Path::new(DRIVER).join("bind"), name)?;
    ok()
}

/// Takes one down. The first stays there without memory, as the kernel wants it.
pub(super) fn destroy(name: &str) -> Done {
    let region = region()?;
    let device = named(&region, name)?;
    if device.join("driver").exists() {
        write(&device.join("driver/unbind"), name)?;
    }
    write(&device.join("size"), "0")?;
    if !name.ends_with(".0") {
        write(&region.join("dax_region/delete"), name)?;
    }
    ok()
}
