//! `zonedev shell`: a busybox shell in a guest with a fixture.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::Utf8Path;
use clap::Args;

use crate::record::CellId;
use crate::spec::FixtureStore;

use super::args::BuildOptions;
use super::exit::{Exit, Failure};
use super::hand::{self, HandArgs, Wanted};
use super::terminal;

/// `zonedev shell`.
#[derive(Debug, Args)]
pub(super) struct ShellArgs {
    /// The kernel
    pub(super) kernel: String,
    /// The fixture, one of images/fixtures/
    #[arg(long, default_value = "fsdax-ext4")]
    pub(super) fixture: String,
    #[command(flatten)]
    pub(super) hand: HandArgs,
    #[command(flatten)]
    pub(super) build: BuildOptions,
}

/// How long a guest that is up may take to give a shell.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(project: &Utf8Path, args: ShellArgs) -> Result<Exit, Failure> {
    let on_terminal = args.hand.command.is_none() && terminal::here().is_some();
    let ended = go(project, args, on_terminal).await;
    // A script must be able to tell its own codes from ours.
    ended.map_err(|mut failure| {
        if !on_terminal {
            failure.exit = Exit::CannotTell;
        }
        failure
    })
}

async fn go(project: &Utf8Path, args: ShellArgs, on_terminal: bool) -> Result<Exit, Failure> {
    let fixture = FixtureStore::new(project.join("images/fixtures")).load(&args.fixture)?;
    let id = CellId {
        suite: "shell".into(),
        fixture: fixture.name.clone(),
        case: "by-hand".into(),
        side: 0,
        kernel: args.kernel.clone(),
    };
    let wanted = Wanted {
        kernel: &args.kernel,
        fixture,
        programs: BTreeSet::from(["hmm-tests".to_owned()]),
        accel: args.hand.accel,
        build: &args.build,
        gdb: args.hand.gdb,
        fresh: args.hand.fresh,
    };
    let mut ready = hand::prepare(project, wanted).await?;
    let mut guest = ready.boot(&id).await?;
    if on_terminal {
        errln!(
            "{} with {} under {}: {}",
            args.kernel,
            id.fixture,
            ready.accel,
            hand::inventory(&guest.namespaces, &ready.fixture)
        );
        errln!(
            "`hold /mnt/a 2M &` maps a file and keeps it so; `zonedev watch` in another terminal shows \
             the counts; the kernel's log is {}",
            guest.console()
        );
        errln!("`exit` ends the guest; Ctrl-] leaves one that hangs");
    }
    let _served = hand::serve(&ready, &guest, "shell");
    let limit = (!args.hand.gdb).then_some(LIMIT);
    let _memory = ready.settle().await;
    let ended = hand::shell(&mut guest, args.hand.command, limit).await?;
    guest.guest().kill();
    hand::over(&ended, on_terminal)
}
