//! Faults by signals: to QEMU, to the harness, by its terminal.

use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{qemus, said};
use crate::world::{Place, Running, World, ensure, soon, spawn, wait};

fn send(pid: u32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid as i32), signal).is_ok()
}

pub(crate) fn qemu_killed(world: &mut World) -> Result<bool, String> {
    to_qemu(world, Signal::SIGKILL)
}

pub(crate) fn qemu_terminated(world: &mut World) -> Result<bool, String> {
    to_qemu(world, Signal::SIGTERM)
}

/// The host's trouble: it is tried once more, and told, and no verdict is another.
fn to_qemu(world: &mut World, signal: Signal) -> Result<bool, String> {
    let place = Place::new();
    let moment = world.moment();
    let mut running = spawn(&mut world.matrix(&place));
    let mut hit = false;
    if running.runs_for(moment) {
        // The first one that is there from now on.
        while !hit && running.runs_for(Duration::ZERO) {
            let there = qemus(&place.run);
            if !there.is_empty() {
                let which = world.below(there.len() as u64) as usize;
                hit = send(there[which], signal);
            }
        }
    }
    let output = wait(running)?;
    world.is_complete(&place, &output)?;
    if hit {
        let record = place.record().ok_or("there is no record")?;
        // One that had done its work and was about to be ended is no loss.
        let told = record
            .notices
            .iter()
            .any(|n| n.contains("QEMU") || n.contains("no template"));
        return Ok(told);
    }
    Ok(false)
}

/// Killed up to three times, and gone on with.
pub(crate) fn harness_killed(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let mut hit = false;
    let times = 1 + world.below(3);
    for n in 0..times {
        let moment = world.moment();
        let mut running = match n {
            0 => spawn(&mut world.matrix(&place)),
            _ if !place.run.join("begun.json").exists() => break,
            _ => spawn(&mut place.resume()),
        };
        if !running.runs_for(moment) {
            let output = wait(running)?;
            ensure!(
                matches!(output.status.code(), Some(0 | 2)),
                "{}",
                said(&output)
            );
            break;
        }
        let Running { mut child, memory } = running;
        child.kill().unwrap();
        ensure!(
            child.wait().unwrap().signal() == Some(9),
            "it was not killed"
        );
        hit = true;
        soon("QEMU ends with its harness", || {
            qemus(&place.run).is_empty()
        })?;
        // What it could not remove is swept at the next start.
        let other = Place::new();
        let mut next = spawn(&mut world.matrix(&other));
        let swept = soon("memory of a dead harness is swept", || {
            next.runs_for(Duration::ZERO);
            memory.iter().all(|dir| !dir.exists())
        });
        let _ = next.child.kill();
        let _ = next.child.wait();
        swept?;
    }
    world.goes_on(&place)?;
    Ok(hit)
}

pub(crate) fn interrupted(world: &mut World) -> Result<bool, String> {
    ended_by(world, &[Signal::SIGINT])
}

pub(crate) fn terminated(world: &mut World) -> Result<bool, String> {
    ended_by(world, &[Signal::SIGTERM])
}

pub(crate) fn interrupted_twice(world: &mut World) -> Result<bool, String> {
    ended_by(world, &[Signal::SIGINT, Signal::SIGINT])
}

/// It ends soon, says what had finished, and leaves nothing.
fn ended_by(world: &mut World, signals: &[Signal]) -> Result<bool, String> {
    let place = Place::new();
    let moment = world.moment();
    let mut running = spawn(&mut world.matrix(&place));
    if !running.runs_for(moment) {
        let output = wait(running)?;
        world.is_complete(&place, &output)?;
        return Ok(false);
    }
    let begun = place.run.join("begun.json").exists();
    let began = Instant::now();
    for signal in signals {
        send(running.child.id(), *signal);
    }
    let memory = running.memory.clone();
    let output = wait(running)?;
    let latency = began.elapsed();
    if output.status.code() == Some(0) {
        // It was about to end anyway.
        world.is_complete(&place, &output)?;
        return Ok(false);
    }
    world.latencies.push(latency);
    let text = said(&output);
    if output.status.signal().is_some() && !place.run.exists() {
        // Before it had begun anything.
        return Ok(true);
    }
    ensure!(
        output.status.code() == Some(3),
        "it ended with {}: {text}",
        output.status
    );
    if begun && signals.len() == 1 {
        let told = text.contains("cells had finished") && text.contains("--resume");
        ensure!(told, "it tells nothing of what had finished: {text}");
    }
    world.is_tidy(&place, &memory)?;
    world.goes_on(&place)?;
    Ok(true)
}

/// Its terminal is gone: it ends as if it were interrupted.
pub(crate) fn hung_up(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let moment = world.moment();
    let pty = nix::pty::openpty(None, None).map_err(|e| e.to_string())?;
    // The harness has the terminal, and not what is behind it.
    let close = FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC);
    fcntl(&pty.master, close).map_err(|e| e.to_string())?;
    let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
    fcntl(&pty.master, flags).map_err(|e| e.to_string())?;
    let mut command = world.matrix(&place);
    let end = |fd: &std::os::fd::OwnedFd| Stdio::from(fd.try_clone().unwrap());
    command
        .stdin(end(&pty.slave))
        .stdout(end(&pty.slave))
        .stderr(end(&pty.slave));
    let fd = pty.slave.as_raw_fd();
    // SAFETY: between fork and exec only the system calls setsid and ioctl are made; the descriptor
    // is open until the child has been made.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            match nix::libc::ioctl(fd, nix::libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let child = command.spawn().unwrap();
    drop(command);
    drop(pty.slave);
    // Somebody reads, until the terminal is closed.
    let master = pty.master;
    let mut running = Running {
        child,
        memory: Vec::new(),
    };
    let until = Instant::now() + moment;
    while Instant::now() < until {
        let mut buf = [0; 4096];
        while let Ok(1..) = nix::unistd::read(&master, &mut buf) {}
        if !running.runs_for(Duration::from_millis(10)) {
            return Ok(false);
        }
    }
    let memory = running.memory.clone();
    let began = Instant::now();
    // The kernel tells the session's leader of it.
    drop(master);
    let output = wait(running)?;
    world.latencies.push(began.elapsed());
    if output.status.code() == Some(0) {
        return Ok(false);
    }
    ensure!(
        output.status.code() == Some(3),
        "it ended with {}",
        output.status
    );
    world.is_tidy(&place, &memory)?;
    world.goes_on(&place)?;
    Ok(true)
}
