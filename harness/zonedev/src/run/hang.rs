//! A guest that answers no more: what can still be learnt from it, rung by rung.
//!
//! What was noticed comes first (`run/progress.rs`), then:
//!
//! 1. Where each processor is, by QEMU's registers.
//! 2. sysrq over the console: blocked tasks, all tasks, a backtrace of each processor. It needs a
//!    processor that takes interrupts.
//! 3. Where the console stays silent, an NMI to all processors. The first one panics
//!    (`unknown_nmi_panic`), with its trace: that report is our doing, as all is from here on.
//! 4. With `--dump-hung`, the guest's memory (`run/dump.rs`).

use std::time::Duration;

use crate::observe::{Symbols, waiting_tasks};
use proto::{Hold, HoldBy, Standing};

use crate::record::{CORE, CellRecord, End, Event, Frame, Hang, Task, WaitingTask};
use crate::vm::{self, Guest};

use super::cell::silence_words;
use super::dump;
use super::engine::Engine;
use super::session::SessionError;

/// What sysrq is asked for, and how it is told.
const SYSRQ: [(u8, &str); 3] = [
    (b'w', "sysrq: blocked tasks"),
    (b't', "sysrq: all tasks"),
    (b'l', "sysrq: processors"),
];
/// How long a console that has begun to answer may pause.
const PAUSE: Duration = Duration::from_millis(500);
/// Tasks named in a verdict.
const NAMED: usize = 3;

impl Engine {
    /// Climbs the ladder, if the guest is silent.
    pub(super) async fn climb(&self, error: &SessionError, guest: &Guest, record: &mut CellRecord) {
        let SessionError::Silent {
            standing,
            why,
            limit: given,
        } = error
        else {
            return;
        };
        let side = &self.sides[record.id.side];
        let limit = self.limits(record.id.side).greeting / 4;
        let mut hang = Hang {
            standing: standing.as_deref().cloned(),
            asked_at: guest.console().total(),
            ..Hang::default()
        };
        let noticed = format!(
            "{}; the console was silent for {} s",
            silence_words(*why, *given),
            guest.console().silent_for().as_secs()
        );
        hang.add("noticed", Ok(noticed));
        let gave = registers(guest, &side.symbols, &mut hang.processors).await;
        hang.add("registers", gave);
        let mut answers = false;
        for (letter, what) in SYSRQ {
            let gave = asked(guest, limit, guest.sysrq(letter)).await;
            let silent = gave.is_err();
            answers |= !silent;
            hang.add(what, gave);
            if silent {
                break;
            }
        }
        if !answers {
            let gave = asked(guest, limit, guest.nmi()).await;
            hang.add("NMI to all processors", gave);
        }
        if self.config.dump_hung {
            let dir = guest.console().path().parent();
            let gave = dump::keep(guest, dir.unwrap_or(".".into())).await;
            let gave = gave.map(|path| {
                let message = format!(
                    "the memory of {}, which hangs, is kept: `zonedev core` opens {path}",
                    record.id
                );
                self.tell(Event::Notice { message });
                CORE.to_owned()
            });
            hang.add("dump", gave);
        }
        record.hang = Some(hang);
    }
}

/// Asks, and waits until the console has answered and pauses: the bytes that it gave.
async fn asked(
    guest: &Guest,
    limit: Duration,
    ask: impl Future<Output = vm::Result<()>>,
) -> Result<String, String> {
    let console = guest.console();
    let before = console.total();
    ask.await.map_err(|e| e.to_string())?;
    let answer = async {
        while console.total() == before || console.silent_for() < PAUSE {
            tokio::time::sleep(PAUSE / 10).await;
        }
    };
    let _ = tokio::time::timeout(limit, answer).await;
    match console.total() - before {
        0 => Err(format!("nothing within {} s", limit.as_secs())),
        bytes => Ok(format!("{bytes} bytes on the console")),
    }
}

/// Keeps the registers beside the console, and tells where each processor is.
async fn registers(
    guest: &Guest,
    symbols: &Symbols,
    processors: &mut Vec<String>,
) -> Result<String, String> {
    let mut text = guest.registers().await.map_err(|e| e.to_string())?;
    for line in text.lines() {
        let rip = line.split_whitespace().find_map(|w| w.strip_prefix("RIP="));
        let Some(address) = rip.and_then(|r| u64::from_str_radix(r, 16).ok()) else {
            continue;
        };
        // User space has the lower half.
        let function = tokio::task::block_in_place(|| symbols.function_at(address));
        processors.push(match function {
            _ if address >> 63 == 0 => "in user space".to_owned(),
            Some(function) => format!("in {function}"),
            None => format!("at {address:#x}"),
        });
    }
    if let Ok(controllers) = guest.interrupt_controllers().await {
        text.push_str(&controllers);
    }
    let file = guest.console().path().with_file_name("registers.txt");
    fs_err::write(&file, text).map_err(|e| e.to_string())?;
    Ok(processors.join(", "))
}

/// Says where a guest hung, once its console is read: in the tasks that wait, or else in what its
/// processors do.
pub(super) fn explain(record: &mut CellRecord, symbols: &Symbols) {
    let Some(hang) = &mut record.hang else { return };
    hang.tasks = waiting_tasks(&record.log);
    if let Some(standing) = &hang.standing
        && hang
            .tasks
            .iter()
            .all(|t| i64::from(t.task.pid) != i64::from(standing.pid))
    {
        hang.tasks.insert(0, by_agent(standing));
    }
    symbols.fill_in_frames(hang.tasks.iter_mut().flat_map(|t| &mut t.trace));
    let words = where_it_hangs(hang);
    if words.is_empty() {
        return;
    }
    match &mut record.end {
        End::Hung { at, .. } | End::BootFailed { reason: at } => {
            at.push_str("; ");
            at.push_str(&words);
        }
        End::GuestDied { how, .. } => {
            how.push_str("; ");
            how.push_str(&words);
        }
        _ => {}
    }
}

fn where_it_hangs(hang: &Hang) -> String {
    let mut blocked: Vec<String> = hang.tasks.iter().take(NAMED).map(waits).collect();
    if !blocked.is_empty() {
        let pins = hang.standing.iter().flat_map(|s| &s.pins).take(NAMED);
        blocked.extend(pins.map(pinned));
        return blocked.join(", ");
    }
    let processors = hang.processors.iter().enumerate();
    let busy: Vec<String> = processors.map(|(n, p)| format!("cpu {n} {p}")).collect();
    busy.join(", ")
}

/// The task that the agent followed, as it saw it.
fn by_agent(standing: &Standing) -> WaitingTask {
    WaitingTask {
        task: Task {
            comm: "agent".into(),
            pid: u32::try_from(standing.pid).unwrap_or_default(),
        },
        state: standing.state.chars().take(1).collect(),
        trace: crate::observe::frames(&standing.stack),
    }
}

/// Such as `pfn 0x100200 is pinned by vmsplice of main`.
fn pinned(hold: &Hold) -> String {
    let how = match &hold.by {
        HoldBy::Pin { how } => crate::verdict::pin_word(*how),
        _ => "something",
    };
    let pages = match hold.pages {
        1 => format!("pfn {:#x} is pinned", hold.pfn),
        n => format!("{n} pages from pfn {:#x} on are pinned", hold.pfn),
    };
    format!("{pages} by {how} of {}", hold.who)
}

/// Such as `agent/77 waits in dax_break_layout (fs/dax.c:1017)`.
fn waits(task: &WaitingTask) -> String {
    let who = format!("{}/{}", task.task.comm, task.task.pid);
    let does = match task.state.as_str() {
        "R" => "runs",
        _ => "waits",
    };
    let Some(frame) = crate::observe::blamed_frame(&task.trace) else {
        return format!("{who} {does}");
    };
    let Frame { function, at, .. } = frame;
    match at.last() {
        Some(place) => format!("{who} {does} in {function} ({}:{})", place.file, place.line),
        None => format!("{who} {does} in {function}"),
    }
}
