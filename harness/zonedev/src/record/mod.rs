//! What a run leaves behind: plain data with a version, from which every
//! report and every comparison is made. Knows nothing of QEMU.

mod cell;
mod folder;
mod lines;
mod normalise;
mod predicted;
mod run;
#[cfg(test)]
pub(crate) mod testing;

pub use cell::{
    CellId, CellRecord, CheckpointRecord, End, FailedRun, KnownFailure, KnownWhat, Left, LogLine,
    Repeats, Splat, StepRecord, TestResult, TestStatus, Violation,
};
pub use folder::{RunFolder, RunFolderError};
pub use lines::SourceLines;
pub use normalise::normalise;
pub use predicted::{PredictedRun, kind_word, part_words, region_name};
pub use run::{
    AcceptState, CeilingRecord, CellVerdict, Difference, Event, KernelRecord, KnownRecord,
    PairRecord, PairVerdict, RECORD_VERSION, RunRecord, SkipRecord,
};
