//! What lies between two configs: the options that they ask for differently, in an order in which
//! Kconfig lets them be changed one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::config::{self, Request};
use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{BuildSink, Reporter};
use super::kconfig::Kconfig;
use super::source;
use crate::spec::ResolvedKernel;

/// An option that two kernels ask for differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionChange {
    /// Its name, without `CONFIG_`.
    pub name: String,
    /// What the one asks for; none if it says nothing.
    pub from: Option<String>,
    /// What the other asks for.
    pub to: Option<String>,
}

impl OptionChange {
    /// The line of a fragment that asks for a value; none where nothing is asked for.
    pub fn line(name: &str, value: Option<&str>) -> Option<String> {
        value.map(|value| config::line(name, value))
    }

    fn turns_on(&self) -> bool {
        !is_set(self.from.as_deref()) && is_set(self.to.as_deref())
    }

    fn turns_off(&self) -> bool {
        is_set(self.from.as_deref()) && !is_set(self.to.as_deref())
    }
}

impl fmt::Display for OptionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(value) if value != "n" => write!(f, "CONFIG_{}={value}", self.name),
            _ => write!(f, "CONFIG_{} is not set", self.name),
        }
    }
}

fn is_set(value: Option<&str>) -> bool {
    value.is_some_and(|v| v != "n")
}

/// Options that Kconfig ties to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionStep {
    /// They change together.
    pub changes: Vec<OptionChange>,
    /// The later steps that can't be taken without this one, by number.
    pub needed_by: Vec<usize>,
}

/// The options that `good` and `bad` ask for differently, as steps: what an option depends on comes
/// before it.
///
/// # Errors
/// Where the source can't be had.
pub fn options_between(
    ctx: &BuildCtx,
    good: &ResolvedKernel,
    bad: &ResolvedKernel,
    sink: &dyn BuildSink,
) -> Result<Vec<OptionStep>, BuildError> {
    let name = good.name.to_string();
    let report = Reporter::new(&name, sink);
    let mut failed = None;
    for spec in &good.sources {
        match source::obtain(ctx, spec, &report) {
            Ok(source) => {
                let kconfig = Kconfig::read(&source::pristine(ctx, &source), "x86");
                let asked = |kernel: &ResolvedKernel| config::requests(&kernel.fragments);
                return Ok(in_order(&kconfig, changes(&asked(good), &asked(bad))));
            }
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    Err(failed.unwrap_or_else(|| BuildError::NoSource {
        kernel: name,
        tried: Vec::new(),
    }))
}

fn changes(from: &[Request], to: &[Request]) -> Vec<OptionChange> {
    let values = |requests: &[Request]| -> BTreeMap<String, String> {
        let pairs = requests.iter();
        pairs.map(|r| (r.symbol.clone(), r.value.clone())).collect()
    };
    let (from, to) = (values(from), values(to));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| OptionChange {
            name: name.clone(),
            from: from.get(name).cloned(),
            to: to.get(name).cloned(),
        })
        .collect()
}

/// Puts what is needed before what needs it; what can't be told apart so stays together.
fn in_order(kconfig: &Kconfig, changes: Vec<OptionChange>) -> Vec<OptionStep> {
    let n = changes.len();
    // `before[a][b]`: a must be changed before b, or with it.
    let mut before = vec![vec![false; n]; n];
    let at: BTreeMap<&str, usize> = (changes.iter().enumerate())
        .map(|(i, c)| (c.name.as_str(), i))
        .collect();
    for (i, change) in changes.iter().enumerate() {
        for needed in kconfig.needs(&change.name) {
            let Some(&j) = at.get(needed.as_str()).filter(|j| **j != i) else {
                continue;
            };
            let other = &changes[j];
            let same = (
                change.turns_on() && other.turns_on(),
                change.turns_off() && other.turns_off(),
            );
            before[j][i] |= !same.1;
            before[i][j] |= !same.0;
        }
        for (j, other) in changes.iter().enumerate() {
            let choice = kconfig.choice(&change.name);
            before[i][j] |= i != j && choice.is_some() && choice == kconfig.choice(&other.name);
        }
    }
    for via in 0..n {
        let after = before[via].clone();
        for row in before.iter_mut().filter(|row| row[via]) {
            row.iter_mut().zip(&after).for_each(|(to, is)| *to |= is);
        }
    }
    let mut left: Vec<usize> = (0..n).collect();
    let mut steps: Vec<Vec<usize>> = Vec::new();
    // What nothing that is left must come before is next, with all that must come before it, too.
    while let Some(&next) = left.iter().find(|i| {
        let mut left = left.iter();
        left.all(|j| !before[*j][**i] || before[**i][*j])
    }) {
        let tied = |j: &usize| *j == next || (before[next][*j] && before[*j][next]);
        steps.push(left.iter().copied().filter(tied).collect());
        left.retain(|j| !tied(j));
    }
    let step = |(number, step): (usize, &Vec<usize>)| {
        let later = (number + 1..).zip(&steps[number + 1..]);
        let needs_it = |(at, later): (usize, &Vec<usize>)| before[step[0]][later[0]].then_some(at);
        OptionStep {
            changes: step.iter().map(|i| changes[*i].clone()).collect(),
            needed_by: later.filter_map(needs_it).collect(),
        }
    };
    steps.iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;
    use crate::spec::Fragment;

    fn steps(kconfig: &str, from: &str, to: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let tree = Utf8Path::from_path(dir.path()).unwrap();
        fs_err::write(tree.join("Kconfig"), kconfig).unwrap();
        let asked = |text: &str| {
            config::requests(&[Fragment {
                name: "x".into(),
                path: "x.config".into(),
                text: text.into(),
            }])
        };
        let changes = changes(&asked(from), &asked(to));
        let count = changes.len();
        let steps = in_order(&Kconfig::read(tree, "x86"), changes);
        let all = steps.iter().flat_map(|s| &s.changes);
        assert_eq!(all.count(), count, "each is changed once");
        let words = |step: &OptionStep| {
            let words: Vec<String> = step.changes.iter().map(OptionChange::to_string).collect();
            match step.needed_by.as_slice() {
                [] => words.join(", "),
                by => format!("{} before {by:?}", words.join(", ")),
            }
        };
        steps.iter().map(words).collect()
    }

    const KCONFIG: &str = "config A\n\tbool \"a\"\n\tdepends on M && Z\n\nconfig M\n\tbool \"m\"\n\tselect S\n\
        \nconfig S\n\tbool \"s\"\n\nconfig Z\n\tbool \"z\"\n\nconfig I\n\tint \"i\"\n\
        \nchoice\n\tprompt \"c\"\nconfig ONE\n\tbool \"one\"\nconfig TWO\n\tbool \"two\"\nendchoice\n\
        \nconfig X\n\tbool \"x\"\n\tdepends on !Z\n";

    #[test]
    fn what_is_needed_comes_first_and_goes_last() {
        let on = "CONFIG_A=y\nCONFIG_M=y\nCONFIG_S=y\nCONFIG_Z=y\nCONFIG_I=4\n";
        let off = "# CONFIG_A is not set\nCONFIG_I=3\n";
        assert_eq!(
            steps(KCONFIG, off, on),
            [
                "CONFIG_I=4",
                "CONFIG_S=y before [2, 4]",
                "CONFIG_M=y before [4]",
                "CONFIG_Z=y before [4]",
                "CONFIG_A=y"
            ]
        );
        assert_eq!(
            steps(KCONFIG, on, off),
            [
                "CONFIG_A is not set before [2, 3, 4]",
                "CONFIG_I=3",
                "CONFIG_M is not set before [3]",
                "CONFIG_S is not set",
                "CONFIG_Z is not set"
            ]
        );
    }

    #[test]
    fn what_excludes_each_other_changes_together() {
        assert_eq!(
            steps(
                KCONFIG,
                "CONFIG_ONE=y\nCONFIG_Z=y\n",
                "CONFIG_TWO=y\nCONFIG_X=y\n"
            ),
            [
                "CONFIG_ONE is not set, CONFIG_TWO=y",
                "CONFIG_X=y, CONFIG_Z is not set"
            ]
        );
        assert_eq!(steps(KCONFIG, "CONFIG_ONE=y\n", "CONFIG_ONE=y\n"), [""; 0]);
    }
}
