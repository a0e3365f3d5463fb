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
        DaxMode::SystemRam | DaxMode::Unplugged => "kmem",
        DaxMode::Fsdev => "fsdev_dax",
    }
}

/// Binds an instance, by default the only one there is, to the driver of a mode.
pub(super) fn set(mode: DaxMode, device: Option<&str>, context: &Context) -> Done {
    let wanted = format!("{BUS}/drivers/{}", driver(mode));
    if !Path::new(&wanted).exists() {
        return Err(StepResult::Lacks {
            what: format!(
                "the driver {}: the kernel was built without it",
                driver(mode)
            ),
        });
    }
    let instance = instance(device, context)?;
    let device = instance.dev.as_str();
    let bound = format!("{BUS}/devices/{device}/driver");
    let is =
        |mode| fs::canonicalize(&bound).is_ok_and(|d| d.file_name() == Some(driver(mode).as_ref()));
    match (mode, is(DaxMode::SystemRam)) {
        (DaxMode::SystemRam, true) => return set_use(instance, "online_movable", "online_movable"),
        (DaxMode::Unplugged, true) => return set_use(instance, "unplugged", "offline"),
        (DaxMode::Unplugged, false) => {
            return Err(failed(format!(
                "take {device} out of use: it is no system RAM; make it that first"
            )));
        }
        _ => {}
    }
    if is(DaxMode::SystemRam) {
        set_blocks(instance, "offline")?;
    }
    if is(DaxMode::SystemRam) || is(DaxMode::Fsdev) {
        put(&format!("{bound}/remove_id"), device)?;
    }
    if Path::new(&bound).exists() {
        put(&format!("{bound}/unbind"), device)?;
    }
    if mode == DaxMode::SystemRam {
        put(&format!("{MEMORY}/auto_online_blocks"), "online_movable")?;
    }
    match mode {
        DaxMode::Devdax => put(&format!("{wanted}/bind"), device)?,
        // The others take only what they are told; telling them binds it.
        DaxMode::SystemRam | DaxMode::Unplugged | DaxMode::Fsdev => {
            put(&format!("{wanted}/new_id"), device)?
        }
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

fn instance<'a>(
    device: Option<&str>,
    context: &'a Context,
) -> Result<&'a NamespaceInfo, StepResult> {
    let found: Vec<&NamespaceInfo> = context
        .namespaces
        .iter()
        .filter(|n| ["devdax", "system-ram", "fsdev"].contains(&n.mode.as_str()))
        .filter(|n| device.is_none_or(|d| d == n.dev))
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

/// Sets the state of system RAM, or where kmem keeps none, that of its memory blocks.
fn set_use(instance: &NamespaceInfo, state: &str, blocks: &str) -> Done {
    let path = format!("{BUS}/devices/{}/state", instance.dev);
    match Path::new(&path).exists() {
        true => put(&path, state)?,
        false => set_blocks(instance, blocks)?,
    }
    ok()
}

/// Takes the memory blocks of an instance offline, where the kernel moves what is in them
/// elsewhere, or puts them online.
fn set_blocks(instance: &NamespaceInfo, to: &str) -> Result<(), StepResult> {
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
        let now = fs::read_to_string(&state).unwrap_or_default();
        if !now.is_empty() && (now.trim() == "offline") != (to == "offline") {
            put(&state, to)?;
        }
    }
    Ok(())
}

fn put(path: &str, text: &str) -> Result<(), StepResult> {
    fs::write(path, text).map_err(|e| io_errno(&format!("write {text} to {path}"), &e))
}
