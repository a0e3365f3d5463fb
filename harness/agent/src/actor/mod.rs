//! The processes that run a case's operations. See `serve` for their loop.

mod access;
mod aio;
mod ask;
mod attributes;
mod change;
mod clone;
mod cxl_region;
mod dax_mode;
mod dax_region;
mod drivers;
mod files;
mod gup;
mod gup_test;
mod hmm;
mod maps;
mod namespace;
mod pins;
mod poison;
mod program;
mod provision;
mod race;
mod read;
mod root;
mod serve;
mod swap;
mod teardown;
mod touch;
mod uffd;
mod uring;

pub(crate) use serve::serve;
