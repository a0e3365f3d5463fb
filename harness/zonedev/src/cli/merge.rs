//! `zonedev merge`: the parts of a run, made one run with one verdict.
//!
//! A part is never trusted to be what it should: this zonedev plans the whole run again, deals it again,
//! and compares. What is not there is unfinished, so that the run is not green.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Parser};

use crate::plan::{Partition, Plan};
use crate::record::{
    Begun, CellId, CellRecord, CellVerdict, Event, Part, RECORD_VERSION, RunFolder, RunRecord,
};
use crate::spec::Contract;
use crate::{report, verdict};

use super::args::{Cli, MatrixArgs};
use super::exit::{Exit, Failure};
use super::judge::judge;
use super::matrix::{self, Job};
use super::{inspect, specs};

/// One part, as it was left.
struct Shard {
    path: Utf8PathBuf,
    folder: RunFolder,
    partition: Partition,
    part: Part,
    begun: Begun,
    /// None of one that was cut off.
    record: Option<RunRecord>,
}

/// `zonedev merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The parts: runs' folders, or their names
    #[arg(required = true, value_name = "RUN")]
    pub(super) runs: Vec<String>,
    /// Where the whole run's folder goes [default: target/runs/ID]
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<Utf8PathBuf>,
}

pub(super) fn run(project: &Utf8Path, args: &MergeArgs) -> Result<Exit, Failure> {
    #[expect(clippy::disallowed_methods, reason = "the date in a run's name")]
    let now = SystemTime::now();
    let project = project.canonicalize_utf8()?;
    let run_dir = args.run_dir.as_deref().map(absolute).transpose()?;
    let mut whole = Whole::of(&project, &args.runs)?;

    let runs = project.join("target/runs");
    let (path, id) = matrix::run_folder_in(&runs, run_dir.as_deref(), now)?;
    let mut folder = RunFolder::create(&path).map_err(|e| {
        Failure::request(
            format!("failed to {e}"),
            "name a folder with --run-dir that holds no run yet",
        )
    })?;
    for event in (whole.shards.iter()).flat_map(|s| s.folder.events().unwrap_or_default()) {
        folder.journal(&event)?;
    }
    for message in &whole.notices {
        let message = message.clone();
        folder.journal(&Event::Notice { message })?;
    }
    let begun = whole.begun(id)?;
    let mut record = whole.write(&folder, &begun, false)?;
    record.took_ms = took_ms(&whole.shards);
    record.notices = whole.notices;
    folder.journal(&Event::RunFinished {
        exit_code: record.exit_code,
        took_ms: record.took_ms,
    })?;
    folder.write_record(&record)?;
    matrix::link_latest(&project, &path);
    let look = super::look(&std::io::stdout());
    matrix::tell_summary(&project, &path, &record, &look);
    Ok(Exit::from_code(record.exit_code))
}

/// All parts there are, checked, and one record of each cell.
pub(super) struct Whole {
    shards: Vec<Shard>,
    job: Job,
    /// By position among the shards.
    chosen: Vec<(usize, CellRecord)>,
    /// What there is to tell of the parts, and what they told.
    pub(super) notices: Vec<String>,
}

impl Whole {
    /// Of these runs' folders, or names.
    pub(super) fn of(project: &Utf8Path, runs: &[String]) -> Result<Whole, Failure> {
        let (shards, mut notices) = shards(project, runs)?;
        let first = &shards[0];
        for other in &shards[1..] {
            same_whole(first, other)?;
        }
        for shard in &shards {
            for message in shard.record.iter().flat_map(|r| &r.notices) {
                if !notices.contains(message) {
                    notices.push(message.clone());
                }
            }
        }
        let job = whole(project, first)?;
        let parts = job.plan.clone().parts(first.partition);
        notices.extend(missing(&shards, first.partition, &parts));
        for shard in &shards {
            holds_what_it_should(shard, &parts[shard.partition.index() - 1])?;
        }
        let chosen = choose(&shards, &job.plan, &job.contracts(), &mut notices)?;
        Ok(Whole {
            shards,
            job,
            chosen,
            notices,
        })
    }

    /// What the whole run is, under this name.
    pub(super) fn begun(&self, id: String) -> Result<Begun, Failure> {
        begun(&self.shards, &self.job, id)
    }

    /// Copies the cells and judges them anew. The record is not written yet.
    pub(super) fn write(
        &mut self,
        folder: &RunFolder,
        begun: &Begun,
        propose: bool,
    ) -> Result<RunRecord, Failure> {
        let mut records = Vec::new();
        for (shard, cell) in std::mem::take(&mut self.chosen) {
            folder.copy_cell(&self.shards[shard].folder, &cell.id)?;
            records.push(cell);
        }
        folder.write_begun(begun)?;
        let (contracts, accepted) = (self.job.contracts(), &self.job.accepted);
        let judged = judge(&records, &contracts, accepted, folder.path(), propose)?;
        let mut record = matrix::over(begun, judged);
        for (phase, ms) in (self.shards.iter().flat_map(|s| &s.record)).flat_map(|r| &r.phases_ms) {
            *record.phases_ms.entry(phase.clone()).or_default() += ms;
        }
        Ok(record)
    }
}

fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    Ok(Utf8PathBuf::try_from(std::path::absolute(path)?).map_err(|e| e.into_io_error())?)
}

/// The parts in order, and what there is to tell of folders that hold none.
fn shards(project: &Utf8Path, runs: &[String]) -> Result<(Vec<Shard>, Vec<String>), Failure> {
    let mut shards: Vec<Shard> = Vec::new();
    let mut notices = Vec::new();
    for run in runs {
        let path = match Utf8Path::new(run).is_dir() {
            true => Utf8PathBuf::from(run),
            false => inspect::run_path(project, run),
        };
        if !path.join("begun.json").exists() {
            notices.push(format!("{path} holds no run that got to its first cell"));
            continue;
        }
        let path = path.canonicalize_utf8()?;
        let folder = RunFolder::open(&path);
        let part = folder.read_part()?.ok_or_else(|| {
            Failure::request(
                format!("{path} is no part of a run: it was made without --partition"),
                "name the folders of runs that were made with --partition",
            )
        })?;
        // One that has its record only ends.
        let record = folder.read_record().ok();
        let ends = record.as_ref().is_some_and(|r| r.unfinished.is_empty());
        if !ends && folder.is_running() {
            return Err(Failure::request(
                format!("the run in {path} is still going on"),
                "wait for its end, or end it",
            ));
        }
        let partition = part.partition.parse().map_err(|e| {
            Failure::harness(format!("failed to read the partition of {path}: {e}"))
        })?;
        let begun = folder.read_begun()?;
        shards.push(Shard {
            path,
            folder,
            partition,
            part,
            begun,
            record,
        });
    }
    shards.sort_by_key(|s| s.partition.index());
    if shards.is_empty() {
        return Err(Failure::request(
            "there is no part of a run in these folders",
            "name the folders of runs that were made with --partition",
        ));
    }
    Ok((shards, notices))
}

/// An error unless both are parts of one run, and different ones.
fn same_whole(a: &Shard, b: &Shard) -> Result<(), Failure> {
    let key = |s: &Shard| -> Vec<(String, String)> {
        let kernels = s.begun.kernels.iter();
        kernels
            .map(|k| (k.name.clone(), k.build_key.clone()))
            .collect()
    };
    let differs = [
        ("the number of parts", !a.partition.is_beside(b.partition)),
        ("zonedev", a.begun.zonedev != b.begun.zonedev),
        ("the kernels", key(a) != key(b)),
        (
            "the suites, images and contracts",
            a.part.specs != b.part.specs,
        ),
        ("what was asked for", asked(&a.begun)? != asked(&b.begun)?),
    ];
    if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
        return Err(Failure::request(
            format!(
                "{} and {} are not parts of one run: {what} differs",
                a.path, b.path
            ),
            "run all parts from one checkout, with the same kernels and the same request",
        ));
    }
    if a.partition == b.partition {
        return Err(told_twice(a, b));
    }
    Ok(())
}

fn told_twice(a: &Shard, b: &Shard) -> Failure {
    Failure::request(
        format!(
            "{} and {} are both the part {}",
            a.path, b.path, a.partition
        ),
        "leave one of them out",
    )
}

/// What was typed, as far as it is the same for all parts.
fn asked(begun: &Begun) -> Result<String, Failure> {
    let mut args = parsed(&begun.command)?;
    args.selection.partition = None;
    (args.run_dir, args.jobs, args.accel) = (None, None, None);
    Ok(format!("{args:?}"))
}

fn parsed(command: &[String]) -> Result<MatrixArgs, Failure> {
    let cli = Cli::try_parse_from(command).ok();
    cli.and_then(Cli::into_matrix).ok_or_else(|| {
        Failure::request(
            format!("this zonedev does not understand `{}`", command.join(" ")),
            "use the zonedev that made the parts",
        )
    })
}

/// The request without what makes it a part, as one would type it.
fn whole_command(command: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let mut words = command.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--partition" | "--run-dir" => drop(words.next()),
            _ if word.starts_with("--partition=") || word.starts_with("--run-dir=") => {}
            _ => out.push(word.clone()),
        }
    }
    out
}

/// The run that these are parts of, planned by what this project holds.
fn whole(project: &Utf8Path, shard: &Shard) -> Result<Job, Failure> {
    // Paths were typed from there; on another machine the checkout is elsewhere.
    if Utf8Path::new(&shard.begun.directory).is_dir() {
        std::env::set_current_dir(&shard.begun.directory)?;
    }
    let mut args = parsed(&shard.begun.command)?;
    args.selection.partition = None;
    if specs::hash(project, &args.selection)? != shard.part.specs {
        return Err(Failure::request(
            "the suites, images or contracts of this project are not those of the parts",
            "merge them in a checkout of the same commit, or name one with --project",
        ));
    }
    Job::of(project, args)
}

/// A notice for each part that is not there and would have had something to do.
fn missing(shards: &[Shard], any: Partition, parts: &[Plan]) -> Vec<String> {
    let there: BTreeSet<usize> = shards.iter().map(|s| s.partition.index()).collect();
    any.all()
        .zip(parts)
        .filter(|(p, plan)| !there.contains(&p.index()) && !plan.groups.is_empty())
        .map(|(p, plan)| format!("the part {p} is missing, with {} cells", plan.cells()))
        .collect()
}

fn holds_what_it_should(shard: &Shard, plan: &Plan) -> Result<(), Failure> {
    let (is, should): (BTreeSet<&CellId>, BTreeSet<&CellId>) =
        (shard.begun.cells.iter().collect(), plan.ids().collect());
    match is.symmetric_difference(&should).next() {
        None => Ok(()),
        Some(id) => Err(Failure::request(
            format!(
                "{} is not what this zonedev makes the part {} of: {} is in only one of the two",
                shard.path,
                shard.partition,
                report::escape(&id.to_string())
            ),
            "use the zonedev that made the parts",
        )),
    }
}

/// One record of each cell that has finished. A boot that several parts did is judged by the worst.
fn choose(
    shards: &[Shard],
    plan: &Plan,
    contracts: &[Contract],
    notices: &mut Vec<String>,
) -> Result<Vec<(usize, CellRecord)>, Failure> {
    let mut tellers: BTreeMap<&CellId, Vec<usize>> = BTreeMap::new();
    for (place, shard) in shards.iter().enumerate() {
        for id in &shard.begun.cells {
            tellers.entry(id).or_default().push(place);
        }
    }
    let boots: BTreeSet<&CellId> = plan.groups.iter().map(|g| &g.boot).collect();
    let mut chosen = Vec::new();
    for (id, tellers) in tellers {
        if let ([a, b, ..], false) = (tellers.as_slice(), boots.contains(id)) {
            return Err(told_twice(&shards[*a], &shards[*b]));
        }
        let told: Vec<(usize, CellRecord)> = tellers
            .iter()
            .filter_map(|place| Some((*place, shards[*place].folder.read_cell(id).ok()?)))
            .filter(|(_, cell)| cell.id == *id)
            .collect();
        // Of nearly all cells there is one record, and nothing to choose.
        let told = match (<[_; 1]>::try_from(told), tellers.len()) {
            (Ok([one]), 1) => {
                chosen.push(one);
                continue;
            }
            (Ok(one), _) => Vec::from(one),
            (Err(several), _) => several,
        };
        let all = told.len() == tellers.len();
        if let [(a, one), rest @ ..] = told.as_slice()
            && let Some((b, _)) = rest.iter().find(|(_, other)| {
                !verdict::agrees(&verdict::normalised(one), &verdict::normalised(other))
            })
        {
            notices.push(format!(
                "{id} was observed otherwise in the part {} than in {}",
                shards[*a].partition, shards[*b].partition
            ));
        }
        let worst =
            |cell: &CellRecord| badness(&verdict::judge_cell(cell, &contracts[id.side]).verdict);
        // The first of the worst ones.
        let told = told.into_iter().rev().max_by_key(|(_, cell)| worst(cell));
        if let Some((shard, cell)) = told
            && (all || worst(&cell) > badness(&CellVerdict::Pass {}))
        {
            chosen.push((shard, cell));
        }
    }
    Ok(chosen)
}

fn badness(verdict: &CellVerdict) -> u8 {
    match verdict {
        CellVerdict::Pass {} => 0,
        CellVerdict::Skip { .. } => 1,
        CellVerdict::Error { .. } => 2,
        CellVerdict::Fail { .. } => 3,
    }
}

fn begun(shards: &[Shard], job: &Job, id: String) -> Result<Begun, Failure> {
    let first = &shards[0].begun;
    let of_all = |what: fn(&Begun) -> Option<&String>| {
        let mut words: Vec<&str> = Vec::new();
        for word in shards.iter().filter_map(|s| what(&s.begun)) {
            if !words.contains(&word.as_str()) {
                words.push(word);
            }
        }
        words.join(", ")
    };
    let reason = of_all(|b| b.accel_reason.as_ref());
    let started = shards.iter().map(|s| &s.begun.started).min();
    Ok(Begun {
        version: RECORD_VERSION,
        id,
        zonedev: first.zonedev.clone(),
        started: started.cloned().unwrap_or_default(),
        command: whole_command(&first.command),
        directory: std::env::current_dir()?.to_string_lossy().into_owned(),
        accel: of_all(|b| Some(&b.accel)),
        accel_reason: (!reason.is_empty()).then_some(reason),
        qemu: of_all(|b| Some(&b.qemu)),
        kernels: first.kernels.clone(),
        cells: job.plan.ids().cloned().collect(),
    })
}

/// From the first part's start to the last one's end, in milliseconds.
fn took_ms(shards: &[Shard]) -> u64 {
    let start = |s: &Shard| humantime::parse_rfc3339(&s.begun.started).ok();
    let ends = shards
        .iter()
        .filter_map(|s| Some(start(s)? + Duration::from_millis(s.record.as_ref()?.took_ms)));
    let (Some(first), Some(last)) = (shards.iter().filter_map(start).min(), ends.max()) else {
        return 0;
    };
    last.duration_since(first)
        .map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_asked_for_without_what_makes_a_part() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let typed = "zonedev matrix --full --partition 2/4 -k 5.10 --run-dir target/x -E pin";
        let whole = whole_command(&words(typed));
        assert_eq!(whole.join(" "), "zonedev matrix --full -k 5.10 -E pin");
        let typed = "zonedev matrix --run-dir=x --partition=hash:1/2";
        assert_eq!(whole_command(&words(typed)).join(" "), "zonedev matrix");
        assert_eq!(parsed(&whole).unwrap().selection.partition, None);
    }
}
