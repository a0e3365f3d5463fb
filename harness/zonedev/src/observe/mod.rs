//! What came out of a guest -> plain data: the console's bytes become lines and reports, a
//! program's output becomes results. Pure but for reading a build's own files, and never fails on
//! bad input.

mod console;
mod fstests;
mod gcov;
mod ktap;
mod program;
mod splat;
mod symbols;
mod tasks;

pub use crate::record::normalise;
pub use console::{console, mark};
pub use fstests::fstests;
pub use gcov::source_lines;
pub use ktap::ktap;
pub use program::{program, program_name};
pub use splat::{blamed_frame, frames, splats};
pub use symbols::Symbols;
pub use tasks::waiting_tasks;
