//! Whose guest runs next: as many as there are places and memory for, the longest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::error::RunError;

/// What one guest needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// How long it, and what waits for it, may take, in milliseconds: who takes longest goes first.
    pub(super) weight: u64,
    /// Memory of its own, bytes.
    pub(super) memory: u64,
}

/// Places for guests, and memory for them.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    places: usize,
    /// Bytes that are not promised.
    memory: u64,
    running: usize,
    next: u64,
    waiting: BinaryHeap<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// The longest first; of those alike, who came first.
    order: (u64, Reverse<u64>),
    memory: u64,
    told: oneshot::Sender<Turn>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    memory: u64,
}

impl Turns {
    /// For so many guests at a time, which may use so many bytes together. One guest may always run,
    /// whatever it needs.
    pub(super) fn new(places: usize, memory: u64) -> Arc<Self> {
        Arc::new(Turns {
            state: Mutex::new(State {
                places: places.max(1),
                memory,
                running: 0,
                next: 0,
                waiting: BinaryHeap::new(),
            }),
        })
    }

    /// Waits for a place. Whoever stops waiting gives up theirs.
    pub(super) async fn take(self: &Arc<Self>, need: Need) -> Result<Turn, RunError> {
        let (told, mine) = oneshot::channel();
        {
            let mut state = self.lock();
            state.next += 1;
            let order = (need.weight, Reverse(state.next));
            state.waiting.push(Waiting {
                order,
                memory: need.memory,
                told,
            });
        }
        self.admit();
        mine.await.map_err(|e| RunError::Task(e.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets in whoever is next, as long as there is room. Nobody is passed over: a small guest that
    /// slips in before a large one would keep that waiting.
    fn admit(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let fits = |w: &Waiting| state.running == 0 || w.memory <= state.memory;
                if state.running >= state.places || !state.waiting.peek().is_some_and(fits) {
                    return;
                }
                let Some(next) = state.waiting.pop() else {
                    return;
                };
                state.running += 1;
                state.memory = state.memory.saturating_sub(next.memory);
                next
            };
            let turn = Turn {
                turns: Arc::clone(self),
                memory: next.memory,
            };
            // Who does not wait any more gives the place back at once, as it is dropped here.
            let _ = next.told.send(turn);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.lock();
            state.running -= 1;
            state.memory = state.memory.saturating_add(self.memory);
        }
        self.turns.admit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn need(weight: u64, memory: u64) -> Need {
        Need { weight, memory }
    }

    /// Who waits is there before the first place is given back.
    async fn settle() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn order(places: usize, memory: u64, needs: &[Need]) -> Vec<usize> {
        let turns = Turns::new(places, memory);
        let first = turns.take(need(1000, memory)).await.unwrap();
        let went = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (i, need) in needs.iter().copied().enumerate() {
            let (turns, went) = (Arc::clone(&turns), Arc::clone(&went));
            tasks.spawn(async move {
                let turn = turns.take(need).await.unwrap();
                went.lock().unwrap().push(i);
                tokio::time::sleep(Duration::from_millis(5)).await;
                drop(turn);
            });
            settle().await;
        }
        drop(first);
        while tasks.join_next().await.is_some() {}
        std::mem::take(&mut *went.lock().unwrap())
    }

    #[tokio::test]
    async fn the_longest_goes_first_and_of_those_alike_who_came_first() {
        let needs = [need(1, 1), need(9, 1), need(5, 1), need(9, 1)];
        assert_eq!(order(1, 10, &needs).await, [1, 3, 2, 0]);
    }

    #[tokio::test]
    async fn one_that_needs_more_than_there_is_runs_alone_and_nobody_slips_in_before_it() {
        let needs = [need(9, 99), need(1, 1), need(1, 1)];
        assert_eq!(order(4, 10, &needs).await[0], 0);
        let turns = Turns::new(4, 10);
        let small = turns.take(need(1, 6)).await.unwrap();
        let large = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(need(9, 8)).await.unwrap() }
        });
        settle().await;
        let next = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(need(1, 1)).await.unwrap() }
        });
        settle().await;
        assert!(!large.is_finished() && !next.is_finished());
        drop(small);
        let large = large.await.unwrap();
        drop((large, next.await.unwrap()));
        assert_eq!(turns.lock().memory, 10);
        assert_eq!(turns.lock().running, 0);
    }

    #[tokio::test]
    async fn who_stops_waiting_gives_up_the_place() {
        let turns = Turns::new(1, 10);
        let first = turns.take(need(1, 1)).await.unwrap();
        let gone = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(need(9, 1)).await }
        });
        settle().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(first);
        turns.take(need(1, 1)).await.unwrap();
    }

    #[tokio::test]
    async fn no_more_run_than_there_are_places() {
        let turns = Turns::new(3, 100);
        let held = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..50 {
            let (turns, held) = (Arc::clone(&turns), Arc::clone(&held));
            tasks.spawn(async move {
                let turn = turns.take(need(i % 7, 1)).await.unwrap();
                let now = held.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                assert!(now <= 3);
                tokio::task::yield_now().await;
                held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                drop(turn);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}
