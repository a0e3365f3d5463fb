//! Operations from the request to their end: who runs them, what is followed
//! from what they did, and what counts as blocked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use proto::{Advice, Fact, FallocateMode, Op, Outcome, PinHow, Size, StepResult};

use super::agent::Agent;
use super::namespaces;
use super::table::Job;
use crate::process::{self, Sample};
use crate::wire::{Context, Order, Reply, failed};

/// The process that provisions and runs programs for PID 1.
pub(super) const WORKER: &str = "(worker)";
/// The actor that exists from the start of a case.
const MAIN: &str = "main";

/// How long an operation may take that is not said to block.
const LIMIT: Duration = Duration::from_secs(150);
/// The same for a program of a case.
const PROGRAM_LIMIT: Duration = Duration::from_secs(600);
/// An operation is blocked when so many samples, one each [`EVERY`], find it
/// asleep at one place, having used no time.
const SAMPLES: u32 = 5;
const EVERY: Duration = Duration::from_millis(20);

/// The operation of a member that has ended and was not asked for yet.
#[derive(Debug)]
pub(super) struct Ended {
    /// The actor that the request named.
    pub(super) by: String,
    /// Its end.
    pub(super) outcome: Outcome,
}

pub(super) fn outcome(result: StepResult, began: Instant) -> Outcome {
    Outcome {
        result,
        facts: Vec::new(),
        output: None,
        took_us: began.elapsed().as_micros() as u64,
    }
}

impl Agent {
    /// Runs one operation to its end, or until it counts as blocked.
    pub(super) fn run(&mut self, by: &str, op: Op, blocked_after_ms: Option<u64>) -> Outcome {
        let began = Instant::now();
        let name = match op {
            Op::Wait {} => self.whose(by),
            op => self.start(by, op),
        };
        match name {
            Ok(name) => self.wait(&name, blocked_after_ms, began),
            Err(result) => outcome(result, began),
        }
    }

    /// Who is at the operation that this actor's requests left unfinished.
    fn whose(&self, by: &str) -> Result<String, StepResult> {
        for name in [by, WORKER] {
            let ended = self.ended.get(name).map(|e| &e.by);
            let job = self.table.members.get(name).and_then(|m| m.job.as_ref());
            if ended.or(job.map(|j| &j.by)).is_some_and(|of| of == by) {
                return Ok(name.to_owned());
            }
        }
        Err(failed(format!(
            "wait for `{by}`: none of its operations is blocked"
        )))
    }

    fn start(&mut self, by: &str, op: Op) -> Result<String, StepResult> {
        let name = if op.by_init() { WORKER } else { by };
        if self.ended.contains_key(name) {
            return Err(failed(format!(
                "start `{}`: a blocked operation has ended; do `wait` first",
                op.word()
            )));
        }
        if !self.table.members.contains_key(name) {
            if let Some(how) = self.dead.get(name) {
                return Err(StepResult::Died { how: how.clone() });
            }
            if name != MAIN && name != WORKER {
                return Err(failed(format!("find actor `{name}`: fork it first")));
            }
            self.table.spawn(name).map_err(|e| failed(e.to_string()))?;
        }
        if let Op::Fork { child } = &op
            && (child == MAIN || child == WORKER || self.table.members.contains_key(child))
        {
            return Err(failed(format!("fork `{child}`: the name is taken")));
        }
        let Some(member) = self.table.members.get(name) else {
            return Err(failed(format!("find actor `{name}`")));
        };
        if let Some(job) = &member.job {
            return Err(failed(format!(
                "start `{}`: the actor is blocked in `{}`; do `wait` first",
                op.word(),
                job.op.word()
            )));
        }
        self.generation += 1;
        let mut context = Context {
            namespaces: self.namespaces.clone(),
            generation: self.generation,
            ..Context::default()
        };
        match &op {
            Op::Poison {
                file,
                namespace,
                offset,
                ..
            } => {
                context.pfn = match file {
                    Some(file) => self.expect.pfn(file, offset.bytes() / Size::PAGE),
                    None => {
                        let dev = context.namespace("devdax", namespace.as_deref())?;
                        Some((dev.resource + offset.bytes()) / Size::PAGE)
                    }
                };
            }
            Op::Read {
                file,
                offset,
                length,
                ..
            } => {
                context.blocks = self.expect.blocks(file);
                let from = offset.bytes() / Size::PAGE;
                context.expected = self.expect.of_file(file, from..from + length.pages());
            }
            Op::Verify {
                map,
                offset,
                length,
            }
            | Op::HmmRead {
                map,
                offset,
                length,
                ..
            }
            | Op::HmmMigrate {
                map,
                offset,
                length,
                ..
            }
            | Op::HmmExclusive {
                map,
                offset,
                length,
                ..
            } => {
                let range = self.pages_of(name, map, *offset, *length);
                context.expected = self.expect.of(name, map, range);
            }
            Op::Touch {
                map,
                offset,
                length,
                write: true,
            } => {
                let range = self.pages_of(name, map, *offset, *length);
                context.has_blocks = self.ledger.has_blocks(name, map, range);
            }
            Op::Pin {
                pin,
                how: PinHow::DirectWrite | PinHow::DirectRead,
                map,
                offset,
                ..
            } if !member.pins.contains(pin) => {
                let first = self.expect.index(name, map, offset.bytes() / Size::PAGE);
                let disk = self.disks.take(name, pin, self.generation, first);
                context.nbd = Some(disk.map_err(|e| failed(e.to_string()))?);
            }
            // What ends a transfer must be done before the actor waits for its end.
            Op::Release { pin } => {
                self.disks.release(name, pin);
                // The data arrives before the pin goes, and so before whatever waits for that.
                if let Some(coming) = self.coming.remove(&(name.to_owned(), pin.clone())) {
                    self.expect.came(coming);
                }
            }
            Op::Exit {} => {
                self.disks.release_all(name);
                let (of_it, others) = std::mem::take(&mut self.coming)
                    .into_iter()
                    .partition(|((of, _), _)| of == name);
                self.coming = others;
                let of_it: BTreeMap<_, _> = of_it;
                of_it.into_values().for_each(|c| self.expect.came(c));
            }
            _ => {}
        }
        let job = Job {
            op: op.clone(),
            by: by.to_owned(),
            began: Instant::now(),
            generation: self.generation,
            given_up: None,
            blocked: false,
        };
        if let Some(member) = self.table.members.get_mut(name) {
            member.job = Some(job);
            // A member that can't be told is dead, which is noticed as such.
            let _ = member.order(&Order { op, context });
        }
        Ok(name.to_owned())
    }

    fn wait(&mut self, name: &str, blocked_after_ms: Option<u64>, began: Instant) -> Outcome {
        let mut last: Option<Sample> = None;
        let mut same = 0;
        let mut sampled = Instant::now();
        loop {
            if let Some(ended) = self.ended.remove(name) {
                return ended.outcome;
            }
            let Some((pid, job)) = self
                .table
                .members
                .get(name)
                .and_then(|m| Some((m.pid, m.job.as_ref()?)))
            else {
                return outcome(failed(format!("follow `{name}`: it is at nothing")), began);
            };
            let limit = match job.op {
                // Longer than the worker's own, which says more.
                Op::Run {
                    minutes: Some(minutes),
                    ..
                } => Duration::from_secs(minutes.saturating_mul(60).saturating_add(20)),
                Op::Run { .. } => PROGRAM_LIMIT,
                _ => LIMIT,
            };
            if began.elapsed() > limit {
                let place = process::sample(pid)
                    .map(|s| format!(", in {} ({})", s.wchan, s.state))
                    .unwrap_or_default();
                let word = job.op.word();
                let limit = limit.as_secs();
                let result = failed(format!("end `{word}`: not done after {limit} s{place}"));
                return outcome(result, began);
            }
            let after = blocked_after_ms.map(Duration::from_millis);
            if after.is_some_and(|a| began.elapsed() >= a) && sampled.elapsed() >= EVERY {
                sampled = Instant::now();
                let now = process::sample(pid);
                same = if now == last { same + 1 } else { 0 };
                last = now;
                if let Some(s) = last.as_ref().filter(|s| s.sleeps())
                    && same >= SAMPLES
                {
                    let wchan = s.wchan.clone();
                    return self.blocked(name, wchan, began);
                }
            }
            self.pump(Some(EVERY));
        }
    }

    /// What a blocked operation has done already is told once, not at each `wait`.
    fn blocked(&mut self, name: &str, wchan: String, began: Instant) -> Outcome {
        let result = StepResult::Blocked { wchan };
        let job = self
            .table
            .members
            .get_mut(name)
            .and_then(|m| m.job.as_mut());
        let Some(job) = job.filter(|j| !j.blocked) else {
            return outcome(result, began);
        };
        job.blocked = true;
        match self.ledger.apply(&job.by, &job.op, &result, &[]) {
            Ok(()) => outcome(result, began),
            Err(e) => outcome(failed(e.to_string()), began),
        }
    }

    /// An actor has answered.
    pub(super) fn answered(&mut self, name: &str, mut reply: Reply) {
        let Some(member) = self.table.members.get_mut(name) else {
            return;
        };
        let Some(mut job) = member.job.take() else {
            return;
        };
        if let Some((facts, why)) = job.given_up.take() {
            if reply.result == (StepResult::Ok {}) {
                reply.result = failed(why);
            }
            reply.facts = facts;
        } else if let Op::Pin {
            pin,
            how: PinHow::DirectWrite | PinHow::DirectRead,
            length,
            ..
        } = &job.op
        {
            let bytes = length.pages() * Size::PAGE;
            if reply.result == (StepResult::Ok {}) {
                let seen = self.disks.gather(name, pin, bytes);
                if seen < bytes {
                    // A part could not be pinned; the transfer's own error says why.
                    self.disks.release(name, pin);
                    let op = Op::Release { pin: pin.clone() };
                    let context = Context::default();
                    let why = format!("hold a transfer of {bytes} bytes: the device saw {seen}");
                    job.given_up = Some((reply.facts, why));
                    member.job = Some(job);
                    let _ = member.order(&Order { op, context });
                    return;
                }
            } else if !member.pins.contains(pin) {
                self.disks.release(name, pin);
            }
        }
        if let Op::Fork { child } = &job.op
            && reply.result == (StepResult::Ok {})
            && let Err(e) = self.table.expect(child)
        {
            reply.result = failed(e.to_string());
        }
        self.end(name, job, reply);
    }

    /// An operation has ended: everything that follows from it is followed.
    fn end(&mut self, name: &str, job: Job, reply: Reply) {
        let Reply {
            mut result,
            mut facts,
            output,
            address,
        } = reply;
        let by = if name == WORKER { &job.by } else { name };
        self.name_files(by, &job.op, &mut facts);
        // Against what was done before this.
        let judged = match result {
            StepResult::Ok {} => self.ledger.judge(by, &job.op, &facts),
            _ => None,
        };
        if let Err(e) = self.ledger.apply(by, &job.op, &result, &facts) {
            result = failed(e.to_string());
        }
        if let Some(why) = judged {
            result = failed(why);
        }
        self.follow_words(by, &job, &result, &facts);
        self.follow_members(name, &job.op, &result, &facts, address);
        if matches!(
            job.op,
            Op::CreateNamespace { .. }
                | Op::DestroyNamespace {}
                | Op::Unbind { .. }
                | Op::DestroyRegion {}
                | Op::DaxMode { .. }
                | Op::Run { .. }
        ) {
            self.look_at_namespaces();
        }
        let took_us = job.began.elapsed().as_micros() as u64;
        let outcome = Outcome {
            result,
            facts,
            output,
            took_us,
        };
        let by = job.by;
        self.ended.insert(name.to_owned(), Ended { by, outcome });
    }

    /// An actor knows a file by the name that it mapped it under; the ledger
    /// may have given it another one since.
    fn name_files(&self, by: &str, op: &Op, facts: &mut [Fact]) {
        let (Op::Touch { map, .. }
        | Op::Verify { map, .. }
        | Op::Pin { map, .. }
        | Op::Gup { map, .. }
        | Op::Mlock { map, .. }
        | Op::HmmWrite { map, .. }
        | Op::Madvise { map, .. }) = op
        else {
            return;
        };
        let Some(now) = self.ledger.file_of(by, map) else {
            return;
        };
        for fact in facts {
            if let Fact::Extents { file, .. } = fact {
                now.clone_into(file);
            }
        }
    }

    fn follow_words(&mut self, by: &str, job: &Job, result: &StepResult, facts: &[Fact]) {
        for fact in facts {
            match fact {
                Fact::Extents { file, extents } => self.expect.blocks_are(file, extents),
                Fact::Mapped { map, backing, .. } => self.expect.mapped(by, map, backing),
                Fact::Touched {
                    map,
                    page,
                    pages,
                    write: true,
                    ..
                } if matches!(job.op, Op::Touch { .. }) => {
                    self.expect
                        .stored(by, map, *page..page + pages, job.generation);
                }
                _ => {}
            }
        }
        if *result != (StepResult::Ok {}) {
            return;
        }
        match &job.op {
            Op::Truncate { file, size } => self.expect.cut(file, size.pages()..u64::MAX, true),
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => {
                let (from, pages) = (offset.pages(), length.pages());
                match mode {
                    FallocateMode::PunchHole | FallocateMode::ZeroRange => {
                        let to = (offset.bytes() + length.bytes()) / Size::PAGE;
                        self.expect.cut(file, from..to, false);
                    }
                    FallocateMode::CollapseRange => {
                        self.expect.shifted(file, from, -(pages as i64));
                    }
                    FallocateMode::InsertRange => self.expect.shifted(file, from, pages as i64),
                    FallocateMode::UnshareRange => {}
                }
            }
            Op::Clone {
                file,
                to,
                offset,
                length,
                to_offset,
            } => {
                let from = offset.bytes() / Size::PAGE;
                let pages = length.map_or(u64::MAX, |l| from.saturating_add(l.pages()));
                let at = to_offset.bytes() / Size::PAGE;
                self.expect.cloned(file, from..pages, to, at);
            }
            Op::CopyFile { file, to, length } => {
                self.expect.cloned(file, 0..length.pages(), to, 0);
            }
            Op::Rename { file, to } => self.expect.renamed(file, to),
            Op::Race { arm, .. } => {
                for file in arm.iter().filter_map(Op::file) {
                    self.expect.cut(file, 0..u64::MAX, true);
                }
                for map in arm.iter().filter_map(Op::map) {
                    let range = self.pages_of(by, map, Size(0), None);
                    self.expect.cut_behind(by, map, 0..u64::MAX);
                    self.expect.stored_if_own(by, map, range, job.generation);
                }
            }
            Op::Write {
                file,
                offset,
                length,
            } => {
                let from = offset.bytes() / Size::PAGE;
                self.expect
                    .written(file, from..from + length.pages(), job.generation);
            }
            Op::HmmWrite {
                map,
                offset,
                length,
                ..
            } => {
                let range = self.pages_of(by, map, *offset, *length);
                self.expect.stored(by, map, range, job.generation);
            }
            Op::Madvise {
                map,
                offset,
                length,
                advice,
            } => {
                let range = self.pages_of(by, map, *offset, *length);
                match advice {
                    Advice::Dontneed => self.expect.dropped(by, map, range),
                    Advice::Remove => self.expect.cut_behind(by, map, range),
                    Advice::Dontfork
                    | Advice::Hwpoison
                    | Advice::Free
                    | Advice::Pageout
                    | Advice::PopulateRead => {}
                    // It faults, and stores nothing.
                    Advice::PopulateWrite => {}
                }
            }
            Op::Unlink { file } => self.expect.unlinked(file),
            Op::Unmap {
                map,
                offset: Size(0),
                length: None,
            } => self.expect.unmapped(by, map),
            Op::Fork { child } => self.expect.forked(by, child),
            Op::Mkfs { .. } | Op::CreateNamespace { .. } | Op::DestroyNamespace {} => {
                self.expect.forget_files();
            }
            Op::Pin {
                pin,
                how: PinHow::DirectRead,
                map,
                offset,
                length,
            } => {
                let from = offset.bytes() / Size::PAGE;
                let coming =
                    self.expect
                        .coming(by, map, from..from + length.pages(), job.generation);
                self.coming.insert((by.to_owned(), pin.clone()), coming);
            }
            _ => {}
        }
    }

    /// Pages of an actor's mapping, as far as it reaches; to the end where `length` is absent.
    fn pages_of(&self, by: &str, map: &str, offset: Size, length: Option<Size>) -> Range<u64> {
        let member = self.table.members.get(by);
        let pages = member
            .and_then(|m| m.maps.get(map))
            .map_or(0, |(_, pages)| *pages);
        let from = (offset.bytes() / Size::PAGE).min(pages);
        from..length.map_or(pages, |l| from.saturating_add(l.pages()).min(pages))
    }

    fn follow_members(
        &mut self,
        name: &str,
        op: &Op,
        result: &StepResult,
        facts: &[Fact],
        address: Option<u64>,
    ) {
        let Some(member) = self.table.members.get_mut(name) else {
            return;
        };
        for fact in facts {
            if let (Fact::Mapped { map, pages, .. }, Some(address)) = (fact, address) {
                member.maps.insert(map.clone(), (address, *pages));
            }
        }
        if *result != (StepResult::Ok {}) {
            return;
        }
        match op {
            Op::Unmap {
                map,
                offset: Size(0),
                length: None,
            } => {
                member.maps.remove(map);
            }
            Op::Mremap { map, .. } => {
                if let (Some(address), Some(m)) = (address, member.maps.get_mut(map)) {
                    m.0 = address;
                }
            }
            Op::Pin { pin, .. } => {
                member.pins.insert(pin.clone());
            }
            Op::Release { pin } => {
                member.pins.remove(pin);
            }
            Op::Fork { child } => {
                let maps = member.maps.clone();
                if let Some(child) = self.table.members.get_mut(child) {
                    child.maps = maps;
                }
            }
            _ => {}
        }
    }

    /// Takes the namespaces as they are now.
    pub(super) fn look_at_namespaces(&mut self) {
        self.namespaces = namespaces::scan();
        let devices = self.namespaces.iter().filter(|n| n.mode == "devdax");
        self.ledger
            .set_devices(devices.map(|n| (n.name.clone(), n.resource)));
    }

    /// A child of PID 1 has ended.
    pub(super) fn reaped(&mut self, pid: i32, how: &str) {
        let Some(name) = self.table.name_of(pid) else {
            return;
        };
        // It may have answered before.
        if let Some(reply) = self.table.members.get_mut(&name).and_then(|m| m.answer()) {
            self.answered(&name, reply);
        }
        let Some(member) = self.table.members.remove(&name) else {
            return;
        };
        self.disks.release_all(&name);
        let result = match &member.job {
            Some(Job {
                op: Op::Exit {}, ..
            }) if how == "exit 0" => StepResult::Ok {},
            _ => StepResult::Died {
                how: how.to_owned(),
            },
        };
        // Whatever it was at, what it had is gone.
        let applied = self.ledger.apply(&name, &Op::Exit {}, &result, &[]);
        self.expect.gone(&name);
        // The worker has nothing that its successor would miss.
        if name != WORKER {
            self.dead.insert(name.clone(), how.to_owned());
        }
        if let Some(job) = member.job {
            let result = applied.map_or_else(|e| failed(e.to_string()), |()| result);
            let outcome = outcome(result, job.began);
            self.ended.insert(
                name,
                Ended {
                    by: job.by,
                    outcome,
                },
            );
        }
    }
}
