//! Sources of kernels: which one the host can serve, exactly which bytes that is, and those bytes
//! unpacked in the cache.

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::apt::{AptRoot, deb_path};
use super::cache::{create_dir, remove};
use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{Phase, Reporter};
use super::lock::{LockedDebian, LockedGit, release_in};
use super::overlay::Overlay;
use super::settle::settle;
use super::{git, proc, tree};
use crate::spec::SourceSpec;

/// What an unpacked kernel and its package take at most, in bytes, as measured on 6.12 and 7.3.
pub(super) const SOURCE_NEEDS: u64 = 2 << 30;

/// Which source a kernel was built from; kept in its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The source that was used, of those that are listed.
    pub used: SourceSpec,
    /// The exact version: a package's, or a commit.
    pub version: Option<String>,
    /// SHA-256 of the package or tarball.
    pub sha256: Option<String>,
    /// The locked version that was gone from the mirror and is replaced by this one.
    pub replaces: Option<String>,
    /// Whether a local tree had uncommitted changes.
    pub dirty: bool,
    /// Listed sources before this one, and why the host could not serve them.
    pub passed_over: Vec<(String, String)>,
}

/// A source of which every byte is known.
#[derive(Debug, Clone)]
pub(crate) struct Identified {
    /// Names the pristine part: a directory of `sources/`.
    pub(crate) id: String,
    /// Uncommitted changes on top.
    pub(crate) overlay: Overlay,
    pub(crate) record: SourceRecord,
    how: How,
}

#[derive(Debug, Clone)]
pub(super) enum How {
    Deb(LockedDebian),
    Git(LockedGit),
    Tarball {
        at: String,
        sha256: String,
    },
    GitTree {
        path: Utf8PathBuf,
        tree: String,
        commit: String,
    },
    LooseTree {
        path: Utf8PathBuf,
    },
}

impl Identified {
    pub(super) fn new(spec: &SourceSpec, how: How) -> Self {
        let (parts, version, sha256) = match &how {
            How::Deb(d) => (
                ["deb", &d.package, &d.sha256],
                Some(d.version.clone()),
                Some(d.sha256.clone()),
            ),
            How::Git(g) => (["git", &g.url, &g.commit], Some(g.commit.clone()), None),
            How::Tarball { sha256, .. } => (["tarball", "", sha256], None, Some(sha256.clone())),
            How::GitTree { tree, commit, .. } => (["tree", "", tree], Some(commit.clone()), None),
            How::LooseTree { .. } => (["loose", "", ""], None, None),
        };
        let id = key_of(&parts);
        let record = SourceRecord {
            used: spec.clone(),
            version,
            sha256,
            replaces: None,
            dirty: false,
            passed_over: Vec::new(),
        };
        Self {
            id,
            overlay: Overlay::default(),
            record,
            how,
        }
    }
}

/// A short name for a list of words.
pub(super) fn key_of(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher
            .update(&(part.len() as u64).to_le_bytes())
            .update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..24].to_owned()
}

/// Identifies a source without asking the net: none if only the net knows.
pub(crate) fn identify(
    ctx: &BuildCtx,
    spec: &SourceSpec,
) -> Result<Option<Identified>, BuildError> {
    Ok(match spec {
        SourceSpec::Debian {
            suite,
            package,
            release,
        } => locked_debian(ctx, suite, package, release.as_deref())?
            .map(|d| Identified::new(spec, How::Deb(d))),
        SourceSpec::Git { url, tag } => ctx
            .lock
            .git(url, tag)?
            .map(|g| Identified::new(spec, How::Git(g))),
        SourceSpec::Tarball { at, sha256 } => Some(Identified::new(
            spec,
            How::Tarball {
                at: at.clone(),
                sha256: sha256.clone(),
            },
        )),
        SourceSpec::Tree { path, rev } => Some(identify_tree(ctx, spec, path, rev.as_deref())?),
    })
}

fn identify_tree(
    ctx: &BuildCtx,
    spec: &SourceSpec,
    path: &Utf8Path,
    rev: Option<&str>,
) -> Result<Identified, BuildError> {
    let path = ctx.absolute(path);
    if tree::is_git(&path) {
        let commit = tree::commit_of(&path, rev.unwrap_or("HEAD"))?;
        let base = match &ctx.tree_base {
            Some(base) => tree::commit_of(&path, base)?,
            None => commit.clone(),
        };
        // The same files are the same source, whatever the commit says.
        let tree = tree::tree_of(&path, &base)?;
        let mut found = Identified::new(
            spec,
            How::GitTree {
                path: path.clone(),
                tree,
                commit: base.clone(),
            },
        );
        if base != commit {
            found.overlay = tree::between(&path, &base, &commit)?;
        }
        if rev.is_none() {
            let uncommitted = tree::uncommitted(&path)?;
            found.record.dirty = !uncommitted.is_empty();
            found.overlay.extend(uncommitted);
        }
        found.record.version = Some(commit);
        return Ok(found);
    }
    if let Some(rev) = rev {
        return Err(BuildError::Request {
            message: format!("{path} is no git tree, so it has no revision {rev}"),
            remedy: "leave the revision out".to_owned(),
        });
    }
    let hash = tree::hash_loose(&path)?;
    let mut found = Identified::new(spec, How::LooseTree { path });
    found.id = key_of(&["loose", "", &hash]);
    found.record.version = Some(hash);
    Ok(found)
}

/// Identifies a source and unpacks it into the cache, if it isn't there.
pub(crate) fn obtain(
    ctx: &BuildCtx,
    spec: &SourceSpec,
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    fetch(ctx, settle(ctx, spec, &[], report)?, report)
}

/// Unpacks a source into the cache, if it isn't there, and downloads it first where it must be. A
/// git tag that moved is another source afterwards.
pub(crate) fn fetch(
    ctx: &BuildCtx,
    source: Identified,
    report: &Reporter<'_>,
) -> Result<Identified, BuildError> {
    if pristine(ctx, &source).exists() {
        return Ok(source);
    }
    match &source.how {
        How::Git(locked) => return git::clone(ctx, &source.record, locked, report),
        How::Deb(locked) if !deb_path(&ctx.cache, &locked.sha256).exists() => {
            let guard = ctx.cache.lock(&format!("apt-{}", locked.suite), report)?;
            let apt = AptRoot::open(&ctx.cache, &locked.suite)?;
            apt.download(
                &ctx.cache,
                &guard,
                &locked.package,
                &locked.listed(),
                report,
            )?;
        }
        _ => {}
    }
    unpack(ctx, &source, report)?;
    Ok(source)
}

/// Where a source is once it is unpacked.
pub(crate) fn pristine(ctx: &BuildCtx, source: &Identified) -> Utf8PathBuf {
    ctx.cache.path("sources", &source.id)
}

pub(super) fn locked_debian(
    ctx: &BuildCtx,
    suite: &str,
    package: &str,
    release: Option<&str>,
) -> Result<Option<LockedDebian>, BuildError> {
    match release {
        None => ctx.lock.debian(suite, package),
        Some(release) => match ctx.lock.debian(suite, package)? {
            // The project's own, where it is that release.
            Some(locked) if release_in(&locked.version) == release => Ok(Some(locked)),
            _ => ctx.releases.release(suite, package, release),
        },
    }
}

/// Unpacks an identified source that is at hand, or at an address that needs no choice.
pub(super) fn unpack(
    ctx: &BuildCtx,
    source: &Identified,
    report: &Reporter<'_>,
) -> Result<(), BuildError> {
    let place = pristine(ctx, source);
    let guard = ctx.cache.lock(&format!("source-{}", source.id), report)?;
    if place.exists() {
        ctx.cache.touch(&place);
        return Ok(());
    }
    ctx.cache
        .need_space(SOURCE_NEEDS, &format!("unpacking {}", source.record.used))?;
    let temp = ctx.cache.temp(&guard, "source")?;
    let root = temp.join("tree");
    create_dir(&root)?;
    match &source.how {
        How::Deb(locked) => {
            let deb = deb_path(&ctx.cache, &locked.sha256);
            report.phase(
                Phase::Unpack,
                format!("{} {}", locked.package, locked.version),
            );
            pipe(
                proc::command("dpkg-deb").args(["--fsys-tarfile", deb.as_str()]),
                proc::command("tar").args([
                    "-x",
                    "-C",
                    temp.as_str(),
                    "--wildcards",
                    "--strip-components=3",
                    "./usr/src/*.tar.xz",
                ]),
                &format!("unpack {deb}"),
                &temp,
            )?;
            let inner = temp
                .read_dir_utf8()
                .map_err(|e| BuildError::io("read", &temp, e))?
                .flatten()
                .map(|e| e.into_path())
                .find(|p| p.as_str().ends_with(".tar.xz"))
                .ok_or_else(|| BuildError::Command {
                    what: format!("unpack {deb}"),
                    detail: "the package holds no source".to_owned(),
                })?;
            untar(&inner, &root)?;
        }
        How::Tarball { at, sha256 } => {
            let local = ctx.absolute(Utf8Path::new(at));
            let file = if at.contains("://") {
                download(ctx, at, sha256, &temp, report)?
            } else if local.exists() {
                local
            } else {
                return Err(BuildError::Request {
                    message: format!("there is no tarball {local}"),
                    remedy: "correct the kernel's `path`".to_owned(),
                });
            };
            check_sha256(&file, sha256, at)?;
            report.phase(Phase::Unpack, at.clone());
            untar(&file, &root)?;
        }
        How::GitTree { path, commit, .. } => {
            report.phase(Phase::Unpack, format!("{path} at {commit}"));
            tree::archive(path, commit, &root)?;
        }
        How::LooseTree { path } => {
            report.phase(Phase::Unpack, format!("copying {path}"));
            proc::run(
                proc::command("cp").args([
                    "-a",
                    "--reflink=auto",
                    &format!("{path}/."),
                    root.as_str(),
                ]),
                format!("copy {path}"),
            )
            .map_err(|e| full(e, &root))?;
        }
        How::Git(locked) => {
            return Err(BuildError::Command {
                what: format!("unpack {} of {}", locked.tag, locked.url),
                detail: "it was not cloned".to_owned(),
            });
        }
    }
    if !root.join("Makefile").is_file() || !root.join("Kconfig").is_file() {
        return Err(BuildError::Request {
            message: format!(
                "{} is no kernel: it has no Makefile or no Kconfig",
                source.record.used
            ),
            remedy: "name the top of a kernel's tree".to_owned(),
        });
    }
    ctx.cache.publish(&root, &place)?;
    remove(&temp)
}

/// A downloaded tarball; kept by its checksum.
fn download(
    ctx: &BuildCtx,
    url: &str,
    sha256: &str,
    temp: &Utf8Path,
    report: &Reporter<'_>,
) -> Result<Utf8PathBuf, BuildError> {
    let place = ctx.cache.path("downloads", &format!("{sha256}.tarball"));
    if place.exists() {
        return Ok(place);
    }
    report.phase(Phase::Download, url.to_owned());
    let file = temp.join("tarball");
    proc::run(
        proc::command("curl").args([
            "--fail",
            "--silent",
            "--show-error",
            "--location",
            "--output",
            file.as_str(),
            "--",
            url,
        ]),
        format!("download {url}"),
    )
    .map_err(|e| full(e, temp))?;
    check_sha256(&file, sha256, url)?;
    ctx.cache.publish(&file, &place)?;
    Ok(place)
}

pub(crate) fn untar(file: &Utf8Path, into: &Utf8Path) -> Result<(), BuildError> {
    let mut cmd = proc::command("tar");
    cmd.args([
        "-x",
        "--no-same-owner",
        "--strip-components=1",
        "-C",
        into.as_str(),
        "-f",
        file.as_str(),
    ]);
    // All cores, where xz can.
    cmd.env("XZ_OPT", "-T0");
    proc::run(&mut cmd, format!("unpack {file}"))
        .map(drop)
        .map_err(|e| full(e, into))
}

/// Runs `from | to`.
pub(crate) fn pipe(
    from: &mut Command,
    to: &mut Command,
    what: &str,
    into: &Utf8Path,
) -> Result<(), BuildError> {
    let fail = |detail: String| BuildError::Command {
        what: what.to_owned(),
        detail,
    };
    let missing = |cmd: &Command| proc::missing(&cmd.get_program().to_string_lossy());
    let mut first = from
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|_| missing(from))?;
    let stdout = first
        .stdout
        .take()
        .ok_or_else(|| fail("it has no output".to_owned()))?;
    let second = to.stdin(stdout).output().map_err(|_| missing(to));
    let first = first.wait_with_output().map_err(|e| fail(e.to_string()))?;
    let second = second?;
    for out in [second, first] {
        if !out.status.success() {
            return Err(full(fail(proc::said(&out)), into));
        }
    }
    Ok(())
}

/// Turns the words of a program that ran out of space into the error for it.
fn full(e: BuildError, dir: &Utf8Path) -> BuildError {
    match e {
        BuildError::Command { what, detail } if detail.contains("No space left on device") => {
            BuildError::disk_full(dir, what, SOURCE_NEEDS)
        }
        other => other,
    }
}

/// An error unless the file's SHA-256 is `expected`.
pub(crate) fn check_sha256(file: &Utf8Path, expected: &str, what: &str) -> Result<(), BuildError> {
    let out = proc::run(
        proc::command("sha256sum").arg(file),
        format!("check {file}"),
    )?;
    let found = out.split_whitespace().next().unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    Err(BuildError::Checksum {
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
