//! What a small change costs to build.

use camino::{Utf8Path, Utf8PathBuf};

use super::super::exit::Failure;
use super::{Figure, Figures};
use crate::build::{self, BuildCtx, Cache, Quiet};
use crate::spec::KernelName;

/// A patch of one file in mm/, and one of a header, against a clean build, in a cache of their own.
pub(super) async fn measure(
    project: &Utf8Path,
    kernel: &str,
    out: &mut Figures,
) -> Result<(), Failure> {
    let patches = ["bench-one-file", "bench-header"]
        .map(|name| project.join(format!("kernels/mutants/{name}.patch")));
    let dir = tempfile::Builder::new()
        .prefix("zonedev-bench-")
        .tempdir_in(Cache::of_user()?.root())?;
    let root = Utf8PathBuf::from_path_buf(dir.path().to_owned())
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    let ctx = BuildCtx::new(project, Cache::at(root)?);
    let kernel = kernel.to_owned();
    let task = tokio::task::spawn_blocking(move || -> Result<(f64, Vec<f64>), Failure> {
        let base = ctx.resolve(&KernelName::parse(&kernel)?)?;
        let clean = build::build_kernel(&ctx, &base, &Quiet)?;
        let mut patched = Vec::new();
        for patch in patches {
            let with = ctx.resolve(&KernelName::parse(&format!("{kernel}+{patch}"))?)?;
            let took = build::build_kernel(&ctx, &with, &Quiet)?.record.took;
            patched.push(took.prepare + took.make);
        }
        Ok((clean.record.took.make, patched))
    });
    let (clean, patched) = task
        .await
        .map_err(|e| Failure::harness(format!("failed to build: {e}")))??;
    let what = [
        "one file in mm/",
        "a header that nearly every file includes",
    ];
    for (what, took) in what.into_iter().zip(patched) {
        out.figures.push(Figure {
            name: format!("a patch of {what}, prepared, compiled and linked"),
            value: took,
            unit: "s",
            against: format!("a clean build, {clean:.0} s"),
            ratio: clean / took,
            limit: "make's look at every file, and the link",
        });
    }
    Ok(())
}
