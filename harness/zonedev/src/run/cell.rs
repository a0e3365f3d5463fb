//! One cell: the steps of a case in one guest.

use std::time::Duration;

use proto::{Checkpoint, Op, ProgramOutput, StepResult};

use proto::text::excerpt;

use crate::observe::{self, Symbols};
use crate::record::{CellRecord, CheckpointRecord, End, Left, StepRecord, TestResult};
use crate::spec::{Contract, HUNG, PlannedStep, Reads, ends_guest};
use crate::verdict;
use crate::vm::{self, Accel, Guest};

use super::hang;
use super::pages::PageReader;
use super::progress::Silence;
use super::session::{RequestParts, Session, SessionError};
use super::trust;

/// How often a checkpoint that does not agree is read again, after the guest ran on.
const REREADS: u32 = 5;
/// After this long in one sleeping state an operation counts as blocked, in milliseconds of guest time.
const BLOCKED_AFTER_MS: u64 = 250;
/// The same where it isn't expected to block: it may sleep for a while, as xfs does between its looks
/// at buffers that are still in use (xfs_buftarg_drain(): 100 ticks).
const STUCK_AFTER_MS: u64 = 4000;
/// The mark that ends a cell's log.
const END_MARK: &str = "zonedev: end";
/// What QEMU's words for the cause of a shutdown begin with where no guest caused it: a signal, a
/// monitor's command.
const BY_HOST: &str = "host-";
/// Characters of a message in a cell's end.
const MAX_MESSAGE: usize = 4096;

/// How long things may take, by accelerator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From QEMU's start to the agent's greeting.
    pub(super) boot: Duration,
    /// From a clone's start to the agent's greeting.
    pub(super) greeting: Duration,
    /// One operation.
    pub(super) step: Duration,
    /// One program.
    pub(super) program: Duration,
    /// One operation of which the guest is expected to hang.
    pub(super) hang: Duration,
    /// Without a sign of life from the agent, which gives one every two seconds.
    pub(super) heartbeat: Duration,
}

impl Limits {
    /// Generous: a limit that is reached on a healthy kernel is worse than a late verdict on a hung one.
    pub(super) fn of(accel: Accel, patience: u32) -> Self {
        let scale = u64::from(patience)
            * match accel {
                Accel::Kvm => 1,
                Accel::Tcg => 4,
            };
        Limits {
            boot: Duration::from_secs(30 * scale),
            greeting: Duration::from_secs(10 * scale),
            step: Duration::from_secs(15 * scale),
            program: Duration::from_secs(120 * scale),
            hang: Duration::from_secs(4 * scale),
            heartbeat: Duration::from_secs(6 * scale),
        }
    }

    /// For a guest that somebody may stop at any time, for as long as they like.
    pub(super) fn none() -> Self {
        let forever = Duration::from_secs(10 * 365 * 24 * 3600);
        Limits {
            boot: forever,
            greeting: forever,
            step: forever,
            program: forever,
            hang: forever,
            heartbeat: forever,
        }
    }

    fn for_op(&self, op: &Op) -> Duration {
        match op {
            Op::Run {
                minutes: Some(minutes),
                ..
            } => {
                Duration::from_secs(minutes.saturating_mul(60).saturating_add(60)).max(self.program)
            }
            Op::Run { .. }
            | Op::Mkfs { .. }
            | Op::CreateNamespace { .. }
            | Op::DestroyNamespace {}
            | Op::Rebind {}
            | Op::CreateRegion {} => self.program,
            _ => self.step,
        }
    }
}

/// Whether a case can go on behind a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    On,
    Failed,
}

/// A guest with an open talk, and what drives it.
pub(super) struct Drive<'a> {
    /// The guest.
    pub(super) guest: &'a Guest,
    /// The talk.
    pub(super) session: &'a mut Session,
    /// For checkpoints.
    pub(super) reader: &'a PageReader,
    /// What judges a checkpoint, to know whether to read again.
    pub(super) contract: &'a Contract,
    /// Limits.
    pub(super) limits: Limits,
}

impl Drive<'_> {
    /// Runs the steps into `record` until the last or until one that ends the cell.
    ///
    /// # Errors
    /// What ended the talk, where the record does not expect it; the record has it too.
    pub(super) async fn steps(
        &mut self,
        steps: &[PlannedStep],
        record: &mut CellRecord,
        told: &(dyn Fn(usize, &str) + Sync),
    ) -> Result<(), SessionError> {
        let mut at = None;
        let talk = self.walk(steps, record, told, &mut at).await;
        if let Err(e) = &talk {
            record.end = ended(e, at, self.guest).await;
        }
        match talk {
            Err(SessionError::Silent { .. }) if at.is_some_and(|i| steps[i].expected == HUNG) => {
                Ok(())
            }
            Err(SessionError::Ended(_)) if at.is_some_and(|i| ends_guest(&steps[i].expected)) => {
                Ok(())
            }
            talk => talk,
        }
    }

    /// `at`: the step that runs, while one does.
    async fn walk(
        &mut self,
        steps: &[PlannedStep],
        record: &mut CellRecord,
        told: &(dyn Fn(usize, &str) + Sync),
        at: &mut Option<usize>,
    ) -> Result<(), SessionError> {
        for (i, step) in steps.iter().enumerate() {
            told(i, step.op.word());
            *at = Some(i);
            if self.step(i, step, record).await? == Went::Failed {
                // Later steps build on this one; what they would show is not its effect.
                return Ok(());
            }
        }
        *at = None;
        let request = RequestParts {
            actor: "main",
            op: &Op::End {},
            blocked_after_ms: None,
            mark: END_MARK.into(),
        };
        let (outcome, left) = self
            .session
            .run(self.guest, request, self.limits.step)
            .await?;
        record.left = Some(Left {
            counters: left.map(|l| l.counters).unwrap_or_default(),
            problem: match outcome.result {
                StepResult::Ok {} => None,
                StepResult::Failed { message } => Some(message),
                other => Some(other.word().to_owned()),
            },
        });
        // The console is filled by the guest's UART, maybe by a kernel thread of its own: the log is
        // whole when the last mark is in it.
        let console = self.guest.console();
        console.wait_for(END_MARK, self.limits.step).await;
        Ok(())
    }

    /// Runs step `i` of a case.
    ///
    /// # Errors
    /// What ended the talk.
    pub(super) async fn step(
        &mut self,
        i: usize,
        step: &PlannedStep,
        record: &mut CellRecord,
    ) -> Result<Went, SessionError> {
        record.steps.push(StepRecord {
            actor: step.actor.clone(),
            op: step.op.clone(),
            expected: step.expected.clone(),
            expected_splats: step.splats.clone(),
            every_splat: step.every_splat,
            outcome: None,
        });
        let request = RequestParts {
            actor: &step.actor,
            op: &step.op,
            blocked_after_ms: step.may_block.then_some(match step.expected.as_str() {
                "blocked" => BLOCKED_AFTER_MS,
                _ => STUCK_AFTER_MS,
            }),
            mark: format!("zonedev: step {i}"),
        };
        let limit = match step.expected.as_str() {
            HUNG => self.limits.hang,
            _ => self.limits.for_op(&step.op),
        };
        let (outcome, checkpoint) = self.session.run(self.guest, request, limit).await?;
        if let Some(output) = &outcome.output {
            record.results.extend(read_program(step, output));
        }
        let failed = matches!(
            outcome.result,
            StepResult::Failed { .. } | StepResult::Lacks { .. }
        );
        record.steps[i].outcome = Some(outcome);
        if let (Op::Checkpoint { name }, Some(claims)) = (&step.op, checkpoint) {
            self.checkpoint(name, i, claims, record).await?;
        }
        Ok(if failed { Went::Failed } else { Went::On })
    }

    /// Reads until the pages agree or a bounded number of readings did not.
    async fn checkpoint(
        &mut self,
        name: &str,
        step: usize,
        claims: Checkpoint,
        record: &mut CellRecord,
    ) -> Result<(), SessionError> {
        let kept: usize = record.checkpoints.iter().map(runs_of).sum();
        let left = trust::MAX_RUNS.saturating_sub(kept);
        let (pages, took) = self.reader.read(self.guest).await?;
        let mut left_now = left;
        let pages = trust::reading(pages, &mut left_now);
        let mut out = CheckpointRecord {
            name: name.to_owned(),
            step,
            pages,
            claims,
            rereads: 0,
            first: None,
            read_us: took.as_micros() as u64,
        };
        let mut pause = Duration::from_millis(20);
        while !verdict::check(&out, self.contract).violations.is_empty() && out.rereads < REREADS {
            tokio::time::sleep(pause).await;
            pause *= 2;
            let op = Op::Checkpoint {
                name: name.to_owned(),
            };
            let request = RequestParts {
                actor: "main",
                op: &op,
                blocked_after_ms: None,
                mark: format!("zonedev: step {step}"),
            };
            let (_, again) = self
                .session
                .run(self.guest, request, self.limits.step)
                .await?;
            let (pages, _) = self.reader.read(self.guest).await?;
            let first = out.first.get_or_insert(std::mem::take(&mut out.pages));
            let mut left_now =
                left.saturating_sub(first.regions.iter().map(|r| r.runs.len()).sum());
            out.pages = trust::reading(pages, &mut left_now);
            if let Some(claims) = again {
                out.claims = claims;
            }
            out.rereads += 1;
        }
        record.checkpoints.push(out);
        Ok(())
    }
}

/// Runs of pages that a checkpoint keeps.
fn runs_of(checkpoint: &CheckpointRecord) -> usize {
    let readings = [Some(&checkpoint.pages), checkpoint.first.as_ref()];
    let regions = readings.into_iter().flatten().flat_map(|p| &p.regions);
    regions.map(|r| r.runs.len()).sum()
}

/// The results of a program, as its step says that they are read.
fn read_program(step: &PlannedStep, output: &ProgramOutput) -> Vec<TestResult> {
    match step.reads {
        Reads::Program => {
            let name = match (&step.test, &step.op) {
                (Some(name), _) => name.clone(),
                (None, Op::Run { argv, .. }) => observe::program_name(argv),
                (None, op) => op.word().to_owned(),
            };
            observe::program(&name, output)
        }
        Reads::Fstests => observe::fstests(output),
    }
}

/// Fills in what the console says; `total`: bytes of it, kept or not.
pub(super) fn read_console(record: &mut CellRecord, console: &[u8], total: u64, symbols: &Symbols) {
    record.log = observe::console(console);
    // Only the mark itself: a report that has the same words in it stays.
    record.log.retain(|l| l.text != END_MARK);
    // A mark of a step that nobody asked for is a line as any other.
    let (steps, mut step) = (record.steps.len(), None);
    for line in &mut record.log {
        match line.step {
            Some(n) if n >= steps => line.step = step,
            known => step = known,
        }
    }
    let asked = record.hang.as_ref().map_or(0, |h| {
        // Counted from the end, since it is the middle that may have been left out.
        let bytes = usize::try_from(total.saturating_sub(h.asked_at)).unwrap_or(usize::MAX);
        observe::console(&console[console.len().saturating_sub(bytes)..]).len()
    });
    let unasked = record.log.len().saturating_sub(asked);
    record.splats = observe::splats(&record.log[..unasked]);
    symbols.fill_in(&mut record.splats);
    hang::explain(record, symbols);
}

/// The end of a cell whose guest could not be had.
pub(super) fn vm_end(error: &vm::VmError) -> End {
    // QEMU's words may repeat a guest's.
    let message = excerpt(&error.to_string(), MAX_MESSAGE);
    match error.fault() {
        vm::Fault::Harness => End::HarnessError { message },
        vm::Fault::Host | vm::Fault::Qemu => End::HostError { message },
    }
}

/// What a talk that ended says of the kernel. A QEMU that was killed or crashed says nothing of it,
/// unless the kernel had panicked before.
pub(super) async fn ended(error: &SessionError, step: Option<usize>, guest: &Guest) -> End {
    // QEMU refused what it would not have refused a guest that lives: a kernel that panics while it is
    // read is no trouble of the host's.
    let died = match error {
        SessionError::Vm(_) => guest.end().map(SessionError::Ended),
        _ => None,
    };
    let error = died.as_ref().unwrap_or(error);
    let tail = guest.console().tail(1 << 16);
    let panic = tail.contains("Kernel panic - not syncing");
    match (error, step) {
        (SessionError::Ended(vm::End::Gone), _) if !panic => End::HostError {
            message: excerpt(&guest.how_it_ended().await, MAX_MESSAGE),
        },
        (SessionError::Ended(vm::End::Shutdown { reason }), _)
            if !panic && reason.starts_with(BY_HOST) =>
        {
            End::HostError {
                message: format!(
                    "QEMU was told to end from outside ({})",
                    excerpt(reason, 100)
                ),
            }
        }
        (SessionError::Ended(end), _) => {
            let how = match end {
                _ if panic => "panic".into(),
                vm::End::Shutdown { reason } if guest.triple_fault() => {
                    format!("{} by a triple fault", excerpt(reason, 100))
                }
                vm::End::Shutdown { reason } => excerpt(reason, 100),
                vm::End::Panicked => "panic".into(),
                vm::End::Gone => "QEMU exited".into(),
            };
            End::GuestDied { step, how }
        }
        (SessionError::Silent { limit, why, .. }, Some(step)) => End::Hung {
            step,
            at: silence_words(*why, *limit),
        },
        (SessionError::Silent { limit, why, .. }, None) => End::GuestDied {
            step: None,
            how: format!("outside of any step, {}", silence_words(*why, *limit)),
        },
        (SessionError::Fatal(message), step) => End::AgentLost {
            step,
            how: format!("it gave up: {message}"),
        },
        (SessionError::Frame(message) | SessionError::Channel(message), step) => End::AgentLost {
            step,
            how: message.clone(),
        },
        (SessionError::Vm(e), _) => vm_end(e),
        (e, _) => End::HarnessError {
            message: e.to_string(),
        },
    }
}

/// Why a guest is taken for one that hangs.
pub(super) fn silence_words(why: Silence, limit: Duration) -> String {
    match why {
        Silence::Deadline => format!("no answer within {} s", limit.as_secs()),
        Silence::NoLife(time) => {
            format!("the agent gave no sign of life for {} s", time.as_secs())
        }
        Silence::Halted => "all processors are halted with interrupts off".to_owned(),
        Silence::Mute(time) => format!("the console was silent for {} s", time.as_secs()),
    }
}
