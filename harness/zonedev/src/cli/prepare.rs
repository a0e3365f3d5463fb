//! `zonedev matrix --build-only`: everything that a run takes from the cache, put into it.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::exit::{Exit, Failure};
use super::matrix::Job;
use super::setup;

/// Builds the kernels of a request, their own tests, images and root file systems.
pub(super) async fn run(job: &Job) -> Result<Exit, Failure> {
    let (events, mut receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        let mut progress = super::progress();
        while let Some(event) = receiver.recv().await {
            progress.event(&event);
        }
    });
    let work = async {
        let artifacts = setup::build_kernels(&job.ctx, &job.requested, &events).await?;
        let cells = job.plan.groups.iter().flat_map(|g| &g.cells);
        let programs: BTreeSet<String> = cells.flat_map(|c| c.programs.clone()).collect();
        setup::sides(&job.ctx, &job.requested, &artifacts, &programs, &events).await?;
        let fixtures = job.plan.groups.iter().map(|g| &g.fixture);
        setup::roots(&job.ctx, fixtures, &events).await?;
        Ok::<_, Failure>(artifacts)
    };
    let built = super::or_interrupted(work).await;
    drop(events);
    let _ = listener.await;
    for (r, artifact) in job.requested.iter().zip(built?) {
        outln!("{} {}", r.name, artifact.record.key);
    }
    Ok(Exit::Good)
}
