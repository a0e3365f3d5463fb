//! Operations from the request to their end: who runs them, what is followed
//! from what they did, and what counts as blocked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::{AgentMessage, HoldBy, Op, Outcome, PinHow, Size, Standing, StepResult};

use super::agent::Agent;
use super::disks::Holder;
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

/// How often the host hears of an operation that runs.
const ALIVE: Duration = Duration::from_secs(2);

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
    /// Runs one operation to its end, or until it counts as blocked. Meanwhile the host hears of it,
    /// by the request's `id`.
    pub(super) fn run(
        &mut self,
        id: u64,
        by: &str,
        op: Op,
        blocked_after_ms: Option<u64>,
    ) -> Outcome {
        let began = Instant::now();
        let name = match op {
            Op::Wait {} => self.whose(by),
            op => self.start(by, op),
        };
        match name {
            Ok(name) => self.wait(id, &name, blocked_after_ms, began),
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
                        dev.address(offset.bytes()).map(|at| at / Size::PAGE)
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
            } => {
                let range = self.pages_of(name, map, *offset, *length);
                context.expected = self.expect.of(name, map, range);
            }
            Op::HmmRead(of)
            | Op::HmmReadUnlocked(of)
            | Op::HmmMigrate(of)
            | Op::HmmExclusive(of) => {
                let range = self.pages_of(name, &of.map, of.offset, of.length);
                context.expected = self.expect.of(name, &of.map, range);
            }
            Op::Touch {
                map,
                offset,
                length,
                write: true,
            } => {
                let range = self.pages_of(name, map, *offset, *length);
                context.stores = self.expect.next(name, map, &range);
                context.has_blocks = self.ledger.has_blocks(name, map, range);
            }
            Op::Write { file, offset, .. } => {
                context.stores = self.expect.next_of_file(file, offset.bytes() / Size::PAGE);
            }
            Op::Pin {
                pin,
                how: PinHow::DirectWrite | PinHow::DirectRead,
                map,
                offset,
                length,
            } if !member.pins.contains(pin) => {
                let page = offset.bytes() / Size::PAGE;
                let holder = Holder {
                    actor: name.to_owned(),
                    pin: pin.clone(),
                    generation: self.generation,
                    first_page: self.expect.index(name, map, page),
                    first_of_map: page,
                    expected: self.expect.known(name, map, page..page + length.pages()),
                };
                let disk = self.disks.take(holder);
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
            stores: context.stores,
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

    fn wait(
        &mut self,
        id: u64,
        name: &str,
        blocked_after_ms: Option<u64>,
        began: Instant,
    ) -> Outcome {
        let mut told = Instant::now();
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
            if told.elapsed() >= ALIVE {
                told = Instant::now();
                self.alive(id, pid);
            }
            self.pump(Some(EVERY));
        }
    }

    /// Tells the host where the operation of this process stands.
    fn alive(&mut self, id: u64, pid: i32) {
        let Some(at) = process::sample(pid) else {
            return;
        };
        let mut pins = self.ledger.holds();
        pins.retain(|h| matches!(h.by, HoldBy::Pin { .. }));
        pins.truncate(Standing::MAX_PINS);
        let standing = Box::new(Standing {
            pid: at.pid,
            state: at.state.to_string(),
            stack: process::stack(at.pid, Standing::MAX_FRAMES),
            wchan: at.wchan,
            pins,
        });
        self.port.send(&AgentMessage::Alive { id, standing });
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
            StepResult::Ok {} | StepResult::Signal { .. } => self.ledger.judge(by, &job.op, &facts),
            _ => None,
        };
        if let Err(e) = self.ledger.apply(by, &job.op, &result, &facts) {
            result = failed(e.to_string());
        }
        if let Some(why) = judged {
            result = failed(why);
        }
        if let Op::Pin { pin, .. } = &job.op
            && result == (StepResult::Ok {})
            && let Some(wrong) = self.disks.wrong(name, pin)
        {
            result = wrong;
        }
        self.follow_words(by, &job, &result, &facts);
        self.follow_members(name, &job.op, &result, &facts, address);
        if matches!(
            job.op,
            Op::CreateNamespace { .. }
                | Op::Partition { .. }
                | Op::DestroyNamespace {}
                | Op::Unbind { .. }
                | Op::Rebind {}
                | Op::DestroyRegion {}
                | Op::DaxMode { .. }
                | Op::CreateDax { .. }
                | Op::DestroyDax { .. }
                | Op::ResizeDax { .. }
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

    /// Takes the namespaces as they are now.
    pub(super) fn look_at_namespaces(&mut self) {
        self.namespaces = namespaces::scan();
        let devices = self.namespaces.iter().filter(|n| n.mode == "devdax");
        self.ledger.set_devices(devices);
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
