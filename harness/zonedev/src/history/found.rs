//! Runs in folders and archives, to be imported.

use std::collections::BTreeMap;
use std::io::{self, Read};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::HistoryError;
use crate::record::{CellId, CellVerdict, RunFolder, RunRecord};

/// Folders within folders that are looked into.
const DEEPEST: usize = 6;
/// Bytes of one file of an archive, unpacked, and of all of them together.
const MAX_FILE: u64 = 1 << 30;
const MAX_ALL: u64 = 2 << 30;
/// Files of a run that are read.
const WANTED: [&str; 3] = ["record.json", "journal.jsonl", "cell.json.zst"];

/// A run as it is imported.
#[derive(Debug)]
pub struct Found {
    /// Where it was: a folder, or a file and the folder in it.
    pub place: String,
    /// The run, its cells' times in milliseconds, and how often those that ran more than once ran and
    /// did not pass.
    pub run: Result<FoundRun, HistoryError>,
}

/// What a run's folder gives.
#[derive(Clone, Debug)]
pub struct FoundRun {
    /// The run.
    pub record: RunRecord,
    /// Milliseconds by cell.
    pub took_ms: BTreeMap<CellId, u64>,
    /// Of cells that ran more than once: how often they ran, and how often they did not pass.
    pub tries: BTreeMap<CellId, (u32, u32)>,
}

/// The runs of a run's folder, of a folder with several somewhere in it, or of a .tar, .tar.gz,
/// .tar.zst or .zip of such. A broken one is among them, as its error; an empty list is of a place
/// without any.
///
/// # Errors
/// Where the place can't be read at all.
pub fn find(path: &Utf8Path) -> Result<Vec<Found>, HistoryError> {
    if fs_err::metadata(path)?.is_dir() {
        let mut out = Vec::new();
        in_folder(path, DEEPEST, &mut out);
        return Ok(out);
    }
    let dir = tempfile::tempdir()?;
    let to =
        Utf8Path::from_path(dir.path()).ok_or_else(|| io::Error::other("TMPDIR is no text"))?;
    unpack(path, to).map_err(|why| HistoryError::Archive {
        path: path.to_owned(),
        why: why.to_string(),
    })?;
    let mut out = Vec::new();
    in_folder(to, DEEPEST + 2, &mut out);
    for found in &mut out {
        let within = found
            .place
            .strip_prefix(to.as_str())
            .unwrap_or(&found.place);
        found.place = format!("{path}{within}");
    }
    Ok(out)
}

fn in_folder(dir: &Utf8Path, deep: usize, out: &mut Vec<Found>) {
    let here = |name: &str| dir.join(name).is_file();
    if here("record.json") || here("begun.json") || here("journal.jsonl") {
        out.push(Found {
            place: dir.to_string(),
            run: read(&RunFolder::open(dir)),
        });
        return;
    }
    let mut folders: Vec<Utf8PathBuf> = Vec::new();
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        // A link (`latest`) leads to what is there already, or anywhere.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.into_path());
        }
    }
    folders.sort();
    for folder in folders {
        if deep > 0 {
            in_folder(&folder, deep - 1, out);
        }
    }
}

fn read(folder: &RunFolder) -> Result<FoundRun, HistoryError> {
    let record = folder.read_record()?;
    let took_ms = folder.times()?;
    let repeats = |id: &CellId| {
        let repeats = folder.read_cell(id).ok()?.repeats?;
        let failed = u32::try_from(repeats.failed.len()).unwrap_or(u32::MAX);
        Some((id.clone(), (repeats.runs, failed)))
    };
    // With --repeat every cell ran more than once: one that passed tells whether the others are to be
    // read too. Without, only what failed may have.
    let is = |verdict: &CellVerdict, pass| match verdict {
        CellVerdict::Pass {} => pass,
        CellVerdict::Fail { .. } => true,
        CellVerdict::Skip { .. } | CellVerdict::Error { .. } => false,
    };
    let mut passed = record
        .cells
        .iter()
        .filter(|(id, verdict)| *verdict == CellVerdict::Pass {} && id.suite != "boot");
    let all = passed.next().is_some_and(|(id, _)| repeats(id).is_some());
    let ran = record.cells.iter().filter(|(_, verdict)| is(verdict, all));
    let tries = ran.filter_map(|(id, _)| repeats(id)).collect();
    Ok(FoundRun {
        tries,
        record,
        took_ms,
    })
}

/// Unpacks the runs' and the cells' records, and the journals. Names lead nowhere else, links are passed over, and what an
/// archive may have unpacked is bounded.
fn unpack(archive: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    let file = fs_err::File::open(archive)?;
    let name = archive.file_name().unwrap_or_default();
    let mut left = MAX_ALL;
    if name.ends_with(".zip") {
        let mut zip = zip::ZipArchive::new(file)?;
        for n in 0..zip.len() {
            let entry = zip.by_index(n)?;
            if entry.is_file() {
                let path = Utf8PathBuf::from(entry.name()?.as_ref());
                keep(&path, entry, to, &mut left)?;
            }
        }
        return Ok(());
    }
    let plain: Box<dyn Read> = match name {
        n if n.ends_with(".tar") => Box::new(file),
        n if n.ends_with(".tar.gz") || n.ends_with(".tgz") => {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        }
        n if n.ends_with(".tar.zst") => Box::new(zstd::Decoder::new(file)?),
        _ => {
            return Err(io::Error::other(
                "it is none that is known (.tar, .tar.gz, .tar.zst, .zip)",
            ));
        }
    };
    // What is not wanted is unpacked too, to be passed over.
    let mut tar = tar::Archive::new(plain.take(MAX_ALL));
    for entry in tar.entries()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if let Ok(path) = Utf8PathBuf::from_path_buf(entry.path()?.into_owned()) {
            keep(&path, entry, to, &mut left)?;
        }
    }
    Ok(())
}

fn keep(path: &Utf8Path, from: impl Read, to: &Utf8Path, left: &mut u64) -> io::Result<()> {
    if !WANTED.contains(&path.file_name().unwrap_or_default()) {
        return Ok(());
    }
    let mut place = to.to_owned();
    for part in path.components() {
        match part {
            Utf8Component::Normal(name) => place.push(name),
            Utf8Component::CurDir => {}
            _ => return Err(io::Error::other(format!("it has a file {path:?}"))),
        }
    }
    if let Some(parent) = place.parent() {
        fs_err::create_dir_all(parent)?;
    }
    let most = MAX_FILE.min(*left);
    let mut file = fs_err::File::create(&place)?;
    let written = io::copy(&mut from.take(most + 1), &mut file)?;
    if written > most {
        return Err(io::Error::other(format!(
            "{path:?} has more than {most} bytes"
        )));
    }
    *left -= written;
    Ok(())
}
