//! Which change did it: a search over steps, by trials of which each may miss it.

mod belief;
mod history;
mod journal;
mod lines;
mod search;

pub use belief::{Belief, Trials};
pub use history::{History, HistoryError};
pub use journal::{At, Journal, Kind, Line, Question, Step, Tried, without_numbers};
pub(crate) use lines::JsonLines;
pub use search::{Costs, Next, Search};
