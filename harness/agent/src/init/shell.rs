//! A shell for a person, over the port that carried frames until then.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::boot;

/// Gives the port to busybox's shell as its standard streams and waits for its end, which is
/// the guest's end. Returns only where the shell can't be started.
pub(super) fn hand_over(port: BorrowedFd<'_>) -> io::Error {
    match start(port) {
        Ok(mut shell) => {
            // What else has ended stays unreaped: the guest ends with its shell.
            let _ = shell.wait();
            power_off()
        }
        Err(e) => e,
    }
}

fn start(port: BorrowedFd<'_>) -> io::Result<std::process::Child> {
    // The flags are the open file's, so this holds for all its descriptors.
    fcntl(port.as_fd(), FcntlArg::F_SETFL(OFlag::O_RDWR))?;
    let stream = || io::Result::Ok(Stdio::from(File::from(port.try_clone_to_owned()?)));
    let mut command = Command::new("/bin/sh");
    command
        .arg("-i")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/")
        .env("TERM", "dumb")
        .env("PS1", "zonedev# ")
        .current_dir("/")
        .stdin(stream()?)
        .stdout(stream()?)
        .stderr(stream()?);
    // SAFETY: setsid(2) and sched_setaffinity(2) are async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(|| {
            crate::cpus::all();
            nix::unistd::setsid().map(drop).map_err(io::Error::from)
        });
    }
    command.spawn()
}

/// Writes everything back and switches the machine off.
pub(super) fn power_off() -> ! {
    nix::unistd::sync();
    loop {
        // Returns only where it failed.
        let Err(e) = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
        boot::log(3, &format!("zonedev agent: failed to power off: {e}"));
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
