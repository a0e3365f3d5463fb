//! Which lines of a kernel's source ran.

use std::collections::BTreeMap;

/// What ran of one source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLines {
    /// Every line that the compiler made code of, and whether any of its copies ran: a function
    /// that is inlined has a copy in each place.
    pub lines: BTreeMap<u32, bool>,
    /// First and last line of each function, by name.
    pub functions: BTreeMap<String, (u32, u32)>,
}

impl SourceLines {
    /// Adds what another count of the same source says.
    pub fn add(&mut self, other: &SourceLines) {
        for (line, ran) in &other.lines {
            *self.lines.entry(*line).or_default() |= ran;
        }
        let functions = other.functions.iter().map(|(n, at)| (n.clone(), *at));
        self.functions.extend(functions);
    }

    /// How many lines ran.
    pub fn ran(&self) -> usize {
        self.lines.values().filter(|ran| **ran).count()
    }
}
