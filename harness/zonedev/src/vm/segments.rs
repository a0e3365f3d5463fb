//! Where a guest's memory lies in its QEMU.
//!
//! Guest-physical ranges are computed (see [`super::machine`]), checked against what QEMU says, and
//! found in QEMU's address space by the files that they are mapped from, private or shared.

use camino::Utf8Path;
use guestmem::Segment;
use qapi::qmp::MemoryDeviceInfo;

use super::command::file;
use super::error::{Result, VmError};
use super::machine::{Machine, Region};

/// A mapping of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
}

/// Finds each region in `maps` (the text of /proc/PID/maps), by its file below `memory`.
pub(super) fn locate(regions: &[Region], memory: &Utf8Path, maps: &str) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    for region in regions {
        let path = file(memory, &region.backend);
        let mut mappings: Vec<Mapping> = maps
            .lines()
            .filter_map(|line| mapping(line, &path))
            .collect();
        mappings.sort_by_key(|mapping| mapping.offset);
        let (mut at, end) = (region.offset, region.offset + region.len);
        for mapping in mappings {
            let mapped = mapping.offset + (mapping.end - mapping.start);
            if mapping.offset > at || mapped <= at || at >= end {
                continue;
            }
            let len = mapped.min(end) - at;
            let (gpa, hva) = (
                region.gpa + (at - region.offset),
                mapping.start + (at - mapping.offset),
            );
            match segments.last_mut() {
                Some(last) if last.gpa + last.len == gpa && last.hva + last.len == hva => {
                    last.len += len
                }
                _ => segments.push(Segment { gpa, len, hva }),
            }
            at += len;
        }
        if at < end {
            let what = format!("QEMU does not map {path} at offset {at:#x}");
            return Err(VmError::Layout { what });
        }
    }
    Ok(segments)
}

/// One line of /proc/PID/maps, if it maps the file at `path`.
fn mapping(line: &str, path: &Utf8Path) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let text = rest.trim_start();
        let (field, after) = text.split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (range, _rights, offset, _device, _inode) =
        (field()?, field()?, field()?, field()?, field()?);
    let name = rest.trim_start();
    if name.strip_suffix(" (deleted)").unwrap_or(name) != path.as_str() {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end, offset) = (hex(start)?, hex(end)?, hex(offset)?);
    (start < end && offset.checked_add(end - start).is_some()).then_some(Mapping {
        start,
        end,
        offset,
    })
}

/// Checks the computed ranges of the NVDIMMs against `query-memory-devices`.
pub(super) fn check_devices(machine: &Machine, devices: &[MemoryDeviceInfo]) -> Result<()> {
    let layout = machine.layout();
    for nvdimm in &machine.nvdimms {
        let memdev = format!("/objects/{}", nvdimm.id);
        let found = devices.iter().find_map(|device| match device {
            MemoryDeviceInfo::nvdimm(info) if info.data.memdev == memdev => Some(&info.data),
            _ => None,
        });
        let range = found.and_then(|info| {
            Some((
                u64::try_from(info.addr).ok()?,
                u64::try_from(info.size).ok()?,
            ))
        });
        let expected = layout
            .iter()
            .find(|r| r.backend == nvdimm.id)
            .map(|r| (r.gpa, r.len));
        if range != expected {
            let what = format!(
                "NVDIMM {} is at {range:x?}, expected {expected:x?}",
                nvdimm.id
            );
            return Err(VmError::Layout { what });
        }
    }
    Ok(())
}

/// Checks the computed ranges against the monitor's `info mtree -f`. Its text is for people and may
/// change: where it names none of our backends there is nothing to compare.
pub(super) fn check_tree(regions: &[Region], tree: &str) -> Result<()> {
    let mut system = false;
    let mut seen = vec![false; regions.len()];
    for line in tree.lines().map(str::trim) {
        if let Some(root) = line.strip_prefix("Root memory region: ") {
            system = root == "system";
        }
        let Some((start, end, name, offset)) = tree_line(line).filter(|_| system) else {
            continue;
        };
        if !regions.iter().any(|region| region.backend == name) {
            continue;
        }
        let place = regions.iter().position(|region| {
            region.backend == name
                && (region.gpa..region.gpa + region.len).contains(&start)
                && end < region.gpa + region.len
                && offset == region.offset + (start - region.gpa)
        });
        match place {
            Some(place) => seen[place] = true,
            None => {
                let what = format!("QEMU has {name} at {start:#x}-{end:#x}, offset {offset:#x}");
                return Err(VmError::Layout { what });
            }
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(missing) if seen.contains(&true) => {
            let Region {
                gpa, len, backend, ..
            } = &regions[missing];
            let what = format!("QEMU does not have {backend} at {gpa:#x}, {len:#x} bytes long");
            Err(VmError::Layout { what })
        }
        _ => Ok(()),
    }
}

/// `START-END (prio N, KIND): NAME[ @OFFSET]`, the end inclusive.
fn tree_line(line: &str) -> Option<(u64, u64, &str, u64)> {
    let (range, rest) = line.split_once(" (prio ")?;
    let (start, end) = range.split_once('-')?;
    let (_, name) = rest.split_once("): ")?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let mut words = name.split(' ');
    let name = words.next()?;
    let offset = words
        .find_map(|word| word.strip_prefix('@'))
        .map_or(Some(0), hex)?;
    Some((hex(start)?, hex(end)?, name, offset))
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::*;
    use proptest::prelude::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0d00000 r-xp 00000000 fe:00 1234                       /usr/bin/qemu-system-x86_64
7efe73fff000-7efe83fff000 rw-p 10000000 00:1b 21                         /dev/shm/z m/0/ram (deleted)
7efe93fff000-7efea3fff000 rw-p 00000000 00:1b 21                         /dev/shm/z m/0/ram (deleted)
7efea3fff000-7efea4000000 ---p 00000000 00:00 0
7efeb0000000-7efeb8000000 rw-s 00000000 00:1b 22                         /dev/shm/z m/0/pmem0
7efeb8000000-7efec0020000 rw-s 08000000 00:1b 22                         /dev/shm/z m/0/pmem0
7efec0020000-7efec0030000 rw-s 00000000 00:1b 23                         /dev/shm/z m/0/pmem
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn segments_are_found_by_their_files() {
        let segments = locate(&machine().layout(), "/dev/shm/z m/0".into(), MAPS).unwrap();
        let expected = [
            Segment {
                gpa: 0,
                len: 0x1000_0000,
                hva: 0x7efe_93ff_f000,
            },
            Segment {
                gpa: 0x1000_0000,
                len: 0x1000_0000,
                hva: 0x7efe_73ff_f000,
            },
            Segment {
                gpa: 0x1_0000_0000,
                len: 0x1000_0000,
                hva: 0x7efe_b000_0000,
            },
        ];
        assert_eq!(segments, expected);
    }

    #[test]
    fn a_hole_is_told() {
        let (memory, gone) = (
            Utf8Path::new("/dev/shm/z m/0"),
            MAPS.replace("8000000 rw-s 0", "8000000 rw-s f"),
        );
        let error = locate(&machine().layout(), memory, &gone)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("does not map /dev/shm/z m/0/pmem0 at offset 0x0"),
            "{error}"
        );
        assert!(locate(&machine().layout(), "/elsewhere".into(), MAPS).is_err());
        // Once an overflow, found by the property below.
        let absurd = "0-ffffffffffffffff rw-p ffffffffffffffff 00:1b 21 /m/ram";
        assert!(locate(&machine().layout(), "/m".into(), absurd).is_err());
    }

    // As QEMU 7.2 printed it, shortened.
    const TREE: &str = "\
FlatView #0
 AS \"memory\", root: system
 Root memory region: system
  0000000000000000-00000000000c2fff (prio 0, ram): ram
  00000000000c3000-00000000000e7fff (prio 0, rom): ram @00000000000c3000
  0000000000100000-000000001fffffff (prio 0, ram): ram @0000000000100000
  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio
  0000000100000000-000000010fffffff (prio 0, nv-ram): pmem0

FlatView #1
 AS \"I/O\", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): ram
";

    #[test]
    fn the_layout_is_compared_with_qemus() {
        let regions = machine().layout();
        check_tree(&regions, TREE).unwrap();
        check_tree(&regions, "in a language of the future").unwrap();
        let moved = TREE.replace("@0000000000100000", "@0000000000200000");
        assert!(
            check_tree(&regions, &moved)
                .unwrap_err()
                .to_string()
                .contains("ram at 0x100000-")
        );
        let less = TREE.replace("pmem0", "pmem1");
        assert!(
            check_tree(&regions, &less)
                .unwrap_err()
                .to_string()
                .contains("does not have pmem0")
        );
        let longer = TREE.replace("000000010fffffff", "000000011fffffff");
        assert!(check_tree(&regions, &longer).is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in ".{0,200}", hex in "[0-9a-f]{0,18}-[0-9a-f]{0,18} rw-p [0-9a-f]{0,18} 0:0 1 /m/ram") {
            let regions = machine().layout();
            let _ = locate(&regions, "/m".into(), &format!("{text}\n{hex}"));
            let _ = check_tree(&regions, &text);
        }
    }
}
