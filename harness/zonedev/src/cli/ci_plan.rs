//! `zonedev ci-plan`: what a CI has to do for a matrix, as one line of JSON that a job matrix takes.
//!
//! ```text
//! builds   name, kernels (with their options), key     one job each: kernels of one source are built in one tree
//! shards   name, partition, cells, boots               one job each, after all builds
//! ```
//! Sources are settled here, once, in `kernels/sources.lock`, which goes to all other jobs: two jobs
//! never choose two versions, and a key is that of the kernel that will be built.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::build::settled_key;
use crate::plan::Partition;
use crate::spec::Base;

use super::args::CiPlanArgs;
use super::exit::{Exit, Failure};
use super::matrix::Job;
use super::setup::{self, Requested};
use super::specs;

/// The plan of a CI.
#[derive(Debug, Serialize)]
struct CiPlan {
    builds: Vec<Build>,
    shards: Vec<Shard>,
}

/// Kernels of one source, with their series and flavours.
#[derive(Debug, Serialize)]
struct Build {
    /// Good for a file's name.
    name: String,
    /// Options of `zonedev matrix`, as words with spaces between: `-k 5.10 -k 5.10+SERIES`.
    kernels: String,
    /// Good for a cache's key: the same as long as the same kernels and images come out.
    key: String,
}

/// A part of the cells.
#[derive(Debug, Serialize)]
struct Shard {
    name: String,
    partition: String,
    cells: usize,
    boots: usize,
}

pub(super) async fn run(project: &Utf8Path, args: CiPlanArgs) -> Result<Exit, Failure> {
    let project = project.canonicalize_utf8()?;
    let job = Job::of_selection(&project, args.selection)?;
    let keys = keys(&job).await?;
    let images = specs::of_images(&project)?;
    let plan = CiPlan {
        builds: builds(&job.requested, &keys, &images)?,
        shards: shards(&job, args.shards),
    };
    let json = serde_json::to_string(&plan).map_err(std::io::Error::from)?;
    outln!("{json}");
    Ok(Exit::Good)
}

/// The build's key of each kernel.
async fn keys(job: &Job) -> Result<Vec<String>, Failure> {
    let (events, mut receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        let mut progress = super::progress();
        while let Some(event) = receiver.recv().await {
            progress.event(&event);
        }
    });
    let mut keys = Vec::new();
    for r in &job.requested {
        let (ctx, resolved) = (job.ctx.clone(), r.resolved.clone());
        let sink = setup::forward(&events);
        let task = tokio::task::spawn_blocking(move || settled_key(&ctx, &resolved, &sink));
        let key = task
            .await
            .map_err(|e| Failure::harness(format!("failed to settle a source: {e}")))?;
        keys.push(key?);
    }
    drop(events);
    let _ = listener.await;
    Ok(keys)
}

fn builds(requested: &[Requested], keys: &[String], images: &str) -> Result<Vec<Build>, Failure> {
    let mut groups: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for (r, key) in requested.iter().zip(keys) {
        // A job hands them to a shell as words.
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._,:/@".contains(c);
        if !r.name.chars().all(plain) {
            return Err(Failure::request(
                format!("the kernel {} can't be handed to a job", r.name),
                "use letters, digits and + - . _ , : / @ only",
            ));
        }
        let base = source_of(r);
        groups.entry(base).or_default().push((&r.name, key));
    }
    let build = |(base, kernels): (String, Vec<(&str, &str)>)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(images.as_bytes());
        for (_, key) in &kernels {
            hasher.update(key.as_bytes());
        }
        let name = file_name(&base);
        let options: Vec<String> = kernels.iter().map(|(k, _)| format!("-k {k}")).collect();
        Build {
            key: format!("zonedev-{name}-{}", &hasher.finalize().to_hex()[..32]),
            kernels: options.join(" "),
            name,
        }
    };
    Ok(groups.into_iter().map(build).collect())
}

/// What a kernel is made from, in a word: kernels with the same are built in one tree.
pub(super) fn source_of(r: &Requested) -> String {
    match &r.resolved.name.base {
        Base::Listed(name) => name.clone(),
        Base::Tree { path, rev } => {
            let name = path.file_name().unwrap_or("tree");
            format!("{name}-{}", rev.as_deref().unwrap_or("now"))
        }
    }
}

/// Letters, digits, dots, and dashes for the rest.
fn file_name(words: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || c == '.' {
        true => c,
        false => '-',
    };
    words.chars().map(plain).collect()
}

/// The parts that have something to do.
fn shards(job: &Job, first: Partition) -> Vec<Shard> {
    let parts = first.all().map(|p| (p, job.plan.clone().part(p)));
    parts
        .filter(|(_, plan)| !plan.groups.is_empty())
        .map(|(p, plan)| Shard {
            name: file_name(&p.to_string()),
            partition: p.to_string(),
            cells: plan.cells(),
            boots: plan.groups.len(),
        })
        .collect()
}
