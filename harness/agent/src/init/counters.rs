//! The kernel's counters at a checkpoint, and what of them no process accounts for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::boot;

/// The counters of /proc/vmstat that tell something of DAX and device memory.
const COUNTERS: [&str; 16] = [
    "nr_anon_pages",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
    "nr_mapped",
    "nr_page_table_pages",
    "pgmigrate_fail",
    "pgmigrate_success",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_file_alloc",
    "thp_file_mapped",
    "thp_migration_fail",
    "thp_migration_success",
    "thp_split_page",
    "thp_split_pmd",
    "thp_zero_page_alloc",
];

/// What [`ram_of_nobody`] is called among the counters.
const RAM_OF_NOBODY: &str = "ram_of_nobody";
/// Folds the counters' per-CPU parts.
const REFRESH: &str = "/proc/sys/vm/stat_refresh";
/// What a process leaves goes by RCU, maybe in several steps: so many readings in a row must agree.
const ALIKE: u32 = 2;
/// Of more processes than these, shares rounded to kilobytes don't tell a whole page.
const MANY: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(2);

/// The counters.
pub(super) fn now() -> BTreeMap<String, i64> {
    let _ = fs::write(REFRESH, "1");
    vmstat(&fs::read_to_string("/proc/vmstat").unwrap_or_default())
}

/// The counters where no actor is left: also those that processes have a part in, without that
/// part: `unaccounted_…`, in pages.
pub(super) fn left() -> BTreeMap<String, i64> {
    let mut texts = Texts::new();
    let until = Instant::now() + LIMIT;
    let mut last = BTreeMap::new();
    let mut alike = 0;
    loop {
        let processes = processes();
        grace_period();
        texts.take(&processes);
        let now = unaccounted(&texts);
        alike = if now == last { alike + 1 } else { 0 };
        last = now;
        if alike + 1 >= ALIKE || Instant::now() > until {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let mut all = vmstat(texts.text(&texts.vmstat));
    all.extend(last);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    if let Some(pages) = ram_of_nobody(&read("/proc/meminfo"), &read("/proc/zoneinfo")) {
        all.insert(RAM_OF_NOBODY.into(), pages);
    }
    all
}

/// Pages of RAM that are neither free nor on a list nor of anybody who is known to keep some. The
/// kernel's own pages are among them, so that it is never 0 and not the same twice.
fn ram_of_nobody(meminfo: &str, zoneinfo: &str) -> Option<i64> {
    const KNOWN: [&str; 11] = [
        "MemFree:",
        "Active(anon):",
        "Inactive(anon):",
        "Active(file):",
        "Inactive(file):",
        "Unevictable:",
        "Slab:",
        "KernelStack:",
        "PageTables:",
        "VmallocUsed:",
        "Percpu:",
    ];
    let all = kilobytes(meminfo, "MemTotal:")?;
    let known: i64 = KNOWN.iter().filter_map(|key| kilobytes(meminfo, key)).sum();
    // Free, and kept by a processor for its own use.
    let kept: i64 = zoneinfo
        .lines()
        .filter_map(|l| l.trim().strip_prefix("count:")?.trim().parse::<i64>().ok())
        .sum();
    Some((all - known) / 4 - kept)
}

/// Pages of RAM that are anonymous, mapped nowhere, in no swap cache, and yet not free: somebody has
/// forgotten a reference. Looks at each frame, which takes a moment. `None` where the kernel doesn't
/// tell.
pub(super) fn lost_anon_pages() -> Option<i64> {
    // linux/kernel-page-flags.h
    const MMAP: u64 = 1 << 11;
    const ANON: u64 = 1 << 12;
    const SWAPCACHE: u64 = 1 << 13;
    // With it an anonymous page begins. What slab and others keep in `mapping` may look anonymous.
    const SWAPBACKED: u64 = 1 << 14;
    const SHOWN: usize = 8;
    const ALL: u64 = MMAP | ANON | SWAPCACHE | SWAPBACKED;
    let iomem = fs::read_to_string("/proc/iomem").ok()?;
    let flags = File::open("/proc/kpageflags").ok()?;
    let mut buffer = vec![0; 256 << 10];
    let mut look = || {
        let mut lost = Vec::new();
        for mut frames in ram(&iomem) {
            while !frames.is_empty() {
                let most = (frames.end - frames.start) * 8;
                let most = usize::try_from(most).map_or(buffer.len(), |m| m.min(buffer.len()));
                let n = flags.read_at(&mut buffer[..most], frames.start * 8).ok()?;
                let (found, _) = buffer[..n].as_chunks::<8>();
                if found.is_empty() {
                    break;
                }
                let found = (frames.start..).zip(found.iter().map(|f| u64::from_le_bytes(*f)));
                lost.extend(found.filter(|(_, flags)| flags & ALL == ANON | SWAPBACKED));
                frames.start += (n / 8) as u64;
            }
        }
        Some(lost)
    };
    let mut lost = look()?;
    if !lost.is_empty() {
        drain();
        lost = look()?;
    }
    for (frame, flags) in lost.iter().take(SHOWN) {
        boot::log(
            6,
            &format!(
                "zonedev agent: nobody maps the page at pfn {frame:#x}, flags {flags:#x} of kpageflags"
            ),
        );
    }
    i64::try_from(lost.len()).ok()
}

/// Frames of RAM, as /proc/iomem has them.
fn ram(iomem: &str) -> Vec<Range<u64>> {
    let frame = |text: &str| Some(u64::from_str_radix(text, 16).ok()? >> 12);
    iomem
        .lines()
        .filter_map(|l| l.strip_suffix(" : System RAM")?.split_once('-'))
        .filter_map(|(from, to)| Some(frame(from)?..frame(to)? + 1))
        .collect()
}

/// Has each processor give up the pages that it keeps for a moment before it puts them on a list:
/// compaction begins with lru_add_drain_all().
fn drain() {
    let _ = fs::write("/proc/sys/vm/compact_memory", "1");
}

/// synchronize_rcu() by another name.
pub(super) fn grace_period() {
    // SAFETY: MEMBARRIER_CMD_GLOBAL takes no pointer.
    unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
}

/// What was read, all of it before any of it is looked at: a reader that takes memory in between
/// changes what it reads.
struct Texts {
    buffer: Vec<u8>,
    vmstat: Range<usize>,
    /// status and smaps_rollup of each process.
    processes: Vec<(Range<usize>, Range<usize>)>,
}

impl Texts {
    /// Room for far more than there is, whose pages are there.
    const ROOM: usize = 256 << 10;

    fn new() -> Self {
        Self {
            buffer: vec![b' '; Self::ROOM],
            vmstat: 0..0,
            processes: Vec::with_capacity(64),
        }
    }

    fn take(&mut self, processes: &[String]) {
        let opened: Vec<_> = processes
            .iter()
            .map(|dir| {
                let open = |name: &str| File::open(format!("{dir}/{name}")).ok();
                (open("status"), open("smaps_rollup"))
            })
            .collect();
        let vmstat = File::open("/proc/vmstat").ok();
        self.processes.clear();
        let _ = fs::write(REFRESH, "1");
        let mut at = 0;
        self.vmstat = fill(&mut self.buffer, &mut at, vmstat);
        for (status, rollup) in opened {
            let status = fill(&mut self.buffer, &mut at, status);
            let rollup = fill(&mut self.buffer, &mut at, rollup);
            self.processes.push((status, rollup));
        }
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.buffer[range.clone()]).unwrap_or_default()
    }
}

/// Reads a file to its end, as far as there is room.
fn fill(buffer: &mut [u8], at: &mut usize, file: Option<File>) -> Range<usize> {
    let from = *at;
    let Some(mut file) = file else {
        return from..from;
    };
    while let Ok(n) = file.read(&mut buffer[*at..])
        && n > 0
    {
        *at += n;
    }
    from..*at
}

/// The directories of all processes.
fn processes() -> Vec<String> {
    let is_pid = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(is_pid)
        .map(|pid| format!("/proc/{pid}"))
        .collect()
}

fn vmstat(text: &str) -> BTreeMap<String, i64> {
    if text.is_empty() {
        boot::log(3, "zonedev agent: failed to read /proc/vmstat");
    }
    text.lines()
        .filter_map(|l| l.split_once(' '))
        .filter(|(name, _)| COUNTERS.contains(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn unaccounted(texts: &Texts) -> BTreeMap<String, i64> {
    let all = vmstat(texts.text(&texts.vmstat));
    let mut parts: BTreeMap<&str, i64> = BTreeMap::new();
    let with_memory = |(status, _): &&(Range<usize>, Range<usize>)| {
        kilobytes(texts.text(status), "VmPTE:").is_some()
    };
    // VmPTE leaves out the topmost tables, which some kernels count: nothing can be said where
    // another process, such as one that serves a network block device, is there besides PID 1.
    let alive = texts.processes.iter().filter(with_memory).count();
    for (status, rollup) in &texts.processes {
        for (name, text, key) in [
            ("nr_page_table_pages", status, "VmPTE:"),
            ("nr_anon_pages", rollup, "Pss_Anon:"),
            ("nr_mapped", rollup, "Pss_File:"),
            // The agent's own file lies in a tmpfs.
            ("nr_mapped", rollup, "Pss_Shmem:"),
        ] {
            if let Some(part) = kilobytes(texts.text(text), key) {
                *parts.entry(name).or_default() += part;
            }
        }
    }
    parts
        .into_iter()
        .filter(|(name, _)| match *name {
            "nr_page_table_pages" => alive == 1,
            _ => alive <= MANY,
        })
        .filter_map(|(name, part)| {
            // Shares of what processes have in common are told in kilobytes, rounded down for
            // each process: together it is a whole number of pages again.
            let pages = (part + 3).div_euclid(4);
            Some((format!("unaccounted_{name}"), all.get(name)? - pages))
        })
        .collect()
}

/// The value of a line such as `VmPTE:      48 kB`.
fn kilobytes(text: &str, key: &str) -> Option<i64> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_what_iomem_says() {
        let iomem = "00001000-0009fbff : System RAM\n  00001000-00001fff : Kernel code\n\
                     100000000-17fffffff : Persistent Memory\n00100000-7ffdffff : System RAM\n";
        assert_eq!(ram(iomem), [0x1..0xa0, 0x100..0x7ffe0]);
    }

    #[test]
    fn ram_of_nobody_is_what_no_line_of_meminfo_has() {
        let meminfo = "MemTotal:       4000 kB\nMemFree:        1000 kB\nMemAvailable:   3000 kB\n\
                       Active(anon):     400 kB\nSlab:             600 kB\nPercpu:  200 kB\n";
        let zoneinfo = "Node 0, zone DMA32\n  pagesets\n    cpu: 0\n              count: 12\n\
                        \n    cpu: 1\n              count: 8\n  high:  3\n";
        assert_eq!(ram_of_nobody(meminfo, zoneinfo), Some(1800 / 4 - 20));
        assert_eq!(ram_of_nobody("", zoneinfo), None);
    }

    #[test]
    fn what_processes_have_is_taken_off() {
        let mut texts = Texts::new();
        let mut put = |text: &str, at: usize| {
            texts.buffer[at..at + text.len()].copy_from_slice(text.as_bytes());
            at..at + text.len()
        };
        let vmstat = put("nr_mapped 60\nnr_page_table_pages 20\nnr_free_pages 7\n", 0);
        let status = put("Name:\tx\nVmPTE:\t      48 kB\n", 1000);
        let rollup = put("Pss_File:             103 kB\nPss_Shmem: 99 kB\n", 2000);
        texts.vmstat = vmstat;
        texts.processes = vec![(status.clone(), rollup), (0..0, 0..0)];
        let got = |texts: &Texts| unaccounted(texts).into_iter().collect::<Vec<_>>();
        let mapped = ("unaccounted_nr_mapped".to_owned(), 60 - 51);
        let tables = ("unaccounted_nr_page_table_pages".to_owned(), 20 - 12);
        assert_eq!(got(&texts), [mapped.clone(), tables]);
        texts.processes[1].0 = status;
        assert_eq!(got(&texts), [mapped]);
    }
}
