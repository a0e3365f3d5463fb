//! The journals of parts, read as they grow.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};

use camino::{Utf8Path, Utf8PathBuf};

use crate::record::{CellId, CellVerdict, Event};

/// Bytes read of one journal at a time.
const MOST: u64 = 4 << 20;

/// Reads journals on, and tells what is new to the run.
#[derive(Debug, Default)]
pub struct Follower {
    offsets: HashMap<Utf8PathBuf, u64>,
    finished: HashSet<CellId>,
    notices: HashSet<String>,
}

impl Follower {
    /// What has happened in an attempt since the last time. Of cells and notices the first one is told, of those
    /// that another attempt or part tells again only what went wrong; builds, and the part's own begin and end,
    /// are not the run's.
    pub fn news(&mut self, attempt: &Utf8Path) -> Vec<Event> {
        let mut news = self.lines(attempt);
        news.retain(|event| match event {
            Event::RunStarted { .. }
            | Event::RunFinished { .. }
            | Event::BuildStarted { .. }
            | Event::BuildProgress { .. }
            | Event::BuildFinished { cached: true, .. } => false,
            Event::CellFinished { cell, verdict, .. } => {
                let again = !self.finished.insert(cell.clone());
                !again || (cell.suite == "boot" && wrong(verdict))
            }
            Event::Notice { message } => self.notices.insert(message.clone()),
            _ => true,
        });
        news
    }

    /// How many cells have been told as finished.
    pub fn finished(&self) -> usize {
        self.finished.len()
    }

    /// The whole lines that are new. Trouble with reading is over the next time, or the part's record tells.
    fn lines(&mut self, attempt: &Utf8Path) -> Vec<Event> {
        let Ok(mut file) = fs_err::File::open(attempt.join("journal.jsonl")) else {
            return Vec::new();
        };
        let offset = self.offsets.entry(attempt.to_owned()).or_default();
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(*offset))
            .and_then(|_| file.take(MOST).read_to_end(&mut bytes));
        if read.is_err() {
            return Vec::new();
        }
        let whole = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            // No line is so long; it is passed over.
            None if bytes.len() as u64 == MOST => bytes.len(),
            None => 0,
        };
        *offset += whole as u64;
        let lines = bytes[..whole].split(|b| *b == b'\n');
        lines
            .filter_map(|l| serde_json::from_slice(l).ok())
            .collect()
    }
}

fn wrong(verdict: &CellVerdict) -> bool {
    matches!(
        verdict,
        CellVerdict::Fail { .. } | CellVerdict::Error { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::record::testing::cell;

    #[test]
    fn each_event_is_told_once_also_where_a_later_attempt_tells_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let (first, second) = (dir.join("9_1.0"), dir.join("10_1.0"));
        for attempt in [&first, &second] {
            fs_err::create_dir_all(attempt).unwrap();
        }
        let append = |to: &Utf8Path, text: &str| {
            let mut options = std::fs::File::options();
            let mut file = options
                .append(true)
                .create(true)
                .open(to.join("journal.jsonl"))
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let ended = |case: &str, verdict| {
            let event = Event::CellFinished {
                cell: cell(case, 0, "6.12").id,
                verdict,
                took_ms: 5,
            };
            serde_json::to_string(&event).unwrap() + "\n"
        };
        let names = |events: &[Event]| -> Vec<String> {
            let name = |e: &Event| match e {
                Event::CellFinished { cell, .. } => cell.case.clone(),
                other => format!("{other:?}"),
            };
            events.iter().map(name).collect()
        };
        let mut follower = Follower::default();
        assert_eq!(follower.news(&first), []);
        let b = ended("b", CellVerdict::Pass {});
        append(&first, &ended("a", CellVerdict::Pass {}));
        append(&first, "nonsense\n");
        append(&first, &b[..b.len() - 9]);
        assert_eq!(names(&follower.news(&first)), ["a"]);
        assert_eq!(names(&follower.news(&first)), Vec::<String>::new());
        append(&first, &b[b.len() - 9..]);
        assert_eq!(names(&follower.news(&first)), ["b"]);
        // The next attempt takes these over, and goes on.
        append(&second, &ended("a", CellVerdict::Pass {}));
        append(&second, &b);
        append(&second, &ended("c", CellVerdict::Pass {}));
        assert_eq!(names(&follower.news(&second)), ["c"]);
        assert_eq!(follower.finished(), 3);
    }
}
