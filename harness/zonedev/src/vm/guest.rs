//! A running guest: one QEMU, its monitor, its console and the agent's channel.

use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use guestmem::Segment;
use qapi::qmp::{self, QmpCommand};
use tokio::net::UnixStream;
use tokio::sync::broadcast;

use super::command::{CONSOLE_ID, Sharing, Wiring, arguments, file};
use super::console::{Console, Fifos};
use super::error::{Result, VmError};
use super::event::{End, Event};
use super::machine::Machine;
use super::memory::{MemoryDir, Reserved};
use super::qemu::Qemu;
use super::qmp::Qmp;
use super::segments::{check_devices, check_tree, locate};
use super::spawn::{Launch, Limits, Process, Spawner};

/// How long a process that closed its monitor may take to end.
const LAST_BREATH: Duration = Duration::from_secs(5);
/// How long writing a guest's memory to a file may take.
const DUMP_LIMIT: Duration = Duration::from_secs(300);

/// QEMU's line about it (target/i386/tcg/excp_helper.c).
const TRIPLE_FAULT: &str = "Triple fault";

/// What starts guests: a QEMU, the thread that starts it, and the place for guests' memory.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The QEMU.
    pub qemu: Qemu,
    /// The thread.
    pub spawner: Spawner,
    /// The place.
    pub memory: MemoryDir,
}

/// A running guest. Dropped, it is gone at once, with its memory.
#[derive(Debug)]
pub struct Guest {
    // First, so that the process is gone before its files are.
    pub(super) process: Process,
    pub(super) monitor: Qmp,
    pub(super) launcher: Launcher,
    pub(super) machine: Arc<Machine>,
    channel: Option<UnixStream>,
    shell: Option<UnixStream>,
    console: Console,
    log: Gone,
    gdb: Option<Gone>,
    memory: Utf8PathBuf,
    segments: OnceLock<Vec<Segment>>,
    /// The files of memory that is its own; a clone has none.
    pub(super) files: Option<Reserved>,
}

/// A file that goes with its guest: removed when dropped.
#[derive(Debug)]
struct Gone(Utf8PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        // Gone already, or with the directory that it is in.
        let _ = fs_err::remove_file(&self.0);
    }
}

/// What a person's guest has besides a port for shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByHand {
    /// A debugger finds it, and it stands still until one lets it run.
    pub gdb: bool,
}

/// Whether a guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether its processors execute.
    pub running: bool,
    /// QEMU's word: "running", "paused", "shutdown", "guest-panicked" …
    pub state: String,
}

impl Guest {
    /// Boots a machine with empty NVDIMMs. Its console goes to `dir`/console.log, what QEMU says to
    /// `dir`/qemu.stderr; `dir` exists and is this guest's own. Returns as soon as it runs.
    pub async fn boot(machine: &Machine, launcher: &Launcher, dir: &Utf8Path) -> Result<Self> {
        Self::boot_with(machine, launcher, dir, None).await
    }

    /// The same for a person. One that a debugger is to find does not run yet.
    pub async fn boot_by_hand(
        machine: &Machine,
        launcher: &Launcher,
        dir: &Utf8Path,
        hand: ByHand,
    ) -> Result<Self> {
        Self::boot_with(machine, launcher, dir, Some(hand)).await
    }

    async fn boot_with(
        machine: &Machine,
        launcher: &Launcher,
        dir: &Utf8Path,
        hand: Option<ByHand>,
    ) -> Result<Self> {
        machine.check()?;
        let files = launcher.memory.reserve(machine.memory_bytes())?;
        // Fresh and sparse: no old superblock is found on them.
        let mib = |mib: u64| mib << 20;
        let sizes = machine
            .nvdimms
            .iter()
            .map(|nvdimm| (nvdimm.id.as_str(), nvdimm.file_bytes()));
        for (id, size) in sizes.chain([(super::machine::RAM_ID, mib(machine.memory_mib))]) {
            let path = file(files.path(), id);
            fs_err::File::create_new(&path)
                .and_then(|file| file.set_len(size))
                .map_err(VmError::io(format!("make {path}")))?;
        }
        let memory = files.path().to_owned();
        let guest = Self::start(
            Arc::new(machine.clone()),
            launcher,
            dir,
            memory,
            Sharing::Shared,
            Some(files),
            hand,
        )
        .await?;
        guest.check_layout().await?;
        if guest.gdb.is_none() {
            guest.resume().await?;
        }
        Ok(guest)
    }

    /// Starts QEMU and connects to it. The machine stands still.
    pub(super) async fn start(
        machine: Arc<Machine>,
        launcher: &Launcher,
        dir: &Utf8Path,
        memory: Utf8PathBuf,
        sharing: Sharing,
        files: Option<Reserved>,
        hand: Option<ByHand>,
    ) -> Result<Self> {
        use std::os::fd::AsRawFd;
        let dir = dir
            .canonicalize_utf8()
            .map_err(VmError::io(format!("find {dir}")))?;
        let fifos = Fifos::make(launcher.memory.unique("console"))?;
        let log = Gone(launcher.memory.unique("resets"));
        let gdb = hand.is_some_and(|h| h.gdb);
        let gdb = gdb.then(|| Gone(launcher.memory.unique("gdb")));
        let (monitor, qemu_monitor) = socket_pair()?;
        let (channel, qemu_channel) = socket_pair()?;
        let (shell, qemu_shell) = match hand {
            Some(_) => {
                let (ours, theirs) = socket_pair()?;
                (Some(stream(ours)?), Some(theirs))
            }
            None => (None, None),
        };
        let wiring = Wiring {
            monitor: qemu_monitor.as_raw_fd(),
            channel: qemu_channel.as_raw_fd(),
            console: fifos.path(),
            log: &log.0,
            memory: &memory,
            sharing,
            shell: qemu_shell.as_ref().map(AsRawFd::as_raw_fd),
            gdb: gdb.as_ref().map(|g| g.0.as_path()),
        };
        let launch = Launch {
            program: launcher.qemu.path.clone(),
            args: arguments(&machine, &wiring),
            inherit: [qemu_monitor, qemu_channel]
                .into_iter()
                .chain(qemu_shell)
                .map(Into::into)
                .collect(),
            stderr: dir.join("qemu.stderr"),
            limits: Limits::of_guest(machine.memory_bytes()),
        };
        let process = launcher.spawner.start(launch).await?;
        let monitor = match Qmp::connect(stream(monitor)?).await {
            Ok(monitor) => monitor,
            Err(error) => return Err(explain(&process, error).await),
        };
        let console = Console::listen(&fifos, dir.join("console.log"))?;
        Ok(Self {
            process,
            monitor,
            launcher: launcher.clone(),
            machine,
            channel: Some(stream(channel)?),
            shell,
            console,
            log,
            gdb,
            memory,
            segments: OnceLock::new(),
            files,
        })
    }

    /// The host's end of the agent's channel, the first time that it is asked for. The guest's end is
    /// the virtio-serial port [`super::AGENT_PORT`].
    pub fn take_channel(&mut self) -> Option<UnixStream> {
        self.channel.take()
    }

    /// The host's end of the port for shells, the first time that it is asked for; only a person's
    /// guest has one. The guest's end is the virtio-serial port [`super::SHELL_PORT`].
    pub fn take_shell(&mut self) -> Option<UnixStream> {
        self.shell.take()
    }

    /// The socket at which a debugger finds it, where it was asked for.
    pub fn gdb(&self) -> Option<&Utf8Path> {
        self.gdb.as_ref().map(|g| g.0.as_path())
    }

    /// Stops the guest's processors and clocks; returns when they stand.
    pub async fn pause(&self) -> Result<()> {
        self.ask(qmp::stop {}).await.map(drop)
    }

    /// Lets it run on. Refused after it has ended.
    pub async fn resume(&self) -> Result<()> {
        self.ask(qmp::cont {}).await.map(drop)
    }

    /// Whether it runs, as QEMU says.
    pub async fn status(&self) -> Result<Status> {
        let info = self.ask(qmp::query_status {}).await?;
        Ok(Status {
            running: info.running,
            state: qapi::Enum::name(&info.status).to_owned(),
        })
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How long the host's processors have worked for it, of all its threads; zero once it is gone.
    pub fn processor_time(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // Behind the name, which may have blanks and brackets: utime and stime are 14th and 15th.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|w| w.parse::<u64>().ok())
            .sum();
        let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let a_second = a_second.ok().flatten().and_then(|n| u64::try_from(n).ok());
        Duration::from_millis(ticks.saturating_mul(1000) / a_second.unwrap_or(100).max(1))
    }

    /// The host's memory that is this QEMU's alone, bytes: of a clone, what it has written to, and
    /// QEMU's own. None once it is gone.
    pub fn own_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// Where guest-physical memory lies in QEMU's address space, ascending: RAM, then the NVDIMMs
    /// (without their label areas).
    pub fn segments(&self) -> Result<&[Segment]> {
        if let Some(known) = self.segments.get() {
            return Ok(known);
        }
        let path = format!("/proc/{}/maps", self.pid());
        let maps = fs_err::read(&path).map_err(VmError::io(format!("read {path}")))?;
        let found = locate(
            &self.machine.layout(),
            &self.memory,
            &String::from_utf8_lossy(&maps),
        )?;
        Ok(self.segments.get_or_init(|| found))
    }

    /// What happens from now on. One that listens too slowly misses events and is told how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.monitor.events()
    }

    /// Waits for the guest's end: it powered off, reset or panicked, or QEMU is gone.
    pub async fn ended(&self) -> End {
        let mut end = self.monitor.end();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Gone),
            Err(_) => End::Gone,
        }
    }

    /// The guest's end, if it has come.
    pub fn end(&self) -> Option<End> {
        self.monitor.end().borrow().clone()
    }

    /// What the guest's first UART says. A clone's begins at its template's end.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Writes the guest's memory, and its VMCOREINFO, as an ELF core to a new file at `path`.
    pub async fn dump(&self, path: &Utf8Path) -> Result<()> {
        let path = camino::absolute_utf8(path).map_err(VmError::io(format!("find {path}")))?;
        let command = qmp::dump_guest_memory {
            begin: None,
            detach: None,
            format: None,
            length: None,
            paging: false,
            protocol: format!("file:{path}"),
        };
        let limited = |much| {
            let set = self.process.may_write(much);
            set.map_err(VmError::io("let QEMU write a dump"))
        };
        limited(true)?;
        let dumped = self.monitor.execute_within(command, DUMP_LIMIT).await;
        // One that is gone needs no limit.
        let _ = limited(false);
        match dumped {
            Ok(_) => Ok(()),
            Err(error) => Err(explain(&self.process, error).await),
        }
    }

    /// The registers of all vCPUs, as QEMU's monitor prints them.
    ///
    /// # Errors
    /// Where QEMU is gone.
    pub async fn registers(&self) -> Result<String> {
        self.ask(qmp::human_monitor_command {
            cpu_index: None,
            command_line: "info registers -a".into(),
        })
        .await
    }

    /// The local interrupt controller of each vCPU, with its timer, as QEMU's monitor prints them.
    ///
    /// # Errors
    /// Where QEMU is gone.
    pub async fn interrupt_controllers(&self) -> Result<String> {
        let mut out = String::new();
        for cpu in 0..self.machine.cpus {
            let answer: String = self
                .ask(qmp::human_monitor_command {
                    cpu_index: Some(i64::from(cpu)),
                    command_line: format!("info lapic {cpu}"),
                })
                .await?;
            out.push_str(&answer);
        }
        Ok(out)
    }

    /// Types a sysrq on the console: a break, and the letter (CONFIG_MAGIC_SYSRQ_SERIAL).
    ///
    /// # Errors
    /// Where QEMU is gone, or the guest's UART takes nothing.
    pub async fn sysrq(&self, letter: u8) -> Result<()> {
        self.ask(qmp::chardev_send_break {
            id: CONSOLE_ID.to_owned(),
        })
        .await?;
        if self.console.type_byte(letter) {
            return Ok(());
        }
        Err(VmError::io("type on the guest's console")(
            std::io::ErrorKind::WouldBlock.into(),
        ))
    }

    /// An NMI to every processor.
    ///
    /// # Errors
    /// Where QEMU is gone.
    pub async fn nmi(&self) -> Result<()> {
        self.ask(qmp::inject_nmi {}).await.map(drop)
    }

    /// Whether a processor of it met a fault while it handled a double fault, which resets the
    /// machine. Known in emulation; hardware does not tell.
    pub fn triple_fault(&self) -> bool {
        let log = std::fs::read(&self.log.0).unwrap_or_default();
        String::from_utf8_lossy(&log)
            .lines()
            .any(|l| l == TRIPLE_FAULT)
    }

    /// Kills QEMU; [`Guest::wait`] tells when it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Why QEMU is gone, which nobody asked it to be: whether it was killed, crashed or gave up. A
    /// fragment for people.
    pub async fn how_it_ended(&self) -> String {
        match tokio::time::timeout(LAST_BREATH, self.process.wait()).await {
            Ok(Ok(status)) => self.process.how_it_ended(status),
            _ => "QEMU closed its monitor".to_owned(),
        }
    }

    /// Waits until QEMU has ended.
    pub async fn wait(&self) -> Result<ExitStatus> {
        self.process.wait().await
    }

    /// Runs a command; where QEMU is gone, says how it ended.
    pub(super) async fn ask<C: QmpCommand>(&self, command: C) -> Result<C::Ok> {
        match self.monitor.execute(command).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(explain(&self.process, error).await),
        }
    }

    /// Why something that QEMU closed went wrong.
    pub(super) async fn explain(&self, error: VmError) -> VmError {
        explain(&self.process, error).await
    }

    async fn check_layout(&self) -> Result<()> {
        let size = self
            .ask(qmp::query_memory_size_summary {})
            .await?
            .base_memory;
        if size != self.machine.memory_mib << 20 {
            return Err(VmError::Layout {
                what: format!("QEMU has {size:#x} bytes of RAM"),
            });
        }
        let devices = self.ask(qmp::query_memory_devices {}).await?;
        check_devices(&self.machine, &devices)?;
        let tree = qmp::human_monitor_command {
            cpu_index: None,
            command_line: "info mtree -f".to_owned(),
        };
        check_tree(&self.machine.layout(), &self.ask(tree).await?)
    }
}

/// An error that came of QEMU's end is that end; any other is itself.
async fn explain(process: &Process, error: VmError) -> VmError {
    let closed = matches!(
        error,
        VmError::Closed | VmError::Protocol { .. } | VmError::Io { .. }
    );
    if !closed {
        return error;
    }
    match tokio::time::timeout(LAST_BREATH, process.wait()).await {
        Ok(Ok(status)) => process.failed(status),
        _ => error,
    }
}

pub(super) fn socket_pair() -> Result<(
    std::os::unix::net::UnixStream,
    std::os::unix::net::UnixStream,
)> {
    std::os::unix::net::UnixStream::pair().map_err(VmError::io("make a pair of sockets"))
}

pub(super) fn stream(socket: std::os::unix::net::UnixStream) -> Result<UnixStream> {
    socket
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(socket))
        .map_err(VmError::io("use a socket"))
}
