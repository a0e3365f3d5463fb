//! `zonedev report RUN --html`: the report as one HTML file.

use std::collections::HashMap;
use std::io::{BufWriter, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use guestmem::PageRun;
use proto::Op;

use crate::history::{self, Db, HistoryPage};
use crate::record::{CellId, CellRecord, CheckpointRecord, PredictedRun, RunFolder, RunRecord};
use crate::report::{self, Broken, Cells, HtmlError};
use crate::spec::Contract;
use crate::verdict;

use super::exit::Failure;
use super::setup;

/// Where the report lies in a run's folder, unless somebody says otherwise.
const NAME: &str = "report.html";

/// Writes the report of a run, which `typed` finds again; gives where it is. `-` is standard output.
pub(super) fn write(
    project: &Utf8Path,
    folder: &RunFolder,
    record: &RunRecord,
    typed: &str,
    to: Option<&Utf8Path>,
) -> Result<Option<Utf8PathBuf>, Failure> {
    let recorded = Recorded {
        project,
        folder,
        contracts: Mutex::default(),
    };
    let begun = folder.read_begun().ok();
    let history = earlier(project, record);
    let make = |out: &mut dyn std::io::Write| {
        let (begun, history) = (begun.as_ref(), history.as_ref());
        report::html(record, typed, begun, history, &recorded, out)
    };
    if to.is_some_and(|to| to == "-") {
        make(&mut std::io::stdout().lock())?;
        return Ok(None);
    }
    let to = to.map_or_else(|| folder.path().join(NAME), Utf8Path::to_owned);
    // Renamed when it is whole: a report that was cut off would read as one of less.
    let dir = to.parent().filter(|p| !p.as_str().is_empty());
    let file = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir.unwrap_or(Utf8Path::new(".")))?;
    let mut out = BufWriter::new(file);
    make(&mut out)?;
    out.flush()?;
    let file = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.persist(&to).map_err(|e| e.error)?;
    Ok(Some(to))
}

/// What the project's history says of a run's cells, where there is one.
fn earlier(project: &Utf8Path, record: &RunRecord) -> Option<HistoryPage> {
    let path = super::history::default_db(project);
    if !path.exists() {
        return None;
    }
    let page = Db::open(&path, false).and_then(|db| history::page(&db, record));
    page.inspect_err(|e| {
        let text = format!("note: the report has no history: failed to {e}");
        errln!("{}", report::escape(&text));
    })
    .ok()
}

impl From<HtmlError> for Failure {
    fn from(e: HtmlError) -> Self {
        Failure::harness(format!("failed to {e}"))
    }
}

/// The cells of a run's folder, judged by the project's contracts as they are now.
struct Recorded<'a> {
    project: &'a Utf8Path,
    folder: &'a RunFolder,
    contracts: Mutex<HashMap<String, Result<Arc<Contract>, String>>>,
}

impl Recorded<'_> {
    fn contract(&self, name: &str) -> Result<Arc<Contract>, String> {
        let mut known = self
            .contracts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_name = known.entry(name.to_owned()).or_insert_with(|| {
            let contract = setup::contract(self.project, name);
            contract
                .map(Arc::new)
                .map_err(|_| format!("the project has no contract `{name}` any more"))
        });
        of_name.clone()
    }
}

impl Cells for Recorded<'_> {
    fn record(&self, id: &CellId) -> Result<CellRecord, String> {
        self.folder
            .read_cell(id)
            .map_err(|e| format!("failed to {e}"))
    }

    fn predict(
        &self,
        cell: &CellRecord,
        checkpoint: &CheckpointRecord,
    ) -> Result<Vec<PredictedRun>, String> {
        let contract = self.contract(&cell.contract)?;
        Ok(verdict::predict(checkpoint, &contract))
    }

    fn broken(&self, run: &PageRun, predicted: &PredictedRun) -> Vec<Broken> {
        verdict::broken(run, predicted)
            .into_iter()
            .map(|b| Broken {
                what: b.what,
                expected: b.expected,
                found: b.found,
            })
            .collect()
    }

    fn operation(&self, op: &Op) -> String {
        verdict::op_words(op)
    }
}
