//! Sources of a guest's physical memory.

mod dump;
mod process;
mod record;
mod source;
mod sparse;

pub use dump::DumpMemory;
pub use process::{BackedRange, ProcessMemory, Segment, segments_from_maps};
pub use record::Recorder;
pub use source::{MemError, Memory};
pub use sparse::SparseImage;
