//! What `zonedev shell` and `zonedev rerun` have in common: a guest for a person.

use std::collections::BTreeSet;

use camino::Utf8Path;
use clap::Args;
use proto::text::{escape, excerpt};
use proto::{NamespaceInfo, ShellStart};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::build::KernelArtifact;
use crate::record::{CellId, End, Event, RunFolder};
use crate::report::quoted;
use crate::run::{Engine, EngineConfig, InHand, Isolation, Launched, Repeat};
use crate::spec::Fixture;
use crate::vm::{ByHand, MemoryDir, Shelf};
use crate::watch::{self, About, Served};

use super::args::{AccelArg, BuildOptions};
use super::exit::{Exit, Failure};
use super::setup::{self, Host, Requested};
use super::terminal::{self, Ended};

/// What `zonedev shell` and `zonedev rerun` both take.
#[derive(Debug, Args)]
pub(super) struct HandArgs {
    /// Run one command there instead of a prompt
    #[arg(short, long, value_name = "COMMAND")]
    pub(super) command: Option<String>,
    /// Hold the guest before its first instruction, and say how gdb attaches to it
    #[arg(long)]
    pub(super) gdb: bool,
    /// Boot, also where there is a kept template
    #[arg(long)]
    pub(super) fresh: bool,
    /// The accelerator [default: the run's; of a shell, KVM if a trial boot works, else TCG]
    #[arg(long)]
    pub(super) accel: Option<AccelArg>,
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) kernel: &'a str,
    pub(super) fixture: Fixture,
    /// Programs that must be in the image.
    pub(super) programs: BTreeSet<String>,
    pub(super) accel: Option<AccelArg>,
    pub(super) build: &'a BuildOptions,
    pub(super) gdb: bool,
    /// Whether no kept template is used.
    pub(super) fresh: bool,
}

/// Everything that a guest needs, built.
pub(super) struct Ready {
    pub(super) requested: Requested,
    pub(super) artifact: KernelArtifact,
    pub(super) accel: String,
    pub(super) fixture: Fixture,
    pub(super) memory: MemoryDir,
    engine: Engine,
    gdb: bool,
    listener: JoinHandle<()>,
}

/// Builds what is not there yet.
pub(super) async fn prepare(project: &Utf8Path, wanted: Wanted<'_>) -> Result<Ready, Failure> {
    let ctx = setup::build_context(project, wanted.build)?;
    let mut requested = setup::resolve(&ctx, &[wanted.kernel.to_owned()])?;
    let fixture = wanted.fixture;
    if let Some(reason) = fixture.skip_reason(&requested[0].contract)? {
        return Err(Failure::request(
            format!(
                "{} can't be had on {}: {reason}",
                fixture.name, wanted.kernel
            ),
            "name another fixture",
        ));
    }
    let (events, mut receiver) = mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        let mut progress = super::progress();
        while let Some(event) = receiver.recv().await {
            // Who waits for a prompt wants to know what takes time, and nothing else.
            let idle = matches!(
                &event,
                Event::BuildFinished { cached: true, .. }
                    | Event::BootFinished { .. }
                    | Event::CellFinished { .. }
            );
            if !idle {
                progress.event(&event);
            }
        }
    });
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await?;
    let programs = &wanted.programs;
    let sides = setup::sides(&ctx, &requested, &artifacts, programs, &events).await?;
    let roots = setup::roots(&ctx, [&fixture].into_iter(), &events).await?;
    let host = Host::look(&ctx, wanted.accel).await?;
    let launcher = host.launcher(setup::memory_needed([&fixture].into_iter(), 1))?;
    let memory = launcher.memory.clone();
    // There it goes with the guest's memory, and is swept with it where we are killed.
    let folder = memory.path().join("run");
    RunFolder::create(&folder)?;
    let abandon = memory.downgrade();
    super::signals::tidy(move || abandon.abandon());
    let config = EngineConfig {
        launcher,
        accel: host.probe.accel,
        isolation: match wanted.gdb {
            true => Isolation::Boot,
            false => Isolation::Clone,
        },
        repeat: Repeat::ONCE,
        dump_hung: false,
        jobs: 1,
        folder,
        roots,
        fstests: None,
        memory: setup::memory_for_guests(),
        times: None,
        shelf: (!wanted.fresh).then(|| Shelf::of(ctx.cache.root())),
    };
    let artifact = artifacts.into_iter().next();
    let artifact = artifact.ok_or_else(|| Failure::harness("the kernel was not built"))?;
    Ok(Ready {
        requested: requested.remove(0),
        artifact,
        accel: host.probe.accel.to_string(),
        fixture,
        memory,
        engine: Engine::new(config, sides, events),
        gdb: wanted.gdb,
        listener,
    })
}

impl Ready {
    /// Boots and provisions the guest, under this name.
    pub(super) async fn boot(&mut self, id: &CellId) -> Result<InHand, Failure> {
        let hand = ByHand { gdb: self.gdb };
        let launched = self.engine.launch_by_hand(id, &self.fixture, hand).await;
        let launched: Launched = launched.map_err(|end| not_up(&end))?;
        if let Some(socket) = launched.gdb() {
            errln!("{}", gdb_words(&self.artifact, socket));
        }
        launched.provision().await.map_err(|end| not_up(&end))
    }

    /// Everything that was told is shown. The place of the guest's memory, for as long as it is kept.
    pub(super) async fn settle(self) -> MemoryDir {
        drop(self.engine);
        let _ = self.listener.await;
        self.memory
    }
}

/// Why a guest did not come up.
pub(super) fn not_up(end: &End) -> Failure {
    let why = match end {
        End::BootFailed { reason } => reason.clone(),
        other => end_words(other),
    };
    Failure::harness(format!(
        "the guest did not come up: {}",
        proto::text::escape_lines(&why)
    ))
}

/// In words.
pub(super) fn end_words(end: &End) -> String {
    match end {
        End::Finished {} => "it finished".to_owned(),
        End::Skipped { reason } | End::BootFailed { reason } => escape(reason),
        End::GuestDied { how, .. } | End::AgentLost { how, .. } => escape(how),
        End::Hung { at, .. } => format!("it hung: {}", escape(at)),
        End::HarnessError { message } | End::HostError { message } => escape(message),
    }
}

/// How a debugger finds the guest.
fn gdb_words(artifact: &KernelArtifact, socket: &Utf8Path) -> String {
    let vmlinux = quoted(artifact.vmlinux().as_str());
    let scripts = artifact.dir.join("vmlinux-gdb.py");
    let scripts = match scripts.exists() {
        true => format!(" -ex 'source {scripts}'"),
        false => String::new(),
    };
    format!(
        "the guest stands before its first instruction and waits for a debugger:\n  \
         gdb {vmlinux} -ex 'target remote {socket}'{scripts}\n\
         there, `hbreak start_kernel` and `continue`; once the kernel runs, `break` works as well. \
         Its sources are named from /linux: `set substitute-path /linux DIR`"
    )
}

/// What the guest has, in words: its namespaces, and where they are mounted.
pub(super) fn inventory(namespaces: &[NamespaceInfo], fixture: &Fixture) -> String {
    let mounts = fixture.provision.iter().filter_map(|op| match op {
        proto::Op::Mount { namespace, .. } => Some(match namespace {
            None => "/mnt".to_owned(),
            Some(name) => format!("/run/mnt-{name}"),
        }),
        _ => None,
    });
    let device = |n: &NamespaceInfo| {
        let name = match n.name.as_str() {
            "" => String::new(),
            name => format!(" `{}`", excerpt(name, 40)),
        };
        let mib = n.size >> 20;
        format!(
            "/dev/{} ({}{name}, {mib} MiB)",
            excerpt(&n.dev, 40),
            excerpt(&n.mode, 20)
        )
    };
    let mut parts: Vec<String> = namespaces.iter().map(device).collect();
    parts.extend(mounts.map(|dir| format!("{dir} (-o dax)")));
    parts.push("hold, ndctl, daxctl, mkfs, busybox".to_owned());
    parts.join(", ")
}

/// Lets `zonedev watch` see the guest, as long as the answer lives. Where it can't, that is told.
pub(super) fn serve(ready: &Ready, hand: &InHand, what: &str) -> Option<Served> {
    let about = About {
        pid: std::process::id(),
        what: what.to_owned(),
        kernel: hand.record.id.kernel.clone(),
        fixture: hand.record.id.fixture.clone(),
        contract: hand.contract().name.clone(),
    };
    let dir = ready.memory.path();
    let served = watch::serve(dir, about, hand.guest(), hand.reader(), hand.contract());
    served
        .inspect_err(|e| errln!("`zonedev watch` won't see this guest: failed to {e}"))
        .ok()
}

/// Gives a shell in the guest until it ends, and says how.
pub(super) async fn shell(
    hand: &mut InHand,
    command: Option<String>,
    limit: Option<std::time::Duration>,
) -> Result<Ended, Failure> {
    let port: Option<UnixStream> = hand.take_shell();
    let port = port.ok_or_else(|| Failure::harness("the guest's shell is taken"))?;
    let id = &hand.record.id;
    let start = ShellStart {
        terminal: terminal::here(),
        command,
        prompt: format!("[{} {} \\w]# ", prompt(&id.kernel), prompt(&id.fixture)),
    };
    terminal::bridge(hand.guest(), port, start, limit).await
}

/// A kernel's name in a prompt: what is typed may be long, and has meanings in PS1.
fn prompt(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-_.+:@/".contains(c);
    let name: String = name.chars().filter(|c| keep(*c)).collect();
    let short: Vec<&str> = name
        .split('+')
        .map(|part| part.rsplit('/').next().unwrap_or(part))
        .collect();
    excerpt(&short.join("+"), 40)
}

/// How a shell's end is told and what we end with: its own code, or 125 where it had none.
pub(super) fn over(ended: &Ended, on_terminal: bool) -> Result<Exit, Failure> {
    let lost = |why: String| {
        let mut failure = Failure::harness(why);
        failure.exit = Exit::CannotTell;
        Err(failure)
    };
    match ended {
        // Whoever leaves by hand has seen how the last command ended.
        Ended::Code(_) | Ended::Left if on_terminal => Ok(Exit::Good),
        Ended::Code(code) => Ok(Exit::Shell(*code)),
        Ended::Left => Ok(Exit::Good),
        Ended::Guest(crate::vm::End::Shutdown { reason }) if reason == "guest-shutdown" => {
            errln!("the guest switched itself off");
            match on_terminal {
                true => Ok(Exit::Good),
                false => lost("the guest ended before its shell did".to_owned()),
            }
        }
        Ended::Guest(end) => lost(format!(
            "the guest ended before its shell did: {}",
            how(end)
        )),
        Ended::Failed(why) => lost(format!("the guest gave no shell: {}", excerpt(why, 300))),
        Ended::Silent => lost("the guest gave no shell in its time".to_owned()),
    }
}

fn how(end: &crate::vm::End) -> String {
    match end {
        crate::vm::End::Shutdown { reason } => excerpt(reason, 100),
        crate::vm::End::Panicked => "its kernel panicked".to_owned(),
        crate::vm::End::Gone => "QEMU is gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_names_the_kernel_and_means_nothing_else() {
        assert_eq!(prompt("6.12"), "6.12");
        assert_eq!(
            prompt("5.10+kernels/mutants/leak-vmsplice-5.10.patch"),
            "5.10+leak-vmsplice-5.10.patch"
        );
        assert_eq!(prompt("6.12+$(reboot)\\w"), "6.12+rebootw");
    }

    #[test]
    fn a_word_with_blanks_is_quoted() {
        assert_eq!(quoted("/a/b"), "/a/b");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_script_ends_with_its_own_code_and_a_person_with_none() {
        assert_eq!(over(&Ended::Code(7), false).unwrap(), Exit::Shell(7));
        assert_eq!(over(&Ended::Code(7), true).unwrap(), Exit::Good);
        let gone = || Ended::Guest(crate::vm::End::Panicked);
        for on_terminal in [false, true] {
            let failure = over(&gone(), on_terminal).unwrap_err();
            assert_eq!(failure.exit, Exit::CannotTell);
        }
    }
}
