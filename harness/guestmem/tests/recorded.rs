//! Readings of recorded guests, one of each era.
//!
//! Each guest had an NVDIMM with labels and three namespaces (fsdax map=mem of 128 MiB, fsdax
//! map=dev of 128 MiB, devdax align 2M of 64 MiB), and test_hmm. On the first, ext4 with two files: one of 16
//! pages, mapped and touched, 4 of them held by vmsplice; one of 4 MiB, mapped and touched. On the
//! third, 2 MiB mapped and touched.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Recorded, check_shape, recorded};
use guestmem::{
    AttachError, DumpMemory, KernelInfo, Memory, PageKind, PagesReading, Part, ProblemKind,
    ProcessMemory, Region, Segment, SparseImage, Target,
};
use std::fmt::Write;

fn read(guest: &Recorded) -> PagesReading {
    let target = Target::attach(&guest.memory, &guest.kernel()).unwrap();
    let reading = target.read_pages(&guest.memory);
    check_shape(&reading);
    reading
}

/// A line a run, without what differs from boot to boot.
fn text(reading: &PagesReading) -> String {
    let mut out = String::new();
    for r in &reading.regions {
        let (kind, owner) = (r.kind, r.owner.as_deref().unwrap_or("-"));
        writeln!(
            out,
            "{kind:?} {owner} pfn {:#x} pages {} metadata {} shift {} altmap {} range {}/{}",
            r.start_pfn,
            r.pages,
            r.metadata_pages,
            r.pgmap.vmemmap_shift,
            r.pgmap.altmap,
            r.pgmap.range,
            r.pgmap.ranges
        )
        .unwrap();
        for run in &r.runs {
            let s = &run.state;
            let offset = run.pfn - r.start_pfn;
            let flags: Vec<&str> = s.flags.iter().map(String::as_str).collect();
            write!(out, "  +{offset} {}: {:?}/{}", run.pages, s.part, s.order).unwrap();
            write!(out, " ref {} map {}", s.refcount, s.mapcount).unwrap();
            write!(out, " large {:?} pin {:?}", s.large_mapcount, s.pincount).unwrap();
            write!(out, " mapping {} share {:?}", s.mapping_set, s.share).unwrap();
            writeln!(out, " absent {} {}", s.absent, flags.join(",")).unwrap();
        }
    }
    for p in &reading.problems {
        writeln!(out, "{:?} {:?}+{}: {}", p.kind, p.pfn, p.pages, p.what).unwrap();
    }
    out
}

/// (pages, refcount) of a region, neighbours of equal count joined.
fn counts(region: &Region) -> Vec<(u64, i32)> {
    let mut all: Vec<(u64, i32)> = Vec::new();
    for run in &region.runs {
        match all.last_mut() {
            Some((pages, count)) if *count == run.state.refcount => *pages += run.pages,
            _ => all.push((run.pages, run.state.refcount)),
        }
    }
    all
}

fn region<'a>(reading: &'a PagesReading, owner: &str) -> &'a Region {
    let found = reading
        .regions
        .iter()
        .find(|r| r.owner.as_deref() == Some(owner));
    found.unwrap_or_else(|| panic!("no region of {owner}"))
}

fn kinds(reading: &PagesReading) -> Vec<PageKind> {
    reading.regions.iter().map(|r| r.kind).collect()
}

const KINDS: [PageKind; 5] = [
    PageKind::FsDax,
    PageKind::FsDax,
    PageKind::Generic,
    PageKind::Private,
    PageKind::Private,
];

#[test]
fn linux_5_10_idles_at_one_everywhere() {
    let reading = read(&recorded("5.10"));
    assert_eq!(reading.problems, []);
    assert_eq!(kinds(&reading), KINDS);
    assert_eq!(counts(&reading.regions[0]), [(32256, 1), (4, 2), (508, 1)]);
    let dev = region(&reading, "namespace0.1");
    assert_eq!((dev.metadata_pages, dev.pgmap.altmap), (1024, true));
    assert_eq!(counts(dev), [(31744, 1)]);
    assert_eq!(counts(region(&reading, "dax0.2")), [(16384, 1)]);
    assert_eq!(counts(region(&reading, "hmm_dmirror")), [(65536, 1)]);
    insta::assert_snapshot!(text(&reading));
}

#[test]
fn linux_6_12_idles_private_pages_at_zero_and_has_compound_devdax() {
    let reading = read(&recorded("6.12"));
    assert_eq!(reading.problems, []);
    assert_eq!(kinds(&reading), KINDS);
    assert_eq!(counts(&reading.regions[0]), [(32256, 1), (4, 2), (508, 1)]);
    assert_eq!(counts(region(&reading, "hmm_dmirror")), [(65536, 0)]);
    let dax = region(&reading, "dax0.2");
    assert_eq!(dax.pgmap.vmemmap_shift, 9);
    assert_eq!(counts(dax), [(1, 1), (511, 0)].repeat(32));
    let parts: Vec<Part> = dax.runs.iter().map(|r| r.state.part).collect();
    assert_eq!(parts, [Part::Head, Part::Tail].repeat(32));
    assert!(dax.runs.iter().all(|r| r.state.order == 9));
    insta::assert_snapshot!(text(&reading));
}

/// Run with `-cpu max`, so with page tables of five levels, and with tails that name their heads by
/// a mask; the second file is mapped by 2 MiB there.
#[test]
fn linux_7_3_idles_fsdax_at_zero_and_counts_mappings() {
    let guest = recorded("7.3");
    let target = Target::attach(&guest.memory, &guest.kernel()).unwrap();
    let info = target.vmcoreinfo();
    assert_eq!(info.number("NUMBER(pgtable_l5_enabled)"), Ok(1));
    let word = u64::try_from(info.number("OFFSET(page.compound_info)").unwrap()).unwrap();
    let tail = info.address("SYMBOL(vmemmap)").unwrap() + (0x11_0000 + 5) * 64;
    let mask = target.virt(&guest.memory).uint(tail + word, 8).unwrap();
    assert_eq!(mask, u64::MAX << (9 + 6) | 1);
    let reading = read(&guest);
    assert_eq!(reading.problems, []);
    assert_eq!(kinds(&reading), KINDS);
    let [large, tails] = [(1, 1), (511, 0)];
    assert_eq!(
        counts(&reading.regions[0]),
        [
            (31232, 0),
            large,
            tails,
            large,
            tails,
            (4, 2),
            (12, 1),
            (496, 0)
        ]
    );
    let head = &reading.regions[0].runs[1].state;
    assert_eq!((head.order, head.large_mapcount), (9, Some(1)));
    assert_eq!(counts(region(&reading, "namespace0.1")), [(31744, 0)]);
    assert_eq!(counts(region(&reading, "hmm_dmirror")), [(65536, 0)]);
    let mut dax = [(1, 1), (511, 0)].repeat(32);
    dax[2] = (1, 2);
    assert_eq!(counts(region(&reading, "dax0.2")), dax);
    insta::assert_snapshot!(text(&reading));
}

/// An ELF dump of an image, as QEMU's dump-guest-memory lays it out.
fn elf_dump(image: &SparseImage) -> Vec<u8> {
    let parts = image.parts();
    let count = u16::try_from(parts.len()).unwrap();
    let mut f = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    f.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0u64, 64, 0] {
        f.extend(word.to_le_bytes());
    }
    f.extend([0; 4]);
    for half in [64, 56, count, 0, 0, 0] {
        f.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * parts.len() as u64;
    for (gpa, bytes) in parts {
        let len = bytes.len() as u64;
        f.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        for word in [offset, 0, *gpa, len, len, 0] {
            f.extend(word.to_le_bytes());
        }
        offset += len;
    }
    f.extend(parts.iter().flat_map(|p| &p.1));
    f
}

#[test]
fn a_dump_and_a_process_give_the_same_reading() {
    let guest = recorded("6.12");
    let reading = read(&guest);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump");
    std::fs::write(&path, elf_dump(&guest.memory)).unwrap();
    let parts = guest.memory.parts().iter();
    let segments = parts.map(|(gpa, bytes)| Segment {
        gpa: *gpa,
        len: bytes.len() as u64,
        hva: bytes.as_ptr() as u64,
    });
    let pid = std::process::id().cast_signed();
    let process = ProcessMemory::new(pid, segments.collect()).unwrap();
    let sources: [Box<dyn Memory>; 2] = [
        Box::new(DumpMemory::open(&path).unwrap()),
        Box::new(process),
    ];
    for mem in sources {
        let target = Target::attach(&*mem, &guest.kernel()).unwrap();
        assert_eq!(target.read_pages(&*mem), reading);
    }
}

#[test]
fn a_reading_survives_json() {
    let reading = read(&recorded("6.12"));
    let json = serde_json::to_string(&reading).unwrap();
    assert_eq!(
        serde_json::from_str::<PagesReading>(&json).unwrap(),
        reading
    );
}

#[test]
fn without_the_symbol_the_note_is_found_by_search() {
    for era in ["5.10", "6.12", "7.3"] {
        let mut guest = recorded(era);
        let by_symbol = read(&guest);
        guest.symbols.remove("vmcoreinfo_note");
        assert_eq!(read(&guest), by_symbol, "{era}");
    }
}

#[test]
fn another_kernel_s_vmlinux_is_refused() {
    let mut guest = recorded("6.12");
    let kernel =
        KernelInfo::from_parts(guest.symbols.clone(), guest.btf.clone(), Some(vec![1; 20]));
    let wrong_id = Target::attach(&guest.memory, &kernel.unwrap());
    assert!(
        matches!(wrong_id, Err(AttachError::OtherKernel(_))),
        "{wrong_id:?}"
    );

    guest.btf = recorded("5.10").btf;
    let wrong_types = Target::attach(&guest.memory, &guest.kernel());
    assert!(
        matches!(wrong_types, Err(AttachError::OtherKernel(_))),
        "{wrong_types:?}"
    );

    let nothing = SparseImage::new(vec![(0, vec![0; 1 << 20])]).unwrap();
    let nowhere = Target::attach(&nothing, &guest.kernel());
    assert!(
        matches!(nowhere, Err(AttachError::NotFound { .. })),
        "{nowhere:?}"
    );
}

#[test]
fn memory_that_is_missing_makes_absent_pages_and_a_problem() {
    let guest = recorded("5.10");
    let whole = read(&guest);
    // Leave out the pmem, where the struct pages of the map=dev namespace are.
    let parts = guest.memory.parts().iter();
    let ram = parts.filter(|p| p.0 < 1 << 32).cloned().collect();
    let ram = SparseImage::new(ram).unwrap();
    let target = Target::attach(&ram, &guest.kernel()).unwrap();
    let reading = target.read_pages(&ram);
    check_shape(&reading);
    let dev = region(&reading, "namespace0.1");
    assert!(dev.runs.iter().any(|r| r.state.absent));
    assert!(!reading.is_whole());
    assert!(
        reading
            .problems
            .iter()
            .all(|p| p.kind == ProblemKind::Absent)
    );
    for (ours, all) in reading.regions.iter().zip(&whole.regions) {
        assert!(ours == all || ours.pgmap.altmap);
    }
}
