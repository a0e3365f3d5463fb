//! Kernels and images: from specs to artifacts in the cache.

mod agent;
mod apt;
mod artifact;
mod cache;
mod compile;
mod config;
mod context;
mod cpio;
mod error;
mod event;
mod hmm;
mod image;
mod kconfig;
mod kconfig_expr;
mod kernel;
mod lock;
mod make;
mod overlay;
mod proc;
mod series;
mod source;
mod toolchain;
mod tree;
mod worktree;

pub use artifact::{HmmTests, KernelArtifact, KernelRecord, Took};
pub use cache::Cache;
pub use config::LostOption;
pub use context::BuildCtx;
pub use error::{BuildError, ErrorClass, PatchFailure};
pub use event::{BuildEvent, BuildSink, Phase, Quiet};
pub use image::{HMM_TESTS, ImageArtifact, build_image};
pub use kernel::build_kernel;
pub use source::SourceRecord;
pub use toolchain::Toolchain;
