//! What the report asks of other rooms: the cells' records, and what the verdict says of their pages.

use guestmem::PageRun;
use proto::Op;

use crate::record::{CellId, CellRecord, CheckpointRecord, PredictedRun};

/// One field of a page that is not as predicted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Broken {
    /// The field, such as `refcount`.
    pub what: String,
    /// By contract and claims.
    pub expected: String,
    /// In the guest.
    pub found: String,
}

/// Where the details of cells come from. Several threads ask at once.
pub trait Cells: Sync {
    /// The record of a cell.
    ///
    /// # Errors
    /// In words, where it can't be read.
    fn record(&self, id: &CellId) -> Result<CellRecord, String>;

    /// The prediction of every page of a checkpoint, ascending.
    ///
    /// # Errors
    /// In words, where nothing can be predicted, since the contract is gone.
    fn predict(
        &self,
        cell: &CellRecord,
        checkpoint: &CheckpointRecord,
    ) -> Result<Vec<PredictedRun>, String>;

    /// What of the pages of a run is not as predicted.
    fn broken(&self, run: &PageRun, predicted: &PredictedRun) -> Vec<Broken>;

    /// An operation in words: `pin how=vmsplice length=32K map=m`.
    fn operation(&self, op: &Op) -> String;
}
