//! A shell for a person, on a port of its own.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{boot, port};

/// Starts busybox's shell with the shell port as its standard streams; its end
/// is the guest's end. Answers its process id.
pub(super) fn start() -> io::Result<i32> {
    let node = port::find(port::SHELL)
        .ok_or_else(|| io::Error::other(format!("find virtio port {}", port::SHELL)))?;
    let port = File::options().read(true).write(true).open(node)?;
    let (out, err) = (port.try_clone()?, port.try_clone()?);
    let mut command = Command::new("/bin/busybox");
    command
        .args(["sh", "-i"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/")
        .env("TERM", "linux")
        .env("PS1", "zonedev# ")
        .current_dir("/")
        .stdin(Stdio::from(port))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err));
    // SAFETY: setsid(2) is async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from)) };
    Ok(command.spawn()?.id() as i32)
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
