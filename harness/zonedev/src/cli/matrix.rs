//! `zonedev matrix`: the main job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::build::BuildCtx;
use crate::plan::{self, Plan};
use crate::record::{
    Begun, CellId, CellRecord, CellVerdict, Event, Part, RECORD_VERSION, RunFolder, RunRecord,
};
use crate::report;
use crate::run::{Engine, EngineConfig, Isolation, Repeat};
use crate::spec::Contract;

use super::args::{Cli, IsolationArg, MatrixArgs, Selection};
use super::exit::{Exit, Failure};
use super::judge::{Accepted, Judged, each, judge};
use super::setup::{self, Cases, Host, Requested};
use super::teller::Teller;
use super::{cluster, prepare, specs};
use crate::vm::Shelf;

/// How long a run that is ended waits for what had happened before to be written down.
pub(super) const LAST_EVENTS: Duration = Duration::from_millis(300);
/// Failures named when a run is ended.
const MAX_FAILED: usize = 10;

/// Builds, boots, drives, judges, reports.
pub(super) async fn run(project: &Utf8Path, args: MatrixArgs) -> Result<Exit, Failure> {
    super::signals::listen();
    let Some(run) = &args.resume else {
        #[expect(clippy::disallowed_methods, reason = "the date in a run's name")]
        let started = SystemTime::now();
        let job = Job::of(project, args)?;
        if job.args.build_only {
            return prepare::run(&job).await;
        }
        let runs = project.join("target/runs");
        let (path, id) = run_folder_in(&runs, job.args.run_dir.as_deref(), started)?;
        let folder = RunFolder::create(&path).map_err(|e| {
            Failure::request(
                format!("failed to {e}"),
                "name a folder with --run-dir that holds no run yet",
            )
        })?;
        let started = humantime::format_rfc3339_seconds(started).to_string();
        if job.args.cluster.is_slurm()? {
            return cluster::run(job, folder, (id, started), None).await;
        }
        return go(job, folder, &path, (id, started), None).await;
    };
    let path = super::inspect::run_path(project, run);
    let in_use = |e| Failure::request(format!("failed to {e}"), "name the folder of a run");
    let folder = RunFolder::resume(&path).map_err(in_use)?;
    let path = path.canonicalize_utf8()?;
    // A cell that the host or the harness broke has not finished.
    let broken = |(_, v): &(CellId, CellVerdict)| matches!(v, CellVerdict::Error { .. });
    let over = |r: &RunRecord| r.unfinished.is_empty() && !r.cells.iter().any(broken);
    if folder.read_record().is_ok_and(|r| over(&r)) {
        return Err(Failure::request(
            format!("the run in {path} is over"),
            "see it with `zonedev report`, or start another one",
        ));
    }
    let begun = begun(&folder)?;
    let mut before = command(&begun)?;
    before.jobs = args.jobs.or(before.jobs);
    let job = Job::of(project, before)?;
    let of_run = (begun.id.clone(), begun.started.clone());
    if job.args.cluster.is_slurm()? {
        return cluster::run(job, folder, of_run, Some(begun)).await;
    }
    go(job, folder, &path, of_run, Some(begun)).await
}

/// What had finished of these cells.
fn finished(folder: &RunFolder, ids: &[CellId]) -> Vec<CellRecord> {
    let all = each(ids, |id| folder.finished(id));
    all.into_iter().flatten().collect()
}

/// The record of a run's folder. Of a run that was cut off it is made of what had finished, and
/// kept, unless it still goes on.
pub(super) fn recorded(project: &Utf8Path, folder: &RunFolder) -> Result<RunRecord, Failure> {
    if let Ok(record) = folder.read_record()
        && record.unfinished.is_empty()
    {
        return Ok(record);
    }
    let path = folder.path();
    let begun = begun(folder)?;
    let job = Job::of(project, command(&begun)?)?;
    let running = folder.is_running();
    if !running {
        cluster::collect(folder, &begun.cells)?;
    }
    let records = finished(folder, &begun.cells);
    let judged = judge(&records, &job.contracts(), &job.accepted, path, false)?;
    let mut record = over(&begun, judged);
    record.notices = folder.notices()?;
    let words = if running {
        "the run is still going on"
    } else {
        "the run was cut off"
    };
    record.notices.push(words.to_owned());
    if !running {
        folder.write_record(&record)?;
    }
    Ok(record)
}

/// Prints a run's summary, and where the run is.
pub(super) fn tell_summary(
    project: &Utf8Path,
    path: &Utf8Path,
    record: &RunRecord,
    look: &report::Look,
) {
    out!("{}", report::summary(record, typed(project, path), look));
    outln!("run: {path}");
    if look.verbosity != report::Verbosity::Brief && crate::build::which("zonedev").is_none() {
        outln!(
            "zonedev is not on PATH: `./just zonedev …` does the same, `./just install` installs it"
        );
    }
}

/// What names a run on a command line: its name alone, where that is in the project's own folder
/// of runs.
pub(super) fn typed<'a>(project: &Utf8Path, path: &'a Utf8Path) -> &'a str {
    match path.strip_prefix(project.join("target/runs")) {
        Ok(name) => name.as_str(),
        Err(_) => path.as_str(),
    }
}

pub(super) fn begun(folder: &RunFolder) -> Result<Begun, Failure> {
    folder.read_begun().map_err(|e| {
        Failure::request(
            format!("failed to {e}"),
            "a run ends without it where its kernels were not built yet; start it anew",
        )
    })
}

/// What was typed when a run began.
pub(super) fn command(begun: &Begun) -> Result<MatrixArgs, Failure> {
    std::env::set_current_dir(&begun.directory)?;
    let cli = Cli::try_parse_from(&begun.command).ok();
    cli.and_then(Cli::into_matrix).ok_or_else(|| {
        Failure::request(
            format!(
                "this zonedev does not understand `{}`",
                begun.command.join(" ")
            ),
            "use the zonedev that began the run",
        )
    })
}

/// A request, resolved; nothing is built yet.
pub(super) struct Job {
    pub(super) ctx: BuildCtx,
    pub(super) requested: Vec<Requested>,
    pub(super) plan: Plan,
    pub(super) accepted: Accepted,
    /// Where it is one part of several.
    part: Option<Part>,
    pub(super) args: MatrixArgs,
}

impl Job {
    /// With every option as it is when nothing is typed.
    pub(super) fn of_selection(project: &Utf8Path, selection: Selection) -> Result<Job, Failure> {
        let cli = Cli::try_parse_from(["zonedev", "matrix"]).ok();
        let mut args = (cli.and_then(Cli::into_matrix))
            .ok_or_else(|| Failure::harness("`zonedev matrix` alone is not understood"))?;
        args.selection = selection;
        Job::of(project, args)
    }

    pub(super) fn of(project: &Utf8Path, args: MatrixArgs) -> Result<Job, Failure> {
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
        if let Some(partition) = args.selection.partition {
            plan = plan.part(partition);
        }
        if plan.groups.is_empty() {
            return Err(Failure::nothing_selected(
                "no case was selected",
                "see `zonedev list cases`; each -E must be a part of SUITE/FIXTURE/CASE",
            ));
        }
        let accepted = Accepted::of(&plan, project)?;
        let part = match args.selection.partition {
            Some(p) => Some(Part::new(
                p.to_string(),
                specs::hash(project, &args.selection)?,
            )),
            None => None,
        };
        Ok(Job {
            ctx,
            requested,
            plan,
            accepted,
            part,
            args,
        })
    }

    pub(super) fn contracts(&self) -> Vec<Contract> {
        self.requested.iter().map(|r| r.contract.clone()).collect()
    }
}

/// What the listener has heard so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) notices: Vec<String>,
    cells: Vec<(CellId, CellVerdict)>,
}

pub(super) type Heard = Arc<Mutex<Told>>;

pub(super) fn heard(told: &Heard) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Builds and runs what has not finished yet; `before`: the run was begun and cut off.
async fn go(
    mut job: Job,
    folder: RunFolder,
    path: &Utf8Path,
    (id, started): (String, String),
    before: Option<Begun>,
) -> Result<Exit, Failure> {
    let clock = Instant::now();
    let told = Heard::default();
    let (events, receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(listen(folder, receiver, Arc::clone(&told)));
    let look = async {
        let host = Host::look(&job.ctx, job.args.accel).await?;
        setup::skip_on_host(&mut job.plan, &host.qemu).await?;
        Ok(host)
    };
    let host = super::or_interrupted(look).await?;
    let accel = host.probe.accel;
    let finished: Vec<CellRecord> = match &before {
        Some(_) => {
            let ids: Vec<CellId> = job.plan.ids().cloned().collect();
            finished(&RunFolder::open(path), &ids)
        }
        None => Vec::new(),
    };
    let ids: BTreeSet<CellId> = finished.iter().map(|c| c.id.clone()).collect();
    let all: Vec<CellId> = job.plan.ids().cloned().collect();
    let plan = std::mem::take(&mut job.plan).without(&ids);
    let _ = events.send(Event::RunStarted {
        id: id.clone(),
        cells: plan.cells(),
        accel: accel.to_string(),
    });
    let mut phases = BTreeMap::new();
    let build_clock = Instant::now();
    let built =
        super::or_interrupted(setup::build_kernels(&job.ctx, &job.requested, &events)).await;
    let artifacts = match built {
        Ok(artifacts) => artifacts,
        Err(failure) => {
            let exit_code = failure.exit.code();
            let _ = events.send(Event::RunFinished {
                exit_code,
                took_ms: clock.elapsed().as_millis() as u64,
            });
            drop(events);
            let _ = listener.await;
            return Err(failure);
        }
    };
    let begun = Begun {
        version: RECORD_VERSION,
        id,
        zonedev: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        command: std::env::args().collect(),
        directory: std::env::current_dir()?.to_string_lossy().into_owned(),
        accel: accel.to_string(),
        accel_reason: host.probe.kvm_reason.clone(),
        qemu: host.qemu.version.clone(),
        kernels: job
            .requested
            .iter()
            .zip(&artifacts)
            .map(|(r, a)| setup::kernel_record(r, a))
            .collect(),
        cells: all,
    };
    let begun = match before {
        Some(before) => same_run(before, &begun)?,
        None => {
            let folder = RunFolder::open(path);
            if let Some(part) = &job.part {
                folder.write_part(part)?;
            }
            folder.write_begun(&begun)?;
            begun
        }
    };
    let programs: BTreeSet<String> = plan
        .groups
        .iter()
        .flat_map(|g| &g.cells)
        .flat_map(|c| c.programs.clone())
        .collect();
    let prepare = async {
        let sides = setup::sides(&job.ctx, &job.requested, &artifacts, &programs, &events).await?;
        let fixtures = plan.groups.iter().map(|g| &g.fixture);
        let roots = setup::roots(&job.ctx, fixtures, &events).await?;
        let fstests = match &job.args.selection.fstests {
            Some(checkout) => Some(setup::fstests(&job.ctx, checkout, path, &events).await?),
            None => None,
        };
        Ok::<_, Failure>((sides, roots, fstests))
    };
    let (sides, roots, fstests) = super::or_interrupted(prepare)
        .await
        // From here on it can be gone on with, and says so.
        .inspect_err(|_| cut_off(&heard(&told), begun.cells.len() - ids.len(), path))?;
    phases.insert("build".to_owned(), build_clock.elapsed().as_millis() as u64);

    let jobs = job
        .args
        .jobs
        .unwrap_or_else(|| {
            // One more than processors: a guest that waits for a timer leaves one idle.
            1 + std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        })
        .max(1);
    let to_run = plan.groups.iter().filter(|g| g.skip.is_none());
    let needed = setup::memory_needed(to_run.map(|g| &g.fixture), jobs);
    let config = EngineConfig {
        launcher: host.launcher(needed)?,
        accel,
        isolation: match job.args.isolation {
            IsolationArg::Clone => Isolation::Clone,
            IsolationArg::Boot => Isolation::Boot,
        },
        dump_hung: job.args.dump_hung,
        repeat: Repeat {
            runs: job.args.repeat,
            until_fails: job.args.until_fails,
            seed: job.args.seed,
            retries: job.args.retries,
        },
        jobs,
        folder: path.to_owned(),
        roots,
        fstests,
        memory: setup::memory_for_guests(),
        times: Some(job.ctx.cache.root().join("times.json")),
        shelf: (!job.args.fresh).then(|| Shelf::of(job.ctx.cache.root())),
    };
    let memory = config.launcher.memory.clone();
    super::signals::tidy({
        let memory = memory.downgrade();
        move || memory.abandon()
    });
    let run_clock = Instant::now();
    let used = processor_time();
    let engine = Engine::new(config, sides, events.clone());
    let ran = tokio::select! {
        ran = engine.run(plan) => ran.map_err(Failure::from),
        () = super::signals::first() => Err(super::interruption()),
    };
    drop(engine);
    // What ran is over, whoever reads what is printed now.
    drop(host);
    let mut records = match ran {
        Ok(records) => records,
        Err(failure) => {
            // What was running goes with the engine; what had finished is told, and kept.
            memory.abandon();
            drop(events);
            // Its tasks may still hold a sender; what they have to tell is no longer of use.
            let _ = tokio::time::timeout(LAST_EVENTS, listener).await;
            cut_off(&heard(&told), begun.cells.len() - ids.len(), path);
            return Err(failure);
        }
    };
    drop(memory);
    phases.insert("run".to_owned(), run_clock.elapsed().as_millis() as u64);
    let mut cpu = processor_time();
    for (who, ms) in &mut cpu {
        *ms = ms.saturating_sub(used.get(who).copied().unwrap_or_default());
    }
    let again: BTreeSet<CellId> = records.iter().map(|r| r.id.clone()).collect();
    records.extend(finished.into_iter().filter(|r| !again.contains(&r.id)));
    records.sort_by(|a, b| a.id.cmp(&b.id));

    let judge_clock = Instant::now();
    let judged = judge(&records, &job.contracts(), &job.accepted, path, true)?;
    phases.insert("judge".to_owned(), judge_clock.elapsed().as_millis() as u64);
    let mut record = over(&begun, judged);
    record.took_ms = clock.elapsed().as_millis() as u64;
    let _ = events.send(Event::RunFinished {
        exit_code: record.exit_code,
        took_ms: record.took_ms,
    });
    drop(events);
    listener
        .await
        .map_err(|e| Failure::harness(format!("failed to keep the journal: {e}")))?;
    record.notices = std::mem::take(&mut heard(&told).notices);
    record.phases_ms = phases;
    record.cpu_ms = cpu;
    let written = RunFolder::open(path).write_record(&record);
    link_latest(&job.ctx.project, path);
    let look = super::look(&std::io::stdout());
    tell_summary(&job.ctx.project, path, &record, &look);
    written?;
    Ok(Exit::from_code(record.exit_code))
}

/// The record of a run, as far as it went.
pub(super) fn over(begun: &Begun, judged: Judged) -> RunRecord {
    let finished: BTreeSet<&CellId> = judged.cells.iter().map(|(id, _)| id).collect();
    let unfinished: Vec<CellId> = begun
        .cells
        .iter()
        .filter(|id| !finished.contains(id))
        .cloned()
        .collect();
    let exit = match judged.exit() {
        Exit::Good if !unfinished.is_empty() => Exit::Harness,
        exit => exit,
    };
    RunRecord {
        version: RECORD_VERSION,
        id: begun.id.clone(),
        zonedev: begun.zonedev.clone(),
        started: begun.started.clone(),
        took_ms: 0,
        accel: begun.accel.clone(),
        accel_reason: begun.accel_reason.clone(),
        qemu: begun.qemu.clone(),
        kernels: begun.kernels.clone(),
        cells: judged.cells,
        unfinished,
        pairs: judged.pairs,
        skips: judged.skips,
        over_ceiling: judged.over_ceiling,
        known: judged.known,
        flaky: judged.flaky,
        pages_read: judged.pages_read,
        pages_predicted: judged.pages_predicted,
        boots_kept: judged.boots_kept,
        cpu_ms: BTreeMap::new(),
        phases_ms: BTreeMap::new(),
        notices: Vec::new(),
        exit_code: exit.code(),
    }
}

/// What our guests, as far as they have ended, and we have taken of the host's processors,
/// milliseconds.
fn processor_time() -> BTreeMap<String, u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let of = |who| {
        let usage = getrusage(who).ok()?;
        let time = usage.user_time() + usage.system_time();
        u64::try_from(time.num_milliseconds()).ok()
    };
    let all = [
        ("guests", UsageWho::RUSAGE_CHILDREN),
        ("harness", UsageWho::RUSAGE_SELF),
    ];
    all.into_iter()
        .filter_map(|(name, who)| Some((name.to_owned(), of(who)?)))
        .collect()
}

/// A run goes on only with what it began with.
fn same_run(before: Begun, now: &Begun) -> Result<Begun, Failure> {
    let differs = [
        ("zonedev", before.zonedev != now.zonedev),
        ("the accelerator", before.accel != now.accel),
        ("QEMU", before.qemu != now.qemu),
        ("the kernels", before.kernels != now.kernels),
        ("the cases", before.cells != now.cells),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(before),
        Some((what, _)) => Err(Failure::request(
            format!("{what} changed since run {} began", before.id),
            "start another run; `zonedev report` tells what this one had done",
        )),
    }
}

/// Tells what had finished when a run ended early.
pub(super) fn cut_off(told: &Told, planned: usize, path: &Utf8Path) {
    let n = |is: fn(&CellVerdict) -> bool| told.cells.iter().filter(|(_, v)| is(v)).count();
    outln!(
        "{} of {planned} cells had finished: {} passed, {} failed, {} were skipped, {} went wrong by the host",
        told.cells.len(),
        n(|v| matches!(v, CellVerdict::Pass {})),
        n(|v| matches!(v, CellVerdict::Fail { .. })),
        n(|v| matches!(v, CellVerdict::Skip { .. })),
        n(|v| matches!(v, CellVerdict::Error { .. })),
    );
    let failed = told.cells.iter().filter_map(|(id, v)| match v {
        CellVerdict::Fail { reasons, .. } => Some((id, reasons.first()?)),
        _ => None,
    });
    for (id, reason) in failed.clone().take(MAX_FAILED) {
        outln!("  {}", report::escape(&format!("{id}: {reason}")));
    }
    if failed.clone().count() > MAX_FAILED {
        outln!("  and {} more", failed.count() - MAX_FAILED);
    }
    outln!("`zonedev report {path}` tells more; `zonedev matrix --resume {path}` goes on");
}

/// Writes the journal and shows progress until the run's end.
pub(super) async fn listen(
    mut folder: RunFolder,
    mut receiver: UnboundedReceiver<Event>,
    told: Heard,
) {
    let mut teller = Teller::new(super::progress()).ok();
    let mut tell = |event: &Event| {
        if let Some(teller) = &mut teller {
            teller.tell(event);
        }
    };
    let mut broken = false;
    while let Some(event) = receiver.recv().await {
        tell(&event);
        if !broken
            && !matches!(event, Event::BuildProgress { .. })
            && let Err(e) = folder.journal(&event)
        {
            // The cells' records are what counts; a run does not end for its journal.
            broken = true;
            let message = format!("the journal is not kept any more: failed to {e}");
            tell(&Event::Notice {
                message: message.clone(),
            });
            heard(&told).notices.push(message);
        }
        match event {
            Event::Notice { message } => {
                let mut told = heard(&told);
                if !told.notices.contains(&message) {
                    told.notices.push(message);
                }
            }
            Event::CellFinished { cell, verdict, .. } => heard(&told).cells.push((cell, verdict)),
            _ => {}
        }
    }
    if let Some(teller) = teller {
        tokio::task::block_in_place(|| teller.end());
    }
}

pub(super) fn run_folder_in(
    runs: &Utf8Path,
    given: Option<&Utf8Path>,
    started: SystemTime,
) -> Result<(Utf8PathBuf, String), Failure> {
    let stamp = humantime::format_rfc3339_seconds(started)
        .to_string()
        .replace([':', '-'], "");
    let id = format!("{stamp}-{}", std::process::id());
    let path = match given {
        Some(path) => path.to_owned(),
        None => runs.join(&id),
    };
    fs_err::create_dir_all(&path)?;
    Ok((path.canonicalize_utf8()?, id))
}

/// `latest` among the project's own runs; where it can't be made, `zonedev inspect` takes the folder's
/// name. A run that was put elsewhere has none: a `latest` in the working directory would be taken for a
/// run's folder from then on.
pub(super) fn link_latest(project: &Utf8Path, path: &Utf8Path) {
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let runs = project.join("target/runs").canonicalize_utf8();
        if !runs.is_ok_and(|runs| runs == parent) {
            return;
        }
        let new = parent.join(format!(".latest-{}", std::process::id()));
        if std::os::unix::fs::symlink(name, &new).is_ok() {
            let _ = fs_err::rename(&new, parent.join("latest"));
        }
    }
}
