//! What is asked of a minimisation, from a run's folder or from a journal.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use proto::Op;

use super::{hangs, hurry, place};
use crate::cli::args::{AccelArg, BuildOptions, MinimiseArgs};
use crate::cli::exit::Failure;
use crate::cli::setup::{self, Cases};
use crate::cli::{inspect, matrix};
use crate::minimise::{Journal, Line, Program, Question, Signature};
use crate::record::{CellId, CellRecord, CellVerdict, RunFolder, RunRecord};
use crate::spec::{Case, Contract, Facts, Fixture, KernelName, Reads};

/// A minimisation that begins or goes on.
pub(super) struct Asked {
    pub(super) dir: Utf8PathBuf,
    pub(super) question: Question,
    pub(super) journal: Journal,
    /// What the journal had, without its first line.
    pub(super) lines: Vec<Line>,
    pub(super) case: Case,
    pub(super) fixture: Fixture,
    pub(super) contract: Contract,
    pub(super) build: BuildOptions,
    /// As in the run.
    pub(super) accel: Option<AccelArg>,
}

/// A cell of a run, and how the run came to it.
struct Found {
    case: Case,
    fixture: Fixture,
    contract: Contract,
    build: BuildOptions,
    accel: Option<AccelArg>,
    program: Program,
}

pub(super) fn begin(project: &Utf8Path, args: &MinimiseArgs) -> Result<Asked, Failure> {
    let (run, cell) = (
        args.run.as_deref().unwrap_or_default(),
        args.cell.as_deref().unwrap_or_default(),
    );
    let (folder, record) = inspect::read(project, run)?;
    let id = failed(&record, cell, args.kernel.as_deref())?;
    let verdict = verdict(&record, id);
    let Some(CellVerdict::Fail { reasons, kinds, .. }) = verdict else {
        return Err(Failure::request(
            format!(
                "{} did not fail on any kernel that is meant",
                id.case_path()
            ),
            "name a cell that the run tells as failed",
        ));
    };
    let signature = Signature::of(reasons, args.title.as_deref()).ok_or_else(|| {
        Failure::request(
            format!("no reason of {id} is like that"),
            format!("its reasons are: {}", reasons.join("; ")),
        )
    })?;
    let path = folder.path().canonicalize_utf8()?;
    // Before what was typed is taken as it was typed there.
    let dir = place(project, args.run_dir.as_deref())?;
    let found = find(project, &folder, id)?;
    let old: CellRecord = folder.read_cell(id)?;
    same(&old, &found.program)?;
    let outcomes = old.steps.iter().filter_map(|s| s.outcome.as_ref());
    let longest = outcomes.map(|o| Duration::from_micros(o.took_us)).max();
    let good = args.good.clone().or_else(|| passes(&record, id));
    let question = Question {
        run: path.to_string(),
        case: id.case_path(),
        kernel: id.kernel.clone(),
        good,
        hangs: hangs(kinds, &signature.reason),
        hurry_s: hurry(longest.unwrap_or_default()).as_secs(),
        signature,
        program: found.program.digest(),
    };
    let journal = Journal::begin(&dir, &question).map_err(|e| {
        Failure::request(
            format!("failed to begin the journal in {dir}: {e}"),
            "name a folder that holds no minimisation yet, or go on with --resume DIR",
        )
    })?;
    if question.good.is_none() {
        errln!(
            "no kernel of the run keeps this contract and passed: nothing tells a case that was cut \
             down too far from one that fails; name one with --good"
        );
    }
    Ok(asked(dir, question, journal, Vec::new(), found))
}

pub(super) fn resume(project: &Utf8Path, dir: &Utf8Path) -> Result<Asked, Failure> {
    let none = |why: String| {
        Failure::request(
            format!("failed to read the minimisation in {dir}: {why}"),
            "name the folder that was given to --run-dir",
        )
    };
    let (journal, lines) = Journal::resume(dir).map_err(|e| none(e.to_string()))?;
    let mut lines = lines.into_iter();
    let Some(Line::Asked { question }) = lines.next() else {
        return Err(none("it does not begin with what is asked".to_owned()));
    };
    let dir = dir.canonicalize_utf8()?;
    let (folder, record) = inspect::read(project, &question.run)?;
    let ids = record.cells.iter().map(|(id, _)| id);
    let is = |id: &&CellId| id.case_path() == question.case && id.kernel == question.kernel;
    let id = ids.clone().find(is).ok_or_else(|| {
        none(format!(
            "{} has no cell {} any more",
            question.run, question.case
        ))
    })?;
    let found = find(project, &folder, id)?;
    Ok(asked(dir, question, journal, lines.collect(), found))
}

fn asked(
    dir: Utf8PathBuf,
    question: Question,
    journal: Journal,
    lines: Vec<Line>,
    found: Found,
) -> Asked {
    Asked {
        dir,
        question,
        journal,
        lines,
        case: found.case,
        fixture: found.fixture,
        contract: found.contract,
        build: found.build,
        accel: found.accel,
    }
}

fn verdict<'a>(record: &'a RunRecord, of: &CellId) -> Option<&'a CellVerdict> {
    let mut cells = record.cells.iter();
    cells.find(|(id, _)| id == of).map(|(_, verdict)| verdict)
}

/// The one cell that is meant: of those called so, the one that failed.
fn failed<'a>(
    record: &'a RunRecord,
    cell: &str,
    kernel: Option<&str>,
) -> Result<&'a CellId, Failure> {
    let ids = inspect::cells(record, cell, kernel)?;
    let fails = |id: &&&CellId| matches!(verdict(record, id), Some(CellVerdict::Fail { .. }));
    let failed: Vec<&CellId> = ids.iter().filter(fails).copied().collect();
    match (failed.as_slice(), ids.first()) {
        ([one], _) => Ok(one),
        ([], Some(first)) => Ok(first),
        ([], None) => Err(Failure::nothing_selected(
            format!("no cell of the run is called like `{cell}`"),
            "give a part of SUITE/FIXTURE/CASE",
        )),
        (many, _) => {
            let names: Vec<&str> = many.iter().map(|id| id.kernel.as_str()).collect();
            Err(Failure::request(
                format!("it failed on {} kernels: {}", many.len(), names.join(", ")),
                "name one with -k",
            ))
        }
    }
}

/// Another kernel of the run that has the same contract and passed.
fn passes(record: &RunRecord, of: &CellId) -> Option<String> {
    let contract = |name: &str| {
        let mut kernels = record.kernels.iter();
        kernels.find(|k| k.name == name).map(|k| k.contract.clone())
    };
    let alike = record.cells.iter().filter(|(id, verdict)| {
        id.case_path() == of.case_path()
            && id.kernel != of.kernel
            && *verdict == CellVerdict::Pass {}
            && contract(&id.kernel) == contract(&of.kernel)
    });
    alike.map(|(id, _)| id.kernel.clone()).next()
}

/// The cell's case as today's files have it, found as the run found it.
fn find(project: &Utf8Path, folder: &RunFolder, id: &CellId) -> Result<Found, Failure> {
    let begun = matrix::begun(folder)?;
    let typed = matrix::command(&begun)?;
    let Cases { all, fixtures, .. } = setup::cases(project, &typed.selection)?;
    let gone = |what: &str| {
        Failure::request(
            format!("{what} of {id} is not there any more"),
            "run it again, and minimise that",
        )
    };
    let case = all
        .into_iter()
        .find(|c| c.suite == id.suite && c.name == id.case)
        .ok_or_else(|| gone("the case"))?;
    let fixture = fixtures.get(&id.fixture).cloned();
    let fixture = fixture.ok_or_else(|| gone("the fixture"))?;
    let ctx = setup::build_context(project, &typed.build)?;
    let resolved = ctx.resolve(&KernelName::parse(&id.kernel)?)?;
    let mut contract = setup::contract(project, &resolved.contract)?;
    contract.features = contract.features.without(&resolved.lacks);
    let steps = case.steps(Facts {
        contract: &contract,
        fixture: &fixture,
    })?;
    let listed = |op: &Op| matches!(op, Op::Run { .. });
    let program = steps.iter().find(|s| listed(&s.op));
    if program.is_some_and(|s| s.test.is_some() || s.reads != Reads::Program) {
        return Err(Failure::request(
            format!("{id} is a program, and no list of operations"),
            "minimise a case of operations that fails so",
        ));
    }
    Ok(Found {
        case,
        fixture,
        contract,
        accel: match begun.accel.as_str() {
            "kvm" => Some(AccelArg::Kvm),
            "tcg" => Some(AccelArg::Tcg),
            _ => None,
        },
        build: typed.build,
        program: Program { steps },
    })
}

/// The case must be what the run had: as far as it came, the same steps.
fn same(old: &CellRecord, now: &Program) -> Result<(), Failure> {
    let alike = |(old, now): (&crate::record::StepRecord, &crate::spec::PlannedStep)| {
        let op = match (&old.op, &now.op) {
            // Further runs have further seeds.
            (Op::Race { arm: a, .. }, Op::Race { arm: b, .. }) => a == b,
            (a, b) => a == b,
        };
        op && old.actor == now.actor && old.expected == now.expected
    };
    if old.steps.len() <= now.steps.len() && old.steps.iter().zip(&now.steps).all(alike) {
        return Ok(());
    }
    Err(Failure::request(
        format!("the case {} changed since the run", old.id.case_path()),
        "run it again, and minimise that",
    ))
}

impl Asked {
    /// What is likely to do: nothing after the step that the reason names, and no other checkpoint.
    pub(super) fn hints(&self, of: &Program) -> Vec<Program> {
        let named = |op: &Op| match op {
            Op::Checkpoint { name } => {
                (self.question.signature.reason).starts_with(&format!("at \"{name}\""))
            }
            _ => false,
        };
        let Some(last) = of.steps.iter().position(|s| named(&s.op)) else {
            return Vec::new();
        };
        let up_to = of.steps[..=last].iter();
        let bare = up_to
            .clone()
            .filter(|s| named(&s.op) || !matches!(s.op, Op::Checkpoint { .. }));
        let program = |steps: Vec<_>| Program { steps }.tidied();
        vec![
            program(bare.cloned().collect()),
            program(up_to.cloned().collect()),
        ]
    }
}
