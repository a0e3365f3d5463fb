//! Words typed -> a request; exit codes; the only room that prints.

mod args;
mod bench;
mod build;
mod doctor;
mod exit;
mod inspect;
mod list;
mod matrix;
mod project;
mod setup;
mod shell;

pub use args::Cli;
pub use exit::{Exit, Failure};

use std::process::ExitCode;

use clap::Parser;

/// Runs what was typed. Prints the error, if it ends in one, to standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("zonedev: failed to start: {e}");
            return Exit::Harness.into();
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = cli.run() => result,
            () = interrupted() => Err(Failure::harness("interrupted; what had finished is in the run's folder")),
        }
    });
    // A build that runs in a thread of its own is not waited for: its processes end with us.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

/// Ctrl-C or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => (),
        _ = term.recv() => (),
    }
}
