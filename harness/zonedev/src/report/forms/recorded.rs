//! A run with what the cells' own records add to it.

use std::collections::BTreeMap;

use crate::record::{
    CellId, CellRecord, CellVerdict, FailedRun, RunFolder, RunFolderError, RunRecord, SourcePlace,
};
use crate::report::text::Look;
use crate::report::trouble;

/// Bytes of a cell's reports that are kept.
const MAX_TROUBLE: usize = 16 << 10;

/// A run as the other forms want it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The run.
    pub run: RunRecord,
    /// Milliseconds, by cell; a cell of which nothing says so has none.
    pub took_ms: BTreeMap<CellId, u64>,
    /// Of the cells that did not simply pass.
    pub details: BTreeMap<CellId, Detail>,
}

/// What the record of a cell adds to its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Title of the case.
    pub title: String,
    /// How often it ran; 1 where nothing was repeated.
    pub runs: u32,
    /// The runs of several that did not pass.
    pub failed: Vec<FailedRun>,
    /// Titles of the kernel's reports, and where in its source they are.
    pub reports: Vec<(String, Option<SourcePlace>)>,
    /// The reports with their traces, and where it hung: lines, escaped.
    pub trouble: String,
}

impl Detail {
    /// Of one cell.
    pub fn of(cell: &CellRecord) -> Detail {
        let mut trouble = trouble(cell, &Look::plain(100));
        if trouble.len() > MAX_TROUBLE {
            trouble.truncate(trouble.floor_char_boundary(MAX_TROUBLE));
            trouble.push_str("\n…\n");
        }
        let (runs, failed) = match &cell.repeats {
            Some(repeats) => (repeats.runs, repeats.failed.clone()),
            None => (1, Vec::new()),
        };
        let reports = cell.splats.iter();
        Detail {
            title: cell.title.clone(),
            runs,
            failed,
            reports: reports
                .map(|s| (s.title.clone(), s.place().cloned()))
                .collect(),
            trouble,
        }
    }
}

impl Recorded {
    /// Reads what the folder has of the run's cells. A cell's record that is gone or broken takes
    /// nothing from the verdict.
    ///
    /// # Errors
    /// Where the journal can't be read.
    pub fn of(folder: &RunFolder, run: RunRecord) -> Result<Recorded, RunFolderError> {
        let took_ms = folder.times()?;
        let told = run.cells.iter().filter(|(id, verdict)| match verdict {
            CellVerdict::Fail { .. } | CellVerdict::Error { .. } => true,
            CellVerdict::Pass {} => run.flaky.iter().any(|f| f.cell == *id),
            CellVerdict::Skip { .. } => false,
        });
        let details = told
            .filter_map(|(id, _)| Some((id.clone(), Detail::of(&folder.read_cell(id).ok()?))))
            .collect();
        Ok(Recorded {
            run,
            took_ms,
            details,
        })
    }

    /// The kernel of a cell, told apart from another one that is named alike.
    pub(super) fn kernel(&self, id: &CellId) -> String {
        let alike = self.run.kernels.iter().filter(|k| k.name == id.kernel);
        match alike.count() {
            0 | 1 => id.kernel.clone(),
            _ => format!("{} (side {})", id.kernel, id.side),
        }
    }

    /// `fsdax/fsdax-ext4/map-touch on 6.12`.
    pub(super) fn cell(&self, id: &CellId) -> String {
        format!("{} on {}", id.case_path(), self.kernel(id))
    }

    /// Where in the kernel's source a reason of a cell's verdict points.
    pub(super) fn place(&self, id: &CellId, reason: &str) -> Option<&SourcePlace> {
        let reports = &self.details.get(id)?.reports;
        let named = reports.iter().find(|(title, _)| reason.starts_with(title));
        named?.1.as_ref()
    }
}
