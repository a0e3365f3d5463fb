//! The exit codes of `zonedev`, in their one place.

use std::process::ExitCode;

use miette::Diagnostic;

use crate::build::{BuildError, ErrorClass};
use crate::cluster::ClusterError;
use crate::plan::FilterError;
use crate::record::RunFolderError;
use crate::run::RunError;
use crate::spec::{KernelNameError, SpecError};
use crate::verdict::SnapshotError;
use crate::vm::{Fault, VmError};

/// How `zonedev` ends.
///
/// | code | meaning |
/// |---|---|
/// | 0 | nothing regressed |
/// | 1 | something regressed or broke its contract |
/// | 2 | the request or a spec is wrong |
/// | 3 | the harness or the host failed |
/// | 4 | nothing was selected |
/// | 5 | a kernel or an image did not build |
/// | 125 | `bisect-step`: can't tell; `shell`, `rerun`: the guest's shell had no end |
/// | 128 | `bisect-step` alone: stop |
///
/// `shell` and `rerun` with a command, or with commands from a pipe, end as these do; 125 where
/// they had no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Good,
    /// 1
    Regressed,
    /// 2
    Request,
    /// 3
    Harness,
    /// 4
    NothingSelected,
    /// 5
    Build,
    /// 125
    CannotTell,
    /// 128
    Stop,
    /// What a guest's shell ended with.
    Shell(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Good => 0,
            Exit::Regressed => 1,
            Exit::Request => 2,
            Exit::Harness => 3,
            Exit::NothingSelected => 4,
            Exit::Build => 5,
            Exit::CannotTell => 125,
            Exit::Stop => 128,
            Exit::Shell(code) => code,
        }
    }

    /// The code that a record holds.
    pub fn from_code(code: u8) -> Exit {
        match code {
            0 => Exit::Good,
            1 => Exit::Regressed,
            2 => Exit::Request,
            4 => Exit::NothingSelected,
            5 => Exit::Build,
            _ => Exit::Harness,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// An end with an error: what is said, and the code.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    report: miette::Report,
}

impl Failure {
    fn new(exit: Exit, diagnostic: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self {
            exit,
            report: miette::Report::new(diagnostic),
        }
    }

    /// A request that can't be meant, with its remedy.
    pub fn request(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::Request,
            report: miette::miette!(help = remedy.into(), "{}", message.into()),
        }
    }

    /// Trouble of the harness or the host.
    pub fn harness(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Harness,
            report: miette::miette!("{}", message.into()),
        }
    }

    /// Trouble of the harness or the host that somebody can do something about.
    pub fn host(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::with(Exit::Harness, message, remedy)
    }

    /// An end with this code.
    pub fn with(exit: Exit, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit,
            report: miette::miette!(help = remedy.into(), "{}", message.into()),
        }
    }

    /// Nothing to do.
    pub fn nothing_selected(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::NothingSelected,
            report: miette::miette!(help = remedy.into(), "{}", message.into()),
        }
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        errln!("zonedev: {:?}", self.report);
    }
}

impl From<SpecError> for Failure {
    fn from(e: SpecError) -> Self {
        Failure::new(Exit::Request, e)
    }
}

impl From<KernelNameError> for Failure {
    fn from(e: KernelNameError) -> Self {
        Failure::request(e.to_string(), "see `zonedev list kernels`")
    }
}

impl From<FilterError> for Failure {
    fn from(e: FilterError) -> Self {
        Failure::request(format!("failed to {e}"), "see `zonedev list suites`")
    }
}

impl From<BuildError> for Failure {
    fn from(e: BuildError) -> Self {
        let exit = match e.class() {
            ErrorClass::Spec => Exit::Request,
            ErrorClass::Host => Exit::Harness,
            ErrorClass::Build => Exit::Build,
        };
        match e {
            BuildError::Spec(spec) => Failure::new(exit, spec),
            e => {
                let mut text = e.to_string();
                let mut source = std::error::Error::source(&e);
                while let Some(cause) = source {
                    text = format!("{text}: {cause}");
                    source = cause.source();
                }
                Self {
                    exit,
                    report: miette::miette!("{text}"),
                }
            }
        }
    }
}

impl From<VmError> for Failure {
    fn from(e: VmError) -> Self {
        let whose = match e.fault() {
            Fault::Host => "the host",
            Fault::Harness => "the harness",
            #[allow(unreachable_patterns)]
            _ => "the guest",
        };
        Failure::harness(format!("{whose} failed: {e}"))
    }
}

impl From<RunError> for Failure {
    fn from(e: RunError) -> Self {
        match e {
            RunError::Vm(e) => e.into(),
            e => Failure::harness(format!("failed to {e}")),
        }
    }
}

impl From<RunFolderError> for Failure {
    fn from(e: RunFolderError) -> Self {
        Failure::harness(format!("failed to {e}"))
    }
}

impl From<ClusterError> for Failure {
    fn from(e: ClusterError) -> Self {
        Failure::harness(format!("failed to {e}"))
    }
}

impl From<SnapshotError> for Failure {
    fn from(e: SnapshotError) -> Self {
        Failure::harness(format!("failed to {e}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::harness(e.to_string())
    }
}
