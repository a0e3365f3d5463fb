//! The host breaks, again and again, and nothing that was learnt is lost.
//!
//! A loop injects faults: it kills QEMU, the harness and both of them politely, takes space, memory,
//! the terminal and the cache away. What "survived" means is in [`world`]: the run ends with the right
//! code and class, or is gone on with and then ends so; its verdicts are those of a run that nobody
//! disturbed; what had finished is not done again; and nothing is left behind. At its end it prints how
//! many faults of each kind were injected and survived.
//!
//! `ZONEDEV_FAULTS=N` injects N faults (else one of each kind), `ZONEDEV_FAULTS_SEED=S` gives the
//! moments (`just test-faults N S`).

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod host;
mod signals;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use world::{Fault, World};

/// Every kind of fault, in the order of the table.
const KINDS: [(&str, Fault); 15] = [
    ("QEMU killed", signals::qemu_killed),
    ("QEMU told to end", signals::qemu_terminated),
    ("harness killed, resumed", signals::harness_killed),
    ("Ctrl-C", signals::interrupted),
    ("Ctrl-C twice", signals::interrupted_twice),
    ("SIGTERM", signals::terminated),
    ("terminal lost", signals::hung_up),
    ("no space for the run", host::no_space_for_the_run),
    ("no memory for guests", host::no_memory_for_guests),
    ("memory taken away", host::memory_taken_away),
    ("a broken cache", host::broken_cache),
    ("two harnesses", host::two_harnesses),
    ("output closed", host::output_closed),
    ("progress never read", host::progress_never_read),
    ("output never read", host::output_never_read),
];

#[derive(Default)]
struct Row {
    injected: usize,
    survived: usize,
    /// Not possible here, or it came too late to hit anything.
    missed: usize,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Rounds of a usual test run, which has other tests to do; `just test-faults` does all kinds.
const SHORT: usize = 6;

#[test]
fn faults_are_survived() {
    let _turn = common::turn();
    let seed = number("ZONEDEV_FAULTS_SEED").unwrap_or(1);
    let rounds = number("ZONEDEV_FAULTS").map_or(SHORT, |n| n as usize);
    let only = std::env::var("ZONEDEV_FAULTS_ONLY").unwrap_or_default();
    let mut world = World::new(seed);
    eprintln!(
        "seed {seed}; a run that nobody disturbs takes {:?}",
        world.took
    );
    let mut table: BTreeMap<usize, Row> = BTreeMap::new();
    let mut broken = Vec::new();
    for round in 0..rounds {
        let kind = round % KINDS.len();
        let (name, fault) = KINDS[kind];
        if !name.contains(&only) {
            continue;
        }
        let row = table.entry(kind).or_default();
        let began = std::time::Instant::now();
        let came = fault(&mut world);
        eprintln!(
            "round {round}, {name}: {:?} after {:?}",
            came.is_ok(),
            began.elapsed()
        );
        match came {
            Ok(true) => {
                row.injected += 1;
                row.survived += 1;
            }
            Ok(false) => row.missed += 1,
            Err(why) => {
                row.injected += 1;
                eprintln!("round {round}, {name}: {why}");
                broken.push(format!("round {round}, {name}: {why}"));
            }
        }
    }
    eprintln!(
        "{:26} {:>8} {:>8} {:>8}",
        "fault", "injected", "survived", "no hit"
    );
    for (kind, row) in &table {
        eprintln!(
            "{:26} {:>8} {:>8} {:>8}",
            KINDS[*kind].0, row.injected, row.survived, row.missed
        );
    }
    let sum = |of: fn(&Row) -> usize| table.values().map(of).sum::<usize>();
    eprintln!(
        "{:26} {:>8} {:>8} {:>8}",
        "all",
        sum(|r| r.injected),
        sum(|r| r.survived),
        sum(|r| r.missed)
    );
    world.latencies.sort();
    if let (Some(most), Some(median)) = (
        world.latencies.last(),
        world.latencies.get(world.latencies.len() / 2),
    ) {
        eprintln!("from a signal to the end: median {median:?}, at most {most:?}");
        // A second, on a host that is not busy with something else.
        assert!(*most < Duration::from_secs(3), "{most:?}");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
