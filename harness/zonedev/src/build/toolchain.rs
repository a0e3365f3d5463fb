//! The programs that make a kernel, with their versions: part of what an artifact depends on.

use std::process::Command;

use serde::{Deserialize, Serialize};

use super::error::BuildError;
use super::proc;
use crate::spec::Compiler;

/// The programs of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The C compiler's command.
    pub cc: String,
    /// The compiler's first line of `--version`.
    pub cc_version: String,
    /// The linker's.
    pub ld_version: String,
    /// pahole's, which makes the BTF.
    pub pahole_version: String,
}

impl Toolchain {
    /// Looks at the host. `compiler` says which gcc to use where the host's own is too new.
    pub(crate) fn probe(compiler: Option<&Compiler>) -> Result<Self, BuildError> {
        for program in ["make", "flex", "bison", "bc", "perl", "xz", "tar"] {
            if !proc::exists(program) {
                return Err(proc::missing(program));
            }
        }
        let mut cc = "gcc".to_owned();
        if let Some(compiler) = compiler {
            let full = proc::output(proc::command("gcc").arg("-dumpversion"))?;
            let text = String::from_utf8_lossy(&full.stdout).into_owned();
            let major = text
                .trim()
                .split('.')
                .next()
                .and_then(|m| m.parse::<u32>().ok());
            if let Some(found) = major.filter(|m| *m > compiler.newest) {
                if !proc::exists(&compiler.command) {
                    return Err(BuildError::CompilerTooNew {
                        found,
                        newest: compiler.newest,
                        package: compiler.package.clone(),
                    });
                }
                cc = compiler.command.clone();
            }
        }
        Ok(Self {
            cc_version: first_line(&cc)?,
            ld_version: first_line("ld")?,
            pahole_version: first_line("pahole")?,
            cc,
        })
    }

    /// A `make` for a kernel whose tree is at `tree` and whose objects are in its `build`: with
    /// our compiler, and with nothing of host, user, time or place in what it makes.
    pub(crate) fn make(&self, tree: &camino::Utf8Path) -> Command {
        let mut cmd = proc::command("make");
        // With the objects in a directory just below the source, kbuild names sources by `..`.
        cmd.args(["-C", tree.as_str(), "O=build"])
            .arg(format!("CC={}", self.cc))
            .arg(format!("HOSTCC={}", self.cc))
            .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
            .env("KBUILD_BUILD_USER", "zonedev")
            .env("KBUILD_BUILD_HOST", "zonedev")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("LOCALVERSION", "")
            .env("KCFLAGS", format!("-ffile-prefix-map={tree}=/linux"))
            .env("KAFLAGS", format!("-ffile-prefix-map={tree}=/linux"))
            // The cache may lie inside somebody's repository.
            .env(
                "GIT_CEILING_DIRECTORIES",
                tree.parent().unwrap_or(tree).as_str(),
            );
        cmd
    }
}

fn first_line(program: &str) -> Result<String, BuildError> {
    let text = proc::run(
        proc::command(program).arg("--version"),
        format!("ask {program} for its version"),
    )?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
