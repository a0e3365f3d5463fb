//! Frames of a trace -> lines of the source, inlined functions too: on an ELF file compiled here, and
//! on a kernel's own vmlinux with binutils' addr2line as the oracle.
//!
//! `ZONEDEV_TEST_KERNEL=path/to/bzImage cargo test -p zonedev --test symbols`

#![allow(clippy::unwrap_used)]

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use object::{Object, ObjectSymbol, SymbolKind};
use zonedev::observe::Symbols;
use zonedev::record::{Frame, SourcePlace};

fn frame(function: &str, offset: u64, size: u64) -> Frame {
    Frame {
        function: function.into(),
        offset,
        size,
        module: None,
        uncertain: false,
        rip: true,
        at: Vec::new(),
    }
}

fn places(symbols: &Symbols, function: &str, offset: u64, size: u64) -> Vec<SourcePlace> {
    let mut frames = [frame(function, offset, size)];
    symbols.fill_in_frames(frames.iter_mut());
    let [frame] = frames;
    frame.at
}

/// The address and size of each function, as kallsyms counts them: up to the next symbol.
fn functions(vmlinux: &Utf8Path) -> Vec<(String, u64, u64)> {
    let bytes = fs_err::read(vmlinux).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let mut all: Vec<_> = file
        .symbols()
        .filter(|s| s.is_definition() && s.address() != 0)
        .map(|s| (s.address(), s.name().unwrap().to_owned(), s.kind()))
        .collect();
    all.sort_by_key(|s| s.0);
    let mut out = Vec::new();
    for (i, (address, name, kind)) in all.iter().enumerate() {
        let next = all[i..].iter().map(|s| s.0).find(|a| a > address);
        if let (SymbolKind::Text, Some(next)) = (kind, next) {
            out.push((name.clone(), *address, next - address));
        }
    }
    out
}

/// Two files with a function of the same name; one function is inlined into another.
#[test]
fn inlined_functions_come_first_and_names_that_are_there_twice_are_told_by_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    for (name, text) in [
        (
            "init/main.c",
            "volatile int n;\n\
             static void same(void) { n = 1; }\n\
             void (*volatile a)(void) = same;\n\
             int start_kernel(void) { a(); return n; }\n",
        ),
        (
            "mm/gup.c",
            "extern volatile int n;\n\
             static inline __attribute__((always_inline)) void count(void)\n\
             {\n\
             \tn += 7;\n\
             }\n\
             static void same(void) { n = 1; n = 2; n = 3; n = 4; count(); }\n\
             void (*volatile b)(void) = same;\n\
             void grab(void)\n\
             {\n\
             \tcount();\n\
             }\n",
        ),
    ] {
        fs_err::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs_err::write(dir.join(name), text).unwrap();
    }
    let out = dir.join("vmlinux");
    let cc = Command::new("cc")
        .args(["-g", "-O1", "-static", "-nostdlib", "-fno-pic", "-no-pie"])
        .args(["-fcf-protection=none", "-Wl,-e,start_kernel", "-o"])
        .arg(&out)
        .args([dir.join("init/main.c"), dir.join("mm/gup.c")])
        .status()
        .unwrap();
    assert!(cc.success());
    let symbols = Symbols::new(&out);
    let functions = functions(&out);
    let sizes = |name: &str| -> Vec<u64> {
        let of_name = functions.iter().filter(|f| f.0 == name);
        of_name.map(|f| f.2).collect()
    };
    let grab = sizes("grab")[0];
    let at = places(&symbols, "grab", 0, grab);
    let shown: Vec<_> = at.iter().map(|p| (p.function.as_str(), p.line)).collect();
    assert_eq!(shown, [("count", 4), ("grab", 10)]);
    assert!(at.iter().all(|p| p.file == "mm/gup.c"), "{at:?}");

    let same = sizes("same");
    assert!(same.len() == 2 && same[0] != same[1], "{same:?}");
    let of_size = |size: u64| places(&symbols, "same", 0, size).pop().unwrap().file;
    assert_eq!(of_size(*same.iter().min().unwrap()), "init/main.c");
    assert_eq!(of_size(*same.iter().max().unwrap()), "mm/gup.c");
    // Of another build: better nothing than a wrong line.
    assert_eq!(places(&symbols, "grab", 0, grab + 1), []);
    assert_eq!(places(&symbols, "grab", grab + 1, grab), []);
    assert_eq!(places(&symbols, "nowhere", 0, grab), []);
}

#[test]
fn a_kernels_traces_get_the_lines_that_addr2line_gives_them() {
    let Ok(kernel) = std::env::var("ZONEDEV_TEST_KERNEL") else {
        eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
        return;
    };
    let vmlinux = Utf8PathBuf::from(kernel).with_file_name("vmlinux");
    let symbols = Symbols::new(&vmlinux);
    let functions = functions(&vmlinux);
    let mut asked = Vec::new();
    for name in [
        "start_kernel",
        "do_exit",
        "schedule",
        "free_unref_page",
        "handle_mm_fault",
    ] {
        let mut of_name = functions.iter().filter(|f| f.0 == name);
        let Some((_, address, size)) = of_name.next() else {
            continue;
        };
        for n in 0..8 {
            let offset = size * n / 8;
            asked.push((name, offset, *size, address + offset));
        }
    }
    assert!(asked.len() >= 24, "{}", asked.len());
    let oracle = Command::new("addr2line")
        .args(["-a", "-i", "-f", "-e", vmlinux.as_str()])
        .args(asked.iter().map(|a| format!("{:#x}", a.3)))
        .output()
        .unwrap();
    let oracle = String::from_utf8(oracle.stdout).unwrap();
    let mut answers = Vec::new();
    let mut lines = oracle.lines().peekable();
    while lines.next().is_some_and(|l| l.starts_with("0x")) {
        let mut at = Vec::new();
        while lines.peek().is_some_and(|l| !l.starts_with("0x")) {
            let (Some(function), Some(place)) = (lines.next(), lines.next()) else {
                break;
            };
            at.push((function.to_owned(), place.to_owned()));
        }
        answers.push(at);
    }
    assert_eq!(answers.len(), asked.len());
    let mut inlined = 0;
    for ((name, offset, size, _), answer) in asked.iter().zip(&answers) {
        let got = places(&symbols, name, *offset, *size);
        inlined += usize::from(got.len() > 1);
        assert_eq!(got.last().unwrap().function, *name);
        assert_eq!(got.len(), answer.len(), "{name}+{offset:#x}");
        for (place, (function, at)) in got.iter().zip(answer) {
            assert_eq!(place.function, *function, "{name}+{offset:#x}");
            let (file, line) = at
                .split_once(' ')
                .map_or(at.as_str(), |a| a.0)
                .rsplit_once(':')
                .unwrap();
            assert!(
                file.trim_end_matches(&place.file) != file,
                "{file} is not {}",
                place.file
            );
            assert_eq!(place.line.to_string(), line, "{name}+{offset:#x}");
            assert!(!place.file.starts_with('/'), "{}", place.file);
        }
    }
    assert!(
        inlined >= 5,
        "{inlined} of {} with inlined functions",
        asked.len()
    );
}
