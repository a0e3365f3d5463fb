//! Local trees: a git revision, a working tree with its uncommitted changes, or plain files.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};

use super::context::here;
use super::error::BuildError;
use super::overlay::{Change, Overlay};
use super::{proc, source};
use crate::spec::Era;

fn git(path: &Utf8Path) -> std::process::Command {
    let mut cmd = proc::command("git");
    cmd.args(["-C", path.as_str()]);
    cmd
}

/// Whether `path` is the top of a git tree.
pub(crate) fn is_git(path: &Utf8Path) -> bool {
    path.join(".git").exists()
}

fn rev_parse(path: &Utf8Path, rev: &str, kind: &str) -> Result<String, BuildError> {
    let out = proc::output(git(path).args([
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &format!("{rev}^{{{kind}}}"),
    ]))?;
    if !out.status.success() {
        let detail = match out.stderr.is_empty() {
            true => String::new(),
            false => format!(" ({})", proc::said(&out)),
        };
        return Err(BuildError::Request {
            message: format!("{path} has no revision {rev}{detail}"),
            remedy: "name a commit, a tag or a branch of it".to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The commit that `rev` means.
pub(crate) fn commit_of(path: &Utf8Path, rev: &str) -> Result<String, BuildError> {
    rev_parse(path, rev, "commit")
}

/// The git tree that `rev` means: the same for two commits with the same files.
pub(crate) fn tree_of(path: &Utf8Path, rev: &str) -> Result<String, BuildError> {
    rev_parse(path, rev, "tree")
}

/// Writes the files of a commit into `into`, all with the commit's time.
pub(crate) fn archive(path: &Utf8Path, commit: &str, into: &Utf8Path) -> Result<(), BuildError> {
    source::pipe(
        git(path).args(["archive", "--format=tar", commit]),
        proc::command("tar").args(["-x", "--no-same-owner", "-C", into.as_str()]),
        &format!("read {commit} of {path}"),
        into,
    )
}

/// What makes the files of `commit` of those of `base`.
pub(crate) fn between(path: &Utf8Path, base: &str, commit: &str) -> Result<Overlay, BuildError> {
    let what = format!("see what differs between {base} and {commit} of {path}");
    let raw = proc::run(
        git(path).args([
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-abbrev",
            "--no-renames",
            base,
            commit,
        ]),
        what.clone(),
    )?;
    let odd = |detail: &str| BuildError::Command {
        what: what.clone(),
        detail: format!("git answered `{}`", detail.escape_debug()),
    };
    let mut overlay = Overlay::default();
    // `:OLDMODE NEWMODE OLDBLOB NEWBLOB STATUS`, then the path.
    let mut parts = raw.split('\0').filter(|p| !p.is_empty());
    while let Some(head) = parts.next() {
        let file = parts.next().ok_or_else(|| odd(head))?;
        let words: Vec<&str> = head.split(' ').collect();
        let [_, mode, _, blob, _] = words.as_slice() else {
            return Err(odd(head));
        };
        let bytes = || {
            let out = proc::output(git(path).args(["cat-file", "blob", blob]))?;
            match out.status.success() {
                true => Ok(out.stdout),
                false => Err(odd(&proc::said(&out))),
            }
        };
        let change = match *mode {
            "000000" => Change::Remove,
            "120000" => Change::Link {
                target: String::from_utf8(bytes()?).map_err(|_| odd(file))?,
            },
            // A submodule.
            "160000" => continue,
            mode => Change::File {
                bytes: bytes()?,
                executable: mode == "100755",
            },
        };
        overlay.set(Utf8PathBuf::from(file), change)?;
    }
    Ok(overlay)
}

/// A commit of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its whole name.
    pub id: String,
    /// The first line of its message.
    pub title: String,
    /// The commits that it comes from.
    pub parents: Vec<String>,
}

/// The commits that `last` contains and `first` does not, parents before children.
///
/// # Errors
/// Where git has no such tree or revisions.
pub fn commits_between(
    path: &Utf8Path,
    first: &str,
    last: &str,
) -> Result<Vec<Commit>, BuildError> {
    let path = &here(path);
    let range = format!("{}..{}", commit_of(path, first)?, commit_of(path, last)?);
    let log = proc::run(
        git(path).args([
            "log",
            "--topo-order",
            "--reverse",
            "--format=%H %P%x00%s",
            &range,
        ]),
        format!("list the commits {range} of {path}"),
    )?;
    let commit = |line: &str| {
        let (commits, title) = line.split_once('\0').unwrap_or((line, ""));
        let mut commits = commits.split_whitespace().map(str::to_owned);
        Some(Commit {
            id: commits.next()?,
            title: title.to_owned(),
            parents: commits.collect(),
        })
    };
    Ok(log.lines().filter_map(commit).collect())
}

/// The releases that `last` contains and `first` does not, oldest first: tags like `v6.12.107`. Each
/// has the one before it as parent.
///
/// # Errors
/// Where git has no such tree or revisions.
pub fn releases_between(
    path: &Utf8Path,
    first: &str,
    last: &str,
) -> Result<Vec<Commit>, BuildError> {
    let path = &here(path);
    let (first, last) = (commit_of(path, first)?, commit_of(path, last)?);
    let tags = proc::run(
        git(path).args([
            "-c",
            "versionsort.suffix=-rc",
            "for-each-ref",
            "--sort=version:refname",
            "--format=%(refname:short)%00%(if)%(*subject)%(then)%(*subject)%(else)%(subject)%(end)",
            &format!("--merged={last}"),
            &format!("--no-merged={first}"),
            "refs/tags/v[0-9]*",
        ]),
        format!("list the tags of {path}"),
    )?;
    let mut out: Vec<Commit> = Vec::new();
    for line in tags.lines() {
        let (tag, title) = line.split_once('\0').unwrap_or((line, ""));
        out.push(Commit {
            id: tag.to_owned(),
            title: title.to_owned(),
            parents: out
                .last()
                .map(|before| before.id.clone())
                .into_iter()
                .collect(),
        });
    }
    Ok(out)
}

/// What takes a commit back, as a patch; none of a merge.
///
/// # Errors
/// Where git has no such tree or commit.
pub fn revert(path: &Utf8Path, commit: &str) -> Result<Option<Vec<u8>>, BuildError> {
    let path = &here(path);
    let commit = commit_of(path, commit)?;
    let merged = rev_parse(path, &format!("{commit}^2"), "commit");
    if merged.is_ok() {
        return Ok(None);
    }
    let args = [
        "diff",
        "--binary",
        "--no-renames",
        &commit,
        &format!("{commit}^"),
    ];
    let out = proc::output(git(path).args(args))?;
    match out.status.success() {
        true => Ok(Some(out.stdout)),
        false => Err(BuildError::Command {
            what: format!("read the changes of {commit} of {path}"),
            detail: proc::said(&out),
        }),
    }
}

/// What differs from HEAD in a working tree, files that git doesn't know (and is not told to
/// ignore) included.
pub(crate) fn uncommitted(path: &Utf8Path) -> Result<Overlay, BuildError> {
    let changed = proc::run(
        git(path).args([
            "diff",
            "--name-only",
            "-z",
            "--no-renames",
            "--ignore-submodules",
            "HEAD",
        ]),
        format!("see what is changed in {path}"),
    )?;
    let unknown = proc::run(
        git(path).args(["ls-files", "--others", "--exclude-standard", "-z"]),
        format!("see what is new in {path}"),
    )?;
    let mut overlay = Overlay::default();
    for name in changed
        .split('\0')
        .chain(unknown.split('\0'))
        .filter(|n| !n.is_empty())
    {
        let file = path.join(name);
        if file.is_dir() && !file.is_symlink() {
            continue;
        }
        overlay.set(Utf8PathBuf::from(name), Change::read(&file)?)?;
    }
    Ok(overlay)
}

/// The version that a tree's Makefile states.
pub(crate) fn era(path: &Utf8Path, rev: Option<&str>) -> Result<Era, BuildError> {
    let makefile = match rev {
        Some(rev) => {
            let commit = commit_of(path, rev)?;
            proc::run(
                git(path).args(["show", &format!("{commit}:Makefile")]),
                format!("read the Makefile of {path}"),
            )?
        }
        None => fs_err::read_to_string(path.join("Makefile")).map_err(|_| BuildError::Request {
            message: format!("{path} is no kernel's tree: it has no Makefile"),
            remedy: "name the top of a kernel's tree".to_owned(),
        })?,
    };
    let number = |name: &str| {
        makefile.lines().take(10).find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().parse().ok())?
        })
    };
    match (number("VERSION"), number("PATCHLEVEL")) {
        (Some(version), Some(patchlevel)) => Ok(Era {
            version,
            patchlevel,
        }),
        _ => Err(BuildError::Request {
            message: format!("{path} is no kernel's tree: its Makefile states no version"),
            remedy: "name the top of a kernel's tree".to_owned(),
        }),
    }
}

/// A hash of every file of a tree that git doesn't know.
pub(crate) fn hash_loose(path: &Utf8Path) -> Result<String, BuildError> {
    if path.join(".config").exists() || path.join("include/config").exists() {
        return Err(BuildError::Request {
            message: format!(
                "{path} was built in place, and git doesn't know which of its files are source"
            ),
            remedy: "run `make mrproper` there, or make it a git tree".to_owned(),
        });
    }
    let mut hasher = blake3::Hasher::new();
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        let read =
            || -> std::io::Result<Vec<camino::Utf8DirEntry>> { dir.read_dir_utf8()?.collect() };
        let mut entries = read().map_err(|e| BuildError::io("read", &dir, e))?;
        entries.sort_by(|a, b| a.file_name().cmp(b.file_name()));
        for entry in entries {
            let file = entry.path();
            let fail = |e| BuildError::io("read", file, e);
            let meta = file.symlink_metadata().map_err(fail)?;
            hasher.update(file.as_str().as_bytes()[path.as_str().len()..].as_ref());
            if meta.is_dir() {
                hasher.update(b"/\0");
                todo.push(file.to_owned());
            } else if meta.is_symlink() {
                let target = file.read_link_utf8().map_err(fail)?;
                hasher.update(b"@\0").update(target.as_str().as_bytes());
            } else {
                let executable = meta.permissions().mode() & 0o100 != 0;
                hasher.update(if executable { b"*\0" } else { b"-\0" });
                hasher.update(&meta.len().to_le_bytes());
                hasher.update(&fs_err::read(file).map_err(fail)?);
            }
        }
    }
    Ok(hasher.finalize().to_hex()[..40].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with a commit for each tag; one file says the last of them.
    fn tagged(tags: &[&str]) -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        let run = |args: &[&str]| {
            let mut command = git(&dir);
            command.args(["-c", "user.name=a", "-c", "user.email=a@zonedev.example"]);
            proc::run(command.args(args), "x").unwrap();
        };
        run(&["init", "--quiet"]);
        for tag in tags {
            fs_err::write(dir.join("Makefile"), format!("# {tag}\n")).unwrap();
            run(&["add", "Makefile"]);
            run(&["commit", "--quiet", "--message", &format!("Linux {tag}")]);
            run(&["tag", tag]);
        }
        (temp, dir)
    }

    #[test]
    fn releases_are_tags_in_order() {
        let (_temp, dir) = tagged(&[
            "v6.12.8",
            "v6.12.9",
            "v6.12.10",
            "mine",
            "v6.13-rc1",
            "v6.13",
        ]);
        let found = releases_between(&dir, "v6.12.8", "HEAD").unwrap();
        let ids: Vec<&str> = found.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["v6.12.9", "v6.12.10", "v6.13-rc1", "v6.13"]);
        assert_eq!(found[1].title, "Linux v6.12.10");
        assert_eq!(found[1].parents, ["v6.12.9"]);
        assert!(found[0].parents.is_empty());
        assert!(releases_between(&dir, "v6.13", "v6.13").unwrap().is_empty());
    }

    #[test]
    fn a_commit_is_taken_back_by_a_patch() {
        let (_temp, dir) = tagged(&["v1", "v2"]);
        let patch = revert(&dir, "v2").unwrap().unwrap();
        let patch = String::from_utf8(patch).unwrap();
        assert!(patch.contains("\n-# v2\n+# v1\n"), "{patch}");
        assert!(revert(&dir, "v3").is_err());
    }
}
