//! A kernel's own mm selftests, from its own tree: their ioctl numbers and what they expect differ
//! between eras, so each kernel runs its own. They are built apart from the kernel, each when a
//! case first needs it, and kept by what they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};

use super::artifact::KernelArtifact;
use super::cache::{create_dir, remove};
use super::context::{BuildCtx, here};
use super::error::BuildError;
use super::event::{BuildSink, Phase, Reporter};
use super::overlay::Overlay;
use super::series::{self, SeriesFiles};
use super::source::{self, Identified};
use super::toolchain::Toolchain;
use super::{proc, worktree};
use crate::spec::{ResolvedKernel, SelftestSpec, SeriesRef};

/// Changes whenever the way we compile them changes what comes out.
const RECIPE: &str = "zonedev selftest 2";

/// The parts of a tree that selftests are made of.
const PARTS: [&str; 6] = [
    "tools/testing/selftests",
    "tools/include",
    "tools/arch/x86/include",
    "arch/x86/include/uapi",
    "lib",
    "mm",
];

/// Selftests by name: where the program is, or why there is none.
pub type Selftests = BTreeMap<String, Result<Utf8PathBuf, String>>;

/// Builds the selftests `names` of a kernel, or finds them in the cache. That one does not compile
/// is no error: the kernel is as good without it.
pub fn build_selftests(
    ctx: &BuildCtx,
    spec: &SelftestSpec,
    kernel: &ResolvedKernel,
    artifact: &KernelArtifact,
    names: &BTreeSet<String>,
    sink: &dyn BuildSink,
) -> Result<Selftests, BuildError> {
    let mut out = Selftests::new();
    if names.is_empty() {
        return Ok(out);
    }
    let what = format!("selftests of {}", artifact.name);
    let report = Reporter::new(&what, sink);
    let started = Instant::now();
    let used = &artifact.record.source.used;
    let source = match source::identify(ctx, used)? {
        Some(known) => known,
        None => source::obtain(ctx, used, &report)?,
    };
    let toolchain = &artifact.record.toolchain;
    let mut made = Made {
        ctx,
        spec,
        kernel,
        source: &source,
        toolchain,
        changed: artifact.record.changed.iter().any(|p| reaches(p)),
        tree: None,
        report: &report,
    };
    let overlay = made.overlay()?;
    let mut cached = true;
    for name in names {
        let key = key(&source, &overlay, toolchain, spec, name);
        let place = ctx.cache.path("selftests", &key);
        let program = place.join(name);
        if program.is_file() {
            ctx.cache.touch(&place);
        } else {
            cached = false;
            report.started();
            if let Err(reason) = made.one(name, &overlay, &key, &place)? {
                out.insert(name.clone(), Err(reason));
                continue;
            }
        }
        out.insert(name.clone(), Ok(program));
    }
    if !cached {
        report.finished(started.elapsed(), false);
    }
    Ok(out)
}

/// Whether a changed file may change a selftest.
fn reaches(path: &Utf8Path) -> bool {
    path.starts_with("tools")
        || path.starts_with("lib")
        || (path.starts_with("mm") && path.extension() == Some("h"))
}

fn key(
    source: &Identified,
    overlay: &Overlay,
    toolchain: &Toolchain,
    spec: &SelftestSpec,
    name: &str,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let libraries = format!("{:?}", spec.libraries);
    for part in [
        RECIPE,
        &source.id,
        &toolchain.cc,
        &toolchain.cc_version,
        &toolchain.ld_version,
        &spec.local_config,
        &libraries,
        name,
    ] {
        hasher
            .update(&(part.len() as u64).to_le_bytes())
            .update(part.as_bytes());
    }
    overlay.hash_into(&mut hasher);
    hasher.finalize().to_hex()[..32].to_owned()
}

/// What selftests are made of.
struct Made<'a> {
    ctx: &'a BuildCtx,
    spec: &'a SelftestSpec,
    kernel: &'a ResolvedKernel,
    source: &'a Identified,
    toolchain: &'a Toolchain,
    /// Whether patches or uncommitted changes reach them.
    changed: bool,
    /// The tree, once it is at hand.
    tree: Option<Utf8PathBuf>,
    report: &'a Reporter<'a>,
}

impl Made<'_> {
    /// The changed files that reach selftests.
    fn overlay(&self) -> Result<Overlay, BuildError> {
        if !self.changed {
            return Ok(Overlay::default());
        }
        let files: Vec<SeriesFiles> = self
            .kernel
            .series
            .iter()
            .map(|s| match &s.reference {
                SeriesRef::Named(_) => SeriesFiles::read(&s.path),
                SeriesRef::Path(path) => SeriesFiles::read(&here(path)),
            })
            .collect::<Result<_, _>>()?;
        self.need_source()?;
        let lock = self
            .ctx
            .cache
            .lock(&format!("selftests-series-{}", self.source.id), self.report)?;
        let scratch = self.ctx.cache.temp(&lock, "series")?;
        let pristine = source::pristine(self.ctx, self.source);
        let name = self.kernel.name.without_series().to_string();
        let applied = series::apply(
            &files,
            &pristine,
            &self.source.overlay,
            &scratch,
            &name,
            |_| (),
        )?;
        Ok(applied.overlay.only(reaches))
    }

    fn need_source(&self) -> Result<(), BuildError> {
        if !source::pristine(self.ctx, self.source).exists() {
            source::obtain(self.ctx, &self.source.record.used, self.report)?;
        }
        Ok(())
    }

    /// Compiles one into its place.
    fn one(
        &mut self,
        name: &str,
        overlay: &Overlay,
        key: &str,
        place: &Utf8Path,
    ) -> Result<Result<(), String>, BuildError> {
        self.need_source()?;
        let lock = self
            .ctx
            .cache
            .lock(&format!("selftest-{key}"), self.report)?;
        let temp = self.ctx.cache.temp(&lock, "selftest")?;
        let pristine = source::pristine(self.ctx, self.source);
        let tree = if overlay.is_empty() {
            pristine
        } else {
            let tree = temp.join("tree");
            for part in PARTS {
                create_dir(tree.join(part).parent().unwrap_or(&tree))?;
                worktree::link_sources(&pristine.join(part), &tree.join(part))?;
            }
            overlay.apply(&tree)?;
            tree
        };
        self.tree = Some(tree.clone());
        self.report.phase(Phase::Tests, name.to_owned());
        create_dir(&temp.join("include"))?;
        // The name of the eras up to 7.2, and of later ones.
        for name in ["local_config.h", "local_config.h_gen"] {
            let header = temp.join("include").join(name);
            fs_err::write(&header, &self.spec.local_config)
                .map_err(|e| BuildError::io("write", &header, e))?;
        }
        let out = temp.join("out");
        create_dir(&out)?;
        let done = compile(
            &tree,
            &temp.join("include"),
            &out.join(name),
            name,
            self.spec,
            self.toolchain,
        )?;
        if done.is_ok() {
            self.ctx.cache.publish(&out, place)?;
        }
        remove(&temp)?;
        Ok(done)
    }
}

/// Compiles the selftest `name` of the kernel in `tree` into the static program `out`; the inner
/// error says why that can't be.
fn compile(
    tree: &Utf8Path,
    include: &Utf8Path,
    out: &Utf8Path,
    name: &str,
    spec: &SelftestSpec,
    toolchain: &Toolchain,
) -> Result<Result<(), String>, BuildError> {
    // The directory was renamed in 6.3.
    let dirs = ["tools/testing/selftests/mm", "tools/testing/selftests/vm"];
    let file = format!("{name}.c");
    let Some(dir) = dirs
        .iter()
        .map(|d| tree.join(d))
        .find(|d| d.join(&file).is_file())
    else {
        return Ok(Err(format!("this kernel's tree has no {file}")));
    };
    let (sources, headers) = closure(&dir, &file);
    let mut cmd = proc::command(&toolchain.cc);
    // A test that names a file after __FILE__ finds a place for it in its working directory.
    cmd.current_dir(&dir)
        .args([
            "-w",
            "-O2",
            "-static",
            "-s",
            "-pthread",
            "-U_FORTIFY_SOURCE",
            "-D_GNU_SOURCE=",
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
            "-I",
            include.as_str(),
        ])
        .args(["-isystem", tree.join("tools/include/uapi").as_str()])
        .args(sources.iter().filter_map(|s| s.file_name()))
        .args(["-o", out.as_str()]);
    let libraries: Vec<_> = spec
        .libraries
        .iter()
        .filter(|l| headers.contains(&l.header))
        .collect();
    for library in &libraries {
        cmd.args(&library.link);
    }
    cmd.args(["-lrt", "-lm"]);
    let done = proc::output(&mut cmd)?;
    if done.status.success() {
        return Ok(Ok(()));
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
    for library in libraries {
        let file = library.link.iter().find_map(|l| l.strip_prefix("-l"));
        if reason.contains(&library.header)
            || file.is_some_and(|f| reason.contains(&format!("-l{f}")))
        {
            reason.push_str(&format!("; install the package {}", library.package));
        }
    }
    Ok(Err(format!("{name} did not build: {reason}")))
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
