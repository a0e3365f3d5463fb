//! What a bisection leaves behind, line by line: enough to go on with after it was killed.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::belief::Trials;
use super::lines::JsonLines;

/// The file in the bisection's folder.
const JOURNAL: &str = "bisect.jsonl";

/// What the steps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Commits of a git tree.
    Commits,
    /// Releases: tags of a git tree.
    Releases,
    /// Patches of a series.
    Patches,
    /// Options of a config.
    Options,
}

/// A step between the ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The kernel, as `-k` takes it.
    pub kernel: String,
    /// Its commit, its tag, its patch's file or its options.
    pub id: String,
    /// The first line of what its author says.
    pub title: String,
    /// Those before it, by number.
    pub parents: Vec<usize>,
    /// The bad end without this step, where that has a name before it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// Later steps that go with it in `without`, by number: they need it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needed_by: Vec<usize>,
}

/// What is asked, and where the answer may lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What the steps are.
    pub kind: Kind,
    /// The good end, as `-k` takes it.
    pub good: String,
    /// The bad end.
    pub bad: String,
    /// SUITE/FIXTURE/CASE.
    pub case: String,
    /// A part of the reason why it fails, where the user gave it.
    pub title: Option<String>,
    /// A step this likely is the answer.
    pub confidence: f64,
    /// A revision of whose objects the steps are built.
    pub tree_base: Option<String>,
    /// The steps, the bad end last.
    pub steps: Vec<Step>,
}

/// Which kernel was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// The good end.
    Good,
    /// A step; the last is the bad end.
    Step(usize),
    /// The bad end without a step.
    Without(usize),
}

/// What came of trying a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tried {
    /// It ran.
    Ran {
        /// How often, and in how many it showed.
        seen: Trials,
    },
    /// It tells nothing, for this reason: it did not build or boot, or failed otherwise.
    Skipped {
        /// Why.
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
    /// The bad end without a step, as it was named when it was asked for; none if it can't be had.
    Reverted {
        /// The step.
        step: usize,
        /// The kernel.
        kernel: Option<String>,
    },
    /// Why the bad end fails: the answer must, too.
    Signature {
        /// The reason, numbers left out.
        reason: String,
    },
    /// A kernel was tried.
    Tried {
        /// Which.
        at: At,
        /// What came of it.
        came: Tried,
        /// Hash of its vmlinux, where it was built.
        vmlinux: Option<String>,
        /// Seconds that building took.
        build_s: f64,
        /// Seconds that the trials took, with what comes before them.
        trials_s: f64,
        /// Seconds of that before the first trial: the boot.
        #[serde(default)]
        start_s: f64,
    },
}

/// A bisection's journal, open to be appended to.
#[derive(Debug)]
pub struct Journal(JsonLines);

impl Journal {
    /// Whether a folder holds one.
    pub fn is_in(dir: &Utf8Path) -> bool {
        dir.join(JOURNAL).exists()
    }

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

/// A reason with its numbers left out: they differ from run to run and from step to step.
pub fn without_numbers(reason: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let hex = word.strip_prefix("0x").unwrap_or(word);
        let number =
            hex.bytes().all(|b| b.is_ascii_hexdigit()) && hex.bytes().any(|b| b.is_ascii_digit());
        out.push_str(if number { "N" } else { word });
        word.clear();
    };
    for c in reason.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    fn question() -> Question {
        Question {
            kind: Kind::Commits,
            good: "tree:l@v1".into(),
            bad: "tree:l@v2".into(),
            case: "fsdax/fsdax-ext4/pin".into(),
            title: None,
            confidence: 0.99,
            tree_base: Some("v1".into()),
            steps: vec![Step {
                kernel: "tree:l@v2".into(),
                id: "abc".into(),
                title: "mm: x".into(),
                parents: vec![],
                without: None,
                needed_by: vec![],
            }],
        }
    }

    #[test]
    fn a_torn_line_is_lost_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap().join("b");
        let journal = Journal::begin(&dir, &question()).unwrap();
        assert!(Journal::begin(&dir, &question()).is_err(), "it is there");
        let tried = |came| Line::Tried {
            at: At::Step(0),
            came,
            vmlinux: None,
            build_s: 1.5,
            trials_s: 0.0,
            start_s: 0.0,
        };
        let seen = Trials {
            trials: 3,
            shown: 1,
        };
        let reason = "it did not build".into();
        let lines = [tried(Tried::Ran { seen }), tried(Tried::Skipped { reason })];
        for line in &lines {
            journal.tell(line).unwrap();
        }
        let path = dir.join(JOURNAL);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"tri");
        fs::write(&path, text).unwrap();
        for _ in 0..2 {
            let (again, read) = Journal::resume(&dir).unwrap();
            assert_eq!(read[1..3], lines);
            assert!(matches!(&read[0], Line::Asked { question: q } if *q == question()));
            again.tell(&lines[0]).unwrap();
        }
        assert_eq!(Journal::resume(&dir).unwrap().1.len(), 5);
    }

    #[test]
    fn numbers_are_left_out_and_names_are_not() {
        assert_eq!(
            without_numbers("at \"released\": refcount 2 at pfn 0x1002ff, vmsplice_4k, fsdax-ext4"),
            "at \"released\": refcount N at pfn N, vmsplice_4k, fsdax-ext4"
        );
        assert_eq!(without_numbers("dead face 12"), "dead face N");
    }
}
