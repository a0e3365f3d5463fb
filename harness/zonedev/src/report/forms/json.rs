//! JSON whose strings hold nothing that steers a terminal, and the schema of a run's record.

use std::io::{self, Write};

use proto::text::steers;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::record::RunRecord;

/// Writes the run's record: `record.json`, as its published schema says
/// (docs/schema/record-1.json).
///
/// # Errors
/// Never, as far as serde goes.
pub fn json(run: &RunRecord) -> serde_json::Result<String> {
    to_json(run)
}

/// The schema of [`json`], and of a run's `record.json`.
///
/// # Errors
/// Never, as far as serde goes.
pub fn schema() -> serde_json::Result<String> {
    to_json(&schemars::schema_for!(RunRecord))
}

/// Any value as indented JSON. Characters that steer a terminal are escaped also where JSON needs
/// no escape: `\u009b`, `\u202e`.
///
/// # Errors
/// Where the value has no JSON.
pub fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut out = Vec::new();
    let formatter = Quiet(PrettyFormatter::new());
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out, formatter,
    ))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(|e| serde_json::Error::io(io::Error::other(e)))
}

/// [`PrettyFormatter`], with more escapes.
struct Quiet(PrettyFormatter<'static>);

impl Formatter for Quiet {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut from = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| steers(*c)) {
            to.write_all(&fragment.as_bytes()[from..at])?;
            // All of them lie in the first plane.
            write!(to, "\\u{:04x}", u32::from(c))?;
            from = at + c.len_utf8();
        }
        to.write_all(&fragment.as_bytes()[from..])
    }

    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_array(to)
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array(to)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(to, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array_value(to)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object(to)
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object(to)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(to, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object_value(to)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_value(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::forms::sample;
    use proptest::prelude::*;

    #[test]
    fn the_published_schema_is_current() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/schema/record-1.json"
        );
        let current = schema().unwrap();
        if std::env::var_os("ZONEDEV_UPDATE_EXPECTED").is_some() {
            fs_err::write(path, &current).unwrap();
        }
        let published = fs_err::read_to_string(path).unwrap();
        assert!(
            published == current,
            "docs/schema/record-1.json is not what RunRecord is; where older readers go on reading, \
             ZONEDEV_UPDATE_EXPECTED=1 writes it anew"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let run = sample::recorded().run;
        let text = json(&run).unwrap();
        assert!(!text.chars().any(|c| steers(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), run);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_steers_nothing(text in any::<String>()) {
            let json = to_json(&text).unwrap();
            prop_assert!(!json.trim_end().chars().any(steers));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
