//! A case as a file of its own: what [`crate::spec::Case`] reads.

use std::fmt::Write as _;

use proto::Op;
use proto::text::escape;

use super::program::{Program, SIZES, keys};
use crate::spec::PlannedStep;

/// What a case's file says beside its steps.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Lines of the comment at its top.
    pub comment: Vec<String>,
    /// The case's title.
    pub title: String,
    /// The fixture that it runs on.
    pub fixture: String,
    /// Options that the kernel must have.
    pub config: Vec<String>,
    /// The test_hmm device that is meant where none is named.
    pub device: u8,
}

/// The keys that come first, as a person would say them; the others follow by name.
const FIRST: [&str; 18] = [
    "do", "pin", "how", "map", "file", "to", "child", "name", "mode", "advice", "memory", "size",
    "offset", "length", "rounds", "turns", "seed", "access",
];

/// Writes a case. Keys that mean what their absence does are left out.
pub fn write(head: &Head, program: &Program) -> String {
    let mut out = String::new();
    for line in &head.comment {
        let line = escape(line);
        let _ = writeln!(out, "{}", format!("# {line}").trim_end());
    }
    let _ = writeln!(out, "title = {}", text(&head.title));
    let _ = writeln!(out, "fixtures = [{}]", text(&head.fixture));
    if !head.config.is_empty() {
        let _ = writeln!(out, "config = {}", list(&head.config));
    }
    for step in &program.steps {
        out.push_str("\n[[step]]\n");
        one(&mut out, step, head.device);
    }
    out
}

fn one(out: &mut String, step: &PlannedStep, device: u8) {
    operation(out, &step.op, device);
    if step.actor != "main" {
        let _ = writeln!(out, "actor = {}", text(&step.actor));
    }
    if step.expected != "ok" {
        let _ = writeln!(out, "expect = {}", text(&step.expected));
    }
    if !step.splats.is_empty() {
        let _ = writeln!(out, "splats = {}", list(&step.splats));
    }
    if step.every_splat {
        out.push_str("every_splat = true\n");
    }
    if step.may_block && step.expected != "blocked" {
        out.push_str("may_block = true\n");
    }
    if let Op::Race { arm, .. } = &step.op {
        for op in arm {
            out.push_str("\n[[step.arm]]\n");
            operation(out, op, device);
        }
    }
}

fn operation(out: &mut String, op: &Op, device: u8) {
    let Ok(table) = toml::Table::try_from(op) else {
        return;
    };
    let mut keys = keys(op);
    // What the fixture says need not be said again.
    let of_fixture = |key: &String| {
        device != 0 && key == "device" && table[key].as_integer() == Some(i64::from(device))
    };
    keys.retain(|key| key != "arm" && !of_fixture(key));
    let place = |key: &String| {
        FIRST
            .iter()
            .position(|first| first == key)
            .unwrap_or(FIRST.len())
    };
    keys.sort_by_key(|key| (place(key), key.clone()));
    for key in keys {
        match table[&key].as_str() {
            Some("0") if SIZES.contains(&key.as_str()) => {
                let _ = writeln!(out, "{key} = 0");
            }
            _ => {
                let _ = writeln!(out, "{key} = {}", table[&key]);
            }
        }
    }
}

fn text(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

fn list(of: &[String]) -> toml::Value {
    toml::Value::Array(of.iter().map(|t| text(t)).collect())
}
