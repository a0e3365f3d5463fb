//! Why the history can't be used.

use camino::Utf8PathBuf;
use thiserror::Error;

use crate::record::RunFolderError;

/// Why the history can't be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// There is no file yet.
    #[error("open the history {0}: there is none")]
    None(Utf8PathBuf),
    /// The file is something else.
    #[error("open the history {0}: it is no history of zonedev's")]
    NotOurs(Utf8PathBuf),
    /// A later zonedev wrote it.
    #[error("open the history {path}: it has version {found}, this zonedev knows up to {known}")]
    Newer {
        /// The file.
        path: Utf8PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// No run is named so.
    #[error("find the run `{0}` in the history")]
    NoRun(String),
    /// More than one run is named so.
    #[error("find the run `{name}` in the history: {n} are called so")]
    ManyRuns {
        /// What was asked for.
        name: String,
        /// How many there are.
        n: usize,
    },
    /// A record has a date that is none.
    #[error("read the date of run {run}: `{started}` is none")]
    Date {
        /// The run's name.
        run: String,
        /// What stands there.
        started: String,
    },
    /// A run's folder can't be read.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// The file system said no; the message names the path.
    #[error("use the history: {0}")]
    Io(#[from] std::io::Error),
    /// An archive is broken.
    #[error("read the archive {path}: {why}")]
    Archive {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// SQLite said no.
    #[error("use the history: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Text in the database that should be JSON isn't.
    #[error("use the history: {0}")]
    Json(#[from] serde_json::Error),
}
