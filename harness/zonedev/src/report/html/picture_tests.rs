use super::*;
use crate::record::CheckpointRecord;
use crate::record::testing::{cell, checkpoint, region, state};
use crate::report::html::testing::Plain;
use guestmem::{PageState, Part};

fn drawn(checkpoints: Vec<CheckpointRecord>) -> Pictures {
    let mut cell = cell("x", 0, "6.12");
    cell.checkpoints = checkpoints;
    let predicted: Vec<_> = cell
        .checkpoints
        .iter()
        .map(|c| Plain.predict(&cell, c).unwrap())
        .collect();
    pictures(&cell, &predicted, &Plain)
}

fn at(name: &str, states: &[PageState]) -> CheckpointRecord {
    let region = region(PageKind::FsDax, "namespace0.0", 1000, states);
    checkpoint(name, vec![region], Vec::new())
}

#[test]
fn stretches_that_are_alike_at_every_checkpoint_are_one_column() {
    let (idle, held) = (state(1), state(3));
    let of = |held_from: usize, held_to: usize| {
        let mut states = vec![idle.clone(); 100];
        states[held_from..held_to].fill(held.clone());
        states
    };
    let out = drawn(vec![
        at("a", &of(10, 20)),
        at("b", &of(15, 30)),
        at("c", &of(0, 0)),
    ]);
    let columns = &out.regions[0].columns;
    let spans: Vec<_> = columns.iter().map(|c| (c.from, c.pages)).collect();
    assert_eq!(spans, [(0, 10), (10, 5), (15, 5), (20, 10), (30, 70)]);
    let counts: Vec<Vec<i64>> = columns
        .iter()
        .map(|c| {
            c.states
                .iter()
                .map(|s| out.states[*s as usize].read.refcount)
                .collect()
        })
        .collect();
    assert_eq!(
        counts,
        [[1, 1, 1], [3, 1, 1], [3, 3, 1], [1, 3, 1], [1, 1, 1]]
    );
    // Plain predicts 1 for every page: what is held is not as predicted.
    assert_eq!(out.regions[0].counts[0], [(1, 90, 0), (3, 10, 10)]);
    assert_eq!(out.watched, 20);
    let sums: Vec<_> = out.sums.iter().map(|s| (s.refcount, s.predicted)).collect();
    assert_eq!(sums, [(5 + 10 + 25, 20), (5 + 15 * 3, 20), (20, 20)]);
    assert_eq!(out.read, [(100, 100); 3]);
    assert!(!out.regions[0].quiet);
}

#[test]
fn a_region_in_which_nothing_happens_is_quiet_and_one_that_goes_is_told() {
    let idle = vec![state(1); 8];
    let gone = checkpoint("b", Vec::new(), Vec::new());
    let out = drawn(vec![at("a", &idle), at("b", &idle)]);
    assert!(out.regions[0].quiet);
    assert_eq!(out.watched, 0);
    let out = drawn(vec![at("a", &idle), gone]);
    assert_eq!(out.regions[0].columns[0].states, [0, -1]);
    assert!(out.regions[0].counts[1].is_empty());
    assert_eq!(out.read, [(8, 8), (0, 0)]);
}

#[test]
fn heads_and_tails_that_come_again_are_one_pair() {
    let part = |part, order| PageState {
        part,
        order,
        ..state(1)
    };
    let mut states = vec![state(1); 2];
    for _ in 0..5 {
        states.push(part(Part::Head, 2));
        states.extend(vec![part(Part::Tail, 2); 3]);
    }
    let out = drawn(vec![at("a", &states)]);
    let columns: Vec<_> = out.regions[0]
        .columns
        .iter()
        .map(|c| (c.from, c.pages, c.times))
        .collect();
    assert_eq!(columns, [(0, 2, 1), (2, 1, 5), (3, 3, 5)]);
}

#[test]
fn of_very_many_stretches_those_with_something_wrong_are_drawn() {
    // Order says nothing to Plain; three in a row do not fold to pairs.
    let mut states: Vec<PageState> = (0..3000u32)
        .map(|n| PageState {
            order: (n % 3) as u8,
            ..state(1)
        })
        .collect();
    states[2900] = state(7);
    let out = drawn(vec![at("a", &states)]);
    let picture = &out.regions[0];
    assert_eq!(picture.columns.len(), MAX_COLUMNS + 1);
    let last = picture.columns.last().unwrap();
    assert_eq!((last.from, last.pages), (2900, 1));
    assert_eq!(picture.left_out, 3000 - MAX_COLUMNS as u64 - 1);
    assert_eq!(out.read, [(3000, 3000)]);
}

#[test]
fn what_nothing_predicts_is_not_as_predicted() {
    let region = region(PageKind::Unknown(9), "x", 0, &vec![state(1); 4]);
    let out = drawn(vec![checkpoint("a", vec![region], Vec::new())]);
    assert_eq!(out.read, [(4, 0)]);
    assert_eq!(out.regions[0].counts[0], [(1, 4, 4)]);
    assert!(!out.regions[0].quiet);
}
