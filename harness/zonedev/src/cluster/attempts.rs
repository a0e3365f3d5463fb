//! What was submitted, and what attempts there are: the files in a run's folder.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::record::RunFolder;

const SUBMITTED: &str = "slurm/submitted.json";
const VERSION: u32 = 1;

/// Why what was submitted is not known.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The file system said no; the message names the path.
    #[error("use the run's folder: {0}")]
    Io(#[from] std::io::Error),
    /// It is not what it should be.
    #[error("read {path}: {source}")]
    Json {
        /// The file.
        path: Utf8PathBuf,
        /// What serde said.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("read {path}: it has version {found}, this zonedev reads {VERSION}")]
    Version {
        /// The file.
        path: Utf8PathBuf,
        /// Its version.
        found: u32,
    },
}

/// `slurm/submitted.json`: how a run is cut, and which jobs there were of each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submitted {
    version: u32,
    /// How many parts there are.
    pub parts: usize,
    /// Guests at a time in a task.
    pub jobs: usize,
    /// By part, from 1: its tasks (`JOB_PART`), the last one last.
    pub tasks: BTreeMap<usize, Vec<String>>,
}

impl Submitted {
    /// Nothing yet.
    pub fn new(parts: usize, jobs: usize) -> Self {
        Submitted {
            version: VERSION,
            parts,
            jobs,
            tasks: BTreeMap::new(),
        }
    }

    /// Of a run's folder; none of a run that was no cluster's.
    ///
    /// # Errors
    /// Where it can't be read or is of another version.
    pub fn read(run: &Utf8Path) -> Result<Option<Self>, ClusterError> {
        let path = run.join(SUBMITTED);
        if !path.exists() {
            return Ok(None);
        }
        let read: Result<Submitted, _> = serde_json::from_slice(&fs::read(&path)?);
        match read {
            Ok(read) if read.version == VERSION => Ok(Some(read)),
            Ok(Submitted { version: found, .. }) => Err(ClusterError::Version { path, found }),
            Err(source) => Err(ClusterError::Json { path, source }),
        }
    }

    /// Into a run's folder, whole or not at all.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, run: &Utf8Path) -> Result<(), ClusterError> {
        let path = run.join(SUBMITTED);
        let new = path.with_extension("new");
        fs::write(
            &new,
            serde_json::to_vec_pretty(self).map_err(std::io::Error::from)?,
        )?;
        Ok(fs::rename(new, path)?)
    }
}

/// The folders of all attempts at a part, those that began last last.
pub fn attempts(run: &Utf8Path, part: usize) -> Vec<Utf8PathBuf> {
    let dir = run.join(format!("parts/{part}"));
    let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|e| Some((number(e.file_name())?, e.into_path())))
        .collect();
    all.sort();
    all.into_iter().map(|(_, path)| path).collect()
}

/// Job and restart of an attempt's name, `JOB_PART.RESTART` or `JOB.RESTART`.
fn number(name: &str) -> Option<(u64, u64)> {
    let (job, restart) = name.split_once('.')?;
    let job = job.split('_').next()?;
    Some((job.parse().ok()?, restart.parse().ok()?))
}

/// Whether an attempt is over, with every cell of its part: whoever is cut off leaves no such record.
pub fn is_whole(attempt: &Utf8Path) -> bool {
    // A file's not being there is remembered by NFS; what a directory lists is looked at again.
    let listed = (attempt.read_dir_utf8().into_iter().flatten().flatten())
        .any(|e| e.file_name() == "record.json");
    listed
        && (RunFolder::open(attempt).read_record()).is_ok_and(|record| record.unfinished.is_empty())
}

/// With what a job's zonedev ended, and on which node; of a job that Slurm started anew, the last time.
pub fn ended(run: &Utf8Path, job: &str) -> Option<(u8, String)> {
    let dir = run.join("slurm/ended");
    let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
    let of_it = entries.filter_map(|e| {
        let restart = e.file_name().strip_prefix(job)?.strip_prefix('.')?;
        Some((restart.parse::<u64>().ok()?, e.into_path()))
    });
    let (_, last) = of_it.max()?;
    let text = fs::read_to_string(last).ok()?;
    let (code, node) = text.trim().split_once(' ')?;
    Some((code.parse().ok()?, node.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_in_the_order_in_which_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let run = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(attempts(run, 3), Vec::<Utf8PathBuf>::new());
        for name in ["9_3.0", "10_3.0", "9_3.10", "9_3.2", "what", "x_3.0"] {
            fs::create_dir_all(run.join("parts/3").join(name)).unwrap();
        }
        let names: Vec<_> = attempts(run, 3)
            .iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["9_3.0", "9_3.2", "9_3.10", "10_3.0"]);
    }

    #[test]
    fn the_last_end_of_a_job_counts() {
        let dir = tempfile::tempdir().unwrap();
        let run = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(ended(run, "9_3"), None);
        let ends = run.join("slurm/ended");
        fs::create_dir_all(&ends).unwrap();
        for (name, text) in [
            ("9_3.0", "3 n1"),
            ("9_3.1", "0 n2\n"),
            ("9_31.2", "5 n3"),
            (".9_3.3", "1 n4"),
        ] {
            fs::write(ends.join(name), text).unwrap();
        }
        assert_eq!(ended(run, "9_3"), Some((0, "n2".to_owned())));
    }

    #[test]
    fn what_was_submitted_is_read_back_and_no_other_version() {
        let dir = tempfile::tempdir().unwrap();
        let run = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(Submitted::read(run).unwrap(), None);
        fs::create_dir_all(run.join("slurm")).unwrap();
        let mut submitted = Submitted::new(4, 2);
        submitted
            .tasks
            .insert(3, vec!["9_3".to_owned(), "10_3".to_owned()]);
        submitted.write(run).unwrap();
        assert_eq!(Submitted::read(run).unwrap(), Some(submitted.clone()));
        submitted.version += 1;
        submitted.write(run).unwrap();
        assert!(matches!(
            Submitted::read(run),
            Err(ClusterError::Version { found: 2, .. })
        ));
    }
}
