//! The helper functions that a program may need, and which of them one does.
//!
//! They are in `c/`, a file each; a program has those that its steps name, and those that these
//! name in turn.

use std::collections::BTreeSet;

/// What names a piece: a word, or with a bracket behind it a function's call.
struct Piece {
    names: &'static [&'static str],
    text: &'static str,
}

macro_rules! pieces {
    ($($file:literal: $($name:literal)+;)*) => {
        [$(Piece { names: &[$($name),+], text: include_str!(concat!("c/", $file, ".c")) }),*]
    };
}

macro_rules! lines {
    ($($name:literal $text:literal)*) => {
        [$(Piece { names: &[$name], text: concat!("#define ", $name, " ", $text, "\n") }),*]
    };
}

/// Numbers, before everything else.
static NUMBERS: [Piece; 6] = lines! {
    "KB" "(1UL << 10)"
    "MB" "(1UL << 20)"
    "GB" "(1UL << 30)"
    "PAGE" "4096UL"
    "MADV_SOFT_OFFLINE" "101"
    "FS_SHUTDOWN_FLAGS_NOLOGFLUSH" "2"
};

/// In the order of a program.
static PIECES: [Piece; 81] = pieces! {
    "word": "WORD";
    "fs_shutdown": "FS_IOC_SHUTDOWN";
    "expect": "expect(" "came(" "failures";
    "fault": "armed" "fault" "catch_faults(";
    "load_word": "load_word(";
    "store_word": "store_word(";
    "ends": "HEAD" "TAIL";
    "load": "load(";
    "store": "store(";
    "verify": "verify(";
    "by": "BY_PMDS" "BY_PTES";
    "room": "room(";
    "map_file": "map_file(";
    "map_anywhere": "map_anywhere(";
    "map_memory": "map_memory(";
    "map_memfd": "map_memfd(";
    "p2pmem": "p2pmem(";
    "gone": "gone(";
    "unmap": "unmap(";
    "move_map": "move_map(";
    "advise": "advise(";
    "write_protect": "write_protect(" "uffd";
    "ask_nodes": "ask_nodes(";
    "ask_node": "ask_node(";
    "ask_core": "ask_core(";
    "read_whole": "read_whole(";
    "create": "create(";
    "change": "change(";
    "sync_file": "sync_file(";
    "share": "share(";
    "dedupe": "dedupe(";
    "write_file": "write_file(";
    "read_file": "read_file(";
    "send_file": "send_file(";
    "copy_file": "copy_file(";
    "look_up": "look_up(";
    "physical": "physical(";
    "read_blocks": "read_blocks(";
    "number": "number(";
    "put": "put(";
    "poison": "poison(";
    "modified": "modified(" "AT_ANY_TIME";
    "hold": "hold(";
    "splice_once": "splice_once(";
    "register_buffer": "register_buffer(";
    "unregister_buffer": "unregister_buffer(";
    "pin_longterm_test": "PIN_LONGTERM_TEST_START" "PIN_LONGTERM_TEST_STOP";
    "pin_longterm": "pin_longterm(";
    "unpin_longterm": "unpin_longterm(";
    "gup_test": "gup_test";
    "gup": "gup(";
    "gup_benchmark": "gup_benchmark";
    "gup_bench": "gup_bench(";
    "copy_memory": "copy_memory(";
    "same_memory": "same_memory(";
    "write_nvme": "write_nvme(";
    "hmm_cmd": "hmm_dmirror_cmd";
    "open_device": "open_device(";
    "close_device": "close_device(";
    "device": "device(";
    "is_exclusive": "is_exclusive(";
    "device_sees": "device_sees(";
    "must": "must(";
    "run": "run(";
    "fs_ioctl": "fs_ioctl(";
    "unbind": "unbind(";
    "unbind_pci": "unbind_pci(";
    "memory_blocks": "memory_blocks(";
    "memory_state": "memory_state(";
    "create_dax": "create_dax(";
    "read_attributes": "read_attributes(";
    "torn_down": "torn_down(";
    "blocks": "blocks(" "blocked";
    "ended": "ended(";
    "turn": "turn(" "pass(" "now";
    "start": "start(";
    "supervise": "supervise(";
    "disk": "disk" "make_disk(";
    "transfer": "transfer(";
    "let_go": "let_go(";
    "size_of": "size_of(";
};

/// Behind these.
static RACE: [Piece; 2] = pieces! {
    "race_round": "race_round";
    "race": "race(" "arm";
};

/// Commands that need the structures of a piece.
static COMMANDS: [Piece; 21] = lines! {
    "HMM_DMIRROR_READ" "_IOWR('H', 0x00, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_WRITE" "_IOWR('H', 0x01, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_MIGRATE_TO_DEV" "_IOWR('H', 0x02, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_MIGRATE_TO_SYS" "_IOWR('H', 0x03, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_SNAPSHOT" "_IOWR('H', 0x04, struct hmm_dmirror_cmd)"
    "OLD_HMM_DMIRROR_SNAPSHOT" "_IOWR('H', 0x03, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_EXCLUSIVE" "_IOWR('H', 0x05, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_CHECK_EXCLUSIVE" "_IOWR('H', 0x06, struct hmm_dmirror_cmd)"
    "HMM_DMIRROR_READ_UNLOCKED" "_IOWR('H', 0x09, struct hmm_dmirror_cmd)"
    "GUP_FAST_BENCHMARK" "_IOWR('g', 1, struct gup_test)"
    "PIN_FAST_BENCHMARK" "_IOWR('g', 2, struct gup_test)"
    "PIN_LONGTERM_BENCHMARK" "_IOWR('g', 3, struct gup_test)"
    "GUP_BASIC_TEST" "_IOWR('g', 4, struct gup_test)"
    "PIN_BASIC_TEST" "_IOWR('g', 5, struct gup_test)"
    "DUMP_USER_PAGES_TEST" "_IOWR('g', 6, struct gup_test)"
    "OLD_GUP_FAST_BENCHMARK" "_IOWR('g', 1, struct gup_benchmark)"
    "OLD_GUP_BENCHMARK" "_IOWR('g', 2, struct gup_benchmark)"
    "OLD_PIN_FAST_BENCHMARK" "_IOWR('g', 3, struct gup_benchmark)"
    "OLD_PIN_BENCHMARK" "_IOWR('g', 4, struct gup_benchmark)"
    "OLD_PIN_LONGTERM_BENCHMARK" "_IOWR('g', 5, struct gup_benchmark)"
    "PIN_LONGTERM_TEST_FLAG_USE_WRITE" "1"
};

/// The words of C code, each as it is and, where a bracket follows, with that; not those of strings
/// and comments.
pub(super) fn words(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'') => {
                i += 1;
                while i < bytes.len() && bytes[i] != quote {
                    i += if bytes[i] == b'\\' { 2 } else { 1 };
                }
                i += 1;
            }
            b'/' if bytes.get(i + 1) == Some(&b'*') => {
                i = text[i..].find("*/").map_or(bytes.len(), |end| i + end + 2);
            }
            c if c.is_ascii_alphabetic() || c == b'_' => {
                let start = i;
                while i < bytes.len() && (bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_') {
                    i += 1;
                }
                let word = &text[start..i];
                if bytes.get(i) == Some(&b'(') {
                    out.insert(format!("{word}("));
                }
                out.insert(word.to_owned());
            }
            _ => i += 1,
        }
    }
    out
}

fn all() -> impl Iterator<Item = &'static Piece> {
    (NUMBERS.iter())
        .chain(&PIECES)
        .chain(&RACE)
        .chain(&COMMANDS)
}

/// The pieces that a program of this text needs: numbers, and functions.
pub(super) fn needed(text: &str) -> (String, String) {
    let mut words = words(text);
    let mut taken: Vec<bool> = all().map(|_| false).collect();
    loop {
        let mut more = false;
        for (piece, taken) in all().zip(&mut taken) {
            if !*taken && piece.names.iter().any(|n| words.contains(*n)) {
                *taken = true;
                more = true;
                words.extend(self::words(piece.text));
            }
        }
        if !more {
            break;
        }
    }
    let mut defines = String::new();
    let mut functions: Vec<&str> = Vec::new();
    let is = |piece: &Piece, of: &[Piece]| of.iter().any(|p| std::ptr::eq(p, piece));
    let commands: Vec<&Piece> = (all().zip(&taken))
        .filter(|(p, taken)| **taken && is(p, &COMMANDS))
        .map(|(p, _)| p)
        .collect();
    for (piece, _) in all().zip(&taken).filter(|(_, taken)| **taken) {
        if is(piece, &NUMBERS) {
            defines += piece.text;
        } else if !is(piece, &COMMANDS) {
            functions.push(piece.text);
        }
    }
    let mut out = String::new();
    for text in functions {
        out += "\n";
        out += text;
        // A structure's commands stand right behind it.
        let name = text
            .lines()
            .find_map(|l| l.strip_prefix("struct ")?.strip_suffix(" {"));
        if let Some(name) = name {
            let of = format!("struct {name})");
            let mut of_it = commands.iter().filter(|c| c.text.contains(&of)).peekable();
            if of_it.peek().is_some() {
                out += "\n";
            }
            of_it.for_each(|c| out += c.text);
        }
    }
    let loose = |c: &&&Piece| !c.text.contains("struct ");
    commands
        .iter()
        .filter(loose)
        .for_each(|c| defines += c.text);
    (defines, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_strings_and_comments_are_none() {
        let words = words("int device; /* store( */ put(\"load(x)\", '\\'', y_1);");
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(all, ["device", "int", "put", "put(", "y_1"]);
    }

    #[test]
    fn a_piece_brings_what_it_needs_and_no_more() {
        let (defines, functions) = needed("unmap(m, 2 * MB);");
        assert!(functions.contains("static int gone(") && functions.contains("load_word("));
        assert!(!functions.contains("store_word"));
        assert!(defines.contains("PAGE") && !defines.contains("GB"));
    }

    #[test]
    fn every_file_has_one_name_at_least_that_it_defines() {
        for piece in all() {
            let words = words(piece.text);
            for name in piece.names {
                assert!(words.contains(*name), "{name}: {}", piece.text);
            }
        }
    }
}
