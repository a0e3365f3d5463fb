//! What ends us early: Ctrl-C, SIGTERM, and a terminal that is gone.
//!
//! A thread of its own waits for them, so that nothing that we do, or that blocks us, holds them up.
//! The first one asks what is going on to end; the second ends us at once, and so does the first
//! where nothing listens to it, or where the end takes too long because nobody reads what we print.

use std::io::Read;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use tokio::sync::watch;

use super::exit::Exit;

/// How long a clean end may take. It takes a tenth of it, unless the host is busy.
const PATIENCE: Duration = Duration::from_secs(3);

static FIRST: OnceLock<watch::Sender<bool>> = OnceLock::new();
static LISTENS: AtomicBool = AtomicBool::new(false);

type Tidy = Box<dyn Fn() + Send>;
static TIDY: Mutex<Vec<Tidy>> = Mutex::new(Vec::new());

/// Where the handler writes.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Writes the signal's number into the pipe. Nothing else may be done here.
extern "C" fn handler(signal: libc::c_int) {
    let byte = signal as u8;
    // SAFETY: write may be called in a handler; it reads one byte that lives through the call. Where
    // the pipe is full, the signals before this one say enough.
    unsafe { libc::write(PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}

/// Takes the signals over. By handlers, and not by blocking them: what we start would inherit that.
pub(super) fn take() {
    let first = FIRST.get_or_init(|| watch::Sender::new(false));
    let Ok((mut reader, writer)) = std::io::pipe() else {
        return;
    };
    let mut next = move || {
        let mut byte = [0];
        reader.read_exact(&mut byte).ok()?;
        Signal::try_from(i32::from(byte[0])).ok()
    };
    let waits = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let Some(signal) = next() else { return };
            if !LISTENS.load(Ordering::SeqCst) {
                die_of(signal);
            }
            first.send_replace(true);
            std::thread::spawn(|| {
                std::thread::sleep(PATIENCE);
                at_once();
            });
            next();
            at_once();
        });
    if waits.is_err() {
        return;
    }
    // Open as long as we are.
    PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
    set(Signal::SIGINT, SigHandler::Handler(handler));
    set(Signal::SIGTERM, SigHandler::Handler(handler));
    // Ignored under nohup, and then it stays so.
    if set(Signal::SIGHUP, SigHandler::Handler(handler)).is_some_and(was_ignored) {
        set(Signal::SIGHUP, SigHandler::SigIgn);
    }
}

/// Sets what a signal does, and says what it did.
fn set(signal: Signal, to: SigHandler) -> Option<SigHandler> {
    let action = SigAction::new(to, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: our handler only does what a handler may.
    let before = unsafe { sigaction(signal, &action) };
    before.ok().map(|before| before.handler())
}

fn was_ignored(handler: SigHandler) -> bool {
    matches!(handler, SigHandler::SigIgn)
}

/// From now on the first signal is told to those who wait for it, and does not end us.
pub(super) fn listen() {
    LISTENS.store(true, Ordering::SeqCst);
}

/// Waits for the first signal; has come already, if it has.
pub(super) async fn first() {
    listen();
    let first = FIRST.get_or_init(|| watch::Sender::new(false));
    if first.subscribe().wait_for(|come| *come).await.is_err() {
        std::future::pending().await
    }
}

/// What is to be done before we end at once. It may be done twice.
pub(super) fn tidy(what: impl Fn() + Send + 'static) {
    let mut all = TIDY.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Box::new(what));
}

/// Our guests end with us.
fn at_once() -> ! {
    for tidy in TIDY.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        tidy();
    }
    std::process::exit(i32::from(Exit::Harness.code()));
}

/// As if nobody had taken it over: its default is to end us.
fn die_of(signal: Signal) {
    set(signal, SigHandler::SigDfl);
    let _ = raise(signal);
}
