//! The processes that run a case's operations. See `serve` for their loop.

mod access;
mod aio;
mod change;
mod files;
mod gup;
mod hmm;
mod maps;
mod pins;
mod program;
mod provision;
mod race;
mod root;
mod serve;
mod touch;
mod uring;

pub(crate) use serve::serve;
