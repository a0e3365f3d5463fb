//! All cells of a plan: templates, clones, and how many at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use guestmem::KernelInfo;
use proto::Behaviour;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use proto::text::excerpt;

use crate::observe::Symbols;
use crate::plan::{Group, Plan, PlannedCell};
use crate::record::{CellId, CellRecord, End, Event, RunFolder};
use crate::spec::{Contract, Fixture};
use crate::verdict;
use crate::vm::{Accel, Guest, Launcher, Shelf};

use super::boot::{Place, Start, provisioning_failure};
use super::cell::{Drive, Limits, ended, vm_end};
use super::error::RunError;
use super::pages::PageReader;
use super::profile;
use super::repeat::Repeat;
use super::session::Session;
use super::times::Times;
use super::turns::{Need, Turns};

/// How cells are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each case runs in a clone of a booted and provisioned machine.
    Clone,
    /// Each case boots and provisions a machine of its own.
    Boot,
}

/// A kernel of the request, built.
#[derive(Clone, Debug)]
pub struct Side {
    /// As typed.
    pub name: String,
    /// What its counts must be.
    pub contract: Contract,
    /// bzImage.
    pub kernel: Utf8PathBuf,
    /// initramfs, with this kernel's own tests in it.
    pub initrd: Utf8PathBuf,
    /// Its symbols and types.
    pub info: Arc<KernelInfo>,
    /// The lines of its source.
    pub symbols: Arc<Symbols>,
    /// Factor on every time limit: some flavours are slow.
    pub patience: u32,
    /// Programs that cases asked for and that are not in the image, and why.
    pub lacks: BTreeMap<String, String>,
    /// The options of its config that are set, without `CONFIG_`.
    pub config: Arc<BTreeSet<String>>,
}

/// What a run is given.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Starts QEMU.
    pub launcher: Launcher,
    /// Who executes guests.
    pub accel: Accel,
    /// How cells are kept apart.
    pub isolation: Isolation,
    /// Whether a guest that hangs leaves a dump of its memory in its cell's folder.
    pub dump_hung: bool,
    /// Guests at a time.
    pub jobs: usize,
    /// The host's memory that guests may use, bytes.
    pub memory: u64,
    /// Where it is kept how long cells take, from one run to the next.
    pub times: Option<Utf8PathBuf>,
    /// The run's folder.
    pub folder: Utf8PathBuf,
    /// How often each cell runs, and with which seed.
    pub repeat: Repeat,
    /// Root file systems by name, where a fixture needs one.
    pub roots: BTreeMap<String, Utf8PathBuf>,
    /// An erofs of the fstests checkout that the user named.
    pub fstests: Option<Utf8PathBuf>,
    /// Where templates are kept for later runs, and taken from; none: every one boots.
    pub shelf: Option<Shelf>,
}

/// Runs plans.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) sides: Vec<Side>,
    events: UnboundedSender<Event>,
    /// Whose guest is next.
    pub(super) guests: Arc<Turns>,
    /// Groups at a time: each holds one template in memory.
    groups: Arc<Semaphore>,
    /// How long cells take.
    times: Arc<Mutex<Times>>,
    /// How long an operation may take, where that is less than usual.
    pub(super) step_limit: Option<Duration>,
    /// Templates that are being kept.
    pub(super) keeping: Arc<Mutex<JoinSet<()>>>,
}

/// What a template takes in memory, bytes: 130 to 185 MiB were measured.
const TEMPLATE: u64 = 256 << 20;

/// The title of the cell that stands for boot and provisioning.
pub(super) const PROVISION: &str = "boot and provisioning";

impl Engine {
    /// An engine for these kernels; `events` receives everything that happens.
    pub fn new(config: EngineConfig, sides: Vec<Side>, events: UnboundedSender<Event>) -> Self {
        let jobs = config.jobs.max(1);
        let times = Times::load(config.times.as_ref());
        // Templates may take a quarter of the memory, and clones the rest, some of which others need.
        let templates = usize::try_from(config.memory / 4 / TEMPLATE).unwrap_or(jobs);
        Self {
            sides,
            events,
            guests: Turns::new(jobs, config.memory / 2),
            groups: Arc::new(Semaphore::new(jobs.max(templates))),
            times: Arc::new(Mutex::new(times)),
            step_limit: None,
            keeping: Arc::default(),
            config,
        }
    }

    /// Runs all cells and writes each into the run's folder.
    ///
    /// # Errors
    /// Where the folder can't be written or a task of ours breaks. What happens in a guest,
    /// and a QEMU that can't be started, is told in the cells' records.
    pub async fn run(&self, plan: Plan) -> Result<Vec<CellRecord>, RunError> {
        let mut tasks = JoinSet::new();
        let mut groups = plan.groups;
        // A stable order: the sides of a pair weigh the same, and stay beside each other, so that a
        // drift of the host hits both.
        groups.sort_by_cached_key(|group| Reverse(self.weight(group)));
        for group in groups {
            let engine = self.clone();
            tasks.spawn(async move { engine.group(group).await });
        }
        let mut out = Vec::new();
        while let Some(done) = tasks.join_next().await {
            out.extend(done.map_err(|e| RunError::Task(e.to_string()))??);
        }
        self.all_kept().await;
        if let Some(path) = &self.config.times
            && let Err(e) = self.times().save(path)
        {
            let message = format!("how long cells took is not kept: failed to write {path}: {e}");
            self.tell(Event::Notice { message });
        }
        out.sort_by(|a: &CellRecord, b| a.id.cmp(&b.id));
        Ok(out)
    }

    pub(super) fn tell(&self, event: Event) {
        // The receiver may be gone when the run is being ended.
        let _ = self.events.send(event);
    }

    pub(super) fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a group takes that has all processors: its boot, and the longest of its cells.
    fn weight(&self, group: &Group) -> u64 {
        let cells = group.cells.iter().map(|c| self.need(&c.id).weight);
        self.need(&group.boot).weight + cells.max().unwrap_or_default()
    }

    /// What a cell's guest needs, as those like it did.
    pub(super) fn need(&self, id: &CellId) -> Need {
        let (accel, patience) = (self.config.accel, self.sides[id.side].patience);
        let times = self.times();
        Need {
            weight: times.ms(accel, patience, id),
            memory: times.memory(accel, patience, id),
        }
    }

    /// Takes note of what a cell took.
    pub(super) fn learn(&self, record: &CellRecord, memory: Option<u64>) {
        if record.end == (End::Finished {}) {
            let (accel, patience) = (self.config.accel, self.sides[record.id.side].patience);
            let id = &record.id;
            self.times()
                .learn(accel, patience, id, record.took_ms, memory);
        }
    }

    /// Told at once: who watches wants to know a failure when it happens.
    pub(super) fn tell_end(&self, record: &CellRecord) {
        let contract = &self.sides[record.id.side].contract;
        self.tell(Event::CellFinished {
            cell: record.id.clone(),
            verdict: verdict::judge_cell(record, contract).verdict,
            took_ms: record.took_ms,
        });
    }

    async fn group(&self, group: Group) -> Result<Vec<CellRecord>, RunError> {
        if let Some(reason) = &group.skip {
            return self.skip(&group, reason);
        }
        let _place = self.groups.acquire().await;
        let weight = self.weight(&group);
        let reader = PageReader::new(Arc::clone(&self.sides[group.side].info));
        let started = {
            let (engine, group, reader) = (self.clone(), group.clone(), reader.clone());
            let work = async move {
                engine
                    .template(&group.boot, &group.fixture, &reader, weight)
                    .await
            };
            task(work).await
        };
        let (boot, start) = match started {
            Ok(started) => started?,
            Err(why) => {
                let record = self.broken(&group.boot, PROVISION, why)?;
                let end = record.end.clone();
                (record, Start::Failed(end))
            }
        };
        let mut out = vec![boot];
        let start = Arc::new(start);
        let mut tasks = JoinSet::new();
        for cell in group.cells {
            let (engine, start, fixture, reader) = (
                self.clone(),
                Arc::clone(&start),
                group.fixture.clone(),
                reader.clone(),
            );
            tasks.spawn(async move {
                let (id, title, of) = (cell.id.clone(), cell.title.clone(), engine.clone());
                let ran =
                    task(async move { engine.cell(cell, &fixture, &start, &reader).await }).await;
                ran.unwrap_or_else(|why| of.broken(&id, &title, why))
            });
        }
        while let Some(done) = tasks.join_next().await {
            out.push(done.map_err(|e| RunError::Task(e.to_string()))??);
        }
        Ok(out)
    }

    /// The record of a cell in which we broke: the others go on.
    fn broken(&self, id: &CellId, title: &str, why: String) -> Result<CellRecord, RunError> {
        let mut record = self.empty(id, title, "clone");
        record.end = End::HarnessError {
            message: format!("a bug of the harness: {why}"),
        };
        RunFolder::open(&self.config.folder).write_cell(&record)?;
        self.tell_end(&record);
        Ok(record)
    }

    /// The records of a group that can't run.
    fn skip(&self, group: &Group, reason: &str) -> Result<Vec<CellRecord>, RunError> {
        let folder = RunFolder::open(&self.config.folder);
        let cells = group.cells.iter().map(|c| (&c.id, c.title.as_str()));
        [(&group.boot, PROVISION)]
            .into_iter()
            .chain(cells)
            .map(|(id, title)| {
                let mut record = self.empty(id, title, "boot");
                record.end = End::Skipped {
                    reason: reason.to_owned(),
                };
                folder.cell_dir(id)?;
                folder.write_cell(&record)?;
                self.tell_end(&record);
                Ok(record)
            })
            .collect()
    }

    /// Runs a cell once, in a guest of its own whose console and the like lie in `dir`.
    pub(super) async fn attempt(
        &self,
        cell: &PlannedCell,
        fixture: &Fixture,
        start: &Start,
        reader: &PageReader,
        place: Place,
    ) -> CellRecord {
        let started = Instant::now();
        let isolation = if matches!(start, Start::Boot) {
            "boot"
        } else {
            "clone"
        };
        let mut record = self.empty(&cell.id, &cell.title, isolation);
        record.known_failures.clone_from(&cell.known_failures);
        if cell.of_fixture {
            record.fixture_pages.clone_from(&fixture.pages);
        }
        let mut used = None;
        match (start, self.missing(cell)) {
            (_, Some(reason)) => record.end = End::Skipped { reason },
            (Start::Failed(end), _) => record.end = end.clone(),
            (Start::Clone(template, before), _) => match template.start_clone(&place.dir).await {
                Ok(guest) => {
                    place.hear(guest.console());
                    record.before.clone_from(before);
                    used = self.drive(guest, None, cell, reader, &mut record).await;
                }
                Err(e) => record.end = vm_end(&e),
            },
            (Start::Boot, _) => {
                let mut boot = self.empty(&cell.id, &cell.title, isolation);
                let booted = self
                    .boot(cell.id.side, fixture, &place, reader, &mut boot)
                    .await;
                match (booted, provisioning_failure(&boot)) {
                    (Some((guest, session)), None) => {
                        record.before = boot.left;
                        let session = Some(session);
                        used = (self.drive(guest, session, cell, reader, &mut record)).await;
                    }
                    (Some(_), Some(end)) => record.end = end,
                    (None, _) => record.end = boot.end,
                }
            }
        }
        self.read_console(&mut record, &place, false).await;
        record.took_ms = started.elapsed().as_millis() as u64;
        self.learn(&record, used);
        record
    }

    /// Runs the steps of a cell. The answer: what memory the guest had of its own in the end, bytes.
    async fn drive(
        &self,
        mut guest: Guest,
        session: Option<Session>,
        cell: &PlannedCell,
        reader: &PageReader,
        record: &mut CellRecord,
    ) -> Option<u64> {
        let side = cell.id.side;
        let limits = self.limits(side);
        let mut session = match session {
            Some(session) => session,
            None => match Session::open(
                &mut guest,
                self.behaviour(side),
                limits.greeting,
                limits.heartbeat,
            )
            .await
            {
                Ok(session) => session,
                Err(e) => {
                    self.climb(&e, &guest, record).await;
                    record.end = ended(&e, None, &guest).await;
                    return None;
                }
            },
        };
        let steps = cell.steps.len();
        let told = |step: usize, op: &str| {
            self.tell(Event::CellStep {
                cell: cell.id.clone(),
                step,
                steps,
                op: op.to_owned(),
            });
        };
        let mut drive = Drive {
            guest: &guest,
            session: &mut session,
            reader,
            contract: &self.sides[side].contract,
            limits,
        };
        if let Err(e) = drive.steps(&cell.steps, record, &told).await {
            self.climb(&e, &guest, record).await;
        }
        self.tell_starved(&mut session, &record.id);
        if record.end == (End::Finished {}) && self.sides[side].config.contains(profile::OPTION) {
            let folder = RunFolder::open(&self.config.folder);
            let kept = profile::keep(&mut session, &guest, limits.step, &folder, &cell.id).await;
            if let Some(message) = kept {
                self.tell(Event::Notice { message });
            }
        }
        guest.own_memory()
    }

    /// Why a case can't run on its kernel, where it can't.
    fn missing(&self, cell: &PlannedCell) -> Option<String> {
        let side = &self.sides[cell.id.side];
        let option = || {
            let missing = cell.config.iter().find(|o| !side.config.contains(*o))?;
            Some(format!("the kernel has no CONFIG_{missing}"))
        };
        let program = || {
            cell.programs
                .iter()
                .find_map(|p| side.lacks.get(p).cloned())
        };
        let emulated = || match self.config.accel {
            Accel::Tcg => cell.emulated.clone(),
            Accel::Kvm => None,
        };
        let skip = cell.skip.clone().or_else(program).or_else(option);
        skip.or_else(emulated)
    }

    pub(super) fn limits(&self, side: usize) -> Limits {
        let mut limits = Limits::of(self.config.accel, self.sides[side].patience);
        if let Some(limit) = self.step_limit {
            limits.step = limits.step.min(limit);
        }
        limits
    }

    pub(super) fn behaviour(&self, side: usize) -> Behaviour {
        self.sides[side].contract.behaviour
    }

    pub(super) fn empty(&self, id: &CellId, title: &str, isolation: &str) -> CellRecord {
        CellRecord {
            id: id.clone(),
            title: title.to_owned(),
            accel: self.config.accel.to_string(),
            isolation: isolation.to_owned(),
            contract: self.sides[id.side].contract.name.clone(),
            known_failures: Vec::new(),
            fixture_pages: Vec::new(),
            end: End::Finished {},
            steps: Vec::new(),
            checkpoints: Vec::new(),
            log: Vec::new(),
            splats: Vec::new(),
            results: Vec::new(),
            repeats: None,
            hang: None,
            left: None,
            before: None,
            booted_in: None,
            took_ms: 0,
        }
    }
}

/// Does something that may panic: the error is what the panic said. Dropped, it ends.
async fn task<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let mut set = JoinSet::new();
    set.spawn(work);
    match set.join_next().await {
        Some(Ok(done)) => Ok(done),
        Some(Err(e)) => Err(excerpt(&e.to_string(), 300)),
        None => Err("it never began".to_owned()),
    }
}
