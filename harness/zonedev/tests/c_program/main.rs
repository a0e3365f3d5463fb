//! C programs of cases in guests that have nothing of ours.
//!
//! `ZONEDEV_TEST_KERNEL=path/to/bzImage cargo test -p zonedev --test c_program -- --nocapture`,
//! with `ZONEDEV_TEST_RELEASE` where it is not 5.10. Without a kernel, the tests say so and do
//! nothing. Programs are run of so many cases that every operation is among them that one kernel can
//! have; with `ZONEDEV_TEST_PROGRAMS=TEXT`, of those whose SUITE/FIXTURE/CASE contains a text (`/`:
//! of all).

// The lock is there to be held for as long as a test takes.
#![allow(clippy::unwrap_used, clippy::await_holding_lock)]

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod guest;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use proto::Op;
use zonedev::observe;
use zonedev::record::RunFolder;
use zonedev::reproducer::{Reproduced, c_program};
use zonedev::spec::{
    Case, Contract, Facts, Fixture, FixtureStore, KernelStore, PlannedStep, SpecFile, SuiteStore,
};

use common::{command, project, turn};
use guest::{Bench, PROGRAMS};

/// Operations that no case of suites/ has, or none that a plain guest can run.
const RARE: &str = r#"
title = "what no case does"
fixtures = ["fsdax-ext4"]
[[step]]
do = "run"
argv = ["/bin/sh", "-c", "true && echo 'it runs'"]
[[step]]
do = "mount-root"
[[step]]
do = "fork"
child = "child"
[[step]]
do = "torn-down"
expect = "EBUSY"
[[step]]
do = "end"
[[step]]
do = "umount"
[[step]]
do = "destroy-namespace"
[[step]]
do = "torn-down"
"#;

/// A case on a fixture, as a program.
struct Program {
    /// SUITE/FIXTURE/CASE.
    id: String,
    fixture: Fixture,
    text: String,
    steps: Vec<PlannedStep>,
}

impl Program {
    /// The commands of its header comment.
    fn commands(&self) -> Vec<String> {
        let lines = self.text.lines().skip_while(|l| *l != " * Set up:").skip(1);
        let commands = lines.take_while(|l| *l != " *");
        commands
            .map(|l| l.trim_start_matches(" *").trim().to_owned())
            .collect()
    }

    /// The file that it is in a guest.
    fn file(&self) -> String {
        self.id.replace('/', "_")
    }

    /// What it does in which way: of this each thing is to be run once.
    fn does(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for step in &self.steps {
            let arms = match &step.op {
                Op::Race { arm, .. } => arm.as_slice(),
                _ => &[],
            };
            for (op, prefix) in arms.iter().map(|a| (a, "race: ")).chain([(&step.op, "")]) {
                let mut words = vec![format!("{prefix}{}", op.word())];
                let fields = serde_json::to_value(op).unwrap();
                for key in [
                    "how", "mode", "advice", "access", "memory", "by", "cached", "lazy",
                ] {
                    if let Some(value) = fields.get(key).filter(|_| !matches!(op, Op::Ask { .. })) {
                        words.push(format!("{prefix}{} {key}={value}", op.word()));
                    }
                }
                out.extend(words);
            }
            let expected = &step.expected;
            if expected != "ok" {
                out.insert(format!("expected: {expected}"));
            }
        }
        out
    }
}

fn contract(name: &str) -> Contract {
    let kernel = KernelStore::new(project().join("kernels"))
        .kernel(name)
        .unwrap();
    let path = project().join(format!("kernels/contracts/{}.toml", kernel.contract));
    let mut contract = Contract::parse(&SpecFile::read(&path, "the contract").unwrap()).unwrap();
    contract.features = contract.features.without(&kernel.lacks);
    contract
}

fn program(kernel: &str, contract: &Contract, case: &Case, fixture: &Fixture) -> Option<Program> {
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
        kernel,
        contract,
        fixture,
        steps: &steps,
    });
    Some(Program {
        id: format!("{}/{}/{}", case.suite, fixture.name, case.name),
        fixture: fixture.clone(),
        text: text.unwrap(),
        steps,
    })
}

/// All that can be run to their end on a kernel with these options, on this host's QEMU.
fn programs(kernel: &str, options: &str, devices: &BTreeSet<String>) -> Vec<Program> {
    let contract = contract(kernel);
    let fixtures = FixtureStore::new(project().join("images/fixtures"))
        .all()
        .unwrap();
    let mut cases = SuiteStore::new(project().join("suites")).cases().unwrap();
    let rare = SpecFile::from_text("suites/x/rare.toml".into(), RARE);
    cases.extend(Case::parse("x", "rare", &rare).unwrap());
    let has = |option: &String| {
        options
            .lines()
            .any(|l| l.starts_with(&format!("CONFIG_{option}=")))
    };
    let mut out = Vec::new();
    for case in cases
        .iter()
        .filter(|c| c.config.iter().all(has) && c.emulated.is_none())
    {
        for name in &case.fixtures {
            let fixture = &fixtures[name];
            let known = case.known.iter().any(|k| k.holds(&contract.name, name));
            let lacks = fixture.qemu_devices.iter().any(|d| !devices.contains(d));
            // Programs of a root file system are not in a plain guest, nor are selftests.
            let own = case.suite == "upstream" || fixture.root.is_some();
            let module = fixture
                .provision
                .iter()
                .any(|op| matches!(op, Op::Insmod { .. }));
            if known || lacks || own || module && !options.contains("CONFIG_TEST_HMM=m") {
                continue;
            }
            // Where test_hmm is a module, a plain guest has to load it.
            if !module && options.contains("CONFIG_TEST_HMM=m") && name.starts_with("hmm") {
                continue;
            }
            let Some(program) = program(kernel, &contract, case, fixture) else {
                continue;
            };
            let ends = [
                "died",
                "hung",
                "panic",
                "guest-reset",
                "guest-shutdown",
                "lacks",
            ];
            if program
                .steps
                .iter()
                .any(|s| ends.contains(&s.expected.as_str()))
            {
                continue;
            }
            out.push(program);
        }
    }
    out
}

/// So many of them that everything that any does is done.
fn cover(mut programs: Vec<Program>) -> Vec<Program> {
    let mut missing: BTreeSet<String> = programs.iter().flat_map(Program::does).collect();
    let mut out = Vec::new();
    while !missing.is_empty() {
        let gain =
            |p: &Program| p.does().intersection(&missing).count() * 100 / (10 + p.steps.len());
        let best = (0..programs.len())
            .max_by_key(|i| gain(&programs[*i]))
            .unwrap();
        let program = programs.swap_remove(best);
        if gain(&program) == 0 {
            let fits = |p: &Program| p.does().intersection(&missing).count() > 0;
            programs.push(program);
            let at = programs.iter().position(fits).unwrap();
            let program = programs.swap_remove(at);
            missing = missing.difference(&program.does()).cloned().collect();
            out.push(program);
            continue;
        }
        missing = missing.difference(&program.does()).cloned().collect();
        out.push(program);
    }
    out
}

/// What went wrong with a program, if anything did.
async fn one(
    bench: &Bench,
    program: &Program,
    shell: (&mut guest::Shell, &zonedev::vm::Guest),
) -> Option<String> {
    let (shell, guest) = shell;
    let command = format!("{PROGRAMS}/{}", program.file());
    let (said, code) = shell.run(guest, &command).await;
    let _ = bench;
    match code {
        Some(0) => None,
        code => Some(format!(
            "{} ended with {code:?}:\n{said}{}",
            program.id,
            match code {
                None => guest.console().tail(3000),
                Some(_) => String::new(),
            }
        )),
    }
}

/// Runs programs of one fixture and one way to set it up: a boot, and a clone for each.
async fn group(bench: &Bench, programs: &[Program]) -> Vec<String> {
    let began = Instant::now();
    let first = &programs[0];
    let binaries: BTreeMap<String, Vec<u8>> = programs
        .iter()
        .map(|p| (p.file(), bench.compile(&p.file(), &p.text)))
        .collect();
    let mut wrong = Vec::new();
    let (mut guest, mut shell) = bench.boot(&first.fixture, &binaries).await;
    for command in first.commands() {
        let (said, code) = shell.run(&guest, &command).await;
        if code != Some(0) {
            let console = guest.console().tail(1500);
            return vec![format!(
                "{}: `{command}`: {code:?}\n{said}\n{console}",
                first.id
            )];
        }
    }
    if first.fixture.boots_because.is_some() {
        for (n, program) in programs.iter().enumerate() {
            if n > 0 {
                (guest, shell) = bench.boot(&first.fixture, &binaries).await;
                for command in program.commands() {
                    shell.run(&guest, &command).await;
                }
            }
            wrong.extend(one(bench, program, (&mut shell, &guest)).await);
        }
    } else {
        let template = guest.save_template(shell).await.unwrap();
        for program in programs {
            let (guest, mut shell) = bench.clone_of(&template).await;
            wrong.extend(one(bench, program, (&mut shell, &guest)).await);
        }
    }
    eprintln!(
        "{}: {} programs, {} of them wrong, {:?}",
        first.fixture.name,
        programs.len(),
        wrong.len(),
        began.elapsed()
    );
    wrong.iter().for_each(|w| eprintln!("{w}"));
    wrong
}

/// The words of all operations.
fn all_words() -> BTreeSet<String> {
    let schema = serde_json::to_value(schemars::schema_for!(Op)).unwrap();
    let of = schema["oneOf"].as_array().unwrap();
    let words = of
        .iter()
        .map(|v| v["properties"]["do"]["const"].as_str().unwrap().to_owned());
    words.collect()
}

/// Operations that a kernel, or QEMU, may lack.
const MAY_LACK: [&str; 12] = [
    // Kernels of the flavour `modules` alone have these.
    "insmod",
    "rmmod",
    // CXL, and peer-to-peer memory of an NVMe controller.
    "create-region",
    "destroy-region",
    "map-p2pmem",
    "unbind-pci",
    // test_hmm of later kernels.
    "hmm-read-unlocked",
    "hmm-exclusive",
    "hmm-check-exclusive",
    "hmm-return",
    // Reflink and dax.
    "clone",
    "dedupe",
];

#[tokio::test(flavor = "multi_thread")]
async fn programs_come_to_what_their_cases_expect_in_a_plain_guest() {
    let Ok(kernel) = std::env::var("ZONEDEV_TEST_KERNEL") else {
        eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
        return;
    };
    let _turn = turn();
    let kernel = Utf8PathBuf::from(kernel);
    let options = std::fs::read_to_string(kernel.with_file_name("config")).unwrap_or_default();
    let bench = Bench::new(&kernel).await;
    let all = programs(&common::kernel(), &options, &bench.devices().await);
    let possible = all.len();
    let wanted = std::env::var("ZONEDEV_TEST_PROGRAMS").ok();
    let chosen: Vec<Program> = match &wanted {
        Some(text) => all.into_iter().filter(|p| p.id.contains(text)).collect(),
        None => cover(all),
    };
    let provision = chosen
        .iter()
        .flat_map(|p| &p.fixture.provision)
        .map(Op::word);
    let done: BTreeSet<String> = (chosen.iter().flat_map(|p| &p.steps).map(|s| s.op.word()))
        .chain(provision)
        .map(str::to_owned)
        .collect();
    let missing: Vec<String> = all_words().difference(&done).cloned().collect();
    eprintln!(
        "{} of {possible} programs; operations that none has: {missing:?}",
        chosen.len()
    );
    if wanted.is_none() && !options.contains("CONFIG_TEST_HMM=m") {
        assert!(
            missing.iter().all(|m| MAY_LACK.contains(&m.as_str())),
            "{missing:?}"
        );
    }
    let mut groups: BTreeMap<(String, Vec<String>), Vec<Program>> = BTreeMap::new();
    for program in chosen {
        let key = (program.fixture.name.clone(), program.commands());
        groups.entry(key).or_default().push(program);
    }
    let groups: Vec<Vec<Program>> = groups.into_values().collect();
    let (even, odd): (Vec<_>, Vec<_>) = (0..groups.len()).partition(|n| n % 2 == 0);
    let run = async |which: Vec<usize>| {
        let mut wrong = Vec::new();
        for n in which {
            wrong.extend(group(&bench, &groups[n]).await);
        }
        wrong
    };
    let (mut wrong, others) = tokio::join!(run(even), run(odd));
    wrong.extend(others);
    assert!(
        wrong.is_empty(),
        "{} programs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A kernel with a bug that somebody put there.
const MUTANT: &str = "6.12";
const PATCH: &str = "kernels/mutants/migrate-restore-locked-6.12.patch";
/// Who sees it.
const SEES: &str = "device-private/hmm/migrate-pinned";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_shows_the_report_that_its_case_does() {
    if std::env::var("ZONEDEV_TEST_KERNEL").is_err() {
        eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
        return;
    }
    if common::kernel() != MUTANT {
        eprintln!(
            "skipped: the mutant is one of {MUTANT}, and ZONEDEV_TEST_RELEASE another kernel"
        );
        return;
    }
    let _turn = turn();
    let name = format!("{MUTANT}+{}", project().join(PATCH));
    let id = SEES;
    let dir = tempfile::tempdir().unwrap();
    let run = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
    let args = ["matrix", "-k", &name, "-E", id, "--run-dir", run.as_str()];
    let output = command(&project(), &args).output().unwrap();
    println!("{}", common::said(&output));
    let folder = RunFolder::open(&run);
    let record = folder.read_record().unwrap();
    let cell = record
        .cells
        .iter()
        .find(|c| c.0.to_string().starts_with(id))
        .unwrap();
    let cell = folder.read_cell(&cell.0).unwrap();
    let wanted: BTreeSet<String> = cell.splats.iter().map(|s| s.title.clone()).collect();
    assert!(!wanted.is_empty());

    let output = command(&project(), &["build", "--bzimage", &name])
        .output()
        .unwrap();
    let kernel = String::from_utf8(output.stdout).unwrap();
    let kernel = Utf8Path::new(kernel.trim());
    let output = command(&project(), &["c-program", "-k", &name, id])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", common::said(&output));
    let bench = Bench::new(kernel).await;
    let whole = String::from_utf8(output.stdout).unwrap();
    let found = reports_of(&bench, id, whole, &wanted).await;
    assert!(wanted.is_subset(&found), "{found:?}, not {wanted:?}");

    // The same of what is left of it when it is as small as it can be.
    let small = run.with_file_name("small");
    let title = wanted.first().unwrap();
    let minimise = ["minimise", run.as_str(), id, "--title", title, "--c"];
    let to = ["--good", MUTANT, "--run-dir", small.as_str()];
    let output = command(&project(), &[&minimise[..], &to].concat())
        .output()
        .unwrap();
    println!("{}", common::said(&output));
    let less = std::fs::read_to_string(small.join("minimised.c")).unwrap();
    let found = reports_of(&bench, id, less, &BTreeSet::from([title.clone()])).await;
    assert!(found.contains(title), "{found:?}, not {title}");
}

/// What the kernel reports while a program of a case on the fixture `hmm` runs in a plain guest;
/// waits a while for those that are wanted.
async fn reports_of(
    bench: &Bench,
    id: &str,
    text: String,
    wanted: &BTreeSet<String>,
) -> BTreeSet<String> {
    let binary = bench.compile("program", &text);
    let fixture = FixtureStore::new(project().join("images/fixtures"))
        .load("hmm")
        .unwrap();
    let programs = BTreeMap::from([("program".to_owned(), binary)]);
    let (guest, mut shell) = bench.boot(&fixture, &programs).await;
    let program = Program {
        id: id.to_owned(),
        fixture,
        text,
        steps: Vec::new(),
    };
    for command in program.commands() {
        assert_eq!(shell.run(&guest, &command).await.1, Some(0), "{command}");
    }
    let (said, code) = shell.run(&guest, &format!("{PROGRAMS}/program")).await;
    println!("{code:?}\n{said}");
    // The console is a little behind.
    let mut found = BTreeSet::new();
    for _ in 0..100 {
        let log = observe::console(&guest.console().bytes());
        found = observe::splats(&log).into_iter().map(|s| s.title).collect();
        if wanted.is_subset(&found) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    found
}
