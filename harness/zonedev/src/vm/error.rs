//! What can go wrong between asking for a guest and losing it.
//! Every message is a fragment that fits "failed to …: MESSAGE" and says what can be done.

use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;

/// Whose fault an error is, so that a run can tell a poor host from a bug of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The host lacks something: QEMU, memory, a file, a right.
    Host,
    /// QEMU or the guest in it did something that no guest should make it do.
    Qemu,
    /// The harness asked for something that can't be.
    Harness,
}

/// An error of the room `vm`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// No QEMU on PATH.
    #[error("no {program} on PATH; install QEMU for x86 (Debian: qemu-system-x86)")]
    QemuMissing {
        /// The program that was looked for.
        program: String,
    },
    /// `--version` said something that isn't a QEMU's.
    #[error("{path} --version says {said:?}, which is not QEMU's; name another QEMU")]
    NotQemu {
        /// The program asked.
        path: Utf8PathBuf,
        /// The first line of what it said.
        said: String,
    },
    /// QEMU ended where it should have gone on.
    #[error("QEMU ended by itself ({status}){}", said(.stderr))]
    QemuFailed {
        /// Its exit status, in words.
        status: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// KVM was asked for by name, and doesn't work.
    #[error("KVM was asked for but does not work here: {reason}; use --accel tcg")]
    KvmUnusable {
        /// Why the trial boot failed.
        reason: String,
    },
    /// QEMU did not answer in time.
    #[error("QEMU did not finish {what} within {limit:?}; is the host overloaded?")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {description}")]
    Refused {
        /// The command's QMP name.
        command: String,
        /// QEMU's words.
        description: String,
    },
    /// QEMU's monitor said something that isn't QMP.
    #[error("QEMU's monitor broke its protocol: {what}")]
    Protocol {
        /// What was wrong.
        what: String,
    },
    /// The monitor's connection is gone, and why QEMU ended isn't known (yet).
    #[error("QEMU closed its monitor")]
    Closed,
    /// There is no place for the guests' memory files.
    #[error(
        "no room for {needed_mib} MiB of guest memory: {looked}; free some memory or use fewer jobs"
    )]
    NoSpace {
        /// What was needed.
        needed_mib: u64,
        /// Each place and what it had.
        looked: String,
    },
    /// Saving or loading a template failed.
    #[error("the machine's state could not be {verb}: {reason}; use --isolation boot")]
    Migration {
        /// "saved" or "loaded".
        verb: &'static str,
        /// What QEMU said.
        reason: String,
    },
    /// The machine has a device whose state can't be moved.
    #[error("this machine can't be cloned (a fixture says so); boot it for each case")]
    NotCloneable,
    /// The machine asked for can't be made.
    #[error("the machine is impossible: {what}")]
    Machine {
        /// What is wrong with it.
        what: String,
    },
    /// QEMU's memory is not where the harness computed it to be.
    #[error("guest memory is not laid out as expected: {what}; this QEMU may be unsupported")]
    Layout {
        /// What differs.
        what: String,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl VmError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::QemuMissing { .. }
            | Self::NotQemu { .. }
            | Self::KvmUnusable { .. }
            | Self::Timeout { .. }
            | Self::NoSpace { .. }
            | Self::Io { .. } => Fault::Host,
            Self::QemuFailed { .. }
            | Self::Refused { .. }
            | Self::Protocol { .. }
            | Self::Closed
            | Self::Migration { .. }
            | Self::Layout { .. } => Fault::Qemu,
            Self::NotCloneable | Self::Machine { .. } => Fault::Harness,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A result of the room `vm`.
pub type Result<T, E = VmError> = std::result::Result<T, E>;

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => " without a word".to_owned(),
        text => format!(" after saying: {text}"),
    }
}
