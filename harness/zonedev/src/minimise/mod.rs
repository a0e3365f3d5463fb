//! The smallest case that still fails so: delta debugging over operations, processes, threads, sizes
//! and options, by trials of which each may miss it. Pure, apart from the journal's file.

mod candidates;
mod journal;
mod names;
mod program;
mod search;
mod sequential;
mod signature;
#[cfg(test)]
mod testing;
mod text;

pub use journal::{Came, Journal, Line, Question};
pub use program::{Measure, Program};
pub use search::{Oracle, minimise};
pub use sequential::{Figures, Sequential};
pub use signature::{Is, Signature};
pub use text::{Head, write};
