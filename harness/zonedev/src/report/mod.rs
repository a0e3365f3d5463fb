//! Records and events -> text. Knows records, and nothing of QEMU; everything that may come from
//! a guest is escaped.

mod comparison;
mod coverage;
mod fit;
mod forms;
mod history;
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
pub use forms::{
    Annotated, Detail, ISSUE, JunitError, MAX_SUMMARY, Recorded, github, json, junit, kcidb, ktap,
    mail, markdown, schema, to_json,
};
pub use history::{history, history_diff, history_runs, history_times};
pub use html::{Broken, Cells, HtmlError, html};
pub use inspect::inspect;
pub use lines::{KernelLines, Sources, lines};
pub use mutants::{FailedCell, MutantRow, mutants_table};
pub use progress::Progress;
pub use summary::summary;
pub use text::{Look, Size, Verbosity, escape, quoted};
pub use trouble::trouble;
pub use vocabulary::vocabulary;
