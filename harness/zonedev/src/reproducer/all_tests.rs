//! Every case of suites/ as a program that a compiler takes without a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use proto::Op;

use super::{Reproduced, c_program};
use crate::spec::{Case, Contract, Facts, Fixture, FixtureStore, SpecFile, SuiteStore};

pub(super) fn project() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(super) fn contract(name: &str) -> Contract {
    let path = project().join(format!("kernels/contracts/{name}.toml"));
    Contract::parse(&SpecFile::read(&path, "the contract").unwrap()).unwrap()
}

pub(super) fn fixtures() -> BTreeMap<String, Fixture> {
    FixtureStore::new(project().join("images/fixtures"))
        .all()
        .unwrap()
}

fn program(case: &Case, fixture: &Fixture, contract: &Contract) -> Option<(Vec<Op>, String)> {
    let facts = Facts { contract, fixture };
    if case.skip_reason(facts).unwrap().is_some()
        || fixture.skip_reason(contract).unwrap().is_some()
    {
        return None;
    }
    let steps = case.steps(facts).unwrap();
    let text = c_program(&Reproduced {
        name: &case.name,
        title: &case.title,
        kernel: &contract.name,
        contract,
        fixture,
        steps: &steps,
    })
    .unwrap_or_else(|e| panic!("{}/{}/{}: {e}", case.suite, fixture.name, case.name));
    let ops = fixture.provision.iter().cloned();
    Some((ops.chain(steps.into_iter().map(|s| s.op)).collect(), text))
}

/// Compiles each, two at a time; what the compiler says of those that it does not take. Programs
/// whose functions are others' are only looked at; the rest is compiled and linked.
fn compile(programs: &[(String, String)], dir: &Utf8Path) -> Vec<String> {
    let mut functions = BTreeSet::new();
    let whole: Vec<bool> = programs
        .iter()
        .map(|(_, text)| functions_of(text).filter(|f| functions.insert(*f)).count() > 0)
        .collect();
    let next = Mutex::new(programs.iter().zip(whole).enumerate());
    let said = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let one = next.lock().unwrap().next();
                    let Some((n, ((name, text), whole))) = one else {
                        return;
                    };
                    let plain = name.replace(['/', ' '], "_");
                    let source = dir.join(format!("{n}-{plain}.c"));
                    std::fs::write(&source, text).unwrap();
                    let mut cc = Command::new("cc");
                    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]);
                    match whole {
                        true => cc.args(["-O2", "-static", "-o", "/dev/null"]),
                        false => cc.arg("-fsyntax-only"),
                    };
                    let out = cc.arg(source.as_str()).output().unwrap();
                    if !out.status.success() {
                        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
                        said.lock().unwrap().push(format!("{name}:\n{errors}"));
                    }
                }
            });
        }
    });
    said.into_inner().unwrap()
}

/// The helpers of a program: functions with names of their own.
fn functions_of(text: &str) -> impl Iterator<Item = &str> {
    let starts = text
        .lines()
        .filter(|l| l.starts_with("static ") && l.contains('('));
    starts.filter(|l| !l.chars().any(|c| c.is_ascii_digit()) && !l.contains(" run_"))
}

/// The words of all operations, as the schema of cases has them.
fn all_words() -> BTreeSet<String> {
    let schema = serde_json::to_value(schemars::schema_for!(Op)).unwrap();
    let of = schema["oneOf"].as_array().unwrap();
    let words = of
        .iter()
        .map(|v| v["properties"]["do"]["const"].as_str().unwrap().to_owned());
    words.collect()
}

/// Operations that no case of suites/ has: one of ours has them.
const RARE: &str = r#"
title = "what no case does"
fixtures = ["fsdax-ext4"]
[[step]]
do = "mount-root"
[[step]]
do = "torn-down"
expect = "EBUSY"
[[step]]
do = "destroy-region"
[[step]]
do = "end"
[[step]]
do = "torn-down"
expect = "EBUSY"
"#;

#[test]
fn every_case_is_a_program_that_compiles_without_a_warning() {
    let fixtures = fixtures();
    let mut cases = SuiteStore::new(project().join("suites")).cases().unwrap();
    let rare = SpecFile::from_text("suites/x/rare.toml".into(), RARE);
    cases.extend(Case::parse("x", "rare", &rare).unwrap());
    let mut seen = BTreeSet::new();
    let mut programs: BTreeMap<String, (String, String)> = BTreeMap::new();
    for name in ["5.10", "6.12", "7.3"] {
        let contract = contract(name);
        for case in &cases {
            for fixture in &case.fixtures {
                let Some((ops, text)) = program(case, &fixtures[fixture], &contract) else {
                    continue;
                };
                seen.extend(ops.iter().map(|op| op.word().to_owned()));
                // Fixtures and kernels often differ in the comment only.
                let code = text.split_once(" */\n").unwrap().1.to_owned();
                let name = format!("{}/{fixture}/{} on {name}", case.suite, case.name);
                programs.entry(code).or_insert((name, text));
            }
        }
    }
    let missing: Vec<String> = all_words().difference(&seen).cloned().collect();
    assert!(missing.is_empty(), "no program has {missing:?}");
    assert!(programs.len() > 300, "{}", programs.len());
    let programs: Vec<(String, String)> = programs.into_values().collect();
    let temp = tempfile::tempdir().unwrap();
    // To look at them.
    let kept = std::env::var("ZONEDEV_KEEP_PROGRAMS").ok();
    let dir = kept.map_or_else(|| temp.path().to_owned(), std::path::PathBuf::from);
    let said = compile(&programs, Utf8Path::from_path(&dir).unwrap());
    assert!(
        said.is_empty(),
        "{} of {}:\n{}",
        said.len(),
        programs.len(),
        said.join("\n")
    );
}
