//! What to type to see it again.

use super::escape::shell;
use super::findings::Finding;
use crate::record::{CellId, RunRecord};

/// Cases that one command names.
const MAX_CASES: usize = 3;
/// Where cases given by `--case` are (they are no suite's).
const OWN: &str = "own";

/// The words of a command that runs the cases of the worst findings again, on the kernels that they
/// are of and the baseline; empty where nothing was found in a cell.
pub(super) fn words(run: &RunRecord, findings: &[Finding<'_>]) -> Vec<String> {
    let worst: Vec<&CellId> = findings
        .iter()
        .flat_map(|f| f.cells.iter().take(1).copied())
        .collect();
    let mut cases: Vec<&CellId> = Vec::new();
    for id in worst {
        if cases.len() < MAX_CASES && !cases.iter().any(|c| c.case_path() == id.case_path()) {
            cases.push(id);
        }
    }
    if cases.is_empty() {
        return Vec::new();
    }
    let asked: Vec<&CellId> = findings
        .iter()
        .flat_map(|f| &f.cells)
        .filter(|id| cases.iter().any(|c| c.case_path() == id.case_path()))
        .copied()
        .collect();
    let mut out = vec!["zonedev matrix".to_owned()];
    for (side, kernel) in run.kernels.iter().enumerate() {
        if side == 0 || asked.iter().any(|id| id.side == side) {
            out.push(format!("-k {}", shell(&kernel.name)));
        }
    }
    for id in cases {
        out.push(match id.suite.as_str() {
            OWN => format!("--case {}", shell(&format!("{}.toml", id.case))),
            // Of a boot there is no case: all of its fixture boots it.
            "boot" => format!("-E {}", shell(&id.fixture)),
            _ => format!("-E {}", shell(&format!("={}", id.case_path()))),
        });
    }
    out
}
