//! `zonedev shell`: a busybox shell in a guest with a fixture.

use camino::{Utf8Path, Utf8PathBuf};
use proto::HostMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::record::RunFolder;
use crate::run::{Engine, EngineConfig, Isolation};
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
    let sides = setup::sides(&ctx, &requested, &artifacts, &events).await?;
    let host = Host::look(&ctx, args.accel).await?;
    let dir = tempfile::tempdir()?;
    let folder = Utf8PathBuf::from_path_buf(dir.path().join("run"))
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    RunFolder::create(&folder)?;
    let config = EngineConfig {
        launcher: host.launcher(setup::memory_needed([&fixture].into_iter(), 1))?,
        accel: host.probe.accel,
        isolation: Isolation::Boot,
        jobs: 1,
        folder,
    };
    let engine = Engine::new(config, sides, events);
    let (guest, session) = engine
        .boot_for_hand(&fixture)
        .await
        .map_err(|end| Failure::harness(format!("the guest did not come up: {end:?}")))?;
    drop(engine);
    let _ = listener.await;
    eprintln!(
        "{} with {} under {}; the kernel's log is {}; `exit` ends the guest",
        requested[0].name,
        fixture.name,
        host.probe.accel,
        guest.console()
    );
    let mut channel = session
        .into_shell()
        .await
        .map_err(|e| Failure::harness(format!("the guest gave no shell: {e}")))?;
    let raw = RawTerminal::enter();
    let mut stdin = tokio::io::stdin();
    let mut stdout = tokio::io::stdout();
    let (mut from_guest, mut to_guest) = channel.split();
    let typed = async {
        let mut buf = [0; 1024];
        loop {
            match stdin.read(&mut buf).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    if to_guest.write_all(&buf[..n]).await.is_err() {
                        break;
                    }
                }
            }
        }
        // Standard input is at its end; the shell still says what it has to say.
        let _ = to_guest.write_all(&[4]).await;
        std::future::pending::<()>().await;
    };
    let shown = async {
        let mut buf = [0; 4096];
        while let Ok(n) = from_guest.read(&mut buf).await {
            // The agent sends one NUL when the shell has ended.
            let end = buf[..n].iter().position(|b| *b == 0);
            if stdout.write_all(&buf[..end.unwrap_or(n)]).await.is_err()
                || stdout.flush().await.is_err()
            {
                break;
            }
            if n == 0 || end.is_some() {
                break;
            }
        }
    };
    tokio::select! {
        () = typed => (),
        () = shown => (),
        _ = guest.ended() => (),
    }
    drop(raw);
    let _ = HostMessage::PowerOff {};
    guest.kill();
    Ok(Exit::Good)
}

/// The terminal in raw mode, restored when dropped.
struct RawTerminal(Option<nix::sys::termios::Termios>);

impl RawTerminal {
    fn enter() -> Self {
        use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        let saved = tcgetattr(&stdin).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            cfmakeraw(&mut raw);
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &raw);
        }
        Self(saved)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        if let Some(saved) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, saved);
        }
    }
}
