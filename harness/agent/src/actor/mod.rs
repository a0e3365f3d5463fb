//! The processes that run a case's operations. See `serve` for their loop.

mod access;
mod aio;
mod drivers;
mod files;
mod hmm;
mod maps;
mod namespace;
mod pins;
mod program;
mod provision;
mod region;
mod serve;
mod teardown;
mod touch;

pub(crate) use serve::serve;
