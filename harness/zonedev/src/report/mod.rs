//! Records and events -> text. Knows records, and nothing of QEMU; everything that may come from
//! a guest is escaped.

mod comparison;
mod coverage;
mod fit;
mod html;
mod inspect;
mod lines;
mod mutants;
mod progress;
mod sections;
mod summary;
mod text;
mod trouble;
mod vocabulary;

pub use comparison::{Comparison, accepted, comparison, refused};
pub use coverage::coverage;
pub use html::{Broken, Cells, HtmlError, html};
pub use inspect::inspect;
pub use lines::{KernelLines, Sources, lines};
pub use mutants::{FailedCell, MutantRow, mutants_table};
pub use progress::Progress;
pub use summary::summary;
pub use text::{Detail, Look, Size, escape};
pub use trouble::trouble;
pub use vocabulary::vocabulary;
