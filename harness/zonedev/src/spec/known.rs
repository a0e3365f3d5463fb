//! What stock kernels do wrong: data beside the case that sees it.

use serde::Deserialize;

use super::{SpecError, SpecFile};

/// What stock kernels of a contract do wrong: a test that fails, a report, an outcome, an end, or a
/// break of the contract. It stands for itself only, and is a failure once it no longer happens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Name of the test, such as `hmm.hmm_device_private.exclusive`.
    pub test: Option<String>,
    /// Title of the kernel's report, where it is no test.
    pub report: Option<String>,
    /// Steps that come to something else than is expected of them.
    pub outcome: Option<KnownOutcome>,
    /// How the guest goes before the case's end: `died` or `hung`.
    pub end: Option<KnownEnd>,
    /// The break of the contract.
    pub violation: Option<KnownViolation>,
    /// Contracts of the kernels that fail it.
    pub contracts: Vec<String>,
    /// Fixtures on which they do; none are all.
    #[serde(default)]
    pub fixtures: Vec<String>,
    /// The program of the list whose test it is.
    pub program: Option<String>,
    /// A report that runs of one kernel have or have not: it is no failure where it stays away, and
    /// no difference.
    #[serde(default)]
    pub sometimes: bool,
    /// Why.
    pub reason: String,
    /// The upstream commit that ends it, where there is one.
    pub commit: Option<String>,
}

/// What steps of one operation come to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownOutcome {
    /// The operation's word, such as `verify`.
    pub op: String,
    /// The outcome's word, such as `wrong-data`.
    pub gives: String,
}

/// How a guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownEnd {
    /// Of a panic, or with its first process.
    Died,
    /// It answers no more.
    Hung,
}

/// A break of the contract, in the words of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownViolation {
    /// The checkpoint.
    pub checkpoint: String,
    /// What was looked at, such as `refcount`.
    pub what: String,
    /// By contract and claims.
    pub expected: String,
    /// In the guest.
    pub found: String,
}

impl Known {
    /// Whether kernels of this contract fail it on this fixture.
    pub fn holds(&self, contract: &str, fixture: &str) -> bool {
        self.contracts.iter().any(|c| c == contract)
            && (self.fixtures.is_empty() || self.fixtures.iter().any(|f| f == fixture))
    }

    /// Refuses one that says nothing, or two things at once.
    pub(super) fn check(file: &SpecFile, one: &toml::Spanned<Self>) -> Result<(), SpecError> {
        let known = one.get_ref();
        let said = [
            known.test.is_some(),
            known.report.is_some(),
            known.outcome.is_some(),
            known.end.is_some(),
            known.violation.is_some(),
        ];
        if said.iter().filter(|s| **s).count() != 1 {
            return Err(file.error(
                one.span(),
                "what is known is one thing: a test that fails, a report, an outcome, an end or a break of the contract",
                "give `test`, `report`, `outcome`, `end`, or `violation` with checkpoint, what, expected and found",
            ));
        }
        if known.sometimes && known.report.is_none() {
            return Err(file.error(
                one.span(),
                "only a report may come `sometimes`",
                "take `sometimes` out, or give the `report`",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Case;

    fn known(keys: &str) -> Result<Vec<Known>, SpecError> {
        let text = format!(
            "title = \"t\"\nfixtures = [\"f\"]\n[[step]]\ndo = \"hmm-open\"\n\
             [[known]]\ncontracts = [\"6.12\"]\nreason = \"r\"\n{keys}"
        );
        let file = SpecFile::from_text("suites/x/y.toml".into(), text);
        Case::parse("x", "y", &file).map(|mut cases| cases.remove(0).known)
    }

    #[test]
    fn it_is_a_test_or_a_break_of_the_contract() {
        let test = known("test = \"a.b\"\n").unwrap();
        assert!(test[0].holds("6.12", "f") && !test[0].holds("7.3", "f"));
        let report = known("report = \"WARNING in f\"\n").unwrap();
        assert_eq!(report[0].report.as_deref(), Some("WARNING in f"));
        let text = "[known.violation]\ncheckpoint = \"c\"\nwhat = \"refcount\"\nexpected = \"1\"\nfound = \"2\"\n";
        let broken = known(text).unwrap();
        assert_eq!(
            broken[0].violation.as_ref().map(|v| v.found.as_str()),
            Some("2")
        );
        for (keys, said) in [
            (String::new(), "is one thing"),
            (format!("test = \"a\"\n{text}"), "is one thing"),
            (text.replace("found", "fund"), "unknown field"),
            (
                "sometimes = true\ntest = \"a.b\"\n".into(),
                "only a report may come",
            ),
        ] {
            let e = known(&keys).unwrap_err();
            assert!(e.message().contains(said) && e.line() >= Some(5), "{e}");
        }
    }
}
