//! What a cell's record means: the contract check, the pair, the accepted snapshots. Pure, apart
//! from reading and writing snapshot files.

mod cell;
mod check;
mod classes;
mod holds;
mod log;
mod noise;
mod normal;
mod pages;
mod pair;
mod predict;
#[cfg(test)]
mod recorded_tests;
mod skips;
mod snapshot;

pub use cell::{JudgedCell, judge_cell};
pub use check::{Checked, check};
pub(crate) use holds::pin_word;
pub use normal::normalised;
pub(crate) use normal::op_words;
pub use pair::{line_differences, pair};
pub use predict::predict;
pub use skips::{over_ceiling, skips};
pub use snapshot::{
    SnapshotError, accept, accepted, agrees, decode, encode, place, propose, snapshot_name,
    snapshot_path,
};
