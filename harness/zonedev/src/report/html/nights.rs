//! What earlier runs say of this one's cells: the section of the history.

use std::collections::HashMap;

use super::escape::link;
use crate::history::{CaseHistory, HistoryPage, Rate, State};
use crate::record::{CellId, RunRecord};

/// Cases that are told; the others are counted.
const MAX_CASES: usize = 200;
/// Runs of a case that are shown, the last ones.
const MAX_POINTS: usize = 60;

/// The section.
pub(super) struct Nights {
    /// How many runs there are, this one among them where it was imported.
    pub(super) runs: usize,
    /// When the first and the last of them began.
    pub(super) first: String,
    pub(super) last: String,
    /// Whether this run is among them.
    pub(super) has_this: bool,
    /// Those that are red or flaky, red ones first.
    pub(super) cases: Vec<Night>,
    /// How many more of them there are.
    pub(super) more: usize,
    /// How many always passed.
    pub(super) steady: usize,
}

/// A case on one kernel, over the runs.
pub(super) struct Night {
    pub(super) name: String,
    pub(super) kernel: String,
    /// To its cell; empty where there is none, as of a pair.
    pub(super) href: String,
    pub(super) red: bool,
    /// A letter a run, oldest first, and the class that colours it.
    pub(super) letters: Vec<(char, &'static str)>,
    /// Since when, how often, how long: in words.
    pub(super) says: Vec<String>,
}

/// Of a run whose history is known; nothing where no earlier run is.
pub(super) fn nights(run: &RunRecord, history: Option<&HistoryPage>) -> Option<Nights> {
    let page = history.filter(|page| page.runs.iter().len() > usize::from(page.this.is_some()))?;
    let ids = run.cells.iter().map(|(id, _)| id).chain(&run.unfinished);
    let ids: HashMap<(String, &str), &CellId> = ids
        .map(|id| ((id.case_path(), id.kernel.as_str()), id))
        .collect();
    let mut told: Vec<&CaseHistory> = (page.cases.iter())
        .filter(|case| case.red || case.flaky.is_some())
        .collect();
    // What became red last is what somebody asks about first.
    told.sort_by_key(|case| (!case.red, std::cmp::Reverse(case.red_since)));
    let steady = page.cases.len() - told.len();
    let night = |case: &&CaseHistory| {
        let id = ids.get(&(case.case.clone(), case.kernel.as_str()));
        Night {
            name: case.case.clone(),
            kernel: case.kernel.clone(),
            href: id.map_or_else(String::new, |id| link(id, None)),
            red: case.red,
            letters: letters(case, page),
            says: says(case, page),
        }
    };
    let date =
        |run: Option<&crate::history::RunRef>| run.map_or("", |r| day(&r.started)).to_owned();
    Some(Nights {
        runs: page.runs.len(),
        first: date(page.runs.first()),
        last: date(page.runs.last()),
        has_this: page.this.is_some(),
        more: told.len().saturating_sub(MAX_CASES),
        cases: told.iter().take(MAX_CASES).map(night).collect(),
        steady,
    })
}

/// The day of RFC 3339.
fn day(started: &str) -> &str {
    started.split('T').next().unwrap_or_default()
}

fn letters(case: &CaseHistory, page: &HistoryPage) -> Vec<(char, &'static str)> {
    let of: HashMap<usize, State> = case.points.iter().map(|p| (p.run, p.state)).collect();
    let from = page.runs.len().saturating_sub(MAX_POINTS);
    let letter = |run| match of.get(&run) {
        None => ('-', "dim"),
        Some(State::Fail) => ('F', "w-fail"),
        Some(State::Pass) => ('.', "w-pass"),
        Some(state) => (state.letter(), "dim"),
    };
    (from..page.runs.len()).map(letter).collect()
}

fn says(case: &CaseHistory, page: &HistoryPage) -> Vec<String> {
    let run = |n: usize| page.runs.get(n);
    let mut out = Vec::new();
    if let Some(since) = case.red_since.and_then(run) {
        let green = match case.last_green.and_then(run) {
            Some(green) => format!("; green last on {} ({})", day(&green.started), green.name),
            None => "; never seen green".to_owned(),
        };
        out.push(format!(
            "red since {} ({}){green}",
            day(&since.started),
            since.name
        ));
    }
    if let Some(Rate {
        came,
        of,
        between: (least, most),
    }) = case.flaky
    {
        out.push(format!(
            "flaky: failed {came} of {of} times on the same build, {:.0} to {:.0} %",
            100.0 * least,
            100.0 * most
        ));
    }
    if let Some(ms) = case.median_ms {
        let took = case.points.iter().rfind(|p| Some(p.run) == page.this);
        let took = took.and_then(|p| p.took_ms);
        let now = took.map_or_else(String::new, |ms| format!(", {} now", seconds(ms)));
        out.push(format!("takes {}{now}", seconds(ms)));
    }
    out
}

fn seconds(ms: u64) -> String {
    crate::report::text::duration(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{PagePoint, RunRef};

    fn page(this: Option<usize>) -> HistoryPage {
        let run = |n: i64| RunRef {
            started: format!("2026-11-{:02}T01:17:00Z", n + 1),
            name: format!("night-{n}"),
            id: n,
        };
        let point = |(run, state)| PagePoint {
            run,
            state,
            took_ms: Some(1200),
            build: 0,
        };
        let case = |case: &str, states: &[State]| CaseHistory {
            case: format!("fsdax/fsdax-ext4/{case}"),
            kernel: "6.12".into(),
            points: states.iter().copied().enumerate().map(point).collect(),
            red: states.last() == Some(&State::Fail),
            red_since: states.iter().position(|s| *s == State::Fail),
            last_green: states.iter().rposition(|s| *s == State::Pass),
            flaky: None,
            median_ms: Some(1100),
        };
        HistoryPage {
            runs: (0..3).map(run).collect(),
            this,
            accel: "tcg".into(),
            builds: vec!["b".into()],
            cases: vec![
                case("steady", &[State::Pass, State::Pass, State::Pass]),
                case("red", &[State::Pass, State::Fail, State::Fail]),
            ],
        }
    }

    #[test]
    fn what_is_red_is_told_with_the_day_and_what_always_passed_is_counted() {
        let mut run = crate::record::testing::run();
        let id = CellId {
            suite: "fsdax".into(),
            fixture: "fsdax-ext4".into(),
            case: "red".into(),
            side: 0,
            kernel: "6.12".into(),
        };
        run.cells = vec![(id, crate::record::CellVerdict::Pass {})];
        let nights = nights(&run, Some(&page(Some(2)))).unwrap();
        assert_eq!((nights.runs, nights.steady, nights.more), (3, 1, 0));
        let night = &nights.cases[0];
        assert!(
            night.red && night.href.starts_with("#cell="),
            "{}",
            night.href
        );
        let letters: String = night.letters.iter().map(|(c, _)| c).collect();
        assert_eq!(letters, ".FF");
        assert_eq!(
            night.says,
            [
                "red since 2026-11-02 (night-1); green last on 2026-11-01 (night-0)",
                "takes 1.1 s, 1.2 s now"
            ]
        );
    }

    #[test]
    fn a_run_without_others_has_no_history() {
        let run = crate::record::testing::run();
        assert!(nights(&run, None).is_none());
        let mut alone = page(Some(0));
        alone.runs.truncate(1);
        assert!(nights(&run, Some(&alone)).is_none());
    }
}
