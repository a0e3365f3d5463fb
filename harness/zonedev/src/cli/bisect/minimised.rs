//! The smallest case that shows it, for the mail.

use camino::Utf8PathBuf;

use super::Bisection;
use crate::cli::exit::Failure;
use crate::cli::own;

impl Bisection<'_> {
    fn minimised_dir(&self) -> Utf8PathBuf {
        self.trier.dir.join("minimised")
    }

    /// The case file.
    pub(super) fn minimised_case(&self) -> Utf8PathBuf {
        self.minimised_dir().join("minimised.toml")
    }

    /// The same as a C program.
    pub(super) fn c_program(&self) -> Utf8PathBuf {
        self.minimised_case().with_extension("c")
    }

    /// Minimises the case by the run at the bad end that failed, as far as that was not done before.
    /// The answer does without it where that fails.
    pub(super) async fn minimise(&self) -> Result<(), Failure> {
        let (dir, bad_end) = (self.minimised_dir(), self.bad_end());
        if self.minimised_case().exists() || !bad_end.exists() {
            return Ok(());
        }
        errln!("the smallest case that shows it: minimising, with its journal in {dir}");
        let log = self.trier.dir.join("minimise.log");
        let mut command =
            own::zonedev(self.trier.project, "minimise", fs_err::File::create(&log)?)?;
        command.arg("--c");
        if dir.join("minimise.jsonl").exists() {
            command.args(["--resume", dir.as_str()]);
        } else {
            command.args([bad_end.as_str(), &self.trier.case]);
            command.args(["--good", &self.question.good, "--run-dir", dir.as_str()]);
            if let Some(title) = &self.question.title {
                command.args(["--title", title]);
            }
        }
        if !command.status().await?.success() {
            errln!("the case was not minimised; see {log}");
        }
        Ok(())
    }
}
