//! Random bytes over any physical memory, by a device that was made to hand out such bytes: a virtio
//! entropy device (virtio 1.x over PCI), driven from user space.

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// Of a modern virtio entropy device, and of a transitional one.
const IDS: [&str; 2] = ["0x1044", "0x1005"];
/// Types of the capabilities: common configuration, and notification.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const PAGE: usize = 4096;
/// Where the kernel maps its image and all memory, without KASLR and with four levels.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
const DIRECT: u64 = 0xffff_8880_0000_0000;

/// Overwrites what the host reads of us.
pub(crate) fn corrupt(what: &str) -> Result<(), String> {
    let info = vmcoreinfo()?;
    let symbol = |name: &str| -> Result<u64, String> {
        let key = format!("SYMBOL({name})=");
        let line = info.text.lines().find_map(|l| l.strip_prefix(&key));
        let line = line.ok_or(format!("VMCOREINFO names no {name}"))?;
        u64::from_str_radix(line.trim(), 16).map_err(|e| e.to_string())
    };
    let mut device = Device::open()?;
    match what {
        "vmcoreinfo" => device.fill(info.address, info.bytes),
        // All of a root array that is 16 KiB: none of the sections is where it was.
        "sections" => device.fill(physical(symbol("mem_section")?), 4 * PAGE as u32),
        // The upper half of the kernel's own table but for its last entry, which maps this kernel's
        // code: all struct pages are gone, and this guest soon is, too.
        "page-tables" => device.fill(physical(symbol("init_top_pgt")?) + 0xea0, 0x100),
        _ => {
            let page = translate(physical(symbol("init_top_pgt")?), struct_page()?)?;
            // The struct pages of the first 64 MiB, if as many lie behind each other.
            device.fill(page, 256 * PAGE as u32)
        }
    }
}

/// Where the first struct page of the namespace is, in the vmemmap of four levels.
fn struct_page() -> Result<u64, String> {
    let iomem = fs::read_to_string("/proc/iomem").map_err(|e| e.to_string())?;
    let line = iomem.lines().find(|l| l.contains("namespace"));
    let range = line.and_then(|l| l.trim().split(' ').next()?.split_once('-'));
    let (start, _) = range.ok_or("no namespace in /proc/iomem")?;
    let start = u64::from_str_radix(start, 16).map_err(|e| e.to_string())?;
    Ok(0xffff_ea00_0000_0000 + start / PAGE as u64 * 64)
}

struct Info {
    address: u64,
    bytes: u32,
    text: String,
}

/// The note, by /sys/kernel/vmcoreinfo and, for its text, /proc/kcore's notes.
fn vmcoreinfo() -> Result<Info, String> {
    let place = fs::read_to_string("/sys/kernel/vmcoreinfo").map_err(|e| e.to_string())?;
    let (address, bytes) = place
        .trim()
        .split_once(' ')
        .ok_or("no place of VMCOREINFO")?;
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let (address, bytes) = (
        hex(address).map_err(|e| e.to_string())?,
        hex(bytes).map_err(|e| e.to_string())?,
    );
    let kcore = fs::File::open("/proc/kcore").map_err(|e| e.to_string())?;
    let mut head = vec![0; 1 << 16];
    let read = kcore.read_at(&mut head, 0).map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&head[..read]);
    let start = text
        .find("OSRELEASE=")
        .ok_or("no VMCOREINFO in /proc/kcore")?;
    let text = text[start..]
        .split('\0')
        .next()
        .unwrap_or_default()
        .to_owned();
    let bytes = u32::try_from(bytes).map_err(|e| e.to_string())?;
    Ok(Info {
        address,
        bytes,
        text,
    })
}

fn physical(address: u64) -> u64 {
    match address >= IMAGE {
        true => address - IMAGE,
        false => address.wrapping_sub(DIRECT),
    }
}

struct Device {
    common: *mut u8,
    notify: *mut u8,
    /// Descriptors at its start, then the rings; one page, whose physical address is known.
    queue: *mut u8,
    sent: u16,
}

impl Device {
    fn open() -> Result<Device, String> {
        let dir = find().ok_or("there is no entropy device")?;
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Where no driver has it, this fails and need not succeed.
        let _ = fs::write("/sys/bus/pci/drivers/virtio-pci/unbind", &name);
        let config = OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join("config"))
            .map_err(|e| e.to_string())?;
        // Memory space and bus mastering.
        config
            .write_at(&6u16.to_le_bytes(), 4)
            .map_err(|e| e.to_string())?;
        let mut space = [0; 256];
        config.read_at(&mut space, 0).map_err(|e| e.to_string())?;
        let common = region(&dir, &space, COMMON)?;
        let notify = region(&dir, &space, NOTIFY)?;
        let queue = map(None, PAGE)?;
        let mut device = Device {
            common,
            notify,
            queue,
            sent: 0,
        };
        device.set_up(physical_of(queue)?);
        Ok(device)
    }

    /// Resets it, takes VIRTIO_F_VERSION_1, and gives it a queue of two descriptors.
    fn set_up(&mut self, queue: u64) {
        self.put8(20, 0);
        self.put8(20, 1 | 2);
        self.put32(8, 1);
        self.put32(12, 1);
        self.put8(20, 1 | 2 | 8);
        self.put16(22, 0);
        self.put16(24, 2);
        for (at, offset) in [(32, 0u64), (40, 256), (48, 512)] {
            self.put32(at, (queue + offset) as u32);
            self.put32(at + 4, ((queue + offset) >> 32) as u32);
        }
        self.put16(28, 1);
        self.put8(20, 1 | 2 | 4 | 8);
    }

    /// Has it write random bytes at a physical address.
    fn fill(&mut self, address: u64, bytes: u32) -> Result<(), String> {
        let slot = self.sent % 2;
        // SAFETY: the queue is one page of ours: two descriptors of 16 bytes, the available ring at
        // 256, the used ring at 512, as the device was told.
        unsafe {
            self.queue.cast::<u64>().write_volatile(address);
            self.queue.add(8).cast::<u32>().write_volatile(bytes);
            // VIRTQ_DESC_F_WRITE.
            self.queue.add(12).cast::<u16>().write_volatile(2);
            self.queue
                .add(260 + 2 * usize::from(slot))
                .cast::<u16>()
                .write_volatile(0);
            fence(Ordering::SeqCst);
            self.sent = self.sent.wrapping_add(1);
            self.queue.add(258).cast::<u16>().write_volatile(self.sent);
            fence(Ordering::SeqCst);
            self.notify.cast::<u16>().write_volatile(0);
        }
        let until = Instant::now() + Duration::from_secs(5);
        // SAFETY: the used ring's index, in the same page.
        while unsafe { self.queue.add(514).cast::<u16>().read_volatile() } != self.sent {
            if Instant::now() > until {
                return Err("the entropy device does not answer".into());
            }
        }
        Ok(())
    }

    fn put8(&mut self, at: usize, value: u8) {
        // SAFETY: a register of the common configuration, within the page that is mapped.
        unsafe { self.common.add(at).write_volatile(value) };
    }

    fn put16(&mut self, at: usize, value: u16) {
        // SAFETY: as above, aligned as the standard has it.
        unsafe { self.common.add(at).cast::<u16>().write_volatile(value) };
    }

    fn put32(&mut self, at: usize, value: u32) {
        // SAFETY: as above, aligned as the standard has it.
        unsafe { self.common.add(at).cast::<u32>().write_volatile(value) };
    }
}

fn find() -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/bus/pci/devices").ok()?.flatten();
    devices.map(|e| e.path()).find(|dir| {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        read("vendor").trim() == "0x1af4" && IDS.contains(&read("device").trim())
    })
}

/// Maps what a vendor-specific capability of that type names.
fn region(dir: &Path, space: &[u8; 256], kind: u8) -> Result<*mut u8, String> {
    let mut at = usize::from(space[0x34]);
    while at >= 0x40 && at + 16 <= space.len() {
        if space[at] == 9 && space[at + 3] == kind {
            let bar = space[at + 4];
            let word = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| space[at + i + n]));
            let (offset, length) = (word(8) as usize, word(12) as usize);
            let resource = dir.join(format!("resource{bar}"));
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&resource)
                .map_err(|e| format!("{}: {e}", resource.display()))?;
            let base = map(
                Some((&file, offset / PAGE * PAGE)),
                (offset % PAGE + length).max(PAGE),
            )?;
            // SAFETY: the offset is within what was mapped just now.
            return Ok(unsafe { base.add(offset % PAGE) });
        }
        at = usize::from(space[at + 1]);
    }
    Err(format!(
        "the entropy device has no capability of type {kind}"
    ))
}

/// Locked and zeroed memory, or a file's.
fn map(file: Option<(&fs::File, usize)>, length: usize) -> Result<*mut u8, String> {
    let (flags, fd, offset) = match file {
        Some((file, offset)) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
        None => (
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED | libc::MAP_POPULATE,
            -1,
            0,
        ),
    };
    // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is there.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            offset as libc::off_t,
        )
    };
    match address == libc::MAP_FAILED {
        true => Err(std::io::Error::last_os_error().to_string()),
        false => Ok(address.cast()),
    }
}

/// The physical address of a page of ours.
fn physical_of(address: *const u8) -> Result<u64, String> {
    let pagemap = fs::File::open("/proc/self/pagemap").map_err(|e| e.to_string())?;
    let mut entry = [0; 8];
    pagemap
        .read_exact_at(&mut entry, (address as usize / PAGE * 8) as u64)
        .map_err(|e| e.to_string())?;
    let entry = u64::from_le_bytes(entry);
    match entry >> 63 {
        1 => Ok((entry & ((1 << 55) - 1)) * PAGE as u64),
        _ => Err("our own page is not there".into()),
    }
}

/// A kernel address by its tables of four levels, which begin at `root`; read through /proc/kcore.
fn translate(root: u64, address: u64) -> Result<u64, String> {
    let mut table = root;
    for shift in [39, 30, 21, 12] {
        let entry = read_kernel(DIRECT + table + (address >> shift & 511) * 8)?;
        if entry & 1 == 0 {
            return Err(format!("{address:#x} is not mapped"));
        }
        let frame = entry & 0x000f_ffff_ffff_f000;
        if shift == 12 || entry & 0x80 != 0 {
            let within = (1u64 << shift) - 1;
            return Ok(frame & !within | address & within);
        }
        table = frame;
    }
    Err("no table has it".into())
}

/// A word of the kernel's memory.
fn read_kernel(address: u64) -> Result<u64, String> {
    let kcore = fs::File::open("/proc/kcore").map_err(|e| e.to_string())?;
    let mut head = vec![0; 1 << 12];
    let read = kcore.read_at(&mut head, 0).map_err(|e| e.to_string())?;
    let word = |at: usize| -> u64 {
        let bytes = head[..read].get(at..at + 8).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let count = (word(56) & 0xffff) as usize;
    for n in 0..count {
        // e_phoff is 64, each header is of 56 bytes.
        let at = 64 + 56 * n;
        let (kind, offset, start, bytes) =
            (word(at) as u32, word(at + 8), word(at + 16), word(at + 32));
        if kind == 1 && address >= start && address - start < bytes {
            let mut value = [0; 8];
            kcore
                .read_exact_at(&mut value, offset + (address - start))
                .map_err(|e| e.to_string())?;
            return Ok(u64::from_le_bytes(value));
        }
    }
    Err(format!("/proc/kcore has no {address:#x}"))
}
