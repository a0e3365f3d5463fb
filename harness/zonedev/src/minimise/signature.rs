//! What a failure is recognised by: the reason's title, without what differs from trial to trial and
//! from candidate to candidate.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bisect::without_numbers;
use crate::record::CellVerdict;

/// Why the case fails, and what else is said when it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The reason, numbers left out. A candidate must fail by it.
    pub reason: String,
    /// What may be said beside it, wherever in the case.
    pub beside: BTreeSet<String>,
}

/// What a trial is to a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is {
    /// It fails so.
    Shows,
    /// It does not fail, or as the whole case did beside it.
    Passes,
    /// It fails in a way in which the whole case never did, for this reason.
    Otherwise(String),
}

/// What says little where a kernel's report says more.
const VAGUE: [&str; 3] = ["the guest died", "the agent was lost", "known to go wrong"];

impl Signature {
    /// Of a failed cell's reasons: the first one that has `part` in it; without, the first that says
    /// more than that the guest is gone.
    pub fn of(reasons: &[String], part: Option<&str>) -> Option<Self> {
        let vague = |r: &&String| VAGUE.iter().any(|v| r.contains(v));
        let mut said = reasons.iter().filter(|r| title(r).is_some());
        let chosen = match part {
            Some(part) => said.find(|r| r.contains(part)),
            None => {
                let first = said.clone().find(|r| !vague(r));
                first.or_else(|| said.next())
            }
        };
        let mut signature = Signature {
            reason: title(chosen?)?,
            beside: BTreeSet::new(),
        };
        signature.beside(reasons);
        Some(signature)
    }

    /// What the whole case said in a further trial may be said.
    pub fn beside(&mut self, reasons: &[String]) {
        let said = reasons.iter().filter_map(|r| title(r));
        self.beside.extend(said.map(|r| anywhere(&r).to_owned()));
    }

    /// The reason that it is recognised by, among others.
    pub fn find<'a>(&self, reasons: &'a [String]) -> Option<&'a String> {
        let is = |r: &&String| title(r).is_some_and(|t| t == self.reason);
        reasons.iter().find(is)
    }

    /// What a trial's verdict is. `None`: the host or the harness broke it.
    pub fn judge(&self, verdict: &CellVerdict) -> Option<Is> {
        let reasons = match verdict {
            CellVerdict::Pass {} => return Some(Is::Passes),
            CellVerdict::Fail { reasons, .. } => reasons,
            CellVerdict::Skip { reason } => return Some(Is::Otherwise(reason.clone())),
            CellVerdict::Error { .. } => return None,
        };
        let titles: Vec<(String, &String)> = (reasons.iter())
            .filter_map(|r| title(r).map(|t| (t, r)))
            .collect();
        let new = titles
            .iter()
            .find(|(t, _)| *t != self.reason && !self.beside.contains(anywhere(t)));
        Some(match new {
            Some((_, reason)) => Is::Otherwise((*reason).clone()),
            None if titles.iter().any(|(t, _)| *t == self.reason) => Is::Shows,
            None => Is::Passes,
        })
    }
}

/// A reason without what a smaller case or another trial changes. `None`: it counts runs, and is none.
fn title(reason: &str) -> Option<String> {
    if reason.contains(" runs did not pass") || reason.ends_with(" further reasons") {
        return None;
    }
    if let Some(text) = violation(reason) {
        return Some(without_numbers(&text));
    }
    let text = if reason.starts_with("step ") {
        hang(reason)
    } else if let Some((of, at)) = reason
        .split_once(" at step ")
        .or_else(|| reason.split_once(" at before the first step"))
    {
        // A report comes when its time comes; a guest dies of something.
        match (of.starts_with("the "), at.split_once(": ")) {
            (true, Some((_, how))) => format!("{of}: {how}"),
            _ => of.to_owned(),
        }
    } else {
        reason.to_owned()
    };
    Some(without_numbers(&text))
}

/// What an actor does that has nothing to do, and the server of a network block device.
const IDLE: [&str; 2] = ["waits in unix_stream_read_generic", "waits in nbd_ioctl"];

/// Where it hangs, not who else is there and holds what.
fn hang(reason: &str) -> String {
    let Some((what, places)) = reason.split_once("; ") else {
        return reason.to_owned();
    };
    let places = places.split(", ").filter(|place| {
        !place.starts_with("pfn ") && !IDLE.iter().any(|idle| place.contains(idle))
    });
    let places: BTreeSet<String> = places.map(without_numbers).collect();
    let places: Vec<String> = places.into_iter().collect();
    format!("{what}; {}", places.join(", "))
}

/// A break of the contract: where and what, whether there is too much or too little, and not how the
/// expectation came about.
fn violation(reason: &str) -> Option<String> {
    let (what, counts) = reason.strip_prefix("at \"")?.split_once(": expected ")?;
    let (expected, found) = counts.split_once(", found ")?;
    let found = found.rsplit_once(" (").map_or(found, |(found, _)| found);
    // Also which pages: their number goes with the sizes.
    let what = what.split(" of ").next().unwrap_or(what);
    let counts = match (expected.parse::<i64>(), found.parse::<i64>()) {
        (Ok(expected), Ok(found)) if found > expected => "more than expected".to_owned(),
        (Ok(_), Ok(_)) => "less than expected".to_owned(),
        _ => format!("expected {expected}, found {found}"),
    };
    Some(format!("at \"{what}: {counts}"))
}

/// The same at any checkpoint.
fn anywhere(title: &str) -> &str {
    title
        .strip_prefix("at \"")
        .and_then(|rest| Some(rest.split_once("\": ")?.1))
        .unwrap_or(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(reasons: &[&str]) -> Vec<String> {
        reasons.iter().map(|r| (*r).to_owned()).collect()
    }

    fn fails(reasons: &[&str]) -> CellVerdict {
        CellVerdict::Fail {
            reasons: own(reasons),
            violations: Vec::new(),
            kinds: Vec::new(),
        }
    }

    const LEAK: &str = "at \"released\": namespace0.0 FS_DAX refcount of 8 pages from pfn 0x101204 (page 4612): expected 1, found 2 (idle 1, 1 PTE counting 0)";
    const LATER: &str = "at \"after\": namespace0.0 FS_DAX refcount of 8 pages from pfn 0x101204 (page 4612): expected 1, found 2 (idle 1)";

    #[test]
    fn a_smaller_case_fails_by_the_same_reason() {
        let signature = Signature::of(&own(&[LEAK, LATER]), None).unwrap();
        assert_eq!(
            signature.reason,
            "at \"released\": namespace0.N FS_DAX refcount: more than expected"
        );
        let smaller = "at \"released\": namespace0.0 FS_DAX refcount of 1 page from pfn 0x9 (page 9): expected 1, found 3 (idle 1)";
        let is = |reasons: &[&str]| signature.judge(&fails(reasons)).unwrap();
        assert_eq!(is(&[smaller]), Is::Shows);
        assert_eq!(is(&[smaller, LATER]), Is::Shows);
        // Elsewhere only, or too little instead of too much.
        assert_eq!(is(&[LATER]), Is::Passes);
        let less = LEAK.replace("found 2", "found 0");
        assert!(matches!(is(&[&less]), Is::Otherwise(_)));
        let also = "step 3 read gave ENOENT from open, expected ok";
        assert_eq!(is(&[smaller, also]), Is::Otherwise(also.to_owned()));
        assert_eq!(is(&[]), Is::Passes);
        let error = CellVerdict::Error {
            reason: "x".into(),
            host: true,
        };
        assert_eq!(signature.judge(&error), None);
        let skip = CellVerdict::Skip { reason: "x".into() };
        assert_eq!(signature.judge(&skip), Some(Is::Otherwise("x".into())));
    }

    #[test]
    fn a_report_says_more_than_that_the_guest_is_gone() {
        let died = "the guest died at step 7 touch: panic";
        let bug = "kernel BUG in free_zone_device_folio at step 7 touch (mm/memremap.c:461)";
        let signature = Signature::of(&own(&[died, bug]), None).unwrap();
        assert_eq!(signature.reason, "kernel BUG in free_zone_device_folio");
        let elsewhere = bug.replace("step 7 touch", "step 2 unmap");
        let died_elsewhere = died.replace("step 7 touch", "step 2 unmap");
        let is = signature.judge(&fails(&[&died_elsewhere, &elsewhere]));
        assert_eq!(is, Some(Is::Shows));
        let named = Signature::of(&own(&[died, bug]), Some("guest died")).unwrap();
        assert_eq!(named.reason, "the guest died: panic");
        assert_eq!(Signature::of(&own(&[died]), Some("no such")), None);
        assert_eq!(Signature::of(&[], None), None);
        let counted = "3 of 9 runs did not pass: 1, 2, 3";
        assert_eq!(Signature::of(&own(&[counted]), None), None);
    }

    #[test]
    fn a_hang_is_where_it_waits_and_not_who_pins() {
        let hang = "step 6 truncate did not end: no answer within 60 s; agent/66 waits in ext4_break_layouts (fs/ext4/inode.c:3982), pfn 0x101204 is pinned by vmsplice of main";
        let signature = Signature::of(&own(&[hang]), None).unwrap();
        let sooner = "step 3 truncate did not end: no answer within 12 s; agent/60 waits in unix_stream_read_generic (net/unix/af_unix.c:2874), agent/61 waits in ext4_break_layouts (fs/ext4/inode.c:3982)";
        assert_eq!(signature.judge(&fails(&[sooner])), Some(Is::Shows));
        let elsewhere = sooner.replace("ext4_break_layouts", "folio_wait_bit_common");
        let is = signature.judge(&fails(&[&elsewhere]));
        assert_eq!(is, Some(Is::Otherwise(elsewhere)));
    }

    #[test]
    fn what_the_whole_case_says_now_and_then_is_no_new_failure() {
        let mut signature = Signature::of(&own(&[LEAK]), None).unwrap();
        let other = "WARNING in dax_disassociate_entry at step 9 truncate (fs/dax.c:402)";
        let is = signature.judge(&fails(&[other]));
        assert!(matches!(is, Some(Is::Otherwise(_))));
        signature.beside(&own(&[other]));
        assert_eq!(signature.judge(&fails(&[other])), Some(Is::Passes));
        assert_eq!(signature.judge(&fails(&[LEAK, other])), Some(Is::Shows));
    }
}
