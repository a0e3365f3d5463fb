//! What describes a kernel and its memory: VMCOREINFO, BTF, a vmlinux, dumps and recorded images.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use guestmem::layout::Layouts;
use guestmem::{Btf, DumpMemory, KernelInfo, Memory, SYMBOLS, SparseImage, VmCoreInfo, reduce};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Bytes of VMCOREINFO that are looked at.
const MAX_TEXT: usize = 16384;

/// A note with VMCOREINFO, as a guest's memory holds it.
pub(crate) fn vmcoreinfo(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(MAX_TEXT)]);
    let mut all = vec![VmCoreInfo::parse(&text)];
    all.extend(VmCoreInfo::from_note(data));
    for info in all {
        for line in text.lines().take(200) {
            let Some((key, _)) = line.split_once('=') else {
                continue;
            };
            let Ok(value) = info.text(key) else { continue };
            // What is a number in one reading and in the other is the same where it has no letters.
            if let Ok(n) = info.number(key) {
                assert_eq!(value.parse(), Ok(n));
            }
            if let Ok(n) = info.address(key) {
                let digits = value.trim_start_matches("0x");
                assert_eq!(
                    u64::from_str_radix(digits.trim_start_matches('+'), 16),
                    Ok(n)
                );
            }
            if let Err(e) = info.number(key) {
                assert!(e.to_string().len() <= key.len() + 400);
            }
        }
    }
}

/// Types that are asked for, with a field.
const FIELDS: [(&str, &str); 12] = [
    ("page", "flags"),
    ("page", "_refcount"),
    ("page", "compound_head"),
    ("folio", "_pincount"),
    ("folio", "pgmap"),
    ("dev_pagemap", "range"),
    ("dev_pagemap", "altmap.free"),
    ("resource", "child"),
    ("xa_node", "slots"),
    ("mem_section", "usage"),
    ("s", "in.x"),
    ("s", "arr"),
];

/// The content of a .BTF section.
pub(crate) fn btf(data: &[u8]) {
    let Ok(whole) = Btf::parse(data.to_vec()) else {
        return;
    };
    let roots = [
        "page",
        "folio",
        "dev_pagemap",
        "resource",
        "xa_node",
        "xarray",
        "mem_section",
        "range",
        "s",
        "mem_section_usage",
        "pageflags",
        "memory_type",
        "e",
    ];
    // What is cut down to these answers as before.
    let small = match Btf::parse(reduce(&whole, &roots)) {
        Ok(small) => small,
        Err(e) => panic!("the reduced types: {e}"),
    };
    for (name, path) in FIELDS {
        let field = whole.field(name, path);
        if let Ok(field) = &field {
            assert!(field.offset <= u64::from(u32::MAX) * 32);
        }
        assert_eq!(small.field(name, path), field, "{name}.{path}");
        assert_eq!(small.size(name), whole.size(name));
    }
    for name in ["pageflags", "memory_type", "e"] {
        let of = |btf: &Btf| {
            let all = btf.enumerators(name).ok();
            all.map(|all| {
                all.iter()
                    .map(|(n, v)| ((*n).to_owned(), *v))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(of(&small), of(&whole), "{name}");
    }
    if let Ok(layouts) = Layouts::from_btf(&whole) {
        assert!(layouts.page.head_bit < 64);
        assert!(layouts.page.flag_names.iter().all(|(bit, _)| *bit < 64));
    }
}

/// A file of these bytes, by a path that lives as long as it does.
fn file(data: &[u8]) -> Option<(std::fs::File, PathBuf)> {
    let fd = memfd_create("fuzzed", MFdFlags::MFD_CLOEXEC).ok()?;
    let mut file = std::fs::File::from(fd);
    file.write_all(data).ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Some((file, path))
}

/// A vmlinux.
pub(crate) fn vmlinux(data: &[u8]) {
    let Some((_file, path)) = file(data) else {
        return;
    };
    match KernelInfo::from_vmlinux(&path) {
        Ok(info) => {
            assert!(info.symbols().keys().all(|s| SYMBOLS.contains(&s.as_str())));
            assert!(info.btf_bytes() <= data.len());
            assert!(info.build_id().is_none_or(|id| id.len() <= data.len()));
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// A dump of a guest's memory, or a recorded image.
pub(crate) fn dump(data: &[u8]) {
    if let Ok(image) = SparseImage::decode(data) {
        memory(&image, data.len());
        match SparseImage::decode(&image.encode()) {
            Ok(again) => assert_eq!(again, image),
            Err(e) => panic!("an image of our own: {e}"),
        }
        return;
    }
    let Some((_file, path)) = file(data) else {
        return;
    };
    if let Ok(dump) = DumpMemory::open(&path) {
        // Segments may share bytes of the file, so that there is more memory than file.
        memory(&dump, usize::MAX);
    }
}

/// What every source of memory keeps: its ranges ascend, all of them can be read, and nothing
/// beside them.
fn memory(memory: &dyn Memory, most: usize) {
    let mut free = 0;
    let mut bytes = 0usize;
    for range in memory.ranges() {
        assert!(
            range.start < range.end && (free == 0 || range.start > free),
            "{range:x?}"
        );
        free = range.end;
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        bytes = bytes.saturating_add(len);
        let mut buf = vec![0; len.min(4096)];
        let tail = range.end - buf.len() as u64;
        for at in [range.start, tail] {
            if let Err(e) = memory.read(at, &mut buf) {
                panic!("read {at:#x} of {range:x?}: {e}");
            }
        }
        let mut one = [0];
        if range.start > 0 {
            assert!(memory.read(range.start - 1, &mut one).is_err());
        }
        assert!(memory.read(range.end, &mut one).is_err());
        buf.push(0);
        assert!(memory.read(tail, &mut buf).is_err());
    }
    assert!(bytes <= most);
}
