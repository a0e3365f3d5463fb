//! A kernel's config: allnoconfig plus what the fragments ask for, and a check that each request
//! survived. Kconfig drops what it can't give without a word.

use std::collections::BTreeMap;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use super::kconfig::Kconfig;
use crate::spec::Fragment;

/// One option as the fragments ask for it; later fragments win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Without `CONFIG_`.
    pub(crate) symbol: String,
    /// `n` for `is not set`.
    pub(crate) value: String,
    file: Utf8PathBuf,
    line: usize,
}

/// An option that was asked for and is not in the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOption {
    /// Its name, without `CONFIG_`.
    pub symbol: String,
    /// The value that was asked for.
    pub wanted: String,
    /// The value that it got; none if the config doesn't know it.
    pub got: Option<String>,
    /// The fragment that asks for it.
    pub file: Utf8PathBuf,
    /// The line of the fragment, counted from 1.
    pub line: usize,
    /// Why, as the tree's Kconfig files tell.
    pub reason: String,
}

impl fmt::Display for LostOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            symbol,
            wanted,
            file,
            line,
            reason,
            ..
        } = self;
        write!(f, "CONFIG_{symbol}={wanted} ({file}:{line}): {reason}")
    }
}

/// What the fragments ask for, by symbol.
pub(crate) fn requests(fragments: &[Fragment]) -> Vec<Request> {
    let mut found: BTreeMap<String, Request> = BTreeMap::new();
    for fragment in fragments {
        for (index, line) in fragment.text.lines().enumerate() {
            let Some((symbol, value)) = parse_line(line) else {
                continue;
            };
            let request = Request {
                symbol: symbol.to_owned(),
                value: value.to_owned(),
                file: fragment.path.clone(),
                line: index + 1,
            };
            found.insert(symbol.to_owned(), request);
        }
    }
    found.into_values().collect()
}

/// What KCONFIG_ALLCONFIG is given.
pub(crate) fn allconfig(requests: &[Request]) -> String {
    requests.iter().map(|r| line(&r.symbol, &r.value)).collect()
}

/// A line of a config.
pub(super) fn line(symbol: &str, value: &str) -> String {
    match value {
        "n" => format!("# CONFIG_{symbol} is not set\n"),
        value => format!("CONFIG_{symbol}={value}\n"),
    }
}

fn parse_line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((rest.strip_suffix(" is not set")?, "n"));
    }
    line.strip_prefix("CONFIG_")?.split_once('=')
}

/// The options of a `.config`.
pub(crate) fn parse_config(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(parse_line)
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// The options of a `.config` that are set, without `CONFIG_`.
pub fn options_set(text: &str) -> std::collections::BTreeSet<String> {
    let set = parse_config(text)
        .into_iter()
        .filter(|(_, value)| value != "n");
    set.map(|(name, _)| name).collect()
}

/// The requests that `config` does not fulfil, each with its reason. The tree's Kconfig files are
/// read only if there is one.
pub(crate) fn lost(
    requests: &[Request],
    config: &BTreeMap<String, String>,
    tree: &Utf8Path,
) -> Vec<LostOption> {
    let missing: Vec<&Request> = requests
        .iter()
        .filter(|r| config.get(&r.symbol).map_or("n", String::as_str) != r.value)
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let kconfig = Kconfig::read(tree, "x86");
    missing
        .into_iter()
        .map(|r| LostOption {
            symbol: r.symbol.clone(),
            wanted: r.value.clone(),
            got: config.get(&r.symbol).cloned(),
            file: r.file.clone(),
            line: r.line,
            reason: kconfig.why_lost(&r.symbol, &r.value, config),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(name: &str, text: &str) -> Fragment {
        Fragment {
            name: name.into(),
            path: format!("kernels/config/{name}.config").into(),
            text: text.into(),
        }
    }

    #[test]
    fn later_fragments_win_and_the_rest_is_asked_for_once() {
        let requests = requests(&[
            fragment("base", "# words\nCONFIG_SMP=y\nCONFIG_A=y\n"),
            fragment("up", "# CONFIG_SMP is not set\nCONFIG_S=\"x y\"\n"),
        ]);
        assert_eq!(
            allconfig(&requests),
            "CONFIG_A=y\nCONFIG_S=\"x y\"\n# CONFIG_SMP is not set\n"
        );
        let config = parse_config("CONFIG_A=y\n# CONFIG_SMP is not set\nCONFIG_S=\"x y\"\n");
        assert!(lost(&requests, &config, Utf8Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn what_is_not_set_may_be_absent_but_not_set() {
        let requests = requests(&[fragment("up", "# CONFIG_SMP is not set\n")]);
        let tree = Utf8Path::new("/nonexistent");
        assert!(lost(&requests, &parse_config(""), tree).is_empty());
        let lost = lost(&requests, &parse_config("CONFIG_SMP=y\n"), tree);
        assert_eq!((lost[0].symbol.as_str(), lost[0].line), ("SMP", 1));
        assert_eq!(lost[0].got.as_deref(), Some("y"));
    }
}
