//! Prints the ZONE_DEVICE pages of a paused guest as a table, and how long reading them took.
//!
//! ```text
//! pages --vmlinux V --dump DUMP
//! pages --vmlinux V --pid PID --segments FILE     lines of "GPA LENGTH HVA", hexadecimal
//! pages --vmlinux V --recorded DIR                a recorded guest, as --record writes it
//! ```
//!
//! `--json` prints the reading instead, `--repeat N` reads N times and tells the best,
//! `--record DIR` writes a small recording of what was read: memory, types and symbols.

use guestmem::{
    DumpMemory, KernelInfo, Memory, PagesReading, ProcessMemory, Recorder, Segment, SparseImage,
    Target, reduce,
};
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The types that a recording keeps.
const TYPES: [&str; 12] = [
    "page",
    "folio",
    "dev_pagemap",
    "range",
    "resource",
    "xarray",
    "xa_node",
    "mem_section",
    "mem_section_usage",
    "vmem_altmap",
    "memory_type",
    "pageflags",
];

#[derive(Default)]
struct Options {
    vmlinux: Option<PathBuf>,
    dump: Option<PathBuf>,
    pid: Option<i32>,
    segments: Option<PathBuf>,
    recorded: Option<PathBuf>,
    record: Option<PathBuf>,
    json: bool,
    repeat: u32,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut o = Options::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--vmlinux" => o.vmlinux = Some(value()?.into()),
            "--dump" => o.dump = Some(value()?.into()),
            "--pid" => o.pid = Some(value()?.parse()?),
            "--segments" => o.segments = Some(value()?.into()),
            "--recorded" => o.recorded = Some(value()?.into()),
            "--record" => o.record = Some(value()?.into()),
            "--repeat" => o.repeat = value()?.parse()?,
            "--json" => o.json = true,
            _ => return Err(format!("{arg} isn't known; see the top of examples/pages.rs").into()),
        }
    }
    Ok(o)
}

fn segments(path: &Path) -> Result<Vec<Segment>, Box<dyn Error>> {
    let mut all = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let words: Result<Vec<u64>, _> = line
            .split_whitespace()
            .map(|w| u64::from_str_radix(w.trim_start_matches("0x"), 16))
            .collect();
        let [gpa, len, hva] = words?[..] else {
            return Err(format!("{line:?} isn't GPA LENGTH HVA").into());
        };
        all.push(Segment { gpa, len, hva });
    }
    Ok(all)
}

fn memory(o: &Options) -> Result<Box<dyn Memory>, Box<dyn Error>> {
    Ok(match (&o.dump, o.pid, &o.segments, &o.recorded) {
        (Some(dump), None, None, None) => Box::new(DumpMemory::open(dump)?),
        (None, Some(pid), Some(path), None) => Box::new(ProcessMemory::new(pid, segments(path)?)?),
        (None, None, None, Some(dir)) => {
            let packed = std::fs::read(dir.join("memory.zst"))?;
            Box::new(SparseImage::decode(&zstd::decode_all(&packed[..])?)?)
        }
        _ => return Err("give --dump, or --pid and --segments, or --recorded".into()),
    })
}

fn kernel(o: &Options) -> Result<KernelInfo, Box<dyn Error>> {
    match (&o.vmlinux, &o.recorded) {
        (Some(vmlinux), _) => Ok(KernelInfo::from_vmlinux(vmlinux)?),
        (None, Some(dir)) => {
            let symbols: HashMap<String, u64> =
                serde_json::from_slice(&std::fs::read(dir.join("symbols.json"))?)?;
            let btf = zstd::decode_all(&std::fs::read(dir.join("btf.zst"))?[..])?;
            Ok(KernelInfo::from_parts(symbols, btf, None)?)
        }
        _ => Err("give --vmlinux".into()),
    }
}

fn record(
    dir: &Path,
    o: &Options,
    mem: &dyn Memory,
    info: &KernelInfo,
) -> Result<(), Box<dyn Error>> {
    let recorder = Recorder::new(mem);
    Target::attach(&recorder, info)?.read_pages(&recorder);
    std::fs::create_dir_all(dir)?;
    let pack =
        |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), zstd::encode_all(bytes, 19)?);
    pack("memory.zst", &recorder.to_image()?.encode())?;
    let vmlinux = o.vmlinux.as_ref().ok_or("--record needs --vmlinux")?;
    let btf = reduce(KernelInfo::from_vmlinux(vmlinux)?.btf(), &TYPES);
    pack("btf.zst", &btf)?;
    let symbols: std::collections::BTreeMap<_, _> = info.symbols().iter().collect();
    std::fs::write(
        dir.join("symbols.json"),
        serde_json::to_vec_pretty(&symbols)?,
    )?;
    Ok(())
}

fn table(reading: &PagesReading) {
    for r in &reading.regions {
        println!(
            "{:?} {} pfn {:#x} pages {} metadata {} vmemmap_shift {} altmap {} runs {}",
            r.kind,
            r.owner.as_deref().unwrap_or("?"),
            r.start_pfn,
            r.pages,
            r.metadata_pages,
            r.pgmap.vmemmap_shift,
            r.pgmap.altmap,
            r.runs.len()
        );
        for run in r.runs.iter().take(24) {
            let s = &run.state;
            println!(
                "  {:#11x} {:>8}  ref {:>4} map {:>3} large {:?} pin {:?} order {} {:?} mapping {} share {:?} {} {}",
                run.pfn,
                run.pages,
                s.refcount,
                s.mapcount,
                s.large_mapcount,
                s.pincount,
                s.order,
                s.part,
                s.mapping_set,
                s.share,
                s.flags.iter().cloned().collect::<Vec<_>>().join(","),
                if s.absent { "ABSENT" } else { "" }
            );
        }
        if r.runs.len() > 24 {
            println!("  … {} more runs", r.runs.len() - 24);
        }
    }
    for p in &reading.problems {
        println!(
            "problem {:?} pfn {:x?} pages {}: {}",
            p.kind, p.pfn, p.pages, p.what
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let o = options()?;
    let start = Instant::now();
    let info = kernel(&o)?;
    let loaded = start.elapsed();
    let mem = memory(&o)?;
    let start = Instant::now();
    let target = Target::attach(&*mem, &info)?;
    let attached = start.elapsed();
    let mut best = Duration::MAX;
    let mut reading = PagesReading::default();
    for _ in 0..o.repeat.max(1) {
        let start = Instant::now();
        reading = target.read_pages(&*mem);
        best = best.min(start.elapsed());
    }
    if o.json {
        println!("{}", serde_json::to_string(&reading)?);
    } else {
        table(&reading);
    }
    let pages: u64 = reading.regions.iter().map(|r| r.pages).sum();
    eprintln!("kernel {loaded:.1?}, attach {attached:.1?}, {pages} pages in {best:.1?}");
    if let Some(dir) = &o.record {
        record(dir, &o, &*mem, &info)?;
    }
    Ok(())
}
