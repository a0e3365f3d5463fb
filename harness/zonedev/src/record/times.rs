//! How long each cell of a run took, by its journal: the cells' own records say so too, but there
//! are megabytes of them.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use super::{CellId, Event};

/// Bytes of one line of a journal that are read; a longer line tells no cell's end.
const LONGEST: u64 = 1 << 20;

/// Milliseconds by cell; of a cell that ran again after a resumption, the last. Lines that are torn
/// or of a later version are passed over.
///
/// # Errors
/// Where it can't be read.
pub(super) fn times(mut journal: impl BufRead) -> std::io::Result<BTreeMap<CellId, u64>> {
    let mut out = BTreeMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = journal
            .by_ref()
            .take(LONGEST)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(out);
        }
        // Most lines are steps.
        if !line.starts_with(br#"{"event":"cell-finished""#) {
            continue;
        }
        if let Ok(Event::CellFinished { cell, took_ms, .. }) = serde_json::from_slice(&line) {
            out.insert(cell, took_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CellVerdict;
    use crate::record::testing::cell;

    #[test]
    fn the_last_end_of_a_cell_counts_and_torn_lines_do_not() {
        let ended = |case: &str, took_ms| {
            let event = Event::CellFinished {
                cell: cell(case, 0, "6.12").id,
                verdict: CellVerdict::Pass {},
                took_ms,
            };
            serde_json::to_string(&event).unwrap()
        };
        let other = serde_json::to_string(&Event::Notice {
            message: "x".into(),
        })
        .unwrap();
        let whole = ended("b", 9);
        let torn = &whole[..whole.len() - 5];
        let (first, last) = (ended("a", 5), ended("a", 7));
        let text = [first.as_str(), &other, &last, torn].join("\n");
        let times = times(text.as_bytes()).unwrap();
        assert_eq!(times, BTreeMap::from([(cell("a", 0, "6.12").id, 7)]));
    }
}
