//! QEMU's command line.

use std::os::fd::RawFd;

use camino::{Utf8Path, Utf8PathBuf};

use super::accel::Accel;
use super::machine::{Machine, RAM_ID};

/// The name of the agent's virtio-serial port.
pub const AGENT_PORT: &str = "org.zonedev.agent";

/// The name of the port of a guest's shells.
pub const SHELL_PORT: &str = "org.zonedev.shell";

/// The chardev of the first UART.
pub(super) const CONSOLE_ID: &str = "console";

/// QEMU may start no program, gain no right, and set no other's scheduling.
pub(super) const SANDBOX: &str =
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// How a guest's memory relates to its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// It is the files: what is written stays.
    Shared,
    /// It begins as the files and is private from there on.
    Private,
}

/// What a machine is connected to in this very process.
#[derive(Debug)]
pub(super) struct Wiring<'a> {
    /// QEMU's ends of two socket pairs, inherited.
    pub(super) monitor: RawFd,
    pub(super) channel: RawFd,
    /// The FIFOs of the first UART, without `.in` and `.out`.
    pub(super) console: &'a Utf8Path,
    /// Where QEMU tells of resets.
    pub(super) log: &'a Utf8Path,
    /// Where the file of each backend is, named by its id.
    pub(super) memory: &'a Utf8Path,
    pub(super) sharing: Sharing,
    /// QEMU's end of the socket pair of its shells' port, where somebody has the other one.
    pub(super) shell: Option<RawFd>,
    /// Where a debugger finds it: a unix socket, which QEMU makes.
    pub(super) gdb: Option<&'a Utf8Path>,
}

/// The arguments for a machine. It starts stopped; with private memory, it waits for its state.
pub(super) fn arguments(machine: &Machine, wiring: &Wiring<'_>) -> Vec<String> {
    let mut args = Args::default();
    for flag in ["-nodefaults", "-no-user-config", "-S"] {
        args.0.push(flag.to_owned());
    }
    args.add("-display", "none");
    args.add("-nic", "none");
    args.add("-sandbox", SANDBOX);
    // With nodes, RAM is a node's.
    args.add(
        "-machine",
        match machine.nodes {
            1 => format!("q35,nvdimm=on,memory-backend={RAM_ID}"),
            _ => "q35,nvdimm=on".to_owned(),
        },
    );
    args.accel(machine.accel);
    args.add("-smp", machine.cpus.to_string());
    let memory = match machine.nvdimms.len() {
        0 => format!("{}M", machine.memory_mib),
        slots => format!(
            "{}M,slots={slots},maxmem={}M",
            machine.memory_mib,
            machine.max_memory_mib()
        ),
    };
    args.add("-m", memory);

    let share = match wiring.sharing {
        Sharing::Shared => "on",
        Sharing::Private => "off",
    };
    let backend = |id: &str, size: String| {
        let path = escape(&file(wiring.memory, id));
        format!("memory-backend-file,id={id},size={size},mem-path={path},share={share}")
    };
    args.add(
        "-object",
        backend(RAM_ID, format!("{}M", machine.memory_mib)),
    );
    for node in (0..machine.nodes).filter(|_| machine.nodes > 1) {
        args.add(
            "-numa",
            match node {
                0 => format!("node,nodeid=0,cpus=0-{},memdev={RAM_ID}", machine.cpus - 1),
                _ => format!("node,nodeid={node}"),
            },
        );
    }
    for nvdimm in &machine.nvdimms {
        let id = &nvdimm.id;
        args.add(
            "-object",
            backend(id, format!("{}K", nvdimm.file_bytes() / 1024)),
        );
        let at = machine
            .layout()
            .into_iter()
            .find(|region| region.backend == *id);
        let gpa = at.map(|region| region.gpa).unwrap_or_default();
        let label = match nvdimm.label_kib {
            0 => String::new(),
            kib => format!(",label-size={kib}K"),
        };
        let node = match nvdimm.node {
            0 => String::new(),
            node => format!(",node={node}"),
        };
        args.add(
            "-device",
            format!("nvdimm,id=dimm-{id},memdev={id},addr={gpa:#x}{label}{node}"),
        );
    }

    args.add("-device", "vmcoreinfo");
    args.add("-device", "pvpanic");
    // A clock that stands still with the machine and starts alike everywhere: a template's clock
    // does not jump when it is cloned later.
    args.add("-rtc", "base=2024-01-01T00:00:00,clock=vm");
    // A guest that resets, panics or powers off stops where it is, so that it can still be read.
    args.add("-action", "reboot=shutdown,shutdown=pause,panic=pause");
    // A triple fault is a reset like any other to QMP; here it has its name.
    args.add("-d", "cpu_reset");
    args.add("-D", wiring.log.as_str());
    args.add(
        "-chardev",
        format!("pipe,id={CONSOLE_ID},path={}", escape(wiring.console)),
    );
    args.add("-serial", format!("chardev:{CONSOLE_ID}"));
    args.add("-device", "virtio-serial-pci,id=ports");
    args.add("-chardev", format!("socket,id=agent,fd={}", wiring.channel));
    args.add(
        "-device",
        format!("virtserialport,bus=ports.0,chardev=agent,name={AGENT_PORT}"),
    );
    // Every guest has the port, so that a person can have a clone of any template.
    args.add(
        "-chardev",
        match wiring.shell {
            Some(fd) => format!("socket,id=shell,fd={fd}"),
            None => "null,id=shell".to_owned(),
        },
    );
    args.add(
        "-device",
        format!("virtserialport,bus=ports.0,chardev=shell,name={SHELL_PORT}"),
    );
    if let Some(path) = wiring.gdb {
        let path = escape(path);
        args.add(
            "-chardev",
            format!("socket,id=gdb,path={path},server=on,wait=off"),
        );
        args.add("-gdb", "chardev:gdb");
    }
    args.add(
        "-chardev",
        format!("socket,id=monitor,fd={}", wiring.monitor),
    );
    args.add("-mon", "chardev=monitor,mode=control");
    for (index, disk) in machine.disks.iter().enumerate() {
        // Nobody writes to it, and many guests have it: no lock is needed, and none is taken.
        args.add(
            "-blockdev",
            format!(
                "driver=file,node-name=disk{index},read-only=on,locking=off,filename={}",
                escape(disk)
            ),
        );
        args.add("-device", format!("virtio-blk-pci,drive=disk{index}"));
    }
    args.add("-kernel", machine.kernel.as_str());
    args.add("-initrd", escape(&machine.initrd));
    args.add("-append", machine.cmdline.as_str());
    if wiring.sharing == Sharing::Private {
        args.add("-incoming", "defer");
    }
    args.0.extend(machine.extra.iter().cloned());
    args.0
}

/// The file of the backend `id`.
pub(super) fn file(memory: &Utf8Path, id: &str) -> Utf8PathBuf {
    memory.join(id)
}

/// The arguments of a command line, in the making.
#[derive(Debug, Default)]
pub(super) struct Args(pub(super) Vec<String>);

impl Args {
    pub(super) fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    pub(super) fn accel(&mut self, accel: Accel) {
        let how = match accel {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg,thread=multi",
        };
        self.add("-accel", how);
        self.add("-cpu", accel.cpu());
    }
}

/// A path as a value in an option's list.
fn escape(path: &Utf8Path) -> String {
    path.as_str().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::*;

    fn shown(machine: &Machine, sharing: Sharing) -> String {
        shown_by(machine, sharing, None, None)
    }

    fn shown_by(
        machine: &Machine,
        sharing: Sharing,
        shell: Option<RawFd>,
        gdb: Option<&Utf8Path>,
    ) -> String {
        let wiring = Wiring {
            monitor: 7,
            channel: 8,
            console: "/run/a,b/console".into(),
            log: "/run/a,b/log".into(),
            memory: "/dev/shm/zonedev/0".into(),
            sharing,
            shell,
            gdb,
        };
        let mut text = String::new();
        for arg in arguments(machine, &wiring) {
            text.push(if arg.starts_with('-') { '\n' } else { ' ' });
            text.push_str(&arg);
        }
        text.trim_start().to_owned()
    }

    #[test]
    fn the_whole_command_line() {
        insta::assert_snapshot!(shown(&machine(), Sharing::Shared), @r"
        -nodefaults
        -no-user-config
        -S
        -display none
        -nic none
        -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
        -machine q35,nvdimm=on,memory-backend=ram
        -accel tcg,thread=multi
        -cpu max
        -smp 2
        -m 512M,slots=1,maxmem=1536M
        -object memory-backend-file,id=ram,size=512M,mem-path=/dev/shm/zonedev/0/ram,share=on
        -object memory-backend-file,id=pmem0,size=262272K,mem-path=/dev/shm/zonedev/0/pmem0,share=on
        -device nvdimm,id=dimm-pmem0,memdev=pmem0,addr=0x100000000,label-size=128K
        -device vmcoreinfo
        -device pvpanic
        -rtc base=2024-01-01T00:00:00,clock=vm
        -action reboot=shutdown,shutdown=pause,panic=pause
        -d cpu_reset
        -D /run/a,b/log
        -chardev pipe,id=console,path=/run/a,,b/console
        -serial chardev:console
        -device virtio-serial-pci,id=ports
        -chardev socket,id=agent,fd=8
        -device virtserialport,bus=ports.0,chardev=agent,name=org.zonedev.agent
        -chardev null,id=shell
        -device virtserialport,bus=ports.0,chardev=shell,name=org.zonedev.shell
        -chardev socket,id=monitor,fd=7
        -mon chardev=monitor,mode=control
        -kernel /k/bzImage
        -initrd /k/initrd
        -append console=ttyS0 nokaslr norandmaps panic=-1 printk.devkmsg=on random.trust_cpu=on no_timer_check unknown_nmi_panic
        ");
    }

    #[test]
    fn disks_are_read_only_and_shared_by_clones() {
        let machine = Machine {
            disks: vec!["/c/root,fs".into()],
            ..machine()
        };
        let text = shown(&machine, Sharing::Private);
        assert!(
            text.contains(
                "-blockdev driver=file,node-name=disk0,read-only=on,locking=off,filename=/c/root,,fs\n\
                 -device virtio-blk-pci,drive=disk0\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_persons_guest_has_the_same_devices_and_a_debugger_only_where_it_is_asked_for() {
        let plain = shown(&machine(), Sharing::Shared);
        let of = |gdb| shown_by(&machine(), Sharing::Shared, Some(9), gdb);
        let added = |text: &str| {
            let lines = text.lines().filter(|line| !plain.contains(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let port = "-chardev socket,id=shell,fd=9";
        assert_eq!(added(&of(None)), [port]);
        assert_eq!(
            added(&of(Some("/run/a,b/gdb".into()))),
            [
                port,
                "-chardev socket,id=gdb,path=/run/a,,b/gdb,server=on,wait=off",
                "-gdb chardev:gdb"
            ]
        );
    }

    #[test]
    fn a_clone_differs_in_its_memory_and_waits_for_its_state() {
        let boot = shown(&machine(), Sharing::Shared);
        let clone = shown(&machine(), Sharing::Private);
        assert_eq!(
            clone,
            boot.replace("share=on", "share=off") + "\n-incoming defer"
        );
    }

    #[test]
    fn an_nvdimm_can_be_a_node_of_its_own() {
        let mut machine = machine();
        machine.nodes = 2;
        machine.nvdimms[0].node = 1;
        let text = shown(&machine, Sharing::Shared);
        for line in [
            "-machine q35,nvdimm=on\n",
            "-numa node,nodeid=0,cpus=0-1,memdev=ram\n-numa node,nodeid=1\n",
            "addr=0x100000000,label-size=128K,node=1\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn kvm_takes_the_hosts_processor_and_fixtures_their_own_arguments() {
        let machine = Machine {
            accel: Accel::Kvm,
            nvdimms: Vec::new(),
            extra: vec!["-device".into(), "nvme,serial=1".into()],
            ..machine()
        };
        let text = shown(&machine, Sharing::Shared);
        assert!(
            text.contains("-accel kvm\n-cpu host\n-smp 2\n-m 512M\n"),
            "{text}"
        );
        assert!(text.ends_with("-device nvme,serial=1"), "{text}");
        assert!(!text.contains("nvdimm,"), "{text}");
    }
}
