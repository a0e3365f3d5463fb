//! The text of some programs.

use super::all_tests::{contract, fixtures, project};
use super::{CannotSay, Reproduced, c_program};
use crate::spec::{Case, Facts, SpecFile, SuiteStore};

fn program_of(case: &Case, fixture: &str, kernel: &str) -> Result<String, CannotSay> {
    let (contract, fixture) = (contract(kernel), fixtures().remove(fixture).unwrap());
    let facts = Facts {
        contract: &contract,
        fixture: &fixture,
    };
    let steps = case.steps(facts).unwrap();
    c_program(&Reproduced {
        name: &case.name,
        title: &case.title,
        kernel,
        contract: &contract,
        fixture: &fixture,
        steps: &steps,
    })
}

fn program(suite: &str, name: &str, fixture: &str, kernel: &str) -> String {
    let cases = SuiteStore::new(project().join("suites")).cases().unwrap();
    let case = cases.iter().find(|c| c.suite == suite && c.name == name);
    program_of(case.unwrap(), fixture, kernel).unwrap()
}

/// What is the case's own: its variables and functions.
fn own(text: &str) -> &str {
    let from = ["\nstatic char *", "\nstatic int hmm"];
    let at = from.iter().filter_map(|f| text.find(f)).min().unwrap();
    &text[at + 1..]
}

fn of_steps(steps: &str) -> Result<String, CannotSay> {
    let text = format!("title = \"t\"\nfixtures = [\"fsdax-ext4\"]\n{steps}");
    let file = SpecFile::from_text("suites/x/y.toml".into(), text);
    let case = Case::parse("x", "y", &file).unwrap().remove(0);
    program_of(&case, "fsdax-ext4", "6.12")
}

#[test]
fn a_short_case_whole() {
    insta::assert_snapshot!(program("fsdax", "map-touch-4k", "fsdax-ext4", "6.12"));
}

#[test]
fn a_call_that_blocks_is_in_a_thread() {
    let text = program("fsdax", "umount-pinned", "fsdax-ext4", "7.3");
    insta::assert_snapshot!(own(&text));
}

#[test]
fn processes_take_turns_and_let_go_of_their_parents_pins() {
    let text = program("fsdax", "pin-and-fork", "fsdax-ext4", "6.12");
    insta::assert_snapshot!(own(&text));
}

#[test]
fn a_race_is_a_table_of_threads() {
    let text = program("fsdax", "race-pin-truncate", "fsdax-xfs", "6.12");
    insta::assert_snapshot!(own(&text));
}

#[test]
fn a_device_of_an_older_kernel_has_other_numbers() {
    let text = |kernel| program("device-private", "snapshot-mixed", "hmm", kernel);
    let (old, new) = (text("5.10"), text("6.12"));
    assert!(old.contains("#define OLD_HMM_DMIRROR_SNAPSHOT _IOWR('H', 0x03,"));
    assert!(new.contains("#define HMM_DMIRROR_SNAPSHOT _IOWR('H', 0x04,"));
    assert!(old.contains("mknod /dev/hmm_dmirror0") && !new.contains("mknod"));
}

#[test]
fn what_can_not_be_said_is_named_with_its_reason() {
    let e = of_steps("[[step]]\ndo = \"touch\"\nmap = \"m\"\n").unwrap_err();
    assert_eq!(
        e.to_string(),
        "`touch` can't be said in C: `main` has no mapping `m` when it comes"
    );
    let e = of_steps("[[step]]\ndo = \"release\"\npin = \"p\"\n").unwrap_err();
    assert!(e.to_string().contains("holds no pin `p`"), "{e}");
    let e = of_steps("[[step]]\ndo = \"wait\"\n").unwrap_err();
    assert!(
        e.to_string().contains("nothing of `main` is blocked"),
        "{e}"
    );
}

#[test]
fn a_case_is_no_way_into_the_program() {
    let text = of_steps(
        "[[step]]\ndo = \"run\"\nargv = [\"/bin/echo\", \"a\\\"); exit(3); //\", \"*/\"]\n\
         [[step]]\ndo = \"checkpoint\"\nname = \"a */ b\"\n",
    )
    .unwrap();
    assert!(
        text.contains(r#"expect(run("/bin/echo 'a\"); exit(3); //' '*/'"), 0);"#),
        "{text}"
    );
    assert!(text.contains("/* a * / b */"), "{text}");
}
