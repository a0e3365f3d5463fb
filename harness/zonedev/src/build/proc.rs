//! Running the host's programs: whatever is missing is named with its package, whatever fails
//! says what it said, and nothing that we start outlives us.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Output, Stdio};

use camino::Utf8Path;

use super::cache::CacheLock;
use super::error::BuildError;

/// A command with a plain locale, and without the caller's git environment: a build inside a hook
/// or a bisection must not see the tree of its caller.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut cmd = Command::new(program);
    cmd.env("LC_ALL", "C").stdin(Stdio::null());
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_PREFIX",
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "KBUILD_OUTPUT",
        "KCFLAGS",
        "KCPPFLAGS",
        "ARCH",
        "CROSS_COMPILE",
    ] {
        cmd.env_remove(name);
    }
    die_with_us(&mut cmd, None);
    cmd
}

/// Runs to the end and hands back the output, whatever the exit status.
pub(crate) fn output(cmd: &mut Command) -> Result<Output, BuildError> {
    cmd.output().map_err(|e| spawn_error(cmd, e))
}

/// Runs to the end; a bad exit status is an error that says `what` was tried.
pub(crate) fn run(cmd: &mut Command, what: impl Into<String>) -> Result<String, BuildError> {
    let out = output(cmd)?;
    if !out.status.success() {
        return Err(BuildError::Command {
            what: what.into(),
            detail: said(&out),
        });
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs to the end with stdout and stderr together, line by line, into `log` and `on_line`.
pub(crate) fn stream(
    cmd: &mut Command,
    log: &mut File,
    log_path: &Utf8Path,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus, BuildError> {
    let (reader, writer) =
        std::io::pipe().map_err(|e| BuildError::io("make a pipe for", log_path, e))?;
    let second = writer
        .try_clone()
        .map_err(|e| BuildError::io("make a pipe for", log_path, e))?;
    cmd.stdout(writer).stderr(second);
    let mut child = cmd.spawn().map_err(|e| spawn_error(cmd, e))?;
    // The command holds our ends of the pipe, and the reader below waits for the last one.
    cmd.stdout(Stdio::null()).stderr(Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut failed = None;
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => {
                failed.get_or_insert(e);
                break;
            }
        }
        if let Err(e) = log.write_all(&line) {
            // Read on, so that the child ends; a lost log is told afterwards.
            failed.get_or_insert(e);
        }
        on_line(String::from_utf8_lossy(&line).trim_end());
    }
    let status = child
        .wait()
        .map_err(|e| BuildError::io("wait for what writes", log_path, e))?;
    match failed {
        Some(e) => Err(BuildError::io("write", log_path, e)),
        None => Ok(status),
    }
}

/// The end of what a failed program said, on one line.
pub(crate) fn said(out: &Output) -> String {
    let text = [&out.stderr[..], &out.stdout[..]]
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned())
        .find(|text| !text.is_empty());
    match text {
        Some(text) => {
            let lines: Vec<&str> = text
                .lines()
                .map(str::trim)
                .filter(|l| !l.is_empty())
                .collect();
            lines[lines.len().saturating_sub(3)..].join("; ")
        }
        None => out.status.to_string(),
    }
}

/// Lets a command die when the thread that starts it does, and hold `lock` for as long as any of
/// its children runs: after a kill of ours, the next build waits for the last compiler.
pub(crate) fn die_with_us(cmd: &mut Command, lock: Option<&CacheLock>) {
    let parent = std::process::id();
    let lock_fd = lock.map(|l| l.file().as_raw_fd());
    let setup = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
        if nix::unistd::getppid().as_raw() as u32 != parent {
            return Err(std::io::Error::other("its parent is gone"));
        }
        if let Some(fd) = lock_fd {
            // SAFETY: fcntl on a descriptor number; it is open, as the lock outlives the spawn.
            let rc = unsafe { nix::libc::fcntl(fd, nix::libc::F_SETFD, 0) };
            if rc != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure only makes the system calls prctl, getppid and fcntl, all of which are
    // async-signal-safe, and allocates nothing unless it fails.
    unsafe { cmd.pre_exec(setup) };
}

fn spawn_error(cmd: &Command, e: std::io::Error) -> BuildError {
    let program = cmd.get_program().to_string_lossy().into_owned();
    if e.kind() == std::io::ErrorKind::NotFound {
        return missing(&program);
    }
    BuildError::Command {
        what: format!("start {program}"),
        detail: e.to_string(),
    }
}

/// The error for a program that is not installed.
pub(crate) fn missing(program: &str) -> BuildError {
    let name = program.rsplit('/').next().unwrap_or(program);
    let package = match name {
        "apt-get" | "apt-cache" => "apt",
        "dpkg-deb" => "dpkg",
        "xz" => "xz-utils",
        "ld" | "objcopy" | "strip" => "binutils",
        "pahole" => "dwarves",
        "ldd" => "libc-bin",
        other => other,
    };
    BuildError::MissingTool {
        program: name.to_owned(),
        package: package.to_owned(),
    }
}

/// Whether a program can be started.
pub(crate) fn exists(program: &str) -> bool {
    which(program).is_some()
}

/// Where a program is, by PATH and the places of system programs that a user's PATH lacks.
pub(crate) fn which(program: &str) -> Option<camino::Utf8PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .filter(|dir| !dir.is_empty())
        .map(|dir| Utf8Path::new(dir).join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let e = output(&mut command("/nonexistent/pahole")).unwrap_err();
        assert_eq!(
            e.to_string(),
            "the program `pahole` is not installed; install the package dwarves"
        );
    }

    #[test]
    fn both_streams_come_in_order_and_into_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("log");
        let mut log = File::create(&path).unwrap();
        let mut lines = Vec::new();
        let status = stream(
            command("sh").args(["-c", "echo a; echo b >&2; echo c; exit 3"]),
            &mut log,
            &path,
            |line| lines.push(line.to_owned()),
        )
        .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["a", "b", "c"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
    }

    #[test]
    fn what_a_program_said_is_in_the_error() {
        let e = run(
            command("sh").args(["-c", "echo no such thing >&2; exit 1"]),
            "ask",
        )
        .unwrap_err();
        assert_eq!(e.to_string(), "ask: no such thing");
    }
}
