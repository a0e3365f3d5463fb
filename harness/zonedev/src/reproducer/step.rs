//! One step of a case as lines of C, and what is kept from step to step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proto::{Op, PinHow, Size};

use super::devices::Devices;
use super::error::CannotSay;
use super::program::Reproduced;
use super::setup;
use super::text::{at, pages};
use super::words::{Run, View, Words};
use crate::spec::PlannedStep;

/// A line of an actor's function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Words for people.
    Comment(String),
    /// A statement as it is.
    Plain(String),
    /// The call whose outcome is the step's.
    Main(String),
    /// A call that must succeed.
    Also(String),
}

/// A pin that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) how: PinHow,
    /// Its variable.
    pub(super) var: String,
    /// What a direct read will have stored: of which mapping, where, and by which store.
    pub(super) coming: Option<(String, View, Range<u64>, u64)>,
}

/// A blocked call.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) var: String,
    /// What comes when it has ended.
    pub(super) then: Vec<Line>,
}

/// What is kept from step to step.
pub(super) struct Writer<'a> {
    pub(super) of: &'a Reproduced<'a>,
    pub(super) words: Words,
    pub(super) devices: Devices,
    /// Declarations of the file, in order.
    pub(super) globals: Vec<String>,
    /// Functions that steps need.
    pub(super) functions: Vec<String>,
    /// Bytes of the buffer that files and devices are read into.
    pub(super) copy: u64,
    /// Variables of network block devices, and their paths.
    pub(super) disks: Vec<(String, String)>,
    pub(super) pins: BTreeMap<(String, String), Held>,
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// What a new actor does first: it lets go of what is its parent's.
    pub(super) begins: BTreeMap<String, Vec<Line>>,
    /// Actors with a userfaultfd.
    pub(super) uffds: BTreeSet<String>,
    /// Whether swap is on a loop device.
    pub(super) swap_cached: bool,
    /// Namespaces whose file system is not mounted.
    pub(super) unmounted: BTreeSet<Option<String>>,
    /// The step at work, of all.
    pub(super) n: usize,
}

/// Which outcome's word an errno or a signal is in C.
pub(super) fn wanted(expected: &str, op: &Op) -> String {
    match expected {
        "ok" | "blocked" => "0".to_owned(),
        "wrong-data" => "EBADMSG".to_owned(),
        // Some of a range was not done.
        "failed" if op.device_range().is_some() => "EAGAIN".to_owned(),
        "failed" => "ECANCELED".to_owned(),
        word if word.starts_with("SIG") => format!("-{word}"),
        word if word.starts_with('E') => word.to_owned(),
        // The program, or the guest, is gone then.
        _ => "0".to_owned(),
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(of: &'a Reproduced<'a>) -> Self {
        Writer {
            of,
            words: Words::default(),
            devices: Devices::new(of.fixture),
            globals: Vec::new(),
            functions: Vec::new(),
            copy: 0,
            disks: Vec::new(),
            pins: BTreeMap::new(),
            waiting: BTreeMap::new(),
            begins: BTreeMap::new(),
            uffds: BTreeSet::new(),
            swap_cached: false,
            unmounted: BTreeSet::new(),
            n: 0,
        }
    }

    /// Declares something once.
    pub(super) fn global(&mut self, declaration: &str) {
        if !self.globals.iter().any(|g| g == declaration) {
            self.globals.push(declaration.to_owned());
        }
    }

    /// The buffer, with room for so many pages.
    pub(super) fn buffer(&mut self, pages: u64) -> &'static str {
        self.copy = self.copy.max(pages * Size::PAGE);
        "copy"
    }

    /// An actor's mapping.
    pub(super) fn view(&self, actor: &str, map: &str, op: &Op) -> Result<View, CannotSay> {
        self.words
            .view(actor, map)
            .cloned()
            .ok_or_else(|| CannotSay {
                op: op.word(),
                why: format!("`{actor}` has no mapping `{map}` when it comes"),
            })
    }

    /// A range of an actor's mapping: its pages, where they begin in C, and how long it is.
    pub(super) fn range(
        &self,
        actor: &str,
        (map, offset, length): (&str, Size, Option<Size>),
        op: &Op,
    ) -> Result<(Range<u64>, String, String), CannotSay> {
        let view = self.view(actor, map, op)?;
        let range = setup::range(offset, length, view.pages);
        if range.is_empty() {
            return Err(CannotSay {
                op: op.word(),
                why: format!("its range is empty: `{map}` has {} pages", view.pages),
            });
        }
        let place = at(&super::maps::var(map), range.start * Size::PAGE);
        let length = pages(range.end - range.start);
        Ok((range, place, length))
    }

    /// Calls that compare what a buffer, or a mapping, holds with what was stored.
    pub(super) fn verified(base: &str, first: u64, runs: &[Run]) -> Vec<String> {
        runs.iter()
            .filter(|run| run.is_known())
            .map(|run| {
                format!(
                    "verify({}, {}, {}, {})",
                    at(base, (run.page - first) * Size::PAGE),
                    pages(run.pages),
                    run.words[0].head(),
                    run.words[1].tail()
                )
            })
            .collect()
    }

    /// The lines of a step.
    pub(super) fn step(&mut self, step: &PlannedStep) -> Result<Vec<Line>, CannotSay> {
        let PlannedStep {
            actor,
            op,
            expected,
            ..
        } = step;
        let mut lines = Vec::new();
        if expected == "lacks" {
            let lacks = format!("this kernel has nothing to do `{}` with", op.word());
            return Ok(vec![Line::Comment(lacks)]);
        }
        if expected == "died" || crate::spec::ends_guest(expected) {
            lines.push(Line::Comment(format!("expected of this: {expected}")));
        }
        // What a blocked call stores, it stores in the end.
        let ok = expected == "ok" || expected == "blocked";
        lines.extend(match op {
            Op::CreateNamespace { .. }
            | Op::Partition { .. }
            | Op::Mkfs { .. }
            | Op::Mount { .. }
            | Op::Umount { .. }
            | Op::Shutdown { .. }
            | Op::Freeze { .. }
            | Op::Thaw { .. }
            | Op::Rebind {}
            | Op::DestroyNamespace {}
            | Op::Unbind { .. }
            | Op::CreateRegion {}
            | Op::DestroyRegion {}
            | Op::Insmod { .. }
            | Op::Rmmod { .. }
            | Op::UnbindPci { .. }
            | Op::DaxMode { .. }
            | Op::CreateDax { .. }
            | Op::ResizeDax { .. }
            | Op::ReadAttributes {}
            | Op::DestroyDax { .. }
            | Op::TornDown {}
            | Op::MountRoot {}
            | Op::Run { .. }
            | Op::SwapOn { .. }
            | Op::SwapOff {} => self.of_device(op, ok)?,
            Op::Create { .. }
            | Op::Truncate { .. }
            | Op::Fallocate { .. }
            | Op::Clone { .. }
            | Op::Dedupe { .. }
            | Op::Rename { .. }
            | Op::Write { .. }
            | Op::Read { .. }
            | Op::CopyFile { .. }
            | Op::Poison { .. }
            | Op::Fsync { .. }
            | Op::Unlink { .. }
            | Op::Mtime { .. } => self.of_file(op, ok)?,
            Op::MapFile { .. }
            | Op::MapDevice { .. }
            | Op::MapAnon { .. }
            | Op::MapP2pmem { .. } => self.map(actor, op, ok)?,
            Op::Touch { .. }
            | Op::Verify { .. }
            | Op::Unmap { .. }
            | Op::Mprotect { .. }
            | Op::WriteProtect { .. }
            | Op::Mremap { .. }
            | Op::Madvise { .. }
            | Op::Mlock { .. }
            | Op::Ask { .. }
            | Op::Msync { .. } => self.of_map(actor, op, expected)?,
            Op::Pin { .. } | Op::Release { .. } | Op::Gup { .. } => self.of_pin(actor, op, ok)?,
            Op::HmmOpen { .. }
            | Op::HmmMigrate(_)
            | Op::HmmReturn(_)
            | Op::HmmRead(_)
            | Op::HmmReadUnlocked(_)
            | Op::HmmWrite(_)
            | Op::HmmExclusive(_)
            | Op::HmmCheckExclusive(_)
            | Op::HmmSnapshot(_)
            | Op::HmmClose { .. } => self.of_hmm(actor, op, ok)?,
            Op::Race { .. } => self.race(actor, op)?,
            Op::Fork { child } => self.fork(actor, child),
            Op::Wait {} => match self.waiting.get(actor) {
                Some(waiting) if expected == "blocked" => {
                    vec![Line::Plain(format!(
                        "usleep(500000); /* {} */",
                        waiting.var
                    ))]
                }
                Some(_) => self.waited(actor),
                None => {
                    return Err(CannotSay {
                        op: op.word(),
                        why: format!("nothing of `{actor}` is blocked when it comes"),
                    });
                }
            },
            // The process's function ends here; see `actors`.
            Op::Exit {} => {
                let lines = self.let_go(actor);
                self.words.gone(actor);
                lines
            }
            Op::End {} => vec![Line::Comment("the case's processes end".into())],
            Op::Checkpoint { name } => vec![Line::Comment(name.clone())],
        });
        if expected == "blocked" && !matches!(op, Op::Wait {}) {
            lines = self.blocked(actor, op, lines);
        }
        Ok(lines)
    }

    /// The main call goes to a thread of its own; what follows it, to behind its end.
    fn blocked(&mut self, actor: &str, op: &Op, lines: Vec<Line>) -> Vec<Line> {
        let mut before = lines;
        let Some(main) = before.iter().position(|l| matches!(l, Line::Main(_))) else {
            return before;
        };
        let then = before.split_off(main + 1);
        let Some(Line::Main(call)) = before.pop() else {
            return before;
        };
        let name = format!("{}_{}", super::text::ident(op.word()), self.n);
        self.global(&format!("static struct blocked {name};"));
        self.functions.push(format!(
            "static int do_{name}(void)\n{{\n{}}}\n",
            super::text::statement(1, &format!("return {call};"))
        ));
        before.push(Line::Also(format!("blocks(&{name}, do_{name})")));
        let waiting = Waiting { var: name, then };
        self.waiting.insert(actor.to_owned(), waiting);
        before
    }

    /// A blocked call of this actor's has ended.
    fn waited(&mut self, actor: &str) -> Vec<Line> {
        let Some(Waiting { var, then }) = self.waiting.remove(actor) else {
            return Vec::new();
        };
        let mut lines = vec![Line::Main(format!("ended(&{var})"))];
        lines.extend(then);
        lines
    }

    fn fork(&mut self, actor: &str, child: &str) -> Vec<Line> {
        self.words.forked(actor, child);
        let mut begins: Vec<Line> = Vec::new();
        let of_parent = self.pins.iter().filter(|((a, _), _)| a == actor);
        for (_, held) in of_parent {
            // The parent's pins are the parent's.
            let var = &held.var;
            begins.extend(match held.how {
                PinHow::Vmsplice => vec![
                    Line::Plain(format!("close({var}[0]);")),
                    Line::Plain(format!("close({var}[1]);")),
                ],
                PinHow::IoUring | PinHow::GupTest => vec![Line::Plain(format!("close({var});"))],
                PinHow::DirectWrite | PinHow::DirectRead => Vec::new(),
            });
        }
        if self.uffds.contains(actor) {
            begins.push(Line::Plain("close(uffd);".into()));
            begins.push(Line::Plain("uffd = -1;".into()));
        }
        self.begins.insert(child.to_owned(), begins);
        vec![Line::Main(format!(
            "start({})",
            super::actors::function(child)
        ))]
    }

    /// What an actor still holds in flight ends before it does.
    pub(super) fn let_go(&mut self, actor: &str) -> Vec<Line> {
        let direct = |how| matches!(how, PinHow::DirectRead | PinHow::DirectWrite);
        let of_it: Vec<_> = (self.pins.iter())
            .filter(|((a, _), held)| a == actor && direct(held.how))
            .map(|(at, held)| (at.clone(), held.clone()))
            .collect();
        let mut lines = Vec::new();
        for (at, held) in of_it {
            self.pins.remove(&at);
            lines.push(Line::Plain(format!("{}->held = 0;", held.var)));
            self.came(held);
        }
        lines
    }

    /// What a direct read stores, it has stored now.
    pub(super) fn came(&mut self, held: Held) {
        let Some((map, view, range, store)) = held.coming else {
            return;
        };
        let (actor, map) = map.split_once('/').unwrap_or(("main", &map));
        if view.private {
            let at = (actor, map);
            self.words.stored(at, range, Some(store), [true; 2]);
        } else {
            self.words.stored_by(&view, range, Some(store), [true; 2]);
        }
    }
}
