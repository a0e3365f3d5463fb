//! A verdict to draw with that needs no contract.

use guestmem::{PageKind, PageRun};
use proto::Op;

use super::cells::{Broken, Cells};
use crate::record::{CellId, CellRecord, CheckpointRecord, PredictedRun};

/// Predicts a refcount of 1 for every page of a kind that has a name.
pub(super) struct Plain;

impl Cells for Plain {
    fn record(&self, id: &CellId) -> Result<CellRecord, String> {
        Err(format!("there is none of {id}"))
    }

    fn predict(
        &self,
        _: &CellRecord,
        checkpoint: &CheckpointRecord,
    ) -> Result<Vec<PredictedRun>, String> {
        let known = checkpoint
            .pages
            .regions
            .iter()
            .filter(|r| !matches!(r.kind, PageKind::Unknown(_)));
        Ok(known
            .map(|r| PredictedRun {
                pfn: r.start_pfn,
                pages: r.pages,
                refcount: 1,
                mapcount: 0,
                large_mapcount: None,
                pincount: None,
                order: 0,
                part: None,
                mapping: None,
                share: None,
                charged: None,
                exclusive: None,
                index: None,
                poisoned: None,
                because: "idle 1".into(),
                held_by: String::new(),
            })
            .collect())
    }

    fn broken(&self, run: &PageRun, predicted: &PredictedRun) -> Vec<Broken> {
        if i64::from(run.state.refcount) == predicted.refcount {
            return Vec::new();
        }
        vec![Broken {
            what: "refcount".into(),
            expected: predicted.refcount.to_string(),
            found: run.state.refcount.to_string(),
        }]
    }

    fn operation(&self, op: &Op) -> String {
        op.word().to_owned()
    }
}
