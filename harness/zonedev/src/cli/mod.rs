//! Words typed -> a request; exit codes; the only room that prints.

/// As `print!`, but a reader that has seen enough (`| head`) is no reason to panic. Other trouble is
/// told at the end.
macro_rules! out {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        $crate::cli::wrote(write!(std::io::stdout(), $($words)*));
    }};
}

/// As `println!`, likewise.
macro_rules! outln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        $crate::cli::wrote(writeln!(std::io::stdout(), $($words)*));
    }};
}

/// As `eprintln!`, but a terminal that is gone is no reason to panic.
macro_rules! errln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod accept;
mod args;
mod bench;
mod bisect;
mod build;
mod c_program;
mod cache;
mod ci_plan;
mod cluster;
mod core;
mod diff;
#[cfg(test)]
mod docs_tests;
mod doctor;
mod exit;
mod generate;
mod hand;
mod history;
mod html;
mod inspect;
mod judge;
mod lines;
mod list;
mod matrix;
mod merge;
mod minimise;
mod mutants;
mod own;
mod prepare;
mod project;
mod report;
mod rerun;
mod setup;
mod shell;
mod signals;
mod specs;
mod teller;
mod terminal;
mod watch;

pub use args::Cli;
pub use exit::{Exit, Failure};

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;

use crate::report::{Look, Progress, Size, Verbosity, escape};

/// How long what still runs may take to end, when we end.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// How much is told: `-v`, `-q`.
static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

/// The first trouble with standard output.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

fn wrote(result: std::io::Result<()>) {
    if let Err(e) = result
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(e.to_string());
    }
}

/// Runs what was typed. Prints the error, if it ends in one, to standard error.
pub fn main() -> ExitCode {
    let one_step = std::env::args_os().any(|word| word == "bisect-step");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if one_step && e.use_stderr() => {
            errln!("{}", e.render().ansi());
            return Exit::Stop.into();
        }
        Err(e) => e.exit(),
    };
    signals::take();
    // What a panic says may repeat what a guest said.
    std::panic::set_hook(Box::new(|panic| {
        terminal::restore();
        errln!("zonedev: a bug: {}", escape(&panic.to_string()));
    }));
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            errln!("zonedev: failed to start: {e}");
            return Exit::Harness.into();
        }
    };
    let result = runtime.block_on(cli.run());
    // Guests that were running are ended and their files removed; a build that runs in a thread of
    // its own is not waited for: its processes end with us.
    runtime.shutdown_timeout(LAST_MOMENT);
    match (result, UNWRITTEN.get()) {
        (Err(failure), _) => {
            failure.print();
            // `git bisect run` takes any other code for a bad commit.
            let exit = if one_step { Exit::Stop } else { failure.exit };
            exit.into()
        }
        (Ok(Exit::Good), Some(why)) => {
            errln!("zonedev: failed to write to standard output: {why}");
            Exit::Harness.into()
        }
        (Ok(exit), _) => exit.into(),
    }
}

/// Takes how much is to be told from now on.
fn tell(verbosity: Verbosity) {
    let _ = VERBOSITY.set(verbosity);
}

/// How to write to a stream: its size and colours, where it is a terminal.
fn look(to: &(impl IsTerminal + AsFd)) -> Look {
    let terminal = to.is_terminal().then(|| console_size(to));
    Look {
        verbosity: VERBOSITY.get().copied().unwrap_or_default(),
        ..Look::new(terminal, |name| std::env::var_os(name))
    }
}

/// Size of a terminal; 80 by 24 where it does not say.
fn console_size(terminal: &impl AsFd) -> Size {
    let mut size = nix::libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize, and `size` is one that lives through the call.
    let done = unsafe {
        nix::libc::ioctl(
            terminal.as_fd().as_raw_fd(),
            nix::libc::TIOCGWINSZ,
            &mut size,
        )
    };
    let said = |n: u16, else_: usize| match (done, usize::from(n)) {
        (0, n @ 1..) => n,
        _ => else_,
    };
    Size {
        columns: said(size.ws_col, 80),
        rows: said(size.ws_row, 24),
    }
}

/// Live lines on a terminal that can move its cursor, plain lines elsewhere, and where little is
/// wanted.
fn progress() -> Progress {
    let look = look(&std::io::stderr());
    let moves = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if std::io::stderr().is_terminal() && moves && look.verbosity != Verbosity::Brief {
        Progress::live(look, indicatif::ProgressDrawTarget::stderr())
    } else {
        Progress::plain(look, Box::new(std::io::stderr()))
    }
}

/// What is asked for, unless it is interrupted.
async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = signals::first() => Err(interruption()),
    }
}

fn interruption() -> Failure {
    Failure::harness("interrupted; what had finished is kept")
}
