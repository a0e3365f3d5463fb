//! A run as one HTML file that asks nobody for anything: what matters first as plain HTML, and every
//! cell's details as packed data that a small script unpacks when the cell is opened.

mod cells;
mod detail;
mod differences;
mod escape;
mod failures;
mod log;
mod matrix;
mod nights;
mod overview;
mod pack;
mod page;
mod picture;
mod rerun;
mod steps;
#[cfg(test)]
mod testing;

pub use cells::{Broken, Cells};
pub use page::{HtmlError, html};

// askama's generated code names it.
pub(crate) use escape::Shown;
