//! From the kernel's first program to a system that operations can run on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::panic;

use nix::mount::{MsFlags, mount};

/// Where each file system goes: type, directory.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("debugfs", "/sys/kernel/debug"),
];

/// Mounts what operations need and leaves the console to the kernel: PID 1's
/// own standard streams lead nowhere.
///
/// # Errors
/// The mount that failed. What a kernel leaves out (debugfs) is no error.
pub(super) fn prepare() -> io::Result<()> {
    for (kind, dir) in MOUNTS {
        // Where a file system provides the directory itself, this fails and need not succeed.
        let _ = fs::create_dir_all(dir);
        match mount(Some(kind), dir, Some(kind), MsFlags::empty(), None::<&str>) {
            Ok(()) | Err(nix::errno::Errno::EBUSY) => {}
            Err(_) if kind == "debugfs" => {}
            Err(e) => return Err(io::Error::other(format!("mount {kind} on {dir}: {e}"))),
        }
    }
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    // Refused where the command line has decided; marks must not be dropped for their rate.
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    panic::set_hook(Box::new(|info| {
        log(3, &format!("zonedev agent: {info}"));
    }));
    Ok(())
}

/// Writes one line to the kernel's log at a level (3 error, 6 information).
pub(super) fn log(level: u8, line: &str) {
    // The log takes 1 KiB a record, and a newline would start another one.
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(900)
        .collect();
    if let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kmsg.write_all(format!("<{level}>{line}\n").as_bytes());
    }
}

/// `uname -r`.
pub(super) fn release() -> String {
    nix::sys::utsname::uname()
        .map(|u| u.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// /proc/uptime in milliseconds.
pub(super) fn uptime_ms() -> u64 {
    fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|s| s.split(' ').next()?.replace('.', "").parse::<u64>().ok())
        .map_or(0, |centiseconds| centiseconds * 10)
}

/// Closes every descriptor from `first` on: a forked child keeps nothing of PID 1's.
pub(crate) fn close_from(first: u32) {
    // SAFETY: the caller is a forked child that never uses, nor drops, what owned these.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Opens a device node for reading and writing without waiting on it.
pub(crate) fn open_nonblocking(path: &str) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Writes everything back and switches the machine off.
pub(super) fn power_off() -> ! {
    nix::unistd::sync();
    loop {
        // Returns only where it failed.
        let Err(e) = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
        log(3, &format!("zonedev agent: failed to power off: {e}"));
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
