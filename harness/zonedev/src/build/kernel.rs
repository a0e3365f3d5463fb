//! From a kernel's name to a kernel: which source, from the cache or built, and with what key.

use std::time::Instant;

use camino::Utf8PathBuf;

use super::artifact::KernelArtifact;
use super::compile::Job;
use super::config::{self, Request};
use super::context::BuildCtx;
use super::error::{BuildError, ErrorClass};
use super::event::{BuildSink, Reporter};
use super::series::SeriesFiles;
use super::settle::settle;
use super::source::{self, Identified};
use super::toolchain::Toolchain;
use crate::spec::ResolvedKernel;

/// Changes whenever the way we build changes what comes out.
const RECIPE: &str = "zonedev kernel 1";

/// What a request for a kernel depends on, short of its source.
struct Inputs {
    toolchain: Toolchain,
    requests: Vec<Request>,
    series: Vec<SeriesFiles>,
    /// `VARIABLE=VALUE` for make.
    variables: Vec<String>,
    /// What the same kernel is asked for without its flavours.
    plain: Vec<Request>,
}

impl Inputs {
    fn of(kernel: &ResolvedKernel) -> Result<Self, BuildError> {
        Ok(Self {
            toolchain: Toolchain::probe(kernel.compiler.as_ref())?,
            requests: config::requests(&kernel.fragments),
            variables: kernel.make.clone(),
            plain: config::requests(&kernel.fragments[..kernel.plain.min(kernel.fragments.len())]),
            series: kernel
                .series
                .iter()
                .map(SeriesFiles::of)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The key of the kernel without its series and without uncommitted changes: of the build
    /// that a patched one starts from.
    fn base_key(&self, source: &Identified) -> String {
        self.key_of(source, &self.requests, &self.variables)
    }

    /// The same without its flavours: of the build whose objects the flavours' builds start from.
    fn plain_key(&self, source: &Identified) -> String {
        self.key_of(source, &self.plain, &[])
    }

    /// The key of the source and of what compiles it, whatever the config.
    fn tree_key(&self, source: &Identified) -> String {
        self.hash_tree(source).finalize().to_hex()[..32].to_owned()
    }

    fn hash_tree(&self, source: &Identified) -> blake3::Hasher {
        let t = &self.toolchain;
        let mut hasher = blake3::Hasher::new();
        for part in [
            RECIPE,
            &source.id,
            &t.cc,
            &t.cc_version,
            &t.ld_version,
            &t.pahole_version,
        ] {
            hash_part(&mut hasher, part);
        }
        hasher
    }

    fn key_of(&self, source: &Identified, requests: &[Request], variables: &[String]) -> String {
        let mut hasher = self.hash_tree(source);
        hash_part(&mut hasher, &config::allconfig(requests));
        for variable in variables {
            hasher.update(b"\0make\0").update(variable.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    fn key(&self, source: &Identified) -> String {
        let base = self.base_key(source);
        if self.series.is_empty() && source.overlay.is_empty() {
            return base;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(base.as_bytes());
        source.overlay.hash_into(&mut hasher);
        hasher.update(b"\0series\0");
        for series in &self.series {
            series.hash_into(&mut hasher);
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

fn hash_part(hasher: &mut blake3::Hasher, part: &str) {
    hasher
        .update(&(part.len() as u64).to_le_bytes())
        .update(part.as_bytes());
}

/// Builds a kernel, or finds it in the cache. Blocks until it is there; a patched kernel's base
/// is built first, if it isn't in the cache.
pub fn build_kernel(
    ctx: &BuildCtx,
    kernel: &ResolvedKernel,
    sink: &dyn BuildSink,
) -> Result<KernelArtifact, BuildError> {
    let started = Instant::now();
    let name = kernel.name.to_string();
    let report = Reporter::new(&name, sink);
    for notice in &kernel.notices {
        report.notice(notice.clone());
    }
    let inputs = Inputs::of(kernel)?;
    let place =
        |source: &Identified| -> Utf8PathBuf { ctx.cache.path("kernels", &inputs.key(source)) };
    let mut passed_over: Vec<(String, String)> = Vec::new();
    let mut announced = false;
    for (n, spec) in kernel.sources.iter().enumerate() {
        let known = source::identify(ctx, spec)?;
        if let Some(known) = &known
            && let Some(found) = KernelArtifact::load(&place(known), kernel)
        {
            ctx.cache.touch(&found.dir);
            report.finished(started.elapsed(), true);
            return Ok(found);
        }
        if !announced {
            report.started();
            announced = true;
        }
        let got = settle(ctx, spec, &kernel.sources[n + 1..], &report).and_then(|settled| {
            match KernelArtifact::load(&place(&settled), kernel) {
                // It is built already: nothing is downloaded for it.
                Some(_) => Ok(settled),
                None => source::fetch(ctx, settled, &report),
            }
        });
        let mut source = match got {
            Ok(source) => source,
            Err(e) if kernel.sources.len() > 1 && can_pass_over(&e) => {
                report.notice(format!("{spec} can't be had here: {e}"));
                passed_over.push((spec.to_string(), e.to_string()));
                continue;
            }
            Err(e) => return Err(e),
        };
        source.record.passed_over = passed_over;
        // Its identity may have changed on the way: the locked version may be gone.
        if let Some(found) = KernelArtifact::load(&place(&source), kernel) {
            report.finished(started.elapsed(), true);
            return Ok(found);
        }
        let job = Job {
            ctx,
            kernel,
            tree_key: inputs.tree_key(&source),
            plain_key: inputs.plain_key(&source),
            base_key: inputs.base_key(&source),
            key: inputs.key(&source),
            source: &source,
            toolchain: &inputs.toolchain,
            requests: &inputs.requests,
            series: &inputs.series,
        };
        let built = job.run(&report)?;
        report.finished(started.elapsed(), false);
        return Ok(built);
    }
    Err(BuildError::NoSource {
        kernel: name,
        tried: passed_over,
    })
}

/// The key that a kernel's build has by what is locked, without a question to the net: of the build
/// that is in the cache, or else of the first source that is known. None where the net must be asked.
///
/// # Errors
/// Where the compiler or a local source can't be looked at.
pub fn known_key(ctx: &BuildCtx, kernel: &ResolvedKernel) -> Result<Option<String>, BuildError> {
    let inputs = Inputs::of(kernel)?;
    let mut first = None;
    for spec in &kernel.sources {
        if let Some(known) = source::identify(ctx, spec)? {
            let key = inputs.key(&known);
            if KernelArtifact::load(&ctx.cache.path("kernels", &key), kernel).is_some() {
                return Ok(Some(key));
            }
            first.get_or_insert(key);
        }
    }
    Ok(first)
}

/// The key that a kernel's build will have, by the first of its sources that can be had now; the lock
/// says so afterwards. Nothing is downloaded but an index.
///
/// # Errors
/// Where no source can be had, or the lock can't be kept and `--locked` was asked for.
pub fn settled_key(
    ctx: &BuildCtx,
    kernel: &ResolvedKernel,
    sink: &dyn BuildSink,
) -> Result<String, BuildError> {
    let name = kernel.name.to_string();
    let report = Reporter::new(&name, sink);
    let inputs = Inputs::of(kernel)?;
    let mut tried = Vec::new();
    for (n, spec) in kernel.sources.iter().enumerate() {
        match settle(ctx, spec, &kernel.sources[n + 1..], &report) {
            Ok(source) => return Ok(inputs.key(&source)),
            Err(e) if kernel.sources.len() > 1 && can_pass_over(&e) => {
                tried.push((spec.to_string(), e.to_string()));
            }
            Err(e) => return Err(e),
        }
    }
    Err(BuildError::NoSource {
        kernel: name,
        tried,
    })
}

/// Whether another source may do where this one failed: the host lacks a program, a mirror or
/// the net. A wrong checksum, a full disk or a lock that can't be kept must be seen.
fn can_pass_over(e: &BuildError) -> bool {
    e.class() == ErrorClass::Host
        && matches!(
            e,
            BuildError::Command { .. } | BuildError::MissingTool { .. }
        )
}
