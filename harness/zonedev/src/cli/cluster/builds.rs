//! Kernels, built as jobs: one for each source, since kernels of one source are built in one tree.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;
use crate::build::{known_key, settled_key};
use crate::cluster::{Fate, PATIENCE, Said, Seen};

use crate::cli::ci_plan::source_of;

/// What is stated for a build: MiB, minutes.
const MEMORY: u64 = 8192;
const MINUTES: u64 = 240;

/// Kernels of one source that are not in the cache.
struct Build {
    kernels: Vec<String>,
    job: String,
    tried: u32,
    began: Instant,
    /// Since when Slurm has it as ended.
    ended: Option<Instant>,
}

impl Cluster {
    /// Builds what is not in the cache, and waits for it.
    pub(super) async fn build(&self) -> Result<(), Failure> {
        let mut open = Vec::new();
        for kernels in self.missing().await? {
            let what = kernels.join(", ");
            let _ = self.events.send(Event::BuildStarted { what });
            open.push(Build {
                job: self.submit_build(&kernels).await?,
                kernels,
                tried: 1,
                began: Instant::now(),
                ended: None,
            });
        }
        let mut away = None;
        while !open.is_empty() {
            tokio::time::sleep(ASK).await;
            let queue = match cluster::queue(&self.name).await {
                Ok(queue) => queue,
                Err(e) => {
                    self.is_away(&mut away, &e)?;
                    continue;
                }
            };
            away = None;
            let mut left = Vec::new();
            for build in open {
                left.extend(self.look_at_build(build, &queue).await?);
            }
            open = left;
        }
        if let Some(kernels) = self.missing().await?.first() {
            return Err(Failure::host(
                format!(
                    "{} was built, and is not in the cache {}",
                    kernels.join(", "),
                    self.job.ctx.cache.root()
                ),
                "set ZONEDEV_CACHE to a directory that all nodes share (docs/cluster.md)",
            ));
        }
        Ok(())
    }

    /// The build, as long as it is not done.
    async fn look_at_build(
        &self,
        mut build: Build,
        queue: &cluster::Queue,
    ) -> Result<Option<Build>, Failure> {
        let ended = cluster::ended(&self.run, &build.job);
        let known = queue.get(&build.job);
        let said = known.map_or(Said::Nothing, |job| Said::Is(job.state.clone()));
        let runs = matches!(
            said,
            Said::Is(cluster::State::Runs | cluster::State::Waits(_))
        );
        build.ended = (!runs).then(|| build.ended.unwrap_or_else(Instant::now));
        let seen = Seen {
            record: ended.as_ref().is_some_and(|(code, _)| *code == 0),
            slurm: Some(said),
            ended: ended.as_ref().map(|(code, _)| *code),
            since: build.ended.map(|at| at.elapsed()).unwrap_or_default(),
        };
        let node = known.map(|job| job.node.as_str()).unwrap_or_default();
        match cluster::judge(&seen) {
            Fate::Open => Ok(Some(build)),
            Fate::Done => {
                let _ = self.events.send(Event::BuildFinished {
                    what: build.kernels.join(", "),
                    took_ms: build.began.elapsed().as_millis() as u64,
                    cached: false,
                });
                Ok(None)
            }
            Fate::Failed(code) => {
                let what = build.kernels.join(", ");
                let output = self.run.join("slurm/out").join(&build.job);
                Err(Failure::with(
                    Exit::from_code(code),
                    format!(
                        "{what} did not build (job {} on {node}):\n{}",
                        build.job,
                        self.last_words(&build.job)
                    ),
                    format!("all that it said is in {output}"),
                ))
            }
            Fate::Lost(word) if build.tried >= TRIES => Err(Failure::host(
                format!(
                    "the cluster lost the build of {} {TRIES} times; the last time job {} on {node} ended as \
                     {word}",
                    build.kernels.join(", "),
                    build.job
                ),
                "look at that node, or build it here: `zonedev build`",
            )),
            Fate::Lost(word) => {
                self.notice(format!(
                    "the build of {} was lost: job {} on {node} ended as {word}; it is submitted again",
                    build.kernels.join(", "),
                    build.job
                ));
                build.job = self.submit_build(&build.kernels).await?;
                build.tried += 1;
                build.ended = None;
                Ok(Some(build))
            }
        }
    }

    /// What is not in the cache, by source. Sources are settled here, so that all jobs take the same.
    async fn missing(&self) -> Result<Vec<Vec<String>>, Failure> {
        let mut by_source: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for r in &self.job.requested {
            let (ctx, resolved) = (self.job.ctx.clone(), r.resolved.clone());
            let sink = setup::forward(&self.events);
            let there = tokio::task::spawn_blocking(move || {
                let key = known_key(&ctx, &resolved)?;
                let there = key.is_some_and(|key| ctx.cache.vmlinux(&key).is_some());
                if !there {
                    settled_key(&ctx, &resolved, &sink)?;
                }
                Ok::<_, build::BuildError>(there)
            });
            let there = there
                .await
                .map_err(|e| Failure::harness(format!("failed to settle a source: {e}")))??;
            let kernels = by_source.entry(source_of(r)).or_default();
            if !there && !kernels.contains(&r.name) {
                kernels.push(r.name.clone());
            }
        }
        Ok(by_source.into_values().filter(|k| !k.is_empty()).collect())
    }

    async fn submit_build(&self, kernels: &[String]) -> Result<String, Failure> {
        let script = self.run.join("slurm/build.sh");
        let names: Vec<&str> = kernels.iter().map(String::as_str).collect();
        let mut words = vec![self.run.to_string(), self.directory.to_string()];
        words.extend(words::of_build(&self.command, &names));
        let submission = Submission {
            memory: MEMORY,
            minutes: MINUTES,
            kvm: false,
            ..self.submission(&script, words)
        };
        let mut away = None;
        loop {
            match cluster::submit(&submission).await {
                Ok(job) => return Ok(job),
                // Where it was taken all the same, two jobs build one kernel: the second waits for its lock.
                Err(e) => self.is_away(&mut away, &e)?,
            }
            tokio::time::sleep(PATIENCE).await;
        }
    }

    /// Trouble, unless the controller is just away, and not for too long. `since`: from when on.
    pub(super) fn is_away(
        &self,
        since: &mut Option<Instant>,
        e: &SlurmError,
    ) -> Result<(), Failure> {
        if !e.is_passing() {
            return Err(slurm_failed(e));
        }
        let at = *since.get_or_insert_with(|| {
            self.notice(format!(
                "the controller does not answer and is waited for: {e}"
            ));
            Instant::now()
        });
        match at.elapsed() < AWAY {
            true => Ok(()),
            false => Err(Failure::host(
                format!("the controller has not answered for half an hour: {e}"),
                format!(
                    "its jobs may still run; `zonedev matrix --resume {}` goes on with them",
                    self.run
                ),
            )),
        }
    }
}
