//! Which broken kernels were found out, and by what.

use camino::Utf8PathBuf;

use super::text::{count, duration};
use crate::record::{CellId, FailureKind};
use crate::spec::Mutant;

/// What came of one mutant.
#[derive(Clone, Debug)]
pub struct MutantRow {
    /// Which.
    pub mutant: Mutant,
    /// The cells that failed, and how.
    pub failed: Vec<(CellId, Vec<FailureKind>)>,
    /// Cells that ran.
    pub cells: usize,
    /// Milliseconds that the cases took; `None` where there was no run.
    pub ran_ms: Option<u64>,
    /// Milliseconds, with the build.
    pub took_ms: u64,
    /// How its matrix ended.
    pub exit: Option<i32>,
    /// What it said.
    pub log: Utf8PathBuf,
}

impl MutantRow {
    /// Whether any cell failed by the kernel.
    pub fn is_found(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The cell that fails as is expected.
    fn expected(&self) -> Option<&CellId> {
        let finding = &self.mutant.finding;
        self.failed
            .iter()
            .find(|(id, kinds)| {
                id.case_path().contains(&finding.case) && kinds.contains(&finding.kind)
            })
            .map(|(id, _)| id)
    }

    /// Whether it went as its entry says: found so, or known to be missed.
    pub fn is_as_expected(&self) -> bool {
        match self.mutant.missed {
            Some(_) => self.ran_ms.is_some() && !self.is_found(),
            None => self.expected().is_some(),
        }
    }

    /// In one line, without its name.
    pub fn words(&self) -> String {
        let Some(ran) = self.ran_ms else {
            let exit = self
                .exit
                .map_or("a signal".to_owned(), |c| format!("exit {c}"));
            return format!("NOT RUN ({exit}; {})", self.log);
        };
        let Some((first, kinds)) = self.failed.first() else {
            let why = match &self.mutant.missed {
                Some(why) => format!("missed, as is known: {why}"),
                None => "MISSED".to_owned(),
            };
            return format!("{why}: {} in {}", count(self.cells, "cell"), duration(ran));
        };
        let (by, kind) = match self.expected() {
            Some(id) => (id, self.mutant.finding.kind.word().to_owned()),
            None => {
                let kinds: Vec<&str> = kinds.iter().map(|k| k.word()).collect();
                (first, format!("{}, NOT AS EXPECTED", kinds.join(", ")))
            }
        };
        format!(
            "found by {} ({kind}): {} of {} in {}",
            by.case_path(),
            self.failed.len(),
            count(self.cells, "cell"),
            duration(ran)
        )
    }
}

/// A table in Markdown, and the sum of it.
pub fn mutants_table(rows: &[MutantRow]) -> String {
    let mut out = String::from("| kernel | mutant | |\n|---|---|---|\n");
    for row in rows {
        out.push_str(&format!(
            "| {} | {} | {} |\n",
            row.mutant.kernel,
            super::escape(&row.mutant.breaks).replace('|', "\\|"),
            super::escape(&row.words()).replace('|', "\\|"),
        ));
    }
    let found = rows.iter().filter(|r| r.is_found()).count();
    out.push_str(&format!(
        "\n{found} of {} found\n",
        count(rows.len(), "mutant")
    ));
    out
}
