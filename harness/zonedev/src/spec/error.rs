//! One error for everything that is wrong in a file a person wrote: which file, where in it, what
//! is wrong, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use proto::text::{escape, steers};
use serde::de::DeserializeOwned;

/// Something wrong in a spec file. Displays as `FILE:LINE: message`; as a [`miette::Diagnostic`]
/// it also shows the line itself and the remedy.
#[derive(Debug, Clone)]
pub struct SpecError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    source: NamedSource<Arc<str>>,
    file: Utf8PathBuf,
    span: Option<SourceSpan>,
    line: Option<usize>,
    message: String,
    help: Option<String>,
}

impl SpecError {
    /// An error about the file as a whole, or about a file that can't be read.
    pub fn whole_file(
        file: &Utf8Path,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            source: NamedSource::new(file.as_str(), Arc::from("")),
            file: file.to_owned(),
            span: None,
            line: None,
            message: escape(&message.into()),
            help: Some(escape(&help.into())),
        }))
    }

    /// The file that is wrong.
    pub fn file(&self) -> &Utf8Path {
        &self.0.file
    }

    /// The line that is wrong, counted from 1; none if it is the file as a whole.
    pub fn line(&self) -> Option<usize> {
        self.0.line
    }

    /// The bytes of the file that are wrong.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.span.map(|s| s.offset()..s.offset() + s.len())
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.line {
            Some(line) => write!(f, "{}:{line}: {}", self.0.file, self.0.message),
            None => write!(f, "{}: {}", self.0.file, self.0.message),
        }
    }
}

impl std::error::Error for SpecError {}

impl Diagnostic for SpecError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0
            .help
            .as_ref()
            .map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.span.map(|_| &self.0.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.0.span?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            Some("here".to_owned()),
            span,
        ))))
    }
}

/// The text of a spec file, kept so that errors can show the place.
#[derive(Debug, Clone)]
pub struct SpecFile {
    path: Utf8PathBuf,
    text: Arc<str>,
}

impl SpecFile {
    /// Reads a file; `what` names its role in the error ("the kernel `5.10`").
    pub fn read(path: &Utf8Path, what: &str) -> Result<Self, SpecError> {
        let text = fs_err::read_to_string(path).map_err(|e| {
            let help = match e.kind() {
                std::io::ErrorKind::NotFound => format!("write {path}, or correct the name"),
                _ => "make it a readable UTF-8 file".to_owned(),
            };
            SpecError::whole_file(
                path,
                format!("{what} can't be read: {}", io_words(&e)),
                help,
            )
        })?;
        Ok(Self::from_text(path, text))
    }

    /// A file whose text is at hand.
    pub fn from_text(path: &Utf8Path, text: impl Into<Arc<str>>) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What the file says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error at `span` (bytes of the text) with its remedy.
    pub fn error(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> SpecError {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let line = self.text.as_bytes()[..start]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        SpecError(Box::new(Inner {
            source: NamedSource::new(self.path.as_str(), shown(&self.text)),
            file: self.path.clone(),
            span: Some(SourceSpan::new(start.into(), end - start)),
            line: Some(line),
            message: escape(&message.into()),
            help: Some(escape(&help.into())),
        }))
    }

    /// Parses the file as TOML into `T`, which should `deny_unknown_fields`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, SpecError> {
        toml::from_str(&self.text).map_err(|e| {
            let message = e.message().trim().replace('\n', "; ");
            let help = remedy_for(&message);
            self.error(e.span().unwrap_or(0..0), message, help)
        })
    }
}

/// The text for a look at the place: what would steer a terminal is put out of action, by as many
/// bytes, so that the places stay.
fn shown(text: &Arc<str>) -> Arc<str> {
    let is_fine = |c: char| matches!(c, '\n' | '\t') || !steers(c);
    if text.chars().all(is_fine) {
        return Arc::clone(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_fine(c) {
            true => out.push(c),
            // The end of a line, as some editors write it.
            false if c == '\r' => out.push(' '),
            false => out.extend(std::iter::repeat_n('?', c.len_utf8())),
        }
    }
    out.into()
}

/// The last part of an I/O error's words, without the path that the caller names itself.
fn io_words(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        kind => kind.to_string(),
    }
}

/// A remedy for one of serde's messages: the nearest known name for an unknown one, the line to
/// add for a missing one.
fn remedy_for(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let Some((wrong, known)) = quoted.split_first() else {
            return "remove it".to_owned();
        };
        return match nearest(wrong, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("remove `{wrong}`, or use one of: {}", known.join(", ")),
        };
    }
    if message.starts_with("missing field") {
        return match quoted.first() {
            Some(name) => format!("add a line `{name} = …`"),
            None => "add the field".to_owned(),
        };
    }
    "correct this line".to_owned()
}

/// The candidate nearest to `word`, if one is near enough to be a typing error.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let candidates: Vec<&str> = candidates.collect();
    similar::get_close_matches(word, &candidates, 1, 0.6)
        .first()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        title: String,
        #[allow(dead_code)]
        contract: Option<String>,
    }

    fn parse(text: &str) -> SpecError {
        SpecFile::from_text(Utf8Path::new("kernels/x.toml"), text)
            .parse::<Sample>()
            .unwrap_err()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let e = parse("title = \"x\"\ncontrct = \"5.10\"\n");
        assert_eq!(e.line(), Some(2));
        assert_eq!(e.remedy(), Some("did you mean `contract`?"));
        assert!(
            e.to_string()
                .starts_with("kernels/x.toml:2: unknown field `contrct`"),
            "{e}"
        );
        assert_eq!(e.span(), Some(12..19));
    }

    #[test]
    fn a_missing_key_and_broken_toml_have_remedies_too() {
        assert_eq!(parse("").remedy(), Some("add a line `title = …`"));
        let e = parse("title = \n");
        assert_eq!(e.line(), Some(1));
        assert!(e.remedy().is_some());
    }

    #[test]
    fn a_file_of_a_stranger_steers_no_terminal() {
        let e = parse("title = \"x\" # \u{202e}[2J\n\"\\u001b[31m\" = 1\n");
        assert_eq!(e.line(), Some(2));
        assert!(e.message().contains("\\u{1b}[31m"), "{}", e.message());
        let mut shown = String::new();
        let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
        handler.render_report(&mut shown, &e).unwrap();
        let steers = |c: char| c != '\n' && proto::text::steers(c);
        assert!(!shown.contains(steers), "{shown:?}");
        assert!(shown.contains("???[2J"), "{shown}");
    }

    #[test]
    fn a_span_outside_the_text_is_clamped() {
        let f = SpecFile::from_text(Utf8Path::new("x"), "ab\n");
        let e = f.error(10..20, "m", "h");
        assert_eq!(e.span(), Some(3..3));
    }
}
