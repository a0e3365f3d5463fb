//! Two recorded runs, compared, and what became the accepted one.

use std::fmt::Write as _;

use super::fit::{Section, fit};
use super::sections::{log_lines, some, verdict_block};
use super::text::{Look, Paint, Verbosity, count, wrap};
use crate::record::{CellId, CellVerdict, KernelRecord, PairRecord, PairVerdict, RunRecord};

/// Kernels, and cells of one run only, that are named.
const MAX_NAMES: usize = 4;

/// Two runs and what became of comparing them.
pub struct Comparison<'a> {
    /// The one before.
    pub old: &'a RunRecord,
    /// The other.
    pub new: &'a RunRecord,
    /// Each pair with both cells' verdicts.
    pub pairs: &'a [(PairRecord, CellVerdict, CellVerdict)],
    /// Cells that only the one has.
    pub only_old: &'a [CellId],
    /// Cells that only the other has.
    pub only_new: &'a [CellId],
}

/// What a pair of runs tells of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    FailsNow,
    Incomparable,
    Differs,
    PassesNow,
    Same,
}

fn told((pair, old, new): &(PairRecord, CellVerdict, CellVerdict)) -> Told {
    match (pair.verdict, old, new) {
        (_, CellVerdict::Skip { .. }, CellVerdict::Skip { .. }) => Told::Same,
        (PairVerdict::Incomparable, ..) => Told::Incomparable,
        (PairVerdict::Fixed, ..) => Told::PassesNow,
        (PairVerdict::Regressed, CellVerdict::Pass {}, CellVerdict::Fail { .. }) => Told::FailsNow,
        (PairVerdict::Regressed | PairVerdict::ChangedAsAccepted, ..) => Told::Differs,
        (PairVerdict::Same, ..) => Told::Same,
    }
}

impl Comparison<'_> {
    /// Whether anything but lines of the log differs, or a side has cells of its own.
    pub fn differs(&self) -> bool {
        let same = self.pairs.iter().all(|pair| told(pair) == Told::Same);
        !same || !self.only_old.is_empty() || !self.only_new.is_empty()
    }
}

/// What differs between two runs, worst first.
pub fn comparison(of: &Comparison<'_>, look: &Look) -> String {
    let mut out = String::new();
    for (role, run) in [("from", of.old), ("to", of.new)] {
        let text = format!(
            "{role} {} of {}: zonedev {}, QEMU {} with {}",
            run.id, run.started, run.zonedev, run.qemu, run.accel
        );
        wrap(&mut out, "", &text, look.width);
        for kernel in &run.kernels {
            wrap(&mut out, "  ", &kernel_words(kernel), look.width);
        }
    }
    if of.old.accel != of.new.accel {
        let text = "the accelerators differ: what depends on time may, too";
        wrap(&mut out, "  ! ", text, look.width);
    }
    let mut sections: Vec<Section> = Vec::new();
    for (which, title, paint) in [
        (Told::FailsNow, "now failing", Paint::Bad),
        (Told::Incomparable, "could not be compared", Paint::Bad),
        (Told::Differs, "differing", Paint::Changed),
        (Told::PassesNow, "now passing", Paint::Good),
    ] {
        let pairs: Vec<&PairRecord> = (of.pairs.iter())
            .filter(|pair| told(pair) == which)
            .map(|(pair, ..)| pair)
            .collect();
        let mut section = verdict_block(&pairs, title, paint, look);
        if let Some(section) = section.as_mut().filter(|_| which == Told::FailsNow) {
            reasons(of, look, section);
        }
        sections.extend(section);
    }
    for (ids, whose) in [(of.only_old, "first"), (of.only_new, "second")] {
        if !ids.is_empty() {
            let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let head = format!("{} of the {whose} run only", count(ids.len(), "cell"));
            let mut section = Section::new(Paint::Head, &head, "item", look);
            let mut text = String::new();
            wrap(&mut text, "  ", &some(&names, MAX_NAMES), look.width);
            section.item(text);
            sections.push(section);
        }
    }
    let pairs: Vec<&PairRecord> = of.pairs.iter().map(|(pair, ..)| pair).collect();
    sections.extend(log_lines(&pairs, look));
    let used = out.matches('\n').count();
    let rows = (look.verbosity != Verbosity::All).then_some(look.rows.saturating_sub(used + 3));
    if fit(&sections, rows, &mut out) {
        out.push_str("\n-v leaves nothing out\n");
    }
    let n = |which| of.pairs.iter().filter(|pair| told(pair) == which).count();
    let tally: Vec<String> = [
        ("fail now", n(Told::FailsNow)),
        ("not comparable", n(Told::Incomparable)),
        ("differ", n(Told::Differs)),
        ("pass now", n(Told::PassesNow)),
        ("same", n(Told::Same)),
    ]
    .iter()
    .filter(|(_, n)| *n > 0)
    .map(|(word, n)| format!("{n} {word}"))
    .collect();
    let (word, paint) = match of.differs() {
        true => ("DIFFERENT", Paint::Bad),
        false => ("no difference", Paint::Good),
    };
    let _ = writeln!(out, "\n{}: {}", look.paint(paint, word), tally.join(", "));
    out
}

fn kernel_words(kernel: &KernelRecord) -> String {
    let of = |key: &str| kernel.provenance.get(key).map(|v| format!(", {key} {v}"));
    let says: String = ["release", "version", "commit"]
        .into_iter()
        .filter_map(of)
        .collect();
    format!("{}, build {}{says}", kernel.name, kernel.build_key)
}

/// Why what fails now does.
fn reasons(of: &Comparison<'_>, look: &Look, section: &mut Section) {
    for pair in of
        .pairs
        .iter()
        .rev()
        .filter(|pair| told(pair) == Told::FailsNow)
    {
        if let (record, _, CellVerdict::Fail { reasons, .. }) = pair
            && let Some(reason) = reasons.first()
        {
            let mut text = String::new();
            wrap(
                &mut text,
                "  ",
                &format!("{}: {reason}", record.other),
                look.width,
            );
            section.first(text);
        }
    }
}

/// A snapshot that was written.
pub fn accepted(path: &str, says: &str, look: &Look) -> String {
    became((Paint::Good, "accepted"), path, says, look)
}

/// A cell whose observation can't be accepted.
pub fn refused(cell: &str, why: &str, look: &Look) -> String {
    became((Paint::Bad, "refused"), cell, why, look)
}

fn became((paint, word): (Paint, &str), of: &str, says: &str, look: &Look) -> String {
    let mut out = String::new();
    let head = format!("{} {of}", look.paint(paint, word));
    wrap(&mut out, "", &head, look.width);
    wrap(&mut out, "    ", says, look.width);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::{cell, run};
    use crate::record::{AcceptState, Difference};

    fn pair(case: &str, verdict: PairVerdict, texts: &[&str]) -> PairRecord {
        let difference = |text: &&str| Difference {
            rank: 4,
            kind: if text.starts_with("a new") {
                "log-line"
            } else {
                "pages"
            }
            .into(),
            at: Some("\"after\"".into()),
            pages: Some((1, 1)),
            text: (*text).into(),
        };
        PairRecord {
            baseline: cell(case, 0, "6.12").id,
            other: cell(case, 0, "7.3").id,
            verdict,
            accepted: AcceptState::NoSnapshot {},
            differences: texts.iter().map(difference).collect(),
        }
    }

    #[test]
    fn what_differs_is_told_worst_first() {
        let kernel = |name: &str, release: &str| KernelRecord {
            name: name.into(),
            contract: name.into(),
            provenance: [("release".to_owned(), release.to_owned())].into(),
            build_key: "1a2b".into(),
        };
        let (mut old, mut new) = (run(), run());
        old.kernels = vec![kernel("6.12", "6.12.1")];
        new.kernels = vec![kernel("7.3", "7.3.4")];
        (new.accel, new.id) = ("kvm".into(), "20261123-160000".into());
        let pass = || CellVerdict::Pass {};
        let fail = || CellVerdict::Fail {
            reasons: vec!["refcount 2 \u{1b}[31m, expected 1".into()],
            violations: Vec::new(),
            kinds: Vec::new(),
        };
        let skip = || CellVerdict::Skip {
            reason: "it can't".into(),
        };
        let pages = ["FS_DAX page idle at 2, baseline 1"];
        let pairs = [
            (
                pair("same", PairVerdict::Same, &["a new line"]),
                pass(),
                pass(),
            ),
            (
                pair("count", PairVerdict::Regressed, &pages),
                pass(),
                pass(),
            ),
            (pair("leak", PairVerdict::Regressed, &pages), pass(), fail()),
            (pair("mends", PairVerdict::Fixed, &pages), fail(), pass()),
            (pair("skip", PairVerdict::Incomparable, &[]), skip(), skip()),
            (pair("gone", PairVerdict::Incomparable, &[]), pass(), skip()),
        ];
        let only = [cell("more", 0, "7.3").id];
        let mut of = Comparison {
            old: &old,
            new: &new,
            pairs: &pairs,
            only_old: &[],
            only_new: &only,
        };
        assert!(of.differs());
        insta::assert_snapshot!(comparison(&of, &Look::plain(90)));
        of.pairs = &pairs[..1];
        assert!(of.differs(), "a cell that only one has");
        of.only_new = &[];
        assert!(!of.differs(), "a line of the log");
    }
}
