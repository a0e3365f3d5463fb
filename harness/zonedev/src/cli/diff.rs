//! `zonedev diff`: any two recorded runs, compared.

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::record::{CellId, CellVerdict, RunFolder, RunRecord};
use crate::report::{self, Comparison};
use crate::verdict;

use super::args::DiffArgs;
use super::exit::{Exit, Failure};
use super::inspect;

/// A run, and which of its cells are meant.
struct Of {
    folder: RunFolder,
    record: RunRecord,
    cells: Vec<(CellId, CellVerdict)>,
}

pub(super) fn run(project: &Utf8Path, args: &DiffArgs) -> Result<Exit, Failure> {
    let (old, new) = (of(project, &args.old)?, of(project, &args.new)?);
    let (pairs, only_old, only_new) = paired(&old.cells, &new.cells);
    if pairs.is_empty() {
        return Err(Failure::nothing_selected(
            "the two have no case in common",
            "name cells of one case, as RUN:SUITE/FIXTURE/CASE or a part of it",
        ));
    }
    let mut compared = Vec::new();
    for ((a, a_verdict), (b, b_verdict)) in pairs {
        let (base, other) = (old.folder.read_cell(a)?, new.folder.read_cell(b)?);
        let pair = verdict::pair(&base, &other, a_verdict, b_verdict, None, None);
        compared.push((pair, a_verdict.clone(), b_verdict.clone()));
    }
    let comparison = Comparison {
        old: &old.record,
        new: &new.record,
        pairs: &compared,
        only_old: &only_old,
        only_new: &only_new,
    };
    let look = super::look(&std::io::stdout());
    out!("{}", report::comparison(&comparison, &look));
    Ok(match comparison.differs() {
        true => Exit::Regressed,
        false => Exit::Good,
    })
}

/// `RUN` or `RUN:CELL`, where a path may have a colon of its own.
fn of(project: &Utf8Path, name: &str) -> Result<Of, Failure> {
    let (run, part) = match inspect::read(project, name) {
        Ok(run) => (run, None),
        Err(whole) => {
            let Some((run, part)) = name.rsplit_once(':') else {
                return Err(whole);
            };
            (inspect::read(project, run)?, Some(part))
        }
    };
    let (folder, record) = run;
    let mut cells: Vec<(CellId, CellVerdict)> = record.cells.clone();
    if let Some(part) = part {
        // One whose name ends so is meant rather than those that go on.
        let ends = |(id, _): &Cell| id.to_string().ends_with(part);
        match cells.iter().any(ends) {
            true => cells.retain(ends),
            false => cells.retain(|(id, _)| id.to_string().contains(part)),
        }
    }
    if cells.is_empty() {
        return Err(Failure::nothing_selected(
            format!(
                "no cell of the run is called like `{}`",
                part.unwrap_or_default()
            ),
            "give a part of `SUITE/FIXTURE/CASE on KERNEL`",
        ));
    }
    Ok(Of {
        folder,
        record,
        cells,
    })
}

type Cell = (CellId, CellVerdict);

/// Cells of one case and of kernels that are named alike, in the runs' order; where the two have no
/// kernel in common for a case, first with first. What is left over is named.
fn paired<'a>(
    old: &'a [Cell],
    new: &'a [Cell],
) -> (Vec<(&'a Cell, &'a Cell)>, Vec<CellId>, Vec<CellId>) {
    let mut by_case: BTreeMap<String, [Vec<&Cell>; 2]> = BTreeMap::new();
    for (n, side) in [old, new].into_iter().enumerate() {
        for cell in side {
            by_case.entry(cell.0.case_path()).or_default()[n].push(cell);
        }
    }
    let (mut pairs, mut only_old, mut only_new) = (Vec::new(), Vec::new(), Vec::new());
    for [mut a, mut b] in by_case.into_values() {
        a.sort_by_key(|(id, _)| id.side);
        b.sort_by_key(|(id, _)| id.side);
        let named = |cell: &Cell| b.iter().any(|(id, _)| id.kernel == cell.0.kernel);
        let by_name = a.iter().any(|cell| named(cell));
        for cell in a {
            let alike = |other: &&Cell| !by_name || other.0.kernel == cell.0.kernel;
            match b.iter().position(alike) {
                Some(at) => pairs.push((cell, b.remove(at))),
                None => only_old.push(cell.0.clone()),
            }
        }
        only_new.extend(b.into_iter().map(|(id, _)| id.clone()));
    }
    (pairs, only_old, only_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(case: &str, side: usize, kernel: &str) -> Cell {
        let id = CellId {
            suite: "fsdax".into(),
            fixture: "fsdax-ext4".into(),
            case: case.into(),
            side,
            kernel: kernel.into(),
        };
        (id, CellVerdict::Pass {})
    }

    #[test]
    fn kernels_named_alike_are_compared_and_the_rest_is_named() {
        let old = [
            cell("pin", 0, "6.12"),
            cell("pin", 1, "6.12"),
            cell("pin", 2, "7.2"),
            cell("map", 0, "6.12"),
            cell("gone", 0, "6.12"),
            cell("both", 0, "6.1"),
            cell("both", 1, "6.12"),
        ];
        let new = [
            cell("pin", 0, "7.3"),
            cell("pin", 1, "6.12"),
            cell("pin", 2, "6.12"),
            cell("map", 0, "7.3"),
            cell("both", 0, "7.2"),
            cell("both", 1, "7.3"),
        ];
        let (pairs, only_old, only_new) = paired(&old, &new);
        let words = |cell: &Cell| format!("{} {}", cell.0, cell.0.side);
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (words(a), words(b))).collect();
        let word = |case: &str, kernel: &str, side: usize| {
            format!("fsdax/fsdax-ext4/{case} on {kernel} {side}")
        };
        assert_eq!(
            pairs,
            [
                (word("both", "6.1", 0), word("both", "7.2", 0)),
                (word("both", "6.12", 1), word("both", "7.3", 1)),
                (word("map", "6.12", 0), word("map", "7.3", 0)),
                (word("pin", "6.12", 0), word("pin", "6.12", 1)),
                (word("pin", "6.12", 1), word("pin", "6.12", 2)),
            ]
        );
        let names = |ids: &[CellId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(&only_old),
            [
                "fsdax/fsdax-ext4/gone on 6.12",
                "fsdax/fsdax-ext4/pin on 7.2"
            ]
        );
        assert_eq!(names(&only_new), ["fsdax/fsdax-ext4/pin on 7.3"]);
    }
}
