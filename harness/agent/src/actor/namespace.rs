//! Namespaces, by ndctl.

use std::fs;

use proto::{Op, Size, StepResult};

use super::program;
use super::provision::{Done, TOOL, ok};
use crate::wire::{failed, io_errno};

const ND: &str = "/sys/bus/nd/devices";
/// ND_DEVICE_NAMESPACE_IO of include/uapi/linux/ndctl.h.
const WITHOUT_LABELS: &str = "4";

/// A region of the nd bus.
struct Region {
    /// Such as `region0`.
    name: String,
    /// Physical address.
    resource: u64,
    /// NVDIMMs behind it; none in a range that the e820 map calls pmem.
    mappings: u64,
}

/// The regions there are, by address.
fn regions() -> Result<Vec<Region>, StepResult> {
    let devices = fs::read_dir(ND).map_err(|e| io_errno("open", &e))?;
    let mut out: Vec<Region> = devices
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("region"))
        .map(|name| Region {
            resource: number(&name, "resource").unwrap_or(u64::MAX),
            mappings: number(&name, "mappings").unwrap_or(0),
            name,
        })
        .collect();
    out.sort_by(|a, b| (a.resource, &a.name).cmp(&(b.resource, &b.name)));
    Ok(out)
}

fn text(device: &str, attribute: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{ND}/{device}/{attribute}")).ok()?;
    Some(text.trim().to_owned())
}

fn number(device: &str, attribute: &str) -> Option<u64> {
    let text = text(device, attribute)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `ndctl create-namespace`.
pub(super) fn create(op: &Op) -> Done {
    let Op::CreateNamespace {
        mode,
        map,
        align,
        size,
        name,
        region,
        node,
    } = op
    else {
        return Err(failed("create a namespace: not that operation"));
    };
    label_regions()?;
    let regions = regions()?;
    let which = region.unwrap_or(0) as usize;
    let at = regions.get(which).ok_or_else(|| {
        failed(format!(
            "create a namespace in region {which} by address: there are {}",
            regions.len()
        ))
    })?;
    check_node(at, *node)?;
    let mut argv: Vec<String> = ["ndctl", "create-namespace", "-f", "-m", mode]
        .map(str::to_owned)
        .to_vec();
    let mut option = |flag: &str, value: &str| argv.extend([flag.to_owned(), value.to_owned()]);
    if mode != "raw" {
        check_align(at, *align)?;
        option("-M", map);
        option("-a", &align.bytes().to_string());
    }
    if at.mappings == 0 {
        // Without labels there is one namespace from the start, to be made into another kind.
        option("-e", &only_namespace(at));
    } else if region.is_some() {
        option("-r", &at.name);
    }
    if let Some(size) = size {
        option("-s", &size.bytes().to_string());
    }
    if let Some(name) = name {
        option("-n", name);
    }
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    program::must(&argv, &[], TOOL)?;
    ok()
}

/// The one namespace of a region without labels.
fn only_namespace(region: &Region) -> String {
    region.name.replace("region", "namespace") + ".0"
}

/// The node that a region's memory would be; its `numa_node` is the nearest one that is online,
/// which a node of nothing but pmem isn't.
fn check_node(at: &Region, wanted: Option<u32>) -> Result<(), StepResult> {
    let Some(wanted) = wanted else { return Ok(()) };
    match text(&at.name, "target_node") {
        Some(node) if node == wanted.to_string() => Ok(()),
        found => Err(failed(format!(
            "create a namespace on NUMA node {wanted}: the memory of {} is of node {}",
            at.name,
            found.as_deref().unwrap_or("none")
        ))),
    }
}

/// The kernel says which alignments it can map; it lists them for the device that a region
/// would make a devdax namespace of.
fn check_align(at: &Region, align: Size) -> Result<(), StepResult> {
    let seed = text(&at.name, "dax_seed").unwrap_or_default();
    let Some(all) = text(&seed, "supported_alignments") else {
        return Ok(());
    };
    let wanted = align.bytes().to_string();
    if all.split_whitespace().any(|a| a == wanted) {
        Ok(())
    } else {
        Err(StepResult::Lacks {
            what: format!("an alignment of {align} for namespaces (it has {all})"),
        })
    }
}

/// `ndctl destroy-namespace` of all. One without labels can't be deleted: it is left disabled,
/// or its driver would give it pages again.
pub(super) fn destroy() -> Done {
    program::must(&["ndctl", "destroy-namespace", "-f", "all"], &[], TOOL)?;
    for region in regions()?.iter().filter(|r| r.mappings == 0) {
        program::must(
            &["ndctl", "disable-namespace", &only_namespace(region)],
            &[],
            TOOL,
        )?;
    }
    ok()
}

/// `ndctl disable-namespace` of all, and `enable-namespace` of those.
pub(super) fn rebind() -> Done {
    program::must(&["ndctl", "disable-namespace", "all"], &[], TOOL)?;
    program::must(&["ndctl", "enable-namespace", "all"], &[], TOOL)?;
    ok()
}

/// A blank NVDIMM's region is one namespace without labels, with no room to
/// create another one in: its label area is initialised first.
fn label_regions() -> Result<(), StepResult> {
    for Region { name, mappings, .. } in regions()? {
        if mappings == 0 || text(&name, "nstype").as_deref() != Some(WITHOUT_LABELS) {
            continue;
        }
        // `nmem0,offset,length,position`
        let mapping = text(&name, "mapping0").unwrap_or_default();
        let dimm = mapping.split(',').next().unwrap_or_default();
        program::must(&["ndctl", "disable-region", &name], &[], TOOL)?;
        program::must(&["ndctl", "init-labels", "-f", dimm], &[], TOOL)?;
        program::must(&["ndctl", "enable-region", &name], &[], TOOL)?;
    }
    Ok(())
}
