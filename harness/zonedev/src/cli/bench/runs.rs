//! Whole runs: what of the host's processors goes into guests, and what a second job gives.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::super::exit::Failure;
use super::super::setup::DEFAULT_KERNELS;
use super::{BenchArgs, Figure, Figures, sh};
use crate::record::{RunFolder, RunRecord};

pub(super) fn measure(
    project: &Utf8Path,
    args: &BenchArgs,
    out: &mut Figures,
) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let dir = tempfile::tempdir()?;
    let dir = Utf8PathBuf::from_path_buf(dir.path().to_owned())
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;

    // The first boots what is not kept yet, and learns what takes longest.
    let words: Vec<&str> = match args.no_build {
        true => vec!["-k", &args.kernel, "-k", &args.kernel],
        false => DEFAULT_KERNELS.iter().flat_map(|k| ["-k", k]).collect(),
    };
    matrix(project, &dir.join("first"), &words)?;
    let second = matrix(project, &dir.join("second"), &words)?;
    let run = seconds(&second.phases_ms, "run");
    let guests = seconds(&second.cpu_ms, "guests");
    out.figures.push(Figure {
        name: format!(
            "the matrix of {}, run a second time ({:.0} % of {cores} cores' time in guests, {} boots not \
             done again)",
            words.iter().filter(|w| **w != "-k").copied().collect::<Vec<_>>().join(" and "),
            100.0 * guests / (run * cores),
            second.boots_kept,
        ),
        value: second.took_ms as f64 / 1e3,
        unit: "s",
        against: format!(
            "its guests' processor time over all cores: {:.1} s",
            guests / cores
        ),
        ratio: guests / cores / (second.took_ms as f64 / 1e3),
        limit: "the last cells, when fewer are left than cores, and what is built and judged around them",
    });

    let some = ["-k", &args.kernel, "-s", "fsdax", "-E", "fsdax-ext4/map"];
    let with = |jobs: &'static str| [&some[..], &["-j", jobs]].concat();
    matrix(project, &dir.join("warm"), &some)?;
    let one = matrix(project, &dir.join("one"), &with("1"))?;
    let two = matrix(project, &dir.join("two"), &with("2"))?;
    let (one, two) = (
        seconds(&one.phases_ms, "run"),
        seconds(&two.phases_ms, "run"),
    );
    out.figures.push(Figure {
        name: "cells of fsdax-ext4/map… with -j2".to_owned(),
        value: two,
        unit: "s",
        against: format!("with -j1: {one:.1} s"),
        ratio: one / two,
        limit: "guests of two processors each, whose threads share the host's",
    });
    Ok(())
}

fn seconds(of: &std::collections::BTreeMap<String, u64>, name: &str) -> f64 {
    of.get(name).copied().unwrap_or_default() as f64 / 1e3
}

fn matrix(project: &Utf8Path, run: &Utf8Path, words: &[&str]) -> Result<RunRecord, Failure> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command
        .args([
            "--project",
            project.as_str(),
            "-q",
            "matrix",
            "--run-dir",
            run.as_str(),
        ])
        .args(words);
    sh(&mut command).map_err(Failure::harness)?;
    Ok(RunFolder::open(run).read_record()?)
}
