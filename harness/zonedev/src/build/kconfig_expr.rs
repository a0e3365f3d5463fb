//! Kconfig's expressions: `A && (B || !C) && D != "x"`.

use std::collections::BTreeMap;
use std::fmt;

type Config = BTreeMap<String, String>;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    Symbol(String),
    Literal(String),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(String, Box<Expr>, Box<Expr>),
}

impl Expr {
    fn value(&self, config: &Config) -> String {
        match self {
            Expr::Symbol(name) => config
                .get(name)
                .map_or("n", |v| v.trim_matches('"'))
                .to_owned(),
            Expr::Literal(text) => text.clone(),
            other => if other.is_true(config) { "y" } else { "n" }.to_owned(),
        }
    }

    /// Whether it holds; `m` counts as set.
    pub(crate) fn is_true(&self, config: &Config) -> bool {
        match self {
            Expr::Symbol(_) | Expr::Literal(_) => matches!(self.value(config).as_str(), "y" | "m"),
            Expr::Not(inner) => !inner.is_true(config),
            Expr::And(a, b) => a.is_true(config) && b.is_true(config),
            Expr::Or(a, b) => a.is_true(config) || b.is_true(config),
            Expr::Compare(op, a, b) => {
                let (a, b) = (a.value(config), b.value(config));
                let order = match (number(&a), number(&b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => a.cmp(&b),
                };
                match op.as_str() {
                    "=" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
        }
    }

    /// Adds every symbol that it names.
    pub(crate) fn symbols(&self, names: &mut Vec<String>) {
        match self {
            Expr::Symbol(name) => names.push(name.clone()),
            Expr::Literal(_) => {}
            Expr::Not(inner) => inner.symbols(names),
            Expr::And(a, b) | Expr::Or(a, b) | Expr::Compare(_, a, b) => {
                a.symbols(names);
                b.symbols(names);
            }
        }
    }

    /// The symbols whose values make it false; empty if it is true.
    pub(crate) fn blame(&self, config: &Config) -> Vec<String> {
        let mut names = Vec::new();
        self.blame_for(false, config, &mut names);
        names.dedup();
        names
    }

    /// Collects the symbols that make it `outcome`.
    fn blame_for(&self, outcome: bool, config: &Config, names: &mut Vec<String>) {
        if self.is_true(config) != outcome {
            return;
        }
        match self {
            Expr::Symbol(name) => names.push(name.clone()),
            Expr::Literal(_) => {}
            Expr::Not(inner) => inner.blame_for(!outcome, config, names),
            Expr::And(a, b) | Expr::Or(a, b) => {
                a.blame_for(outcome, config, names);
                b.blame_for(outcome, config, names);
            }
            Expr::Compare(_, a, b) => {
                for side in [a, b] {
                    if let Expr::Symbol(name) = &**side {
                        names.push(name.clone());
                    }
                }
            }
        }
    }
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |e: &Expr, wrap: bool| {
            if wrap {
                format!("({e})")
            } else {
                e.to_string()
            }
        };
        match self {
            Expr::Symbol(name) => f.write_str(name),
            Expr::Literal(text) if matches!(text.as_str(), "y" | "n" | "m") => f.write_str(text),
            Expr::Literal(text) => write!(f, "\"{text}\""),
            Expr::Not(e) => {
                write!(
                    f,
                    "!{}",
                    inner(
                        e,
                        !matches!(**e, Expr::Symbol(_) | Expr::Literal(_) | Expr::Not(_))
                    )
                )
            }
            Expr::And(a, b) => {
                let or = |e: &Expr| matches!(e, Expr::Or(..));
                write!(f, "{} && {}", inner(a, or(a)), inner(b, or(b)))
            }
            Expr::Or(a, b) => write!(f, "{a} || {b}"),
            Expr::Compare(op, a, b) => write!(f, "{a} {op} {b}"),
        }
    }
}

/// Reads an expression; none if it is beyond us (a macro call, for instance).
pub(crate) fn parse_expr(text: &str) -> Option<Expr> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    let expr = parser.or()?;
    (parser.at == parser.tokens.len()).then_some(expr)
}

fn tokens(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' | '\'' => rest[1..].find(first)? + 2,
            '&' | '|' => {
                if !(rest.starts_with("&&") || rest.starts_with("||")) {
                    return None;
                }
                2
            }
            '!' | '<' | '>' if rest[1..].starts_with('=') => 2,
            '!' | '<' | '>' | '=' | '(' | ')' => 1,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => return None,
        };
        found.push(rest[..len].to_owned());
        rest = rest[len..].trim_start();
    }
    Some(found)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Option<Expr> {
        let mut left = self.and()?;
        while self.take("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Expr> {
        let mut left = self.not()?;
        while self.take("&&") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Some(left)
    }

    fn not(&mut self) -> Option<Expr> {
        self.depth += 1;
        let found = if self.depth > 64 {
            None
        } else if self.take("!") {
            self.not().map(|e| Expr::Not(Box::new(e)))
        } else if self.take("(") {
            self.or().filter(|_| self.take(")"))
        } else {
            self.comparison()
        };
        self.depth -= 1;
        found
    }

    fn comparison(&mut self) -> Option<Expr> {
        let left = self.atom()?;
        match self.peek() {
            Some(op @ ("=" | "!=" | "<" | "<=" | ">" | ">=")) => {
                let op = op.to_owned();
                self.at += 1;
                Some(Expr::Compare(op, Box::new(left), Box::new(self.atom()?)))
            }
            _ => Some(left),
        }
    }

    fn atom(&mut self) -> Option<Expr> {
        let token = self.peek()?.to_owned();
        self.at += 1;
        let first = token.chars().next()?;
        if matches!(first, '"' | '\'') {
            return Some(Expr::Literal(token[1..token.len() - 1].to_owned()));
        }
        if !is_word(first) {
            return None;
        }
        if matches!(token.as_str(), "y" | "n" | "m")
            || first.is_ascii_digit() && number(&token).is_some()
        {
            return Some(Expr::Literal(token));
        }
        Some(Expr::Symbol(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(set: &[(&str, &str)]) -> Config {
        set.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn values_and_blame() {
        let config = config(&[("A", "y"), ("M", "m"), ("N", "12"), ("S", "\"x\"")]);
        for (text, holds, blamed) in [
            ("A && M", true, vec![]),
            ("A && !B", true, vec![]),
            ("A && (B || C)", false, vec!["B", "C"]),
            ("!A || B", false, vec!["A", "B"]),
            ("!(A && M)", false, vec!["A", "M"]),
            ("N >= 13", false, vec!["N"]),
            ("N > 9", true, vec![]),
            ("S = \"x\"", true, vec![]),
            ("A != y", false, vec!["A"]),
            ("64BIT", false, vec!["64BIT"]),
        ] {
            let expr = parse_expr(text).unwrap();
            assert_eq!(expr.is_true(&config), holds, "{text}");
            assert_eq!(expr.blame(&config), blamed, "{text}");
        }
    }

    #[test]
    fn what_is_beyond_us_is_none() {
        for text in ["", "A &&", "$(cc-option,-x)", "(A", "A B", "&& A"] {
            assert_eq!(parse_expr(text), None, "{text}");
        }
        assert_eq!(parse_expr(&"(".repeat(10_000)), None);
        assert_eq!(parse_expr(&"!".repeat(10_000)), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_displays_what_parses_again(text in "[A-C!&|()= \"<y1]{0,24}") {
            if let Some(expr) = parse_expr(&text) {
                prop_assert_eq!(parse_expr(&expr.to_string()), parse_expr(&expr.to_string()));
                prop_assert!(parse_expr(&expr.to_string()).is_some(), "{}", expr);
            }
        }
    }
}
