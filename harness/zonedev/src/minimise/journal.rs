//! What a minimisation leaves behind, line by line: enough to go on with after it was killed.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::bisect::JsonLines;

use super::signature::Signature;

/// The file in the minimisation's folder.
const JOURNAL: &str = "minimise.jsonl";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The run's folder, absolute.
    pub run: String,
    /// SUITE/FIXTURE/CASE of it.
    pub case: String,
    /// The kernel that fails, as `-k` takes it.
    pub kernel: String,
    /// A kernel on which a candidate must pass.
    pub good: Option<String>,
    /// Why it fails.
    pub signature: Signature,
    /// Whether it hangs.
    pub hangs: bool,
    /// Seconds that an operation is waited for while there are many candidates.
    pub hurry_s: u64,
    /// Hash of the whole case's steps.
    pub program: String,
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Came {
    /// It failed as the whole case does.
    Shows {},
    /// It did not.
    Passes {},
    /// It failed in another way.
    Otherwise {
        /// How.
        reason: String,
    },
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line {
    /// The first one.
    Asked {
        /// What.
        question: Question,
    },
    /// A trial of the whole case, before anything is left out.
    Whole {
        /// What came of it.
        came: Came,
        /// What it said.
        reasons: Vec<String>,
        /// Seconds that it took.
        took_s: f64,
    },
    /// A trial of a candidate.
    Trial {
        /// Its hash.
        program: String,
        /// On the good kernel.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        good: bool,
        /// What came of it.
        came: Came,
        /// Seconds that it took.
        took_s: f64,
    },
    /// From here on nothing is hurried: what was refused before may fail after all.
    Patient {},
    /// Time that passed from the beginning, or from going on, to the end of the search.
    Searched {
        /// Seconds.
        took_s: f64,
    },
    /// A trial of the result.
    Result {
        /// Its hash.
        program: String,
        /// What came of it.
        came: Came,
        /// The reason, with its numbers, where it shows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Seconds that it took.
        took_s: f64,
    },
}

/// A minimisation's journal, open to be appended to.
#[derive(Clone, Debug)]
pub struct Journal(JsonLines);

impl Journal {
    /// Begins one in a new folder.
    ///
    /// # Errors
    /// Where there is one already, or it can't be written.
    pub fn begin(dir: &Utf8Path, question: &Question) -> std::io::Result<Self> {
        let question = question.clone();
        JsonLines::begin(dir, JOURNAL, &Line::Asked { question }).map(Journal)
    }

    /// Opens one to go on with: its lines, but for one that is torn, which goes.
    ///
    /// # Errors
    /// Where there is none, or it is none.
    pub fn resume(dir: &Utf8Path) -> std::io::Result<(Self, Vec<Line>)> {
        let (journal, lines) = JsonLines::resume(dir, JOURNAL)?;
        Ok((Journal(journal), lines))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn tell(&self, line: &Line) -> std::io::Result<()> {
        self.0.tell(line)
    }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn a_torn_line_is_lost_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap().join("m");
        let reasons = ["WARNING in x at step 3 touch".to_owned()];
        let question = Question {
            run: "/runs/1".into(),
            case: "fsdax/fsdax-ext4/pin".into(),
            kernel: "6.12".into(),
            good: None,
            signature: Signature::of(&reasons, None).unwrap(),
            hangs: false,
            hurry_s: 10,
            program: "abc".into(),
        };
        let journal = Journal::begin(&dir, &question).unwrap();
        assert!(Journal::begin(&dir, &question).is_err(), "it is there");
        let trial = |good, came| Line::Trial {
            program: "abc".into(),
            good,
            came,
            took_s: 1.5,
        };
        let reason = "it hangs".to_owned();
        let lines = [
            trial(false, Came::Shows {}),
            trial(true, Came::Passes {}),
            trial(false, Came::Otherwise { reason }),
            Line::Patient {},
        ];
        for line in &lines {
            journal.tell(line).unwrap();
        }
        let path = dir.join(JOURNAL);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"event\":\"tri")).unwrap();
        let (again, read) = Journal::resume(&dir).unwrap();
        assert_eq!(read[0], Line::Asked { question });
        assert_eq!(read[1..], lines);
        again.tell(&lines[0]).unwrap();
        assert_eq!(Journal::resume(&dir).unwrap().1.len(), 6);
    }
}
