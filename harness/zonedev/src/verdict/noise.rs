//! Kinds of log lines that say nothing about the kernel: `noise.toml`.

use std::sync::OnceLock;

use regex::RegexSet;
use serde::Deserialize;

/// The list, as compiled in.
const LIST: &str = include_str!("noise.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    noise: Vec<Noise>,
}

/// One kind. Its reason and its end are for who reads the list; the tests want them said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), allow(dead_code))]
struct Noise {
    r#match: String,
    reason: String,
    until: String,
    hides: String,
    keeps: String,
}

/// Whether a normalised line says nothing about the kernel.
pub(super) fn is_noise(normalised: &str) -> bool {
    static SET: OnceLock<RegexSet> = OnceLock::new();
    let set = SET.get_or_init(|| {
        // A test reads the list: what is compiled in can be read, and no rule hides less, not more.
        let list = toml::from_str::<List>(LIST).map_or(Vec::new(), |l| l.noise);
        RegexSet::new(list.iter().map(|n| &n.r#match)).unwrap_or_default()
    });
    set.is_match(normalised)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::normalise;
    use regex::Regex;

    #[test]
    fn each_rule_hides_what_it_says_and_keeps_what_is_like_it() {
        let list = toml::from_str::<List>(LIST).unwrap().noise;
        assert!(!list.is_empty());
        for rule in &list {
            let Noise { hides, keeps, .. } = rule;
            let of_rule = Regex::new(&rule.r#match).unwrap();
            assert!(of_rule.is_match(&normalise(hides)), "{hides}");
            assert!(!is_noise(&normalise(keeps)), "{keeps}");
            assert!(!rule.reason.is_empty() && !rule.until.is_empty());
            assert!(rule.r#match.starts_with('^'), "{}", rule.r#match);
            // Its example shows this rule, not another one.
            let others = list.iter().filter(|o| o.r#match != rule.r#match);
            for other in others {
                let other = Regex::new(&other.r#match).unwrap();
                assert!(!other.is_match(&normalise(hides)), "{hides}");
            }
        }
    }

    /// Nothing that a kernel reports about itself is ever noise.
    #[test]
    fn no_line_of_a_report_is_noise() {
        let dir = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/console");
        let mut lines = 0;
        for entry in dir.read_dir_utf8().unwrap() {
            let path = entry.unwrap().into_path();
            if path.extension() != Some("log") {
                continue;
            }
            let log = crate::observe::console(&fs_err::read(&path).unwrap());
            for splat in crate::observe::splats(&log) {
                // Between its first and last line others may have spoken.
                for text in splat.own_lines().map(|n| &log[n].text) {
                    assert!(!is_noise(&normalise(text)), "{path}: {text}");
                    lines += 1;
                }
            }
        }
        assert!(lines > 100, "{lines}");
    }
}
