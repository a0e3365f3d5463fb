//! What failed, the same reason told once, worst first.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;

use super::differences::{Cell, MAX_CELLS};
use super::escape;
use crate::record::{CellId, CellVerdict, FailureKind, RunRecord};

/// A reason and the cells that failed for it.
#[derive(Debug)]
pub(super) struct Failure {
    /// What sort it is, in the field's words; of the harness and the host, whose fault it is.
    pub(super) kind: String,
    /// The reason, as the first cell has it.
    pub(super) text: String,
    /// Opens the very place in the first cell.
    pub(super) first: String,
    pub(super) cells: Vec<Cell>,
    /// Cells that are not named.
    pub(super) more: usize,
}

/// The reason without the frames that differ from cell to cell.
fn sort_of(reason: &str) -> String {
    static FRAMES: OnceLock<Option<Regex>> = OnceLock::new();
    let frames = FRAMES.get_or_init(|| {
        Regex::new(
            r" of \d+ pages?( in \d+ ranges)?( from (pfn 0x[0-9a-f]+( \(page \d+\))?|page \d+))?",
        )
        .ok()
    });
    match frames {
        Some(frames) => frames.replace_all(reason, "…").into_owned(),
        None => reason.to_owned(),
    }
}

/// Whose failure it is, and then what sort: what sorts first is told first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Kernel(Option<FailureKind>),
    Harness,
    Host,
}

impl Whose {
    fn words(&self) -> &'static str {
        match self {
            Whose::Kernel(Some(kind)) => kind.word(),
            Whose::Kernel(None) => "failed",
            Whose::Harness => "harness error",
            Whose::Host => "host error",
        }
    }
}

/// What a reason says that tells of a known failure which is gone.
const GONE: &str = " is listed as known to go wrong ";

/// Of the sorts of failure of a cell, the one that a reason is of: a known failure that is gone says
/// so, a broken contract is told with its checkpoint, and the others stand before it.
fn kind_of(reason: &str, kinds: &[FailureKind]) -> Option<FailureKind> {
    if reason.contains(GONE) && kinds.contains(&FailureKind::KnownGone) {
        return Some(FailureKind::KnownGone);
    }
    let at_checkpoint = reason.starts_with("at \"");
    let broken = |k: &&FailureKind| (**k == FailureKind::ContractBroken) == at_checkpoint;
    kinds.iter().find(broken).or(kinds.first()).copied()
}

/// Groups the reasons of all cells that failed by themselves.
pub(super) fn failures(run: &RunRecord) -> Vec<Failure> {
    let mut groups: BTreeMap<(Whose, String), (String, Vec<&CellId>)> = BTreeMap::new();
    for (id, verdict) in &run.cells {
        let (reasons, kinds): (&[String], &[FailureKind]) = match verdict {
            CellVerdict::Fail { reasons, kinds, .. } => (reasons, kinds),
            CellVerdict::Error { reason, .. } => (std::slice::from_ref(reason), &[]),
            CellVerdict::Pass {} | CellVerdict::Skip { .. } => continue,
        };
        for reason in reasons {
            let whose = match verdict {
                CellVerdict::Error { host: true, .. } => Whose::Host,
                CellVerdict::Error { .. } => Whose::Harness,
                _ => Whose::Kernel(kind_of(reason, kinds)),
            };
            let group = groups.entry((whose, sort_of(reason)));
            let (_, cells) = group.or_insert_with(|| (reason.clone(), Vec::new()));
            cells.push(id);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // Of one sort, what most cells have.
    groups.sort_by(|((a, _), (_, x)), ((b, _), (_, y))| (a, y.len()).cmp(&(b, x.len())));
    groups
        .into_iter()
        .map(|((whose, _), (text, mut cells))| {
            cells.dedup();
            let place = escape::place(&text);
            Failure {
                kind: whose.words().to_owned(),
                first: cells
                    .first()
                    .map(|id| escape::link(id, place))
                    .unwrap_or_default(),
                more: cells.len().saturating_sub(MAX_CELLS),
                cells: cells
                    .iter()
                    .take(MAX_CELLS)
                    .map(|id| Cell::of(id, place))
                    .collect(),
                text,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::{cell, run};

    #[test]
    fn a_known_failure_that_is_gone_is_no_hang() {
        let kinds = [FailureKind::KernelHung, FailureKind::KnownGone];
        let reason = format!(
            "at \"released\": pagemap a present page instead of nothing{GONE}and did not run"
        );
        assert_eq!(kind_of(&reason, &kinds), Some(FailureKind::KnownGone));
        let hung = kind_of("step 9 wait did not end", &kinds);
        assert_eq!(hung, Some(FailureKind::KernelHung));
    }

    #[test]
    fn one_reason_in_many_cells_is_told_once_and_the_worst_sort_first() {
        let mut run = run();
        let failed = |kinds: &[FailureKind], reason: &str| CellVerdict::Fail {
            reasons: vec![reason.to_owned()],
            violations: Vec::new(),
            kinds: kinds.to_vec(),
        };
        let leak = |n| {
            format!(
                "at \"after\": namespace0.0 FS_DAX refcount of 8 pages from pfn {n:#x} (page {n}): expected 1, found 2 (idle 1)"
            )
        };
        run.cells = vec![
            (
                cell("h", 1, "x").id,
                CellVerdict::Error {
                    reason: "no space left".into(),
                    host: true,
                },
            ),
            (
                cell("a", 1, "x").id,
                failed(&[FailureKind::ContractBroken], &leak(4096)),
            ),
            (
                cell("b", 1, "x").id,
                failed(&[FailureKind::ContractBroken], &leak(8192)),
            ),
            (
                cell("c", 1, "x").id,
                failed(&[FailureKind::GuestDied], "panic at step 3 touch"),
            ),
            (cell("d", 1, "x").id, CellVerdict::Pass {}),
        ];
        let found = failures(&run);
        let told: Vec<_> = found
            .iter()
            .map(|f| (f.kind.as_str(), f.cells.len()))
            .collect();
        assert_eq!(
            told,
            [("guest died", 1), ("contract broken", 2), ("host error", 1)]
        );
        assert_eq!(found[0].first, "#cell=1:fsdax/fsdax-ext4/c&step=3");
        assert_eq!(
            found[1].first,
            "#cell=1:fsdax/fsdax-ext4/a&checkpoint=after"
        );
        assert_eq!(found[1].text, leak(4096));
    }
}
