//! The kernel's own hmm-tests, from its own tree: their ioctl numbers differ between eras, so each
//! kernel runs its own.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::artifact::HmmTests;
use super::error::BuildError;
use super::proc;
use super::toolchain::Toolchain;

/// Compiles hmm-tests of the kernel in `tree` into the static program `out`. That they don't
/// compile is no error: the kernel itself is as good without them.
pub(crate) fn build(
    tree: &Utf8Path,
    out: &Utf8Path,
    toolchain: &Toolchain,
) -> Result<HmmTests, BuildError> {
    // The directory was renamed in 6.3.
    let dirs = ["tools/testing/selftests/mm", "tools/testing/selftests/vm"];
    let Some(dir) = dirs
        .iter()
        .map(|d| tree.join(d))
        .find(|d| d.join("hmm-tests.c").is_file())
    else {
        return Ok(HmmTests::Failed {
            reason: "this tree has no hmm-tests.c".to_owned(),
        });
    };
    let (sources, headers) = closure(&dir, "hmm-tests.c");
    let mut cmd = proc::command(&toolchain.cc);
    cmd.args([
        "-w",
        "-O2",
        "-static",
        "-s",
        "-pthread",
        "-U_FORTIFY_SOURCE",
    ])
    .arg(format!("-ffile-prefix-map={tree}=/linux"))
    // The order of selftests/lib.mk; the tree's own copies of the system's headers win.
    .args([
        "-I",
        tree.as_str(),
        "-I",
        tree.join("tools/testing/selftests").as_str(),
        "-I",
        dir.as_str(),
    ])
    .args(["-isystem", tree.join("tools/include/uapi").as_str()])
    .args(&sources)
    .args(["-o", out.as_str()]);
    if headers.contains("hugetlbfs.h") {
        cmd.arg("-lhugetlbfs");
    }
    cmd.args(["-lrt", "-lm"]);
    let done = proc::output(&mut cmd)?;
    if done.status.success() {
        return Ok(HmmTests::Built);
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let mut reason: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("error") || l.contains("cannot find"))
        .take(3)
        .collect();
    if reason.is_empty() {
        reason = said.lines().take(3).collect();
    }
    let mut reason = reason.join("; ").replace(tree.as_str(), "");
    if reason.contains("hugetlbfs") {
        reason.push_str("; install the package libhugetlbfs-dev, and build this kernel again");
    }
    Ok(HmmTests::Failed { reason })
}

/// The sources that a program is made of: for each header of its own directory that is included,
/// the source of the same name, if there is one. And all headers that are included.
fn closure(dir: &Utf8Path, first: &str) -> (Vec<Utf8PathBuf>, BTreeSet<String>) {
    let mut sources = vec![dir.join(first)];
    let mut headers = BTreeSet::new();
    let mut read = 0;
    let mut files = sources.clone();
    while let Some(file) = files.get(read).cloned() {
        read += 1;
        let Ok(bytes) = std::fs::read(&file) else {
            continue;
        };
        for line in String::from_utf8_lossy(&bytes).lines() {
            let Some(rest) = line.trim().strip_prefix("#include") else {
                continue;
            };
            let name = rest.trim().trim_matches(['"', '<', '>']);
            if !headers.insert(name.to_owned()) {
                continue;
            }
            let own = name.strip_prefix("mm/").unwrap_or(name);
            if own.contains('/') || !dir.join(own).is_file() {
                continue;
            }
            files.push(dir.join(own));
            let source = dir.join(own).with_extension("c");
            if source.is_file() && !sources.contains(&source) {
                files.push(source.clone());
                sources.push(source);
            }
        }
    }
    (sources, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_own_headers_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        for (name, text) in [
            (
                "hmm-tests.c",
                "#include <stdio.h>\n#include \"../kselftest_harness.h\"\n#include <mm/vm_util.h>\n#include \"vm_util.h\"\n",
            ),
            ("vm_util.h", "#include \"settings.h\"\n"),
            (
                "vm_util.c",
                "#include \"vm_util.h\"\n#include <hugetlbfs.h>\n",
            ),
            ("settings.h", ""),
            ("settings.c", ""),
            ("other.c", ""),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        let (sources, headers) = closure(root, "hmm-tests.c");
        let names: Vec<_> = sources.iter().filter_map(|s| s.file_name()).collect();
        assert_eq!(names, ["hmm-tests.c", "vm_util.c", "settings.c"]);
        assert!(headers.contains("hugetlbfs.h"));
    }
}
