//! What a program's steps have made so far: mappings, pins, processes, files.
//!
//! A step that names what is not there can't be meant: the agent would refuse it, and a failure for
//! that reason says nothing of the kernel. Nothing of a kernel is modelled beyond that, but for the
//! ends of files: a mapping that reaches beyond raises SIGBUS by right.

use std::collections::{BTreeMap, BTreeSet};

use proto::{DeviceRange, Op, Size};

use crate::spec::PlannedStep;

/// Everything by name.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    actors: BTreeMap<String, Actor>,
    /// The size, where it is known.
    files: BTreeMap<String, Option<u64>>,
    /// By the namespace's name: whether a mount or an unmount came last.
    mounted: BTreeMap<Option<String>, bool>,
    frozen: BTreeSet<Option<String>>,
    swaps: bool,
    /// Whose operation PID 1's process is blocked in.
    worker_of: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Actor {
    maps: BTreeMap<String, Map>,
    pins: BTreeSet<String>,
    /// Open test_hmm devices, and whether they came by fork.
    devices: BTreeMap<u8, bool>,
    mtimes: BTreeSet<String>,
    busy: bool,
    gone: bool,
}

#[derive(Clone, Debug)]
struct Map {
    length: u64,
    /// The file, and where the mapping begins in it.
    file: Option<(String, u64)>,
}

/// The actor that is there from the start.
const MAIN: &str = "main";

impl World {
    /// The step as far as it can be meant, after which what it makes is there. Of a race, threads may
    /// be left out.
    pub(super) fn follow(&mut self, step: &PlannedStep) -> Option<PlannedStep> {
        if self.actors.is_empty() {
            self.actors.insert(MAIN.to_owned(), Actor::default());
        }
        if matches!(step.op, Op::Checkpoint { .. } | Op::End {}) {
            return Some(step.clone());
        }
        // What blocks does what it was asked for later.
        let ok = matches!(step.expected.as_str(), "ok" | "blocked");
        if let Op::Wait {} = step.op {
            return self.wait(step);
        }
        if step.op.by_init() {
            if self.worker_of.is_some() || ok && !self.by_init(&step.op) {
                return None;
            }
            if step.expected == "blocked" {
                self.worker_of = Some(step.actor.clone());
            }
            return Some(step.clone());
        }
        let free = self
            .actors
            .get(&step.actor)
            .is_some_and(|a| !a.busy && !a.gone);
        if !free {
            return None;
        }
        let mut out = step.clone();
        match &mut out.op {
            Op::Race { arm, .. } => {
                arm.retain(|op| self.can(&step.actor, op, false));
                if arm.is_empty() {
                    return None;
                }
            }
            op if !self.can(&step.actor, op, ok) => return None,
            _ => {}
        }
        if ok {
            self.does(&step.actor, &step.op);
        }
        if let (Some(file), "blocked") = (step.op.file(), step.expected.as_str()) {
            // Nobody knows when.
            if let Some(size) = self.files.get_mut(file) {
                *size = None;
            }
        }
        let actor = self.actors.get_mut(&step.actor)?;
        actor.busy = step.expected == "blocked";
        actor.gone = step.expected == "died" || matches!(step.op, Op::Exit {});
        Some(out)
    }

    /// How long a mapping is.
    pub(super) fn map_length(&self, actor: &str, map: &str) -> Option<u64> {
        Some(self.actors.get(actor)?.maps.get(map)?.length)
    }

    fn wait(&mut self, step: &PlannedStep) -> Option<PlannedStep> {
        let worker = self.worker_of.as_ref() == Some(&step.actor);
        let busy = self.actors.get(&step.actor).is_some_and(|a| a.busy);
        if !worker && !busy {
            return None;
        }
        if step.expected != "blocked" {
            if busy {
                self.actors.get_mut(&step.actor)?.busy = false;
            } else {
                self.worker_of = None;
            }
        }
        Some(step.clone())
    }

    fn by_init(&mut self, op: &Op) -> bool {
        match op {
            Op::Mount { namespace, .. } => {
                self.mounted.insert(namespace.clone(), true) != Some(true)
            }
            Op::Umount { namespace, .. } => {
                self.mounted.insert(namespace.clone(), false) != Some(false)
            }
            Op::Freeze { namespace } => self.frozen.insert(namespace.clone()),
            Op::Thaw { namespace } => self.frozen.remove(namespace),
            _ => true,
        }
    }

    /// Whether an actor can do this; `ok`: it is expected to succeed.
    fn can(&self, name: &str, op: &Op, ok: bool) -> bool {
        let Some(actor) = self.actors.get(name) else {
            return false;
        };
        let there = |file: &String| !ok || self.files.contains_key(file);
        match op {
            Op::Create { file, .. } => !ok || !self.files.contains_key(file),
            Op::MapFile { map, file, .. } => there(file) && !actor.maps.contains_key(map),
            Op::MapDevice { map, .. } | Op::MapAnon { map, .. } | Op::MapP2pmem { map, .. } => {
                !actor.maps.contains_key(map)
            }
            Op::Touch {
                map,
                offset,
                length,
                ..
            }
            | Op::Verify {
                map,
                offset,
                length,
            } => self.reaches(actor, map, *offset, *length, ok),
            Op::Unmap {
                map,
                offset,
                length,
            }
            | Op::Mprotect {
                map,
                offset,
                length,
                ..
            }
            | Op::WriteProtect {
                map,
                offset,
                length,
                ..
            }
            | Op::Madvise {
                map,
                offset,
                length,
                ..
            }
            | Op::Mlock {
                map,
                offset,
                length,
            }
            | Op::Ask {
                map,
                offset,
                length,
                ..
            }
            | Op::Gup {
                map,
                offset,
                length,
                ..
            } => self.reaches(actor, map, *offset, *length, false),
            Op::Msync { map } | Op::Mremap { map, .. } => actor.maps.contains_key(map),
            Op::Pin {
                pin,
                map,
                offset,
                length,
                ..
            } => !actor.pins.contains(pin) && self.reaches(actor, map, *offset, Some(*length), ok),
            Op::Release { pin } => actor.pins.contains(pin),
            Op::Fork { child } => self.actors.get(child).is_none_or(|a| a.gone),
            Op::HmmOpen { device } => {
                let device = device.unwrap_or_default();
                actor
                    .devices
                    .get(&device)
                    .is_none_or(|inherited| *inherited)
            }
            Op::HmmClose { device } => actor.devices.contains_key(&device.unwrap_or_default()),
            Op::Mtime { file, later } => {
                there(file) && (later.is_none() || actor.mtimes.contains(file))
            }
            Op::SwapOn { .. } => !self.swaps,
            Op::SwapOff {} => self.swaps,
            op => match (op.device_range(), op.file()) {
                (Some(of), _) => self.asks(actor, of),
                (None, Some(file)) => !ok || self.files.contains_key(file),
                (None, None) => true,
            },
        }
    }

    fn asks(&self, actor: &Actor, of: &DeviceRange) -> bool {
        actor.devices.get(&of.device.unwrap_or_default()) == Some(&false)
            && self.reaches(actor, &of.map, of.offset, of.length, false)
    }

    /// Whether a range lies in a mapping and, where it is to be touched, in its file.
    fn reaches(
        &self,
        actor: &Actor,
        map: &str,
        offset: Size,
        length: Option<Size>,
        touched: bool,
    ) -> bool {
        let Some(m) = actor.maps.get(map) else {
            return false;
        };
        let pages = m.length.div_ceil(Size::PAGE);
        let from = offset.bytes() / Size::PAGE;
        let to = length.map_or(pages, |l| from.saturating_add(l.pages()));
        if from >= to || to > pages {
            return false;
        }
        let Some((file, begins)) = m.file.as_ref().filter(|_| touched) else {
            return true;
        };
        match self.files.get(file) {
            Some(Some(size)) => begins / Size::PAGE + to <= size.div_ceil(Size::PAGE),
            _ => true,
        }
    }

    fn does(&mut self, name: &str, op: &Op) {
        let Some(actor) = self.actors.get_mut(name) else {
            return;
        };
        let map_of = |length: &Size, file| Map {
            length: length.bytes(),
            file,
        };
        match op {
            Op::Create { file, size } | Op::Truncate { file, size } => {
                self.files.insert(file.clone(), Some(size.bytes()));
            }
            Op::Fallocate { file, .. } | Op::Write { file, .. } => {
                self.files.insert(file.clone(), None);
            }
            Op::Clone { to, .. } | Op::Dedupe { to, .. } | Op::CopyFile { to, .. } => {
                self.files.insert(to.clone(), None);
            }
            Op::Rename { file, to } => {
                let size = self.files.remove(file).flatten();
                self.files.insert(to.clone(), size);
                for actor in self.actors.values_mut() {
                    for (of, _) in actor.maps.values_mut().filter_map(|m| m.file.as_mut()) {
                        if of == file {
                            to.clone_into(of);
                        }
                    }
                }
            }
            Op::Unlink { file } => {
                self.files.remove(file);
            }
            Op::MapFile {
                map,
                file,
                offset,
                length,
                ..
            } => {
                let file = Some((file.clone(), offset.bytes()));
                actor.maps.insert(map.clone(), map_of(length, file));
            }
            Op::MapDevice { map, length, .. }
            | Op::MapAnon { map, length, .. }
            | Op::MapP2pmem { map, length } => {
                actor.maps.insert(map.clone(), map_of(length, None));
            }
            Op::Unmap {
                map,
                offset,
                length: None,
            } if offset.bytes() == 0 => {
                actor.maps.remove(map);
            }
            Op::Pin { pin, .. } => {
                actor.pins.insert(pin.clone());
            }
            Op::Release { pin } => {
                actor.pins.remove(pin);
            }
            Op::HmmOpen { device } => {
                actor.devices.insert(device.unwrap_or_default(), false);
            }
            Op::HmmClose { device } => {
                actor.devices.remove(&device.unwrap_or_default());
            }
            Op::Mtime { file, .. } => {
                actor.mtimes.insert(file.clone());
            }
            Op::SwapOn { .. } => self.swaps = true,
            Op::SwapOff {} => self.swaps = false,
            Op::Fork { child } => {
                let mut new = actor.clone();
                new.pins.clear();
                new.devices
                    .values_mut()
                    .for_each(|inherited| *inherited = true);
                self.actors.insert(child.clone(), new);
            }
            _ => {}
        }
    }
}
