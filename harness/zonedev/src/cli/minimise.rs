//! `zonedev minimise`: the smallest case that still fails so.
//!
//! The kernel is booted once with the case's fixture; every trial runs in a clone of that. A candidate
//! that fails must pass on a kernel without the failure, where there is one: what fails since it was
//! cut down too far fails there as well.

mod answer;
mod begin;
mod trials;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::minimise::{Figures, Head, Program, minimise, write};
use crate::plan::{Filter, plan};
use crate::record::{Event, FailureKind};
use crate::run::{Engine, EngineConfig, Isolation, Repeat, Stand};
use crate::spec::{Case, Contract, Facts, SpecFile};

use super::args::{CProgramArgs, MinimiseArgs};
use super::exit::{Exit, Failure};
use super::setup::{self, Host, OWN, Requested};
use super::teller::Teller;
use crate::vm::Shelf;
use begin::Asked;
use trials::Trials;

/// The result.
const CASE: &str = "minimised.toml";
/// How long an operation is waited for while there are many candidates: at least, and as a multiple of
/// what the longest one of the recorded run took. The result is waited for as long as any case.
const HURRY: Duration = Duration::from_secs(10);
const HURRY_TIMES: u32 = 8;

pub(super) async fn run(project: &Utf8Path, args: &MinimiseArgs) -> Result<Exit, Failure> {
    super::signals::listen();
    let asked = match &args.resume {
        Some(dir) => begin::resume(project, dir)?,
        None => begin::begin(project, args)?,
    };
    let dir = asked.dir.clone();
    tokio::select! {
        done = go(project, asked, args.jobs, args.c) => done,
        () = super::signals::first() => {
            outln!("`zonedev minimise --resume {dir}` goes on");
            Err(super::interruption())
        }
    }
}

/// What is needed for trials, and what must live as long.
struct Lab {
    bad: Stand,
    good: Option<Stand>,
    contracts: Vec<Contract>,
    /// The whole case.
    program: Program,
    head: Head,
    _host: Host,
}

async fn go(
    project: &Utf8Path,
    asked: Asked,
    jobs: Option<usize>,
    c: bool,
) -> Result<Exit, Failure> {
    let clock = Instant::now();
    let jobs = jobs.unwrap_or_else(|| {
        1 + std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    });
    let lab = lab(project, &asked, jobs.max(1)).await?;
    if lab.program.digest() != asked.question.program {
        return Err(Failure::request(
            "the case changed since its minimisation began",
            "begin another one",
        ));
    }
    let hurry = Some(Duration::from_secs(asked.question.hurry_s));
    let whole = lab.program.clone();
    let mut trials = Trials::new(
        &asked,
        (lab.bad, lab.good),
        (lab.contracts, lab.head.clone()),
        (jobs.max(1), clock),
    );
    trials.hurry(hurry);
    let seen = trials.whole(&whole).await?;
    let rate = answer::rate(seen);
    trials.compare(match seen.shown == seen.trials {
        true => Figures::ALWAYS,
        false => Figures::of_rate(rate.0),
    });
    let device = lab.head.device;
    let mut best = whole.clone();
    let hangs = asked.question.hangs;
    let mut patient = trials.is_patient();
    let (small, text, of_result) = loop {
        if patient {
            trials.hurry(None);
        }
        let hints = asked.hints(&best);
        best = minimise(&best, hints, device, &mut trials).await?;
        trials.searched()?;
        let again = read_back(&write(&lab.head, &best), &asked)?;
        if again != best {
            return Err(Failure::harness(
                "the case that was written reads otherwise: a bug of zonedev",
            ));
        }
        trials.hurry(None);
        let of_result = trials.result(&again, hangs).await?;
        let holds = trials.is_enough(of_result);
        if holds || patient || !hangs {
            let words = trials.reason.as_deref();
            let head = answer::head(
                &lab.head,
                &asked.question,
                (&whole, &best),
                (words, of_result),
            );
            break (best, write(&head, &again), of_result);
        }
        errln!("the result does not fail so when it is waited for: once more, without a hurry");
        patient = true;
        best = whole.clone();
        trials.patient()?;
    };
    let place = asked.dir.join(CASE);
    fs_err::write(&place, &text)?;
    let program = match c {
        true => Some(c_program(project, &asked, &place)?),
        false => None,
    };
    trials.tidy();
    let said = answer::answer(
        &asked.question,
        &trials,
        (&whole, seen),
        (&small, of_result),
    );
    fs_err::write(asked.dir.join("result.txt"), format!("{said}\n{text}"))?;
    out!("{said}\n{text}");
    outln!("\nwritten: {place}");
    if let Some(program) = program {
        outln!("written: {program}");
    }
    Ok(Exit::Good)
}

/// Writes the case as a C program beside it.
fn c_program(project: &Utf8Path, asked: &Asked, case: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    let text = super::c_program::text(
        project,
        &CProgramArgs {
            case: case.to_string(),
            kernel: asked.question.kernel.clone(),
            fixture: None,
        },
    )?;
    let place = case.with_extension("c");
    fs_err::write(&place, text)?;
    Ok(place)
}

/// The steps of a file that was written, as the kernel's contract has them.
fn read_back(text: &str, asked: &Asked) -> Result<Program, Failure> {
    let file = SpecFile::from_text(CASE.into(), text);
    let cases = Case::parse(OWN, "minimised", &file)?;
    let Some(case) = cases.first() else {
        return Err(Failure::harness("the case that was written is none"));
    };
    let facts = Facts {
        contract: &asked.contract,
        fixture: &asked.fixture,
    };
    Ok(Program {
        steps: case.steps(facts)?,
    })
}

/// Builds the kernels and boots them.
async fn lab(project: &Utf8Path, asked: &Asked, jobs: usize) -> Result<Lab, Failure> {
    let ctx = setup::build_context(project, &asked.build)?;
    let question = &asked.question;
    let names: Vec<String> = [Some(&question.kernel), question.good.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let requested: Vec<Requested> = setup::resolve(&ctx, &names)?;
    let contracts: Vec<Contract> = requested.iter().map(|r| r.contract.clone()).collect();
    if let [bad, good] = contracts.as_slice()
        && bad.name != good.name
    {
        return Err(Failure::request(
            format!(
                "{} keeps the contract {}, and {} keeps {}: what one must do says nothing of the other",
                question.kernel, bad.name, names[1], good.name
            ),
            "name a kernel of the same contract with --good",
        ));
    }
    let kernels: Vec<(String, Contract)> = names.into_iter().zip(contracts.clone()).collect();
    let fixtures = [(asked.fixture.name.clone(), asked.fixture.clone())].into();
    let cases = std::slice::from_ref(&asked.case);
    let filter = Filter::new(&[], std::slice::from_ref(&question.case), cases)?;
    let mut plan = plan(&kernels, cases, &fixtures, &filter)?;
    for cell in plan.groups.iter_mut().flat_map(|g| &mut g.cells) {
        cell.emulated = None;
        // Part of what is left out may be what is known to go wrong.
        for known in &mut cell.known_failures {
            known.sometimes = true;
        }
    }
    let (events, receiver) = mpsc::unbounded_channel();
    tokio::spawn(tell(receiver));
    let host = Host::look(&ctx, asked.accel).await?;
    setup::skip_on_host(&mut plan, &host.qemu).await?;
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await?;
    let programs: BTreeSet<String> = asked.case.programs().map(str::to_owned).collect();
    let sides = setup::sides(&ctx, &requested, &artifacts, &programs, &events).await?;
    let roots = setup::roots(&ctx, [&asked.fixture].into_iter(), &events).await?;
    let launcher = host.launcher(setup::memory_needed(
        [&asked.fixture].into_iter(),
        jobs + requested.len(),
    ))?;
    let memory = launcher.memory.downgrade();
    super::signals::tidy(move || memory.abandon());
    let config = EngineConfig {
        launcher,
        accel: host.probe.accel,
        isolation: Isolation::Clone,
        dump_hung: false,
        repeat: Repeat::ONCE,
        jobs,
        folder: asked.dir.clone(),
        roots,
        fstests: None,
        memory: setup::memory_for_guests(),
        times: None,
        shelf: Some(Shelf::of(ctx.cache.root())),
    };
    let engine = Engine::new(config, sides, events);
    let mut stands = Vec::new();
    for group in &plan.groups {
        if let Some(reason) = &group.skip {
            return Err(Failure::request(
                format!("{} can't be here: {reason}", group.fixture.name),
                "use the host that the run was on",
            ));
        }
        match engine.stand(group).await? {
            Ok(stand) => stands.push(stand),
            Err(end) => {
                return Err(Failure::harness(format!(
                    "{} does not come up: {end:?}",
                    group.boot.kernel
                )));
            }
        }
    }
    let mut stands = stands.into_iter();
    let Some(bad) = stands.next() else {
        return Err(Failure::nothing_selected(
            format!("no case is called {} any more", question.case),
            "see `zonedev list cases`",
        ));
    };
    Ok(Lab {
        program: Program {
            steps: bad.cell().steps.clone(),
        },
        head: Head {
            comment: Vec::new(),
            title: asked.case.title.clone(),
            fixture: asked.fixture.name.clone(),
            config: asked.case.config.clone(),
            device: asked.fixture.hmm_device,
        },
        bad,
        good: stands.next(),
        contracts,
        _host: host,
    })
}

/// Shows what is built and booted, and what goes wrong beside the trials.
async fn tell(mut receiver: UnboundedReceiver<Event>) {
    let mut teller = Teller::new(super::progress()).ok();
    while let Some(event) = receiver.recv().await {
        let of_us = matches!(
            event,
            Event::BuildStarted { .. }
                | Event::BuildProgress { .. }
                | Event::BuildFinished { .. }
                | Event::BootStarted { .. }
                | Event::BootFinished { .. }
                | Event::Notice { .. }
        );
        if let Some(teller) = teller.as_mut().filter(|_| of_us) {
            teller.tell(&event);
        }
    }
}

/// Whether a hang is why the case fails.
fn hangs(kinds: &[FailureKind], signature: &str) -> bool {
    kinds.contains(&FailureKind::KernelHung) && signature.contains("did not end")
}

/// How long an operation is waited for, of which the longest took so long.
fn hurry(longest: Duration) -> Duration {
    HURRY.max(longest * HURRY_TIMES)
}

/// The folder of a minimisation.
fn place(project: &Utf8Path, given: Option<&Utf8Path>) -> Result<Utf8PathBuf, Failure> {
    if let Some(given) = given {
        fs_err::create_dir_all(given)?;
        return Ok(given.canonicalize_utf8()?);
    }
    #[expect(clippy::disallowed_methods, reason = "the date in a folder's name")]
    let now = std::time::SystemTime::now();
    let (path, _) = super::matrix::run_folder_in(&project.join("target/minimised"), None, now)?;
    Ok(path)
}

type Shared = Arc<Stand>;
