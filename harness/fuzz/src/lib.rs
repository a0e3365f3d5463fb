//! What is fuzzed, and what must hold of it.
//!
//! A target is a function from bytes to assertions. libFuzzer drives it (`libfuzzer/`, a workspace
//! of its own, since it needs what stable Rust has not), and `tests/corpus.rs` replays `corpus/`
//! with the very same functions. Besides its own assertions each target keeps to a bound of memory,
//! by [`heap`]; libFuzzer has a bound of time.

pub mod heap;
mod input;
mod kernel;
mod log;
mod pages;
mod records;
mod specs;
mod wire;

pub use input::Input;

/// One thing that is fuzzed.
pub struct Target {
    /// Its name: of its corpus's folder, and of its program in `libfuzzer/targets`.
    pub name: &'static str,
    /// Asserts what must hold.
    run: fn(&[u8]),
    /// Bytes of memory that any input may take.
    base: usize,
    /// Bytes of memory for each byte of input besides.
    factor: usize,
}

const MIB: usize = 1 << 20;

/// All of them.
pub const TARGETS: &[Target] = &[
    target("frame", wire::frame, 24 * MIB, 200),
    target("claims", wire::claims, 256 * MIB, 2000),
    target("console", log::console, 64 * MIB, 2000),
    target("ktap", log::ktap, 64 * MIB, 2000),
    target("gcov", log::gcov, 8 * MIB, 200),
    target("vmcoreinfo", kernel::vmcoreinfo, MIB, 20),
    target("btf", kernel::btf, 8 * MIB, 200),
    target("vmlinux", kernel::vmlinux, 8 * MIB, 200),
    target("dump", kernel::dump, 8 * MIB, 200),
    target("pagetable", pages::pagetable, 8 * MIB, 200),
    target("pages", pages::pages, 512 * MIB, 2000),
    target("specs", specs::specs, 32 * MIB, 2000),
    target("series", specs::series, 8 * MIB, 200),
    target("record", records::record, 256 * MIB, 2000),
];

const fn target(name: &'static str, run: fn(&[u8]), base: usize, factor: usize) -> Target {
    Target {
        name,
        run,
        base,
        factor,
    }
}

impl Target {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|t| t.name == name)
    }

    /// Runs it on one input.
    ///
    /// # Panics
    /// Where something does not hold.
    pub fn check(&self, data: &[u8]) {
        let most = self.base + self.factor * data.len();
        let peak = heap::peak(|| (self.run)(data));
        assert!(
            peak <= most,
            "{} bytes of input took {peak} bytes of memory, more than {most}",
            data.len()
        );
    }
}

/// Runs the target of this name; for libFuzzer.
///
/// # Panics
/// Where there is no such target, or something does not hold.
pub fn check(name: &str, data: &[u8]) {
    match Target::named(name) {
        Some(target) => target.check(data),
        None => panic!("there is no target {name}"),
    }
}

/// Asserts that text which is shown as it is steers no terminal.
pub(crate) fn assert_shown(text: &str) {
    assert_shown_but(text, "");
}

/// The same, with some characters allowed.
pub(crate) fn assert_shown_but(text: &str, allowed: &str) {
    let bad = text
        .chars()
        .find(|c| proto::text::steers(*c) && !allowed.contains(*c));
    assert!(bad.is_none(), "{bad:?} in {text:?}");
}
