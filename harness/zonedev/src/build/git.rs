//! Kernels' sources from git remotes: which commit a tag is, and its files.

use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{Phase, Reporter};
use super::lock::LockedGit;
use super::proc;
use super::source::{How, Identified, SOURCE_NEEDS, SourceRecord, key_of, pristine};
use super::tree;
use crate::spec::SourceSpec;

/// Seconds after which a remote that does not answer can't be reached.
const PATIENCE: &str = "60";

/// Where the remote `url` is asked for: itself, or the mirror that the user named.
fn remote<'a>(ctx: &'a BuildCtx, url: &'a str, report: &Reporter<'_>) -> &'a str {
    match &ctx.git {
        Some(mirror) if mirror != url => {
            report.notice(format!("{mirror} is asked instead of {url}"));
            mirror
        }
        _ => url,
    }
}

/// The commit that is locked of a tag; where none is, the remote is asked, and its answer locked.
pub(super) fn settle(
    ctx: &BuildCtx,
    spec: &SourceSpec,
    url: &str,
    tag: &str,
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    if let Some(locked) = ctx.lock.git(url, tag)? {
        return Ok(Identified::new(spec, How::Git(locked)));
    }
    if ctx.locked {
        return Err(BuildError::Locked {
            what: format!("{tag} of {url} has no locked commit"),
            lock: ctx.lock.path().to_owned(),
        });
    }
    report.phase(Phase::Download, format!("which commit {tag} of {url} is"));
    let names = [
        format!("refs/tags/{tag}^{{}}"),
        format!("refs/tags/{tag}"),
        format!("refs/heads/{tag}"),
    ];
    let mut cmd = proc::command("timeout");
    cmd.args([PATIENCE, "git", "ls-remote", "--"])
        .arg(remote(ctx, url, report))
        .args(&names)
        .env("GIT_TERMINAL_PROMPT", "0");
    let what = format!("look up {tag} of {url}");
    let out = proc::output(&mut cmd)?;
    // What `timeout` ends with where it ended the command.
    if out.status.code() == Some(124) {
        return Err(BuildError::Command {
            what,
            detail: format!("no answer in {PATIENCE} seconds"),
        });
    }
    if !out.status.success() {
        return Err(BuildError::Command {
            what,
            detail: proc::said(&out),
        });
    }
    let listed = String::from_utf8_lossy(&out.stdout);
    let commit = |name: &String| {
        let line = listed.lines().find(|l| l.ends_with(&format!("\t{name}")))?;
        line.split_once('\t').map(|(commit, _)| commit.to_owned())
    };
    // A tag's own commit before the tag's, and a tag before a branch.
    let Some(commit) = names.iter().find_map(commit) else {
        return Err(BuildError::Command {
            what,
            detail: format!("it has no {tag}"),
        });
    };
    let locked = LockedGit {
        url: url.to_owned(),
        tag: tag.to_owned(),
        commit,
    };
    let _all = ctx.cache.lock("sources-lock", report)?;
    ctx.lock.set_git(locked.clone())?;
    Ok(Identified::new(spec, How::Git(locked)))
}

/// Clones a tag into the cache. Where it is not the locked commit any more, what it is now is built,
/// locked and told, or refused.
pub(super) fn clone(
    ctx: &BuildCtx,
    record: &SourceRecord,
    locked: &LockedGit,
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    let (url, tag) = (&locked.url, &locked.tag);
    let guard = ctx
        .cache
        .lock(&format!("git-{}", key_of(&[url, tag])), report)?;
    ctx.cache
        .need_space(SOURCE_NEEDS, &format!("the source {tag}"))?;
    report.phase(Phase::Download, format!("{tag} of {url}"));
    let temp = ctx.cache.temp(&guard, "clone")?;
    proc::run(
        proc::command("git")
            .args(["clone", "--quiet", "--depth", "1"])
            .args([
                "--config",
                "advice.detachedHead=false",
                "--branch",
                tag,
                "--",
            ])
            .args([remote(ctx, url, report), temp.as_str()])
            .env("GIT_TERMINAL_PROMPT", "0")
            // Bytes in a second, and for how many seconds less is enough.
            .envs([
                ("GIT_HTTP_LOW_SPEED_LIMIT", "1000"),
                ("GIT_HTTP_LOW_SPEED_TIME", PATIENCE),
            ]),
        format!("clone {tag} of {url}"),
    )?;
    let now = LockedGit {
        commit: tree::commit_of(&temp, "HEAD")?,
        ..locked.clone()
    };
    let moved = now.commit != locked.commit;
    if moved {
        let what = format!(
            "{tag} of {url} was {} and is now {}",
            locked.commit, now.commit
        );
        if ctx.locked {
            return Err(BuildError::Locked {
                what,
                lock: ctx.lock.path().to_owned(),
            });
        }
        report.notice(format!(
            "{what}: building that instead, and locking it in {}",
            ctx.lock.path()
        ));
        let _all = ctx.cache.lock("sources-lock", report)?;
        ctx.lock.set_git(now.clone())?;
    }
    let mut found = Identified::new(&record.used, How::Git(now));
    found.record.replaces = match moved {
        true => Some(locked.commit.clone()),
        false => record.replaces.clone(),
    };
    super::cache::remove(&temp.join(".git"))?;
    ctx.cache.publish(&temp, &pristine(ctx, &found))?;
    Ok(found)
}
