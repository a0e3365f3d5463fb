//! `zonedev core`: the memory of a guest that was kept, for drgn and crash.

use std::io::{Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};

use super::args::{BuildOptions, CoreArgs};
use super::exit::{Exit, Failure};
use super::{inspect, setup};
use crate::record::CORE;

/// Bytes that are written, or left out as a hole, at a time.
const BLOCK: usize = 64 << 10;

pub(super) fn run(project: &Utf8Path, args: &CoreArgs) -> Result<Exit, Failure> {
    let (folder, record) = inspect::read(project, &args.run)?;
    let mut found = Vec::new();
    for id in inspect::cells(&record, &args.cell, args.kernel.as_deref())? {
        let file = folder.cell_dir(id)?.join(CORE);
        if file.is_file() {
            found.push((id, file));
        }
    }
    let (id, kept) = match found.as_slice() {
        [one] => one,
        [] => {
            return Err(Failure::nothing_selected(
                "the memory of this cell's guest was not kept",
                "run it again with --dump-hung; only a guest that hangs leaves its memory",
            ));
        }
        many => {
            let kernels: Vec<&str> = many.iter().map(|(id, _)| id.kernel.as_str()).collect();
            return Err(Failure::request(
                format!(
                    "it was kept on {} kernels: {}",
                    many.len(),
                    kernels.join(", ")
                ),
                "name one with -k",
            ));
        }
    };
    let out = match &args.out {
        Some(out) => out.clone(),
        None => Utf8PathBuf::from(format!("{}.core", id.case)),
    };
    let bytes = unpack(kept, &out)
        .map_err(|e| Failure::harness(format!("failed to unpack {kept} into {out}: {e}")))?;
    outln!("{out}: {} MiB of {id}", bytes >> 20);
    let kernel = record.kernels.get(id.side);
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    match kernel.and_then(|k| ctx.cache.vmlinux(&k.build_key)) {
        Some(vmlinux) => {
            outln!("  drgn -c {out} -s {vmlinux}");
            outln!("  crash {vmlinux} {out}");
        }
        None => outln!(
            "its vmlinux is no longer in the cache: `zonedev build {}` builds it again",
            id.kernel
        ),
    }
    Ok(Exit::Good)
}

/// Writes the core to a new file, zeroes as holes. Gives its size in bytes.
fn unpack(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<u64> {
    let mut source = zstd::Decoder::new(fs_err::File::open(from)?)?;
    let mut target = fs_err::File::create_new(to)?;
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match source.read(&mut block[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            break;
        }
        let data = &block[..filled];
        if data.iter().all(|b| *b == 0) {
            target.seek(SeekFrom::Current(filled as i64))?;
        } else {
            target.write_all(data)?;
        }
        bytes += filled as u64;
    }
    target.set_len(bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_out_again_with_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut memory = vec![0; 3 * BLOCK + 17];
        memory[BLOCK + 3] = 7;
        let kept = dir.join("kept");
        fs_err::write(&kept, zstd::encode_all(&memory[..], 1).unwrap()).unwrap();
        let out = dir.join("out");
        assert_eq!(unpack(&kept, &out).unwrap(), memory.len() as u64);
        assert_eq!(fs_err::read(&out).unwrap(), memory);
        // What is there is not written over.
        assert!(unpack(&kept, &out).is_err());
    }
}
