//! Modules, and drivers of PCI devices.

use std::fs::{self, File};
use std::path::PathBuf;

use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use proto::{NamespaceInfo, StepResult};

use super::provision::{Done, ok};
use crate::wire::{errno, failed, io_errno};

/// Where the image has the modules of its kernel.
const MODULES: &str = "/lib/modules";

/// finit_module(2) without parameters.
pub(super) fn insmod(module: &str) -> Done {
    let path = format!("{MODULES}/{module}.ko");
    if !fs::exists(&path).unwrap_or(false) {
        return Err(StepResult::Lacks {
            what: format!("the module {module}: the kernel was built without it"),
        });
    }
    let file = File::open(&path).map_err(|e| io_errno(&format!("open {path}"), &e))?;
    finit_module(&file, c"", ModuleInitFlags::empty()).map_err(|e| errno("finit_module", e))?;
    ok()
}

/// delete_module(2), which refuses where it is in use.
pub(super) fn rmmod(module: &str) -> Done {
    let name = std::ffi::CString::new(module)
        .map_err(|_| failed("unload a module: its name has a zero byte"))?;
    delete_module(&name, DeleteModuleFlags::O_NONBLOCK).map_err(|e| errno("delete_module", e))?;
    ok()
}

/// Takes a driver off every device that it is bound to.
pub(super) fn unbind_pci(driver: &str) -> Done {
    let dir = format!("/sys/bus/pci/drivers/{driver}");
    let bound: Vec<String> = fs::read_dir(&dir)
        .map_err(|e| io_errno(&format!("open {dir}"), &e))?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        // Such as 0000:00:03.0.
        .filter(|name| name.contains(':') && name.contains('.'))
        .collect();
    if bound.is_empty() {
        return Err(failed(format!("unbind {driver}: it has no device")));
    }
    for device in bound {
        fs::write(format!("{dir}/unbind"), &device)
            .map_err(|e| io_errno(&format!("unbind {device}"), &e))?;
    }
    ok()
}

/// The file that maps pages of a PCI device's peer-to-peer memory (Documentation/driver-api/pci/
/// p2pdma.rst; drivers/pci/p2pdma.c has it from 6.2 on).
pub(super) fn p2pmem() -> Result<PathBuf, StepResult> {
    let dir = "/sys/bus/pci/devices";
    fs::read_dir(dir)
        .map_err(|e| io_errno(&format!("open {dir}"), &e))?
        .flatten()
        .map(|e| e.path().join("p2pmem/allocate"))
        .find(|path| path.exists())
        .ok_or_else(|| failed("map peer-to-peer memory: no PCI device offers any"))
}

/// The block device of the fixture's NVMe namespace.
pub(super) fn nvme() -> Result<PathBuf, StepResult> {
    let disk = PathBuf::from("/dev/nvme0n1");
    match disk.exists() {
        true => Ok(disk),
        false => Err(failed("find an NVMe namespace: this fixture has none")),
    }
}

/// Unbinds the driver of a namespace's device, as its owner may at any time.
pub(super) fn unbind_namespace(namespace: &NamespaceInfo) -> Done {
    let dev = &namespace.dev;
    let dir = match namespace.mode.as_str() {
        "devdax" => format!("/sys/bus/dax/devices/{dev}"),
        _ => format!("/sys/block/{dev}/device"),
    };
    let real = fs::canonicalize(&dir).map_err(|e| io_errno("realpath", &e))?;
    let name = real
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    fs::write(real.join("driver/unbind"), &name).map_err(|e| io_errno("write", &e))?;
    ok()
}
