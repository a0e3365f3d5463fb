//! `zonedev report`: what a run's folder says, in the form that is asked for.

use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;

use crate::record::{CellId, RunFolder};
use crate::report::{self, Recorded};

use super::args::ReportArgs;
use super::exit::{Exit, Failure};
use super::{html, inspect, matrix};

/// The form of a report; without any it is the summary.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Form {
    /// One HTML file that asks nobody for anything (docs/reading-a-report.md): by default
    /// RUN/report.html, whose path is printed; `-o -` is standard output
    #[arg(long)]
    pub(super) html: bool,
    /// JUnit's XML
    #[arg(long)]
    pub(super) junit: bool,
    /// KTAP
    #[arg(long)]
    pub(super) ktap: bool,
    /// The run's record (docs/schema/record-1.json)
    #[arg(long)]
    pub(super) json: bool,
    /// GitHub's annotations; the summary goes to $GITHUB_STEP_SUMMARY
    #[arg(long)]
    pub(super) github: bool,
    /// kcidb's JSON, as data of the CI system ORIGIN
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true,
        default_missing_value = "zonedev", value_parser = origin)]
    pub(super) kcidb: Option<String>,
    /// Markdown, for an issue
    #[arg(long)]
    pub(super) markdown: bool,
    /// Plain text, for a reply on a mailing list
    #[arg(long)]
    pub(super) mail: bool,
}

impl Form {
    /// Whether none is asked for.
    pub(super) fn is_text(&self) -> bool {
        let flags = [
            self.html,
            self.junit,
            self.ktap,
            self.json,
            self.github,
            self.kcidb.is_some(),
            self.markdown,
            self.mail,
        ];
        !flags.contains(&true)
    }
}

/// A CI system's name, as kcidb has them.
fn origin(text: &str) -> Result<String, String> {
    let is = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !text.is_empty() && text.chars().all(is) {
        true => Ok(text.to_owned()),
        false => Err("small letters, digits and _ only".to_owned()),
    }
}

/// Says what a run's folder says: of a run that was cut off, what had finished.
pub(super) fn run(project: &Utf8Path, args: &ReportArgs) -> Result<Exit, Failure> {
    // What is typed is meant from here; judging a run that was cut off goes to where it began.
    let path = inspect::run_path(project, &args.run);
    let path = path.canonicalize_utf8().unwrap_or(path);
    let output = args
        .output
        .as_deref()
        .map(std::path::absolute)
        .transpose()?;
    let folder = RunFolder::open(&path);
    let record = matrix::recorded(project, &folder)?;
    let form = &args.form;
    if form.html {
        let output = match &args.output {
            Some(dash) if dash.as_os_str() == "-" => Some(Utf8PathBuf::from("-")),
            _ => (output.clone().map(Utf8PathBuf::try_from).transpose())
                .map_err(|e| Failure::request(e.to_string(), "name a file whose path is UTF-8"))?,
        };
        let typed = matrix::typed(project, &path);
        if let Some(path) = html::write(project, &folder, &record, typed, output.as_deref())? {
            outln!("{path}");
        }
        return Ok(Exit::Good);
    }
    if form.is_text() {
        let look = super::look(&std::io::stdout());
        match &output {
            None => matrix::tell_summary(project, &path, &record, &look),
            Some(_) => {
                let plain = report::Look {
                    verbosity: look.verbosity,
                    ..report::Look::plain(100)
                };
                let text = report::summary(&record, matrix::typed(project, &path), &plain);
                write(output.as_deref(), &text)?;
            }
        }
        return Ok(Exit::Good);
    }
    let json = |e: serde_json::Error| Failure::harness(format!("failed to write JSON: {e}"));
    if form.json {
        write(output.as_deref(), &report::json(&record).map_err(json)?)?;
        return Ok(Exit::Good);
    }
    let of = Recorded::of(&folder, record)?;
    let text = if form.junit {
        report::junit(&of).map_err(|e| Failure::harness(format!("failed to {e}")))?
    } else if form.ktap {
        report::ktap(&of)
    } else if form.markdown {
        report::markdown(&of, report::ISSUE)
    } else if form.mail {
        report::mail(&of)
    } else if let Some(origin) = &form.kcidb {
        report::kcidb(&of, origin).map_err(json)?
    } else {
        github(project, &of)?
    };
    write(output.as_deref(), &text)?;
    Ok(Exit::Good)
}

/// Appends to the job's summary, where there is one, and gives the annotations.
fn github(project: &Utf8Path, of: &Recorded) -> Result<String, Failure> {
    let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
    // What the step has written there already counts.
    let taken = summary
        .as_ref()
        .and_then(|path| fs_err::metadata(path).ok())
        .map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    let room = report::MAX_SUMMARY.saturating_sub(taken);
    let case = |id: &CellId| {
        let file = format!("suites/{}/{}.toml", id.suite, id.case);
        project.join(&file).is_file().then_some(file)
    };
    let told = report::github(of, room, &case);
    if let Some(path) = summary
        && told.summary.len() <= room
    {
        let mut file = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        file.write_all(told.summary.as_bytes())?;
    }
    Ok(told.commands)
}

/// Writes to a file, or to standard output.
fn write(to: Option<&std::path::Path>, text: &str) -> Result<(), Failure> {
    match to {
        Some(path) => fs_err::write(path, text)?,
        None => out!("{text}"),
    }
    Ok(())
}
