//! `zonedev matrix --executor slurm`: the parts of a run as jobs of a cluster, followed to their end and
//! merged into the run's own folder. What a part came to is read from files; see [`crate::cluster`].

mod builds;
mod parts;
mod simulate;
mod words;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::build::{self, KernelArtifact};
use crate::cluster::{self, SlurmError, Submission, Submitted};
use crate::plan::{MAX_PARTS, Partition};
use crate::record::{Begun, CellId, Event, RECORD_VERSION, RunFolder, RunRecord};

use super::args::AccelArg;
use super::exit::{Exit, Failure};
use super::matrix::{self, Heard, Job};
use super::merge::Whole;
use super::setup;
use super::signals;
use parts::Following;
pub(super) use simulate::{SimulateArgs, simulate};

/// Guests at a time in a task, where nobody says.
const JOBS: usize = 2;
/// How often a part or a build is submitted in one run, if the cluster loses it.
const TRIES: u32 = 3;
/// How long a controller may be away.
const AWAY: Duration = Duration::from_secs(30 * 60);
/// From question to question.
const ASK: Duration = Duration::from_secs(2);
/// Less than the time that an end by Ctrl-C may take.
const CANCEL: Duration = Duration::from_secs(2);

/// Where cells run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Executor {
    /// On this machine
    Local,
    /// As jobs of a Slurm cluster
    Slurm,
}

/// Where cells run, and how they are handed to a cluster.
#[derive(Debug, Clone, Args)]
pub(super) struct ClusterArgs {
    /// Where the cells run (docs/cluster.md) [default: local]
    #[arg(long, value_name = "WHERE", conflicts_with_all = ["partition", "build_only"])]
    executor: Option<Executor>,
    /// Slurm: how many tasks share the cells [default: as many as take ten minutes each]
    #[arg(long, value_name = "N", requires = "executor")]
    tasks: Option<NonZero<usize>>,
    /// Slurm: options of sbatch for all jobs, such as '--account=x --partition=y'
    #[arg(
        long,
        value_name = "OPTIONS",
        requires = "executor",
        allow_hyphen_values = true
    )]
    slurm_args: Option<String>,
}

impl ClusterArgs {
    /// Whether a cluster is asked for.
    pub(super) fn is_slurm(&self) -> Result<bool, Failure> {
        let wants = self.tasks.is_some() || self.slurm_args.is_some();
        match self.executor {
            Some(Executor::Slurm) => Ok(true),
            Some(Executor::Local) if wants => Err(Failure::request(
                "--tasks and --slurm-args are for a cluster",
                "leave them out, or type --executor slurm",
            )),
            _ => Ok(false),
        }
    }

    fn more(&self) -> Result<Vec<String>, Failure> {
        let text = self.slurm_args.as_deref().unwrap_or_default();
        shlex::split(text).ok_or_else(|| {
            Failure::request(
                format!("a quote of --slurm-args {text} does not end"),
                "close it",
            )
        })
    }
}

/// A run on a cluster.
struct Cluster {
    job: Job,
    /// The run's folder.
    run: Utf8PathBuf,
    /// What all of its jobs are called.
    name: String,
    /// What was typed, and where.
    command: Vec<String>,
    directory: Utf8PathBuf,
    /// Of sbatch, by the user.
    more: Vec<String>,
    /// Guests at a time in a task.
    jobs: usize,
    events: UnboundedSender<Event>,
}

/// Runs it, or goes on with it.
pub(super) async fn run(
    job: Job,
    folder: RunFolder,
    (id, started): (String, String),
    before: Option<Begun>,
) -> Result<Exit, Failure> {
    let clock = Instant::now();
    let path = folder.path().to_owned();
    let submitted = Submitted::read(&path)?;
    let current: Vec<String> = std::env::args().collect();
    let (command, directory) = match &before {
        Some(begun) => (begun.command.clone(), begun.directory.clone()),
        None => (
            current,
            std::env::current_dir()?.to_string_lossy().into_owned(),
        ),
    };
    let told = Heard::default();
    let (events, receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(matrix::listen(folder, receiver, Arc::clone(&told)));
    let cluster = Cluster {
        more: job.args.cluster.more()?,
        jobs: (job.args.jobs)
            .or(submitted.as_ref().map(|s| s.jobs))
            .unwrap_or(JOBS)
            .max(1),
        name: format!("zonedev-{id}"),
        job,
        run: path.clone(),
        command,
        directory: directory.into(),
        events: events.clone(),
    };
    let planned = cluster.job.plan.cells();
    let work = cluster.work((id, started), before, submitted);
    let ended = tokio::select! {
        ended = work => ended,
        () = signals::first() => Err(super::interruption()),
    };
    let (mut whole, begun, mut phases) = match ended {
        Ok(done) => done,
        Err(failure) => {
            cluster.cancel().await;
            let _ = events.send(Event::RunFinished {
                exit_code: failure.exit.code(),
                took_ms: clock.elapsed().as_millis() as u64,
            });
            drop((events, cluster));
            let _ = tokio::time::timeout(matrix::LAST_EVENTS, listener).await;
            if path.join("begun.json").exists() {
                matrix::cut_off(&matrix::heard(&told), planned, &path);
            }
            return Err(failure);
        }
    };
    let judge_clock = Instant::now();
    let folder = RunFolder::open(&path);
    let mut record: RunRecord = whole.write(&folder, &begun, true)?;
    phases.insert("judge".into(), judge_clock.elapsed().as_millis() as u64);
    record.took_ms = clock.elapsed().as_millis() as u64;
    record.phases_ms = phases;
    for message in std::mem::take(&mut whole.notices) {
        // What parts told has been told as it happened.
        if !matrix::heard(&told).notices.contains(&message) {
            let _ = events.send(Event::Notice { message });
        }
    }
    let _ = events.send(Event::RunFinished {
        exit_code: record.exit_code,
        took_ms: record.took_ms,
    });
    let project = cluster.job.ctx.project.clone();
    drop((events, cluster));
    listener
        .await
        .map_err(|e| Failure::harness(format!("failed to keep the journal: {e}")))?;
    record.notices = std::mem::take(&mut matrix::heard(&told).notices);
    let written = folder.write_record(&record);
    // Who goes on with it lays them out anew.
    for name in ["zonedev", "agent"] {
        let _ = fs_err::remove_file(path.join("slurm").join(name));
    }
    matrix::link_latest(&project, &path);
    let look = super::look(&std::io::stdout());
    matrix::tell_summary(&project, &path, &record, &look);
    written?;
    Ok(Exit::from_code(record.exit_code))
}

type Done = (Whole, Begun, BTreeMap<String, u64>);

impl Cluster {
    async fn work(
        &self,
        (id, started): (String, String),
        before: Option<Begun>,
        submitted: Option<Submitted>,
    ) -> Result<Done, Failure> {
        let mut phases = BTreeMap::new();
        let _ = self.events.send(Event::RunStarted {
            id: id.clone(),
            cells: self.job.plan.cells(),
            accel: "slurm".to_owned(),
        });
        let build_clock = Instant::now();
        self.lay_out()?;
        self.build().await?;
        let artifacts =
            setup::build_kernels(&self.job.ctx, &self.job.requested, &self.events).await?;
        phases.insert("build".into(), build_clock.elapsed().as_millis() as u64);

        let begun = self.begun((id, started), &artifacts);
        let folder = RunFolder::open(&self.run);
        match &before {
            Some(before) => same_run(before, &begun)?,
            None => folder.write_begun(&begun)?,
        }
        let run_clock = Instant::now();
        let parts = Following::new(self, begun.clone(), submitted)?
            .follow()
            .await?;
        phases.insert("run".into(), run_clock.elapsed().as_millis() as u64);
        let whole = Whole::of(&self.job.ctx.project, &parts)?;
        let begun = Begun {
            command: begun.command,
            directory: begun.directory,
            started: begun.started,
            ..whole.begun(begun.id)?
        };
        Ok((whole, begun, phases))
    }

    /// What tasks need in the run's folder: this program and the agent as they are now, whatever is compiled
    /// meanwhile.
    fn lay_out(&self) -> Result<(), Failure> {
        let dir = self.run.join("slurm");
        for name in ["out", "ended"] {
            fs_err::create_dir_all(dir.join(name))?;
        }
        fs_err::create_dir_all(self.run.join("parts"))?;
        // Aside, and renamed: tasks of a run that is gone on with read them meanwhile.
        let put = |name: &str, write: &dyn Fn(&Utf8Path) -> std::io::Result<()>| {
            let new = dir.join(format!("{name}.new"));
            let _ = fs_err::remove_file(&new);
            write(&new).and_then(|()| fs_err::rename(&new, dir.join(name)))?;
            // Two names of one file stay as they are.
            let _ = fs_err::remove_file(&new);
            Ok::<_, std::io::Error>(())
        };
        put("part.sh", &|new| fs_err::write(new, cluster::PART_SCRIPT))?;
        put("build.sh", &|new| fs_err::write(new, cluster::BUILD_SCRIPT))?;
        put("zonedev", &|new| {
            let linked = std::env::current_exe().and_then(|exe| fs_err::hard_link(exe, new));
            linked.or_else(|_| fs_err::copy("/proc/self/exe", new).map(drop))
        })?;
        let agent = build::agent(&self.job.ctx, &setup::forward(&self.events))?;
        put("agent", &|new| fs_err::copy(&agent, new).map(drop))?;
        Ok(())
    }

    /// Before it is known on what its guests run: the first part says so.
    fn begun(&self, (id, started): (String, String), artifacts: &[KernelArtifact]) -> Begun {
        let kernels = self.job.requested.iter().zip(artifacts);
        Begun {
            version: RECORD_VERSION,
            id,
            zonedev: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            command: self.command.clone(),
            directory: self.directory.to_string(),
            accel: match self.job.args.accel {
                Some(AccelArg::Kvm) => "kvm",
                Some(AccelArg::Tcg) => "tcg",
                None => "unknown",
            }
            .to_owned(),
            accel_reason: None,
            qemu: "unknown".to_owned(),
            kernels: kernels.map(|(r, a)| setup::kernel_record(r, a)).collect(),
            cells: self.job.plan.ids().cloned().collect(),
        }
    }

    /// A job of ours, with what all of them have.
    fn submission<'a>(&'a self, script: &'a Utf8Path, words: Vec<String>) -> Submission<'a> {
        Submission {
            name: &self.name,
            array: None,
            script,
            words,
            directory: &self.directory,
            output: self.run.join("slurm/out"),
            variables: vec![
                ("ZONEDEV_CACHE", self.job.ctx.cache.root().to_string()),
                ("ZONEDEV_AGENT", self.run.join("slurm/agent").to_string()),
            ],
            cpus: self.jobs,
            memory: 0,
            minutes: 0,
            kvm: self.job.args.accel == Some(AccelArg::Kvm),
            more: &self.more,
        }
    }

    /// Cancels whatever is left, so that nothing outlives a run that failed or was ended.
    async fn cancel(&self) {
        let cancelled = tokio::time::timeout(CANCEL, cluster::cancel(&self.name)).await;
        if !matches!(cancelled, Ok(Ok(()) | Err(SlurmError::Start { .. }))) {
            errln!(
                "its jobs could not be cancelled: scancel --name={}",
                self.name
            );
        }
    }

    fn notice(&self, message: String) {
        let _ = self.events.send(Event::Notice { message });
    }

    /// The last words of a job's output: zonedev's error, where there is one.
    fn last_words(&self, job: &str) -> String {
        let text = fs_err::read(self.run.join("slurm/out").join(job)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.iter().rposition(|l| l.starts_with("zonedev: "));
        let from = from
            .unwrap_or(lines.len())
            .max(lines.len().saturating_sub(40));
        let from = from.min(lines.len().saturating_sub(5));
        proto::text::escape_lines(&lines[from..].join("\n"))
    }
}

/// What a failed question to Slurm means: trouble, unless it may pass.
fn slurm_failed(e: &SlurmError) -> Failure {
    let remedy = match e {
        SlurmError::Start { .. } => {
            "install Slurm's commands here (Debian: slurm-client), where its configuration is"
        }
        _ => "see --slurm-args, and `sinfo` for what the cluster has (docs/cluster.md)",
    };
    Failure::host(format!("failed to {e}"), remedy)
}

/// A run goes on only with what it began with; what runs its guests, the parts compare.
fn same_run(before: &Begun, now: &Begun) -> Result<(), Failure> {
    let differs = [
        ("zonedev", before.zonedev != now.zonedev),
        ("the kernels", before.kernels != now.kernels),
        ("the cases", before.cells != now.cells),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((what, _)) => Err(Failure::request(
            format!("{what} changed since run {} began", before.id),
            "start another run; `zonedev report` tells what this one had done",
        )),
    }
}

/// Copies what had finished in the parts of a run that was cut off into its own folder, so that it can be
/// reported as any other. Of a run that was no cluster's there is nothing.
pub(super) fn collect(folder: &RunFolder, ids: &[CellId]) -> Result<(), Failure> {
    let Some(submitted) = Submitted::read(folder.path())? else {
        return Ok(());
    };
    for part in 1..=submitted.parts {
        for attempt in cluster::attempts(folder.path(), part).iter().rev() {
            let attempt = RunFolder::open(attempt);
            let Ok(begun) = attempt.read_begun() else {
                continue;
            };
            for id in begun.cells.iter().filter(|id| ids.contains(id)) {
                if folder.finished(id).is_none() && attempt.finished(id).is_some() {
                    folder.copy_cell(&attempt, id)?;
                }
            }
        }
    }
    Ok(())
}

/// The first of so many parts.
fn partition(of: usize) -> Result<Partition, Failure> {
    Partition::first_of(of).ok_or_else(|| {
        Failure::request(
            format!("a run can't be cut into {of} tasks"),
            format!("give --tasks a number up to {MAX_PARTS}"),
        )
    })
}
