//! Guests: which accelerator works, QEMU's command line and monitor, templates and their clones.
//! The only room that starts QEMU; no QEMU outlives it.

mod accel;
mod clock;
mod command;
mod console;
mod error;
mod event;
mod guest;
mod kept;
mod machine;
mod memory;
mod qemu;
mod qmp;
mod segments;
mod spawn;
mod template;

pub use accel::{Accel, AccelProbe, probe_accel};
pub use clock::clock_parameters;
pub use command::{AGENT_PORT, SHELL_PORT};
pub use console::Console;
pub use error::{Fault, Result, VmError};
pub use event::{End, Event};
pub use guest::{ByHand, Guest, Launcher, Status};
pub use kept::{Kept, Shelf};
pub use machine::{BASE_CMDLINE, Machine, Nvdimm};
pub use memory::{Abandon, MemoryDir, available_memory, memory_dirs, memory_places, sweep};
pub use qemu::Qemu;
pub use spawn::{Spawner, confinement};
pub use template::Template;
