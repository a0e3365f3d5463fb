use guestmem::{PageKind, PagesReading};

use super::*;
use crate::record::testing::{region, state};
use crate::spec::{Contract, SpecFile};
use crate::watch::testing::about;

fn contract(name: &str) -> Contract {
    let root = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/contracts");
    let file = SpecFile::read(&root.join(format!("{name}.toml")), "a contract").unwrap();
    Contract::parse(&file).unwrap()
}

fn of(kind: PageKind, owner: &str, states: &[PageState], name: &str) -> Sight {
    let reading = PagesReading {
        regions: vec![region(kind, owner, 0x1000, states)],
        problems: Vec::new(),
    };
    sight(&about(), reading, &contract(name))
}

fn classes(sight: &Sight) -> Vec<(u64, Class)> {
    let rows = sight.regions[0].rows.iter();
    rows.map(|r| (r.pages, r.class)).collect()
}

#[test]
fn what_pages_are_used_for_is_read_off_their_counts() {
    let mut entry = state(1);
    entry.mapping_set = true;
    let mut poisoned = state(1);
    poisoned.flags = std::collections::BTreeSet::from(["hwpoison".to_owned()]).into();
    let states = [
        state(1),
        state(1),
        entry,
        state(2),
        state(1025),
        state(0),
        poisoned,
    ];
    let seen = of(PageKind::FsDax, "namespace0.0", &states, "6.12");
    let expected = [
        (2, Class::Idle),
        (1, Class::Entry),
        (1, Class::Held),
        (1, Class::Pinned),
        (1, Class::Below),
        (1, Class::Poisoned),
    ];
    assert_eq!(classes(&seen), expected);
    assert_eq!(seen.regions[0].classes[&Class::Idle], 2);
    assert_eq!(seen.regions[0].rows[3].idle_refcount, Some(1));
}

#[test]
fn a_mapping_that_counts_is_no_reference_more_and_a_tail_is_as_its_head() {
    let mut head = state(1);
    (head.part, head.order) = (Part::Head, 9);
    (head.large_mapcount, head.pincount) = (Some(1), Some(0));
    head.mapping_set = true;
    let mut tail = state(0);
    (tail.part, tail.order) = (Part::Tail, 9);
    tail.mapping_set = true;
    let mut states = vec![head];
    states.extend(vec![tail; 511]);
    states.push(state(0));
    let seen = of(PageKind::FsDax, "namespace0.0", &states, "7.3");
    let expected = [(1, Class::Mapped), (511, Class::Mapped), (1, Class::Idle)];
    assert_eq!(classes(&seen), expected);
}

#[test]
fn a_guests_words_are_escaped_and_kinds_without_rules_are_told() {
    let seen = of(PageKind::Unknown(9), "a\u{1b}[2J", &[state(5)], "6.12");
    assert_eq!(classes(&seen), [(1, Class::Unknown)]);
    assert_eq!(seen.regions[0].name, "a\\u{1b}[2J type 9");
}
