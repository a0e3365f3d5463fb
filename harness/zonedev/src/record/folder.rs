//! A run's folder.
//!
//! ```text
//! begun.json       what the run is         journal.jsonl  every event, appended
//! record.json      the run, versioned, once it is over    schema.json  its JSON schema
//! cells/SIDE-KERNEL/SUITE/FIXTURE/CASE/   cell.json.zst  console.log  observation.snap
//!     profile.json.zst, of a kernel that profiles itself
//! part.json        of one part of several: which, and of what
//! ```
//!
//! Files are written aside and renamed, the journal is appended to: a harness that is killed at any
//! moment leaves whole cells, and a journal whose last line may be torn. The journal is locked as
//! long as its harness lives.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use proto::Profile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{Begun, CellId, CellRecord, Event, Part, RECORD_VERSION, RunRecord};

const JOURNAL: &str = "journal.jsonl";
const BEGUN: &str = "begun.json";
const PART: &str = "part.json";
/// Bytes that a packed file may have unpacked.
const MAX_UNPACKED: u64 = 1 << 30;

/// Why a run's folder could not be written or read.
#[derive(Debug, Error)]
pub enum RunFolderError {
    /// The file system said no; the message names the path.
    #[error("use the run's folder: {0}")]
    Io(#[from] std::io::Error),
    /// A file is not what it should be.
    #[error("read {path}: {source}")]
    Json {
        /// The file.
        path: Utf8PathBuf,
        /// What serde said.
        source: serde_json::Error,
    },
    /// A file unpacks to more than any cell has.
    #[error("read {path}: it has more than {most} bytes, unpacked")]
    TooLong {
        /// The file.
        path: Utf8PathBuf,
        /// How many are read.
        most: u64,
    },
    /// Another harness runs it.
    #[error("use the run's folder: {path} is in use; its harness still runs")]
    InUse {
        /// The journal.
        path: Utf8PathBuf,
    },
    /// The record is of another version.
    #[error("read {path}: it has record version {found}, this zonedev reads {RECORD_VERSION}")]
    Version {
        /// The file.
        path: Utf8PathBuf,
        /// Its version.
        found: u64,
    },
}

/// A run's folder, open for writing by one harness or for reading by any.
#[derive(Debug)]
pub struct RunFolder {
    path: Utf8PathBuf,
    journal: Option<fs::File>,
}

impl RunFolder {
    /// Makes a new folder; `path` must not hold a run yet.
    ///
    /// # Errors
    /// Where the folder can't be made or has a journal already.
    pub fn create(path: &Utf8Path) -> Result<Self, RunFolderError> {
        fs::create_dir_all(path)?;
        let journal = fs::OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(path.join(JOURNAL))?;
        lock(&journal)?;
        let schema = schemars::schema_for!(RunRecord);
        let folder = RunFolder {
            path: path.to_owned(),
            journal: Some(journal),
        };
        folder.write_json(Utf8Path::new("schema.json"), &schema)?;
        Ok(folder)
    }

    /// Opens the folder of a run that was cut off, to go on with it.
    ///
    /// # Errors
    /// Where it holds no run, or one that still runs.
    pub fn resume(path: &Utf8Path) -> Result<Self, RunFolderError> {
        let journal = path.join(JOURNAL);
        let mut file = fs::OpenOptions::new()
            .read(true)
            .append(true)
            .open(&journal)?;
        lock(&file)?;
        // Nothing is lost of a torn line, and nothing is joined to it.
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        sweep(path);
        Ok(RunFolder {
            path: path.to_owned(),
            journal: Some(file),
        })
    }

    /// Whether a harness writes to it.
    pub fn is_running(&self) -> bool {
        fs::File::open(self.path.join(JOURNAL))
            .is_ok_and(|file| matches!(lock(&file), Err(RunFolderError::InUse { .. })))
    }

    /// Opens an existing one for reading.
    pub fn open(path: &Utf8Path) -> Self {
        RunFolder {
            path: path.to_owned(),
            journal: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// The folder of one cell, made where it is missing.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn cell_dir(&self, id: &CellId) -> Result<Utf8PathBuf, RunFolderError> {
        let dir = self.path.join(id.folder());
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Appends one event to the journal.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn journal(&mut self, event: &Event) -> Result<(), RunFolderError> {
        if let Some(file) = &mut self.journal {
            let mut line = serde_json::to_vec(event).map_err(std::io::Error::from)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        Ok(())
    }

    /// Writes a cell.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write_cell(&self, cell: &CellRecord) -> Result<(), RunFolderError> {
        write_packed(&self.cell_dir(&cell.id)?.join("cell.json.zst"), cell)
    }

    /// The cell, if it has finished: its record is there and whole, and tells of a kernel, not of a
    /// harness that failed.
    pub fn finished(&self, id: &CellId) -> Option<CellRecord> {
        let cell = self.read_cell(id).ok()?;
        (cell.id == *id && cell.end.not_the_kernel().is_none()).then_some(cell)
    }

    /// Writes `begun.json`.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write_begun(&self, begun: &Begun) -> Result<(), RunFolderError> {
        self.write_json(Utf8Path::new(BEGUN), begun)
    }

    /// Reads `begun.json`.
    ///
    /// # Errors
    /// Where it isn't there, isn't one, or is of another version.
    pub fn read_begun(&self) -> Result<Begun, RunFolderError> {
        self.read_versioned(BEGUN)
    }

    /// Writes `part.json`.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write_part(&self, part: &Part) -> Result<(), RunFolderError> {
        self.write_json(Utf8Path::new(PART), part)
    }

    /// Reads `part.json`: none of a run that is whole.
    ///
    /// # Errors
    /// Where it isn't one, or is of another version.
    pub fn read_part(&self) -> Result<Option<Part>, RunFolderError> {
        match self.path.join(PART).exists() {
            true => self.read_versioned(PART).map(Some),
            false => Ok(None),
        }
    }

    /// Every event of the journal that is whole; what else is in it is left out.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn events(&self) -> Result<Vec<Event>, RunFolderError> {
        let bytes = fs::read(self.path.join(JOURNAL))?;
        let lines = bytes.split(|b| *b == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// What the journal tells loudly, each once.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn notices(&self) -> Result<Vec<String>, RunFolderError> {
        let mut out = Vec::new();
        for event in self.events()? {
            match event {
                Event::Notice { message } if !out.contains(&message) => out.push(message),
                _ => {}
            }
        }
        Ok(out)
    }

    /// Copies a cell with all its files from another run.
    ///
    /// # Errors
    /// Where they can't be read or written.
    pub fn copy_cell(&self, from: &RunFolder, id: &CellId) -> Result<(), RunFolderError> {
        let to = self.cell_dir(id)?;
        for entry in fs::read_dir(from.path.join(id.folder()))? {
            let entry = entry?;
            // A case may have another's name and more: its folder is no file of this one.
            if entry.file_type()?.is_file() {
                let name = entry.file_name();
                fs::copy(entry.path(), to.as_std_path().join(name))?;
            }
        }
        Ok(())
    }

    /// Reads a cell back.
    ///
    /// # Errors
    /// Where it isn't there or isn't one.
    pub fn read_cell(&self, id: &CellId) -> Result<CellRecord, RunFolderError> {
        read_packed(&self.path.join(id.folder()).join("cell.json.zst"))
    }

    /// How long each cell took, in milliseconds, by the journal; a run whose journal is not there
    /// has none.
    ///
    /// # Errors
    /// Where the journal can't be read.
    pub fn times(&self) -> Result<BTreeMap<CellId, u64>, RunFolderError> {
        let path = self.path.join(JOURNAL);
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        Ok(super::times::times(BufReader::new(fs::File::open(path)?))?)
    }

    /// Writes what a cell's kernel has counted.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write_profile(&self, id: &CellId, profile: &Profile) -> Result<(), RunFolderError> {
        write_packed(&self.cell_dir(id)?.join("profile.json.zst"), profile)
    }

    /// Whether a cell's kernel left what it has counted.
    pub fn has_profile(&self, id: &CellId) -> bool {
        self.path
            .join(id.folder())
            .join("profile.json.zst")
            .is_file()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Where it isn't there or isn't one.
    pub fn read_profile(&self, id: &CellId) -> Result<Profile, RunFolderError> {
        read_packed(&self.path.join(id.folder()).join("profile.json.zst"))
    }

    /// Writes `record.json`.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), RunFolderError> {
        self.write_json(Utf8Path::new("record.json"), record)
    }

    /// Reads `record.json`.
    ///
    /// # Errors
    /// Where it isn't there, isn't one, or is of another version.
    pub fn read_record(&self) -> Result<RunRecord, RunFolderError> {
        self.read_versioned("record.json")
    }

    fn read_versioned<T: DeserializeOwned>(&self, name: &str) -> Result<T, RunFolderError> {
        let path = self.path.join(name);
        let value: serde_json::Value = read_json(&path)?;
        let found = value.get("version").and_then(|v| v.as_u64()).unwrap_or(0);
        if found != u64::from(RECORD_VERSION) {
            return Err(RunFolderError::Version { path, found });
        }
        serde_json::from_value(value).map_err(|source| RunFolderError::Json { path, source })
    }

    fn write_json(&self, name: &Utf8Path, value: &impl Serialize) -> Result<(), RunFolderError> {
        let json = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
        write_atomically(&self.path.join(name), &json)
    }
}

/// Held until the file is closed.
fn lock(journal: &fs::File) -> Result<(), RunFolderError> {
    match journal.file().try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(RunFolderError::InUse {
            path: Utf8PathBuf::from_path_buf(journal.path().to_owned()).unwrap_or_default(),
        }),
        Err(TryLockError::Error(e)) => Err(e.into()),
    }
}

/// Removes what a harness wrote aside when it was killed. Where that can't be, the next one writes over it.
fn sweep(dir: &Utf8Path) {
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sweep(entry.path()),
            Ok(kind) if kind.is_file() && entry.path().extension() == Some("new") => {
                let _ = fs::remove_file(entry.path());
            }
            _ => {}
        }
    }
}

fn write_packed(path: &Utf8Path, value: &impl Serialize) -> Result<(), RunFolderError> {
    let json = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    write_atomically(path, &zstd::encode_all(&json[..], 3)?)
}

fn read_packed<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, RunFolderError> {
    let json = unpack(path, MAX_UNPACKED)?;
    serde_json::from_slice(&json).map_err(|source| RunFolderError::Json {
        path: path.to_owned(),
        source,
    })
}

fn unpack(path: &Utf8Path, most: u64) -> Result<Vec<u8>, RunFolderError> {
    let mut out = Vec::new();
    zstd::Decoder::new(fs::File::open(path)?)?
        .take(most + 1)
        .read_to_end(&mut out)?;
    if out.len() as u64 > most {
        return Err(RunFolderError::TooLong {
            path: path.to_owned(),
            most,
        });
    }
    Ok(out)
}

fn read_json<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, RunFolderError> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(|source| RunFolderError::Json {
        path: path.to_owned(),
        source,
    })
}

fn write_atomically(path: &Utf8Path, bytes: &[u8]) -> Result<(), RunFolderError> {
    let new = path.with_extension("new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() && new.symlink_metadata().is_ok_and(|m| m.is_file()) {
        // The space that it takes is wanted.
        let _ = fs::remove_file(&new);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::End;
    use crate::record::testing::cell;

    #[test]
    fn a_cells_names_lead_nowhere_else() {
        let mut cell = cell("generic/413", 0, "6.12");
        assert!(
            cell.id.folder().ends_with("/generic/413"),
            "{}",
            cell.id.folder()
        );
        cell.id.suite = "..".into();
        cell.id.case = "/../..//x y".into();
        let folder = cell.id.folder();
        assert!(
            folder.starts_with("cells/0-6.12/_/") && folder.ends_with("/_/_/_/_/x_y"),
            "{folder}"
        );
    }

    #[test]
    fn a_packed_file_that_unpacks_to_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("x.zst")).unwrap();
        fs::write(&path, zstd::encode_all(&[b' '; 5000][..], 1).unwrap()).unwrap();
        assert_eq!(unpack(&path, 5000).unwrap().len(), 5000);
        let refused = unpack(&path, 4999);
        assert!(
            matches!(refused, Err(RunFolderError::TooLong { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_run_that_was_cut_off_anywhere_can_be_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
        let event = |message: &str| Event::Notice {
            message: message.into(),
        };
        let mut folder = RunFolder::create(&path).unwrap();
        folder.journal(&event("one")).unwrap();
        let (done, torn, failed) = (cell("a", 0, "6.12"), cell("b", 0, "6.12"), {
            let mut failed = cell("c", 0, "6.12");
            failed.end = End::HarnessError {
                message: "x".into(),
            };
            failed
        });
        for cell in [&done, &torn, &failed] {
            folder.write_cell(cell).unwrap();
        }
        assert!(matches!(
            RunFolder::resume(&path),
            Err(RunFolderError::InUse { .. })
        ));
        assert!(RunFolder::open(&path).is_running());
        drop(folder);
        assert!(!RunFolder::open(&path).is_running());
        let journal = path.join(JOURNAL);
        let whole = fs::read(&journal).unwrap();
        let packed = path.join(torn.id.folder()).join("cell.json.zst");
        let bytes = fs::read(&packed).unwrap();
        for cut in 0..whole.len() {
            fs::write(&journal, &whole[..cut]).unwrap();
            fs::write(&packed, &bytes[..cut * bytes.len() / whole.len()]).unwrap();
            let mut folder = RunFolder::resume(&path).unwrap();
            folder.journal(&event("two")).unwrap();
            let text = fs::read_to_string(&journal).unwrap();
            let last: Event = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(last, event("two"), "{cut}");
            assert_eq!(folder.finished(&done.id).unwrap(), done);
            assert_eq!(folder.finished(&torn.id), None, "{cut}");
            assert_eq!(folder.finished(&failed.id), None);
        }
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_told_and_taken_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
        let folder = RunFolder::create(&path).unwrap();
        let begun = Begun {
            version: RECORD_VERSION,
            id: "r".into(),
            zonedev: "0".into(),
            started: "2020-01-01T00:00:00Z".into(),
            command: vec!["zonedev".into(), "matrix".into()],
            directory: "/".into(),
            accel: "tcg".into(),
            accel_reason: None,
            qemu: "7.2".into(),
            kernels: Vec::new(),
            cells: vec![cell("a", 0, "6.12").id],
        };
        folder.write_begun(&begun).unwrap();
        let record = crate::record::testing::run();
        folder.write_record(&record).unwrap();
        for name in [BEGUN, "record.json"] {
            let file = path.join(name);
            let whole = fs::read(&file).unwrap();
            for cut in 0..whole.len() {
                fs::write(&file, &whole[..cut]).unwrap();
                let told = match name {
                    BEGUN => folder.read_begun().map(drop),
                    _ => folder.read_record().map(drop),
                };
                assert!(
                    matches!(told, Err(RunFolderError::Json { .. })),
                    "{name} {cut}"
                );
            }
            fs::write(&file, &whole).unwrap();
        }
        assert_eq!(folder.read_begun().unwrap(), begun);
        assert_eq!(folder.read_record().unwrap(), record);
    }

    #[test]
    fn what_was_written_when_a_harness_was_killed_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
        let folder = RunFolder::create(&path).unwrap();
        let kept = cell("a", 0, "6.12");
        folder.write_cell(&kept).unwrap();
        let aside = folder.cell_dir(&kept.id).unwrap().join("cell.json.new");
        fs::write(&aside, "torn").unwrap();
        fs::write(path.join("record.new"), "torn").unwrap();
        drop(folder);
        let folder = RunFolder::resume(&path).unwrap();
        assert!(!aside.exists() && !path.join("record.new").exists());
        assert_eq!(folder.finished(&kept.id).unwrap(), kept);
    }
}
