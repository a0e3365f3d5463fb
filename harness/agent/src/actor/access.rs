//! Loads and stores that may fault: a SIGBUS or SIGSEGV of exactly these two
//! instructions becomes a return value. The mapping stays as the kernel left
//! it, since nothing is mapped in its place.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use proto::StepResult;

// zonedev_load(address, out) and zonedev_store(address, value): 0 in rax, or 1
// where the first instruction faulted and the handler moved rip to
// zonedev_access_faulted.
std::arch::global_asm!(
    ".globl zonedev_load",
    "zonedev_load:",
    "mov rax, [rdi]",
    "mov [rsi], rax",
    "xor eax, eax",
    "ret",
    ".globl zonedev_store",
    "zonedev_store:",
    "mov [rdi], rsi",
    "xor eax, eax",
    "ret",
    ".globl zonedev_access_faulted",
    "zonedev_access_faulted:",
    "mov eax, 1",
    "ret",
);

unsafe extern "C" {
    fn zonedev_load(address: u64, out: *mut u64) -> u64;
    fn zonedev_store(address: u64, value: u64) -> u64;
    fn zonedev_access_faulted();
}

static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether a signal may come of a system call.
static AWAITED: AtomicBool = AtomicBool::new(false);
/// Of the signal that was awaited.
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);
static LSB: AtomicI32 = AtomicI32::new(0);

/// A signal that came of a system call, and what its siginfo says.
pub(super) struct Came {
    signal: Signal,
    /// si_code, such as BUS_MCEERR_AR.
    pub(super) code: i32,
    /// si_addr.
    pub(super) address: u64,
    /// si_addr_lsb: the power of two of bytes that were lost.
    pub(super) lsb: u8,
}

impl Came {
    /// What the call came to.
    pub(super) fn result(&self) -> StepResult {
        StepResult::Signal {
            signal: self.signal.as_str().to_owned(),
        }
    }
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: with SA_SIGINFO the kernel passes a valid ucontext_t, ours until we return.
    let rip = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
    let at = *rip as usize;
    if at == zonedev_load as *const () as usize || at == zonedev_store as *const () as usize {
        SIGNAL.store(signal, Ordering::Relaxed);
        *rip = zonedev_access_faulted as *const () as usize as i64;
    } else if AWAITED.swap(false, Ordering::Relaxed) {
        // si_addr_lsb, a short, follows si_addr; libc has no name for it.
        const LSB_AT: usize = 24;
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t of 128 bytes.
        let (code, address, lsb) = unsafe {
            let lsb = info.cast::<u8>().add(LSB_AT).cast::<i16>();
            ((*info).si_code, (*info).si_addr() as u64, lsb.read())
        };
        CODE.store(code, Ordering::Relaxed);
        ADDRESS.store(address, Ordering::Relaxed);
        LSB.store(i32::from(lsb), Ordering::Relaxed);
        SIGNAL.store(signal, Ordering::Relaxed);
    } else {
        // Not ours: the default action ends the process when the instruction runs again.
        // SAFETY: signal(2) is async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Installs the handler in this process and, by fork, in its children.
pub(super) fn install() -> Result<(), Errno> {
    let action = SigAction::new(
        SigHandler::SigAction(handler),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    for signal in [Signal::SIGBUS, Signal::SIGSEGV] {
        // SAFETY: the handler only touches its context, an atomic and signal(2).
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Loads the 8 bytes at `address`.
///
/// # Errors
/// The signal that the load raised.
pub(super) fn load(address: u64) -> Result<u64, Signal> {
    let mut word = 0;
    // SAFETY: a bad address is caught by the handler; `word` outlives the call.
    match unsafe { zonedev_load(address, &raw mut word) } {
        0 => Ok(word),
        _ => Err(raised()),
    }
}

/// Stores 8 bytes at `address`, which lies in a mapping that a case made.
///
/// # Errors
/// The signal that the store raised.
pub(super) fn store(address: u64, word: u64) -> Result<(), Signal> {
    // SAFETY: callers pass addresses within a case's own mappings, which hold no
    // Rust object; a bad one is caught by the handler.
    match unsafe { zonedev_store(address, word) } {
        0 => Ok(()),
        _ => Err(raised()),
    }
}

/// Makes a call of which a signal may come, and tells which came.
pub(super) fn awaiting<T>(call: impl FnOnce() -> T) -> (T, Option<Came>) {
    AWAITED.store(true, Ordering::Relaxed);
    let value = call();
    let came = !AWAITED.swap(false, Ordering::Relaxed);
    let came = came.then(|| Came {
        signal: raised(),
        code: CODE.load(Ordering::Relaxed),
        address: ADDRESS.load(Ordering::Relaxed),
        lsb: LSB.load(Ordering::Relaxed) as u8,
    });
    (value, came)
}

fn raised() -> Signal {
    Signal::try_from(SIGNAL.load(Ordering::Relaxed)).unwrap_or(Signal::SIGSEGV)
}
