//! A machine up to its provisioned state: the template of a group, or a boot of a cell's own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use proto::{Op, StepResult};

use proto::text::excerpt;

use crate::record::{CellId, CellRecord, End, Event, Left, RunFolder};
use crate::spec::{Fixture, PlannedStep};
use crate::vm::{Accel, BASE_CMDLINE, Console, Guest, Machine, Nvdimm, Template, clock_parameters};

use super::cell::{Drive, Limits, ended, read_console, vm_end};
use super::engine::{Engine, Isolation, PROVISION};
use super::error::RunError;
use super::pages::PageReader;
use super::session::Session;
use super::turns::Need;

/// Characters of a last word's line.
const MAX_LINE: usize = 300;
/// How long a guest that is gone may take to be heard to the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where a guest leaves what it leaves, and what it says.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: Utf8PathBuf,
    console: Mutex<Option<Console>>,
}

impl Place {
    pub(super) fn new(dir: Utf8PathBuf) -> Self {
        Place {
            dir,
            console: Mutex::new(None),
        }
    }

    pub(super) fn hear(&self, console: &Console) {
        *self.console.lock().unwrap_or_else(PoisonError::into_inner) = Some(console.clone());
    }

    fn heard(&self) -> Option<Console> {
        let console = self.console.lock();
        console.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a guest that boots becomes.
pub(super) struct Prepare<'a> {
    pub(super) side: usize,
    pub(super) fixture: &'a Fixture,
    pub(super) limits: Limits,
    /// Whether its port for shells is served.
    pub(super) shells: bool,
}

/// A template, or the reason why each case boots for itself, or why none can.
pub(super) enum Start {
    /// With what was there before any case.
    Clone(Arc<Template>, Option<Left>),
    Boot,
    Failed(End),
}

impl Engine {
    /// Boots and provisions, unless an earlier run has done that; this is a cell of its own, since a
    /// warning that a kernel gives once is silent in every clone.
    pub(super) async fn template(
        &self,
        boot: &CellId,
        fixture: &Fixture,
        reader: &PageReader,
        weight: u64,
    ) -> Result<(CellRecord, Start), RunError> {
        // The group waits for it: it goes before cells that take as long.
        let memory = self.need(boot).memory;
        let _guest = self.guests.take(Need { weight, memory }).await?;
        let started = Instant::now();
        let what = format!("{} with {}", boot.kernel, fixture.name);
        self.tell(Event::BootStarted { what: what.clone() });
        let folder = RunFolder::open(&self.config.folder);
        let place = Place::new(folder.cell_dir(boot)?);
        let key = tokio::task::block_in_place(|| self.kept_key(boot.side, fixture));
        let kept = key.as_deref().and_then(|key| {
            tokio::task::block_in_place(|| self.take_kept(key, boot, fixture, &place))
        });
        if let Some((record, template)) = kept {
            self.tell(Event::BootFinished {
                what,
                took_ms: started.elapsed().as_millis() as u64,
                cloneable: true,
                kept: true,
            });
            folder.write_cell(&record)?;
            self.tell_end(&record);
            let start = Start::Clone(Arc::new(template), record.left.clone());
            return Ok((record, start));
        }
        let mut record = self.empty(boot, PROVISION, "boot");
        record.fixture_pages.clone_from(&fixture.pages);
        let mut start = Start::Failed(End::Finished {});
        let booted = self
            .boot_for_template(fixture, &place, reader, &mut record)
            .await;
        self.read_console(&mut record, &place, booted.is_some())
            .await;
        let failure = provisioning_failure(&record);
        let cloneable =
            fixture.boots_because.is_none() && self.config.isolation == Isolation::Clone;
        match (booted, failure) {
            (Some(_), Some(end)) => {
                if matches!(end, End::Skipped { .. }) {
                    record.end = end.clone();
                }
                start = Start::Failed(end);
            }
            (Some((guest, session)), None) if cloneable => {
                match guest.save_template(session).await {
                    Ok(template) => start = Start::Clone(Arc::new(template), record.left.clone()),
                    Err(e) => {
                        self.tell(Event::Notice {
                            message: format!(
                                "{what}: no template can be taken ({e}); each case boots"
                            ),
                        });
                        start = Start::Boot;
                    }
                }
            }
            (Some(_), None) => {
                if let Some(reason) = &fixture.boots_because {
                    self.tell(Event::Notice {
                        message: format!("{what}: each case boots, since {reason}"),
                    });
                }
                start = Start::Boot;
            }
            (None, _) => {
                if record.end == (End::Finished {}) {
                    record.end = End::HarnessError {
                        message: "the boot ended without a reason".into(),
                    };
                }
            }
        }
        if let Start::Failed(end) = &mut start
            && *end == (End::Finished {})
        {
            *end = record.end.clone();
        }
        record.took_ms = started.elapsed().as_millis() as u64;
        let cloneable = matches!(start, Start::Clone(..));
        self.tell(Event::BootFinished {
            what,
            took_ms: record.took_ms,
            cloneable,
            kept: false,
        });
        self.learn(&record, None);
        if let (Start::Clone(template, _), Some(key)) = (&start, key) {
            self.keep(key, &record, template, &place);
        }
        folder.write_cell(&record)?;
        self.tell_end(&record);
        Ok((record, start))
    }

    /// Boots one machine up to its provisioned state. `None`: `record.end` says why not.
    pub(super) async fn boot(
        &self,
        side: usize,
        fixture: &Fixture,
        place: &Place,
        reader: &PageReader,
        record: &mut CellRecord,
    ) -> Option<(Guest, Session)> {
        let machine = self.machine(side, fixture);
        let booted = Guest::boot(&machine, &self.config.launcher, &place.dir).await;
        let guest = match booted {
            Ok(guest) => guest,
            Err(e) => {
                record.end = vm_end(&e);
                return None;
            }
        };
        place.hear(guest.console());
        let prepare = Prepare {
            side,
            fixture,
            limits: self.limits(side),
            shells: false,
        };
        self.prepare(guest, &prepare, reader, record).await
    }

    /// Greets a guest that boots, or a clone. `None`: `record.end` says why not.
    pub(super) async fn greet(
        &self,
        mut guest: Guest,
        what: &Prepare<'_>,
        record: &mut CellRecord,
    ) -> Option<(Guest, Session)> {
        let (side, limits) = (what.side, what.limits);
        let mut session = match Session::open(
            &mut guest,
            self.behaviour(side),
            limits.boot,
            limits.heartbeat,
        )
        .await
        {
            Ok(session) => session,
            Err(e) => {
                self.climb(&e, &guest, record).await;
                record.end = match ended(&e, None, &guest).await {
                    End::GuestDied { how, .. } => End::BootFailed {
                        reason: last_words(&guest, &how),
                    },
                    other => other,
                };
                return None;
            }
        };
        if what.shells
            && let Err(e) = session.serve_shells().await
        {
            record.end = ended(&e, None, &guest).await;
            return None;
        }
        Some((guest, session))
    }

    /// Greets a guest that boots, and provisions it. `None`: `record.end` says why not.
    pub(super) async fn prepare(
        &self,
        guest: Guest,
        what: &Prepare<'_>,
        reader: &PageReader,
        record: &mut CellRecord,
    ) -> Option<(Guest, Session)> {
        let (side, limits) = (what.side, what.limits);
        let (guest, mut session) = self.greet(guest, what, record).await?;
        let steps: Vec<PlannedStep> = what
            .fixture
            .provision
            .iter()
            .cloned()
            .chain([Op::Checkpoint {
                name: "provisioned".into(),
            }])
            .map(PlannedStep::must)
            .collect();
        let mut drive = Drive {
            guest: &guest,
            session: &mut session,
            reader,
            contract: &self.sides[side].contract,
            limits,
        };
        if let Err(e) = drive.steps(&steps, record, &|_, _| ()).await {
            self.climb(&e, &guest, record).await;
        }
        self.tell_starved(&mut session, &record.id);
        (record.end == End::Finished {}).then_some((guest, session))
    }

    /// Fills in what the console said; of a guest that is `alive`, up to now.
    pub(super) async fn read_console(&self, record: &mut CellRecord, place: &Place, alive: bool) {
        let Some(console) = place.heard() else { return };
        if !alive {
            console.ended(LAST_WORDS).await;
        }
        if let Some(problem) = console.problem() {
            self.tell(Event::Notice {
                message: format!("{} lacks what was heard: {problem}", console.path()),
            });
        }
        let symbols = &self.sides[record.id.side].symbols;
        let (bytes, total) = (console.bytes(), console.total());
        if total > bytes.len() as u64 {
            self.tell(Event::Notice {
                message: format!(
                    "{}: its console said {} MiB; the first and the last of it are kept",
                    record.id,
                    total >> 20
                ),
            });
        }
        tokio::task::block_in_place(|| read_console(record, &bytes, total, symbols));
    }

    pub(super) fn machine(&self, side: usize, fixture: &Fixture) -> Machine {
        let side = &self.sides[side];
        let cmdline = format!(
            "{BASE_CMDLINE} {} watchdog_thresh={} nbd.nbds_max=4 nbd.max_part=0 {}",
            clock_parameters(),
            watchdog_seconds(self.config.accel),
            fixture.cmdline
        );
        Machine {
            accel: self.config.accel,
            cpus: fixture.cpus,
            memory_mib: fixture.memory.bytes() >> 20,
            nodes: fixture.nodes,
            kernel: side.kernel.clone(),
            initrd: side.initrd.clone(),
            cmdline: cmdline.trim_end().to_owned(),
            nvdimms: fixture
                .nvdimms
                .iter()
                .enumerate()
                .map(|(i, n)| Nvdimm {
                    id: format!("nv{i}"),
                    size_mib: n.size.bytes() >> 20,
                    label_kib: n.labels.bytes() >> 10,
                    node: n.node,
                })
                .collect(),
            disks: self.disks(fixture),
            extra: fixture.qemu.clone(),
            cloneable: fixture.boots_because.is_none(),
        }
    }

    /// The root file system is the first disk; the checkout of fstests, the second.
    fn disks(&self, fixture: &Fixture) -> Vec<Utf8PathBuf> {
        let Some(root) = fixture.root.as_ref().and_then(|r| self.config.roots.get(r)) else {
            return Vec::new();
        };
        [root]
            .into_iter()
            .chain(&self.config.fstests)
            .cloned()
            .collect()
    }
}

impl Engine {
    /// Boots a machine with a fixture, without cells.
    ///
    /// # Errors
    /// Where it does not come up, with its last words.
    pub async fn boot_alone(&self, fixture: &Fixture) -> Result<(Guest, Session), End> {
        let id = CellId {
            suite: "boot".into(),
            fixture: fixture.name.clone(),
            case: "alone".into(),
            side: 0,
            kernel: self.sides[0].name.clone(),
        };
        let folder = RunFolder::open(&self.config.folder);
        let error = |message: String| End::HarnessError { message };
        let dir = folder.cell_dir(&id).map_err(|e| error(e.to_string()))?;
        let place = Place::new(dir);
        let reader = PageReader::new(Arc::clone(&self.sides[0].info));
        let mut record = self.empty(&id, "alone", "boot");
        let booted = self.boot(0, fixture, &place, &reader, &mut record).await;
        match (booted, provisioning_failure(&record)) {
            (Some(booted), None) => Ok(booted),
            (_, Some(end)) => Err(end),
            (None, None) => Err(record.end),
        }
    }
}

/// Half of what a processor may be stuck for until the kernel reports a soft lockup: less than a
/// step's limit, and more than a busy host lets a guest wait.
fn watchdog_seconds(accel: Accel) -> u64 {
    match accel {
        Accel::Kvm => 5,
        Accel::Tcg => 25,
    }
}

/// A provisioning step that failed: no case can run on what it left.
pub(super) fn provisioning_failure(record: &CellRecord) -> Option<End> {
    record.steps.iter().find_map(|s| {
        let outcome = s.outcome.as_ref()?;
        let said = match &outcome.result {
            StepResult::Ok {} => return None,
            StepResult::Lacks { what } => {
                return Some(End::Skipped {
                    reason: format!("the guest lacks {what}"),
                });
            }
            StepResult::Failed { message } => message.clone(),
            other => other.word().to_owned(),
        };
        Some(End::BootFailed {
            reason: format!("provisioning failed at {}: {said}", s.op.word()),
        })
    })
}

/// How a boot ended, with the last lines of its log.
fn last_words(guest: &Guest, how: &str) -> String {
    let tail = guest.console().tail(2048);
    let lines: Vec<&str> = tail.lines().rev().take(6).collect();
    let mut out = how.to_owned();
    for line in lines.iter().rev() {
        out.push_str("\n  ");
        out.push_str(&excerpt(line, MAX_LINE));
    }
    out
}
