//! How long cells take and what a task needs: what is stated to the scheduler. Pure.

use std::collections::BTreeMap;

use crate::plan::Plan;
use crate::record::CellId;

/// Seconds of a cell, and of a boot with its provisioning, that nobody has seen yet: a mean of full runs in
/// emulation, rounded up.
const CELL: f64 = 5.0;
const BOOT: f64 = 15.0;
/// A task runs about so many seconds: what it takes to start one is a hundredth of it, and no more is lost
/// with a node.
const TASK: f64 = 600.0;
/// Another machine may be slower, and a guest that hangs takes minutes until it is judged.
const GENEROUS: f64 = 6.0;
const LEAST_MINUTES: u64 = 30;
/// What QEMU itself takes for each guest, and a harness with the symbols of its kernels, MiB.
const GUEST: u64 = 256;
const HARNESS: u64 = 2048;

/// How long cells took in an earlier run, in milliseconds, by kernel and case.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeMap<(String, String), u64>);

impl Known {
    /// By the times of a run; of a kernel that it had twice, the longer one.
    pub fn of(times: impl IntoIterator<Item = (CellId, u64)>) -> Self {
        let mut known = BTreeMap::new();
        for (id, ms) in times {
            let longest = known
                .entry((id.kernel.clone(), id.case_path()))
                .or_insert(0);
            *longest = ms.max(*longest);
        }
        Known(known)
    }

    fn seconds(&self, id: &CellId, unknown: f64) -> f64 {
        let of = (id.kernel.clone(), id.case_path());
        self.0.get(&of).map_or(unknown, |ms| *ms as f64 / 1000.0)
    }
}

/// What a plan comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds of guests' time, boots included.
    pub seconds: f64,
}

impl Estimate {
    /// Of a plan, or a part of one, with each cell run so often.
    pub fn of(plan: &Plan, known: &Known, repeat: u32) -> Self {
        let groups = plan.groups.iter().filter(|g| g.skip.is_none());
        let seconds = groups.map(|g| {
            let cells = g.cells.iter().filter(|c| c.skip.is_none());
            let cells: f64 = cells.map(|c| known.seconds(&c.id, CELL)).sum();
            known.seconds(&g.boot, BOOT) + cells * f64::from(repeat)
        });
        Estimate {
            seconds: seconds.sum(),
        }
    }

    /// Into how many tasks to cut it, with so many guests at a time in each.
    pub fn tasks(self, jobs: usize, most: usize) -> usize {
        let tasks = (self.seconds / jobs as f64 / TASK).ceil() as usize;
        tasks.clamp(1, most)
    }

    /// The time limit of a task, in minutes; twice as long for each time that one has come to it.
    pub fn minutes(self, jobs: usize, patience: u32, reached: u32) -> u64 {
        let minutes = self.seconds / jobs as f64 * GENEROUS * f64::from(patience) / 60.0;
        (LEAST_MINUTES + minutes.ceil() as u64) << reached.min(4)
    }
}

/// What a task needs, MiB: templates of `templates` bytes in memory, and clones that may come to differ in all
/// of it.
pub fn memory(templates: u64, jobs: usize) -> u64 {
    2 * (templates >> 20) + GUEST * jobs as u64 + HARNESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::cell;

    #[test]
    fn tasks_take_ten_minutes_and_their_limit_is_generous() {
        let hours = Estimate { seconds: 14_400.0 };
        assert_eq!(hours.tasks(2, 256), 12);
        assert_eq!(hours.tasks(1, 256), 24);
        assert_eq!(hours.tasks(1, 8), 8);
        assert_eq!(Estimate { seconds: 0.0 }.tasks(2, 256), 1);
        let task = Estimate { seconds: 1200.0 };
        assert_eq!(task.minutes(2, 1, 0), 90);
        assert_eq!(task.minutes(2, 1, 1), 180);
        assert_eq!(task.minutes(2, 4, 0), 270);
    }

    #[test]
    fn what_is_known_is_by_kernel_and_case_whatever_the_side() {
        let id = |side| cell("a", side, "6.12").id;
        let known = Known::of([(id(0), 7000), (id(1), 9000)]);
        assert_eq!(known.seconds(&id(3), CELL), 9.0);
        assert_eq!(known.seconds(&cell("b", 0, "6.12").id, CELL), CELL);
    }

    #[test]
    fn memory_is_for_templates_and_their_clones() {
        assert_eq!(memory(1 << 30, 2), 2048 + 512 + 2048);
    }
}
