//! Conditions of cases and fixtures: `fsdax.pins=refused`, `behaviour.hmm_close_evicts=true`,
//! `fixture.align!=4K`, several joined with `&`.
//!
//! They ask what the contract says (its tables, as in kernels/contracts/) or what the fixture is,
//! never which kernel runs.

use proto::{Op, Size};
use thiserror::Error;

use super::{Contract, Fixture, SpecError};

/// A condition that can't be answered.
#[derive(Debug, Error, PartialEq, Eq)]
enum ConditionError {
    /// It isn't written so.
    #[error("write `{0}` as SECTION.PROPERTY=VALUE or SECTION.PROPERTY!=VALUE")]
    Form(String),
    /// It names what there is not.
    #[error("there is no `{path}`; use one of: {known}")]
    Unknown {
        /// The part that is unknown.
        path: String,
        /// What there is.
        known: String,
    },
}

/// Sections of a contract.
const SECTIONS: [&str; 7] = [
    "fsdax",
    "devdax",
    "private",
    "coherent",
    "p2pdma",
    "features",
    "behaviour",
];

/// Sections that not every contract has: a kernel without such pages has none of which anything
/// holds.
const OPTIONAL_SECTIONS: [&str; 2] = ["coherent", "p2pdma"];

/// Properties of a kind of page that a contract may leave out.
const OPTIONAL: [&str; 6] = [
    "vmsplice",
    "direct-write",
    "direct-read",
    "io-uring",
    "gup-test",
    "shared",
];

/// What conditions are asked of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The kernel's contract.
    pub contract: &'a Contract,
    /// The fixture.
    pub fixture: &'a Fixture,
}

impl Facts<'_> {
    /// Whether all conditions of `text` hold.
    ///
    /// # Errors
    /// Names `path`, the file that has the condition, and how to write it.
    pub fn hold(&self, text: &str, path: &camino::Utf8Path) -> Result<bool, SpecError> {
        let mut all = true;
        for one in text.split('&') {
            all &= self.holds(one.trim()).map_err(|e| {
                SpecError::whole_file(
                    path,
                    format!("the condition `{text}` can't be decided: {e}"),
                    "properties are those of kernels/contracts/, fixture.align and fixture.hmm_device; join several conditions with &",
                )
            })?;
        }
        Ok(all)
    }

    fn holds(&self, condition: &str) -> Result<bool, ConditionError> {
        let form = || ConditionError::Form(condition.to_owned());
        let (path, value) = condition.split_once('=').ok_or_else(form)?;
        let (path, wanted) = match path.strip_suffix('!') {
            Some(path) => (path.trim(), false),
            None => (path.trim(), true),
        };
        let value = value.trim();
        let (section, field) = path.split_once('.').ok_or_else(form)?;
        if value.is_empty() {
            return Err(form());
        }
        let equal = if section == "fixture" {
            match field {
                "align" => {
                    let align: Size = value.parse().map_err(|_| form())?;
                    devdax_align(self.fixture) == Some(align)
                }
                "hmm_device" => self.fixture.hmm_device.to_string() == value,
                _ => return Err(unknown(path, ["align", "hmm_device"].into_iter())),
            }
        } else {
            says(self.contract, section, field, value)?
        };
        Ok(equal == wanted)
    }
}

/// The alignment of a fixture's devdax namespace: what its page-table entries map.
fn devdax_align(fixture: &Fixture) -> Option<Size> {
    fixture.provision.iter().find_map(|op| match op {
        Op::CreateNamespace { mode, align, .. } if mode == "devdax" => Some(*align),
        _ => None,
    })
}

fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> ConditionError {
    ConditionError::Unknown {
        path: path.to_owned(),
        known: known.collect::<Vec<_>>().join(", "),
    }
}

/// Whether the contract's property has this value.
fn says(
    contract: &Contract,
    section: &str,
    field: &str,
    value: &str,
) -> Result<bool, ConditionError> {
    let table = serde_json::to_value(contract).unwrap_or_default();
    let of_pages = !["behaviour", "features"].contains(&section);
    let Some(fields) = table.get(section).and_then(|s| s.as_object()) else {
        return if OPTIONAL_SECTIONS.contains(&section) {
            Ok(false)
        } else {
            Err(unknown(section, SECTIONS.into_iter()))
        };
    };
    match fields.get(field) {
        Some(serde_json::Value::String(text)) => Ok(text == value),
        Some(other) => {
            let shown = other.to_string();
            Ok(shown == value)
        }
        None if of_pages && OPTIONAL.contains(&field) => Ok(false),
        None => Err(unknown(
            &format!("{section}.{field}"),
            fields.keys().map(String::as_str),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{FixtureStore, SpecFile};
    use camino::Utf8Path;

    fn answer(contract: &str, fixture: &str, text: &str) -> Result<bool, String> {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = root.join(format!("kernels/contracts/{contract}.toml"));
        let contract = Contract::parse(&SpecFile::read(&path, "the contract").unwrap()).unwrap();
        let fixture = FixtureStore::new(root.join("images/fixtures"))
            .load(fixture)
            .unwrap();
        let facts = Facts {
            contract: &contract,
            fixture: &fixture,
        };
        facts
            .hold(text, Utf8Path::new("suites/x/y.toml"))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn of_a_contract() {
        let series = |text| answer("5.10+zone-device-refcount", "devdax-4k", text);
        assert_eq!(series("fsdax.pins=refused"), Ok(true));
        assert_eq!(series("fsdax.pins != refused"), Ok(false));
        assert_eq!(answer("5.10", "hmm", "fsdax.pins = refused"), Ok(false));
        assert_eq!(series("fsdax.idle=0"), Ok(true));
        assert_eq!(series("fsdax.idle=0 & fsdax.pte=1"), Ok(false));
        assert_eq!(series("behaviour.hmm_close_evicts=false"), Ok(true));
        assert_eq!(series("features.cxl=false"), Ok(true));
        assert_eq!(series("private.direct-read=pin"), Ok(false));
        assert_eq!(series("coherent.idle=0"), Ok(false));
    }

    #[test]
    fn of_a_fixture() {
        let of = |fixture, text| answer("5.10", fixture, text).unwrap();
        assert!(of("devdax-4k", "fixture.align=4K"));
        assert!(!of("devdax-2m", "fixture.align=4K"));
        assert!(of("devdax-2m", "fixture.align=2M & fsdax.idle=1"));
        assert!(of("hmm", "fixture.align!=2M"));
        assert!(of("hmm-coherent", "fixture.hmm_device=2"));
        assert!(of("hmm", "fixture.hmm_device=0"));
    }

    #[test]
    fn an_error_says_what_there_is() {
        let error = |text| answer("5.10", "hmm", text).unwrap_err();
        let e = error("fsdax.pin=refused");
        assert!(
            e.contains("no `fsdax.pin`") && e.contains("pins") && e.contains("suites/x/y.toml"),
            "{e}"
        );
        assert!(error("hugetlb.idle=1").contains("private"));
        assert!(error("fixture.size=1G").contains("align"));
        for text in ["fsdax.pins", "fsdax.pins=", "fixture.align=big", ""] {
            assert!(error(text).contains("SECTION.PROPERTY"), "{text}");
        }
    }
}
