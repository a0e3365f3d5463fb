//! CXL regions, by the kernel's own files (Documentation/ABI/testing/sysfs-bus-cxl).

use std::fs;
use std::time::{Duration, Instant};

use proto::StepResult;

use super::provision::{Done, ok};
use crate::wire::{failed, io_errno};

const CXL: &str = "/sys/bus/cxl/devices";
const DRIVER: &str = "/sys/bus/cxl/drivers/cxl_region";
/// Fixed, as all identities of a fixture are.
const UUID: &str = "5a4f4e45-4445-5600-8000-000000000002";
/// For the memory device to be found, and for the nd region below a CXL region.
const LIMIT: Duration = Duration::from_secs(20);

fn names(prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(CXL)
        .map(|d| {
            d.flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .filter(|n| n.starts_with(prefix))
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

fn read(device: &str, attribute: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{CXL}/{device}/{attribute}")).ok()?;
    Some(text.trim().to_owned())
}

fn write(device: &str, attribute: &str, value: &str) -> Result<(), StepResult> {
    fs::write(format!("{CXL}/{device}/{attribute}"), value)
        .map_err(|e| io_errno(&format!("write {device}/{attribute}"), &e))
}

/// Waits for something that probing brings.
fn wait<T>(what: &str, found: impl Fn() -> Option<T>) -> Result<T, StepResult> {
    let until = Instant::now() + LIMIT;
    loop {
        match found() {
            Some(found) => return Ok(found),
            None if Instant::now() > until => {
                return Err(failed(format!(
                    "find {what}: none within {} s",
                    LIMIT.as_secs()
                )));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Makes one region of all persistent memory of the first memory device.
pub(super) fn create() -> Done {
    let (root, memory, endpoint) = wait("a CXL memory device and its decoders", || {
        let root = names("decoder")
            .into_iter()
            .find(|d| read(d, "create_pmem_region").is_some())?;
        let memory = names("mem").into_iter().next()?;
        let endpoint = names("decoder")
            .into_iter()
            .find(|d| read(d, "dpa_size").is_some())?;
        Some((root, memory, endpoint))
    })?;
    let size = read(&memory, "pmem/size")
        .ok_or_else(|| failed(format!("find the persistent memory of {memory}")))?;
    let region = read(&root, "create_pmem_region").unwrap_or_default();
    write(&root, "create_pmem_region", &region)?;
    let granularity = read(&root, "interleave_granularity").unwrap_or_else(|| "256".to_owned());
    write(&endpoint, "mode", "pmem")?;
    write(&endpoint, "dpa_size", &size)?;
    // It wants the newline.
    write(&region, "uuid", &format!("{UUID}\n"))?;
    write(&region, "interleave_granularity", &granularity)?;
    write(&region, "interleave_ways", "1")?;
    write(&region, "size", &size)?;
    write(&region, "target0", &endpoint)?;
    write(&region, "commit", "1")?;
    fs::write(format!("{DRIVER}/bind"), &region)
        .map_err(|e| io_errno(&format!("bind {region}"), &e))?;
    wait("the nd region of a CXL region", || {
        fs::read_dir("/sys/bus/nd/devices")
            .ok()?
            .flatten()
            .find(|e| e.file_name().to_string_lossy().starts_with("region"))
    })?;
    ok()
}

/// Takes all regions down again, and gives their memory back.
pub(super) fn destroy() -> Done {
    for region in names("region") {
        let root = names("decoder")
            .into_iter()
            .find(|d| fs::exists(format!("{CXL}/{d}/delete_region")).unwrap_or(false))
            .ok_or_else(|| failed("find the root decoder of a region"))?;
        let endpoint = read(&region, "target0").unwrap_or_default();
        fs::write(format!("{DRIVER}/unbind"), &region)
            .map_err(|e| io_errno(&format!("unbind {region}"), &e))?;
        write(&region, "commit", "0")?;
        write(&region, "target0", "\n")?;
        write(&root, "delete_region", &region)?;
        if !endpoint.is_empty() {
            write(&endpoint, "dpa_size", "0")?;
        }
    }
    ok()
}
