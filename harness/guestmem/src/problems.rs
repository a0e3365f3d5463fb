//! Collects problems: neighbours are joined, and their number is bounded.

use crate::reading::{Problem, ProblemKind};

/// Problems kept; a corrupt guest could make one per page.
const MAX_PROBLEMS: usize = 256;

#[derive(Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    left_out: u64,
}

impl Problems {
    /// A problem that concerns no particular pages.
    pub(crate) fn add(&mut self, kind: ProblemKind, what: String) {
        self.push(Problem {
            kind,
            pfn: None,
            pages: 0,
            what,
        });
    }

    /// A problem of `pages` pages from `pfn` on.
    pub(crate) fn pages(&mut self, kind: ProblemKind, pfn: u64, pages: u64, what: &str) {
        if let Some(last) = self.list.last_mut()
            && last.kind == kind
            && last
                .pfn
                .is_some_and(|p| p.saturating_add(last.pages) == pfn)
            && last.what == what
        {
            last.pages += pages;
            return;
        }
        self.push(Problem {
            kind,
            pfn: Some(pfn),
            pages,
            what: what.to_owned(),
        });
    }

    fn push(&mut self, problem: Problem) {
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            self.list.push(Problem {
                kind: ProblemKind::Limit,
                pfn: None,
                pages: 0,
                what: format!("{} further problems were left out", self.left_out),
            });
        }
        self.list
    }
}

/// Problems of one walk in words; of very many only the first.
#[derive(Default)]
pub(crate) struct Words {
    list: Vec<String>,
    left_out: u64,
}

impl Words {
    const MAX: usize = 64;

    pub(crate) fn push(&mut self, what: String) {
        if self.list.len() < Words::MAX {
            self.list.push(what);
        } else {
            self.left_out += 1;
        }
    }

    /// All of them, as problems of a kind.
    pub(crate) fn tell(&self, kind: ProblemKind, problems: &mut Problems) {
        for what in &self.list {
            problems.add(kind, what.clone());
        }
        if self.left_out > 0 {
            problems.add(kind, format!("{} more of these", self.left_out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_tells_its_first_problems() {
        let mut words = Words::default();
        for i in 0..1000 {
            words.push(format!("x{i}"));
        }
        let mut problems = Problems::default();
        words.tell(ProblemKind::PgmapList, &mut problems);
        let list = problems.finish();
        assert_eq!(list.len(), Words::MAX + 1);
        assert_eq!(list[Words::MAX].what, "936 more of these");
    }

    #[test]
    fn neighbours_join_and_floods_are_counted() {
        let mut p = Problems::default();
        p.pages(ProblemKind::Absent, 10, 1, "x");
        p.pages(ProblemKind::Absent, 11, 2, "x");
        p.pages(ProblemKind::Absent, 13, 1, "y");
        for i in 0..1000 {
            p.pages(ProblemKind::WrongHead, i * 2, 1, "z");
        }
        let list = p.finish();
        assert_eq!((list[0].pfn, list[0].pages), (Some(10), 3));
        assert_eq!(list.len(), MAX_PROBLEMS + 1);
        assert_eq!(list[MAX_PROBLEMS].kind, ProblemKind::Limit);
        assert!(list[MAX_PROBLEMS].what.starts_with("746 "));
    }
}
