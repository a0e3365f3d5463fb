//! Kernels, images, suites and contracts as data: TOML becomes checked types, and every error
//! points at its line and says what to do.

mod case;
mod ceiling;
mod condition;
mod contract;
mod error;
mod fixture;
mod flavour;
mod image;
mod kernel;
mod kernel_name;
mod kernel_source;
mod known;
mod mutant;
mod program;
mod rootfs;
mod selftest;
mod unreachable;
mod vocabulary;

pub use case::{Case, PlannedStep, Reads, SuiteStore};
pub(crate) use case::{HUNG, ends_guest};
pub use ceiling::Ceilings;
pub use condition::Facts;
pub use contract::*;
pub(crate) use error::nearest;
pub use error::{SpecError, SpecFile};
pub use fixture::{Fixture, FixtureStore, NvdimmSpec, SkipRule};
pub use flavour::Flavour;
pub use image::{Applets, DeviceNode, ImageFile, ImageSpec, Program};
pub use kernel::{
    Compiler, Era, Fragment, KernelSpec, KernelStore, ResolvedKernel, ResolvedSeries, SeriesSpec,
    release_of,
};
pub use kernel_name::{Base, KernelName, KernelNameError, SeriesRef};
pub use kernel_source::SourceSpec;
pub use known::{Known, KnownEnd, KnownOutcome, KnownViolation};
pub use mutant::{Finding, Mutant};
pub use rootfs::{RootFile, RootLink, RootSpec, SourceTests, TestProgram};
pub use selftest::{Library, SelftestSpec};
pub use unreachable::Unreachable;
pub use vocabulary::{Key, Operation, operations};
