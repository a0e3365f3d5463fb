//! A device-dax instance as a character device, or as memory of the kernel's: what
//! `daxctl reconfigure-device` does, which can't where the drivers are built in and depmod's
//! index of them is missing.

use std::fs;
use std::path::Path;

use proto::{DaxMode, NamespaceInfo, StepResult};

use super::provision::{Done, ok};
use crate::wire::{Context, failed, io_errno};

const BUS: &str = "/sys/bus/dax";
const MEMORY: &str = "/sys/devices/system/memory";

fn driver(mode: DaxMode) -> &'static str {
    match mode {
        DaxMode::Devdax => "device_dax",
        DaxMode::SystemRam => "kmem",
    }
}

/// Binds the only instance there is to the driver of a mode.
pub(super) fn set(mode: DaxMode, context: &Context) -> Done {
    let wanted = format!("{BUS}/drivers/{}", driver(mode));
    if !Path::new(&wanted).exists() {
        return Err(StepResult::Lacks {
            what: format!(
                "the driver {}: the kernel was built without it",
                driver(mode)
            ),
        });
    }
    let instance = only_instance(context)?;
    let device = instance.dev.as_str();
    let bound = format!("{BUS}/devices/{device}/driver");
    let is =
        |mode| fs::canonicalize(&bound).is_ok_and(|d| d.file_name() == Some(driver(mode).as_ref()));
    if is(DaxMode::SystemRam) {
        offline(instance)?;
        put(&format!("{bound}/remove_id"), device)?;
    }
    if Path::new(&bound).exists() {
        put(&format!("{bound}/unbind"), device)?;
    }
    if mode == DaxMode::SystemRam {
        put(&format!("{MEMORY}/auto_online_blocks"), "online_movable")?;
        // Its driver takes only what it is told; telling it binds it.
        put(&format!("{wanted}/new_id"), device)?;
    } else {
        put(&format!("{wanted}/bind"), device)?;
    }
    if is(mode) {
        ok()
    } else {
        Err(failed(format!(
            "bind {device} to {}: it did not take it",
            driver(mode)
        )))
    }
}

fn only_instance(context: &Context) -> Result<&NamespaceInfo, StepResult> {
    let found: Vec<&NamespaceInfo> = context
        .namespaces
        .iter()
        .filter(|n| ["devdax", "system-ram"].contains(&n.mode.as_str()))
        .collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(failed("find a device-dax instance: there is none")),
        several => {
            let names: Vec<&str> = several.iter().map(|n| n.dev.as_str()).collect();
            Err(failed(format!(
                "find the device-dax instance: there are {}",
                names.join(", ")
            )))
        }
    }
}

/// Takes the memory blocks of an instance offline. The kernel moves what is in them elsewhere.
fn offline(instance: &NamespaceInfo) -> Result<(), StepResult> {
    let (first, size) = (instance.resource, instance.size);
    let path = format!("{MEMORY}/block_size_bytes");
    let text = fs::read_to_string(&path).map_err(|e| io_errno(&format!("read {path}"), &e))?;
    let block = u64::from_str_radix(text.trim(), 16)
        .ok()
        .filter(|b| *b > 0)
        .ok_or_else(|| failed(format!("read {path}: `{}` is no size", text.trim())))?;
    for n in first / block..(first + size).div_ceil(block) {
        let state = format!("{MEMORY}/memory{n}/state");
        // The ends of the device may be no whole blocks, and were never added.
        if Path::new(&state).exists() {
            put(&state, "offline")?;
        }
    }
    Ok(())
}

fn put(path: &str, text: &str) -> Result<(), StepResult> {
    fs::write(path, text).map_err(|e| io_errno(&format!("write {text} to {path}"), &e))
}
