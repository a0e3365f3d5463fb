//! What the devices of a case are called: namespaces as ndctl and the kernel number them, instances
//! of device-dax, mount points.

use proto::DaxMode;

use crate::spec::Fixture;

/// A namespace, or an instance of device-dax.
#[derive(Clone, Debug)]
pub(super) struct Device {
    /// Its name in the case.
    pub(super) name: Option<String>,
    /// `fsdax`, `devdax` or `raw`.
    pub(super) mode: String,
    /// Such as `pmem0` or `dax0.0`.
    pub(super) dev: String,
    /// Its region and its number there, the first that was free.
    pub(super) namespace: Option<(u32, u32)>,
    /// Whether a partition stands for it.
    pub(super) partition: bool,
    /// The file system on it.
    pub(super) fs: Option<String>,
    /// Who has a device-dax instance.
    pub(super) driver: DaxMode,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    all: Vec<Device>,
    /// Whether namespaces have no labels.
    unlabelled: bool,
}

impl Devices {
    pub(super) fn new(fixture: &Fixture) -> Self {
        Devices {
            unlabelled: fixture.nvdimms.is_empty() && has_e820(fixture),
            ..Devices::default()
        }
    }

    /// Whether namespaces have no labels: there is one in each region from the start.
    pub(super) fn unlabelled(&self) -> bool {
        self.unlabelled
    }

    /// One more namespace: the first number of its region that is free.
    pub(super) fn created(&mut self, mode: &str, name: Option<&str>, region: u32) {
        let taken = |n| (self.all.iter()).any(|d| d.namespace == Some((region, n)));
        let n = (0..).find(|n| !taken(*n)).unwrap_or_default();
        let dev = match (mode, n) {
            ("devdax", n) => format!("dax{region}.{n}"),
            (_, 0) => format!("pmem{region}"),
            (_, n) => format!("pmem{region}.{n}"),
        };
        self.all.push(Device {
            name: name.map(str::to_owned),
            mode: mode.to_owned(),
            dev,
            namespace: Some((region, n)),
            partition: false,
            fs: None,
            driver: DaxMode::Devdax,
        });
    }

    /// One more instance of device-dax in its region: the first number that is free.
    pub(super) fn created_dax(&mut self) {
        let mut numbers = (0..).map(|n| format!("dax0.{n}"));
        let free = numbers.find(|dev| self.all.iter().all(|d| d.dev != *dev));
        let dev = free.unwrap_or_default();
        self.all.push(Device {
            name: Some(dev.clone()),
            mode: "devdax".to_owned(),
            dev,
            namespace: None,
            partition: false,
            fs: None,
            driver: DaxMode::Devdax,
        });
    }

    /// It is no more.
    pub(super) fn gone(&mut self, dev: &str) {
        self.all.retain(|d| d.dev != dev);
    }

    /// None is left.
    pub(super) fn destroyed(&mut self) {
        self.all.clear();
    }

    /// The one that an operation means, as the agent finds it.
    pub(super) fn find(&self, mode: &str, name: Option<&str>) -> Option<&Device> {
        let mut of = self.all.iter().filter(|d| d.mode == mode);
        match name {
            Some(name) => of.find(|d| d.name.as_deref() == Some(name)),
            None => of
                .clone()
                .find(|d| d.name.is_none())
                .or_else(|| of.next().filter(|_| of.next().is_none())),
        }
    }

    /// The one with a block device.
    pub(super) fn block(&self, name: Option<&str>) -> Option<&Device> {
        self.find("fsdax", name).or_else(|| self.find("raw", name))
    }

    /// The instance of device-dax of a name of the kernel's; without it, the only one.
    pub(super) fn dax(&self, dev: Option<&str>) -> Option<&Device> {
        let mut of = self.all.iter().filter(|d| d.mode == "devdax");
        match dev {
            Some(dev) => of.find(|d| d.dev == dev),
            None => of.next().filter(|_| of.next().is_none()),
        }
    }

    /// Changes one.
    pub(super) fn change(&mut self, dev: &str, change: impl FnOnce(&mut Device)) {
        if let Some(device) = self.all.iter_mut().find(|d| d.dev == dev) {
            change(device);
        }
    }
}

impl Device {
    /// Its block device, or that of the partition that stands for it.
    pub(super) fn node(&self) -> String {
        let part = if self.partition { "p1" } else { "" };
        format!("/dev/{}{part}", self.dev)
    }
}

/// Whether the command line calls RAM persistent memory.
pub(super) fn has_e820(fixture: &Fixture) -> bool {
    fixture
        .cmdline
        .split_whitespace()
        .any(|w| w.starts_with("memmap=") && w.contains('!'))
}

/// Where a namespace's file system is mounted.
pub(super) fn mount_point(namespace: Option<&str>) -> String {
    match namespace {
        None => "/mnt".to_owned(),
        Some(name) => format!("/mnt/{name}"),
    }
}

/// Where a file is that a case calls FILE or NAMESPACE/FILE.
pub(super) fn path(file: &str) -> String {
    format!("/mnt/{file}")
}

/// The namespace that a file is of.
pub(super) fn namespace_of(file: &str) -> Option<&str> {
    file.split_once('/').map(|(namespace, _)| namespace)
}

/// The driver of a device-dax instance.
pub(super) fn driver(mode: DaxMode) -> &'static str {
    match mode {
        DaxMode::Devdax => "device_dax",
        DaxMode::SystemRam | DaxMode::Unplugged => "kmem",
        DaxMode::Fsdev => "fsdev_dax",
    }
}
