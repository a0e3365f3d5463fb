//! Who runs where. PID 1 keeps to the first processor and an actor to the last one: nothing of
//! another address space comes between two operations of an actor, and a translation that the
//! kernel forgot to take out of that processor's TLB is still there for the next one to use.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread: 0 to sched_setaffinity(2).
const SELF: Pid = Pid::from_raw(0);

/// Keeps the calling thread, and what it forks, to the first processor.
pub(crate) fn first() {
    keep_to(0);
}

/// Keeps the calling thread, and what it forks, to the last processor.
pub(crate) fn last() {
    all();
    let Ok(may) = sched_getaffinity(SELF) else {
        return;
    };
    let last = (0..CpuSet::count()).rfind(|cpu| may.is_set(*cpu).unwrap_or(false));
    keep_to(last.unwrap_or(0));
}

/// Lets the calling thread run everywhere: threads of a race, programs.
pub(crate) fn all() {
    let mut set = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        let _ = set.set(cpu);
    }
    // The kernel takes those that there are.
    let _ = sched_setaffinity(SELF, &set);
}

/// Goes to every processor once, and back to the first. An idle processor keeps the address space
/// that it had last (lazy TLB): only when it has another is that of a dead process taken down to
/// its end, and only then does the kernel say what was left of it (check_mm()).
pub(crate) fn visit_all() {
    all();
    let Ok(may) = sched_getaffinity(SELF) else {
        return;
    };
    for cpu in (0..CpuSet::count()).filter(|cpu| may.is_set(*cpu).unwrap_or(false)) {
        keep_to(cpu);
    }
    first();
}

/// Where it can't be done, as on a kernel without SMP, all run on the one there is.
fn keep_to(cpu: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(cpu);
    let _ = sched_setaffinity(SELF, &set);
}
