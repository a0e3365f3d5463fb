//! gup_test of debugfs, or gup_benchmark, which it was called up to 5.10. Their numbers differ.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use proto::{GupHow, Size, StepResult};

use crate::wire::{errno, failed, io_errno};

const TEST: &str = "/sys/kernel/debug/gup_test";
const BENCHMARK: &str = "/sys/kernel/debug/gup_benchmark";
const WRITE: u32 = 1;

/// struct gup_test of mm/gup_test.h, and struct gup_benchmark, which is as long as that with more
/// in the place of `pages`.
#[repr(C)]
#[derive(Default)]
struct Call {
    get_us: u64,
    put_us: u64,
    address: u64,
    bytes: u64,
    pages_per_call: u32,
    gup_flags: u32,
    test_flags: u32,
    pages: [u32; 8],
    /// The end of struct gup_benchmark.
    more: [u32; 11],
}

/// struct pin_longterm_test.
#[repr(C)]
struct Hold {
    address: u64,
    bytes: u64,
    flags: u32,
}

/// `_IOWR('g', number, ...)` of so many bytes.
const fn iowr(number: u64, bytes: u64) -> u64 {
    3 << 30 | bytes << 16 | (b'g' as u64) << 8 | number
}

const CALL_BYTES: u64 = 80;
const BENCHMARK_BYTES: u64 = 120;
/// `_IOW('g', 7, struct pin_longterm_test)` and `_IO('g', 8)`.
const START: u64 = 1 << 30 | 24 << 16 | (b'g' as u64) << 8 | 7;
const STOP: u64 = (b'g' as u64) << 8 | 8;

/// The opened file.
pub(super) struct GupTest {
    file: File,
    benchmark: bool,
}

impl GupTest {
    /// Opens whichever there is.
    pub(super) fn open() -> Result<GupTest, StepResult> {
        for (path, benchmark) in [(TEST, false), (BENCHMARK, true)] {
            match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => return Ok(GupTest { file, benchmark }),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_errno("open gup_test", &e)),
            }
        }
        Err(lacks("gup_test: the kernel was built without it"))
    }

    /// The number of a mode, where it has that.
    fn number(&self, how: GupHow) -> Option<u64> {
        let (test, benchmark) = match how {
            GupHow::GupFast => (1, Some(1)),
            GupHow::PinFast => (2, Some(3)),
            GupHow::PinLongterm => (3, Some(5)),
            GupHow::GupBasic => (4, Some(2)),
            GupHow::PinBasic => (5, Some(4)),
            GupHow::DumpUserPages => (6, None),
            GupHow::ProcessVmReadv | GupHow::NvmeWrite => return None,
        };
        if self.benchmark {
            benchmark.map(|n| iowr(n, BENCHMARK_BYTES))
        } else {
            Some(iowr(test, CALL_BYTES))
        }
    }

    /// Takes all pages of a range at once, and puts them. Answers how many bytes it came to: it
    /// doesn't tell the error that stopped it.
    pub(super) fn take(&self, how: GupHow, address: u64, bytes: u64) -> Result<u64, StepResult> {
        let number = self
            .number(how)
            .ok_or_else(|| lacks("this mode of gup_test"))?;
        let mut call = Call {
            address,
            bytes,
            pages_per_call: u32::try_from(bytes / Size::PAGE).unwrap_or(u32::MAX),
            ..Call::default()
        };
        call.pages[0] = u32::from(how == GupHow::DumpUserPages);
        // SAFETY: a struct at least as long as the number says; the range lies in a mapping of
        // this actor, whose pages the call takes and puts again.
        Errno::result(unsafe { libc::ioctl(self.file.as_raw_fd(), number, &raw mut call) })
            .map_err(|e| errno("ioctl of gup_test", e))?;
        Ok(call.bytes)
    }

    /// Takes a range for writing, for long, and holds it.
    pub(super) fn hold(&self, address: u64, bytes: u64) -> Result<(), Errno> {
        let hold = Hold {
            address,
            bytes,
            flags: WRITE,
        };
        // SAFETY: struct pin_longterm_test, which outlives the call.
        Errno::result(unsafe { libc::ioctl(self.file.as_raw_fd(), START, &raw const hold) })
            .map(drop)
    }

    /// Lets it go.
    pub(super) fn let_go(&self) -> Result<(), Errno> {
        // SAFETY: takes no pointer.
        Errno::result(unsafe { libc::ioctl(self.file.as_raw_fd(), STOP, 0) }).map(drop)
    }
}

fn lacks(what: &str) -> StepResult {
    StepResult::Lacks { what: what.into() }
}

/// What a call of gup_test comes to.
pub(super) fn came(bytes: u64, wanted: u64) -> StepResult {
    if bytes == wanted {
        StepResult::Ok {}
    } else {
        failed(format!("take {wanted} bytes by gup_test: it took {bytes}"))
    }
}
