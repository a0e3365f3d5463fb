//! A run's folder.
//!
//! ```text
//! record.json      the run, versioned      schema.json    its JSON schema
//! journal.jsonl    every event, appended
//! cells/SIDE-KERNEL/SUITE/FIXTURE/CASE/   cell.json.zst  console.log  observation.snap
//!     profile.json.zst, of a kernel that profiles itself
//! ```

use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use proto::Profile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{CellId, CellRecord, Event, RECORD_VERSION, RunRecord};

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
            .open(path.join("journal.jsonl"))?;
        let schema = schemars::schema_for!(RunRecord);
        let folder = RunFolder {
            path: path.to_owned(),
            journal: Some(journal),
        };
        folder.write_json(Utf8Path::new("schema.json"), &schema)?;
        Ok(folder)
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

    /// Reads a cell back.
    ///
    /// # Errors
    /// Where it isn't there or isn't one.
    pub fn read_cell(&self, id: &CellId) -> Result<CellRecord, RunFolderError> {
        read_packed(&self.path.join(id.folder()).join("cell.json.zst"))
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
        let path = self.path.join("record.json");
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

fn write_packed(path: &Utf8Path, value: &impl Serialize) -> Result<(), RunFolderError> {
    let json = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    write_atomically(path, &zstd::encode_all(&json[..], 3)?)
}

fn read_packed<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, RunFolderError> {
    let json = zstd::decode_all(fs::File::open(path)?)?;
    serde_json::from_slice(&json).map_err(|source| RunFolderError::Json {
        path: path.to_owned(),
        source,
    })
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
    fs::write(&new, bytes)?;
    fs::rename(&new, path)?;
    Ok(())
}
