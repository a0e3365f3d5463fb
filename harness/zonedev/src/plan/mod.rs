//! Request + spec -> cells: what is to run, on what, in which order. Pure.

mod cells;
mod filter;
mod partition;

pub use cells::{Group, Plan, PlannedCell, plan};
pub use filter::{Filter, FilterError};
pub use partition::{MAX_PARTS, Partition, PartitionError};
