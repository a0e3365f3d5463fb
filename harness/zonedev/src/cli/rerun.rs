//! `zonedev rerun`: a cell of a run again, up to a moment, and a shell in the guest as it is then.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::Utf8Path;
use clap::Args;
use proto::Op;
use proto::text::{escape, excerpt};

use crate::record::{CellId, CellRecord, CellVerdict, RunFolder, RunRecord, StepRecord};
use crate::report;
use crate::run::{InHand, Stop, Stopped};
use crate::spec::{Case, Facts, Fixture, PlannedStep};
use crate::verdict;

use super::args::{AccelArg, MatrixArgs};
use super::exit::{Exit, Failure};
use super::hand::{self, HandArgs, Ready, Wanted};
use super::setup::{self, Cases};
use super::{inspect, matrix, terminal};

/// `zonedev rerun`.
#[derive(Debug, Args)]
pub(super) struct RerunArgs {
    /// A run's folder, its name, or `latest`
    pub(super) run: String,
    /// A part of SUITE/FIXTURE/CASE that names one case
    pub(super) cell: String,
    /// The kernel, where it ran on several
    #[arg(short, long, value_name = "KERNEL")]
    pub(super) kernel: Option<String>,
    /// Stop at this checkpoint [default: where it goes wrong; of a cell that passed, its end]
    #[arg(long, value_name = "CHECKPOINT")]
    pub(super) until: Option<String>,
    #[command(flatten)]
    pub(super) hand: HandArgs,
}

/// How long a guest may take to give a shell in which an operation hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Steps named that come next.
const MAX_NEXT: usize = 3;

/// The cell that is meant, as it was.
struct Recorded {
    run: RunRecord,
    id: CellId,
    cell: CellRecord,
    verdict: Option<CellVerdict>,
    typed: MatrixArgs,
    accel: Option<AccelArg>,
}

pub(super) async fn run(project: &Utf8Path, args: RerunArgs) -> Result<Exit, Failure> {
    let on_terminal = args.hand.command.is_none() && terminal::here().is_some();
    let command = args.hand.command.clone();
    let ended = go(project, args, command, on_terminal).await;
    ended.map_err(|mut failure| {
        if !on_terminal {
            failure.exit = Exit::CannotTell;
        }
        failure
    })
}

async fn go(
    project: &Utf8Path,
    args: RerunArgs,
    command: Option<String>,
    on_terminal: bool,
) -> Result<Exit, Failure> {
    let was = recorded(project, &args)?;
    let (case, fixture) = case(project, &was)?;
    let wanted = Wanted {
        kernel: &was.id.kernel,
        fixture,
        programs: programs(&case, &was),
        accel: args.hand.accel.or(was.accel),
        build: &was.typed.build,
        gdb: args.hand.gdb,
        fresh: args.hand.fresh,
    };
    let mut ready = hand::prepare(project, wanted).await?;
    told_of_the_build(&was, &ready);
    let steps = steps(&case, &was, &ready)?;
    let stop = stop(&args, &was, &steps)?;
    let id = CellId {
        side: 0,
        ..was.id.clone()
    };
    let mut guest = ready.boot(&id).await?;
    let _served = hand::serve(&ready, &guest, &was.id.case_path());
    let told = |i: usize, step: &PlannedStep| errln!("{}", step_words(i, &step.actor, &step.op));
    let stopped = guest.steps(&steps, stop, &told).await;
    let stopped = stopped.map_err(|end| {
        Failure::harness(format!(
            "the guest did not get there: {}",
            hand::end_words(&end)
        ))
    })?;
    let _memory = ready.settle().await;
    show(&guest, &stopped, &steps);
    if on_terminal {
        errln!(
            "the shell is beside the case's processes, which stay; `zonedev watch` in another \
             terminal shows the counts; the kernel's log is {}\n`exit` ends the guest; Ctrl-] leaves \
             one that hangs",
            guest.console()
        );
    }
    let limit = (!args.hand.gdb).then_some(LIMIT);
    let ended = hand::shell(&mut guest, command, limit).await?;
    guest.guest().kill();
    hand::over(&ended, on_terminal)
}

fn recorded(project: &Utf8Path, args: &RerunArgs) -> Result<Recorded, Failure> {
    let (folder, run) = inspect::read(project, &args.run)?;
    // Relative names were typed there.
    let folder = RunFolder::open(&folder.path().canonicalize_utf8()?);
    let ids = inspect::cells(&run, &args.cell, args.kernel.as_deref())?;
    let verdict = |id: &CellId| run.cells.iter().find(|(of, _)| of == id).map(|(_, v)| v);
    let fails = |id: &&&CellId| matches!(verdict(id), Some(CellVerdict::Fail { .. }));
    let failed: Vec<&CellId> = ids.iter().filter(fails).copied().collect();
    let id = match (failed.as_slice(), ids.as_slice()) {
        ([one], _) | ([], [one]) => (*one).clone(),
        _ => {
            let names: Vec<&str> = ids.iter().map(|id| id.kernel.as_str()).collect();
            return Err(Failure::request(
                format!("it ran on {} kernels: {}", names.len(), names.join(", ")),
                "name one with -k",
            ));
        }
    };
    let begun = matrix::begun(&folder)?;
    Ok(Recorded {
        cell: folder.read_cell(&id)?,
        verdict: verdict(&id).cloned(),
        typed: matrix::command(&begun)?,
        accel: match begun.accel.as_str() {
            "kvm" => Some(AccelArg::Kvm),
            "tcg" => Some(AccelArg::Tcg),
            _ => None,
        },
        run,
        id,
    })
}

/// The case as today's files have it, where they do, and its fixture.
fn case(project: &Utf8Path, was: &Recorded) -> Result<(Option<Case>, Fixture), Failure> {
    let Cases { all, fixtures, .. } = setup::cases(project, &was.typed.selection)?;
    let is = |c: &Case| c.suite == was.id.suite && c.name == was.id.case;
    let fixture = fixtures.get(&was.id.fixture).cloned().ok_or_else(|| {
        Failure::request(
            format!("the fixture {} is not there any more", was.id.fixture),
            "run the case again, and take that run",
        )
    })?;
    Ok((all.into_iter().find(is), fixture))
}

fn programs(case: &Option<Case>, was: &Recorded) -> BTreeSet<String> {
    let of_case = case.iter().flat_map(|c| c.programs());
    let named = was.cell.steps.iter().filter_map(|s| match &s.op {
        Op::Run { argv, .. } => argv.first()?.rsplit('/').next().map(str::to_owned),
        _ => None,
    });
    of_case.map(str::to_owned).chain(named).collect()
}

/// The steps that were recorded, with the seeds that they had, and behind them the case's own.
fn steps(case: &Option<Case>, was: &Recorded, ready: &Ready) -> Result<Vec<PlannedStep>, Failure> {
    let facts = Facts {
        contract: &ready.requested.contract,
        fixture: &ready.fixture,
    };
    let mut now = match case {
        Some(case) => case.steps(facts)?,
        None if was.id.suite == "boot" => Vec::new(),
        None => {
            errln!(
                "{} is no case any more: what was recorded of it runs",
                was.id.case_path()
            );
            Vec::new()
        }
    };
    let alike = now.len() >= was.cell.steps.len()
        && (was.cell.steps.iter().zip(&now)).all(|(old, now)| same(old, now));
    if !alike {
        if case.is_some() {
            errln!(
                "{} changed since: it runs as it was recorded, up to where the run came",
                was.id.case_path()
            );
        }
        now.clear();
    }
    let recorded = was.cell.steps.iter().enumerate();
    let mut out: Vec<PlannedStep> = recorded
        .map(|(i, old)| match now.get(i) {
            Some(now) => PlannedStep {
                op: old.op.clone(),
                ..now.clone()
            },
            None => as_recorded(old),
        })
        .collect();
    out.extend(now.into_iter().skip(out.len()));
    match out.is_empty() {
        true => Err(Failure::request(
            format!("{} has no steps", was.id.case_path()),
            "name a cell that ran",
        )),
        false => Ok(out),
    }
}

fn same(old: &StepRecord, now: &PlannedStep) -> bool {
    let op = match (&old.op, &now.op) {
        // Further runs have further seeds.
        (Op::Race { arm: a, .. }, Op::Race { arm: b, .. }) => a == b,
        (a, b) => a == b,
    };
    op && old.actor == now.actor && old.expected == now.expected
}

/// What the case's file no longer says is left out: how a program's results are read.
fn as_recorded(old: &StepRecord) -> PlannedStep {
    PlannedStep {
        actor: old.actor.clone(),
        expected: old.expected.clone(),
        may_block: old.expected == "blocked",
        ..PlannedStep::must(old.op.clone())
    }
}

fn stop(args: &RerunArgs, was: &Recorded, steps: &[PlannedStep]) -> Result<Stop, Failure> {
    let Some(until) = &args.until else {
        // What is known to go wrong does not stop a cell that passed.
        return Ok(match was.verdict {
            Some(CellVerdict::Pass {}) => Stop::Behind(steps.len() - 1),
            _ => Stop::Wrong,
        });
    };
    let names = |op: &Op| match op {
        Op::Checkpoint { name } => Some(name.clone()),
        _ => None,
    };
    let at = steps
        .iter()
        .position(|s| names(&s.op).as_ref() == Some(until));
    at.map(Stop::Behind).ok_or_else(|| {
        let all: Vec<String> = steps.iter().filter_map(|s| names(&s.op)).collect();
        Failure::request(
            format!("{} has no checkpoint \"{until}\"", was.id.case_path()),
            format!("it has: {}", all.join(", ")),
        )
    })
}

/// Whether it is the build that the run had.
fn told_of_the_build(was: &Recorded, ready: &Ready) {
    let kernel = was.run.kernels.iter().find(|k| k.name == was.id.kernel);
    if let Some(kernel) = kernel
        && kernel.build_key != ready.artifact.record.key
    {
        errln!(
            "not the build of the run: {} was {}, and is {} now",
            was.id.kernel,
            kernel.build_key,
            ready.artifact.record.key
        );
    }
    if was.cell.accel != ready.accel {
        errln!(
            "the run was under {}, and this is {}",
            was.cell.accel,
            ready.accel
        );
    }
}

/// A step in words: `step 3 main: pin how=vmsplice …`.
fn step_words(i: usize, actor: &str, op: &Op) -> String {
    format!(
        "step {i} {}: {}",
        escape(actor),
        excerpt(&verdict::op_words(op), 200)
    )
}

/// Where it stands, what the pages are, and what comes next.
fn show(guest: &InHand, stopped: &Stopped, steps: &[PlannedStep]) {
    let look = super::look(&std::io::stderr());
    let (at, words) = match stopped {
        Stopped::There(i) => (*i, "there".to_owned()),
        Stopped::Wrong(i, why) => (*i, format!("this is wrong: {}", escape(why))),
        Stopped::Hangs(i, why) => (
            *i,
            format!("this does not end: {}", escape(&why.to_string())),
        ),
        Stopped::End => (
            steps.len() - 1,
            "the case is over; its processes are still there".to_owned(),
        ),
    };
    if let Some(checkpoint) = guest.record.checkpoints.last() {
        let predicted = verdict::predict(checkpoint, guest.contract());
        errln!(
            "{}",
            report::inspect(&guest.record, checkpoint, &predicted, &look)
        );
        if checkpoint.step < at {
            errln!("that is how the pages were at step {}", checkpoint.step);
        }
    }
    errln!("stands behind step {at}: {words}");
    let next = steps.iter().enumerate().skip(at + 1);
    for (i, step) in next.clone().take(MAX_NEXT) {
        errln!("next would be {}", step_words(i, &step.actor, &step.op));
    }
    let more = next.count().saturating_sub(MAX_NEXT);
    if more > 0 {
        errln!("and {more} more");
    }
}
