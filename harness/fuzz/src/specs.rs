//! What people write, or get from others: specs in TOML, names of kernels, series.

use std::collections::BTreeSet;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use miette::{GraphicalReportHandler, GraphicalTheme};
use proto::Size;
use zonedev::build::fuzzing as build;
use zonedev::spec::{
    Case, Ceilings, Contract, Facts, Fixture, ImageSpec, KernelName, KernelStore, Mutant, RootSpec,
    SelftestSpec, SpecError, SpecFile, Unreachable,
};

use crate::records::CONTRACTS;
use crate::{Input, assert_shown, assert_shown_but};

/// Which parser, by the first byte; then the text.
pub(crate) fn specs(data: &[u8]) {
    let mut input = Input::new(data);
    let which = input.byte();
    let text = String::from_utf8_lossy(input.rest()).into_owned();
    let file = SpecFile::from_text(Utf8Path::new("x.toml"), text.as_str());
    let of = |found: Result<(), SpecError>| {
        if let Err(e) = found {
            told(&e, &text);
        }
    };
    match which {
        b'c' => of(Contract::parse(&file).map(drop)),
        b'f' => of(fixture(&file)),
        b's' => of(case(&file)),
        b'i' => of(ImageSpec::parse("x", &file).map(drop)),
        b'r' => of(RootSpec::parse(&file).map(drop)),
        b't' => of(SelftestSpec::parse(&file).map(drop)),
        b'k' => of(Ceilings::parse(&file).map(drop)),
        b'u' => of(Unreachable::parse(&file).map(drop)),
        b'K' | b'F' | b'S' | b'M' => of(in_a_folder(which, &text)),
        b'n' => name(&text),
        b'z' => size(&text),
        b'?' => condition(&text),
        _ => {}
    }
}

fn fixture(file: &SpecFile) -> Result<(), SpecError> {
    let fixture = Fixture::parse("x", file)?;
    CONTRACTS
        .iter()
        .try_for_each(|c| fixture.skip_reason(c).map(drop))
}

fn case(file: &SpecFile) -> Result<(), SpecError> {
    let cases = Case::parse("s", "x", file)?;
    assert!(!cases.is_empty());
    let Ok(fixture) = Fixture::parse("x", &SpecFile::from_text("x.toml".into(), FIXTURE)) else {
        panic!("the fixture is no fixture");
    };
    for case in &cases {
        for contract in CONTRACTS.iter() {
            let facts = Facts {
                contract,
                fixture: &fixture,
            };
            case.skip_reason(facts)?;
            let steps = case.steps(facts)?;
            let mut names = BTreeSet::new();
            for step in &steps {
                if let proto::Op::Checkpoint { name } = &step.op {
                    assert!(names.insert(name), "the checkpoint {name} is there twice");
                }
            }
        }
    }
    Ok(())
}

const FIXTURE: &str = include_str!("../../../images/fixtures/devdax-2m.toml");

/// What is read from a folder of files.
fn in_a_folder(which: u8, text: &str) -> Result<(), SpecError> {
    thread_local! {
        static PLACE: Option<tempfile::TempDir> = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .ok();
    }
    PLACE.with(|place| {
        let place = place.as_ref().and_then(|p| Utf8Path::from_path(p.path()));
        let Some(place) = place else { return Ok(()) };
        let store = KernelStore::new(place);
        let write = |name: &str| {
            let path = place.join(name);
            let made = path.parent().map(std::fs::create_dir_all);
            made.is_some_and(|made| made.is_ok()) && std::fs::write(path, text).is_ok()
        };
        match which {
            b'K' if write("x.toml") => store.kernel("x").map(drop),
            b'F' if write("flavours/x.toml") => store.flavour("x").map(drop),
            b'S' if write("series/x/series.toml") => store.series("x").map(drop),
            b'M' if write("mutants.toml") => Mutant::load(place).map(drop),
            _ => Ok(()),
        }
    })
}

/// An error points into the text, and what is shown of it steers no terminal.
fn told(e: &SpecError, text: &str) {
    assert_shown(e.message());
    assert_shown(&e.to_string());
    if let Some(line) = e.line() {
        assert!(line <= text.matches('\n').count() + 1);
    }
    if let Some(span) = e.span() {
        assert!(span.start <= span.end && span.end <= text.len());
    }
    let mut shown = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    assert!(handler.render_report(&mut shown, e).is_ok());
    assert_shown_but(&shown, "\n");
}

fn name(text: &str) {
    let Ok(name) = KernelName::parse(text) else {
        return;
    };
    assert_eq!(KernelName::parse(&name.to_string()).as_ref(), Ok(&name));
    assert_shown_but(&name.to_string(), "\u{202e}");
}

fn size(text: &str) {
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse(), Ok(size));
        assert!(size.pages() >= size.bytes() / 4096);
    }
}

fn condition(text: &str) {
    let Ok(fixture) = Fixture::parse("x", &SpecFile::from_text("x.toml".into(), FIXTURE)) else {
        return;
    };
    for contract in CONTRACTS.iter() {
        let facts = Facts {
            contract,
            fixture: &fixture,
        };
        let _ = facts.hold(text, Utf8Path::new("x.toml"));
    }
}

/// A patch, and what git says of it: the files that it names, and the hunk that is to blame.
pub(crate) fn series(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (patch, said) = text.split_once('\0').unwrap_or((&text, ""));
    let files: BTreeSet<Utf8PathBuf> = build::named_files(patch);
    for file in &files {
        let inside = |c: Utf8Component<'_>| matches!(c, Utf8Component::Normal(_));
        assert!(
            file.components().next().is_some() && file.components().all(inside),
            "{file}"
        );
        assert!(patch.contains(file.as_str()));
    }
    let failure = build::explain("label", patch, "5.10", said);
    assert!(failure.detail.len() <= 10 * (said.len() + patch.len()) + 200);
    for text in [
        Some(&failure.detail),
        failure.file.as_ref(),
        failure.hunk.as_ref(),
    ] {
        text.into_iter().for_each(|t| assert_shown(t));
    }
    if let Some(hunk) = &failure.hunk {
        assert!(hunk.starts_with("hunk "), "{hunk}");
    }
    // The hunk of any place is one that the patch has, or none.
    for line in [0, 1, 8, 100] {
        if let Some(hunk) = build::find_hunk(patch, "mm/a.c", line) {
            assert!(patch.contains(&format!("@@ -{line}")), "{hunk}");
        }
    }
}
