//! A guest for a person: booted and provisioned, maybe with the steps of a case run up to a moment,
//! and then left as it is, with all its processes, for a shell beside them.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use proto::{NamespaceInfo, Op};
use tokio::net::UnixStream;

use super::boot::{Place, Prepare, Start, provisioning_failure};
use super::cell::{Drive, Limits, Went, ended, vm_end};
use super::engine::{Engine, Isolation};
use super::pages::PageReader;
use super::session::{Session, SessionError};
use crate::record::{CellId, CellRecord, End, RunFolder};
use crate::spec::{Contract, Fixture, PlannedStep};
use crate::verdict;
use crate::vm::{ByHand, Guest, Template};

/// A guest whose QEMU is there. It boots, or waits for a debugger to let it, or is a clone.
#[derive(Debug)]
pub struct Launched {
    engine: Engine,
    fixture: Fixture,
    guest: Guest,
    place: Place,
    record: CellRecord,
    of: Option<Origin>,
}

/// What a clone is of, and the record of that one's boot.
type Origin = (Arc<Template>, CellRecord);

/// A guest that is provisioned, and whose port for shells is served.
#[derive(Debug)]
pub struct InHand {
    contract: Contract,
    guest: Arc<Guest>,
    /// What it is a clone of: its files stay.
    _template: Option<Arc<Template>>,
    session: Session,
    shell: Option<UnixStream>,
    reader: PageReader,
    limits: Limits,
    /// The namespaces that its fixture gave it. The guest's words.
    pub namespaces: Vec<NamespaceInfo>,
    /// What has been run in it so far.
    pub record: CellRecord,
}

/// Where to stop in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Behind this step, or at one that fails before it.
    Behind(usize),
    /// Behind the first step that is not as it should be, or else behind the last.
    Wrong,
}

/// Where a case stopped.
#[derive(Debug)]
pub enum Stopped {
    /// Behind this step, as asked for.
    There(usize),
    /// At this step, which is not as it should be. In words, with what the guest says unescaped.
    Wrong(usize, String),
    /// In this step, which does not end.
    Hangs(usize, SessionError),
    /// Behind the last step.
    End,
}

impl Engine {
    /// Starts a guest with a fixture: a clone where it can be one and no debugger waits for its start.
    /// It is called `id`, and what it leaves goes to that cell's folder.
    ///
    /// # Errors
    /// Where it can't be had.
    pub async fn launch_by_hand(
        &self,
        id: &CellId,
        fixture: &Fixture,
        hand: ByHand,
    ) -> Result<Launched, End> {
        let folder = RunFolder::open(&self.config.folder);
        let dir = folder.cell_dir(id).map_err(|e| End::HarnessError {
            message: e.to_string(),
        })?;
        let place = Place::new(dir);
        let can = self.config.isolation == Isolation::Clone && fixture.boots_because.is_none();
        if can
            && !hand.gdb
            && let Some(clone) = self.clone_by_hand(id, fixture, &place).await?
        {
            let (guest, record, of) = clone;
            return Ok(Launched {
                engine: self.clone(),
                fixture: fixture.clone(),
                record,
                guest,
                place,
                of: Some(of),
            });
        }
        let machine = self.machine(id.side, fixture);
        let launcher = &self.config.launcher;
        let booted = Guest::boot_by_hand(&machine, launcher, &place.dir, hand).await;
        let guest = booted.map_err(|e| vm_end(&e))?;
        place.hear(guest.console());
        Ok(Launched {
            engine: self.clone(),
            fixture: fixture.clone(),
            record: self.empty(id, "by hand", "boot"),
            guest,
            place,
            of: None,
        })
    }

    /// A clone of a template that is kept, or is made now, and kept for the next time. None where none
    /// can be made.
    async fn clone_by_hand(
        &self,
        id: &CellId,
        fixture: &Fixture,
        place: &Place,
    ) -> Result<Option<(Guest, CellRecord, Origin)>, End> {
        let boot = CellId {
            suite: "boot".into(),
            ..id.clone()
        };
        let reader = PageReader::new(Arc::clone(&self.sides[id.side].info));
        let started = self.template(&boot, fixture, &reader, 0).await;
        let (booted, start) = started.map_err(|e| End::HarnessError {
            message: e.to_string(),
        })?;
        let (template, before) = match start {
            Start::Clone(template, before) => (template, before),
            Start::Failed(end) => return Err(end),
            Start::Boot => return Ok(None),
        };
        let guest = template.start_clone_by_hand(&place.dir).await;
        let guest = guest.map_err(|e| vm_end(&e))?;
        place.hear(guest.console());
        let mut record = self.empty(id, "by hand", "clone");
        record.before = before;
        Ok(Some((guest, record, (template, booted))))
    }
}

impl Launched {
    /// The socket at which a debugger finds it, where it was asked for.
    pub fn gdb(&self) -> Option<&Utf8Path> {
        self.guest.gdb()
    }

    /// Waits until it is provisioned; with a debugger at it, for as long as that takes.
    ///
    /// # Errors
    /// Where it does not come up, with its last words.
    pub async fn provision(self) -> Result<InHand, End> {
        let Launched {
            engine,
            fixture,
            guest,
            place,
            mut record,
            of,
        } = self;
        let side = record.id.side;
        let reader = PageReader::new(Arc::clone(&engine.sides[side].info));
        let limits = match guest.gdb() {
            Some(_) => Limits::none(),
            None => engine.limits(side),
        };
        let prepare = Prepare {
            side,
            fixture: &fixture,
            limits,
            shells: true,
        };
        let (booted, template) = match of {
            // The checkpoint of its provisioning is its template's.
            Some((template, boot)) => {
                let greeted = engine.greet(guest, &prepare, &mut record).await;
                record.steps = boot.steps;
                record.checkpoints = boot.checkpoints;
                (greeted, Some(template))
            }
            None => {
                let booted = engine.prepare(guest, &prepare, &reader, &mut record).await;
                (booted, None)
            }
        };
        let failure = provisioning_failure(&record);
        engine.read_console(&mut record, &place, true).await;
        match (booted, failure) {
            (Some((mut guest, session)), None) => {
                let namespaces = record.checkpoints.last();
                let namespaces = namespaces.map(|c| c.claims.namespaces.clone());
                record.steps.clear();
                record.checkpoints.clear();
                Ok(InHand {
                    contract: engine.sides[side].contract.clone(),
                    shell: guest.take_shell(),
                    guest: Arc::new(guest),
                    _template: template,
                    session,
                    reader,
                    limits,
                    namespaces: namespaces.unwrap_or_default(),
                    record,
                })
            }
            (_, Some(end)) => Err(end),
            (None, None) => Err(record.end),
        }
    }
}

impl InHand {
    /// The guest.
    pub fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// What reads its pages.
    pub fn reader(&self) -> &PageReader {
        &self.reader
    }

    /// What its counts must be.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Its port for shells, the first time that it is asked for.
    pub fn take_shell(&mut self) -> Option<UnixStream> {
        self.shell.take()
    }

    /// The kernel's log so far.
    pub fn console(&self) -> Utf8PathBuf {
        self.guest.console().path().to_owned()
    }

    /// Runs the steps of a case up to a moment and leaves everything as it is then: processes, their
    /// mappings, their pins. `told` hears of each step before it runs.
    ///
    /// # Errors
    /// Where the guest or its agent is gone.
    pub async fn steps(
        &mut self,
        steps: &[PlannedStep],
        stop: Stop,
        told: &(dyn Fn(usize, &PlannedStep) + Sync),
    ) -> Result<Stopped, End> {
        let contract = &self.contract;
        let mut drive = Drive {
            guest: &self.guest,
            session: &mut self.session,
            reader: &self.reader,
            contract,
            limits: self.limits,
        };
        for (i, step) in steps.iter().enumerate() {
            told(i, step);
            let went = match drive.step(i, step, &mut self.record).await {
                Ok(went) => went,
                Err(e @ SessionError::Silent { .. }) => return Ok(Stopped::Hangs(i, e)),
                Err(e) => return Err(ended(&e, Some(i), &self.guest).await),
            };
            let wrong = wrong(&self.record, step, contract);
            match (went, stop, wrong) {
                (Went::Failed, _, wrong) => {
                    let why = wrong.unwrap_or_else(|| "it failed".to_owned());
                    return Ok(Stopped::Wrong(i, why));
                }
                (Went::On, Stop::Wrong, Some(why)) => return Ok(Stopped::Wrong(i, why)),
                (Went::On, Stop::Behind(last), _) if i >= last => return Ok(Stopped::There(i)),
                _ => {}
            }
        }
        Ok(Stopped::End)
    }
}

/// What is not as it should be of the step that ran last.
fn wrong(record: &CellRecord, step: &PlannedStep, contract: &Contract) -> Option<String> {
    let outcome = record.steps.last()?.outcome.as_ref()?;
    let said = outcome.result.word();
    if said != step.expected {
        let words = match &outcome.result {
            proto::StepResult::Failed { message } => format!(": {message}"),
            proto::StepResult::Lacks { what } => format!(": {what}"),
            _ => String::new(),
        };
        return Some(format!("{said} instead of {}{words}", step.expected));
    }
    let Op::Checkpoint { .. } = step.op else {
        return None;
    };
    let checked = verdict::check(record.checkpoints.last()?, contract);
    let first = checked.violations.first()?;
    let more = match checked.violations.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    Some(format!(
        "{} {} of {} pages: expected {}, found {}{more}",
        first.region, first.what, first.pages, first.expected, first.found
    ))
}
