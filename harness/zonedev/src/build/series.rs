//! Series of patches: read from a directory, a patch or an mbox, and applied with git's own
//! machinery to copies of just the files that they touch. The pristine source is never touched,
//! so a series that does not apply leaves nothing behind.

use std::collections::BTreeSet;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use proto::text::escape;

use super::cache::{create_dir, remove};
use super::context::here;
use super::error::{BuildError, PatchFailure};
use super::overlay::{Change, Overlay, is_inside};
use super::proc;
use crate::spec::{ResolvedSeries, SeriesRef};

/// The files of a series, as they lie on disk.
#[derive(Debug, Clone)]
pub(crate) struct SeriesFiles {
    files: Vec<(Utf8PathBuf, Vec<u8>)>,
}

impl SeriesFiles {
    /// Reads a directory of patches (in the order of their names), a patch, or an mbox.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, BuildError> {
        let mut paths = vec![path.to_owned()];
        if path.is_dir() {
            let entries = path
                .read_dir_utf8()
                .map_err(|e| BuildError::io("read", path, e))?;
            paths = entries
                .flatten()
                .map(|e| e.into_path())
                .filter(|p| matches!(p.extension(), Some("patch" | "diff" | "mbox")))
                .collect();
            paths.sort();
            if paths.is_empty() {
                return Err(BuildError::Request {
                    message: format!("the series {path} holds no patch"),
                    remedy: "put files named *.patch, *.diff or *.mbox there".to_owned(),
                });
            }
        }
        let read = |p: Utf8PathBuf| {
            let bytes = fs_err::read(&p).map_err(|e| BuildError::io("read", &p, e))?;
            Ok((p, bytes))
        };
        Ok(Self {
            files: paths
                .into_iter()
                .map(read)
                .collect::<Result<_, BuildError>>()?,
        })
    }

    /// Reads one series of a kernel.
    pub(crate) fn of(series: &ResolvedSeries) -> Result<Self, BuildError> {
        match &series.reference {
            SeriesRef::Named(_) => Self::read(&series.path),
            SeriesRef::Path(path) => Self::read(&here(path)),
        }
    }

    /// Adds the content, in order, to a key.
    pub(crate) fn hash_into(&self, hasher: &mut blake3::Hasher) {
        for (_, bytes) in &self.files {
            hasher
                .update(&(bytes.len() as u64).to_le_bytes())
                .update(bytes);
        }
    }
}

/// One patch, ready to apply.
struct Patch {
    /// For people: the file, and the subject where there is one.
    label: String,
    /// Its subject, or the name of its file.
    title: String,
    file: Utf8PathBuf,
    text: String,
}

/// What a series does to a source.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The changed files, those of `onto` included.
    pub(crate) overlay: Overlay,
    /// The patches' labels, in order.
    pub(crate) patches: Vec<String>,
}

/// Applies `series` to `source` with `onto` on top of it. `scratch` is an empty directory; `base`
/// names the kernel in errors; `on_patch` hears of each patch before it is applied.
pub(crate) fn apply(
    series: &[SeriesFiles],
    source: &Utf8Path,
    onto: &Overlay,
    scratch: &Utf8Path,
    base: &str,
    on_patch: impl FnMut(&str),
) -> Result<Applied, BuildError> {
    let applied = apply_in(series, source, onto, scratch, base, on_patch);
    let removed = remove(scratch);
    applied.and_then(|applied| removed.map(|()| applied))
}

fn apply_in(
    series: &[SeriesFiles],
    source: &Utf8Path,
    onto: &Overlay,
    scratch: &Utf8Path,
    base: &str,
    mut on_patch: impl FnMut(&str),
) -> Result<Applied, BuildError> {
    let files = scratch.join("tree");
    create_dir(&files)?;
    let patches = split_all(series, &scratch.join("mails"))?;
    let mut touched: BTreeSet<Utf8PathBuf> = BTreeSet::new();
    let before = |path: &Utf8Path| match onto.get(path) {
        Some(change) => Ok(change.clone()),
        None => Change::read(&source.join(path)),
    };
    for patch in &patches {
        on_patch(&patch.label);
        for path in named_files(&patch.text) {
            if touched.insert(path.clone()) {
                before(&path)?.write(&files.join(&path))?;
            }
        }
        apply_one(patch, &files, base)?;
    }
    let mut overlay = onto.clone();
    for path in touched {
        let after = Change::read(&files.join(&path))?;
        // A file that a later patch puts back must not look new to make.
        if after != before(&path)? {
            overlay.set(path, after)?;
        }
    }
    Ok(Applied {
        overlay,
        patches: patches.into_iter().map(|p| p.label).collect(),
    })
}

fn split_all(series: &[SeriesFiles], mails: &Utf8Path) -> Result<Vec<Patch>, BuildError> {
    let mut patches = Vec::new();
    for (index, one) in series.iter().enumerate() {
        for (number, (path, bytes)) in one.files.iter().enumerate() {
            let dir = mails.join(format!("{index}-{number}"));
            split(path, bytes, &dir, &mut patches)?;
        }
    }
    Ok(patches)
}

/// A patch of a series in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePatch {
    /// The file: a bare diff.
    pub path: Utf8PathBuf,
    /// What its mail's subject says, or the name of the file that it came in.
    pub title: String,
}

/// Writes every patch of some series to a file of its own in `into`, in the order of their
/// application.
///
/// # Errors
/// Where a series can't be read or holds no patch, and where the files can't be written.
pub fn write_patches(
    series: &[ResolvedSeries],
    into: &Utf8Path,
) -> Result<Vec<OnePatch>, BuildError> {
    let series: Vec<SeriesFiles> = series
        .iter()
        .map(SeriesFiles::of)
        .collect::<Result<_, _>>()?;
    create_dir(into)?;
    let scratch = into.join("mails");
    let mut out = Vec::new();
    for (number, patch) in split_all(&series, &scratch)?.into_iter().enumerate() {
        let path = into.join(format!("{:04}.patch", number + 1));
        fs_err::copy(&patch.file, &path).map_err(|e| BuildError::io("write", &path, e))?;
        out.push(OnePatch {
            path,
            title: patch.title,
        });
    }
    remove(&scratch)?;
    Ok(out)
}

fn git(dir: &Utf8Path) -> Command {
    let mut cmd = proc::command("git");
    // Neither a repository around the cache nor the user's settings have a say.
    cmd.current_dir(dir)
        .env(
            "GIT_CEILING_DIRECTORIES",
            dir.parent().unwrap_or(dir).as_str(),
        )
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    cmd
}

/// Takes a file apart into patches: a bare diff is one, anything else is mail.
fn split(
    path: &Utf8Path,
    bytes: &[u8],
    dir: &Utf8Path,
    patches: &mut Vec<Patch>,
) -> Result<(), BuildError> {
    let name = path.file_name().unwrap_or(path.as_str());
    let text = String::from_utf8_lossy(bytes);
    if text.starts_with("diff ") || text.starts_with("--- ") || text.starts_with("Index: ") {
        create_dir(dir)?;
        let file = dir.join("bare");
        fs_err::write(&file, bytes).map_err(|e| BuildError::io("write", &file, e))?;
        patches.push(Patch {
            label: name.to_owned(),
            title: name.to_owned(),
            file,
            text: text.into_owned(),
        });
        return Ok(());
    }
    let split = dir.join("split");
    create_dir(&split)?;
    let copy = dir.join("mbox");
    fs_err::write(&copy, bytes).map_err(|e| BuildError::io("write", &copy, e))?;
    let not_mail = |e: BuildError| match e {
        BuildError::Command { detail, .. } => BuildError::Request {
            message: format!("{path} is no patch and no mbox: {detail}"),
            remedy: "give what git format-patch or b4 writes".to_owned(),
        },
        other => other,
    };
    proc::run(
        git(dir).args(["mailsplit", "-b", &format!("-o{split}"), copy.as_str()]),
        "split",
    )
    .map_err(not_mail)?;
    let read = || -> std::io::Result<Vec<Utf8PathBuf>> {
        split.read_dir_utf8()?.map(|e| Ok(e?.into_path())).collect()
    };
    let mut mails = read().map_err(|e| BuildError::io("read", &split, e))?;
    mails.sort();
    let found_before = patches.len();
    for (number, mail) in mails.iter().enumerate() {
        let file = dir.join(format!("patch{number:04}"));
        let message = dir.join(format!("message{number:04}"));
        let input = fs_err::File::open(mail).map_err(|e| BuildError::io("read", mail, e))?;
        let info = proc::run(
            git(dir)
                .args(["mailinfo", message.as_str(), file.as_str()])
                .stdin(input.into_file()),
            "read the mail",
        )
        .map_err(not_mail)?;
        let bytes = fs_err::read(&file).map_err(|e| BuildError::io("read", &file, e))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !text
            .lines()
            .any(|l| l.starts_with("diff --git ") || l.starts_with("+++ "))
        {
            // A cover letter or a reply.
            continue;
        }
        let subject = info
            .lines()
            .find_map(|l| l.strip_prefix("Subject: "))
            .unwrap_or_default();
        let (label, title) = match subject {
            "" => (name.to_owned(), name.to_owned()),
            subject => (
                format!("{name} (“{}”)", escape(subject)),
                subject.to_owned(),
            ),
        };
        patches.push(Patch {
            label,
            title,
            file,
            text,
        });
    }
    if patches.len() == found_before {
        return Err(BuildError::Request {
            message: format!("{path} holds no patch"),
            remedy: "give what git format-patch or b4 writes".to_owned(),
        });
    }
    Ok(())
}

/// Every file that a patch may need or make.
pub(super) fn named_files(text: &str) -> BTreeSet<Utf8PathBuf> {
    let mut names = BTreeSet::new();
    let mut add = |name: &str| {
        let name = Utf8PathBuf::from(name);
        if is_inside(&name) {
            names.insert(name);
        }
    };
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("--- ")
            .or_else(|| line.strip_prefix("+++ "))
        {
            let name = name.split('\t').next().unwrap_or_default().trim_end();
            if let Some((_, rest)) = name.split_once('/') {
                add(rest);
            }
        } else if let Some(name) = ["rename from ", "rename to ", "copy from ", "copy to "]
            .iter()
            .find_map(|start| line.strip_prefix(start))
        {
            add(name);
        } else if let Some((_, name)) = line
            .strip_prefix("diff --git ")
            .and_then(|rest| rest.split_once(" b/"))
        {
            add(name);
        }
    }
    names
}

fn apply_one(patch: &Patch, tree: &Utf8Path, base: &str) -> Result<(), BuildError> {
    let out = proc::output(git(tree).args([
        "apply",
        "--whitespace=nowarn",
        "-p1",
        "--",
        patch.file.as_str(),
    ]))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(BuildError::Patch(Box::new(explain(
        &patch.label,
        &patch.text,
        base,
        &said,
    ))))
}

/// Makes sense of what `git apply` says: which file, and which of the patch's hunks for it.
pub(super) fn explain(label: &str, text: &str, base: &str, said: &str) -> PatchFailure {
    let errors: Vec<&str> = said
        .lines()
        .filter_map(|l| l.strip_prefix("error: "))
        .collect();
    let mut failure = PatchFailure {
        patch: label.to_owned(),
        base: base.to_owned(),
        file: None,
        hunk: None,
        detail: errors.join("; "),
    };
    let place = errors.iter().find_map(|e| {
        let (file, line) = e.strip_prefix("patch failed: ")?.rsplit_once(':')?;
        Some((file, line.parse::<u64>().ok()?))
    });
    if let Some((file, line)) = place {
        failure.file = Some(file.to_owned());
        failure.detail = format!("{file} around line {line} is not what the patch expects");
        if let Some(hunk) = find_hunk(text, file, line) {
            failure.detail =
                format!("{file}, {hunk}: the file is not what the patch expects there");
            failure.hunk = Some(hunk);
        }
    } else if let Some((file, why)) = errors.iter().find_map(|e| e.split_once(": ")) {
        failure.file = Some(file.to_owned());
        failure.detail = format!("{file}: {}", why.to_lowercase());
    }
    if failure.detail.is_empty() {
        failure.detail = said.trim().to_owned();
    }
    // The patch may be a stranger's.
    failure.detail = escape(&failure.detail);
    for text in [&mut failure.file, &mut failure.hunk].into_iter().flatten() {
        *text = escape(text);
    }
    failure
}

/// The hunk of `file` whose old part begins at `line`, in words.
pub(super) fn find_hunk(text: &str, file: &str, line: u64) -> Option<String> {
    let mut inside = false;
    let mut hunks: Vec<(u64, &str)> = Vec::new();
    for one in text.lines() {
        if let Some(name) = one
            .strip_prefix("--- ")
            .or_else(|| one.strip_prefix("+++ "))
        {
            let name = name.split('\t').next().unwrap_or_default();
            let named = name.split_once('/').is_some_and(|(_, rest)| rest == file);
            // The two names of a file stand in two lines, of which one may be /dev/null.
            inside = named || (inside && one.starts_with("+++ "));
        } else if one.starts_with("diff --git ") {
            inside = false;
        } else if inside && let Some(rest) = one.strip_prefix("@@ -") {
            let start = rest.split([',', ' ']).next()?.parse().ok()?;
            hunks.push((start, one));
        }
    }
    let index = hunks.iter().position(|(start, _)| *start == line)?;
    Some(format!(
        "hunk {} of {} (`{}`)",
        index + 1,
        hunks.len(),
        hunks[index].1.trim_end()
    ))
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
