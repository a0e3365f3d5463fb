//! Exactly which bytes a source is to be, with the net's help where the lock does not say; nothing of
//! them is downloaded yet, so that a kernel's key is known before it is built.

use super::apt::{AptRoot, Listed, deb_path};
use super::context::BuildCtx;
use super::error::BuildError;
use super::event::Reporter;
use super::lock::{LockedDebian, release_in};
use super::source::{How, Identified, identify, pristine};
use super::{git, releases};
use crate::spec::SourceSpec;

/// Settles what a source is. A Debian version that is gone from the mirror is replaced by the tag of the
/// same release among `others`, and where that can't be had, by the package's newest version.
pub(crate) fn settle(
    ctx: &BuildCtx,
    spec: &SourceSpec,
    others: &[SourceSpec],
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    if let Some(known) = identify(ctx, spec)?
        && pristine(ctx, &known).exists()
    {
        return Ok(known);
    }
    match spec {
        SourceSpec::Debian {
            suite,
            package,
            release: None,
        } => debian(ctx, (spec, suite, package), others, report),
        SourceSpec::Debian {
            suite,
            package,
            release: Some(release),
        } => releases::obtain_release(ctx, spec, suite, package, release, report),
        SourceSpec::Git { url, tag } => git::settle(ctx, spec, url, tag, report),
        SourceSpec::Tarball { .. } | SourceSpec::Tree { .. } => {
            identify(ctx, spec)?.ok_or_else(|| BuildError::Command {
                what: format!("identify {spec}"),
                detail: "it has no identity".to_owned(),
            })
        }
    }
}

fn debian(
    ctx: &BuildCtx,
    (spec, suite, package): (&SourceSpec, &str, &str),
    others: &[SourceSpec],
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    let guard = ctx.cache.lock(&format!("apt-{suite}"), report)?;
    // Another build may have locked and fetched it while we waited.
    let locked = ctx.lock.debian(suite, package)?;
    if let Some(locked) = &locked
        && deb_path(&ctx.cache, &locked.sha256).exists()
    {
        return Ok(Identified::new(spec, How::Deb(locked.clone())));
    }
    let versions = AptRoot::open(&ctx.cache, suite)?.versions(package, report)?;
    drop(guard);
    if let Some(locked) = &locked {
        let is_locked = |v: &Listed| v.version == locked.version && v.sha256 == locked.sha256;
        if versions.iter().any(is_locked) {
            return Ok(Identified::new(spec, How::Deb(locked.clone())));
        }
        if let Some(same) = same_release(ctx, locked, others, report)? {
            return Ok(same);
        }
    }
    // The newest is the first.
    let newest = versions.first().ok_or_else(|| BuildError::Command {
        what: format!("look up {package}"),
        detail: "no version is listed".to_owned(),
    })?;
    let what = match &locked {
        Some(l) => format!(
            "{package} {} is gone from the mirror's {suite}, which now has {}",
            l.version, newest.version
        ),
        None => format!(
            "{package} of {suite} has no locked version; the newest is {}",
            newest.version
        ),
    };
    if ctx.locked {
        return Err(BuildError::Locked {
            what,
            lock: ctx.lock.path().to_owned(),
        });
    }
    let instead = match locked {
        Some(_) => "building that instead, and locking it in",
        None => "locking it in",
    };
    report.notice(format!("{what}: {instead} {}", ctx.lock.path()));
    let chosen = LockedDebian {
        suite: suite.to_owned(),
        package: package.to_owned(),
        version: newest.version.clone(),
        sha256: newest.sha256.clone(),
        size: newest.size,
    };
    let _all = ctx.cache.lock("sources-lock", report)?;
    ctx.lock.set_debian(chosen.clone())?;
    let mut found = Identified::new(spec, How::Deb(chosen));
    found.record.replaces = locked.map(|l| l.version);
    Ok(found)
}

/// The tag of the release that a Debian version had, where a git remote among `others` has it. That it
/// can't be had is no error: there is a newer version.
fn same_release(
    ctx: &BuildCtx,
    gone: &LockedDebian,
    others: &[SourceSpec],
    report: &Reporter<'_>,
) -> Result<Option<Identified>, BuildError> {
    let wanted = format!("v{}", release_in(&gone.version));
    let LockedDebian {
        package, version, ..
    } = gone;
    for spec in others {
        let SourceSpec::Git { url, tag } = spec else {
            continue;
        };
        if *tag != wanted {
            continue;
        }
        match git::settle(ctx, spec, url, tag, report) {
            Ok(mut found) => {
                report.notice(format!(
                    "{package} {version} is gone from the mirror: building the tag {tag} of {url} instead, which lacks Debian's patches"
                ));
                found.record.replaces = Some(version.clone());
                return Ok(Some(found));
            }
            Err(BuildError::Command { what, detail }) => report.notice(format!(
                "{package} {version} is gone from the mirror, and its release can't be had from git: {what}: {detail}"
            )),
            // What is not locked is left alone; the error that follows tells of the lock.
            Err(BuildError::Locked { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
