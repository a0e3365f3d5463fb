//! Starting processes that can't outlive the harness.
//!
//! PR_SET_PDEATHSIG fires when the *thread* that forked ends, so one thread, which lives as long as
//! any [`Spawner`] does, forks every QEMU. When the harness ends, however it ends, that thread ends
//! with it and the kernel kills what it started. A child whose parent was gone before it could ask
//! for the signal sees that and leaves.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::command::{Args, SANDBOX};
use super::error::{Result, VmError};
use super::qemu::Qemu;

/// How long a QEMU may take to put its sandbox on.
const SANDBOXED: Duration = Duration::from_secs(5);
/// How much of a process's stderr an error repeats, in bytes.
const STDERR_TAIL: u64 = 2048;

/// Starts processes from one long-lived thread. Cheap to clone; the thread ends with the last clone,
/// and with it end the processes.
#[derive(Debug, Clone)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    command: Command,
    // Our copies of what the child inherits, closed once it runs.
    inherit: Vec<OwnedFd>,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: Utf8PathBuf,
    pub(super) args: Vec<String>,
    /// Kept open in the child, under the same numbers.
    pub(super) inherit: Vec<OwnedFd>,
    /// Where stdout and stderr go.
    pub(super) stderr: Utf8PathBuf,
    /// What it may take of the host.
    pub(super) limits: Limits,
}

/// What a QEMU may take of the host, so that one whose guest took it over can't exhaust it. A guest's
/// memory is made before QEMU starts, and writing to it through a mapping is no writing to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of address space, bytes (RLIMIT_AS).
    pub(super) memory: u64,
    /// Of one file, bytes (RLIMIT_FSIZE): the words that it says, and later a dump, see
    /// [`Process::may_write`].
    pub(super) file: u64,
}

impl Limits {
    /// For a guest with so much memory. QEMU with software emulation maps some 2.5 GiB besides: a
    /// gigabyte for translated code, and for each thread a stack and an arena.
    pub(super) fn of_guest(bytes: u64) -> Self {
        Limits {
            memory: bytes.saturating_add(8 << 30),
            file: bytes.saturating_add(64 << 20),
        }
    }
}

/// What QEMU may write to one file before it is allowed more, bytes.
const WORDS: u64 = 16 << 20;

impl Spawner {
    /// Starts the thread.
    pub fn new() -> Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                for mut request in inbox {
                    let child = request.command.spawn();
                    drop(request.inherit);
                    if let Err(Ok(mut child)) = request.reply.send(child) {
                        // Nobody waits for it any more. An error means that it ended already.
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                }
            })
            .map_err(VmError::io("start the thread that starts QEMU"))?;
        Ok(Self { requests })
    }

    pub(super) async fn start(&self, launch: Launch) -> Result<Process> {
        let Launch {
            program,
            args,
            inherit,
            stderr,
            limits,
        } = launch;
        let out = fs_err::File::create(&stderr)
            .map_err(VmError::io(format!("create {stderr}")))?
            .into_file();
        let err = out.try_clone().map_err(VmError::io("duplicate a file"))?;
        let mut command = Command::new(&program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // A group of its own: the terminal's ^C is for the harness, which ends its guests itself.
            .process_group(0);
        let kept: Vec<i32> = inherit.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = std::process::id();
        // SAFETY: the closure runs between fork and exec and only makes the system calls prctl,
        // getppid, prlimit, sigaction and fcntl; it neither allocates nor takes a lock. The
        // descriptors in `kept` are open: `inherit` travels with the command and is closed after the
        // spawn.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                if nix::unistd::getppid().as_raw() as u32 != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                limit(Resource::RLIMIT_AS, limits.memory, limits.memory)?;
                limit(Resource::RLIMIT_FSIZE, WORDS, limits.file)?;
                // A core would be the guest's memory, on the disk of whoever runs a broken kernel.
                limit(Resource::RLIMIT_CORE, 0, 0)?;
                // A write beyond the limit fails, and does not kill.
                signal(Signal::SIGXFSZ, SigHandler::SigIgn)?;
                for &fd in &kept {
                    let fd = std::os::fd::BorrowedFd::borrow_raw(fd);
                    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                Ok(())
            });
        }
        let (reply, answer) = oneshot::channel();
        let gone = || VmError::Io {
            what: "start QEMU".to_owned(),
            source: io::Error::other("the thread that starts QEMU is gone"),
        };
        self.requests
            .send(Request {
                command,
                inherit,
                reply,
            })
            .map_err(|_| gone())?;
        let child = answer
            .await
            .map_err(|_| gone())?
            .map_err(VmError::io(format!("start {program}")))?;
        Process::new(child, stderr)
    }
}

/// Sets a limit, below one that the harness itself is under.
fn limit(resource: Resource, soft: u64, hard: u64) -> nix::Result<()> {
    let (_, most) = getrlimit(resource)?;
    setrlimit(resource, soft.min(most), hard.min(most))
}

/// What keeps a QEMU in bounds here, in words: its sandbox as it really is, and its limits.
///
/// # Errors
/// Where a QEMU with its sandbox on can't be started.
pub async fn confinement(qemu: &Qemu, spawner: &Spawner) -> Result<Vec<String>> {
    let dir = tempfile::tempdir().map_err(VmError::io("make a temporary directory"))?;
    let stderr = Utf8Path::from_path(dir.path()).map(|d| d.join("stderr"));
    let stderr = stderr.ok_or_else(|| {
        VmError::io("use the temporary directory")(io::Error::other("its name is not UTF-8"))
    })?;
    let mut args = Args::default();
    args.0
        .extend(["-nodefaults", "-no-user-config", "-S"].map(str::to_owned));
    for (option, value) in [
        ("-display", "none"),
        ("-nic", "none"),
        ("-machine", "none"),
        ("-sandbox", SANDBOX),
    ] {
        args.add(option, value);
    }
    let process = spawner
        .start(Launch {
            program: qemu.path.clone(),
            args: args.0,
            inherit: Vec::new(),
            stderr,
            limits: Limits::of_guest(0),
        })
        .await?;
    let file = format!("/proc/{}/status", process.pid());
    let field = |name: &str| {
        let status = fs_err::read_to_string(&file).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    // The filter comes with QEMU's options, shortly after its start.
    let filtered = async {
        while field("Seccomp:").is_some_and(|mode| mode != "2") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let filter = tokio::select! {
        status = process.wait() => return Err(process.failed(status?)),
        filtered = tokio::time::timeout(SANDBOXED, filtered) => filtered.is_ok(),
    };
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(process.pid() as i32)));
    let own_group = group.is_ok_and(|g| g.as_raw() as u32 == process.pid());
    Ok(vec![
        match filter {
            true => format!("its sandbox is on (seccomp): {SANDBOX}"),
            false => "NO SANDBOX: QEMU runs without a seccomp filter".to_owned(),
        },
        match own_group {
            true => "no network; a process group of its own",
            false => "no network; NO process group of its own",
        }
        .to_owned(),
        format!(
            "limits: {} GiB of address space beyond the guest's memory, files of {} MiB, no core; no \
             cgroup",
            Limits::of_guest(0).memory >> 30,
            WORDS >> 20
        ),
    ])
}

/// A running child. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(super) struct Process {
    child: Mutex<Child>,
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    stderr: Utf8PathBuf,
}

impl Process {
    fn new(mut child: Child, stderr: Utf8PathBuf) -> Result<Self> {
        let pid = child.id();
        match pidfd(pid) {
            Ok(pidfd) => Ok(Self {
                child: Mutex::new(child),
                pid,
                pidfd,
                stderr,
            }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(VmError::Io {
                    what: format!("watch process {pid}"),
                    source,
                })
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has ended. May be asked again, and by several at once.
    pub(super) async fn wait(&self) -> Result<ExitStatus> {
        loop {
            let ready = self
                .pidfd
                .readable()
                .await
                .map_err(VmError::io("watch QEMU"))?;
            if let Some(status) = self
                .child()
                .try_wait()
                .map_err(VmError::io("wait for QEMU"))?
            {
                return Ok(status);
            }
            let mut ready = ready;
            ready.clear_ready();
        }
    }

    /// Lets it write files as large as its limits allow at most, or again only words.
    ///
    /// # Errors
    /// Where it is gone.
    pub(super) fn may_write(&self, much: bool) -> io::Result<()> {
        let pid = libc::pid_t::try_from(self.pid).map_err(io::Error::other)?;
        let mut now = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: prlimit writes one rlimit, and `now` is one that lives through the call. The
        // process is our child, and not reaped by anyone but us.
        let got = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, std::ptr::null(), &mut now) };
        if got != 0 {
            return Err(io::Error::last_os_error());
        }
        now.rlim_cur = match much {
            true => now.rlim_max,
            false => WORDS.min(now.rlim_max),
        };
        // SAFETY: prlimit reads one rlimit, and writes nothing of ours.
        let set = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &now, std::ptr::null_mut()) };
        match set {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn kill(&self) {
        // An error means that it has ended already.
        let _ = self.child().kill();
    }

    /// The error that its end is.
    pub(super) fn failed(&self, status: ExitStatus) -> VmError {
        VmError::QemuFailed {
            status: describe(status),
            stderr: tail(&self.stderr, STDERR_TAIL),
        }
    }

    /// What its end means, where nobody asked for it.
    pub(super) fn how_it_ended(&self, status: ExitStatus) -> String {
        let words = match status.signal().map(Signal::try_from) {
            Some(Ok(signal)) => match signal {
                Signal::SIGKILL => {
                    "QEMU was killed from outside (SIGKILL); did the host run out of memory?"
                        .to_owned()
                }
                Signal::SIGBUS => {
                    "QEMU crashed (SIGBUS): the place of its memory is full".to_owned()
                }
                Signal::SIGSYS => {
                    "QEMU was stopped by its sandbox (SIGSYS): it did what no guest needs"
                        .to_owned()
                }
                Signal::SIGSEGV | Signal::SIGABRT | Signal::SIGILL | Signal::SIGFPE => {
                    format!("QEMU crashed ({signal})")
                }
                other => format!("QEMU was killed from outside ({other})"),
            },
            _ => format!("QEMU ended by itself ({})", describe(status)),
        };
        match tail(&self.stderr, STDERR_TAIL).trim() {
            "" => words,
            said => format!("{words} after saying: {said}"),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The end of a text file, as text whatever is in it; empty where there is none.
pub(super) fn tail(path: &Utf8Path, bytes: u64) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs_err::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(bytes)))?;
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        Ok(text)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(Ok(signal))) => signal.to_string(),
        (None, _) => status.to_string(),
    }
}

/// A descriptor that becomes readable when our child `pid` ends.
fn pidfd(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    use std::os::fd::FromRawFd;
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1. The process is our
    // child and not reaped yet, so that the number is still its own.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_pidfd_open,
            libc::pid_t::try_from(pid).map_err(io::Error::other)?,
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and ours (pidfd_open sets CLOEXEC on it).
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an OwnedFd is open, and the same descriptor, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &Utf8Path, script: &str) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            inherit: Vec::new(),
            stderr: dir.join("stderr"),
            limits: Limits::of_guest(0),
        }
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_an_error_with_its_words() {
        let dir = camino_tempdir();
        let spawner = Spawner::new().unwrap();
        let process = spawner
            .start(shell(&dir.1, "echo no such machine >&2; exit 3"))
            .await
            .unwrap();
        let status = process.wait().await.unwrap();
        assert_eq!(
            process.failed(status).to_string(),
            "QEMU ended by itself (exit status 3) after saying: no such machine"
        );
        assert_eq!(process.wait().await.unwrap(), status);
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let dir = camino_tempdir();
        let spawner = Spawner::new().unwrap();
        let process = spawner.start(shell(&dir.1, "sleep 1000")).await.unwrap();
        let proc = format!("/proc/{}", process.pid());
        assert!(std::path::Path::new(&proc).exists());
        drop(process);
        assert!(!std::path::Path::new(&proc).exists());
    }

    #[tokio::test]
    async fn only_what_is_named_is_inherited() {
        let dir = camino_tempdir();
        let spawner = Spawner::new().unwrap();
        let (named, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let script = format!(
            "cd /proc/self/fd; test -e {} && echo named; test -e {} || echo no other",
            named.as_raw_fd(),
            other.as_raw_fd()
        );
        let mut launch = shell(&dir.1, &script);
        launch.inherit.push(named.into());
        let process = spawner.start(launch).await.unwrap();
        process.wait().await.unwrap();
        assert_eq!(tail(&dir.1.join("stderr"), 100), "named\nno other\n");
        use std::io::Read;
        let mut other = other;
        assert_eq!(other.read(&mut [0]).unwrap(), 0, "our copy is closed");
    }

    #[tokio::test]
    async fn a_process_is_limited_and_may_write_more_when_it_is_told_so() {
        let dir = camino_tempdir();
        let spawner = Spawner::new().unwrap();
        let mut launch = shell(
            &dir.1,
            "ulimit -Sv; ulimit -Hf; ulimit -c; echo >&2; sleep 1000",
        );
        launch.limits = Limits {
            memory: 1 << 32,
            file: 1 << 30,
        };
        let process = spawner.start(launch).await.unwrap();
        let said = dir.1.join("stderr");
        for _ in 0..1000 {
            if tail(&said, 100).ends_with("\n\n") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // KiB, blocks of 512 bytes (dash), and no core.
        assert_eq!(tail(&said, 100), "4194304\n2097152\n0\n\n");
        let soft = || {
            let limits = fs_err::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
            let line = limits
                .lines()
                .find(|l| l.starts_with("Max file size"))
                .unwrap();
            line.split_whitespace()
                .nth(3)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        assert_eq!(soft(), WORDS);
        process.may_write(true).unwrap();
        assert_eq!(soft(), 1 << 30);
        process.may_write(false).unwrap();
        assert_eq!(soft(), WORDS);
    }

    #[tokio::test]
    async fn how_a_process_ended_tells_a_crash_from_a_kill() {
        let dir = camino_tempdir();
        let spawner = Spawner::new().unwrap();
        for (script, words) in [
            ("kill -KILL $$", "QEMU was killed from outside (SIGKILL)"),
            ("kill -TERM $$", "QEMU was killed from outside (SIGTERM)"),
            ("kill -SEGV $$", "QEMU crashed (SIGSEGV)"),
            ("kill -SYS $$", "QEMU was stopped by its sandbox (SIGSYS)"),
            ("kill -BUS $$", "QEMU crashed (SIGBUS)"),
            (
                "echo no; exit 1",
                "QEMU ended by itself (exit status 1) after saying: no",
            ),
        ] {
            let process = spawner.start(shell(&dir.1, script)).await.unwrap();
            let status = process.wait().await.unwrap();
            let said = process.how_it_ended(status);
            assert!(said.starts_with(words), "{script}: {said}");
        }
    }

    #[tokio::test]
    async fn processes_end_with_their_spawner() {
        let dir = camino_tempdir();
        let spawner = Spawner::new().unwrap();
        let process = spawner.start(shell(&dir.1, "sleep 1000")).await.unwrap();
        drop(spawner);
        let status = process.wait().await.unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    fn camino_tempdir() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }
}
