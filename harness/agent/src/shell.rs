//! A shell for a person, beside the agent: a process that PID 1 forks serves the port for shells and
//! has no part in anything else, so that neither an operation that hangs nor a flood of output is in
//! the other's way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;
use proto::{Bytes, FromShell, MAX_CHUNK, ShellStart, Terminal, ToShell, WindowSize, frame};

use crate::cpus;
use crate::init;
use crate::wire::{Filled, Inbox};

/// The host's name for the port.
const PORT: &str = "org.zonedev.shell";
/// How long the port's driver may take to learn its name.
const NAMED: Duration = Duration::from_secs(30);
/// What a shell has not read yet may be so much before no more is taken for it.
const UNREAD: usize = 64 << 10;
/// How long what a shell left running may go on writing before its end is told.
const LAST_WORDS: Duration = Duration::from_millis(200);

nix::ioctl_write_int_bad!(set_controlling, libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

/// Forks the process that serves the port, where there is one.
///
/// # Errors
/// Where it can't be forked.
pub(crate) fn fork() -> io::Result<()> {
    // SAFETY: PID 1 has one thread, so that the child may go on in Rust code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            init::close_from(3);
            cpus::all();
            // PID 1 blocks SIGCHLD, and a shell would inherit that: its `wait` would never end.
            let _ = SigSet::empty().thread_set_mask();
            let _ = serve();
            // SAFETY: ends this process, whose exit handlers are PID 1's and not its own.
            unsafe { libc::_exit(1) }
        }
    }
}

/// Serves until the port is gone.
fn serve() -> io::Result<()> {
    let mut server = Server {
        port: open()?,
        inbox: Inbox::default(),
        shell: None,
    };
    loop {
        server.turn()?;
    }
}

fn open() -> io::Result<File> {
    let until = Instant::now() + NAMED;
    loop {
        if let Some(node) = init::find(PORT)
            && let Ok(file) = init::open_nonblocking(&node)
        {
            return Ok(file);
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The port, and the shell that runs.
struct Server {
    port: File,
    inbox: Inbox,
    shell: Option<Shell>,
}

/// A shell that runs.
struct Shell {
    child: Child,
    /// Becomes readable with its end.
    pidfd: OwnedFd,
    /// Where what is typed goes; `None` once nothing more is.
    input: Option<File>,
    /// What it writes, and whether to standard error.
    outputs: Vec<(File, bool)>,
    /// What was typed and not yet taken.
    typed: Vec<u8>,
    /// Nothing more comes behind that.
    closed: bool,
    /// Whether it has a terminal.
    terminal: bool,
}

impl Server {
    fn turn(&mut self) -> io::Result<()> {
        self.wait();
        if !self.full() {
            if self.inbox.fill(&mut self.port)? == Filled::Closed {
                // Nobody is at the other end: QEMU itself is about to go.
                std::thread::sleep(Duration::from_millis(50));
            }
            while let Some(message) = self.inbox.next().map_err(io::Error::other)? {
                self.message(message)?;
            }
        }
        let Some(shell) = &mut self.shell else {
            return Ok(());
        };
        shell.feed();
        shell.forward(&mut self.port)?;
        if let Some(status) = shell.child.try_wait()? {
            shell.last_words(&mut self.port)?;
            self.shell = None;
            let code = match (status.code(), status.signal()) {
                (Some(code), _) => u8::try_from(code).unwrap_or(255),
                (None, signal) => u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(255),
            };
            send(&mut self.port, &FromShell::Ended { code })?;
        }
        Ok(())
    }

    /// Whether the shell has so much to read that no more is taken for it.
    fn full(&self) -> bool {
        self.shell.as_ref().is_some_and(|s| s.typed.len() > UNREAD)
    }

    /// Until something is to be done.
    fn wait(&self) {
        let mut fds = Vec::new();
        if !self.full() {
            fds.push(PollFd::new(self.port.as_fd(), PollFlags::POLLIN));
        }
        if let Some(shell) = &self.shell {
            let mut add = |fd, what| fds.push(PollFd::new(fd, what));
            add(shell.pidfd.as_fd(), PollFlags::POLLIN);
            for (output, _) in &shell.outputs {
                add(output.as_fd(), PollFlags::POLLIN);
            }
            if let Some(input) = shell.input.as_ref().filter(|_| !shell.typed.is_empty()) {
                add(input.as_fd(), PollFlags::POLLOUT);
            }
        }
        // Whatever it says, everything is looked at.
        let _ = poll(&mut fds, PollTimeout::NONE);
    }

    fn message(&mut self, message: ToShell) -> io::Result<()> {
        match message {
            ToShell::Start(start) => {
                self.shell = None;
                let said = match Shell::start(&start) {
                    Ok(shell) => {
                        self.shell = Some(shell);
                        FromShell::Started {}
                    }
                    Err(e) => FromShell::Failed {
                        message: e.to_string(),
                    },
                };
                send(&mut self.port, &said)?;
            }
            ToShell::Typed { bytes } => {
                if let Some(shell) = &mut self.shell {
                    shell.typed.extend(bytes.0);
                }
            }
            ToShell::Resized { size } => {
                if let Some(shell) = self.shell.as_ref().filter(|s| s.terminal)
                    && let Some(input) = &shell.input
                {
                    // SAFETY: TIOCSWINSZ reads one winsize that lives through the call.
                    let _ = unsafe { set_size(input.as_raw_fd(), &winsize(size)) };
                }
            }
            ToShell::Close {} => {
                if let Some(shell) = &mut self.shell {
                    shell.closed = true;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Gone already, as a rule; what it left running sees its terminal hang up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Shell {
    fn start(start: &ShellStart) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        match (&start.command, &start.terminal) {
            (Some(line), _) => command.args(["-c", line]),
            (None, Some(_)) => command.arg("-i"),
            (None, None) => command.arg("-s"),
        };
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("PS1", &start.prompt)
            .current_dir("/");
        match &start.terminal {
            Some(terminal) => Self::on_terminal(command, terminal),
            None => Self::on_pipes(command),
        }
    }

    fn on_terminal(mut command: Command, terminal: &Terminal) -> io::Result<Self> {
        mount_ptys()?;
        let OpenptyResult { master, slave } = openpty(&winsize(terminal.size), None)?;
        // What is started must not keep the other end of its own terminal.
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let stream = || io::Result::Ok(Stdio::from(slave.try_clone()?));
        command
            .env("TERM", &terminal.name)
            .stdin(stream()?)
            .stdout(stream()?)
            .stderr(stream()?);
        // SAFETY: setsid(2) and ioctl(2) are async-signal-safe and allocate nothing.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                set_controlling(0, 0)?;
                Ok(())
            });
        }
        let child = command.spawn()?;
        drop(slave);
        let input = File::from(master);
        let output = input.try_clone()?;
        Self::new(child, Some(input), vec![(output, false)], true)
    }

    fn on_pipes(mut command: Command) -> io::Result<Self> {
        command
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: setsid(2) is async-signal-safe and allocates nothing.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
        }
        let mut child = command.spawn()?;
        let input = child.stdin.take().map(|s| File::from(OwnedFd::from(s)));
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        let outputs = [(out, false), (err, true)];
        let outputs = outputs.into_iter();
        let outputs = outputs.filter_map(|(fd, error)| Some((File::from(fd?), error)));
        Self::new(child, input, outputs.collect(), false)
    }

    fn new(
        child: Child,
        input: Option<File>,
        outputs: Vec<(File, bool)>,
        terminal: bool,
    ) -> io::Result<Self> {
        for file in outputs.iter().map(|(f, _)| f).chain(&input) {
            fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the descriptor is new and ours.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Shell {
            child,
            pidfd,
            input,
            outputs,
            typed: Vec::new(),
            closed: false,
            terminal,
        })
    }

    /// Hands on what was typed, as far as it is taken.
    fn feed(&mut self) {
        let Some(input) = &mut self.input else {
            self.typed.clear();
            return;
        };
        while !self.typed.is_empty() {
            match input.write(&self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // It reads no more.
                Err(_) => {
                    self.typed.clear();
                    self.closed = true;
                }
            }
        }
        // A terminal has no end of file but the one that is typed.
        if self.closed && !self.terminal {
            self.input = None;
        }
    }

    /// Hands on what it wrote: one chunk of each stream. True where there was any.
    fn forward(&mut self, port: &mut File) -> io::Result<bool> {
        let mut any = false;
        let mut chunk = [0; MAX_CHUNK];
        let mut i = 0;
        while let Some((output, error)) = self.outputs.get_mut(i) {
            match output.read(&mut chunk) {
                Ok(n @ 1..) => {
                    any = true;
                    let bytes = Bytes(chunk[..n].to_vec());
                    let error = *error;
                    send(port, &FromShell::Shown { bytes, error })?;
                    i += 1;
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    i += 1;
                }
                // The end of a pipe, or of a terminal that nobody has any more (EIO).
                Ok(_) | Err(_) => drop(self.outputs.remove(i)),
            }
        }
        Ok(any)
    }

    /// What it wrote before it ended.
    fn last_words(&mut self, port: &mut File) -> io::Result<()> {
        let until = Instant::now() + LAST_WORDS;
        loop {
            let any = self.forward(port)?;
            if self.outputs.is_empty() || Instant::now() > until {
                return Ok(());
            }
            if !any {
                let mut fds: Vec<PollFd<'_>> = self
                    .outputs
                    .iter()
                    .map(|(f, _)| PollFd::new(f.as_fd(), PollFlags::POLLIN))
                    .collect();
                let _ = poll(&mut fds, PollTimeout::from(20u8));
            }
        }
    }
}

/// Mounts where terminals are, once, and not at boot: no case needs it.
fn mount_ptys() -> io::Result<()> {
    if Path::new("/dev/pts/ptmx").exists() {
        return Ok(());
    }
    let _ = std::fs::create_dir("/dev/pts");
    let (kind, none) = (Some("devpts"), MsFlags::empty());
    mount(kind, "/dev/pts", kind, none, Some("mode=0620"))
        .map_err(|e| io::Error::other(format!("mount devpts: {e}")))
}

fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Sends one frame, however long the host takes to read it.
fn send(port: &mut File, message: &FromShell) -> io::Result<()> {
    let bytes = frame::encode(message).map_err(io::Error::other)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match port.write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => writable(port.as_fd()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn writable(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    let _ = poll(&mut fds, PollTimeout::from(1000u16));
}
