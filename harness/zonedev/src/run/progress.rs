//! Whether a guest that has not answered yet makes progress.
//!
//! A deadline alone is a bad judge: on a busy host a healthy guest misses it, and a dead one is
//! waited for until it comes. So where time has passed, what the guest does is looked at: whether
//! its processors are halted (with interrupts off nothing wakes them), whether it prints, and
//! whether the host let it run at all.

use std::time::{Duration, Instant};

use super::session::SessionError;
use crate::vm::Guest;

/// How often to look.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// A console that spoke so lately speaks.
const SPEAKS: Duration = Duration::from_secs(2);
/// A deadline that a guest misses for another reason than its kernel moves so far, in deadlines.
const AT_MOST: u32 = 4;
/// A guest ran that had so much of one processor of the host, as a part of the time. On a host of its
/// own it has one and more: a program that takes its time had a third of one beside ten other guests,
/// and did not hang.
const RAN: u32 = 2;

/// Why a guest is taken for one that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The time for the answer is over.
    Deadline,
    /// So long was nothing heard of an agent that gives a sign of life every two seconds.
    NoLife(Duration),
    /// Every processor is halted and takes no interrupt.
    Halted,
    /// A kernel that boots has printed nothing for so long.
    Mute(Duration),
}

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the answer.
    pub(super) limit: Duration,
    /// Without a sign of life; `None` before the agent runs.
    pub(super) heartbeat: Option<Duration>,
}

/// What a look at a guest shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// Since the question.
    elapsed: Duration,
    /// Since the agent was heard of, or since the question.
    unheard: Duration,
    /// Since the console spoke.
    mute: Duration,
    /// Of the host's processors, since the question.
    ran: Duration,
    /// Where the processors could be looked at.
    halted: Halted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halted {
    /// At least one runs, or nobody could tell.
    No,
    /// All wait for an interrupt.
    Idle,
    /// All are halted with interrupts off.
    Dead,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    /// The deadline is over, and it is not the guest's fault.
    Starved,
    Hangs(Silence),
}

fn judge(look: &Look, patience: Patience) -> Verdict {
    if look.halted == Halted::Dead {
        return Verdict::Hangs(Silence::Halted);
    }
    let over = |limit: Duration, spent: Duration, silence| {
        if spent < limit {
            return None;
        }
        let last = look.elapsed >= patience.limit * AT_MOST;
        let idle = look.halted == Halted::Idle;
        Some(if last || idle {
            Verdict::Hangs(silence)
        } else if look.mute < SPEAKS {
            Verdict::Wait
        } else if look.ran < limit / RAN {
            Verdict::Starved
        } else {
            Verdict::Hangs(silence)
        })
    };
    if let Some(verdict) = over(patience.limit, look.elapsed, Silence::Deadline) {
        return verdict;
    }
    let verdict = match patience.heartbeat {
        Some(beat) => over(beat, look.unheard, Silence::NoLife(look.unheard)),
        None => over(patience.limit / 2, look.mute, Silence::Mute(look.mute)),
    };
    verdict.unwrap_or(Verdict::Wait)
}

/// One question's wait.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Patience,
    asked: Instant,
    heard: Instant,
    ran_before: Duration,
    looked: Instant,
    /// Whether the deadline moved, since the host did not let the guest run.
    pub(super) starved: bool,
}

impl Watch {
    pub(super) fn new(patience: Patience, guest: &Guest) -> Self {
        let now = Instant::now();
        Watch {
            patience,
            asked: now,
            heard: now,
            ran_before: guest.processor_time(),
            looked: now,
            starved: false,
        }
    }

    /// The agent was heard of.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Since the question.
    pub(super) fn elapsed(&self) -> Duration {
        self.asked.elapsed()
    }

    /// How long the answer may take.
    pub(super) fn limit(&self) -> Duration {
        self.patience.limit
    }

    /// Looks at the guest where it is time to. Called every [`TICK`].
    ///
    /// # Errors
    /// Where QEMU is gone.
    pub(super) async fn look(&mut self, guest: &Guest) -> Result<Option<Silence>, SessionError> {
        let (elapsed, unheard) = (self.asked.elapsed(), self.heard.elapsed());
        // A sign of life comes every two seconds: one that is late is worth a look.
        let late = self.patience.heartbeat.unwrap_or(self.patience.limit) / 4;
        let due = elapsed >= self.patience.limit || unheard >= late;
        if !due || self.looked.elapsed() < late.min(Duration::from_secs(2)) {
            return Ok(None);
        }
        let halted = halted(&guest.registers().await?);
        let look = Look {
            elapsed,
            unheard,
            mute: guest.console().silent_for().min(elapsed),
            ran: guest.processor_time().saturating_sub(self.ran_before),
            halted,
        };
        self.looked = Instant::now();
        Ok(match judge(&look, self.patience) {
            Verdict::Wait => None,
            Verdict::Starved => {
                self.starved = true;
                None
            }
            Verdict::Hangs(silence) => Some(silence),
        })
    }
}

/// What QEMU's `info registers -a` says of all processors together.
fn halted(registers: &str) -> Halted {
    /// EFLAGS.IF
    const INTERRUPTS: u64 = 1 << 9;
    let mut all = None;
    for line in registers.lines() {
        let word = |key: &str| line.split_whitespace().find_map(|w| w.strip_prefix(key));
        let (Some(flags), Some(halt)) = (word("RFL="), word("HLT=")) else {
            continue;
        };
        let flags = u64::from_str_radix(flags, 16).unwrap_or(INTERRUPTS);
        let this = match halt {
            "1" if flags & INTERRUPTS == 0 => Halted::Dead,
            "1" => Halted::Idle,
            _ => return Halted::No,
        };
        all = match (all, this) {
            (None | Some(Halted::Dead), this) => Some(this),
            (all, _) => all,
        };
    }
    all.unwrap_or(Halted::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const RUNS: Patience = Patience {
        limit: Duration::from_secs(60),
        heartbeat: Some(Duration::from_secs(20)),
    };
    const BOOTS: Patience = Patience {
        limit: Duration::from_secs(60),
        heartbeat: None,
    };

    /// A guest that computes and says nothing.
    fn look(elapsed: u32, unheard: u32) -> Look {
        Look {
            elapsed: S * elapsed,
            unheard: S * unheard,
            mute: S * elapsed,
            ran: S * elapsed,
            halted: Halted::No,
        }
    }

    #[test]
    fn what_computes_has_its_time_and_no_more() {
        assert_eq!(judge(&look(59, 1), RUNS), Verdict::Wait);
        assert_eq!(judge(&look(60, 1), RUNS), Verdict::Hangs(Silence::Deadline));
        assert_eq!(
            judge(&look(21, 21), RUNS),
            Verdict::Hangs(Silence::NoLife(S * 21))
        );
    }

    #[test]
    fn what_the_host_does_not_run_has_more() {
        let starved = |elapsed, unheard, ran| Look {
            ran: S * ran,
            ..look(elapsed, unheard)
        };
        assert_eq!(judge(&starved(60, 60, 4), RUNS), Verdict::Starved);
        assert_eq!(judge(&starved(21, 21, 4), RUNS), Verdict::Starved);
        assert_eq!(judge(&starved(239, 1, 14), RUNS), Verdict::Starved);
        assert_eq!(judge(&starved(60, 1, 20), RUNS), Verdict::Starved);
        assert_eq!(
            judge(&starved(60, 1, 30), RUNS),
            Verdict::Hangs(Silence::Deadline)
        );
        // It ends all the same.
        assert_eq!(
            judge(&starved(240, 1, 14), RUNS),
            Verdict::Hangs(Silence::Deadline)
        );
    }

    #[test]
    fn what_prints_is_heard_to_the_end_unless_it_never_ends() {
        let prints = |elapsed| Look {
            mute: S,
            ..look(elapsed, elapsed)
        };
        assert_eq!(judge(&prints(100), RUNS), Verdict::Wait);
        assert_eq!(judge(&prints(240), RUNS), Verdict::Hangs(Silence::Deadline));
    }

    #[test]
    fn what_waits_for_an_interrupt_is_not_starved() {
        let idle = Look {
            halted: Halted::Idle,
            ran: Duration::ZERO,
            ..look(60, 1)
        };
        assert_eq!(judge(&idle, RUNS), Verdict::Hangs(Silence::Deadline));
        let early = Look {
            elapsed: S * 30,
            ..idle
        };
        assert_eq!(judge(&early, RUNS), Verdict::Wait);
    }

    #[test]
    fn what_takes_no_interrupt_is_over_at_once() {
        let dead = Look {
            halted: Halted::Dead,
            ..look(6, 6)
        };
        assert_eq!(judge(&dead, RUNS), Verdict::Hangs(Silence::Halted));
    }

    #[test]
    fn a_boot_may_not_be_mute_for_half_of_its_time() {
        assert_eq!(judge(&look(29, 29), BOOTS), Verdict::Wait);
        assert_eq!(
            judge(&look(31, 31), BOOTS),
            Verdict::Hangs(Silence::Mute(S * 31))
        );
        let prints = Look {
            mute: S * 3,
            ..look(31, 31)
        };
        assert_eq!(judge(&prints, BOOTS), Verdict::Wait);
    }

    /// As QEMU 7.2 prints them.
    #[test]
    fn processors_are_looked_at_together() {
        let of = |flags: &str, halt: &str| {
            format!(
                "CPU#0\nRAX=0000000000000000\nRIP=ffffffff818 RFL={flags} [---] CPL=0 II=0 A20=1 SMM=0 HLT={halt}\nES =0000\n"
            )
        };
        let (dead, idle, runs) = (
            of("00000046", "1"),
            of("00000246", "1"),
            of("00000246", "0"),
        );
        assert_eq!(halted(&format!("{dead}{dead}")), Halted::Dead);
        assert_eq!(halted(&format!("{dead}{idle}")), Halted::Idle);
        assert_eq!(halted(&format!("{idle}{dead}")), Halted::Idle);
        assert_eq!(halted(&format!("{dead}{runs}")), Halted::No);
        assert_eq!(halted("nothing of use"), Halted::No);
    }
}
