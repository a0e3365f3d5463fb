//! A checkout of fstests that the user names: which tests its dax group has, and the disk that
//! brings it into a guest. It must be built: its programs run in the root file system.

use std::collections::BTreeSet;

use camino::Utf8Path;
use proto::Op;

use super::cache::{create_dir, remove};
use super::context::{BuildCtx, here};
use super::error::BuildError;
use super::event::{BuildSink, Phase, Reporter};
use super::{image, proc, rootfs};
use crate::spec::{Case, Reads};

/// The group whose tests touch what we watch.
const GROUP: &str = "dax";
/// The suite that the cases belong to.
const SUITE: &str = "upstream";
/// The root file system's program that sets up `check`'s variables.
const RUN: &str = "/usr/lib/fstests/run";
/// Where the checkout is in the root file system.
const DIR: &str = "/fstests";
/// Where a checkout has its programs, and where in the disk's tree their libraries go.
const PROGRAMS: [&str; 3] = ["src", "ltp", "lib"];
const LIBRARIES: &str = ".libraries";
/// File systems, each with a fixture of the name `fstests-FS`.
const FILE_SYSTEMS: [&str; 2] = ["ext4", "xfs"];

/// The checkout's dax group as cases: each test on each file system that it is for.
pub fn fstests_cases(checkout: &Utf8Path) -> Result<Vec<Case>, BuildError> {
    let checkout = here(checkout);
    if !checkout.join("check").is_file() || !checkout.join("tests/generic").is_dir() {
        return Err(BuildError::Request {
            message: format!("{checkout} is no checkout of fstests: it has no `check` or no tests"),
            remedy: "name the top of one with --fstests".to_owned(),
        });
    }
    if !checkout.join("src/feature").is_file() {
        return Err(BuildError::Request {
            message: format!("the checkout of fstests {checkout} is not built"),
            remedy: "run `make` in it first".to_owned(),
        });
    }
    let mut out = Vec::new();
    for fs in FILE_SYSTEMS {
        for group in ["generic", fs] {
            for test in tests(&checkout.join("tests").join(group))? {
                let name = format!("fstests-{group}-{test}");
                let run = Op::Run {
                    argv: vec![RUN.into(), fs.into(), format!("{group}/{test}")],
                    root: true,
                    cwd: Some(DIR.into()),
                    minutes: Some(15),
                    poisons: false,
                };
                out.push(Case::of_program(
                    SUITE,
                    &name,
                    &format!("fstests-{fs}"),
                    run,
                    Reads::Fstests,
                ));
            }
        }
    }
    if out.is_empty() {
        return Err(BuildError::Request {
            message: format!("the checkout of fstests {checkout} has no test in the group {GROUP}"),
            remedy: "name a whole checkout".to_owned(),
        });
    }
    Ok(out)
}

/// The tests of a directory that are in the group: by its group file (which newer checkouts
/// generate as group.list), or by what the tests themselves say.
fn tests(dir: &Utf8Path) -> Result<BTreeSet<String>, BuildError> {
    for name in ["group.list", "group"] {
        if let Ok(text) = std::fs::read_to_string(dir.join(name)) {
            return Ok(listed(&text));
        }
    }
    let Ok(entries) = dir.read_dir_utf8() else {
        return Ok(BTreeSet::new());
    };
    let mut out = BTreeSet::new();
    for entry in entries.flatten().filter(|e| is_number(e.file_name())) {
        let bytes =
            fs_err::read(entry.path()).map_err(|e| BuildError::io("read", entry.path(), e))?;
        if says_group(&String::from_utf8_lossy(&bytes)) {
            out.insert(entry.file_name().to_owned());
        }
    }
    Ok(out)
}

/// `413 auto quick dax`, a line a test.
fn listed(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let test = words.next().filter(|t| is_number(t))?;
            words.any(|w| w == GROUP).then(|| test.to_owned())
        })
        .collect()
}

/// `_begin_fstest auto quick dax`.
fn says_group(text: &str) -> bool {
    text.lines()
        .find_map(|l| l.strip_prefix("_begin_fstest "))
        .is_some_and(|groups| groups.split_whitespace().any(|w| w == GROUP))
}

fn is_number(name: &str) -> bool {
    name.len() >= 3 && name.chars().all(|c| c.is_ascii_digit())
}

/// A disk with the checkout, without its git repository. Made anew each time, since nothing tells
/// whether a tree of this size changed.
pub fn fstests_disk(
    ctx: &BuildCtx,
    checkout: &Utf8Path,
    dir: &Utf8Path,
    sink: &dyn BuildSink,
) -> Result<camino::Utf8PathBuf, BuildError> {
    let report = Reporter::new("fstests", sink);
    report.phase(Phase::Prepare, "a disk with the checkout");
    let lock = ctx.cache.lock("fstests", &report)?;
    let temp = ctx.cache.temp(&lock, "fstests")?;
    let copy = temp.join("tree");
    create_dir(&copy)?;
    super::source::pipe(
        proc::command("tar")
            .args(["-c", "--exclude=./.git", "--exclude=./results", "-C"])
            .args([here(checkout).as_str(), "."]),
        proc::command("tar").args(["-x", "--no-same-owner", "-C", copy.as_str()]),
        "copy the checkout of fstests",
        &copy,
    )?;
    libraries(&copy)?;
    let file = dir.join("fstests.erofs");
    rootfs::erofs(&copy, &file)?;
    remove(&temp)?;
    Ok(file)
}

/// Puts the libraries of the checkout's programs beside them, as this host has them: the root file
/// system takes those that it lacks. (Seen: `libaio.so.1`, which newer distributions name anew.)
fn libraries(copy: &Utf8Path) -> Result<(), BuildError> {
    let to = copy.join(LIBRARIES);
    create_dir(&to)?;
    for dir in PROGRAMS {
        let Ok(entries) = copy.join(dir).read_dir_utf8() else {
            continue;
        };
        for program in entries.flatten().filter(|e| is_elf(e.path())) {
            for library in image::libraries(&[program.path()])? {
                let Some(name) = library.file_name() else {
                    continue;
                };
                if !to.join(name).exists() {
                    fs_err::copy(&library, to.join(name))
                        .map_err(|e| BuildError::io("copy", &library, e))?;
                }
            }
        }
    }
    Ok(())
}

fn is_elf(path: &Utf8Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dax_group_in_old_and_new_checkouts() {
        assert_eq!(
            listed("# c\n413 auto quick dax # why\n414 auto clone\n462 dax\nabc dax\n"),
            BTreeSet::from(["413".to_owned(), "462".to_owned()])
        );
        assert!(says_group(
            "#! /bin/bash\n. ./common/preamble\n_begin_fstest auto quick dax prealloc\n"
        ));
        assert!(!says_group("_begin_fstest auto quick daxx\n"));
    }

    #[test]
    fn a_checkout_makes_cases_for_each_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), text).unwrap();
        };
        write("check", "");
        write("tests/generic/413", "_begin_fstest auto quick dax\n");
        write("tests/generic/001", "_begin_fstest auto\n");
        write("tests/xfs/group.list", "260 auto dax\n");
        let e = fstests_cases(root).unwrap_err();
        assert!(e.to_string().contains("is not built"), "{e}");
        write("src/feature", "");
        let cases = fstests_cases(root).unwrap();
        let names: Vec<_> = cases
            .iter()
            .map(|c| format!("{}/{}", c.fixtures[0], c.name))
            .collect();
        assert_eq!(
            names,
            [
                "fstests-ext4/fstests-generic-413",
                "fstests-xfs/fstests-generic-413",
                "fstests-xfs/fstests-xfs-260",
            ]
        );
    }
}
