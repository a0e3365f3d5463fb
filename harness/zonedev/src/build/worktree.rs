//! The tree that `make` works in: sources shared with the pristine copy by hard links, objects
//! copied from the base's finished build with their times, so that make rebuilds only what a
//! patch touches.

use std::collections::{BTreeSet, HashSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::cache::{create_dir, remove};
use super::error::BuildError;
use super::overlay::{Overlay, is_inside};

/// Calls `visit` for everything below `dir` (parents first) with its path from there; what it
/// refuses is left out, with all below.
pub(crate) fn walk(
    dir: &Utf8Path,
    visit: &mut dyn FnMut(&Utf8Path, &camino::Utf8DirEntry) -> Result<bool, BuildError>,
) -> Result<(), BuildError> {
    let mut todo = vec![Utf8PathBuf::new()];
    while let Some(below) = todo.pop() {
        let place = dir.join(&below);
        let entries = place
            .read_dir_utf8()
            .map_err(|e| BuildError::io("read", &place, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| BuildError::io("read", &place, e))?;
            let path = below.join(entry.file_name());
            let kind = entry
                .file_type()
                .map_err(|e| BuildError::io("read", entry.path(), e))?;
            if visit(&path, &entry)? && kind.is_dir() {
                todo.push(path);
            }
        }
    }
    Ok(())
}

fn copy_link(from: &Utf8Path, to: &Utf8Path) -> Result<(), BuildError> {
    let target = from
        .read_link_utf8()
        .map_err(|e| BuildError::io("read", from, e))?;
    std::os::unix::fs::symlink(target, to).map_err(|e| BuildError::io("write", to, e))
}

/// Makes `work` the files of `pristine` with `overlay` on top, and nothing else but objects. The
/// hard links of an earlier build stay; what it changed is written down in `state` before it is
/// changed, and put back first.
pub(crate) fn lay_out(
    pristine: &Utf8Path,
    work: &Utf8Path,
    state: &Utf8Path,
    overlay: &Overlay,
) -> Result<(), BuildError> {
    let known = std::fs::read_to_string(state).ok();
    let changed = known.and_then(|text| serde_json::from_str::<Vec<Utf8PathBuf>>(&text).ok());
    match changed.filter(|_| work.is_dir()) {
        Some(changed) => {
            for path in changed.iter().filter(|p| is_inside(p)) {
                put_back(&pristine.join(path), &work.join(path))?;
            }
        }
        None => {
            remove(state)?;
            remove(work)?;
            link_sources(pristine, work)?;
        }
    }
    let paths: Vec<&Utf8Path> = overlay.paths().collect();
    let text = serde_json::to_string(&paths).map_err(|e| BuildError::Command {
        what: format!("write {state}"),
        detail: e.to_string(),
    })?;
    let temp = state.with_extension("new");
    fs_err::write(&temp, text).map_err(|e| BuildError::io("write", &temp, e))?;
    fs_err::rename(&temp, state).map_err(|e| BuildError::io("write", state, e))?;
    overlay.apply(work)
}

fn put_back(from: &Utf8Path, to: &Utf8Path) -> Result<(), BuildError> {
    remove(to)?;
    let Ok(meta) = from.symlink_metadata() else {
        return Ok(());
    };
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    if meta.is_symlink() {
        return copy_link(from, to);
    }
    std::fs::hard_link(from, to).map_err(|e| BuildError::io("link", to, e))
}

/// Makes `to` a tree of the same files as `from`, by hard links.
pub(crate) fn link_sources(from: &Utf8Path, to: &Utf8Path) -> Result<(), BuildError> {
    create_dir(to)?;
    walk(from, &mut |path, entry| {
        let kind = entry
            .file_type()
            .map_err(|e| BuildError::io("read", entry.path(), e))?;
        let target = to.join(path);
        if kind.is_dir() {
            create_dir(&target)?;
        } else if kind.is_symlink() {
            copy_link(entry.path(), &target)?;
        } else {
            std::fs::hard_link(entry.path(), &target)
                .map_err(|e| BuildError::io("link", &target, e))?;
        }
        Ok(true)
    })
}

/// Gives files of `work` the time of the pristine tree's Makefile: older than any object.
pub(crate) fn make_old<'a>(
    work: &Utf8Path,
    pristine: &Utf8Path,
    files: impl Iterator<Item = &'a Utf8PathBuf>,
) -> Result<(), BuildError> {
    let makefile = pristine.join("Makefile");
    for path in files {
        let path = work.join(path);
        if !path.is_file() || path.is_symlink() {
            continue;
        }
        let set = || -> std::io::Result<()> {
            let old = makefile.metadata()?.modified()?;
            std::fs::File::options()
                .write(true)
                .open(&path)?
                .set_modified(old)
        };
        set().map_err(|e| BuildError::io("write", &path, e))?;
    }
    Ok(())
}

/// What the last steps of a build make anew each time; not worth keeping.
pub(crate) fn is_final_product(path: &Utf8Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    match path.parent().map(Utf8Path::as_str) {
        Some("") => {
            name == "vmlinux"
                || name == "vmlinux.o"
                || name == "vmlinux.unstripped"
                || name.starts_with(".tmp_vmlinux")
                || name.starts_with(".btf.")
        }
        Some("arch/x86/boot/compressed") => name == "vmlinux" || name.starts_with("vmlinux.bin"),
        _ => false,
    }
}

/// Copies the objects of a finished build, with their times.
pub(crate) fn copy_objects(from: &Utf8Path, to: &Utf8Path) -> Result<(), BuildError> {
    create_dir(to)?;
    walk(from, &mut |path, entry| {
        let kind = entry
            .file_type()
            .map_err(|e| BuildError::io("read", entry.path(), e))?;
        let target = to.join(path);
        if kind.is_dir() {
            create_dir(&target)?;
        } else if kind.is_symlink() {
            copy_link(entry.path(), &target)?;
        } else if kind.is_file() && !is_final_product(path) {
            let fail = |e| BuildError::io("copy to", &target, e);
            let modified = entry.metadata().and_then(|m| m.modified()).map_err(fail)?;
            std::fs::copy(entry.path(), &target).map_err(fail)?;
            let file = std::fs::File::options()
                .write(true)
                .open(&target)
                .map_err(fail)?;
            file.set_modified(modified).map_err(fail)?;
        }
        Ok(true)
    })
}

/// What is kept in a directory, the last one that was put there last.
pub(crate) fn by_age(dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.into_path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// How many objects of a finished build an overlay makes old, and how many there are.
pub(crate) fn outdated(build: &Utf8Path, overlay: &Overlay) -> Result<(u64, u64), BuildError> {
    let changed: BTreeSet<&Utf8Path> = overlay.paths().collect();
    let sources = changed
        .iter()
        .filter(|p| matches!(p.extension(), Some("c" | "S")))
        .count() as u64;
    let headers = changed
        .iter()
        .any(|p| !matches!(p.extension(), Some("c" | "S")));
    let names: HashSet<String> = changed.iter().map(|p| format!("../{p}")).collect();
    let (mut old, mut all) = (0, 0);
    walk(build, &mut |path, entry| {
        let name = path.file_name().unwrap_or_default();
        if name.starts_with('.')
            && name.ends_with(".o.cmd")
            && !path.starts_with("scripts")
            && !path.starts_with("tools")
        {
            all += 1;
            // A source is used by one object; only for headers need we read who uses them.
            if headers {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let uses = |line: &str| names.contains(line.trim_end_matches('\\').trim());
                old += u64::from(
                    text.lines()
                        .any(|l| uses(l) || l.split(' ').any(|w| names.contains(w))),
                );
            }
        }
        Ok(true)
    })?;
    Ok((if headers { old } else { sources }, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::overlay::Change;
    use std::time::{Duration, SystemTime};

    #[test]
    fn objects_keep_their_times_and_the_final_products_stay_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let from = root.join("from");
        for file in [
            "mm/memory.o",
            "vmlinux",
            ".tmp_vmlinux.btf",
            "arch/x86/boot/compressed/vmlinux.bin.gz",
            "arch/x86/boot/compressed/misc.o",
        ] {
            std::fs::create_dir_all(from.join(file).parent().unwrap()).unwrap();
            std::fs::write(from.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("..", from.join("source")).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 123_456_789);
        std::fs::File::options()
            .write(true)
            .open(from.join("mm/memory.o"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        let to = root.join("to");
        copy_objects(&from, &to).unwrap();
        assert_eq!(
            to.join("mm/memory.o")
                .metadata()
                .unwrap()
                .modified()
                .unwrap(),
            old
        );
        assert!(to.join("arch/x86/boot/compressed/misc.o").exists());
        assert!(!to.join("vmlinux").exists() && !to.join(".tmp_vmlinux.btf").exists());
        assert!(!to.join("arch/x86/boot/compressed/vmlinux.bin.gz").exists());
        assert_eq!(to.join("source").read_link_utf8().unwrap(), "..");
    }

    #[test]
    fn what_an_earlier_build_changed_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let (pristine, work, state) = (root.join("p"), root.join("w"), root.join("state"));
        std::fs::create_dir_all(pristine.join("mm")).unwrap();
        for name in ["mm/a.c", "mm/b.c"] {
            std::fs::write(pristine.join(name), "old").unwrap();
        }
        let mut overlay = Overlay::default();
        let new = Change::File {
            bytes: b"new".to_vec(),
            executable: false,
        };
        overlay.set("mm/a.c".into(), new.clone()).unwrap();
        overlay.set("mm/b.c".into(), Change::Remove).unwrap();
        overlay.set("mm/sub/c.c".into(), new).unwrap();
        lay_out(&pristine, &work, &state, &overlay).unwrap();
        assert_eq!(std::fs::read_to_string(work.join("mm/a.c")).unwrap(), "new");
        assert!(!work.join("mm/b.c").exists() && work.join("mm/sub/c.c").exists());
        std::fs::create_dir(work.join("build")).unwrap();

        lay_out(&pristine, &work, &state, &Overlay::default()).unwrap();
        for name in ["mm/a.c", "mm/b.c"] {
            use std::os::unix::fs::MetadataExt;
            let inode = |p: &Utf8Path| p.join(name).metadata().unwrap().ino();
            assert_eq!(inode(&pristine), inode(&work), "{name}");
        }
        assert!(!work.join("mm/sub/c.c").exists());
        assert!(work.join("build").exists(), "the tree was kept");

        // A tree of which nothing is known is made anew.
        std::fs::remove_file(&state).unwrap();
        std::fs::write(work.join("mm/stray.c"), "").unwrap();
        lay_out(&pristine, &work, &state, &Overlay::default()).unwrap();
        assert!(!work.join("mm/stray.c").exists() && work.join("mm/a.c").exists());
    }

    #[test]
    fn who_uses_a_header_is_counted_by_what_the_compiler_wrote_down() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        std::fs::create_dir_all(root.join("mm")).unwrap();
        std::fs::create_dir_all(root.join("scripts")).unwrap();
        let deps = "source_mm/a.o := ../mm/a.c\n\ndeps_mm/a.o := \\\n  ../include/linux/mm.h \\\n  include/x.h\n";
        std::fs::write(root.join("mm/.a.o.cmd"), deps).unwrap();
        std::fs::write(root.join("mm/.b.o.cmd"), deps.replace("mm.h", "fs.h")).unwrap();
        std::fs::write(root.join("scripts/.c.o.cmd"), deps).unwrap();
        let overlay = |path: &str| {
            let mut overlay = Overlay::default();
            overlay.set(path.into(), Change::Remove).unwrap();
            overlay
        };
        assert_eq!(
            outdated(root, &overlay("include/linux/mm.h")).unwrap(),
            (1, 2)
        );
        assert_eq!(
            outdated(root, &overlay("include/linux/dax.h")).unwrap(),
            (0, 2)
        );
        assert_eq!(outdated(root, &overlay("mm/a.c")).unwrap(), (1, 2));
    }
}
