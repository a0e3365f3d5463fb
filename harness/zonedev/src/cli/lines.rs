//! Which lines of a kernel ran: `zonedev coverage --lines`.

use crate::build::{BuildError, Cache, Gcov};
use crate::record::{CellId, CellVerdict, RunFolder, RunRecord};
use crate::report::{KernelLines, Sources};
use crate::spec::Unreachable;
use crate::{observe, report};

use super::exit::{Exit, Failure};

/// The suite of tests that are not ours.
const UPSTREAM: &str = "upstream";

/// A cell, and the run that it is of.
type Cell<'a> = (&'a RunFolder, &'a CellId);

/// The cells of one kernel.
#[derive(Default)]
struct Cells<'a> {
    key: &'a str,
    own: Vec<Cell<'a>>,
    upstream: Vec<Cell<'a>>,
    without: Vec<String>,
}

pub(super) fn run(
    unreachable: &[Unreachable],
    runs: &[(RunFolder, RunRecord)],
) -> Result<Exit, Failure> {
    let cache = Cache::of_user()?;
    let mut out = Vec::new();
    for (name, cells) in cells(runs)? {
        let gcov = Gcov::of(&cache, name, cells.key)?;
        out.push(KernelLines {
            kernel: name.to_owned(),
            own: count(&gcov, &cells.own)?,
            upstream: count(&gcov, &cells.upstream)?,
            cells: (cells.own.len(), cells.upstream.len()),
            without: cells.without,
        });
    }
    if out.is_empty() {
        return Err(Failure::nothing_selected(
            "no cell of these runs left counts of lines",
            "run kernels of the flavour gcov: zonedev matrix -k 6.12:gcov",
        ));
    }
    out!("{}", report::lines(&out, unreachable));
    Ok(Exit::Good)
}

/// The cells that left counts, by kernel in the order of the runs.
fn cells(runs: &[(RunFolder, RunRecord)]) -> Result<Vec<(&str, Cells<'_>)>, Failure> {
    let mut out: Vec<(&str, Cells<'_>)> = Vec::new();
    for (folder, record) in runs {
        for kernel in &record.kernels {
            let key = kernel.build_key.as_str();
            if out.iter().any(|(n, c)| *n == kernel.name && c.key != key) {
                return Err(Failure::request(
                    format!("the runs have two builds of {}", kernel.name),
                    "name runs of one build, since their lines may differ",
                ));
            }
            if !out.iter().any(|(n, _)| *n == kernel.name) {
                let cells = Cells {
                    key,
                    ..Cells::default()
                };
                out.push((&kernel.name, cells));
            }
        }
        for (id, verdict) in &record.cells {
            let of = out.iter_mut().find(|(n, _)| *n == id.kernel);
            let Some((_, of)) = of else { continue };
            if folder.has_profile(id) {
                match id.suite.as_str() {
                    UPSTREAM => of.upstream.push((folder, id)),
                    _ => of.own.push((folder, id)),
                }
            } else if !matches!(verdict, CellVerdict::Skip { .. }) && !id.is_provisioning() {
                // What a machine's boot counted is in each clone of it.
                of.without.push(id.case_path());
            }
        }
    }
    out.retain(|(_, c)| !(c.own.is_empty() && c.upstream.is_empty()));
    Ok(out)
}

fn count(gcov: &Gcov, cells: &[Cell<'_>]) -> Result<Sources, Failure> {
    let profiles = cells
        .iter()
        .map(|(folder, id)| folder.read_profile(id).map_err(Failure::from));
    let mut out = Sources::new();
    for counted in gcov.count(profiles)? {
        let lines = observe::source_lines(&counted.json, &counted.source).ok_or_else(|| {
            Failure::from(BuildError::Command {
                what: format!("read what gcov says of {}", counted.source),
                detail: "there are no lines of it".to_owned(),
            })
        })?;
        out.insert(counted.source, lines);
    }
    Ok(out)
}
