//! `zonedev matrix`: the main job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::plan::{self, Plan};
use crate::record::{
    AcceptState, CellId, CellRecord, CellVerdict, Event, PairRecord, PairVerdict, RECORD_VERSION, RunFolder,
    RunRecord,
};
use crate::report::{self, Progress};
use crate::run::{Engine, EngineConfig, Isolation};
use crate::spec::Contract;
use crate::verdict::{self, snapshot};

use super::args::{IsolationArg, MatrixArgs};
use super::exit::{Exit, Failure};
use super::setup::{self, Host};

/// Builds, boots, drives, judges, reports.
pub(super) async fn run(project: &Utf8Path, args: MatrixArgs) -> Result<Exit, Failure> {
    let started = SystemTime::now();
    let clock = Instant::now();
    let ctx = setup::build_context(project, &args.build)?;
    let requested = setup::resolve(&ctx, &args.selection.kernels)?;
    let (cases, fixtures, filter) = setup::cases(project, &args.selection)?;
    let kernels: Vec<(String, Contract)> =
        requested.iter().map(|r| (r.name.clone(), r.contract.clone())).collect();
    let plan = plan::plan(&kernels, &cases, &fixtures, &filter)?;
    if plan.groups.is_empty() {
        return Err(Failure::nothing_selected(
            "no case was selected",
            "see `zonedev list cases`; each -E must be a part of SUITE/FIXTURE/CASE",
        ));
    }

    let (path, id) = run_folder(project, args.run_dir.as_deref(), started)?;
    let folder = RunFolder::create(&path).map_err(|e| {
        Failure::request(format!("failed to {e}"), "name a folder with --run-dir that holds no run yet")
    })?;
    let (events, receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(listen(folder, receiver));

    let host = Host::look(&ctx, args.accel).await?;
    let accel = host.probe.accel;
    let _ = events.send(Event::RunStarted { id: id.clone(), cells: plan.cells(), accel: accel.to_string() });
    let mut phases = BTreeMap::new();
    let build_clock = Instant::now();
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await;
    let artifacts = match artifacts {
        Ok(artifacts) => artifacts,
        Err(failure) => {
            let exit_code = failure.exit as u8;
            let _ = events.send(Event::RunFinished { exit_code, took_ms: clock.elapsed().as_millis() as u64 });
            drop(events);
            let _ = listener.await;
            return Err(failure);
        }
    };
    let sides = setup::sides(&ctx, &requested, &artifacts, &events).await?;
    phases.insert("build".to_owned(), build_clock.elapsed().as_millis() as u64);

    let jobs = args
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .max(1);
    let needed = setup::memory_needed(plan.groups.iter().map(|g| &g.fixture), jobs);
    let config = EngineConfig {
        launcher: host.launcher(needed)?,
        accel,
        isolation: match args.isolation {
            IsolationArg::Clone => Isolation::Clone,
            IsolationArg::Boot => Isolation::Boot,
        },
        jobs,
        folder: path.clone(),
    };
    let run_clock = Instant::now();
    let snapshots = Snapshots::of(&plan, project);
    let engine = Engine::new(config, sides, events.clone());
    let records = engine.run(plan).await?;
    drop(engine);
    phases.insert("run".to_owned(), run_clock.elapsed().as_millis() as u64);

    let judge_clock = Instant::now();
    let contracts: Vec<Contract> = kernels.into_iter().map(|(_, c)| c).collect();
    let judged = judge(&records, &contracts, &snapshots, &path)?;
    for (id, verdict) in &judged.cells {
        let took_ms = records.iter().find(|r| r.id == *id).map_or(0, |r| r.took_ms);
        let _ = events.send(Event::CellFinished { cell: id.clone(), verdict: verdict.clone(), took_ms });
    }
    phases.insert("judge".to_owned(), judge_clock.elapsed().as_millis() as u64);
    let exit = judged.exit();
    let took_ms = clock.elapsed().as_millis() as u64;
    let _ = events.send(Event::RunFinished { exit_code: exit as u8, took_ms });
    drop(events);
    let notices = listener.await.map_err(|e| Failure::harness(format!("failed to keep the journal: {e}")))??;
    let record = RunRecord {
        version: RECORD_VERSION,
        id,
        zonedev: env!("CARGO_PKG_VERSION").to_owned(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        took_ms,
        accel: accel.to_string(),
        accel_reason: host.probe.kvm_reason.clone(),
        qemu: host.qemu.version.clone(),
        kernels: requested.iter().zip(&artifacts).map(|(r, a)| setup::kernel_record(r, a)).collect(),
        cells: judged.cells,
        pairs: judged.pairs,
        pages_read: judged.pages_read,
        pages_predicted: judged.pages_predicted,
        phases_ms: phases,
        notices,
        exit_code: exit as u8,
    };
    RunFolder::open(&path).write_record(&record)?;
    link_latest(&path);
    print!("{}", report::summary(&record, report::width()));
    println!("run: {path}");
    Ok(exit)
}

/// Writes the journal and shows progress until the run's end; gives the notices.
async fn listen(
    mut folder: RunFolder,
    mut receiver: UnboundedReceiver<Event>,
) -> Result<Vec<String>, crate::record::RunFolderError> {
    let mut progress = Progress::new();
    let mut notices = Vec::new();
    while let Some(event) = receiver.recv().await {
        if !matches!(event, Event::BuildProgress { .. }) {
            folder.journal(&event)?;
        }
        if let Event::Notice { message } = &event
            && !notices.contains(message)
        {
            notices.push(message.clone());
        }
        progress.event(&event);
    }
    progress.finish();
    Ok(notices)
}

fn run_folder(
    project: &Utf8Path,
    given: Option<&Utf8Path>,
    started: SystemTime,
) -> Result<(Utf8PathBuf, String), Failure> {
    let stamp = humantime::format_rfc3339_seconds(started).to_string().replace([':', '-'], "");
    let id = format!("{stamp}-{}", std::process::id());
    let path = match given {
        Some(path) => path.to_owned(),
        None => project.join("target/runs").join(&id),
    };
    fs_err::create_dir_all(&path)?;
    Ok((path.canonicalize_utf8()?, id))
}

/// `latest` beside the runs; where it can't be made, `zonedev inspect` takes the folder's name.
fn link_latest(path: &Utf8Path) {
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let new = parent.join(format!(".latest-{}", std::process::id()));
        if std::os::unix::fs::symlink(name, &new).is_ok() {
            let _ = fs_err::rename(&new, parent.join("latest"));
        }
    }
}

/// Where the accepted snapshots of a run's cells are.
struct Snapshots {
    /// Folder of the suite's snapshots and the case's file, by suite and case.
    dirs: BTreeMap<(String, String), (Utf8PathBuf, Utf8PathBuf)>,
    project: Utf8PathBuf,
}

impl Snapshots {
    fn of(plan: &Plan, project: &Utf8Path) -> Self {
        let mut dirs = BTreeMap::new();
        for cell in plan.groups.iter().flat_map(|g| &g.cells) {
            let dir = project.join("suites").join(&cell.id.suite).join("snapshots");
            dirs.insert((cell.id.suite.clone(), cell.id.case.clone()), (dir, cell.case_path.clone()));
        }
        Self { dirs, project: project.to_owned() }
    }

    /// The accepted file of a cell, and the file that the case is written in.
    fn of_cell(&self, record: &CellRecord) -> (Utf8PathBuf, Utf8PathBuf) {
        let key = (record.id.suite.clone(), record.id.case.clone());
        let (dir, source) = self.dirs.get(&key).cloned().unwrap_or_else(|| {
            // The boot cells have no case file: their fixture is what they come from.
            let fixture = format!("images/fixtures/{}.toml", record.id.fixture);
            (self.project.join("suites").join(&record.id.suite).join("snapshots"), self.project.join(fixture))
        });
        let source = source.strip_prefix(&self.project).map(Utf8Path::to_owned).unwrap_or(source);
        (dir.join(snapshot::file_name(&record.id, &record.contract)), source)
    }
}

/// A run's cells and pairs, judged.
struct Judged {
    cells: Vec<(CellId, CellVerdict)>,
    pairs: Vec<PairRecord>,
    pages_read: u64,
    pages_predicted: u64,
    stale: BTreeSet<String>,
}

impl Judged {
    fn exit(&self) -> Exit {
        let failed = self.cells.iter().any(|(_, v)| matches!(v, CellVerdict::Fail { .. }));
        let regressed = self.pairs.iter().any(|p| p.verdict == PairVerdict::Regressed);
        let error = self.cells.iter().any(|(_, v)| matches!(v, CellVerdict::Error { .. }));
        if failed || regressed || !self.stale.is_empty() {
            Exit::Regressed
        } else if error {
            Exit::Harness
        } else {
            Exit::Good
        }
    }
}

fn judge(
    records: &[CellRecord],
    contracts: &[Contract],
    snapshots: &Snapshots,
    run: &Utf8Path,
) -> Result<Judged, Failure> {
    let folder = RunFolder::open(run);
    let mut out = Judged {
        cells: Vec::new(),
        pairs: Vec::new(),
        pages_read: 0,
        pages_predicted: 0,
        stale: BTreeSet::new(),
    };
    let mut accepted = BTreeMap::new();
    for record in records {
        let contract = &contracts[record.id.side];
        let verdict = verdict::judge_cell(record, contract);
        for checkpoint in &record.checkpoints {
            let checked = verdict::check(checkpoint, contract);
            out.pages_read += checked.pages;
            out.pages_predicted += checked.predicted;
        }
        let (file, source) = snapshots.of_cell(record);
        let text = verdict::normalised(record);
        let found = snapshot::Snapshot::new(&source, &record.title, &text);
        fs_err::write(folder.cell_dir(&record.id)?.join("observation.snap"), found.to_file())?;
        let old = snapshot::read(&file).map_err(|e| Failure::harness(format!("failed to {e}")))?;
        // Only what keeps its contract can be accepted; in CI nobody would (insta does the same).
        let acceptable = verdict == (CellVerdict::Pass {}) && std::env::var_os("CI").is_none();
        if acceptable && old.as_ref().is_none_or(|o| o.contents() != found.contents()) {
            snapshot::write_pending(&file, &found)?;
        }
        if let Some(old) = old {
            accepted.insert(record.id.clone(), old.contents().to_owned());
        }
        out.cells.push((record.id.clone(), verdict));
    }
    let verdict_of = |id: &CellId| out.cells.iter().find(|(i, _)| i == id).map(|(_, v)| v);
    for base in records.iter().filter(|r| r.id.side == 0) {
        for other in records
            .iter()
            .filter(|r| r.id.side != 0 && r.id.case_path() == base.id.case_path())
        {
            let (Some(base_verdict), Some(other_verdict)) = (verdict_of(&base.id), verdict_of(&other.id)) else {
                continue;
            };
            let pair = verdict::pair(
                base,
                other,
                base_verdict,
                other_verdict,
                accepted.get(&base.id).map(String::as_str),
                accepted.get(&other.id).map(String::as_str),
            );
            if pair.accepted == (AcceptState::NotAsAccepted {}) && pair.verdict == PairVerdict::Same {
                out.stale.insert(base.id.case_path());
            }
            out.pairs.push(pair);
        }
    }
    Ok(out)
}
