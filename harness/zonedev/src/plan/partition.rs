//! One part of a plan, so that several machines share it: `--partition fixture:2/4`.
//!
//! All kernels of a case are in one part, so that every pair is judged where it ran. How cases are
//! dealt depends on the kernels and the specs alone, never on the host: whoever has the same request
//! and the same files knows what every part has to hold.
//!
//! `fixture` keeps the cases of a fixture together, as far as the parts come out even: each part boots
//! a fixture's machines once for each kernel, and on a full run these boots are an eighth of the time.
//! `hash` deals case by case: one stays where it is when others come or go, at the price of nearly
//! every fixture in every part. Of a full run on six kernels in emulation (14,665 s in cells, 1,959 s
//! in boots), the longest of four parts takes 4,413 s by fixture and 5,476 s by hash; of eight, 2,569 s
//! and 3,436 s.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Group, Plan, PlannedCell};

/// What a boot with its provisioning takes, in cases: 11 s to 4 s in the run above.
const BOOT: usize = 4;
/// Of so many parts at most: a job array of Slurm has no more by default.
pub const MAX_PARTS: usize = 1000;

/// How cases are dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Fixture,
    Hash,
}

/// One part of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    by: By,
    /// From 1.
    index: usize,
    of: usize,
}

/// A partition that can't be meant.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "give I/N, fixture:I/N or hash:I/N, with I from 1 to N and N up to {MAX_PARTS}, such as fixture:2/4"
)]
pub struct PartitionError;

impl FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, PartitionError> {
        let (by, numbers) = match text.split_once(':') {
            None => (By::Fixture, text),
            Some(("fixture", numbers)) => (By::Fixture, numbers),
            Some(("hash", numbers)) => (By::Hash, numbers),
            Some(_) => return Err(PartitionError),
        };
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<usize>().ok(),
            false => None,
        };
        let (index, of) = numbers.split_once('/').ok_or(PartitionError)?;
        match (number(index), number(of)) {
            (Some(index), Some(of)) if (1..=of).contains(&index) && of <= MAX_PARTS => {
                Ok(Self { by, index, of })
            }
            _ => Err(PartitionError),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Fixture => "fixture",
            By::Hash => "hash",
        };
        write!(f, "{by}:{}/{}", self.index, self.of)
    }
}

impl Partition {
    /// The first of so many parts by fixture; none where there can't be so many.
    pub fn first_of(of: usize) -> Option<Self> {
        let by = By::Fixture;
        (1..=MAX_PARTS)
            .contains(&of)
            .then_some(Self { by, index: 1, of })
    }

    /// This one and all others, in order.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (1..=self.of).map(move |index| Self { index, ..self })
    }

    /// Whether both are parts of one cut.
    pub fn is_beside(self, other: Self) -> bool {
        Self { index: 1, ..self } == Self { index: 1, ..other }
    }

    /// Its position, from 1.
    pub fn index(self) -> usize {
        self.index
    }
}

impl Plan {
    /// What one part of it has to do. A fixture's boot is in each part that has a case of it.
    #[must_use]
    pub fn part(mut self, part: Partition) -> Plan {
        let places = deal(&self.groups, part);
        for group in &mut self.groups {
            let fixture = &group.fixture.name;
            group.cells.retain(|cell| {
                places.get(&(fixture.clone(), name(cell))) == Some(&(part.index - 1))
            });
        }
        self.groups.retain(|group| !group.cells.is_empty());
        self
    }

    /// What each part of a cut has to do, in order: as [`Plan::part`] of each.
    #[must_use]
    pub fn parts(self, any: Partition) -> Vec<Plan> {
        let places = deal(&self.groups, any);
        let mut parts = vec![Plan::default(); any.of];
        for mut group in self.groups {
            let mut cells: BTreeMap<usize, Vec<PlannedCell>> = BTreeMap::new();
            for cell in std::mem::take(&mut group.cells) {
                let place = places.get(&(group.fixture.name.clone(), name(&cell)));
                cells
                    .entry(place.copied().unwrap_or(0))
                    .or_default()
                    .push(cell);
            }
            for (place, cells) in cells {
                let group = group.clone();
                parts[place].groups.push(Group { cells, ..group });
            }
        }
        parts
    }
}

/// A case, whatever its fixture.
fn name(cell: &PlannedCell) -> String {
    format!("{}/{}", cell.id.suite, cell.id.case)
}

/// The same number for the same words, everywhere and for ever.
fn hash(words: &str) -> u64 {
    let bytes = blake3::hash(words.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&bytes.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The part of each case on its fixture, from 0.
fn deal(groups: &[Group], part: Partition) -> BTreeMap<(String, String), usize> {
    // By fixture: what its boots weigh, and each of its cases.
    let mut fixtures: BTreeMap<&str, (usize, BTreeMap<String, usize>)> = BTreeMap::new();
    for group in groups {
        let (boots, cases) = fixtures.entry(&group.fixture.name).or_default();
        *boots += if group.skip.is_none() { BOOT } else { 0 };
        for cell in &group.cells {
            // What asks for options of its own finds them on few kernels, and is skipped elsewhere.
            let runs = group.skip.is_none() && cell.skip.is_none() && cell.config.is_empty();
            *cases.entry(name(cell)).or_default() += usize::from(runs);
        }
    }
    match part.by {
        By::Fixture => by_fixture(&fixtures, part.of),
        By::Hash => {
            let place = |fixture: &str, case: &str| {
                let number = hash(&format!("{fixture} {case}")) % part.of as u64;
                ((fixture.to_owned(), case.to_owned()), number as usize)
            };
            let of_fixture = fixtures.iter().flat_map(|(fixture, (_, cases))| {
                cases.keys().map(move |case| place(fixture, case))
            });
            of_fixture.collect()
        }
    }
}

/// Cuts fixtures into pieces of about half a part, and deals these, the heaviest first, each to the
/// part that has least.
fn by_fixture(
    fixtures: &BTreeMap<&str, (usize, BTreeMap<String, usize>)>,
    parts: usize,
) -> BTreeMap<(String, String), usize> {
    let weight = |cases: &BTreeMap<String, usize>| cases.values().sum::<usize>();
    let all: usize = fixtures.values().map(|(b, c)| b + weight(c)).sum();
    let piece = (all / (2 * parts)).max(1);
    let mut pieces: Vec<(usize, &str, Vec<&str>)> = Vec::new();
    for (fixture, (boots, cases)) in fixtures {
        let cuts = ((weight(cases) + piece / 2) / piece).clamp(1, parts);
        let mut cut: Vec<(usize, Vec<&str>)> = vec![(0, Vec::new()); cuts];
        for (case, weight) in cases {
            let (sum, names) = &mut cut[(hash(case) % cuts as u64) as usize];
            *sum += weight;
            names.push(case);
        }
        let some = cut.into_iter().filter(|(_, names)| !names.is_empty());
        pieces.extend(some.map(|(sum, names)| (sum + boots, *fixture, names)));
    }
    pieces.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, &a.2).cmp(&(b.1, &b.2))));
    let mut loads = vec![0; parts];
    let mut out = BTreeMap::new();
    for (weight, fixture, names) in pieces {
        let least = (0..parts).min_by_key(|n| (loads[*n], *n)).unwrap_or(0);
        loads[least] += weight;
        for case in names {
            out.insert((fixture.to_owned(), case.to_owned()), least);
        }
    }
    out
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
