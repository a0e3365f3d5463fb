//! What of a log line is the same in every run.

/// A log line without what changes from run to run and from build to build: numbers with their
/// units become `N`, addresses and other hexadecimal words `X`, offsets after a function's name
/// go, and with them taint flags and everything behind. Digits within a name (`pmem0`, `ext4`)
/// stay.
pub fn normalise(line: &str) -> String {
    let line = ["Not tainted", "Tainted:"]
        .iter()
        .find_map(|mark| line.find(mark))
        .map_or(line, |at| &line[..at]);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        match token {
            _ if is_hex(token) => out.push('X'),
            _ if is_number(token) => out.push('N'),
            " " | "\t" => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            _ => out.push_str(token),
        }
    }
    // What one rule leaves, another may take.
    loop {
        let before = out.len();
        out = settled(out);
        if out.len() == before {
            return out;
        }
    }
}

/// Numbers that belong together become one; so do blanks.
fn settled(mut out: String) -> String {
    if out.contains("+X/X") {
        out = out.replace("+X/X", "");
    }
    for (joined, one) in [
        ("N.N", "N"),
        ("N:N", "N"),
        ("N-N", "N"),
        ("N/N", "N"),
        ("  ", " "),
    ] {
        while out.contains(joined) {
            out = out.replace(joined, one);
        }
    }
    if out.contains("XN") || out.contains("-N") {
        out = without_signs(&out);
    }
    out.trim().to_owned()
}

/// Without the digits behind an address, and the signs before a number.
fn without_signs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == 'N' {
            if out.ends_with('X') {
                continue;
            }
            out.truncate(out.trim_end_matches('-').len());
        }
        out.push(c);
    }
    out
}

fn is_hex(token: &str) -> bool {
    let digits = token
        .strip_prefix("0x")
        .or_else(|| token.strip_prefix("0X"));
    if let Some(digits) = digits {
        return digits.bytes().all(|b| b.is_ascii_hexdigit());
    }
    // As %p prints it, whatever its digits are.
    if token.len() == 16 && token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return true;
    }
    token.len() >= 8
        && token.bytes().all(|b| b.is_ascii_hexdigit())
        && token.bytes().any(|b| b.is_ascii_digit())
        && token.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Decimal digits, with a unit or without.
fn is_number(token: &str) -> bool {
    const UNITS: [&str; 20] = [
        "", "K", "M", "G", "T", "B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB", "s", "ms", "us",
        "ns", "Hz", "kHz", "MHz",
    ];
    let unit = token.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < token.len() && UNITS.contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_changes_goes_and_names_stay() {
        let cases = [
            ("Memory: 469092K/523768K available", "Memory: N available"),
            (
                "pmem0: detected capacity change from 0 to 262144",
                "pmem0: detected capacity change from N to N",
            ),
            (
                "CPU: 0 PID: 77 Comm: agent Tainted: G        W         5.10.262 #1",
                "CPU: N PID: N Comm: agent",
            ),
            ("RIP: 0010:try_grab_page+0x1a/0x90", "RIP: N:try_grab_page"),
            (
                "WARNING: mm/gup.c:133 at try_grab_folio+0x4e/0x60, CPU#1: agent/93",
                "WARNING: mm/gup.c:N at try_grab_folio, CPU#N: agent/N",
            ),
            (
                "page:ffffea0004000000 refcount:0 mapping:0000000000000000 pfn:0x100200",
                "page:X refcount:N mapping:X pfn:X",
            ),
            (
                "EXT4-fs (pmem0): mounted filesystem",
                "EXT4-fs (pmem0): mounted filesystem",
            ),
            ("took 12.5ms on CPU#1", "took N on CPU#N"),
        ];
        for (line, want) in cases {
            assert_eq!(normalise(line), want);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne_and_twice_is_once(text in "\\PC{0,80}") {
            let once = normalise(&text);
            prop_assert!(once.len() <= text.len());
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
