//! A run's parts as jobs of a Slurm cluster: what is submitted, what is asked, what is done about a part.
//!
//! ```text
//! RUN/slurm/       submitted.json  zonedev  agent  part.sh  build.sh
//!     out/JOB      what a job printed        ended/JOB.RESTART   with what its zonedev ended, and where
//! RUN/parts/I/JOB.RESTART/                   one attempt at the part I: a run's folder of its own
//! ```
//! No two jobs ever write to one place: an attempt's folder is named by its job and by how often Slurm
//! started that job anew. What an attempt came to is what its `record.json` says, not what Slurm says; Slurm
//! is asked only about attempts without one. So neither a node that is cut off and goes on writing, nor a
//! controller that is away or has forgotten a job, changes what a run comes to.

mod attempts;
mod estimate;
mod fate;
mod follow;
mod simulate;
mod slurm;

pub use attempts::{ClusterError, Submitted, attempts, ended, is_whole};
pub use estimate::{Estimate, Known, memory};
pub use fate::{Fate, PATIENCE, Said, Seen, judge};
pub use follow::Follower;
pub use simulate::Model;
pub use slurm::{Queue, QueuedJob, SlurmError, State, Submission, cancel, queue, submit};

/// Runs one part; it is given to sbatch.
pub const PART_SCRIPT: &str = include_str!("part.sh");
/// Builds kernels.
pub const BUILD_SCRIPT: &str = include_str!("build.sh");
