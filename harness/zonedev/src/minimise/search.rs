//! The search: delta debugging to a case of which nothing more can go.
//!
//! Chunks of steps are left out, from half of them down to single ones, until none can be left out any
//! more; then processes, threads and rounds of races, sizes and options; and all of it again, until a
//! whole round of that changes nothing. What the search does follows from the oracle's answers alone:
//! with the same answers it asks the same questions, so that it goes on after it was killed by asking
//! again, and the journal answers.

use std::collections::BTreeSet;

use proto::Op;

use super::candidates;
use super::program::Program;

/// Who says whether a candidate fails as the whole case does.
#[allow(async_fn_in_trait)] // nobody asks from several threads
pub trait Oracle {
    /// Why it could not be said.
    type Error;

    /// The first of these that fails so, by its position; none before it does.
    ///
    /// # Errors
    /// Where it can't be said.
    async fn first(&mut self, candidates: &[Program]) -> Result<Option<usize>, Self::Error>;

    /// A candidate was taken; `what` was made smaller.
    ///
    /// # Errors
    /// Where that can't be told.
    fn better(&mut self, program: &Program, what: &str) -> Result<(), Self::Error>;
}

/// Makes a program that fails smaller, until nothing more can go. `hints` are tried first; `device` is
/// the test_hmm device that is meant where none is named.
///
/// # Errors
/// The oracle's.
pub async fn minimise<O: Oracle>(
    whole: &Program,
    hints: Vec<Program>,
    device: u8,
    oracle: &mut O,
) -> Result<Program, O::Error> {
    let mut search = Search {
        best: whole.tidied(),
        checks: checks(whole),
        oracle,
    };
    search.take(hints, "operations").await?;
    loop {
        let before = search.best.clone();
        search.steps().await?;
        search
            .until_none("processes", candidates::fewer_processes)
            .await?;
        search
            .until_none("races", candidates::smaller_races)
            .await?;
        search
            .until_none("sizes", candidates::smaller_sizes)
            .await?;
        search
            .until_none("options", |of| candidates::fewer_options(of, device))
            .await?;
        search.take_relaxed().await?;
        if search.best == before {
            return Ok(search.best);
        }
    }
}

/// Whether anything is looked at. A case of which nothing is passes nowhere.
fn checks(program: &Program) -> bool {
    let mut steps = program.steps.iter();
    steps.any(|s| matches!(s.op, Op::Checkpoint { .. } | Op::Run { .. }))
}

struct Search<'a, O> {
    best: Program,
    /// Whether the whole case looks at anything.
    checks: bool,
    oracle: &'a mut O,
}

impl<O: Oracle> Search<'_, O> {
    /// Takes the first of these that fails so and is simpler than the best so far, if one does: its
    /// position.
    async fn take(
        &mut self,
        candidates: Vec<Program>,
        what: &str,
    ) -> Result<Option<usize>, O::Error> {
        let measure = self.best.measure();
        let mut seen = BTreeSet::new();
        let (places, candidates): (Vec<usize>, Vec<Program>) = candidates
            .into_iter()
            .enumerate()
            .filter(|(_, c)| !c.steps.is_empty() && (checks(c) || !self.checks))
            .filter(|(_, c)| c.measure() < measure)
            .filter(|(_, c)| seen.insert(c.digest()))
            .unzip();
        if candidates.is_empty() {
            return Ok(None);
        }
        let Some(at) = self.oracle.first(&candidates).await? else {
            return Ok(None);
        };
        self.best = candidates[at].clone();
        self.oracle.better(&self.best, what)?;
        Ok(Some(places[at]))
    }

    /// Leaves steps out, until no single one can go.
    async fn steps(&mut self) -> Result<(), O::Error> {
        let mut size = (self.best.steps.len() / 2).max(1);
        loop {
            let mut end = self.best.steps.len();
            let mut changed = false;
            while end > 0 {
                let chunks = candidates::without_chunks(&self.best, size, end);
                let (begins, programs): (Vec<usize>, Vec<Program>) = chunks.into_iter().unzip();
                match self.take(programs, "operations").await? {
                    Some(at) => end = begins[at],
                    None => break,
                }
                changed = true;
            }
            match (size, changed) {
                (1, false) => return Ok(()),
                (1, true) => {}
                _ => size /= 2,
            }
        }
    }

    /// Takes what is simpler, until nothing is.
    async fn until_none(
        &mut self,
        what: &str,
        candidates: impl Fn(&Program) -> Vec<Program>,
    ) -> Result<(), O::Error> {
        while self.take(candidates(&self.best), what).await?.is_some() {}
        Ok(())
    }

    async fn take_relaxed(&mut self) -> Result<(), O::Error> {
        self.until_none("operations", candidates::relaxed).await
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
