use super::*;

fn parse(text: &str) -> Result<Case, SpecError> {
    let file = SpecFile::from_text(Utf8Path::new("suites/x/y.toml"), text);
    Case::parse("x", "y", &file).map(|mut cases| cases.remove(0))
}

const HEAD: &str = "title = \"t\"\nfixtures = [\"f\"]\n";

#[test]
fn a_device_that_is_not_named_is_the_fixtures_and_a_case_skips_by_its_rules() {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = SpecFile::read(&root.join("kernels/contracts/5.10.toml"), "it").unwrap();
    let contract = crate::spec::Contract::parse(&file).unwrap();
    let store = crate::spec::FixtureStore::new(root.join("images/fixtures"));
    let rule = "[[skip]]\nwhen = \"features.hmm-exclusive=false\"\nreason = \"no\"\n";
    let steps = "[[step]]\ndo = \"hmm-open\"\n[[step]]\ndo = \"hmm-close\"\ndevice = 1\n";
    let case = parse(&format!("{HEAD}{rule}{steps}")).unwrap();
    for (fixture, device) in [("hmm", None), ("hmm-coherent", Some(2))] {
        let fixture = store.load(fixture).unwrap();
        let facts = Facts {
            contract: &contract,
            fixture: &fixture,
        };
        assert_eq!(case.skip_reason(facts).unwrap().as_deref(), Some("no"));
        let steps = case.steps(facts).unwrap();
        assert_eq!(steps[0].op, Op::HmmOpen { device });
        assert_eq!(steps[1].op, Op::HmmClose { device: Some(1) });
    }
}

#[test]
fn a_step_has_common_keys_and_those_of_its_operation() {
    let case = parse(&format!(
        "{HEAD}[[step]]\ndo = \"touch\"\nmap = \"m\"\nlength = \"2M\"\nactor = \"child\"\nexpect = \"SIGBUS\"\n"
    ))
    .unwrap();
    assert_eq!(case.steps[0].actor, "child");
    assert_eq!(case.steps[0].expect, "SIGBUS");
    assert!(matches!(&case.steps[0].op, Op::Touch { length: Some(l), .. } if l.bytes() == 2 << 20));
}

#[test]
fn errors_name_the_line_of_the_step() {
    for (step, said) in [
        ("do = \"tuch\"\n", "unknown variant `tuch`"),
        (
            "do = \"touch\"\nmap = \"m\"\nlenght = \"2M\"\n",
            "unknown field `lenght`",
        ),
        (
            "do = \"touch\"\nmap = \"m\"\nlength = \"2X\"\n",
            "not a size",
        ),
        ("map = \"m\"\n", "no `do`"),
    ] {
        let e = parse(&format!(
            "{HEAD}[[step]]\ndo = \"hmm-open\"\n[[step]]\n{step}"
        ))
        .unwrap_err();
        assert!(e.message().contains(said), "{e}");
        assert!(e.line().is_some_and(|l| l >= 5), "{e}");
    }
}

#[test]
fn a_checkpoint_may_not_be_there_twice() {
    let step = "[[step]]\ndo = \"checkpoint\"\nname = \"a\"\n";
    let e = parse(&format!("{HEAD}{step}{step}")).unwrap_err();
    assert!(e.message().contains("there twice"), "{e}");
}
