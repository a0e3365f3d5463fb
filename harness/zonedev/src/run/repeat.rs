//! A cell more than once: races with further seeds, or one seed again and again.

use std::num::NonZero;
use std::time::Instant;

use proto::Op;

use super::boot::{Place, Start};
use super::engine::Engine;
use super::error::RunError;
use super::pages::PageReader;
use super::session::Session;
use crate::plan::PlannedCell;
use crate::record::{
    CellId, CellRecord, CellVerdict, End, Event, FailedRun, LogLine, Repeats, RunFolder,
};
use crate::spec::{Fixture, PlannedStep};
use crate::verdict;
use crate::vm::{Accel, Guest};

/// How often each cell runs, and with which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Runs of each cell, each in a clone of its own.
    pub runs: NonZero<u32>,
    /// Whether the first run that fails, with all its retries, is the last.
    pub until_fails: bool,
    /// The seed of every race in every run. Absent: a race's own, and the next one in each
    /// further run.
    pub seed: Option<u64>,
    /// How often a run that does not pass is run again, with its own seed. One that passes then is
    /// told as a flake.
    pub retries: u32,
}

impl Repeat {
    /// Each cell once, as its case has it.
    pub const ONCE: Repeat = Repeat {
        runs: NonZero::<u32>::MIN,
        until_fails: false,
        seed: None,
        retries: 0,
    };

    /// The steps of run `n`, from 0.
    pub(super) fn steps(&self, steps: &[PlannedStep], n: u32) -> Vec<PlannedStep> {
        let mut steps = steps.to_vec();
        for step in &mut steps {
            if let Op::Race { seed, .. } = &mut step.op {
                *seed = self.seed.unwrap_or_else(|| seed.wrapping_add(u64::from(n)));
            }
        }
        steps
    }
}

/// What is told of [`lost_timer`].
const LOST_TIMER: &str = "while it booted, a processor got no timer interrupts from the emulator";

/// Whether a kernel did not boot since a processor's timer interrupts stayed away, as RCU itself says
/// of it. Under emulation on a busy host that comes with one boot in hundreds; a kernel whose own
/// timers are broken does not boot the second time either.
fn lost_timer(record: &CellRecord) -> bool {
    let says = |line: &LogLine| line.text.contains("Possible timer handling issue on cpu=");
    matches!(record.end, End::BootFailed { .. }) && record.log.iter().any(says)
}

/// The seed of the first race.
fn seed(steps: &[PlannedStep]) -> Option<u64> {
    steps.iter().find_map(|s| match s.op {
        Op::Race { seed, .. } => Some(seed),
        _ => None,
    })
}

impl Engine {
    /// Runs a cell as often as asked for. The first run that does not pass is kept, or the last.
    pub(super) async fn cell(
        &self,
        mut cell: PlannedCell,
        fixture: &Fixture,
        start: &Start,
        reader: &PageReader,
    ) -> Result<CellRecord, RunError> {
        let _guest = self.guests.take(self.need(&cell.id)).await?;
        let repeat = self.config.repeat;
        let started = Instant::now();
        self.tell(Event::CellStarted {
            cell: cell.id.clone(),
        });
        let folder = RunFolder::open(&self.config.folder);
        let dir = folder.cell_dir(&cell.id)?;
        let steps = std::mem::take(&mut cell.steps);
        let mut repeats = Repeats {
            runs: 0,
            failed: Vec::new(),
            tolerated: false,
            otherwise: Vec::new(),
        };
        // Two runs of the same inputs are observed alike.
        let mut observed: Option<String> = None;
        let mut kept: Option<CellRecord> = None;
        // Whether a run failed, and all of its retries.
        let mut failed = false;
        'runs: for n in 0..repeat.runs.get() {
            cell.steps = repeat.steps(&steps, n);
            for retry in 0..=repeat.retries {
                repeats.runs += 1;
                let place = match repeats.runs {
                    1 => dir.clone(),
                    n => dir.join(format!("run-{n}")),
                };
                fs_err::create_dir_all(&place).map_err(crate::record::RunFolderError::from)?;
                let mut record = self
                    .attempt(&cell, fixture, start, reader, Place::new(place.clone()))
                    .await;
                if !matches!(start, Start::Failed(_)) && self.try_again(&record) {
                    record = self
                        .attempt(&cell, fixture, start, reader, Place::new(place.clone()))
                        .await;
                }
                let mut reasons = match self.judge(&record) {
                    CellVerdict::Fail { reasons, .. } => reasons.into_iter(),
                    CellVerdict::Error { reason, .. } => vec![reason].into_iter(),
                    CellVerdict::Skip { .. } => {
                        kept = Some(record);
                        break 'runs;
                    }
                    CellVerdict::Pass {} => Vec::new().into_iter(),
                };
                let Some(reason) = reasons.next() else {
                    let now = verdict::normalised(&record);
                    match &observed {
                        None => observed = Some(now),
                        Some(first) if *first == now => {}
                        Some(first) => repeats.otherwise.push(FailedRun {
                            run: repeats.runs,
                            seed: seed(&cell.steps),
                            reason: verdict::line_differences(first, &now),
                            others: Vec::new(),
                        }),
                    }
                    if repeats.runs > 1 {
                        // What a run that passed leaves is of no use beside the record.
                        let _ = fs_err::remove_dir_all(&place);
                    }
                    if !failed {
                        kept = Some(record);
                    }
                    break;
                };
                repeats.failed.push(FailedRun {
                    run: repeats.runs,
                    seed: seed(&cell.steps),
                    reason,
                    others: reasons.collect(),
                });
                if retry == repeat.retries || matches!(start, Start::Failed(_)) {
                    if !failed {
                        kept = Some(record);
                    }
                    failed = true;
                    if repeat.until_fails {
                        break 'runs;
                    }
                    break;
                }
            }
        }
        repeats.tolerated = !failed && !repeats.failed.is_empty();
        let Some(mut record) = kept else {
            return Err(RunError::Task("a cell had no run".to_owned()));
        };
        if repeats.runs > 1 {
            record.repeats = Some(repeats);
        }
        record.took_ms = started.elapsed().as_millis() as u64;
        folder.write_cell(&record)?;
        self.tell_end(&record);
        Ok(record)
    }

    /// Boots a machine up to its provisioned state, once more where the host broke the first.
    /// `None`: `record.end` says why not.
    pub(super) async fn boot_for_template(
        &self,
        fixture: &Fixture,
        place: &Place,
        reader: &PageReader,
        record: &mut CellRecord,
    ) -> Option<(Guest, Session)> {
        let (side, fresh) = (record.id.side, record.clone());
        let booted = self.boot(side, fixture, place, reader, record).await;
        if !self.try_again(record) {
            return booted;
        }
        *record = fresh;
        self.boot(side, fixture, place, reader, record).await
    }

    /// Whether it was the harness or the host that failed, a QEMU that crashed for example: that is
    /// told, and tried once more. What a kernel does never is.
    pub(super) fn try_again(&self, record: &CellRecord) -> bool {
        let emulated = self.config.accel == Accel::Tcg && lost_timer(record);
        let message = match record.end.not_the_kernel() {
            Some(message) => message,
            None if emulated => LOST_TIMER,
            None => return false,
        };
        self.tell(Event::Notice {
            message: format!("{}: {message}; tried once more", record.id),
        });
        true
    }

    /// Answers that were waited for longer than they may take, since the host was busy elsewhere.
    pub(super) fn tell_starved(&self, session: &mut Session, id: &CellId) {
        let n = session.take_starved();
        if n > 0 {
            self.tell(Event::Notice {
                message: format!(
                    "{id}: the host let this guest run too little; {n} of its deadlines moved"
                ),
            });
        }
    }

    fn judge(&self, record: &CellRecord) -> CellVerdict {
        verdict::judge_cell(record, &self.sides[record.id.side].contract).verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_boot_without_timer_interrupts_is_the_emulators() {
        use crate::record::testing::{cell, log};
        let mut record = cell("provision", 0, "6.12");
        let says = "rcu:  Possible timer handling issue on cpu=1 timer-softirq=1";
        record.log = vec![log("rcu: INFO: rcu_sched detected stalls", None)];
        let reason = "no answer".to_owned();
        record.end = End::BootFailed { reason };
        assert!(!lost_timer(&record));
        record.log.push(log(says, None));
        assert!(lost_timer(&record));
        let at = "no answer".to_owned();
        record.end = End::Hung { step: 1, at };
        assert!(!lost_timer(&record), "a case that runs");
    }

    #[test]
    fn further_runs_take_further_seeds_unless_one_is_given() {
        let race = PlannedStep::must(Op::Race {
            rounds: 1,
            turns: NonZero::<u32>::MIN,
            seed: 7,
            arm: Vec::new(),
        });
        let steps = [PlannedStep::must(Op::HmmClose { device: None }), race];
        let runs = NonZero::new(3).unwrap();
        let own = Repeat {
            until_fails: false,
            runs,
            seed: None,
            retries: 0,
        };
        assert_eq!(seed(&own.steps(&steps, 0)), Some(7));
        assert_eq!(seed(&own.steps(&steps, 2)), Some(9));
        let given = Repeat {
            until_fails: false,
            runs,
            seed: Some(40),
            retries: 0,
        };
        assert_eq!(seed(&given.steps(&steps, 2)), Some(40));
        assert_eq!(seed(&steps[..1]), None);
    }
}
