//! Whether the bad end is healed by taking the step back that is blamed.

use std::collections::BTreeSet;

use super::{Bisection, Reverted};
use crate::bisect::{At, Kind, Line};
use crate::build;
use crate::cli::exit::Failure;
use crate::spec::{Base, KernelName, SeriesRef};

impl Bisection<'_> {
    /// Tries the bad end without a step, as far as that was not done before.
    pub(super) async fn revert(&mut self, step: usize) -> Result<(), Failure> {
        if self.reverted.as_ref().is_none_or(|r| r.step != step) {
            let kernel = self.without(step)?;
            self.told(Line::Reverted { step, kernel })?;
        }
        loop {
            let left = match &self.reverted {
                Some(Reverted {
                    kernel: Some(_),
                    why_not: None,
                    seen,
                    ..
                }) if seen.shown == 0 => self.enough().saturating_sub(seen.trials),
                _ => 0,
            };
            if left == 0 {
                return Ok(());
            }
            self.attempt(At::Without(step), left, true).await?;
        }
    }

    /// The name of the bad end without a step.
    fn without(&self, step: usize) -> Result<Option<String>, Failure> {
        let Kind::Commits = self.question.kind else {
            return Ok(self.question.steps[step].without.clone());
        };
        let mut name = KernelName::parse(&self.question.bad)?;
        let Base::Tree { path, .. } = &name.base else {
            return Ok(None);
        };
        let commit = &self.question.steps[step].id;
        let Some(patch) = build::revert(path, commit)? else {
            return Ok(None);
        };
        let file = self.trier.dir.join("revert.patch");
        fs_err::write(&file, patch)?;
        name.series.insert(0, SeriesRef::Path(file));
        Ok(Some(name.to_string()))
    }

    /// What goes with a step when it is taken back: itself and the steps that need it.
    pub(super) fn goes_with(&self, step: usize) -> BTreeSet<usize> {
        let needed_by = self.question.steps[step].needed_by.iter().copied();
        needed_by.chain([step]).collect()
    }
}
