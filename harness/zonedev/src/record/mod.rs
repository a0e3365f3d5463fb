//! What a run leaves behind: plain data with a version, from which every
//! report and every comparison is made. Knows nothing of QEMU.

mod cell;
mod folder;
mod hang;
mod lines;
mod normalise;
mod part;
mod predicted;
mod run;
mod splat;
#[cfg(test)]
pub(crate) mod testing;
mod times;

pub use cell::{
    CellId, CellRecord, CheckpointRecord, End, FailedRun, KnownFailure, KnownWhat, Left, LogLine,
    Repeats, StepRecord, TestResult, TestStatus, Violation,
};
pub use folder::{RunFolder, RunFolderError};
pub use hang::{CORE, Hang, Rung, WaitingTask};
pub use lines::SourceLines;
pub use normalise::normalise;
pub use part::Part;
pub use predicted::{PredictedRun, kind_word, part_words, region_name};
pub use run::{
    AcceptState, Begun, CeilingRecord, CellVerdict, Difference, Event, FailureKind, FlakyRecord,
    KernelRecord, KnownRecord, PairRecord, PairVerdict, RECORD_VERSION, RunRecord, SkipRecord,
};
pub use splat::{DumpedPage, Frame, SourcePlace, Splat, Task};
