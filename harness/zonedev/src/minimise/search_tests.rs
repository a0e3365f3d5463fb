//! Simulated failures: what is found, how many trials it takes, and what is never taken for it; and the
//! candidates of all suites' cases.

use std::collections::BTreeMap;
use std::num::NonZero;

use camino::Utf8Path;
use proto::{Op, Size};

use super::super::sequential::{Figures, Sequential};
use super::super::testing::Dice;
use super::super::text::{Head, write};
use super::*;
use crate::spec::{
    Case, Contract, Facts, Fixture, FixtureStore, PlannedStep, SpecFile, SuiteStore,
};

/// Whether a program fails is a function of it; how often it does, too.
struct Simulated<F> {
    rate: F,
    figures: Figures,
    dice: Dice,
    trials: u32,
    asked: u32,
}

impl<F: Fn(&Program) -> f64> Simulated<F> {
    fn new(figures: Figures, seed: u64, rate: F) -> Self {
        Simulated {
            rate,
            figures,
            dice: Dice(seed),
            trials: 0,
            asked: 0,
        }
    }

    fn fails(&mut self, program: &Program) -> bool {
        self.asked += 1;
        let rate = (self.rate)(program);
        let mut test = Sequential::new(self.figures);
        while test.decided().is_none() {
            test.learn(self.dice.happens(rate));
        }
        self.trials += test.seen().trials;
        test.decided() == Some(true)
    }
}

impl<F: Fn(&Program) -> f64> Oracle for Simulated<F> {
    type Error = ();

    async fn first(&mut self, candidates: &[Program]) -> Result<Option<usize>, ()> {
        for candidate in candidates {
            assert!(candidate.is_whole(), "{candidate:?}");
        }
        Ok(candidates.iter().position(|c| self.fails(c)))
    }

    fn better(&mut self, _: &Program, _: &str) -> Result<(), ()> {
        Ok(())
    }
}

fn search<F: Fn(&Program) -> f64>(whole: &Program, oracle: &mut Simulated<F>) -> Program {
    search_on(whole, 0, oracle)
}

fn search_on<F: Fn(&Program) -> f64>(
    whole: &Program,
    device: u8,
    oracle: &mut Simulated<F>,
) -> Program {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let found = minimise(whole, Vec::new(), device, oracle);
    runtime.block_on(found).unwrap()
}

fn always(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Steps that have nothing to do with each other.
fn apart(n: usize) -> Program {
    let checkpoint = |n: usize| Op::Checkpoint {
        name: n.to_string(),
    };
    Program {
        steps: (0..n).map(|n| PlannedStep::must(checkpoint(n))).collect(),
    }
}

fn has(program: &Program, steps: &[PlannedStep]) -> bool {
    steps.iter().all(|s| program.steps.contains(s))
}

#[test]
fn what_needs_some_steps_is_left_with_just_these() {
    let mut dice = Dice(1);
    let mut most = (0, 0);
    for round in 0..1000u32 {
        let n = 1 + dice.below(60);
        let whole = apart(n);
        let mut needed: Vec<usize> = (0..1 + dice.below(4)).map(|_| dice.below(n)).collect();
        needed.sort_unstable();
        needed.dedup();
        let steps: Vec<PlannedStep> = needed.iter().map(|i| whole.steps[*i].clone()).collect();
        let mut oracle = Simulated::new(Figures::ALWAYS, u64::from(round), |p| {
            always(has(p, &steps))
        });
        let found = search(&whole, &mut oracle);
        assert_eq!(found.steps, steps, "{needed:?} of {n}");
        most = most.max((oracle.trials, oracle.asked));
    }
    println!("at most {} trials of {} candidates", most.0, most.1);
    assert!(most.1 < 200, "{most:?}");
}

#[test]
fn what_shows_now_and_then_is_found_and_what_never_does_is_never_taken() {
    let (mut exact, mut trials, rounds) = (0, 0, 150u32);
    for round in 0..rounds {
        let whole = apart(12);
        let steps = [1, 5, 10].map(|i| whole.steps[i].clone());
        let rate = 0.3;
        let mut oracle = Simulated::new(Figures::of_rate(rate), u64::from(round), |p| {
            if has(p, &steps) { rate } else { 0.0 }
        });
        let found = search(&whole, &mut oracle);
        // Too much is left where a candidate was refused by bad luck; too little, never.
        assert!(has(&found, &steps));
        exact += u32::from(found.steps == steps);
        trials += oracle.trials;
    }
    println!("{exact} of {rounds} exact, {} trials each", trials / rounds);
    assert!(exact * 10 >= rounds * 9, "{exact}");
}

#[test]
fn what_is_too_rare_is_taken_as_seldom_as_stated() {
    let (mut taken, mut asked, rounds) = (0, 0, 300u32);
    for round in 0..rounds {
        let whole = apart(6);
        let steps = [0, 3].map(|i| whole.steps[i].clone());
        let figures = Figures::of_rate(0.4);
        let rare = figures.rare;
        let mut oracle = Simulated::new(figures, u64::from(round), |p| {
            if has(p, &steps) { 0.4 } else { rare }
        });
        let found = search(&whole, &mut oracle);
        taken += u32::from(!has(&found, &steps));
        asked += oracle.asked;
    }
    let bound = f64::from(asked) * 0.0106;
    println!("{taken} of {rounds} searches with {asked} candidates took one, at most {bound}");
    assert!(f64::from(taken) <= bound, "{taken} {bound}");
}

fn of_text(text: &str) -> Program {
    let text = format!("title = \"t\"\nfixtures = [\"fsdax-ext4\"]\n{text}");
    let (contract, fixture) = (contract("6.12"), fixture("fsdax-ext4"));
    let file = SpecFile::from_text(Utf8Path::new("x.toml"), text);
    let case = Case::parse("own", "x", &file).unwrap().remove(0);
    let facts = Facts {
        contract: &contract,
        fixture: &fixture,
    };
    Program {
        steps: case.steps(facts).unwrap(),
    }
}

fn root() -> camino::Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn contract(name: &str) -> Contract {
    let path = root().join(format!("kernels/contracts/{name}.toml"));
    Contract::parse(&SpecFile::read(&path, "it").unwrap()).unwrap()
}

fn fixture(name: &str) -> Fixture {
    let store = FixtureStore::new(root().join("images/fixtures"));
    store.load(name).unwrap()
}

const PINNED: &str = r#"
[[step]]
do = "create"
file = "a"
size = "2M"
[[step]]
do = "map-file"
map = "m"
file = "a"
length = "64K"
sync = true
[[step]]
do = "fork"
child = "c"
[[step]]
do = "touch"
map = "m"
actor = "c"
write = true
[[step]]
do = "pin"
pin = "p"
how = "vmsplice"
map = "m"
offset = "16K"
length = "32K"
actor = "c"
[[step]]
do = "truncate"
file = "a"
size = 0
expect = "blocked"
[[step]]
do = "release"
pin = "p"
actor = "c"
[[step]]
do = "wait"
[[step]]
do = "exit"
actor = "c"
[[step]]
do = "checkpoint"
name = "after"
"#;

fn words(program: &Program) -> Vec<&str> {
    program.steps.iter().map(|s| s.op.word()).collect()
}

#[test]
fn a_case_of_which_nothing_is_looked_at_passes_nowhere() {
    let whole = of_text(PINNED);
    let mut oracle = Simulated::new(Figures::ALWAYS, 1, |_| 1.0);
    assert_eq!(words(&search(&whole, &mut oracle)), ["checkpoint"]);
}

#[test]
fn what_is_made_by_a_step_goes_with_it() {
    let whole = of_text(PINNED);
    let without = |n: usize| whole.without(|i| i == n);
    assert_eq!(words(&without(0)), ["fork", "exit", "checkpoint"]);
    // Who waits for nothing is not waited for.
    assert!(!words(&without(5)).contains(&"wait"));
    assert!(!words(&without(4)).contains(&"release"));
    let alone = without(2);
    assert!(alone.steps.iter().all(|s| s.actor == "main"));
    assert_eq!(
        words(&alone),
        ["create", "map-file", "truncate", "wait", "checkpoint"]
    );
}

#[test]
fn processes_sizes_and_options_go_as_far_as_they_can() {
    let whole = of_text(PINNED);
    // A pin of three pages at least, by whomever, of a mapping of whatever.
    let pinned = |p: &Program| {
        p.steps
            .iter()
            .any(|s| matches!(&s.op, Op::Pin { length, .. } if length.bytes() >= 3 * Size::PAGE))
    };
    let mut oracle = Simulated::new(Figures::ALWAYS, 1, |p| always(pinned(p)));
    let found = search(&whole, &mut oracle);
    let text = write(&head("t", "fsdax-ext4", 0), &found);
    let wanted = r#"title = "t"
fixtures = ["fsdax-ext4"]

[[step]]
do = "create"
file = "a"
size = "12K"

[[step]]
do = "map-file"
map = "m"
file = "a"
length = "12K"

[[step]]
do = "pin"
pin = "p"
how = "vmsplice"
map = "m"
length = "12K"

[[step]]
do = "checkpoint"
name = "after"
"#;
    assert_eq!(text, wanted);
}

#[test]
fn races_lose_their_threads_and_rounds_and_end_as_plain_operations() {
    let race = |arm: Vec<Op>, rounds| {
        PlannedStep::must(Op::Race {
            rounds,
            turns: NonZero::new(8).unwrap(),
            seed: 1,
            arm,
        })
    };
    let mut whole = of_text(PINNED);
    whole.steps.truncate(2);
    let (touch, sync) = (
        Op::Touch {
            map: "m".into(),
            offset: Size(0),
            length: None,
            write: true,
        },
        Op::Fsync { file: "a".into() },
    );
    let cut = Op::Truncate {
        file: "a".into(),
        size: Size(0),
    };
    let arms = vec![touch, cut, sync];
    whole.steps.push(race(arms, 200));
    let needs = |p: &Program, least: u32| {
        p.steps.iter().any(|s| match &s.op {
            Op::Race { rounds, arm, .. } => {
                *rounds >= least
                    && arm.iter().any(|a| a.word() == "touch")
                    && arm.iter().any(|a| a.word() == "truncate")
            }
            _ => false,
        })
    };
    let mut oracle = Simulated::new(Figures::ALWAYS, 1, |p| always(needs(p, 20)));
    let found = search(&whole, &mut oracle);
    let Some(Op::Race {
        rounds, turns, arm, ..
    }) = found.steps.last().map(|s| &s.op)
    else {
        panic!("{found:?}");
    };
    assert_eq!((arm.len(), turns.get()), (2, 1));
    assert!((20..40).contains(rounds), "{rounds}");
    let touches = |p: &Program| {
        p.steps.iter().any(|s| match &s.op {
            Op::Race { arm, .. } => arm.iter().any(|a| a.word() == "touch"),
            op => op.word() == "touch",
        })
    };
    let mut oracle = Simulated::new(Figures::ALWAYS, 1, |p| always(touches(p)));
    let found = search(&whole, &mut oracle);
    assert_eq!(words(&found), ["create", "map-file", "touch"]);
}

fn head(title: &str, fixture: &str, device: u8) -> Head {
    Head {
        title: title.into(),
        fixture: fixture.into(),
        device,
        ..Head::default()
    }
}

/// Every case of operations, on each contract and on its first fixture.
fn all() -> Vec<(String, Program, Contract, Fixture)> {
    let cases = SuiteStore::new(root().join("suites")).cases().unwrap();
    let store = FixtureStore::new(root().join("images/fixtures"));
    let fixtures = store.all().unwrap();
    let contracts = ["5.10", "5.10+zone-device-refcount", "6.1", "6.12", "7.3"].map(contract);
    let mut out = Vec::new();
    for case in cases {
        for contract in &contracts {
            let fixture = &fixtures[&case.fixtures[0]];
            let steps = case.steps(Facts { contract, fixture }).unwrap();
            if steps.iter().any(|s| matches!(s.op, Op::Run { .. })) {
                continue;
            }
            let name = format!("{}/{} on {}", case.suite, case.name, contract.name);
            out.push((name, Program { steps }, contract.clone(), fixture.clone()));
        }
    }
    out
}

#[test]
fn every_case_of_the_suites_is_whole_and_reads_back_as_it_is_written() {
    let mut seen = BTreeMap::new();
    for (name, program, contract, fixture) in all() {
        let tidied = program.tidied();
        let dropped: Vec<_> = (program.steps.iter().zip(&tidied.steps))
            .find(|(a, b)| a != b)
            .into_iter()
            .collect();
        assert!(program.is_whole(), "{name}: {dropped:?}");
        let text = write(&head("t", &fixture.name, fixture.hmm_device), &program);
        let file = SpecFile::from_text(Utf8Path::new("x.toml"), text.clone());
        let case = Case::parse("own", "x", &file).unwrap().remove(0);
        let facts = Facts {
            contract: &contract,
            fixture: &fixture,
        };
        let steps = case.steps(facts).unwrap();
        assert_eq!(steps, program.steps, "{name}\n{text}");
        *seen.entry(program.steps.len()).or_insert(0) += 1;
    }
    assert!(seen.values().sum::<u32>() > 1000, "{seen:?}");
}

#[test]
fn every_candidate_of_every_case_can_be_meant_and_is_another_one() {
    let mut candidates_seen = 0;
    let mut last = String::new();
    for (name, program, contract, fixture) in all() {
        // One contract a case is enough, but for those that differ by it.
        let digest = program.digest();
        if std::mem::replace(&mut last, digest.clone()) == digest {
            continue;
        }
        let device = fixture.hmm_device;
        let mut all = candidates::without_chunks(&program, 1, program.steps.len())
            .into_iter()
            .map(|(_, p)| p)
            .collect::<Vec<_>>();
        all.extend(candidates::fewer_processes(&program));
        all.extend(candidates::smaller_races(&program));
        all.extend(candidates::smaller_sizes(&program));
        all.extend(candidates::fewer_options(&program, device));
        all.extend(candidates::relaxed(&program));
        for candidate in all {
            assert!(candidate.is_whole(), "{name}: {candidate:?}");
            candidates_seen += 1;
        }
        if candidates_seen % 4 != 0 {
            continue;
        }
        // Of some, down to the last: whatever the oracle says, the search ends and is left with a
        // program that reads back.
        let mut dice = Dice(blake3::hash(digest.as_bytes()).as_bytes()[0].into());
        let needed = program.steps[dice.below(program.steps.len())].clone();
        let does = |p: &Program| p.steps.iter().any(|s| s.op.word() == needed.op.word());
        let mut oracle = Simulated::new(Figures::ALWAYS, 1, |p| always(does(p)));
        let found = search_on(&program, device, &mut oracle);
        assert!(does(&found), "{name}");
        assert!(found.measure() <= program.measure(), "{name}");
        let text = write(&head("t", &fixture.name, device), &found);
        let file = SpecFile::from_text(Utf8Path::new("x.toml"), text.clone());
        let case = Case::parse("own", "x", &file).unwrap().remove(0);
        let facts = Facts {
            contract: &contract,
            fixture: &fixture,
        };
        assert_eq!(case.steps(facts).unwrap(), found.steps, "{name}\n{text}");
    }
    println!("{candidates_seen} candidates");
    assert!(candidates_seen > 10_000);
}
