//! Kernels and images: from specs to artifacts in the cache.

mod agent;
mod apt;
mod artifact;
mod cache;
mod compile;
mod config;
mod context;
mod cpio;
mod debs;
mod error;
mod event;
mod fstests;
mod gcov;
mod git;
mod image;
mod kconfig;
mod kconfig_expr;
mod kernel;
mod lock;
mod make;
mod options;
mod overlay;
mod proc;
mod releases;
mod rootfs;
mod selftests;
mod series;
mod settle;
mod source;
mod stock;
mod toolchain;
mod tree;
mod worktree;

pub(crate) use agent::of as agent;
pub use artifact::{KernelArtifact, KernelRecord, Took};
pub use cache::Cache;
pub use config::{LostOption, options_set};
pub use context::BuildCtx;
pub use error::{BuildError, ErrorClass, PatchFailure};
pub use event::{BuildEvent, BuildSink, Phase, Quiet};
pub use fstests::{fstests_cases, fstests_disk};
pub use gcov::{Gcov, ObjectCounts};
pub use image::{ImageArtifact, SELFTESTS_DIR, build_image};
pub use kernel::{build_kernel, known_key, settled_key};
pub use options::{OptionChange, OptionStep, options_between};
pub(crate) use proc::{die_with_us, which};
pub use releases::releases_offered;
pub use rootfs::{RootArtifact, build_rootfs};
pub use selftests::{Selftests, build_selftests};
pub use series::{OnePatch, write_patches};
pub use source::SourceRecord;
pub use stock::{Entry, Room, YOUNGEST, discard, stock};
pub use toolchain::Toolchain;
pub use tree::{Commit, commits_between, releases_between, revert};

/// Parts of this room that the fuzzing package calls.
#[doc(hidden)]
pub mod fuzzing {
    use std::collections::BTreeSet;

    use camino::Utf8PathBuf;

    use super::error::PatchFailure;
    use super::series;

    /// Every file that a patch may need or make.
    pub fn named_files(text: &str) -> BTreeSet<Utf8PathBuf> {
        series::named_files(text)
    }

    /// Makes sense of what `git apply` says of a patch.
    pub fn explain(label: &str, text: &str, base: &str, said: &str) -> PatchFailure {
        series::explain(label, text, base, said)
    }

    /// The hunk of `file` whose old part begins at `line`, in words.
    pub fn find_hunk(text: &str, file: &str, line: u64) -> Option<String> {
        series::find_hunk(text, file, line)
    }
}
