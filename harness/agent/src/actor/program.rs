//! Programs of the image.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::{ProgramOutput, StepResult};

use crate::process;
use crate::wire::{ROOT, errno, failed, io_errno};

/// The most that is kept of a program's output, in bytes.
const MOST: usize = 1 << 20;

/// Where a program runs.
pub(super) struct Place<'a> {
    /// In the root file system.
    pub(super) root: bool,
    /// The directory that it begins in.
    pub(super) cwd: &'a str,
}

/// Runs a program to its end, at most `limit`.
///
/// # Errors
/// Where it could not be started or did not end in time.
pub(super) fn run(
    argv: &[String],
    env: &[(&str, &str)],
    place: &Place<'_>,
    limit: Duration,
) -> Result<ProgramOutput, StepResult> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(failed("run a program: its name is missing"));
    };
    let (mut from, to) = io::pipe().map_err(|e| io_errno("pipe", &e))?;
    let second = to.try_clone().map_err(|e| io_errno("dup", &e))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", if place.root { "/root" } else { "/" })
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(to)
        .stderr(second);
    enter(&mut command, place);
    let spawned = command.spawn();
    // It holds our ends of the pipe, which must end with the program.
    drop(command);
    let mut child =
        spawned.map_err(|e| failed(format!("run {program}: {e}; is it in the image?")))?;
    fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| errno("fcntl", e))?;
    let until = Instant::now() + limit;
    let mut kept = Kept::default();
    let status = loop {
        kept.drain(&mut from);
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(e) => return Err(io_errno("waitpid", &e)),
        }
        if Instant::now() > until {
            return Err(overdue(program, &mut child, limit));
        }
        if kept.ended {
            std::thread::sleep(Duration::from_millis(2));
        } else {
            let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(20u8));
        }
    };
    kept.drain(&mut from);
    Ok(ProgramOutput {
        text: String::from_utf8_lossy(&kept.bytes).into_owned(),
        code: code(status),
        cut: kept.cut,
    })
}

/// Lets a command begin in its place.
fn enter(command: &mut Command, place: &Place<'_>) {
    let root = place.root;
    let cwd = place.cwd.to_owned();
    let setup = move || {
        if root {
            nix::unistd::chroot(ROOT)?;
        }
        nix::unistd::chdir(cwd.as_str())?;
        Ok(())
    };
    // SAFETY: the closure makes the system calls chroot and chdir, with paths that nix copies to
    // the stack, and allocates nothing.
    unsafe { command.pre_exec(setup) };
}

/// Runs a program that must succeed.
///
/// # Errors
/// As of [`run`], and where it ends with another code than 0: its last lines.
pub(super) fn must(
    argv: &[&str],
    env: &[(&str, &str)],
    limit: Duration,
) -> Result<ProgramOutput, StepResult> {
    let owned: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
    let place = Place {
        root: false,
        cwd: "/",
    };
    let output = run(&owned, env, &place, limit)?;
    if output.code == 0 {
        return Ok(output);
    }
    let lines: Vec<&str> = output.text.trim().lines().collect();
    let last = lines[lines.len().saturating_sub(6)..].join(" | ");
    Err(failed(format!(
        "run {}: exit code {}: {last}",
        argv.join(" "),
        output.code
    )))
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
    ended: bool,
}

impl Kept {
    fn drain(&mut self, from: &mut impl Read) {
        let mut chunk = [0; 8 << 10];
        while !self.ended {
            match from.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    let room = MOST.saturating_sub(self.bytes.len()).min(n);
                    self.bytes.extend_from_slice(&chunk[..room]);
                    self.cut |= room < n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
    }
}

fn overdue(program: &str, child: &mut Child, limit: Duration) -> StepResult {
    let place = process::sample(child.id() as i32)
        .map(|s| format!(", in {} ({})", s.wchan, s.state))
        .unwrap_or_default();
    // It may sleep uninterruptibly: it is killed, but not waited for.
    let _ = child.kill();
    failed(format!(
        "run {program}: still running after {} s{place}",
        limit.as_secs()
    ))
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
