//! What a build tells while it runs. A build never prints: it hands events to a [`BuildSink`].

use std::fmt;
use std::time::Duration;

/// What a build is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for another build.
    Wait,
    /// Getting a source.
    Download,
    /// Unpacking a source.
    Unpack,
    /// Applying patches.
    Patch,
    /// Making and checking the config.
    Config,
    /// Laying out the tree that a patched build starts from.
    Prepare,
    /// Compiling; the only phase with [`BuildEvent::Progress`].
    Compile,
    /// Linking, and making the types (BTF).
    Link,
    /// Building the kernel's own tests.
    Tests,
    /// Putting the results into the cache.
    Publish,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Wait => "waiting",
            Phase::Download => "downloading",
            Phase::Unpack => "unpacking",
            Phase::Patch => "patching",
            Phase::Config => "configuring",
            Phase::Prepare => "preparing",
            Phase::Compile => "compiling",
            Phase::Link => "linking",
            Phase::Tests => "building its tests",
            Phase::Publish => "storing",
        })
    }
}

/// Something that happened in a build. `what` names the thing built: a kernel's name, or an image.
#[derive(Debug, Clone, PartialEq)]
pub enum BuildEvent {
    /// A build begins; nothing of it was in the cache.
    Started {
        /// The thing built.
        what: String,
    },
    /// It goes on to something else.
    Phase {
        /// The thing built.
        what: String,
        /// What it is now busy with.
        phase: Phase,
        /// Words for a person: the source that is downloaded, the patch that is applied.
        detail: String,
    },
    /// Compiling goes on.
    Progress {
        /// The thing built.
        what: String,
        /// Objects compiled so far.
        done: u64,
        /// Objects to compile in all, as estimated; may turn out too small.
        total: Option<u64>,
    },
    /// It is there.
    Finished {
        /// The thing built.
        what: String,
        /// How long it took.
        took: Duration,
        /// Whether it came from the cache.
        cached: bool,
    },
    /// Something that must be seen by the person who waits.
    Notice {
        /// The thing built.
        what: String,
        /// One sentence.
        message: String,
    },
}

/// Takes a build's events, from any thread.
pub trait BuildSink: Send + Sync {
    /// Takes one; must not block for long.
    fn event(&self, event: BuildEvent);
}

/// A sink that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl BuildSink for Quiet {
    fn event(&self, _event: BuildEvent) {}
}

/// A sink together with the name of what is built.
#[derive(Clone, Copy)]
pub(crate) struct Reporter<'a> {
    what: &'a str,
    sink: &'a dyn BuildSink,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(what: &'a str, sink: &'a dyn BuildSink) -> Self {
        Self { what, sink }
    }

    pub(crate) fn what(&self) -> &'a str {
        self.what
    }

    pub(crate) fn sink(&self) -> &'a dyn BuildSink {
        self.sink
    }

    pub(crate) fn started(&self) {
        self.sink.event(BuildEvent::Started {
            what: self.what.to_owned(),
        });
    }

    pub(crate) fn phase(&self, phase: Phase, detail: impl Into<String>) {
        self.sink.event(BuildEvent::Phase {
            what: self.what.to_owned(),
            phase,
            detail: detail.into(),
        });
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>) {
        self.sink.event(BuildEvent::Progress {
            what: self.what.to_owned(),
            done,
            total,
        });
    }

    pub(crate) fn notice(&self, message: impl Into<String>) {
        self.sink.event(BuildEvent::Notice {
            what: self.what.to_owned(),
            message: message.into(),
        });
    }

    pub(crate) fn finished(&self, took: Duration, cached: bool) {
        self.sink.event(BuildEvent::Finished {
            what: self.what.to_owned(),
            took,
            cached,
        });
    }
}
