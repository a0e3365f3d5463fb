//! `zonedev build`.

use camino::Utf8Path;
use tokio::sync::mpsc;

use crate::build;

use super::args::BuildArgs;
use super::exit::{Exit, Failure};
use super::setup;

pub(super) async fn run(project: &Utf8Path, args: BuildArgs) -> Result<Exit, Failure> {
    let ctx = setup::build_context(project, &args.build)?;
    let requested = setup::resolve(&ctx, &args.kernels)?;
    if args.print_key {
        for r in &requested {
            let key = build::known_key(&ctx, &r.resolved)?.ok_or_else(|| {
                Failure::request(
                    format!("which source {} is built from is not locked yet", r.name),
                    "build it once: kernels/sources.lock says so then",
                )
            })?;
            outln!("{} {key}", r.name);
        }
        return Ok(Exit::Good);
    }
    let (events, mut receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        let mut progress = super::progress();
        while let Some(event) = receiver.recv().await {
            progress.event(&event);
        }
    });
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await;
    drop(events);
    let _ = listener.await;
    for (r, artifact) in requested.iter().zip(artifacts?) {
        if args.bzimage {
            outln!("{}", artifact.bz_image());
            continue;
        }
        outln!(
            "{}: Linux {} in {}",
            r.name,
            artifact.record.release,
            artifact.dir
        );
    }
    Ok(Exit::Good)
}
