//! `zonedev mutants`: whether kernels that are broken on purpose are found out, and by what.

use std::process::Stdio;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};

use crate::record::{CellId, CellVerdict, FailureKind, RunFolder};
use crate::report::{MutantRow, mutants_table};
use crate::spec::Mutant;

use super::args::MutantsArgs;
use super::exit::{Exit, Failure};

/// Runs each mutant's cases on it, and tells who saw it.
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
    let mut rows = Vec::new();
    for (n, mutant) in mutants.iter().enumerate() {
        errln!(
            "mutant [{}/{}] {} on {}",
            n + 1,
            mutants.len(),
            mutant.name,
            mutant.kernel
        );
        let row = one(project, &dir, &place, mutant).await?;
        errln!("  {}", row.words());
        rows.push(row);
    }
    out!("{}", mutants_table(&rows));
    let missed = rows.iter().any(|r| !r.is_as_expected());
    Ok(if missed { Exit::Regressed } else { Exit::Good })
}

/// A matrix of its own, as a user would type it: what went wrong in it is not ours.
async fn one(
    project: &Utf8Path,
    dir: &Utf8Path,
    place: &Utf8Path,
    mutant: &Mutant,
) -> Result<MutantRow, Failure> {
    let run = place.join(&mutant.name);
    if run.exists() {
        fs_err::remove_dir_all(&run)?;
    }
    let log: Utf8PathBuf = place.join(format!("{}.log", mutant.name));
    let out = fs_err::File::create(&log)?.into_file();
    let kernel = mutant.broken(dir);
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command
        .args(["--project", project.as_str(), "matrix", "-k", &kernel])
        .args(["--run-dir", run.as_str()])
        // Nothing of a broken kernel is to be accepted.
        .env("CI", "true")
        .stdin(Stdio::null())
        .stderr(out.try_clone()?)
        .stdout(out)
        .kill_on_drop(true);
    for suite in &mutant.suites {
        command.args(["-s", suite]);
    }
    for filter in &mutant.filters {
        command.args(["-E", filter]);
    }
    let clock = Instant::now();
    let status = command.status().await?;
    let took_ms = clock.elapsed().as_millis() as u64;
    let record = RunFolder::open(&run).read_record().ok();
    let failed: Vec<(CellId, Vec<FailureKind>)> = record
        .iter()
        .flat_map(|r| &r.cells)
        .filter_map(|(id, verdict)| match verdict {
            CellVerdict::Fail { kinds, .. } => Some((id.clone(), kinds.clone())),
            _ => None,
        })
        .collect();
    Ok(MutantRow {
        mutant: mutant.clone(),
        failed,
        cells: record.as_ref().map_or(0, |r| r.cells.len()),
        // How long the cases took, without the build.
        ran_ms: record.and_then(|r| r.phases_ms.get("run").copied()),
        took_ms,
        exit: status.code(),
        log,
    })
}
