//! Why a kernel or an image could not be built.

use camino::{Utf8Path, Utf8PathBuf};

use super::config::LostOption;
use crate::spec::{KernelNameError, SpecError};

/// Whose fault a [`BuildError`] is; the command line makes an exit code of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The request or a spec is wrong.
    Spec,
    /// The host can't do it: a program, the disk or the net fails.
    Host,
    /// What was asked for does not build.
    Build,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A spec is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A kernel's name can't be read.
    #[error(transparent)]
    Name(#[from] KernelNameError),
    /// What was asked for is not there or not what it is taken for.
    #[error("{message}; {remedy}")]
    Request {
        /// What is wrong, with its subject.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// A file of the host can't be used.
    #[error("{what} {path}")]
    Io {
        /// What was tried: "write", "create the directory".
        what: &'static str,
        /// With what.
        path: Utf8PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The disk is full, or would become so.
    #[error(
        "the disk of {dir} has {} left and {what} needs about {}; free some, or set ZONEDEV_CACHE to a directory on a larger disk",
        size(*free), size(*needed)
    )]
    DiskFull {
        /// The directory that was written to.
        dir: Utf8PathBuf,
        /// What was being made.
        what: String,
        /// Bytes needed, as estimated.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A program is missing.
    #[error("the program `{program}` is not installed; install the package {package}")]
    MissingTool {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: String,
    },
    /// The default compiler is too new, and the named one is missing.
    #[error(
        "the host's gcc {found} is newer than {newest}, the newest known to build this kernel; install the package {package}"
    )]
    CompilerTooNew {
        /// Major version of the host's gcc.
        found: u32,
        /// Newest that is known to work.
        newest: u32,
        /// The package that has an older one.
        package: String,
    },
    /// A program of the host failed at something that is not a kernel's build.
    #[error("{what}: {detail}")]
    Command {
        /// What was tried.
        what: String,
        /// What the program said.
        detail: String,
    },
    /// No source of a kernel can be had here.
    #[error(
        "no source of the kernel {kernel} can be had on this host: {}",
        list_tried(tried)
    )]
    NoSource {
        /// The kernel's name.
        kernel: String,
        /// Each source and why not.
        tried: Vec<(String, String)>,
    },
    /// `--locked`, and the lock can't be kept.
    #[error(
        "{what}, and --locked forbids another; run without --locked, and check in the new {lock}"
    )]
    Locked {
        /// What the lock lacks or what is gone.
        what: String,
        /// The lock file.
        lock: Utf8PathBuf,
    },
    /// A file is not the one that was asked for.
    #[error(
        "the checksum of {what} is {found}, not {expected}; if the new file is right, correct the spec"
    )]
    Checksum {
        /// The file.
        what: String,
        /// SHA-256 that was asked for.
        expected: String,
        /// SHA-256 that was found.
        found: String,
    },
    /// A patch does not apply.
    #[error("{0}")]
    Patch(Box<PatchFailure>),
    /// Options that were asked for got lost.
    #[error("the config of {kernel} loses {}", list_lost(lost))]
    LostOptions {
        /// The kernel's name.
        kernel: String,
        /// Each with its reason.
        lost: Vec<LostOption>,
    },
    /// A kernel, or the agent, does not compile.
    #[error("{what} does not compile: {}; the whole log is {log}", errors.join("; "))]
    Compile {
        /// The thing built.
        what: String,
        /// The first lines that say so.
        errors: Vec<String>,
        /// The whole log.
        log: Utf8PathBuf,
    },
}

/// Where a series stopped to apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the patch {patch} does not apply to {base}: {detail}; nothing was changed. Rebase the series onto this kernel"
)]
pub struct PatchFailure {
    /// The patch: its file, and its subject if it has one.
    pub patch: String,
    /// The kernel's name without series.
    pub base: String,
    /// The file that the patch could not change.
    pub file: Option<String>,
    /// The hunk: its number of how many, and its header.
    pub hunk: Option<String>,
    /// File, hunk and reason in words.
    pub detail: String,
}

impl BuildError {
    /// Whose fault it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Spec(_) | Self::Name(_) | Self::Request { .. } => ErrorClass::Spec,
            Self::Patch(_) | Self::LostOptions { .. } | Self::Compile { .. } => ErrorClass::Build,
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::MissingTool { .. }
            | Self::CompilerTooNew { .. }
            | Self::Command { .. }
            | Self::NoSource { .. }
            | Self::Locked { .. }
            | Self::Checksum { .. } => ErrorClass::Host,
        }
    }

    /// An I/O error with its file; a full disk becomes [`BuildError::DiskFull`].
    pub(crate) fn io(what: &'static str, path: &Utf8Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::StorageFull {
            return Self::disk_full(path, format!("{what} {path}"), 0);
        }
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// A full disk; `needed` is in bytes, 0 if unknown.
    pub(crate) fn disk_full(dir: &Utf8Path, what: String, needed: u64) -> Self {
        let free = super::cache::free_space(dir).unwrap_or(0);
        Self::DiskFull {
            dir: dir.to_owned(),
            what,
            needed: needed.max(super::cache::KERNEL_NEEDS),
            free,
        }
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= 1024 * MIB {
        format!("{:.1} GiB", bytes as f64 / (1024 * MIB) as f64)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

fn list_tried(tried: &[(String, String)]) -> String {
    tried
        .iter()
        .map(|(source, why)| format!("{source}: {why}"))
        .collect::<Vec<_>>()
        .join("; ")
}

fn list_lost(lost: &[LostOption]) -> String {
    lost.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
