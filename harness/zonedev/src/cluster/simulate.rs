//! How long a run takes on so many nodes, by the times of its cells: where more nodes bring no more. Pure.
//!
//! What it leaves out: other people's jobs, a file system that gets slow, lost nodes, and that cells are
//! slower where several guests share a processor's caches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Tasks at a time.
    pub places: usize,
    /// Guests at a time in a task.
    pub jobs: usize,
    /// Seconds from a task's turn to its first guest, and from its last one to its end.
    pub start: f64,
    /// Tasks that the controller starts in a second.
    pub rate: f64,
}

/// The longest first, each to the place that is free first: seconds until all are done. The places take one
/// more `every` so many seconds.
fn schedule(mut work: Vec<f64>, places: usize, every: f64) -> f64 {
    work.sort_by(|a, b| b.total_cmp(a));
    // Milliseconds, since floats have no order.
    let mut free: BinaryHeap<Reverse<u64>> = (0..places.max(1)).map(|_| Reverse(0)).collect();
    let mut end = 0;
    for (n, seconds) in work.iter().enumerate() {
        let Reverse(at) = free.pop().unwrap_or(Reverse(0));
        let at = at.max((n as f64 * every * 1000.0) as u64) + (seconds * 1000.0) as u64;
        end = end.max(at);
        free.push(Reverse(at));
    }
    end as f64 / 1000.0
}

impl Model {
    /// Seconds of a task: `groups` are a boot and the cells that wait for it.
    pub fn task(&self, groups: &[(f64, Vec<f64>)]) -> f64 {
        // A group holds its place in a task only for its boot; its cells share all of them.
        let boots = schedule(
            groups.iter().map(|(boot, _)| *boot).collect(),
            self.jobs,
            0.0,
        );
        let all: f64 = groups
            .iter()
            .map(|(b, cells)| b + cells.iter().sum::<f64>())
            .sum();
        let longest = groups
            .iter()
            .map(|(b, cells)| b + cells.iter().copied().fold(0.0, f64::max));
        let least = longest.fold(boots, f64::max);
        self.start + least.max(all / self.jobs as f64)
    }

    /// Seconds of a run with such tasks.
    pub fn run(&self, tasks: Vec<f64>) -> f64 {
        schedule(tasks, self.places, 1.0 / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_go_first_and_no_task_begins_before_its_turn() {
        assert_eq!(schedule(vec![1.0, 3.0, 2.0, 2.0], 2, 0.0), 4.0);
        assert_eq!(schedule(vec![1.0; 4], 4, 0.0), 1.0);
        assert_eq!(schedule(vec![1.0; 4], 1, 0.0), 4.0);
        // The last one has its turn after six seconds.
        assert_eq!(schedule(vec![1.0; 4], 1000, 2.0), 7.0);
        assert_eq!(schedule(Vec::new(), 3, 1.0), 0.0);
    }

    #[test]
    fn a_task_takes_no_less_than_a_boot_and_its_longest_cell() {
        let model = Model {
            places: 1,
            jobs: 4,
            start: 1.0,
            rate: 10.0,
        };
        assert_eq!(model.task(&[(10.0, vec![5.0, 2.0])]), 16.0);
        assert_eq!(
            model.task(&[(4.0, vec![9.0; 8]), (4.0, vec![10.0; 8])]),
            41.0
        );
    }
}
