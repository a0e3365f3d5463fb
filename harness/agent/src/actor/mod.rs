//! The processes that run a case's operations. See `serve` for their loop.

mod access;
mod aio;
mod files;
mod hmm;
mod maps;
mod pins;
mod program;
mod provision;
mod root;
mod serve;
mod touch;

pub(crate) use serve::serve;
