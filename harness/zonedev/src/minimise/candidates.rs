//! What a program may be made into: each candidate is simpler by its [`Measure`](super::Measure).

use std::collections::BTreeSet;

use proto::{Op, Size};

use super::program::{Program, SizeAt, keys, without_key};
use crate::spec::PlannedStep;

/// Without each chunk of so many steps, from the last to the first; with where the chunk began.
pub(super) fn without_chunks(of: &Program, size: usize, end: usize) -> Vec<(usize, Program)> {
    let mut out = Vec::new();
    let mut end = end.min(of.steps.len());
    while end > 0 {
        let begin = end.saturating_sub(size);
        let range = begin..end;
        out.push((begin, of.without(|n| range.contains(&n))));
        end = begin;
    }
    out
}

/// Each process's steps done by the one that forked it.
pub(super) fn fewer_processes(of: &Program) -> Vec<Program> {
    let forks = of.steps.iter().filter_map(|s| match &s.op {
        Op::Fork { child } => Some((s.actor.clone(), child.clone())),
        _ => None,
    });
    let joined = |(parent, child): (String, String)| {
        let steps = of.steps.iter().filter(|s| match &s.op {
            Op::Fork { child: of } => *of != child,
            Op::Exit {} => s.actor != child,
            _ => true,
        });
        let steps = steps.map(|s| {
            let mut s = s.clone();
            if s.actor == child {
                s.actor.clone_from(&parent);
            }
            s
        });
        Program {
            steps: steps.collect(),
        }
        .tidied()
    };
    forks.map(joined).collect()
}

/// Races with fewer threads, rounds and turns, and those of one thread as that thread's operation.
pub(super) fn smaller_races(of: &Program) -> Vec<Program> {
    let mut out = Vec::new();
    for (n, step) in of.steps.iter().enumerate() {
        let Op::Race {
            rounds,
            turns,
            seed,
            arm,
        } = &step.op
        else {
            continue;
        };
        let race = |rounds, turns, arm: Vec<Op>| Op::Race {
            rounds,
            turns,
            seed: *seed,
            arm,
        };
        let mut with = |op: Op| out.push(of.with(n, |step| step.op = op));
        if let [only] = arm.as_slice() {
            with(only.clone());
        }
        for left_out in (0..arm.len()).rev() {
            let mut arm = arm.clone();
            arm.remove(left_out);
            with(race(*rounds, *turns, arm));
        }
        for fewer in [1, rounds / 16, rounds / 4, rounds / 2] {
            if (1..*rounds).contains(&fewer) {
                with(race(fewer, *turns, arm.clone()));
            }
        }
        let once = std::num::NonZero::<u32>::MIN;
        if *turns > once {
            with(race(*rounds, once, arm.clone()));
            if let Some(fewer) = std::num::NonZero::new(turns.get() / 2) {
                with(race(*rounds, fewer, arm.clone()));
            }
        }
    }
    out
}

/// Smaller sizes than one, the smallest first.
fn smaller(at: &SizeAt) -> Vec<u64> {
    let unit = match at.bytes {
        n if n > Size::PMD && n.is_multiple_of(Size::PMD) => Size::PMD,
        _ => Size::PAGE,
    };
    let zero = at.key.ends_with("offset").then_some(0);
    let mut out: Vec<u64> = zero.into_iter().collect();
    out.extend([
        Size::PAGE,
        Size::PMD,
        at.bytes / 2 / unit * unit,
        at.bytes.saturating_sub(unit),
    ]);
    let least = u64::from(zero.is_none());
    out.retain(|n| (least..at.bytes).contains(n));
    let mut seen = BTreeSet::new();
    out.retain(|n| seen.insert(*n));
    out
}

/// All sizes as small as they come, or halved, then all those that are equal made smaller together, then each by itself.
pub(super) fn smaller_sizes(of: &Program) -> Vec<Program> {
    let all = of.sizes();
    let mut out = Vec::new();
    let least = |at: &SizeAt| match (at.key.ends_with("offset"), at.bytes) {
        (true, _) => 0,
        (false, n) => n.min(Size::PAGE),
    };
    out.extend(of.resized(least));
    let huge = |at: &SizeAt| match (at.key.ends_with("offset"), at.bytes) {
        (true, n) if n < Size::PMD => 0,
        (_, n) => n.min(Size::PMD),
    };
    out.extend(of.resized(huge));
    let halved = |at: &SizeAt| match at.bytes {
        n if n >= 2 * Size::PAGE => n / 2 / Size::PAGE * Size::PAGE,
        n => n,
    };
    out.extend(of.resized(halved));
    let mut values = BTreeSet::new();
    for at in all.iter().rev().filter(|at| values.insert(at.bytes)) {
        let together = all.iter().filter(|other| other.bytes == at.bytes).count() > 1;
        for to in smaller(at).into_iter().filter(|to| *to > 0 && together) {
            let same = |other: &SizeAt| {
                if other.bytes == at.bytes {
                    to
                } else {
                    other.bytes
                }
            };
            out.extend(of.resized(same));
        }
    }
    for at in all.iter().rev() {
        for to in smaller(at) {
            let this = |other: &SizeAt| {
                let is = (other.step, other.nth) == (at.step, at.nth);
                if is { to } else { other.bytes }
            };
            out.extend(of.resized(this));
        }
    }
    out
}

/// Each option left to its default, for `device` is the test_hmm device that is meant where none is
/// named; and each expectation that is no more than `ok`.
pub(super) fn fewer_options(of: &Program, device: u8) -> Vec<Program> {
    let mut out = Vec::new();
    let mut devices = BTreeSet::new();
    for step in &of.steps {
        devices.extend(device_of(&step.op));
    }
    // A device is opened, asked and closed by its number: all of it, or none.
    for other in devices.into_iter().filter(|d| *d != device) {
        let mut steps = of.steps.clone();
        for step in &mut steps {
            if device_of(&step.op) == Some(other) {
                step.op = without_key(&step.op, "device").unwrap_or_else(|| step.op.clone());
                step.op.set_device(device);
            }
        }
        out.push(Program { steps }.tidied());
    }
    for (n, step) in of.steps.iter().enumerate() {
        for op in plainer(&step.op) {
            out.push(of.with(n, |step| step.op = op));
        }
        if let Some(op) = to_the_end(of, n) {
            out.push(of.with(n, |step| step.op = op));
        }
        if let Op::Race { arm, .. } = &step.op {
            for (at, one) in arm.iter().enumerate() {
                for op in plainer(one) {
                    out.push(of.with(n, |step| {
                        if let Op::Race { arm, .. } = &mut step.op {
                            arm[at] = op;
                        }
                    }));
                }
            }
        }
        let said: [fn(&mut PlannedStep); 4] = [
            |step| step.expected = "ok".to_owned(),
            |step| step.splats.clear(),
            |step| step.every_splat = false,
            |step| step.may_block = step.expected == "blocked",
        ];
        for less in said {
            out.push(of.with(n, less));
        }
    }
    out
}

/// Keys that are another matter: sizes have their own candidates, and names are no options.
const NO_OPTIONS: [&str; 8] = [
    "do",
    "offset",
    "length",
    "size",
    "to-offset",
    "device",
    "file",
    "namespace",
];

fn plainer(op: &Op) -> Vec<Op> {
    let keys = keys(op).into_iter();
    let options = keys.filter(|key| !NO_OPTIONS.contains(&key.as_str()));
    options.filter_map(|key| without_key(op, &key)).collect()
}

/// The operation without its length, where that reaches to the mapping's end anyway.
fn to_the_end(of: &Program, n: usize) -> Option<Op> {
    let op = &of.steps.get(n)?.op;
    if matches!(
        op,
        Op::MapFile { .. } | Op::MapDevice { .. } | Op::MapAnon { .. } | Op::MapP2pmem { .. }
    ) {
        return None;
    }
    let length = of.map_length(n)?;
    let sizes = of.sizes();
    let size = |key: &str| {
        let at = sizes.iter().find(|at| at.step == n && at.key == key);
        at.map(|at| at.bytes)
    };
    (size("offset").unwrap_or(0) + size("length")? == length)
        .then(|| without_key(op, "length"))
        .flatten()
}

fn device_of(op: &Op) -> Option<u8> {
    match op {
        Op::HmmOpen { device } | Op::HmmClose { device } => Some(device.unwrap_or_default()),
        op => op.device_range().map(|of| of.device.unwrap_or_default()),
    }
}

/// Each step left out, and whatever is not to succeed after it expected to: what it was to fail for is
/// gone.
pub(super) fn relaxed(of: &Program) -> Vec<Program> {
    let mut out = Vec::new();
    for left_out in (0..of.steps.len()).rev() {
        let fails = |s: &PlannedStep| s.expected != "ok";
        if !of.steps[left_out + 1..].iter().any(fails) {
            continue;
        }
        let mut steps = of.steps.clone();
        steps.remove(left_out);
        for step in &mut steps[left_out..] {
            step.expected = "ok".to_owned();
        }
        out.push(Program { steps }.tidied());
    }
    out
}
