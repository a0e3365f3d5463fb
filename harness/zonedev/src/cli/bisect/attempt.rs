//! One kernel of a bisection: built, tried, and written down.

use std::time::Instant;

use super::Bisection;
use super::answer::how_often;
use super::trial::{Built, Runs, Signature};
use crate::bisect::{At, Line, Trials, Tried, without_numbers};
use crate::cli::exit::Failure;
use crate::report::escape;

impl Bisection<'_> {
    fn kernel(&self, at: At) -> String {
        match at {
            At::Good => self.question.good.clone(),
            At::Step(n) => self.question.steps[n].kernel.clone(),
            At::Without(_) => {
                let reverted = self.reverted.as_ref().and_then(|r| r.kernel.clone());
                reverted.unwrap_or_default()
            }
        }
    }

    fn words(&self, at: At) -> String {
        match at {
            At::Good => "the good end".to_owned(),
            At::Step(n) if n == self.search.history().last() => "the bad end".to_owned(),
            At::Step(n) => self.name(n),
            At::Without(n) => format!("the bad end without {}", self.name(n)),
        }
    }

    /// Builds a kernel and runs the case on it, and writes down what came of it.
    pub(super) async fn attempt(
        &mut self,
        at: At,
        trials: u32,
        until_fails: bool,
    ) -> Result<(), Failure> {
        let (kernel, words) = (self.kernel(at), self.words(at));
        // What is built ahead and not wanted now is in the way; what is wanted is waited for.
        self.building.retain(|(ahead, _)| *ahead == kernel);
        let clock = Instant::now();
        let built = self.trier.build(&kernel).await?;
        self.building.clear();
        let build_s = clock.elapsed().as_secs_f64();
        let not = match (built, at) {
            (Built::Kernel(vmlinux), _) => Ok(vmlinux),
            (Built::Not(reason), _) | (Built::NoSuch(reason), At::Without(_)) => Err(reason),
            (Built::NoSuch(why), _) => {
                return Err(Failure::request(
                    format!("{kernel} can't be built: {why}"),
                    "name kernels that `zonedev build` builds",
                ));
            }
        };
        let vmlinux = match not {
            Ok(vmlinux) => vmlinux,
            Err(reason) => {
                errln!("{words}: {}", escape(&reason));
                let came = Tried::Skipped { reason };
                return self.told(Line::Tried {
                    at,
                    came,
                    vmlinux: None,
                    build_s,
                    trials_s: 0.0,
                    start_s: 0.0,
                });
            }
        };
        let clock = Instant::now();
        let mut trials_s = 0.0;
        let (came, running_s) = match self.same(at, &vmlinux, trials) {
            Some(came) => {
                errln!("{words}: the same vmlinux as one that was tried");
                (came, 0.0)
            }
            None => {
                self.build_ahead(at, trials)?;
                let came = self.trials(at, &kernel, trials, until_fails).await?;
                trials_s = clock.elapsed().as_secs_f64();
                came
            }
        };
        let says = match &came {
            Tried::Ran { seen } => how_often(*seen),
            Tried::Skipped { reason } => format!("skipped: {}", escape(reason)),
        };
        errln!("{words}: {says} ({build_s:.0} s to build)");
        self.told(Line::Tried {
            at,
            came,
            vmlinux: Some(vmlinux),
            build_s,
            trials_s,
            start_s: (trials_s - running_s).max(0.0),
        })
    }

    /// What came of a kernel of which this is the same file, if that says enough.
    fn same(&self, at: At, vmlinux: &str, trials: u32) -> Option<Tried> {
        let is_new = match at {
            At::Good => false,
            At::Step(n) => self.search.seen(n) == Trials::default(),
            At::Without(_) => true,
        };
        let is_enough = |came: &Tried| match came {
            Tried::Ran { seen } => seen.shown > 0 || seen.trials >= trials,
            Tried::Skipped { .. } => true,
        };
        let mut tried = self.tried.iter();
        let same = tried.find(|(of, came)| of == vmlinux && is_enough(came));
        same.filter(|_| is_new).map(|(_, came)| came.clone())
    }

    /// Begins to build what may come after this.
    fn build_ahead(&mut self, at: At, trials: u32) -> Result<(), Failure> {
        let At::Step(step) = at else {
            return Ok(());
        };
        if self.ahead == 0 {
            return Ok(());
        }
        for next in self
            .search
            .likely_next(step, trials)
            .into_iter()
            .take(self.ahead)
        {
            let kernel = self.question.steps[next].kernel.clone();
            let child = self.trier.build_ahead(&kernel)?;
            self.building.push((kernel, child));
        }
        Ok(())
    }

    /// What the trials told, and how many seconds they took without the boot.
    async fn trials(
        &mut self,
        at: At,
        kernel: &str,
        trials: u32,
        until_fails: bool,
    ) -> Result<(Tried, f64), Failure> {
        let (runs, failed, took_s) = match self.trier.run(kernel, trials, until_fails).await? {
            Runs::Ran {
                runs,
                failed,
                took_s,
            } => (runs, failed, took_s),
            Runs::Not(reason) => return Ok((Tried::Skipped { reason }, 0.0)),
        };
        if self.signature.is_none() {
            let part = self.question.title.as_deref().unwrap_or_default();
            let mut reasons = failed.iter().flatten();
            if let Some(first) = reasons.find(|reason| reason.contains(part)) {
                let reason = without_numbers(first);
                self.told(Line::Signature { reason })?;
            }
        }
        let signature = match (&self.question.title, &self.signature) {
            (Some(title), _) => Signature::Part(title),
            (None, Some(whole)) => Signature::Whole(whole),
            // Nothing failed yet.
            (None, None) => Signature::Any,
        };
        let came = signature.judge(runs, &failed);
        if at == At::Step(self.search.history().last()) && !failed.is_empty() {
            // The evidence of how it fails.
            let kept = self.bad_end();
            if !kept.exists() {
                fs_err::rename(self.trier.run_dir(), kept)?;
            }
        }
        Ok((came, took_s))
    }
}
