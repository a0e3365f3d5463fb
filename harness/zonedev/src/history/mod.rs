//! Runs of many nights in one SQLite file, and what they say together: since when a case is red, how
//! often it flakes, what got slower, what changed between two nights. Knows records, and nothing of
//! QEMU; what it answers is plain data.

mod ask;
mod db;
mod diff;
mod error;
mod found;
#[cfg(test)]
mod history_tests;
mod page;
mod rates;
mod schema;
mod times;
mod track;

pub use ask::{Answer, answer, runs, tracks};
pub use db::{Db, Import};
pub use diff::{DifferenceChange, RunDiff, VerdictChange, diff};
pub use error::HistoryError;
pub use found::{Found, FoundRun, find};
pub use page::{CaseHistory, HistoryPage, PagePoint, page};
pub use rates::{Rate, median};
pub use times::{Slower, SuiteTime, Times, times};
pub use track::{KernelRef, Point, RunRef, Standing, State, Track};
