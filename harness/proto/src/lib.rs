//! What host and guest say to each other: operations, outcomes, claims and
//! the frames that carry them. Plain data and pure functions, no I/O beyond
//! reading and writing one frame.
//!
//! The host does not trust the guest: every frame is bounded
//! ([`frame::MAX_FRAME`]) and every number in it is checked where it is used.

mod bound;
pub mod frame;
mod holds;
mod how;
mod ledger;
mod message;
mod op;
mod outcome;
mod profile;
mod shell;
mod size;
pub mod text;

pub use bound::{MAX_HOLDS, MAX_NAME, MAX_TEXT, TooMuch, bounded};
pub use holds::{Hold, HoldBy, Mismatch, PageType};
pub use how::{Advice, AskHow, DaxMode, FallocateMode, GupHow, Memory, PinHow, Protection, ReadBy};
pub use ledger::{Ledger, LedgerError};
pub use message::{
    AgentMessage, Behaviour, Checkpoint, HostMessage, NamespaceInfo, PROTOCOL_VERSION, Request,
    Standing,
};
pub use op::{DeviceRange, Op};
pub use outcome::{
    Backing, Extent, Fact, Outcome, PagemapRun, PagemapState, ProgramOutput, StepResult,
};
pub use profile::{MAX_PROFILE, Profile, ProfileFile};
pub use shell::{Bytes, FromShell, MAX_CHUNK, ShellStart, Terminal, ToShell, WindowSize};
pub use size::Size;
