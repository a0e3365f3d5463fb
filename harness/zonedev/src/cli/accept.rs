//! `zonedev accept`: what a run observed becomes what is wanted, for a reason.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::record::{CellId, CellRecord, CellVerdict};
use crate::spec::SuiteStore;
use crate::{report, verdict};

use super::args::AcceptArgs;
use super::exit::{Exit, Failure};
use super::inspect;
use super::judge::Accepted;
use super::setup;

/// A snapshot that is to be written.
struct New {
    cell: CellId,
    contract: String,
    source: String,
    text: String,
    /// What is accepted so far, where anything is.
    before: Option<String>,
}

pub(super) fn run(project: &Utf8Path, args: &AcceptArgs) -> Result<Exit, Failure> {
    let reason = args.reason.trim();
    if reason.is_empty() {
        return Err(Failure::request(
            "the reason is empty",
            "say why the difference is wanted: it stays with the snapshot",
        ));
    }
    let (folder, record) = inspect::read(project, &args.run)?;
    let ids: Vec<&CellId> = (record.cells.iter())
        .map(|(id, _)| id)
        .filter(|id| {
            args.filters
                .iter()
                .all(|text| id.to_string().contains(text))
        })
        .collect();
    if ids.is_empty() {
        return Err(Failure::nothing_selected(
            "no cell of the run is called so",
            "each -E must be a part of `SUITE/FIXTURE/CASE on KERNEL`",
        ));
    }
    let cases = SuiteStore::new(project.join("suites")).cases()?;
    let accepted = Accepted::of_cases(&cases, project);
    let mut contracts = BTreeMap::new();
    let mut new: BTreeMap<Utf8PathBuf, New> = BTreeMap::new();
    let mut refused = Vec::new();
    let (mut as_accepted, mut skipped) = (0, 0);
    for id in ids {
        let cell: CellRecord = folder.read_cell(id)?;
        let contract = match contracts.get(&cell.contract) {
            Some(contract) => contract,
            None => {
                let contract = setup::contract(project, &cell.contract)?;
                contracts.entry(cell.contract.clone()).or_insert(contract)
            }
        };
        // By what holds today, whatever was said when it ran.
        match verdict::judge_cell(&cell, contract).verdict {
            CellVerdict::Pass {} => {}
            CellVerdict::Skip { .. } => {
                skipped += 1;
                continue;
            }
            CellVerdict::Fail { reasons, .. } => {
                refused.push((id, reasons.first().cloned().unwrap_or_default()));
                continue;
            }
            CellVerdict::Error { reason, .. } => {
                refused.push((id, reason));
                continue;
            }
        }
        let (dir, text) = (accepted.dir(id), verdict::normalised(&cell));
        let before = verdict::accepted(&dir, id, &cell.contract)?;
        if before.as_deref().is_some_and(|b| verdict::agrees(b, &text)) {
            as_accepted += 1;
            continue;
        }
        let path = verdict::place(&dir, id, &cell.contract);
        let this = New {
            cell: id.clone(),
            contract: cell.contract.clone(),
            source: accepted.source(id),
            text,
            before,
        };
        match new.get(&path) {
            Some(other) if !verdict::agrees(&other.text, &this.text) => {
                let difference = verdict::line_differences(&other.text, &this.text);
                return Err(Failure::request(
                    format!(
                        "{} (kernel {} of the run) and {} (kernel {}) have one snapshot and were \
                         observed otherwise, so nothing was accepted: {difference}",
                        other.cell, other.cell.side, this.cell, this.cell.side
                    ),
                    "select one of them with -E, or look for what makes it unstable",
                ));
            }
            _ => {
                new.insert(path, this);
            }
        }
    }
    let look = super::look(&std::io::stdout());
    for (path, one) in &new {
        let of = (&one.cell, one.contract.as_str());
        verdict::accept(path, &one.source, of, reason, &one.text)?;
        let says = match &one.before {
            Some(before) => verdict::line_differences(before, &one.text),
            None => "there was none".to_owned(),
        };
        let path = path.strip_prefix(project).unwrap_or(path);
        out!("{}", report::accepted(path.as_str(), &says, &look));
    }
    for (id, why) in &refused {
        out!("{}", report::refused(&id.to_string(), why, &look));
    }
    outln!(
        "{} accepted, {as_accepted} were already, {} refused, {skipped} did not run",
        new.len(),
        refused.len()
    );
    Ok(match refused.is_empty() {
        true => Exit::Good,
        false => Exit::Regressed,
    })
}
