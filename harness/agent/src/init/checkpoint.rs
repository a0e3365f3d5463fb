//! A named moment: everything settles, and what the agent holds is told.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use proto::{Checkpoint, Fact, Mismatch, Op, StepResult};

use super::agent::Agent;
use super::boot;
use super::jobs::WORKER;
use crate::{pagemap, process};

/// The counters of /proc/vmstat that tell something of DAX and device memory.
const COUNTERS: [&str; 16] = [
    "nr_anon_pages",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
    "nr_mapped",
    "nr_page_table_pages",
    "pgmigrate_fail",
    "pgmigrate_success",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_file_alloc",
    "thp_file_mapped",
    "thp_migration_fail",
    "thp_migration_success",
    "thp_split_page",
    "thp_split_pmd",
    "thp_zero_page_alloc",
];

/// Between an operation and its last effect: deferred fput, workqueues that
/// finish a transfer, the tail of a process's end.
const PAUSE: Duration = Duration::from_millis(20);
/// A disagreement is read again so often before it is told.
const READINGS: u32 = 3;
/// How long an operation that was blocked may take to get going again or to rest.
const REST: Duration = Duration::from_secs(5);

impl Agent {
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
        // Also folds the per-CPU differences into the counters.
        let _ = fs::write("/proc/sys/vm/stat_refresh", "1");
        Ok(Checkpoint {
            holds: self.ledger.holds(),
            mismatches,
            counters: counters(),
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
        // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() by another name.
        // SAFETY: takes no pointer.
        unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
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

fn counters() -> BTreeMap<String, i64> {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_else(|e| {
        boot::log(
            3,
            &format!("zonedev agent: failed to read /proc/vmstat: {e}"),
        );
        String::new()
    });
    text.lines()
        .filter_map(|l| l.split_once(' '))
        .filter(|(name, _)| COUNTERS.contains(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}
