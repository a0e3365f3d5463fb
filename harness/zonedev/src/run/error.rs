//! Why a run could not go on. What a kernel does wrong is never one of these.

use thiserror::Error;

use crate::record::RunFolderError;
use crate::vm::VmError;

/// Trouble of the harness or the host.
#[derive(Debug, Error)]
pub enum RunError {
    /// QEMU or the place for guests' memory.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The run's folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The kernel's own debug information.
    #[error("read the types of {kernel}: {source}")]
    Kernel {
        /// Its name.
        kernel: String,
        /// What was wrong.
        source: guestmem::KernelError,
    },
    /// A task of ours ended without a word.
    #[error("run a cell: its task ended: {0}")]
    Task(String),
}
