//! `zonedev shell`: a busybox shell in a guest with a fixture.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::record::RunFolder;
use crate::run::{Engine, EngineConfig, Isolation, Repeat};
use crate::spec::FixtureStore;

use super::args::ShellArgs;
use super::exit::{Exit, Failure};
use super::setup::{self, Host};

pub(super) async fn run(project: &Utf8Path, args: ShellArgs) -> Result<Exit, Failure> {
    let ctx = setup::build_context(project, &args.build)?;
    let requested = setup::resolve(&ctx, &[args.kernel])?;
    let fixture = FixtureStore::new(project.join("images/fixtures")).load(&args.fixture)?;
    let (events, mut receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        let mut progress = super::progress();
        while let Some(event) = receiver.recv().await {
            progress.event(&event);
        }
    });
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await?;
    let programs = BTreeSet::from(["hmm-tests".to_owned()]);
    let sides = setup::sides(&ctx, &requested, &artifacts, &programs, &events).await?;
    let roots = setup::roots(&ctx, [&fixture].into_iter(), &events).await?;
    let host = Host::look(&ctx, args.accel).await?;
    let dir = tempfile::tempdir()?;
    let folder = Utf8PathBuf::from_path_buf(dir.path().join("run"))
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    RunFolder::create(&folder)?;
    let config = EngineConfig {
        launcher: host.launcher(setup::memory_needed([&fixture].into_iter(), 1))?,
        accel: host.probe.accel,
        isolation: Isolation::Boot,
        repeat: Repeat::ONCE,
        dump_hung: false,
        jobs: 1,
        folder,
        roots,
        fstests: None,
    };
    let engine = Engine::new(config, sides, events);
    let (guest, session) = engine
        .boot_for_hand(&fixture)
        .await
        .map_err(|end| Failure::harness(format!("the guest did not come up: {end:?}")))?;
    drop(engine);
    let _ = listener.await;
    errln!(
        "{} with {} under {}; the kernel's log is {}; `exit` ends the guest",
        requested[0].name,
        fixture.name,
        host.probe.accel,
        guest.console().path()
    );
    let mut channel = session
        .into_shell()
        .await
        .map_err(|e| Failure::harness(format!("the guest gave no shell: {e}")))?;
    // The guest has no terminal of its own: lines are edited and echoed by the host's.
    let mut stdin = tokio::io::stdin();
    let mut stdout = tokio::io::stdout();
    let (mut from_guest, mut to_guest) = channel.split();
    let typed = async {
        let mut buf = [0; 1024];
        while let Ok(n @ 1..) = stdin.read(&mut buf).await {
            if to_guest.write_all(&buf[..n]).await.is_err() {
                break;
            }
        }
        let _ = to_guest.write_all(b"exit\n").await;
        std::future::pending::<()>().await;
    };
    let shown = async {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = from_guest.read(&mut buf).await {
            if stdout.write_all(&buf[..n]).await.is_err() || stdout.flush().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = typed => (),
        () = shown => (),
        _ = guest.ended() => (),
    }
    guest.kill();
    Ok(Exit::Good)
}
