//! Accepted observations on disk: insta's file format and names, so that `cargo insta review`
//! shows them. insta's own macros panic and look for a path compiled in, so the few lines are
//! written here; a test has insta read them.

use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

use crate::record::CellId;

/// Why a snapshot can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system said no; the message names the path.
    #[error("use a snapshot: {0}")]
    Io(#[from] std::io::Error),
    /// It has no front matter.
    #[error(
        "read the snapshot {0}: it doesn't start with insta's `---` header; remove it or accept it anew"
    )]
    Form(Utf8PathBuf),
}

/// `SUITE__FIXTURE__CASE@CONTRACT`: the snapshot's name without its ending.
pub fn snapshot_name(id: &CellId, contract: &str) -> String {
    let safe = |text: &str| -> String {
        let keep = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
        text.chars()
            .map(|c| if keep(c) { c } else { '_' })
            .collect()
    };
    format!(
        "{}__{}__{}@{}",
        safe(&id.suite),
        safe(&id.fixture),
        safe(&id.case),
        safe(contract)
    )
}

/// Where the accepted snapshot of a cell lies within a folder.
pub fn snapshot_path(dir: &Utf8Path, id: &CellId, contract: &str) -> Utf8PathBuf {
    dir.join(format!("{}.snap", snapshot_name(id, contract)))
}

/// The file in use for a cell: its kernel's own where somebody accepted one, as for tests that only
/// its tree has; else the one of all kernels of its contract.
fn in_use(dir: &Utf8Path, id: &CellId, contract: &str) -> Utf8PathBuf {
    let own = snapshot_path(dir, id, &id.kernel);
    if own.exists() {
        own
    } else {
        snapshot_path(dir, id, contract)
    }
}

/// Where an observation of a cell goes that nobody has accepted yet: to all kernels of its contract,
/// or to this one alone where its contract's is there already, which others read as.
pub fn place(dir: &Utf8Path, id: &CellId, contract: &str) -> Utf8PathBuf {
    let [own, shared] = [id.kernel.as_str(), contract].map(|of| snapshot_path(dir, id, of));
    if shared.exists() { own } else { shared }
}

/// The text of a snapshot file. `source` is the file that the snapshot belongs to, relative to
/// the workspace; `expression` says in words what was looked at, `reason` why it is accepted.
pub fn encode(source: &str, expression: &str, reason: Option<&str>, contents: &str) -> String {
    let mut out = String::from("---\n");
    // JSON's strings are YAML's double-quoted ones.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let _ = writeln!(out, "source: {}", quoted(source));
    if let Some(reason) = reason {
        let _ = writeln!(out, "description: {}", quoted(reason));
    }
    let _ = writeln!(out, "expression: {}", quoted(expression));
    out.push_str("---\n");
    out.push_str(contents.trim_end());
    out.push('\n');
    out
}

/// The contents of a snapshot file, without front matter; `None` where it has none.
pub fn decode(text: &str) -> Option<String> {
    let text = text.replace("\r\n", "\n");
    let rest = text.strip_prefix("---\n")?;
    let (_, contents) = rest
        .split_once("\n---\n")
        .or_else(|| Some(("", rest.strip_prefix("---\n")?)))?;
    Some(contents.trim_end().to_owned())
}

/// The accepted text of a cell, where there is one.
///
/// # Errors
/// Where the file can't be read or has no header.
pub fn accepted(
    dir: &Utf8Path,
    id: &CellId,
    contract: &str,
) -> Result<Option<String>, SnapshotError> {
    let path = in_use(dir, id, contract);
    match fs::read_to_string(&path) {
        Ok(text) => decode(&text).map(Some).ok_or(SnapshotError::Form(path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether an observation reads as its accepted snapshot.
pub fn agrees(accepted: &str, observation: &str) -> bool {
    accepted.trim_end() == observation.trim_end()
}

/// Leaves `NAME.snap.new` for review where the observation isn't the accepted one, and removes
/// one that no longer says anything. Gives the path where one was left: the kernel's own file, where
/// its contract has one already that other kernels read as.
///
/// # Errors
/// Where the folder can't be written.
pub fn propose(
    dir: &Utf8Path,
    source: &str,
    id: &CellId,
    contract: &str,
    observation: &str,
) -> Result<Option<Utf8PathBuf>, SnapshotError> {
    let own = snapshot_path(dir, id, &id.kernel);
    if accepted(dir, id, contract)?.is_some_and(|a| agrees(&a, observation)) {
        match fs::remove_file(pending(&own)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        return Ok(None);
    }
    let new = pending(&place(dir, id, contract));
    fs::create_dir_all(dir)?;
    let text = encode(source, &expression(id, contract), None, observation);
    fs::write(&new, text)?;
    Ok(Some(new))
}

fn pending(path: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.new"))
}

/// Makes an observation the accepted one of `path` (see [`place`]), for a reason, and removes what
/// was proposed there.
///
/// # Errors
/// Where the folder can't be written.
pub fn accept(
    path: &Utf8Path,
    source: &str,
    (id, contract): (&CellId, &str),
    reason: &str,
    observation: &str,
) -> Result<(), SnapshotError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let part = Utf8PathBuf::from(format!("{path}.part"));
    let text = encode(source, &expression(id, contract), Some(reason), observation);
    fs::write(&part, text)?;
    fs::rename(&part, path)?;
    match fs::remove_file(pending(path)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

fn expression(id: &CellId, contract: &str) -> String {
    format!("{} under the contract {contract}", id.case_path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> CellId {
        CellId {
            suite: "fsdax".into(),
            fixture: "fsdax-ext4".into(),
            case: "map-touch".into(),
            side: 1,
            kernel: "5.10+zone-device-refcount".into(),
        }
    }

    fn temp() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn proposed_then_accepted_then_agreed() {
        let (_keep, dir) = temp();
        let text = "fsdax: x\n\nsteps\n  0 main: create\n";
        let new = propose(&dir, "suites/src/lib.rs", &id(), "5.10", text)
            .unwrap()
            .unwrap();
        assert_eq!(
            new.file_name(),
            Some("fsdax__fsdax-ext4__map-touch@5.10.snap.new")
        );
        assert_eq!(accepted(&dir, &id(), "5.10").unwrap(), None);
        fs::rename(&new, snapshot_path(&dir, &id(), "5.10")).unwrap();
        assert_eq!(propose(&dir, "s", &id(), "5.10", text).unwrap(), None);
        let other = propose(&dir, "s", &id(), "5.10", "other").unwrap().unwrap();
        assert_eq!(
            other.file_name(),
            Some("fsdax__fsdax-ext4__map-touch@5.10+zone-device-refcount.snap.new"),
            "the contract's is not this kernel's to change"
        );
        assert!(propose(&dir, "s", &id(), "5.10", text).unwrap().is_none());
        assert!(!other.exists(), "what is no longer pending goes");
        propose(&dir, "s", &id(), "5.10", "other").unwrap();
        fs::rename(&other, snapshot_path(&dir, &id(), &id().kernel)).unwrap();
        assert_eq!(accepted(&dir, &id(), "5.10").unwrap(), Some("other".into()));
        fs::remove_file(snapshot_path(&dir, &id(), &id().kernel)).unwrap();
        fs::write(snapshot_path(&dir, &id(), "5.10"), "text").unwrap();
        assert!(matches!(
            accepted(&dir, &id(), "5.10"),
            Err(SnapshotError::Form(_))
        ));
    }

    #[test]
    fn insta_reads_what_is_written() {
        let (_keep, dir) = temp();
        let text = "fsdax: \"quoted\" title\n\n---\n  held by nothing:\n    1 at refcount 1\n";
        let path = place(&dir, &id(), "5.10+a");
        let new = propose(&dir, "suites/src/lib.rs", &id(), "5.10+a", text);
        assert!(new.unwrap().unwrap().exists());
        let of = (&id(), "5.10+a");
        accept(&path, "suites/src/lib.rs", of, "it \"must\"\nbe", text).unwrap();
        assert_eq!(
            dir.read_dir_utf8().unwrap().count(),
            1,
            "nothing is pending"
        );
        let snapshot = insta::Snapshot::from_file(path.as_std_path()).unwrap();
        let meta = snapshot.metadata();
        assert_eq!(
            meta.expression(),
            Some("fsdax/fsdax-ext4/map-touch under the contract 5.10+a")
        );
        assert_eq!(meta.source(), Some("suites/src/lib.rs"));
        assert_eq!(meta.description(), Some("it \"must\"\nbe"));
        // insta's own comparison, against the same text.
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(dir.as_std_path());
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(snapshot_name(&id(), "5.10+a"), text));
        assert_eq!(
            decode(&fs::read_to_string(&path).unwrap()).as_deref(),
            Some(text.trim_end())
        );
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in "(\\PC|\n){0,80}", source in "\\PC{0,20}") {
            let read = decode(&encode(&source, "x", Some(&source), &text));
            prop_assert_eq!(read, Some(text.trim_end().to_owned()));
        }

        #[test]
        fn any_file_is_borne(text in "(-|\n|a){0,30}") {
            let _ = decode(&text);
        }
    }
}
