//! The steps between a good and a bad end, as a graph: commits, patches of a series, releases.

/// Why steps are no history.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HistoryError {
    /// There is nothing to find.
    #[error("nothing lies between the two ends")]
    Empty,
    /// A parent has no lower number than its child.
    #[error("step {child} comes before its parent {parent}")]
    Order {
        /// The step.
        child: usize,
        /// What it is said to come from.
        parent: usize,
    },
    /// The last step does not contain all others.
    #[error("step {0} is no part of the last one")]
    Apart(usize),
}

/// Steps by number, each after those that it contains. Every step has what its parents have; a step
/// without parents comes right after the good end. The last one is the bad end.
#[derive(Clone, Debug)]
pub struct History {
    parents: Vec<Vec<usize>>,
    /// What a merge contains and its first parent does not, without itself; by step.
    brought: Vec<Vec<usize>>,
}

impl History {
    /// One step after the other: `n` of them.
    ///
    /// # Errors
    /// Where there is none.
    pub fn line(n: usize) -> Result<Self, HistoryError> {
        let parents = (0..n).map(|i| i.checked_sub(1).into_iter().collect());
        Self::of(parents.collect())
    }

    /// Steps with their parents, those of them that lie between the ends.
    ///
    /// # Errors
    /// Where there is none, a parent does not come first, or the last does not contain each.
    pub fn of(parents: Vec<Vec<usize>>) -> Result<Self, HistoryError> {
        if parents.is_empty() {
            return Err(HistoryError::Empty);
        }
        for (child, of) in parents.iter().enumerate() {
            if let Some(&parent) = of.iter().find(|p| **p >= child) {
                return Err(HistoryError::Order { child, parent });
            }
        }
        let brought = vec![Vec::new(); parents.len()];
        let mut history = History { parents, brought };
        history.brought = (0..history.steps())
            .map(|step| history.brings(step))
            .collect();
        let whole = history.contained(history.last());
        match whole.iter().position(|is| !is) {
            Some(apart) => Err(HistoryError::Apart(apart)),
            None => Ok(history),
        }
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.parents.len()
    }

    /// The bad end.
    pub fn last(&self) -> usize {
        self.parents.len() - 1
    }

    /// What a step comes from, within the history.
    pub fn parents(&self, step: usize) -> &[usize] {
        &self.parents[step]
    }

    /// Which steps one contains, itself among them.
    pub fn contained(&self, step: usize) -> Vec<bool> {
        let mut seen = vec![false; self.parents.len()];
        let mut todo = vec![step];
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                todo.extend(&self.parents[at]);
            }
        }
        seen
    }

    fn brings(&self, step: usize) -> Vec<usize> {
        let [first, others @ ..] = self.parents[step].as_slice() else {
            return Vec::new();
        };
        if others.is_empty() {
            return Vec::new();
        }
        let mut seen = self.contained(*first);
        let (mut todo, mut out) = (others.to_vec(), Vec::new());
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                out.push(at);
                todo.extend(&self.parents[at]);
            }
        }
        out
    }

    /// For each step the sums over what it contains, of `N` weights that each step has.
    pub(super) fn sums<const N: usize>(&self, of: impl Fn(usize) -> [f64; N]) -> Vec<[f64; N]> {
        let mut out: Vec<[f64; N]> = Vec::with_capacity(self.parents.len());
        for (step, parents) in self.parents.iter().enumerate() {
            let before = parents.first().map_or([0.0; N], |first| out[*first]);
            // What comes by several ways counts once.
            let brought = self.brought[step].iter();
            let sum = brought.fold(add(before, of(step)), |sum, at| add(sum, of(*at)));
            out.push(sum);
        }
        out
    }
}

fn add<const N: usize>(a: [f64; N], b: [f64; N]) -> [f64; N] {
    std::array::from_fn(|n| a[n] + b[n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_contains_both_of_its_sides_once() {
        //   0 - 1 - 3(merge) - 4
        //    \- 2 -/
        let parents = vec![vec![], vec![0], vec![0], vec![1, 2], vec![3]];
        let history = History::of(parents).unwrap();
        let sums = history.sums(|step| [1.0, step as f64]);
        let counts: Vec<f64> = sums.iter().map(|s| s[0]).collect();
        assert_eq!(counts, [1.0, 2.0, 2.0, 4.0, 5.0]);
        assert_eq!(sums[4][1], 10.0);
        assert_eq!(history.contained(2), [true, false, true, false, false]);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        assert_eq!(History::line(0).unwrap_err(), HistoryError::Empty);
        let order = History::of(vec![vec![], vec![1]]).unwrap_err();
        assert_eq!(
            order,
            HistoryError::Order {
                child: 1,
                parent: 1
            }
        );
        let apart = History::of(vec![vec![], vec![], vec![0]]).unwrap_err();
        assert_eq!(apart, HistoryError::Apart(1));
    }
}
