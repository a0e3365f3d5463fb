//! PID 1 itself. `agent` is its loop; `boot` comes before it.

mod agent;
mod boot;
mod checkpoint;
mod counters;
mod disks;
mod expect;
mod follow;
mod jobs;
mod namespaces;
mod port;
mod profile;
mod table;

pub(crate) use agent::run;
pub(crate) use boot::{close_from, open_nonblocking};
pub(crate) use port::find;
