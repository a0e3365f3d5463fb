//! What every build needs to know of its surroundings.

use camino::{Utf8Path, Utf8PathBuf};

use super::cache::Cache;
use super::error::BuildError;
use super::lock::SourceLock;
use super::tree;
use crate::spec::{Base, KernelName, KernelStore, ResolvedKernel, SourceSpec};

/// The surroundings of a build.
#[derive(Debug, Clone)]
pub struct BuildCtx {
    /// The project: `kernels/` and `images/` are in it, and the agent's package.
    pub project: Utf8PathBuf,
    /// Where everything built is kept.
    pub cache: Cache,
    /// How many compilers at once.
    pub jobs: usize,
    /// Refuse whatever would change `kernels/sources.lock`.
    pub locked: bool,
    /// A revision from whose files those of a tree's other revisions are made, so that they are
    /// built from its objects.
    pub tree_base: Option<String>,
    /// An agent that is already built; without, cargo builds the project's own.
    pub agent: Option<Utf8PathBuf>,
    /// A git remote to ask instead of those that kernels' files name: a mirror nearby. Which commit a
    /// tag is stays locked by the named one.
    pub git: Option<String>,
    pub(crate) lock: SourceLock,
    /// Releases that were asked for by name; they are no matter of the project's.
    pub(crate) releases: SourceLock,
}

impl BuildCtx {
    /// The surroundings in `project` with the user's cache and as many jobs as processors.
    pub fn new(project: impl Into<Utf8PathBuf>, cache: Cache) -> Self {
        let project = project.into();
        let lock = SourceLock::at(project.join("kernels/sources.lock"));
        let releases = SourceLock::at(cache.root().join("releases.lock"));
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            project,
            cache,
            jobs,
            locked: false,
            tree_base: None,
            agent: None,
            git: None,
            lock,
            releases,
        }
    }

    /// The project's listed kernels and series.
    pub fn kernels(&self) -> KernelStore {
        KernelStore::new(self.project.join("kernels"))
    }

    /// Looks up every word of a kernel's name. For `tree:` it reads the tree's version; nothing
    /// is downloaded.
    pub fn resolve(&self, name: &KernelName) -> Result<ResolvedKernel, BuildError> {
        let store = self.kernels();
        match &name.base {
            Base::Listed(_) => Ok(store.resolve(name)?),
            Base::Tree { path, rev } => {
                let path = here(path);
                if !path.is_dir() {
                    return Err(BuildError::Request {
                        message: format!("there is no tree {path}"),
                        remedy: "name the top of a kernel's tree".to_owned(),
                    });
                }
                let era = tree::era(&path, rev.as_deref())?;
                let mut resolved = store.resolve_tree(name, era)?;
                resolved.sources = vec![SourceSpec::Tree {
                    path,
                    rev: rev.clone(),
                }];
                Ok(resolved)
            }
        }
    }

    /// A path of a spec, from the project; one that was typed is made absolute by [`here`] first.
    pub(crate) fn absolute(&self, path: &Utf8Path) -> Utf8PathBuf {
        self.project.join(path)
    }
}

/// A typed path, from where the user stands.
pub(crate) fn here(path: &Utf8Path) -> Utf8PathBuf {
    std::path::absolute(path)
        .ok()
        .and_then(|p| Utf8PathBuf::from_path_buf(p).ok())
        .unwrap_or_else(|| path.to_owned())
}
