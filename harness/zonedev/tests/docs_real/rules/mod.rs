//! How each command of the pages is tried, and each file.

mod docs;
mod readme;

/// A run that commands build on: what one of the pages shows, with few cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Made {
    /// 5.10 beside 5.10 with a patch that leaks.
    Leak,
    /// 5.10 beside 5.10 with the series.
    Series,
    /// The case that docs/writing-a-case.md writes.
    Own,
    /// A guest that hung, with its memory.
    Hung,
}

impl Made {
    /// The command that makes it.
    pub(crate) fn typed(self) -> &'static str {
        match self {
            Made::Leak => {
                "zonedev matrix -k 5.10 -k 5.10+kernels/mutants/leak-vmsplice-5.10.patch -s fsdax -E fsdax-ext4/ -E p"
            }
            Made::Series => {
                "zonedev matrix -k 5.10 -k 5.10+zone-device-refcount -E =fsdax/fsdax-ext4/pin-vmsplice"
            }
            Made::Own => "zonedev matrix -k 5.10 --case my-case.toml",
            Made::Hung => "zonedev matrix -k 6.12 -E truncate-pinned --dump-hung",
        }
    }

    /// Where it is made, until a command needs it.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Made::Leak => "ahead/leak",
            Made::Series => "ahead/series",
            Made::Own => "ahead/own",
            Made::Hung => "ahead/hung",
        }
    }
}

/// What must be so before a command is typed.
pub(crate) enum Before {
    /// `latest` is this run.
    Latest(Made),
    /// A copy of a run stands there.
    Copy(Made, &'static str),
    /// A copy of a run stands there that was cut off before its cells of 5.10.
    CutOff(Made, &'static str),
    /// A run as CI keeps it.
    Packed(Made, &'static str),
    /// The project is a checkout, and its remote keeps this run on a branch.
    Remote(Made),
    /// Nobody has accepted what the series does to `pin-vmsplice`.
    NotAccepted,
}

/// How a command is typed.
pub(crate) enum Try {
    AsItIs,
    /// Before all others, since it takes its time and needs nothing of them.
    Ahead,
    /// What comes later has what it left.
    Once,
    /// On a terminal, with what the page has behind its prompts, and left there.
    AtATerminal,
    /// While that is there.
    BesideAShell,
}

pub(crate) struct Run {
    pub(crate) before: &'static [Before],
    /// Lines of a shell that succeed where the command can be tried.
    pub(crate) needs: &'static [&'static str],
    /// Words that stand for what is not at hand, and what takes their place.
    pub(crate) instead: &'static [(&'static str, &'static str)],
    /// Words behind it, which make it do less.
    pub(crate) more: &'static str,
    pub(crate) how: Try,
    pub(crate) stdin: &'static str,
    pub(crate) code: i32,
    /// What it says, however that is wrapped.
    pub(crate) says: &'static [&'static str],
    /// Files, as a shell's patterns.
    pub(crate) leaves: &'static [&'static str],
    /// It prints what its page shows, numbers aside, but for lines with one of these words.
    pub(crate) as_shown: Option<&'static [&'static str]>,
}

/// Nothing but the command.
const RUN: Run = Run {
    before: &[],
    needs: &[],
    instead: &[],
    more: "",
    how: Try::AsItIs,
    stdin: "",
    code: 0,
    says: &[],
    leaves: &[],
    as_shown: None,
};

pub(crate) enum How {
    /// It is typed.
    Runs(Run),
    /// `zonedev list cells` has its cells, these among them, on each kernel that it names. Of another
    /// program, which matrix it is.
    Lists {
        of: Option<&'static str>,
        cells: &'static [&'static str],
    },
    /// A file has what does this: words of it.
    Elsewhere(&'static str, &'static [&'static str]),
    /// It is a recipe, with this in it.
    Recipe(&'static str),
}

impl How {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            How::Runs(_) => "typed",
            How::Lists { .. } => "its cells listed",
            How::Elsewhere(..) => "another test's",
            How::Recipe(_) => "a recipe",
        }
    }
}

/// What a page shows.
pub(crate) enum Is {
    /// A whole file. It stands here while the commands are typed.
    Whole(&'static str),
    /// What may stand behind another one; both together stand here.
    Behind(&'static str, &'static str),
    /// Lines of this one, comments aside.
    PartOf(&'static str),
}

/// A file that a page shows.
pub(crate) struct FileShown {
    pub(crate) page: &'static str,
    /// A line that no other of the page has.
    pub(crate) has: &'static str,
    pub(crate) is: Is,
}

pub(crate) const FILES: &[FileShown] = &[
    FileShown {
        page: "docs/writing-a-case.md",
        has: "# my-case.toml",
        is: Is::Whole("my-case.toml"),
    },
    FileShown {
        page: "docs/adding-a-kernel.md",
        has: "package = \"linux-source-7.2\"",
        is: Is::Whole("kernels/shown.toml"),
    },
    FileShown {
        page: "docs/adding-a-kernel.md",
        has: "base = [\"5.10\"]",
        is: Is::Whole("kernels/series/shown/series.toml"),
    },
    FileShown {
        page: "docs/adding-a-kernel.md",
        has: "[fsdax]",
        is: Is::PartOf("kernels/contracts/7.3.toml"),
    },
    // What a kernel does wrong: a part of a case.
    FileShown {
        page: "CONTRIBUTING.md",
        has: "[[known]]",
        is: Is::Behind("my-case.toml", "known.toml"),
    },
    FileShown {
        page: "CONTRIBUTING.md",
        has: "package = \"linux-source-7.2\"",
        is: Is::Whole("kernels/contributed.toml"),
    },
];

/// A command, and the ways in which it is tried.
type Rule = (&'static str, &'static [How]);

/// All of them.
pub(crate) fn rules() -> impl Iterator<Item = Rule> {
    readme::RULES.iter().chain(docs::RULES).copied()
}

/// The rule of a command.
pub(crate) fn rule(typed: &str) -> Option<&'static [How]> {
    rules().find(|(of, _)| *of == typed).map(|(_, how)| how)
}

/// Whether a command is about the guest that hangs.
pub(crate) fn waits_for_a_hang(typed: &str) -> bool {
    let needs = |how: &How| match how {
        How::Runs(run) => run
            .before
            .iter()
            .any(|b| matches!(b, Before::Latest(Made::Hung))),
        _ => false,
    };
    typed == Made::Hung.typed()
        || typed.contains("VMLINUX")
        || rule(typed).unwrap_or_default().iter().any(needs)
}

/// A bisection over patches, killed twice.
const LEAK_SERIES: (&str, &[&str]) = (
    "harness/zonedev/tests/bisect_real.rs",
    &[
        "fn the_patch_of_a_series_is_found_by_a_bisection_that_is_killed_twice(",
        "\"bisect\", \"--good\", \"5.10\", \"--bad\", &bad, \"-E\", CASE",
    ],
);
