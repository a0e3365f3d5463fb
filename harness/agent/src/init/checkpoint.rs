//! A named moment: everything settles, and what the agent holds is told.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::{Checkpoint, Fact, Mismatch, Op, StepResult};

use super::agent::Agent;
use super::counters;
use super::jobs::WORKER;
use super::table::Member;
use crate::{cpus, pagemap, process};

/// Between an operation and its last effect: deferred fput, workqueues that
/// finish a transfer, the tail of a process's end.
const PAUSE: Duration = Duration::from_millis(20);
/// A disagreement is read again so often before it is told.
const READINGS: u32 = 3;
/// How long an operation that was blocked may take to get going again or to rest.
const REST: Duration = Duration::from_secs(5);

/// How long a killed process may take to go.
const DEATH: Duration = Duration::from_secs(10);

impl Agent {
    /// Kills every process that PID 1 has forked, and waits until they are gone.
    pub(super) fn end_all(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.table.members.keys().cloned().collect();
        for name in &names {
            // Only PID 1 can end the transfers that an actor waits for as it dies.
            self.disks.release_all(name);
            if let Some(member) = self.table.members.get(name) {
                let _ = kill(Pid::from_raw(member.pid), Signal::SIGKILL);
            }
        }
        let until = Instant::now() + DEATH;
        while !self.table.members.is_empty() {
            if Instant::now() > until {
                let left: Vec<String> = self.table.members.iter().map(of_whom).collect();
                return Err(format!("end actors by SIGKILL: {}", left.join(", ")));
            }
            self.pump(Some(PAUSE));
        }
        self.coming.clear();
        self.ended.clear();
        cpus::visit_all();
        Ok(())
    }

    /// Settles, compares and counts.
    pub(super) fn checkpoint(&mut self, op: &Op) -> Result<Checkpoint, String> {
        self.settle();
        let mut mismatches = self.compare(op)?;
        for _ in 1..READINGS {
            if mismatches.is_empty() {
                break;
            }
            self.settle();
            mismatches = self.compare(op)?;
        }
        let counters = match op {
            Op::End {} => {
                let mut left = counters::left();
                if self.expect.had_own_pages()
                    && let Some(lost) = counters::lost_anon_pages()
                {
                    left.insert("lost_anon_pages".into(), lost);
                }
                left
            }
            _ => counters::now(),
        };
        Ok(Checkpoint {
            holds: self.ledger.holds(),
            pins_in_ram: self.ledger.pins_in_ram(),
            poison_unknown: self.ledger.poison_unknown(),
            mismatches,
            counters,
            namespaces: self.namespaces.clone(),
        })
    }

    fn settle(&mut self) {
        let until = Instant::now() + PAUSE;
        while let Some(rest) = until.checked_duration_since(Instant::now()) {
            self.pump(Some(rest));
        }
        // What a release has woken must come to its end, or to its next sleep.
        let until = Instant::now() + REST;
        let mut resting = 0;
        while resting < 3 && Instant::now() < until {
            let busy = self.table.members.values().filter(|m| m.job.is_some());
            let all = busy
                .map(|m| m.pid)
                .all(|pid| process::sample(pid).is_none_or(|s| s.sleeps()));
            resting = if all { resting + 1 } else { 0 };
            if self.table.members.values().all(|m| m.job.is_none()) {
                break;
            }
            self.pump(Some(PAUSE));
        }
        counters::grace_period();
    }

    /// Looks up what only pagemap names, and compares it with the prediction.
    /// Actors in the middle of an operation are left out.
    fn compare(&mut self, op: &Op) -> Result<Vec<Mismatch>, String> {
        let mut out = self.ledger.reused();
        for (name, member) in &self.table.members {
            if name == WORKER || member.job.is_some() {
                continue;
            }
            for (map, (address, pages)) in &member.maps {
                let entries = pagemap::entries(&member.pid.to_string(), *address, *pages)
                    .map_err(|e| format!("read pagemap of {name}/{map}: {e}"))?;
                let fact = Fact::Pagemap {
                    map: map.clone(),
                    runs: pagemap::runs(&entries),
                };
                let facts = std::slice::from_ref(&fact);
                self.ledger
                    .apply(name, op, &StepResult::Ok {}, facts)
                    .map_err(|e| e.to_string())?;
                out.extend(
                    self.ledger
                        .compare(name, &fact)
                        .map_err(|e| e.to_string())?,
                );
            }
        }
        Ok(out)
    }
}

/// An actor that is left, and where it is.
fn of_whom((name, member): (&String, &Member)) -> String {
    match process::sample(member.pid) {
        Some(s) => format!("{name} is in {} ({})", s.wchan, s.state),
        None => format!("{name} is there"),
    }
}
