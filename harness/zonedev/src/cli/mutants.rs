//! `zonedev mutants`: whether kernels that are broken on purpose are found out, and by what.

use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::task::JoinHandle;

use crate::record::RunFolder;
use crate::report::{FailedCell, MutantRow, mutants_table};
use crate::spec::Mutant;

use super::args::MutantsArgs;
use super::exit::{Exit, Failure};
use super::own::zonedev;

/// Runs each mutant's cases on it, and tells who saw it. While these run, the next one is built.
pub(super) async fn run(project: &Utf8Path, args: &MutantsArgs) -> Result<Exit, Failure> {
    let dir = project.join("kernels/mutants");
    let mut mutants = Mutant::load(&dir)?;
    let wanted = |text: &str| args.filters.iter().all(|f| text.contains(f.as_str()));
    mutants.retain(|m| wanted(&format!("{} on {}", m.name, m.kernel)));
    if mutants.is_empty() {
        return Err(Failure::nothing_selected(
            "no mutant is called so",
            "see kernels/mutants/mutants.toml; each -E must be a part of `NAME on KERNEL`",
        ));
    }
    let place = project.join("target/mutants");
    fs_err::create_dir_all(&place)?;
    let table = place.join(table_name(&args.filters));
    let mut rows = Vec::new();
    let mut building = mutants.first().map(|m| build(project, &dir, &place, m));
    for (n, mutant) in mutants.iter().enumerate() {
        let Some(build_of_it) = building.take() else {
            break;
        };
        let built = build_of_it
            .await
            .map_err(|e| Failure::harness(format!("failed to wait for a build: {e}")))??;
        building = (mutants.get(n + 1)).map(|m| build(project, &dir, &place, m));
        let row = one(project, &dir, &place, mutant, built).await?;
        errln!(
            "mutant [{}/{}] {} on {}: {}",
            n + 1,
            mutants.len(),
            mutant.name,
            mutant.kernel,
            row.words()
        );
        rows.push(row);
        fs_err::write(&table, mutants_table(&rows))?;
    }
    out!("{}", mutants_table(&rows));
    outln!("table: {table}");
    let missed = rows.iter().any(|r| !r.is_as_expected());
    Ok(if missed { Exit::Regressed } else { Exit::Good })
}

/// Each selection has a table of its own, so that two may run beside each other.
fn table_name(filters: &[String]) -> String {
    let words = filters
        .iter()
        .flat_map(|f| f.split(|c: char| !c.is_ascii_alphanumeric()));
    let words = ["table"].into_iter().chain(words.filter(|w| !w.is_empty()));
    format!("{}.md", words.collect::<Vec<_>>().join("-"))
}

fn log_of(place: &Utf8Path, mutant: &Mutant) -> Utf8PathBuf {
    place.join(format!("{}.log", mutant.name))
}

/// How a build went.
struct Built {
    exit: Option<i32>,
    took_ms: u64,
}

/// Begins to build a mutant's kernel.
fn build(
    project: &Utf8Path,
    dir: &Utf8Path,
    place: &Utf8Path,
    mutant: &Mutant,
) -> JoinHandle<Result<Built, Failure>> {
    let (project, kernel) = (project.to_owned(), mutant.broken(dir));
    let log = log_of(place, mutant);
    tokio::spawn(async move {
        let clock = Instant::now();
        let mut command = zonedev(&project, "build", fs_err::File::create(log)?)?;
        let status = command.arg(kernel).status().await?;
        Ok(Built {
            exit: status.code(),
            took_ms: clock.elapsed().as_millis() as u64,
        })
    })
}

/// Runs a mutant's cases in a matrix of its own.
async fn one(
    project: &Utf8Path,
    dir: &Utf8Path,
    place: &Utf8Path,
    mutant: &Mutant,
    built: Built,
) -> Result<MutantRow, Failure> {
    let run = place.join(&mutant.name);
    if run.exists() {
        fs_err::remove_dir_all(&run)?;
    }
    let log = log_of(place, mutant);
    let mut row = MutantRow {
        mutant: mutant.clone(),
        failed: Vec::new(),
        cells: 0,
        built_ms: built.took_ms,
        ran_ms: None,
        found_ms: None,
        exit: built.exit,
        log: log.clone(),
    };
    if built.exit != Some(0) {
        return Ok(row);
    }
    let file = fs_err::OpenOptions::new().append(true).open(&log)?;
    let mut command = zonedev(project, "matrix", file)?;
    if mutant.finding.kind.is_none() {
        command.args(["-k", &mutant.kernel]);
    }
    command.args(["-k", &mutant.broken(dir), "--run-dir", run.as_str()]);
    for suite in &mutant.suites {
        command.args(["-s", suite]);
    }
    for filter in &mutant.filters {
        command.args(["-E", filter]);
    }
    row.exit = command.status().await?.code();
    let Ok(record) = RunFolder::open(&run).read_record() else {
        return Ok(row);
    };
    let broken = record.kernels.len().saturating_sub(1);
    let cells = record.cells.iter().filter(|(id, _)| id.side == broken);
    row.cells = cells.clone().count();
    row.failed = cells
        .filter_map(|(id, verdict)| FailedCell::of(id, verdict))
        .collect();
    for pair in &record.pairs {
        if !row.failed.iter().any(|f| f.id == pair.other) {
            row.failed.extend(FailedCell::differing(pair));
        }
    }
    row.ran_ms = record.phases_ms.get("run").copied();
    row.found_ms = found_ms(&run, &row.failed);
    Ok(row)
}

/// How long after its start a run had the first cell that failed: by the files' times.
fn found_ms(run: &Utf8Path, failed: &[FailedCell]) -> Option<u64> {
    let written = |path: Utf8PathBuf| fs_err::metadata(path).and_then(|m| m.modified()).ok();
    let begun = written(run.join("begun.json"))?;
    failed
        .iter()
        .filter_map(|f| written(run.join(f.id.folder()).join("cell.json.zst")))
        .filter_map(|t| t.duration_since(begun).ok())
        .min()
        .map(|d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_has_its_own_table() {
        assert_eq!(table_name(&[]), "table.md");
        let filters = ["on 7.3".to_owned(), "../dax".to_owned()];
        assert_eq!(table_name(&filters), "table-on-7-3-dax.md");
    }
}
