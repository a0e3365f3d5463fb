//! `zonedev matrix`: the main job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::plan::{self, Plan};
use crate::record::{
    CeilingRecord, CellId, CellRecord, CellVerdict, Event, KnownRecord, PairRecord, PairVerdict,
    RECORD_VERSION, RunFolder, RunRecord, SkipRecord,
};
use crate::report;
use crate::run::{Engine, EngineConfig, Isolation, Repeat};
use crate::spec::{Ceilings, Contract, SpecError};
use crate::verdict;

use super::args::{IsolationArg, MatrixArgs};
use super::exit::{Exit, Failure};
use super::setup::{self, Cases, Host};

/// Builds, boots, drives, judges, reports.
pub(super) async fn run(project: &Utf8Path, args: MatrixArgs) -> Result<Exit, Failure> {
    let started = SystemTime::now();
    let clock = Instant::now();
    let ctx = setup::build_context(project, &args.build)?;
    let requested = setup::resolve(&ctx, &args.selection.kernels)?;
    let Cases {
        all: cases,
        fixtures,
        filter,
    } = setup::cases(project, &args.selection)?;
    let kernels: Vec<(String, Contract)> = requested
        .iter()
        .map(|r| (r.name.clone(), r.contract.clone()))
        .collect();
    let mut plan = plan::plan(&kernels, &cases, &fixtures, &filter)?;
    if plan.groups.is_empty() {
        return Err(Failure::nothing_selected(
            "no case was selected",
            "see `zonedev list cases`; each -E must be a part of SUITE/FIXTURE/CASE",
        ));
    }

    let accepted = Accepted::of(&plan, project)?;
    let (path, id) = run_folder(project, args.run_dir.as_deref(), started)?;
    let folder = RunFolder::create(&path).map_err(|e| {
        Failure::request(
            format!("failed to {e}"),
            "name a folder with --run-dir that holds no run yet",
        )
    })?;
    let (events, receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(listen(folder, receiver));

    let host = Host::look(&ctx, args.accel).await?;
    setup::skip_on_host(&mut plan, &host.qemu).await?;
    let accel = host.probe.accel;
    let _ = events.send(Event::RunStarted {
        id: id.clone(),
        cells: plan.cells(),
        accel: accel.to_string(),
    });
    let mut phases = BTreeMap::new();
    let build_clock = Instant::now();
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await;
    let artifacts = match artifacts {
        Ok(artifacts) => artifacts,
        Err(failure) => {
            let exit_code = failure.exit as u8;
            let _ = events.send(Event::RunFinished {
                exit_code,
                took_ms: clock.elapsed().as_millis() as u64,
            });
            drop(events);
            let _ = listener.await;
            return Err(failure);
        }
    };
    let planned = || plan.groups.iter().flat_map(|g| &g.cells);
    let programs: BTreeSet<String> = planned().flat_map(|c| c.programs.clone()).collect();
    let sides = setup::sides(&ctx, &requested, &artifacts, &programs, &events).await?;
    let roots = setup::roots(&ctx, plan.groups.iter().map(|g| &g.fixture), &events).await?;
    let fstests = match &args.selection.fstests {
        Some(checkout) => Some(setup::fstests(&ctx, checkout, &path, &events).await?),
        None => None,
    };
    phases.insert("build".to_owned(), build_clock.elapsed().as_millis() as u64);

    let jobs = args
        .jobs
        .unwrap_or_else(|| {
            // One more than processors: a guest that waits for a timer leaves one idle.
            1 + std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        })
        .max(1);
    let needed = setup::memory_needed(
        plan.groups
            .iter()
            .filter(|g| g.skip.is_none())
            .map(|g| &g.fixture),
        jobs,
    );
    let config = EngineConfig {
        launcher: host.launcher(needed)?,
        accel,
        isolation: match args.isolation {
            IsolationArg::Clone => Isolation::Clone,
            IsolationArg::Boot => Isolation::Boot,
        },
        dump_hung: args.dump_hung,
        repeat: Repeat {
            runs: args.repeat,
            seed: args.seed,
        },
        jobs,
        folder: path.clone(),
        roots,
        fstests,
    };
    let run_clock = Instant::now();
    let engine = Engine::new(config, sides, events.clone());
    let records = engine.run(plan).await?;
    drop(engine);
    phases.insert("run".to_owned(), run_clock.elapsed().as_millis() as u64);

    let judge_clock = Instant::now();
    let contracts: Vec<Contract> = kernels.into_iter().map(|(_, c)| c).collect();
    let judged = judge(&records, &contracts, &accepted, &path)?;
    phases.insert("judge".to_owned(), judge_clock.elapsed().as_millis() as u64);
    let exit = judged.exit();
    let took_ms = clock.elapsed().as_millis() as u64;
    let _ = events.send(Event::RunFinished {
        exit_code: exit as u8,
        took_ms,
    });
    drop(events);
    let notices = listener
        .await
        .map_err(|e| Failure::harness(format!("failed to keep the journal: {e}")))??;
    let record = RunRecord {
        version: RECORD_VERSION,
        id,
        zonedev: env!("CARGO_PKG_VERSION").to_owned(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        took_ms,
        accel: accel.to_string(),
        accel_reason: host.probe.kvm_reason.clone(),
        qemu: host.qemu.version.clone(),
        kernels: requested
            .iter()
            .zip(&artifacts)
            .map(|(r, a)| setup::kernel_record(r, a))
            .collect(),
        cells: judged.cells,
        pairs: judged.pairs,
        skips: judged.skips,
        over_ceiling: judged.over_ceiling,
        known: judged.known,
        pages_read: judged.pages_read,
        pages_predicted: judged.pages_predicted,
        phases_ms: phases,
        notices,
        exit_code: exit as u8,
    };
    RunFolder::open(&path).write_record(&record)?;
    link_latest(&path);
    out!(
        "{}",
        report::summary(&record, &super::look(&std::io::stdout()))
    );
    outln!("run: {path}");
    Ok(exit)
}

/// Writes the journal and shows progress until the run's end; gives the notices.
async fn listen(
    mut folder: RunFolder,
    mut receiver: UnboundedReceiver<Event>,
) -> Result<Vec<String>, crate::record::RunFolderError> {
    let mut progress = super::progress();
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
    Ok(notices)
}

fn run_folder(
    project: &Utf8Path,
    given: Option<&Utf8Path>,
    started: SystemTime,
) -> Result<(Utf8PathBuf, String), Failure> {
    let stamp = humantime::format_rfc3339_seconds(started)
        .to_string()
        .replace([':', '-'], "");
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

/// What the project has accepted of a run's cells: where their snapshots are, and how many may be
/// skipped.
struct Accepted {
    /// The case's file by suite and case.
    cases: BTreeMap<(String, String), Utf8PathBuf>,
    /// By suite.
    ceilings: BTreeMap<String, Ceilings>,
    project: Utf8PathBuf,
}

impl Accepted {
    fn of(plan: &Plan, project: &Utf8Path) -> Result<Self, SpecError> {
        let ids = plan.groups.iter().flat_map(|g| {
            let cells = g.cells.iter().map(|c| &c.id);
            cells.chain([&g.boot])
        });
        let suites: BTreeSet<&str> = ids.map(|id| id.suite.as_str()).collect();
        let mut ceilings = BTreeMap::new();
        for suite in suites {
            let dir = project.join("suites").join(suite);
            ceilings.insert(suite.to_owned(), Ceilings::load(&dir)?);
        }
        let cells = plan.groups.iter().flat_map(|g| &g.cells);
        // A teardown comes from its fixture, as the boot does.
        let cases = cells
            .filter(|c| c.id.suite != "boot")
            .map(|c| ((c.id.suite.clone(), c.id.case.clone()), c.case_path.clone()))
            .collect();
        Ok(Self {
            cases,
            ceilings,
            project: project.to_owned(),
        })
    }

    fn dir(&self, id: &CellId) -> Utf8PathBuf {
        self.project
            .join("suites")
            .join(&id.suite)
            .join("snapshots")
    }

    /// The file that a cell comes from, relative to the project.
    fn source(&self, id: &CellId) -> String {
        match self.cases.get(&(id.suite.clone(), id.case.clone())) {
            Some(path) => path.strip_prefix(&self.project).unwrap_or(path).to_string(),
            // The boot cells have no case file: their fixture is what they come from.
            None => format!("images/fixtures/{}.toml", id.fixture),
        }
    }
}

/// A run's cells and pairs, judged.
struct Judged {
    cells: Vec<(CellId, CellVerdict)>,
    pairs: Vec<PairRecord>,
    skips: Vec<SkipRecord>,
    over_ceiling: Vec<CeilingRecord>,
    known: Vec<KnownRecord>,
    pages_read: u64,
    pages_predicted: u64,
}

impl Judged {
    fn exit(&self) -> Exit {
        let failed = self
            .cells
            .iter()
            .any(|(_, v)| matches!(v, CellVerdict::Fail { .. }));
        let regressed = self
            .pairs
            .iter()
            .any(|p| p.verdict == PairVerdict::Regressed);
        let error = self
            .cells
            .iter()
            .any(|(_, v)| matches!(v, CellVerdict::Error { .. }));
        if failed || regressed || !self.over_ceiling.is_empty() {
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
    project: &Accepted,
    run: &Utf8Path,
) -> Result<Judged, Failure> {
    let snapshot = |e: verdict::SnapshotError| Failure::harness(format!("failed to {e}"));
    let folder = RunFolder::open(run);
    let mut out = Judged {
        cells: Vec::new(),
        pairs: Vec::new(),
        skips: Vec::new(),
        over_ceiling: Vec::new(),
        known: Vec::new(),
        pages_read: 0,
        pages_predicted: 0,
    };
    let mut accepted = BTreeMap::new();
    for record in records {
        let verdict::JudgedCell {
            verdict,
            pages_read,
            pages_predicted,
            known,
        } = verdict::judge_cell(record, &contracts[record.id.side]);
        out.pages_read += pages_read;
        out.pages_predicted += pages_predicted;
        out.known.extend(known.into_iter().map(|known| KnownRecord {
            cell: record.id.clone(),
            known,
        }));
        let (id, contract, text) = (&record.id, &record.contract, verdict::normalised(record));
        let (dir, source) = (project.dir(id), project.source(id));
        let file = folder
            .cell_dir(id)?
            .join(format!("{}.snap", verdict::snapshot_name(id, contract)));
        fs_err::write(file, verdict::encode(&source, &record.title, &text))?;
        if let Some(old) = verdict::accepted(&dir, id, contract).map_err(snapshot)? {
            accepted.insert(id.clone(), old);
        }
        // Only what keeps its contract can be accepted; in CI nobody would (insta does the same).
        if verdict == (CellVerdict::Pass {}) && std::env::var_os("CI").is_none() {
            verdict::propose(&dir, &source, id, contract, &text).map_err(snapshot)?;
        }
        out.cells.push((id.clone(), verdict));
    }
    let verdict_of = |id: &CellId| out.cells.iter().find(|(i, _)| i == id).map(|(_, v)| v);
    for base in records.iter().filter(|r| r.id.side == 0) {
        for other in records
            .iter()
            .filter(|r| r.id.side != 0 && r.id.case_path() == base.id.case_path())
        {
            let (Some(base_verdict), Some(other_verdict)) =
                (verdict_of(&base.id), verdict_of(&other.id))
            else {
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
            out.pairs.push(pair);
        }
    }
    let judged: Vec<_> = records
        .iter()
        .zip(&out.cells)
        .map(|(record, (_, verdict))| (record, verdict))
        .collect();
    let (skips, over_ceiling) = (
        verdict::skips(&judged),
        verdict::over_ceiling(&judged, &project.ceilings),
    );
    (out.skips, out.over_ceiling) = (skips, over_ceiling);
    Ok(out)
}
