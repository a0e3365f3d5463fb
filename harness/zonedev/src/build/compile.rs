//! Compiling a kernel: a clean build, or from the objects of another of the same source.
//!
//! Every build of one source by one compiler, patched or not and with any config, happens at the
//! same path, `trees/TREE/work`, one at a time: kbuild writes absolute paths of its tools down, and
//! would build everything again elsewhere. What is kept of a build without patches is
//! `trees/TREE/kept/KEY`, of the last few. A build starts from what is kept of the kernel without
//! its patches, or without its flavours, or of the last one that was built there: one option more
//! costs what depends on it. Where many revisions of a tree are built (`tree_base`), the last one's
//! objects are kept, too, in `trees/TREE/last`, and the next begins with them if they are nearer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::artifact::{self, KernelArtifact, KernelRecord, RECORD_VERSION, Took};
use super::cache::{CacheLock, KERNEL_NEEDS, create_dir, remove};
use super::config::{self, Request};
use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{Phase, Reporter};
use super::overlay::{Change, Overlay, is_inside};
use super::series::{self, Applied, SeriesFiles};
use super::source::{self, Identified};
use super::toolchain::Toolchain;
use super::{gcov, make, proc, worktree};
use crate::spec::{Base, ResolvedKernel};

/// Of so many configs of one source the objects are kept: some hundred MB each.
const KEPT: usize = 4;

/// Everything about one kernel that is not in the cache.
pub(crate) struct Job<'a> {
    pub(crate) ctx: &'a BuildCtx,
    pub(crate) kernel: &'a ResolvedKernel,
    pub(crate) tree_key: String,
    pub(crate) plain_key: String,
    pub(crate) base_key: String,
    pub(crate) key: String,
    pub(crate) source: &'a Identified,
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) requests: &'a [Request],
    pub(crate) series: &'a [SeriesFiles],
}

/// One run of make and what goes into its record.
struct Run<'a> {
    name: &'a str,
    key: &'a str,
    applied: Option<Applied>,
    started: Instant,
}

/// What the build of a patched kernel begins with.
struct Start {
    /// Another build's objects.
    objects: Utf8PathBuf,
    /// The changed files, and those that the other build had changed.
    laid_out: Overlay,
    /// Files that are as they were for the other build.
    same: BTreeSet<Utf8PathBuf>,
    /// How many objects are old then, and how many there are.
    outdated: (u64, u64),
}

/// What is known of the objects in `last`.
#[derive(Serialize, Deserialize)]
struct Last {
    /// The build without patches that they come from.
    base: String,
    /// What was changed for them.
    changed: BTreeMap<Utf8PathBuf, String>,
}

impl Job<'_> {
    /// Builds it.
    pub(crate) fn run(&self, report: &Reporter<'_>) -> Result<KernelArtifact, BuildError> {
        let cache = &self.ctx.cache;
        let lock = cache.lock(&format!("tree-{}", self.tree_key), report)?;
        cache.touch(&self.tree());
        if let Some(found) = self.load(&self.key) {
            return Ok(found);
        }
        let mut base_name = self.kernel.name.without_series();
        if let (Base::Tree { rev, .. }, false) =
            (&mut base_name.base, self.source.overlay.is_empty())
        {
            *rev = Some(
                self.ctx
                    .tree_base
                    .clone()
                    .unwrap_or_else(|| "HEAD".to_owned()),
            );
        }
        let base_name = base_name.to_string();
        // A series that does not apply is told before anything is compiled.
        let applied = match self.is_patched() {
            false => None,
            true => {
                let scratch = cache.temp(&lock, "series")?;
                let pristine = source::pristine(self.ctx, self.source);
                let onto = &self.source.overlay;
                Some(series::apply(
                    self.series,
                    &pristine,
                    onto,
                    &scratch,
                    &base_name,
                    |patch| {
                        report.phase(Phase::Patch, patch.to_owned());
                    },
                )?)
            }
        };
        cache.need_space(KERNEL_NEEDS, &format!("the build of {}", report.what()))?;
        let base_report = Reporter::new(&base_name, report.sink());
        if !(self.kept(&self.base_key).exists() && self.load(&self.base_key).is_some()) {
            let started = Instant::now();
            if self.is_patched() {
                base_report.started();
            }
            let run = Run {
                name: &base_name,
                key: &self.base_key,
                applied: None,
                started,
            };
            self.make_one(&run, &lock, &base_report)?;
            if self.is_patched() {
                base_report.finished(started.elapsed(), false);
            }
        }
        if let Some(applied) = applied {
            let run = Run {
                name: report.what(),
                key: &self.key,
                applied: Some(applied),
                started: Instant::now(),
            };
            self.make_one(&run, &lock, report)?;
        }
        self.load(&self.key).ok_or_else(|| BuildError::Command {
            what: format!("read the finished build of {}", report.what()),
            detail: "it is not in the cache".to_owned(),
        })
    }

    fn is_patched(&self) -> bool {
        self.key != self.base_key
    }

    fn load(&self, key: &str) -> Option<KernelArtifact> {
        KernelArtifact::load(&self.ctx.cache.path("kernels", key), self.kernel)
    }

    /// Where it is built.
    fn tree(&self) -> Utf8PathBuf {
        self.ctx.cache.path("trees", &self.tree_key)
    }

    /// The objects that are kept of a build without patches.
    fn kept(&self, key: &str) -> Utf8PathBuf {
        self.tree().join("kept").join(key)
    }

    /// The objects that a build without patches starts from, if there are any.
    fn nearest(&self) -> Option<Utf8PathBuf> {
        let plain = self.kept(&self.plain_key);
        match plain.exists() {
            true => Some(plain),
            false => worktree::by_age(&self.tree().join("kept")).pop(),
        }
    }

    /// Makes the kernel and publishes it. What is kept of a failure is its log.
    fn make_one(
        &self,
        run: &Run<'_>,
        lock: &CacheLock,
        report: &Reporter<'_>,
    ) -> Result<(), BuildError> {
        let work = self.tree().join("work");
        let build = work.join("build");
        remove(&build)?;
        let made = self.make_in(&work, run, lock, report);
        // A failure is told even if its remains can't be removed; the next build removes them.
        let removed = remove(&build);
        made.and(removed)
    }

    fn make_in(
        &self,
        work: &Utf8Path,
        run: &Run<'_>,
        lock: &CacheLock,
        report: &Reporter<'_>,
    ) -> Result<(), BuildError> {
        let build = work.join("build");
        let kept = self.kept(&self.base_key);
        let pristine = source::pristine(self.ctx, self.source);
        let none = Overlay::default();
        let overlay = run.applied.as_ref().map_or(&none, |a| &a.overlay);
        let start = match &run.applied {
            Some(_) => Some(self.start(&kept, &pristine, overlay)?),
            None => None,
        };
        let laid_out = start.as_ref().map_or(overlay, |s| &s.laid_out);
        report.phase(Phase::Prepare, "laying out the tree");
        create_dir(&self.tree())?;
        worktree::lay_out(&pristine, work, &self.tree().join("changed.json"), laid_out)?;
        let mut expected = self.kernel.objects;
        if let Some(start) = &start {
            worktree::make_old(work, &pristine, start.same.iter())?;
            worktree::copy_objects(&start.objects, &build)?;
            let (old, all) = start.outdated;
            expected = Some(old);
            self.foretell(old, all, overlay, report);
        } else if let Some(nearest) = self.nearest() {
            worktree::copy_objects(&nearest, &build)?;
            expected = None;
        } else {
            create_dir(&build)?;
        }
        let log_path = self.ctx.cache.path("logs", &format!("{}.log", run.key));
        let mut log = File::create(&log_path).map_err(|e| BuildError::io("write", &log_path, e))?;
        report.phase(
            Phase::Config,
            format!("{} options asked for", self.requests.len()),
        );
        let session = make::Session {
            toolchain: self.toolchain,
            tree: work,
            lock,
            name: run.name,
            log: &log_path,
            jobs: self.ctx.jobs,
            variables: &self.kernel.make,
        };
        let decides = |path: &Utf8Path| {
            decides_config(path) && !start.as_ref().is_some_and(|s| s.same.contains(path))
        };
        let has_config = start.is_some() && !laid_out.paths().any(decides);
        let config = session.configure(self.requests, has_config, &mut log)?;
        let prepare = run.started.elapsed().as_secs_f64();

        report.phase(Phase::Compile, format!("log in {log_path}"));
        let making = Instant::now();
        let objects = session.kernel(&config, expected, &mut log, report)?;
        let make_took = making.elapsed().as_secs_f64();
        self.check_config(&build.join(".config"), run.name)?;

        let temp = self.ctx.cache.temp(lock, "kernel")?;
        report.phase(Phase::Publish, run.key.to_owned());
        if config.values().any(|v| v == "m") {
            session.install_modules(&temp.join("modules"), &mut log)?;
        }
        for (from, to) in [("System.map", "System.map"), (".config", "config")] {
            let (from, to) = (build.join(from), temp.join(to));
            std::fs::copy(&from, &to).map_err(|e| BuildError::io("copy to", &to, e))?;
        }
        gcov::keep_notes(&build, &temp.join(gcov::NOTES))?;
        // The next build from these objects makes both anew.
        for (from, to) in [("arch/x86/boot/bzImage", "bzImage"), ("vmlinux", "vmlinux")] {
            let to = temp.join(to);
            fs_err::rename(build.join(from), &to).map_err(|e| BuildError::io("move to", &to, e))?;
        }
        drop(log);
        fs_err::rename(&log_path, temp.join("build.log"))
            .map_err(|e| BuildError::io("move", &log_path, e))?;
        let release_file = build.join("include/config/kernel.release");
        let release = fs_err::read_to_string(&release_file)
            .map_err(|e| BuildError::io("read", &release_file, e))?;
        let record = KernelRecord {
            version: RECORD_VERSION,
            key: run.key.to_owned(),
            name: run.name.to_owned(),
            release: release.trim().to_owned(),
            source: self.source.record.clone(),
            patches: run
                .applied
                .as_ref()
                .map(|a| a.patches.clone())
                .unwrap_or_default(),
            changed: overlay.paths().map(Utf8Path::to_owned).collect(),
            base: run.applied.as_ref().map(|_| self.base_key.clone()),
            toolchain: self.toolchain.clone(),
            objects,
            took: Took {
                prepare,
                make: make_took,
                total: run.started.elapsed().as_secs_f64(),
            },
            sizes: artifact::sizes(&temp),
        };
        record.write(&temp)?;
        let place = self.ctx.cache.path("kernels", run.key);
        if self.load(run.key).is_none() {
            // What is there is of an older form, or broken.
            remove(&place)?;
        }
        self.ctx.cache.publish(&temp, &place)?;
        if run.applied.is_some() && self.ctx.tree_base.is_some() {
            drop_final_products(&build)?;
            self.keep_last(&build, overlay)?;
        }
        if run.applied.is_none() {
            drop_final_products(&build)?;
            remove(&kept)?;
            create_dir(&self.tree().join("kept"))?;
            fs_err::rename(&build, &kept).map_err(|e| BuildError::io("move to", &kept, e))?;
            let mut all = worktree::by_age(&self.tree().join("kept"));
            all.truncate(all.len().saturating_sub(KEPT));
            for old in all {
                remove(&old)?;
            }
        }
        Ok(())
    }

    /// From whose objects a patched kernel is built: the unpatched one's, or the last one's where
    /// that leaves less to do.
    fn start(
        &self,
        kept: &Utf8Path,
        pristine: &Utf8Path,
        overlay: &Overlay,
    ) -> Result<Start, BuildError> {
        let plain = Start {
            objects: kept.to_owned(),
            laid_out: overlay.clone(),
            same: BTreeSet::new(),
            outdated: worktree::outdated(kept, overlay)?,
        };
        let Some(last) = self.last() else {
            return Ok(plain);
        };
        // What the last one changed and this one does not must come back, younger than its objects.
        let mut laid_out = overlay.clone();
        for path in last.changed.keys().filter(|p| overlay.get(p).is_none()) {
            laid_out.set(path.clone(), Change::read(&pristine.join(path))?)?;
        }
        let digests = laid_out.digests();
        let same: BTreeSet<Utf8PathBuf> = (digests.into_iter())
            .filter(|(path, digest)| last.changed.get(path) == Some(digest))
            .map(|(path, _)| path)
            .collect();
        let objects = self.tree().join("last");
        let outdated = worktree::outdated(&objects, &laid_out.only(|p| !same.contains(p)))?;
        Ok(match outdated.0 < plain.outdated.0 {
            true => Start {
                objects,
                laid_out,
                same,
                outdated,
            },
            false => plain,
        })
    }

    /// What is known of the objects in `last`; none if they are of other ones than these.
    fn last(&self) -> Option<Last> {
        self.ctx.tree_base.as_ref()?;
        let text = fs_err::read_to_string(self.tree().join("last.json")).ok()?;
        let last: Last = serde_json::from_str(&text).ok()?;
        (last.base == self.base_key && last.changed.keys().all(|p| is_inside(p))).then_some(last)
    }

    fn keep_last(&self, build: &Utf8Path, overlay: &Overlay) -> Result<(), BuildError> {
        let (objects, about) = (self.tree().join("last"), self.tree().join("last.json"));
        remove(&about)?;
        remove(&objects)?;
        let last = Last {
            base: self.base_key.clone(),
            changed: overlay.digests(),
        };
        let text = serde_json::to_vec(&last).map_err(|e| BuildError::Command {
            what: format!("write {about}"),
            detail: e.to_string(),
        })?;
        fs_err::rename(build, &objects).map_err(|e| BuildError::io("move to", &objects, e))?;
        fs_err::write(&about, text).map_err(|e| BuildError::io("write", &about, e))
    }

    /// Says beforehand that a patch to a header that all use takes long.
    fn foretell(&self, old: u64, all: u64, overlay: &Overlay, report: &Reporter<'_>) {
        let base = self.load(&self.base_key);
        let full = base.map(|b| b.record.took.make).unwrap_or_default();
        if all == 0 || old * 4 < all {
            return;
        }
        let minutes = full * old as f64 / all as f64 / 60.0;
        let header = overlay.paths().find(|p| p.extension() == Some("h"));
        report.notice(format!(
            "the change of {} makes {old} of {all} objects old: about {minutes:.1} minutes",
            header.map_or("many files", Utf8Path::as_str)
        ));
    }

    fn check_config(&self, path: &Utf8Path, name: &str) -> Result<(), BuildError> {
        let text = fs_err::read_to_string(path).map_err(|e| BuildError::io("read", path, e))?;
        let tree = source::pristine(self.ctx, self.source);
        let lost = config::lost(self.requests, &config::parse_config(&text), &tree);
        if lost.is_empty() {
            return Ok(());
        }
        Err(BuildError::LostOptions {
            kernel: name.to_owned(),
            lost,
        })
    }
}

/// Whether a changed file may change what Kconfig makes of the requests.
fn decides_config(path: &Utf8Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.starts_with("Kconfig") || name == "Makefile" || path.starts_with("scripts")
}

/// Removes what the next build from these objects makes anew.
fn drop_final_products(build: &Utf8Path) -> Result<(), BuildError> {
    for dir in ["", "arch/x86/boot/compressed"] {
        let place = build.join(dir);
        let entries = place
            .read_dir_utf8()
            .map_err(|e| BuildError::io("read", &place, e))?;
        for entry in entries.flatten() {
            if worktree::is_final_product(&Utf8Path::new(dir).join(entry.file_name())) {
                remove(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Lets a command of a build hold the build's lock.
pub(crate) fn hold(cmd: &mut std::process::Command, lock: &CacheLock) {
    proc::die_with_us(cmd, Some(lock));
}
