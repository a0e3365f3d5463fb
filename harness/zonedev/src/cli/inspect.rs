//! What finished runs recorded: `zonedev inspect` and `zonedev coverage`.

use camino::{Utf8Path, Utf8PathBuf};

use crate::record::{CellId, RunFolder, RunRecord};
use crate::spec::Unreachable;
use crate::{report, report::escape, verdict};

use super::args::{BuildOptions, CoverageArgs, InspectArgs};
use super::exit::{Exit, Failure};
use super::setup;

pub(super) fn run(project: &Utf8Path, args: &InspectArgs) -> Result<Exit, Failure> {
    let (folder, record) = read(project, &args.run)?;
    let mut shown = 0;
    let look = super::look(&std::io::stdout());
    for id in cells(&record, &args.cell, args.kernel.as_deref())? {
        let cell = folder.read_cell(id)?;
        let trouble = report::trouble(&cell, &look);
        if !trouble.is_empty() {
            outln!("{id}");
            out!("{trouble}");
            shown += 1;
        }
        let ctx = setup::build_context(project, &BuildOptions::default())?;
        let contract = setup::contract(&ctx.project, &cell.contract)?;
        for checkpoint in &cell.checkpoints {
            if args
                .checkpoint
                .as_ref()
                .is_none_or(|c| *c == checkpoint.name)
            {
                let predicted = verdict::predict(checkpoint, &contract);
                out!("{}", report::inspect(&cell, checkpoint, &predicted, &look));
                shown += 1;
            }
        }
    }
    if shown == 0 {
        return Err(Failure::nothing_selected(
            "the cell has no such checkpoint",
            "leave --checkpoint out to see all",
        ));
    }
    Ok(Exit::Good)
}

/// The cells of the one case that `name` is a part of.
pub(super) fn cells<'a>(
    record: &'a RunRecord,
    name: &str,
    kernel: Option<&str>,
) -> Result<Vec<&'a CellId>, Failure> {
    let mut cells: Vec<&CellId> = record
        .cells
        .iter()
        .map(|(id, _)| id)
        .filter(|id| id.case_path().contains(name))
        .filter(|id| kernel.is_none_or(|k| *k == id.kernel))
        .collect();
    let mut cases: Vec<String> = cells.iter().map(|id| id.case_path()).collect();
    cases.sort();
    cases.dedup();
    // The whole name, or the whole end of one, wins over longer ones that contain it.
    let end = format!("/{name}");
    let mut exact = cases.iter().filter(|c| **c == name || c.ends_with(&end));
    if let Some(first) = exact.next().cloned() {
        let others: Vec<&str> = exact.map(String::as_str).collect();
        if !others.is_empty() {
            // It ran on several fixtures.
            errln!(
                "{}: of {first}; there is also {}",
                escape(name),
                others.join(", ")
            );
        }
        cases = vec![first];
    }
    match cases.as_slice() {
        [case] => cells.retain(|id| id.case_path() == *case),
        [] => {
            return Err(Failure::nothing_selected(
                format!("no cell of the run is called like `{name}`"),
                "give a part of SUITE/FIXTURE/CASE; the journal in the run's folder names all",
            ));
        }
        many => {
            return Err(Failure::request(
                format!(
                    "`{name}` is a part of {} cases: {}",
                    many.len(),
                    many.join(", ")
                ),
                "give more of the name",
            ));
        }
    }
    Ok(cells)
}

pub(super) fn coverage(project: &Utf8Path, args: &CoverageArgs) -> Result<Exit, Failure> {
    let mut runs = Vec::new();
    for run in &args.runs {
        runs.push(read(project, run)?);
    }
    if args.lines {
        return super::lines::run(&Unreachable::load(&project.join("suites"))?, &runs);
    }
    let records: Vec<RunRecord> = runs.into_iter().map(|(_, record)| record).collect();
    out!("{}", report::coverage(&records));
    Ok(Exit::Good)
}

pub(super) fn read(project: &Utf8Path, run: &str) -> Result<(RunFolder, RunRecord), Failure> {
    let folder = RunFolder::open(&run_path(project, run));
    let record = folder.read_record().map_err(|e| {
        Failure::request(
            format!("failed to {e}"),
            "name the folder of a finished run, or `latest`",
        )
    })?;
    Ok((folder, record))
}

pub(super) fn run_path(project: &Utf8Path, run: &str) -> Utf8PathBuf {
    let named = Utf8PathBuf::from(run);
    if named.join("journal.jsonl").exists() {
        named
    } else {
        project.join("target/runs").join(run)
    }
}
