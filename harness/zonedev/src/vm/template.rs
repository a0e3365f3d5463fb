//! A machine that was booted once, and the guests that run on from there.
//!
//! A guest's RAM and NVDIMMs are files that it shares, so its state without them is small (some
//! 350 KB). Stopped, it is saved into this process; a clone is a QEMU that maps the same files
//! privately and is given that state. Neither a path nor a second program is involved: QEMU is handed
//! one end of a socket pair, and its sandbox may forbid it to start anything.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use qapi::qmp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::command::Sharing;
use super::error::{Result, VmError};
use super::event::Event;
use super::guest::{ByHand, Guest, Launcher, socket_pair, stream};
use super::kept::Held;
use super::machine::Machine;
use super::memory::Reserved;

/// The most that a machine's state may be, bytes.
const STATE_LIMIT: u64 = 256 << 20;
/// How long saving or loading may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The name that QEMU knows our socket by.
const SOCKET: &str = "state";

/// A machine frozen at one instant. Dropped, its files go; clones that run already keep what they have.
#[derive(Debug)]
pub struct Template {
    launcher: Launcher,
    machine: Arc<Machine>,
    state: Vec<u8>,
    files: Files,
}

/// Where a template's RAM and NVDIMMs are.
#[derive(Debug)]
pub(super) enum Files {
    /// In this harness's memory, and gone with it.
    Own(Reserved),
    /// On the shelf, from an earlier run.
    Kept(Held),
}

impl Files {
    pub(super) fn path(&self) -> &Utf8Path {
        match self {
            Files::Own(reserved) => reserved.path(),
            Files::Kept(held) => held.path(),
        }
    }
}

impl Guest {
    /// Freezes a booted guest and ends its QEMU. `channel` is what holds the host's end of the agent's
    /// channel: closed earlier, the agent would see an end that no clone should know of. Nothing may
    /// be on its way through it.
    ///
    /// Fails for a machine that isn't cloneable, for a clone, and where a device refuses.
    pub async fn save_template<C: Send>(mut self, channel: C) -> Result<Template> {
        if !self.machine.cloneable {
            return Err(VmError::NotCloneable);
        }
        let Some(mut files) = self.files.take() else {
            return Err(VmError::Machine {
                what: "a clone can't be a template".to_owned(),
            });
        };
        let saved = tokio::time::timeout(LIMIT, self.save()).await;
        let state = match saved {
            Ok(state) => state,
            Err(_) => Err(VmError::Timeout {
                what: "saving its state".to_owned(),
                limit: LIMIT,
            }),
        };
        // Gone before its files are: they go with `files` where this fails.
        self.kill();
        self.wait().await?;
        drop(channel);
        let state = state?;
        files.settle();
        Ok(Template {
            launcher: self.launcher.clone(),
            machine: Arc::clone(&self.machine),
            state,
            files: Files::Own(files),
        })
    }

    async fn save(&self) -> Result<Vec<u8>> {
        self.pause().await?;
        self.prepare_migration().await?;
        let mut events = self.events();
        let ours = self.give_socket().await?;
        let migrate = qmp::migrate {
            channels: None,
            detach: None,
            resume: None,
            uri: Some(uri()),
        };
        self.ask(migrate).await?;
        let mut state = Vec::new();
        let read = ours.take(STATE_LIMIT + 1).read_to_end(&mut state).await;
        if read.is_ok_and(|bytes| bytes as u64 > STATE_LIMIT) {
            let reason = format!("it is larger than {} MiB", STATE_LIMIT >> 20);
            return Err(VmError::Migration {
                verb: "saved",
                reason,
            });
        }
        self.migrated(&mut events, "saved").await?;
        Ok(state)
    }

    async fn load(&self, state: &[u8]) -> Result<()> {
        self.prepare_migration().await?;
        let mut events = self.events();
        let mut ours = self.give_socket().await?;
        let incoming = qmp::migrate_incoming {
            channels: None,
            exit_on_error: None,
            uri: Some(uri()),
        };
        self.ask(incoming).await?;
        let sent = async {
            ours.write_all(state).await?;
            ours.shutdown().await
        };
        if let Err(source) = sent.await {
            let what = "hand over a machine's state".to_owned();
            return Err(self.explain(VmError::Io { what, source }).await);
        }
        self.migrated(&mut events, "loaded").await
    }

    /// Memory that is a shared file stays where it is.
    async fn prepare_migration(&self) -> Result<()> {
        use qmp::MigrationCapability::{events, x_ignore_shared};
        let on = |capability| qmp::MigrationCapabilityStatus {
            capability,
            state: true,
        };
        let capabilities = vec![on(x_ignore_shared), on(events)];
        self.ask(qmp::migrate_set_capabilities { capabilities })
            .await
            .map(drop)
    }

    async fn give_socket(&self) -> Result<tokio::net::UnixStream> {
        let (ours, theirs) = socket_pair()?;
        match self.monitor.give_fd(SOCKET, theirs.into()).await {
            Ok(()) => stream(ours),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Waits until QEMU calls the migration completed.
    async fn migrated(
        &self,
        events: &mut broadcast::Receiver<Event>,
        verb: &'static str,
    ) -> Result<()> {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = self.ended() => return Err(self.explain(VmError::Closed).await),
            };
            let status = match event {
                Ok(Event::Migration { status }) => status,
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Err(self.explain(VmError::Closed).await),
            };
            match status.as_str() {
                "completed" => return Ok(()),
                "failed" | "cancelled" => {
                    let info = self.ask(qmp::query_migrate {}).await?;
                    let reason = info
                        .error_desc
                        .unwrap_or_else(|| format!("migration {status}"));
                    return Err(VmError::Migration { verb, reason });
                }
                _ => {}
            }
        }
    }
}

impl Template {
    /// One that an earlier run kept.
    pub(super) fn kept(launcher: &Launcher, machine: Machine, state: Vec<u8>, held: Held) -> Self {
        Template {
            launcher: launcher.clone(),
            machine: Arc::new(machine),
            state,
            files: Files::Kept(held),
        }
    }

    pub(super) fn state(&self) -> &[u8] {
        &self.state
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Starts a guest that runs on from the template's instant, with RAM and NVDIMMs of its own.
    /// `dir` is as in [`Guest::boot`]; the console begins empty. Returns as soon as it runs.
    pub async fn start_clone(&self, dir: &Utf8Path) -> Result<Guest> {
        self.start(dir, None).await
    }

    /// The same for a person. There is no debugger: a clone has its start behind it.
    pub async fn start_clone_by_hand(&self, dir: &Utf8Path) -> Result<Guest> {
        self.start(dir, Some(ByHand { gdb: false })).await
    }

    async fn start(&self, dir: &Utf8Path, hand: Option<ByHand>) -> Result<Guest> {
        let machine = Arc::clone(&self.machine);
        let memory = self.files.path().to_owned();
        let guest = Guest::start(
            machine,
            &self.launcher,
            dir,
            memory,
            Sharing::Private,
            None,
            hand,
        )
        .await?;
        match tokio::time::timeout(LIMIT, guest.load(&self.state)).await {
            Ok(loaded) => loaded?,
            Err(_) => {
                return Err(VmError::Timeout {
                    what: "loading its state".to_owned(),
                    limit: LIMIT,
                });
            }
        }
        guest.resume().await?;
        Ok(guest)
    }

    /// The machine that it was made of.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The size of the saved state, without RAM and NVDIMMs, bytes.
    pub fn state_bytes(&self) -> usize {
        self.state.len()
    }
}

fn uri() -> String {
    format!("fd:{SOCKET}")
}
