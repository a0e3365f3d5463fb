//! A case while it is reduced: its steps as one contract has them, and how large they are.

use std::collections::BTreeSet;
use std::fmt;

use proto::{Op, Size};

use super::names::World;
use crate::spec::PlannedStep;

/// Keys of operations that are a place or a length in a file or a mapping.
pub(super) const SIZES: [&str; 4] = ["length", "offset", "size", "to-offset"];

/// The steps of a case, which may be left out and made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In their order.
    pub steps: Vec<PlannedStep>,
}

/// How large a program is. What is less in the first of these that differs is simpler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Measure {
    /// Steps.
    pub operations: usize,
    /// Threads of races.
    pub threads: usize,
    /// Processes.
    pub actors: usize,
    /// Rounds of races, and turns in them.
    pub rounds: u64,
    /// All lengths, sizes and offsets together.
    pub bytes: u64,
    /// What is said beside that: keys of operations, and what is expected of them.
    pub words: usize,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |n: usize, one: &str, many: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {many}"),
        };
        write!(f, "{}", many(self.operations, "operation", "operations"))?;
        if self.actors > 1 {
            write!(f, ", {}", many(self.actors, "process", "processes"))?;
        }
        if self.threads > 0 {
            let threads = many(self.threads, "racing thread", "racing threads");
            write!(f, ", {threads}, {} rounds", self.rounds)?;
        }
        write!(f, ", {}", Size(self.bytes))
    }
}

/// Where a size stands: the step, which of its sizes, and under which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SizeAt {
    pub(super) step: usize,
    pub(super) nth: usize,
    pub(super) key: String,
    pub(super) bytes: u64,
}

impl Program {
    /// Names it by what is in it: equal programs are one trial's worth.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for step in &self.steps {
            hasher.update(format!("{step:?}\n").as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// How large it is.
    pub fn measure(&self) -> Measure {
        let mut of = Measure {
            operations: self.steps.len(),
            threads: 0,
            actors: 0,
            rounds: 0,
            bytes: (self.sizes().iter()).fold(0u64, |sum, at| sum.saturating_add(at.bytes)),
            words: 0,
        };
        let mut actors = BTreeSet::new();
        for step in &self.steps {
            if let Op::Race {
                rounds, turns, arm, ..
            } = &step.op
            {
                of.threads += arm.len();
                of.rounds += u64::from(*rounds) + u64::from(turns.get()) - 1;
            }
            if !matches!(step.op, Op::Checkpoint { .. }) {
                actors.insert(&step.actor);
            }
            of.words += words(&step.op);
            of.words += usize::from(step.expected != "ok")
                + step.splats.len()
                + usize::from(step.every_splat)
                + usize::from(step.may_block);
        }
        of.actors = actors.len();
        of
    }

    /// What is left of it without what can't be meant any more: the use of a mapping that nobody made,
    /// the release of a pin that nobody took, the steps of a process that nobody forked.
    #[must_use]
    pub fn tidied(&self) -> Program {
        let mut world = World::default();
        let steps = self.steps.iter().filter_map(|step| world.follow(step));
        Program {
            steps: steps.collect(),
        }
    }

    /// Whether each of its steps can be meant.
    pub fn is_whole(&self) -> bool {
        self.tidied() == *self
    }

    /// Without these steps, and without those that need them.
    pub(super) fn without(&self, leave_out: impl Fn(usize) -> bool) -> Program {
        let steps = self.steps.iter().enumerate();
        let steps = steps.filter(|(n, _)| !leave_out(*n));
        Program {
            steps: steps.map(|(_, step)| step.clone()).collect(),
        }
        .tidied()
    }

    /// With one step changed.
    pub(super) fn with(&self, n: usize, change: impl FnOnce(&mut PlannedStep)) -> Program {
        let mut steps = self.steps.clone();
        if let Some(step) = steps.get_mut(n) {
            change(step);
        }
        Program { steps }.tidied()
    }

    /// All its sizes.
    pub(super) fn sizes(&self) -> Vec<SizeAt> {
        let mut out = Vec::new();
        for (n, step) in self.steps.iter().enumerate() {
            let mut value = json(&step.op);
            let mut nth = 0;
            each_size(&mut value, &mut |key, bytes| {
                out.push(SizeAt {
                    step: n,
                    nth,
                    key: key.to_owned(),
                    bytes: *bytes,
                });
                nth += 1;
            });
        }
        out
    }

    /// With other sizes. `None` where an operation can't have them.
    pub(super) fn resized(&self, to: impl Fn(&SizeAt) -> u64) -> Option<Program> {
        let mut steps = self.steps.clone();
        for (n, step) in steps.iter_mut().enumerate() {
            let mut value = json(&step.op);
            let mut nth = 0;
            each_size(&mut value, &mut |key, bytes| {
                let at = SizeAt {
                    step: n,
                    nth,
                    key: key.to_owned(),
                    bytes: *bytes,
                };
                nth += 1;
                *bytes = to(&at);
            });
            if nth > 0 {
                step.op = serde_json::from_value(value).ok()?;
            }
        }
        Some(Program { steps }.tidied())
    }

    /// How long the mapping is that a step is about, where it is about one.
    pub(super) fn map_length(&self, n: usize) -> Option<u64> {
        let mut world = World::default();
        for step in &self.steps[..n] {
            world.follow(step);
        }
        let step = self.steps.get(n)?;
        world.map_length(&step.actor, step.op.map()?)
    }
}

/// An operation as data.
pub(super) fn json(op: &Op) -> serde_json::Value {
    serde_json::to_value(op).unwrap_or_default()
}

/// Shows each size of an operation, and of the arms of a race, which may be changed.
fn each_size(value: &mut serde_json::Value, see: &mut dyn FnMut(&str, &mut u64)) {
    let Some(table) = value.as_object_mut() else {
        return;
    };
    for (key, value) in table.iter_mut() {
        match value {
            serde_json::Value::String(text) if SIZES.contains(&key.as_str()) => {
                let Ok(size) = text.parse::<Size>() else {
                    continue;
                };
                let mut bytes = size.bytes();
                see(key, &mut bytes);
                *text = Size(bytes).to_string();
            }
            serde_json::Value::Array(arms) => {
                for arm in arms {
                    each_size(arm, see);
                }
            }
            _ => {}
        }
    }
}

/// The operation without a key, where that is another one: what the key says is no more than what
/// it means where it is absent, else.
pub(super) fn without_key(op: &Op, key: &str) -> Option<Op> {
    let mut value = json(op);
    value.as_object_mut()?.remove(key)?;
    let other: Op = serde_json::from_value(value).ok()?;
    (other != *op).then_some(other)
}

/// Keys of an operation that say more than their absence would.
pub(super) fn keys(op: &Op) -> Vec<String> {
    let value = json(op);
    let Some(table) = value.as_object() else {
        return Vec::new();
    };
    let said = |key: &&String| {
        let mut less = table.clone();
        less.remove(*key);
        serde_json::from_value::<Op>(less.into()).map_or(true, |other| other != *op)
    };
    table.keys().filter(said).cloned().collect()
}

fn words(op: &Op) -> usize {
    let arms = match op {
        Op::Race { arm, .. } => arm.iter().map(words).sum(),
        _ => 0,
    };
    keys(op).len() + arms
}
