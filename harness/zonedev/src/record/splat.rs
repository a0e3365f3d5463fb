//! A report of the kernel about its own trouble.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A report of the kernel about its own trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Splat {
    /// `WARNING`, `BUG`, `Oops`, `panic`, `hung task`, …
    pub kind: String,
    /// Stable across builds: kind and function, without addresses, such as `WARNING in try_grab_page`.
    pub title: String,
    /// First and one-past-last index into [`super::CellRecord::log`].
    pub lines: (usize, usize),
    /// Stretches within these bounds that others printed meanwhile, as `lines`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(usize, usize)>,
    /// The operation that ran.
    pub step: Option<usize>,
    /// The function that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The task that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Registers by their names (`RAX`, `CR2`, `EFLAGS`), hexadecimal as printed; the kernel's, where
    /// those of its caller are printed too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registers: BTreeMap<String, String>,
    /// The call trace, innermost first; the place of RIP before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<Frame>,
    /// The page that it dumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<DumpedPage>,
    /// Whether it stops in the middle.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Splat {
    /// The indexes into [`super::CellRecord::log`] of its own lines.
    pub fn own_lines(&self) -> impl Iterator<Item = usize> + '_ {
        // `others` ascend.
        let mut others = self.others.iter().peekable();
        (self.lines.0..self.lines.1).filter(move |i| {
            while others.next_if(|(_, to)| to <= i).is_some() {}
            others.peek().is_none_or(|(from, _)| i < from)
        })
    }

    /// Where in the source the function is that it is about.
    pub fn place(&self) -> Option<&SourcePlace> {
        let function = self.function.as_deref()?;
        let of_it = |f: &&Frame| f.function.split('.').next() == Some(function);
        self.trace.iter().find(of_it)?.at.last()
    }
}

/// A task, as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name, of at most 64 characters.
    pub comm: String,
    /// Its id.
    pub pid: u32,
}

/// A function in a call trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Its symbol, as printed.
    pub function: String,
    /// Offset into it, in bytes.
    pub offset: u64,
    /// Its size, in bytes.
    pub size: u64,
    /// The module that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The unwinder found the address on the stack and does not vouch for it (`?`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// Where RIP is, and no return address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rip: bool,
    /// Where that is in the source, inlined functions first; by the build's own vmlinux.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<SourcePlace>,
}

/// A line of the kernel's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcePlace {
    /// The function, inlined or not.
    pub function: String,
    /// Relative to the kernel's tree.
    pub file: String,
    /// From 1.
    pub line: u32,
}

/// What dump_page() printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpedPage {
    /// Why.
    pub reason: String,
    /// As printed, by name: `refcount`, `mapcount`, `mapping`, `index`, `pfn`, `flags`; those of the
    /// folio's head have `head.` before them.
    pub fields: BTreeMap<String, String>,
}
