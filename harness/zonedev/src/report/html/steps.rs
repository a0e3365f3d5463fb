//! What was done, step by step, and what came of it.

use proto::{Fact, Op, StepResult};
use serde::Serialize;

use super::cells::Cells;
use crate::record::{CellRecord, StepRecord};

/// Characters of a program's output that are kept.
const MAX_OUTPUT: usize = 48 << 10;
/// Facts told of one step.
const MAX_FACTS: usize = 8;

/// A step as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// The process that did it.
    actor: String,
    /// `pin`.
    word: String,
    /// `how=vmsplice length=32K map=m`.
    words: String,
    /// Of a race: what its threads do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arms: Vec<String>,
    /// The outcome's word; empty where it did not run.
    #[serde(skip_serializing_if = "String::is_empty")]
    gives: String,
    /// More of the outcome, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What was expected, where it is something else than `ok`.
    #[serde(skip_serializing_if = "String::is_empty")]
    expected: String,
    /// Reports that are expected of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expected_reports: Vec<String>,
    /// Microseconds of guest time.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_us: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Output>,
}

#[derive(Debug, Serialize)]
struct Output {
    text: String,
    code: i32,
    /// Whether this is not all of it.
    cut: bool,
}

/// Every step of a cell.
pub(super) fn steps(cell: &CellRecord, cells: &dyn Cells) -> Vec<Step> {
    cell.steps.iter().map(|s| step(s, cells)).collect()
}

fn step(of: &StepRecord, cells: &dyn Cells) -> Step {
    let words = cells.operation(&of.op);
    let word = of.op.word().to_owned();
    let arms = match &of.op {
        Op::Race { arm, .. } => arm.iter().map(|op| cells.operation(op)).collect(),
        _ => Vec::new(),
    };
    let result = of.outcome.as_ref().map(|o| &o.result);
    let output = of.outcome.as_ref().and_then(|o| o.output.as_ref());
    Step {
        actor: of.actor.clone(),
        words: words
            .strip_prefix(&word)
            .map_or(words.as_str(), str::trim_start)
            .to_owned(),
        word,
        arms,
        gives: result.map(|r| r.word().to_owned()).unwrap_or_default(),
        detail: result.map(detail).unwrap_or_default(),
        expected: if of.expected == "ok" && result.is_some_and(|r| r.word() == "ok") {
            String::new()
        } else {
            of.expected.clone()
        },
        expected_reports: of.expected_splats.clone(),
        took_us: of.outcome.as_ref().map(|o| o.took_us),
        facts: facts(of),
        output: output.map(|o| {
            let text: String = o.text.chars().take(MAX_OUTPUT).collect();
            Output {
                cut: o.cut || text.len() < o.text.len(),
                text,
                code: o.code,
            }
        }),
    }
}

fn detail(result: &StepResult) -> String {
    match result {
        StepResult::Ok {} | StepResult::Signal { .. } => String::new(),
        StepResult::Errno { call, .. } => format!("from {call}"),
        StepResult::Blocked { wchan } => format!("in {wchan}"),
        StepResult::Died { how } => how.clone(),
        StepResult::WrongData {
            offset,
            expected,
            found,
        } => format!("at byte {offset:#x}: {found:#x} instead of {expected:#x}"),
        StepResult::Lacks { what } => what.clone(),
        StepResult::Failed { message } => message.clone(),
    }
}

fn facts(step: &StepRecord) -> Vec<String> {
    let facts = step.outcome.iter().flat_map(|o| &o.facts);
    let mut out: Vec<String> = facts.filter_map(fact).collect();
    if out.len() > MAX_FACTS {
        let more = out.len() - MAX_FACTS;
        out.truncate(MAX_FACTS);
        out.push(format!("and {more} more"));
    }
    out
}

/// A fact from which the ledger goes on; what pagemap and snapshots say is compared, and told as a
/// mismatch where it differs.
fn fact(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::Touched {
            pages,
            faults,
            neighbours,
            write,
            ..
        } => {
            let how = if *write { "stores to" } else { "loads of" };
            let by = match neighbours {
                Some(true) => ", mapped by a PMD",
                Some(false) => ", mapped by PTEs",
                None => "",
            };
            format!("{how} {pages} pages: {faults} faults{by}")
        }
        Fact::Extents { file, extents } => {
            let places: Vec<String> = extents
                .iter()
                .take(3)
                .map(|e| {
                    let last = e.page.saturating_add(e.pages).saturating_sub(1);
                    format!("{}-{last} at pfn {:#x}", e.page, e.pfn)
                })
                .collect();
            let more = match extents.len().saturating_sub(3) {
                0 => String::new(),
                n => format!(" and {n} more extents"),
            };
            format!("{file}: pages {}{more}", places.join(", "))
        }
        Fact::Large { map, pages } => {
            format!("the device has {} PMD entries of {map}", pages.len())
        }
        Fact::Signalled {
            map,
            code,
            page,
            lsb,
        } => format!("siginfo: page {page} of {map}, si_code {code}, si_addr_lsb {lsb}"),
        Fact::Mapped { .. } | Fact::Snapshot { .. } | Fact::Pagemap { .. } => return None,
    })
}
