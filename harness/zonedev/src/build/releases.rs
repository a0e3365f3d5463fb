//! Releases of a kernel by name, such as `6.12.107`: from which source, and which there are.

use super::apt::{AptRoot, deb_path};
use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{BuildSink, Reporter};
use super::lock::{LockedDebian, release_in};
use super::proc;
use super::source::{How, Identified, locked_debian, unpack};
use crate::spec::{SourceSpec, release_of};

pub(super) fn obtain_release(
    ctx: &BuildCtx,
    spec: &SourceSpec,
    suite: &str,
    package: &str,
    release: &str,
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    let guard = ctx.cache.lock(&format!("apt-{suite}"), report)?;
    let locked = locked_debian(ctx, suite, package, Some(release))?;
    let locked = match locked.filter(|l| deb_path(&ctx.cache, &l.sha256).exists()) {
        Some(locked) => locked,
        None => {
            let apt = AptRoot::open(&ctx.cache, suite)?;
            let versions = apt.versions(package, report)?;
            // The newest first.
            let Some(listed) = versions.iter().find(|v| release_in(&v.version) == release) else {
                let offered: Vec<&str> = versions.iter().map(|v| release_in(&v.version)).collect();
                return Err(BuildError::Command {
                    what: format!("look up {package} {release}"),
                    detail: format!("the mirror's {suite} has {}", offered.join(", ")),
                });
            };
            apt.download(&ctx.cache, &guard, package, listed, report)?;
            let locked = LockedDebian {
                suite: suite.to_owned(),
                package: package.to_owned(),
                version: listed.version.clone(),
                sha256: listed.sha256.clone(),
                size: listed.size,
            };
            let _all = ctx.cache.lock("sources-lock", report)?;
            ctx.releases.set_release(locked.clone())?;
            locked
        }
    };
    drop(guard);
    let found = Identified::new(spec, How::Deb(locked));
    unpack(ctx, &found, report)?;
    Ok(found)
}

/// The releases of a kernel that one of its sources offers, oldest first: of the first source that
/// has both `from` and `to`.
///
/// # Errors
/// Where none has.
pub fn releases_offered(
    ctx: &BuildCtx,
    sources: &[SourceSpec],
    from: &str,
    to: &str,
    sink: &dyn BuildSink,
) -> Result<Vec<String>, BuildError> {
    let report = Reporter::new(to, sink);
    let mut tried = Vec::new();
    for source in sources {
        let offered = match source {
            SourceSpec::Debian { suite, package, .. } => {
                let _guard = ctx.cache.lock(&format!("apt-{suite}"), &report)?;
                AptRoot::open(&ctx.cache, suite)
                    .and_then(|apt| apt.versions(package, &report))
                    .map(|all| {
                        all.iter()
                            .map(|v| release_in(&v.version).to_owned())
                            .collect()
                    })
            }
            SourceSpec::Git { url, .. } => tags_of(url),
            SourceSpec::Tarball { .. } | SourceSpec::Tree { .. } => continue,
        };
        let has = |all: &Vec<String>, one: &str| all.iter().any(|r| r == one);
        match offered {
            Ok(all) if has(&all, from) && has(&all, to) => return Ok(between(all, from, to)),
            Ok(all) => tried.push((source.to_string(), format!("it has {}", all.join(", ")))),
            Err(e) => tried.push((source.to_string(), e.to_string())),
        }
    }
    Err(BuildError::NoSource {
        kernel: format!("{from} … {to}"),
        tried,
    })
}

/// Releases after `from` up to `to`, in order.
fn between(mut all: Vec<String>, from: &str, to: &str) -> Vec<String> {
    let number = |release: &str| release_of(release).map(|(_, number)| number);
    all.retain(|r| number(r) > number(from) && number(r) <= number(to));
    all.sort_by_key(|r| number(r));
    all.dedup();
    all
}

/// Releases by the tags of a git remote.
fn tags_of(url: &str) -> Result<Vec<String>, BuildError> {
    let tags = proc::run(
        proc::command("git").args(["ls-remote", "--tags", "--refs", "--", url, "v*"]),
        format!("list the tags of {url}"),
    )?;
    let tag = |line: &str| {
        let (_, tag) = line.split_once("refs/tags/v")?;
        release_of(tag).map(|_| tag.to_owned())
    };
    Ok(tags.lines().filter_map(tag).collect())
}
