//! Records and events -> text. Knows records, and nothing of QEMU; everything that may come from
//! a guest is escaped.

mod coverage;
mod inspect;
mod lines;
mod progress;
mod summary;
mod text;

pub use coverage::coverage;
pub use inspect::inspect;
pub use lines::{KernelLines, Sources, lines};
pub use progress::Progress;
pub use summary::summary;
pub use text::{Look, escape};
