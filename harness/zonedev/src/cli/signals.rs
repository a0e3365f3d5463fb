//! What ends us early: Ctrl-C, SIGTERM, and a terminal that is gone.
//!
//! A thread of its own waits for them, so that nothing that we do, or that blocks us, holds them up.
//! The first one asks what is going on to end; the second ends us at once, and so does the first
//! where nothing listens to it, or where the end takes too long because nobody reads what we print.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, sigaction, sigprocmask};
use tokio::sync::watch;

use super::exit::Exit;

/// How long a clean end may take. It takes a tenth of it, unless the host is busy.
const PATIENCE: Duration = Duration::from_secs(3);

static FIRST: OnceLock<watch::Sender<bool>> = OnceLock::new();
static LISTENS: AtomicBool = AtomicBool::new(false);

type Tidy = Box<dyn Fn() + Send>;
static TIDY: Mutex<Vec<Tidy>> = Mutex::new(Vec::new());

/// Takes the signals over. Called before there is a second thread, since each inherits the mask; what
/// we start does not.
pub(super) fn take() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    if !ignored(Signal::SIGHUP) {
        // Not under nohup.
        set.add(Signal::SIGHUP);
    }
    let first = FIRST.get_or_init(|| watch::Sender::new(false));
    if set.thread_block().is_err() {
        return;
    }
    let waits = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let Ok(signal) = set.wait() else { return };
            if !LISTENS.load(Ordering::SeqCst) {
                die_of(signal);
            }
            first.send_replace(true);
            std::thread::spawn(|| {
                std::thread::sleep(PATIENCE);
                at_once();
            });
            let _ = set.wait();
            at_once();
        });
    if waits.is_err() {
        let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    }
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
    std::process::exit(i32::from(Exit::Harness as u8));
}

/// As if nobody had taken it over.
fn die_of(signal: Signal) {
    let mut set = SigSet::empty();
    set.add(signal);
    let _ = set.thread_unblock();
    // Its default is to end us.
    let _ = raise(signal);
}

fn ignored(signal: Signal) -> bool {
    use nix::sys::signal::{SaFlags, SigAction};
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours, and it is there only until the next line.
    let Ok(before) = (unsafe { sigaction(signal, &default) }) else {
        return false;
    };
    let ignored = matches!(before.handler(), SigHandler::SigIgn);
    if ignored {
        // SAFETY: this is the action that was there.
        let _ = unsafe { sigaction(signal, &before) };
    }
    ignored
}
