//! Pages of a pair, checkpoint by checkpoint: what one side counts otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::check::pins_out;
use super::classes::{Histogram, KindPages, Seen, classify};
use crate::record::{CellRecord, CheckpointRecord, Difference};

/// A difference before the checkpoints that share it are joined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    rank: u8,
    kind: &'static str,
    text: String,
}

/// Where a finding was made: checkpoints in order, least and most pages.
#[derive(Default)]
struct Places {
    at: Vec<String>,
    pages: Option<(u64, u64)>,
}

/// All differences of pages and counters; each once, with the checkpoints that show it.
pub(crate) fn page_differences(base: &CellRecord, other: &CellRecord, out: &mut Vec<Difference>) {
    let mut found: BTreeMap<Finding, Places> = BTreeMap::new();
    let mut common = 0;
    for b in &base.checkpoints {
        let Some(o) = other.checkpoints.iter().find(|o| o.name == b.name) else {
            add(
                &mut found,
                &b.name,
                None,
                finding(4, "pages", "the checkpoint was not reached".into()),
            );
            continue;
        };
        common += 1;
        checkpoint(b, o, &mut found);
    }
    for o in &other.checkpoints {
        if !base.checkpoints.iter().any(|b| b.name == o.name) {
            let text = "the checkpoint was not reached on the baseline".into();
            add(&mut found, &o.name, None, finding(4, "pages", text));
        }
    }
    out.extend(found.into_iter().map(|(f, places)| Difference {
        rank: f.rank,
        kind: f.kind.into(),
        at: Some(if places.at.len() == common && common > 1 {
            "every checkpoint".into()
        } else {
            places
                .at
                .iter()
                .map(|n| format!("\"{n}\""))
                .collect::<Vec<_>>()
                .join(", ")
        }),
        pages: places.pages,
        text: f.text,
    }));
}

fn finding(rank: u8, kind: &'static str, text: String) -> Finding {
    Finding { rank, kind, text }
}

fn add(found: &mut BTreeMap<Finding, Places>, at: &str, pages: Option<u64>, f: Finding) {
    let places = found.entry(f).or_default();
    if places.at.last().is_none_or(|l| l != at) {
        places.at.push(at.to_owned());
    }
    if let Some(n) = pages {
        let (least, most) = places.pages.unwrap_or((n, n));
        places.pages = Some((least.min(n), most.max(n)));
    }
}

fn checkpoint(b: &CheckpointRecord, o: &CheckpointRecord, found: &mut BTreeMap<Finding, Places>) {
    let (of_base, of_other) = (by_sort(b), by_sort(o));
    let kinds: BTreeSet<&String> = of_base.keys().chain(of_other.keys()).collect();
    for kind in kinds {
        let empty = Sorts::default();
        let base = of_base.get(kind).unwrap_or(&empty);
        let other = of_other.get(kind).unwrap_or(&empty);
        if base.pages != other.pages {
            let text = format!("{kind} pages in all, baseline {}", base.pages);
            add(found, &b.name, Some(other.pages), finding(5, "pages", text));
        }
        let sorts: BTreeSet<&String> = base.classes.keys().chain(other.classes.keys()).collect();
        for sort in sorts {
            match (base.classes.get(sort), other.classes.get(sort)) {
                (Some(x), Some(y)) => {
                    class(&b.name, kind, sort, x, y, found);
                    let (n, m) = (total(x), total(y));
                    if n != m && sort != "idle" && base.pages == other.pages {
                        let text = format!("{kind} pages {sort}, baseline {n}");
                        add(found, &b.name, Some(m), finding(5, "pages", text));
                    }
                }
                (None, Some(y)) => {
                    let text = format!("{kind} pages {sort}, baseline none");
                    add(found, &b.name, Some(total(y)), finding(5, "pages", text));
                }
                (Some(x), None) => {
                    let text = format!("{kind} pages not {sort}, as they are on the baseline");
                    add(found, &b.name, Some(total(x)), finding(5, "pages", text));
                }
                (None, None) => {}
            }
        }
    }
    if let (Some(x), Some(y)) = (pins_out(b), pins_out(o))
        && x != y
    {
        let text = format!("{y} FOLL_PIN references out, baseline {x}");
        add(found, &b.name, None, finding(6, "counter", text));
    }
}

#[derive(Default)]
struct Sorts {
    pages: u64,
    classes: BTreeMap<String, Histogram<Seen>>,
}

/// The pages by kind and by sort of holders, names left out.
fn by_sort(checkpoint: &CheckpointRecord) -> BTreeMap<String, Sorts> {
    let join = |kind: KindPages| {
        let mut sorts = Sorts {
            pages: kind.pages,
            ..Sorts::default()
        };
        for (class, states) in kind.classes {
            let into = sorts.classes.entry(class.sort).or_default();
            for (state, n) in states {
                *into.entry(state).or_default() += n;
            }
        }
        sorts
    };
    classify(checkpoint)
        .into_iter()
        .map(|(word, kind)| (word, join(kind)))
        .collect()
}

fn total(states: &Histogram<Seen>) -> u64 {
    states.values().sum()
}

/// A class on both sides, field by field.
fn class(
    at: &str,
    kind: &str,
    sort: &str,
    base: &Histogram<Seen>,
    other: &Histogram<Seen>,
    found: &mut BTreeMap<Finding, Places>,
) {
    let mut compare = |rank: u8, values: [BTreeMap<String, u64>; 2], verb: &str| {
        let [x, y] = values;
        let (n, m): (u64, u64) = (x.values().sum(), y.values().sum());
        // Where only the number of pages differs, that is told elsewhere.
        if x.keys().eq(y.keys()) && (x.len() == 1 || (n != m && sort == "idle") || x == y) {
            return;
        }
        let text = format!(
            "{kind} pages {sort} {verb} {}, baseline {}",
            words(&y),
            words(&x)
        );
        add(found, at, Some(m), finding(rank, "pages", text));
    };
    compare(
        4,
        [by(base, |s| s.refcount), by(other, |s| s.refcount)],
        "at",
    );
    compare(
        5,
        [by(base, |s| s.mapcount), by(other, |s| s.mapcount)],
        "with mapcount",
    );
    compare(
        5,
        [by(base, |s| s.pincount), by(other, |s| s.pincount)],
        "with pincount",
    );
    compare(
        5,
        [by(base, |s| s.part.clone()), by(other, |s| s.part.clone())],
        "as",
    );
    let set = |s: &Seen| if s.mapping { "set" } else { "NULL" };
    compare(5, [by(base, set), by(other, set)], "with mapping");
    compare(
        5,
        [by(base, |s| s.share), by(other, |s| s.share)],
        "with share count",
    );
    let fit = |s: &Seen| match (s.absent, s.poisoned) {
        (true, _) => "absent",
        (_, true) => "poisoned",
        _ => "sound",
    };
    compare(4, [by(base, fit), by(other, fit)], "that are");
}

fn by<T: Display>(states: &Histogram<Seen>, field: impl Fn(&Seen) -> T) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for (state, n) in states {
        *out.entry(field(state).to_string()).or_default() += n;
    }
    out
}

/// `1`, or `0 (511) and 1 (1)`: rarest last.
fn words(values: &BTreeMap<String, u64>) -> String {
    if values.len() == 1 {
        return values.keys().cloned().collect();
    }
    let mut list: Vec<_> = values.iter().collect();
    list.sort_by_key(|(value, n)| (std::cmp::Reverse(**n), (*value).clone()));
    list.iter()
        .take(6)
        .map(|(value, n)| format!("{value} ({n})"))
        .collect::<Vec<_>>()
        .join(" and ")
}
