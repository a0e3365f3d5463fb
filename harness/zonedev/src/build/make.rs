//! The runs of `make` of one build: its config, its kernel, its modules.

use std::collections::BTreeMap;
use std::fs::File;

use camino::Utf8Path;

use super::cache::CacheLock;
use super::compile::hold;
use super::config::{self, Request};
use super::error::BuildError;
use super::event::{Phase, Reporter};
use super::proc;
use super::toolchain::Toolchain;

/// One build's tree with all that a `make` in it needs.
pub(crate) struct Session<'a> {
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) tree: &'a Utf8Path,
    pub(crate) lock: &'a CacheLock,
    pub(crate) name: &'a str,
    pub(crate) log: &'a Utf8Path,
    pub(crate) jobs: usize,
    /// `VARIABLE=VALUE` for every run.
    pub(crate) variables: &'a [String],
}

impl Session<'_> {
    /// Makes the config, unless the tree's is known to be as made, and checks that nothing that
    /// was asked for got lost.
    pub(crate) fn configure(
        &self,
        requests: &[Request],
        is_made: bool,
        log: &mut File,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        if !is_made {
            let asked = self.tree.join("build/zonedev.allconfig");
            fs_err::write(&asked, config::allconfig(requests))
                .map_err(|e| BuildError::io("write", &asked, e))?;
            self.run(&["allnoconfig"], Some(&asked), log, &mut |_| {})?;
        }
        let made = self.tree.join("build/.config");
        let text = fs_err::read_to_string(&made).map_err(|e| BuildError::io("read", &made, e))?;
        let config = config::parse_config(&text);
        let lost = config::lost(requests, &config, self.tree);
        if !lost.is_empty() {
            return Err(BuildError::LostOptions {
                kernel: self.name.to_owned(),
                lost,
            });
        }
        Ok(config)
    }

    /// Compiles and links; hands back how many objects were compiled.
    pub(crate) fn kernel(
        &self,
        config: &BTreeMap<String, String>,
        expected: Option<u64>,
        log: &mut File,
        report: &Reporter<'_>,
    ) -> Result<u64, BuildError> {
        let mut done = 0;
        let mut linking = false;
        let mut targets = vec!["vmlinux", "bzImage"];
        if config.values().any(|v| v == "m") {
            targets.push("modules");
        }
        self.run(
            &targets,
            None,
            log,
            &mut |line| match line.split_whitespace().next() {
                Some("CC" | "AS") if !linking => {
                    done += 1;
                    report.progress(done, expected.map(|e| e.max(done)));
                }
                Some("LD" | "LINK") if !linking && line.contains("vmlinux") => {
                    linking = true;
                    report.phase(Phase::Link, "");
                }
                _ => {}
            },
        )?;
        Ok(done)
    }

    /// Puts the modules, if there are any, below `place`.
    pub(crate) fn install_modules(
        &self,
        place: &Utf8Path,
        log: &mut File,
    ) -> Result<(), BuildError> {
        let target = format!("INSTALL_MOD_PATH={place}");
        self.run(&[&target, "modules_install"], None, log, &mut |_| {})
    }

    fn run(
        &self,
        targets: &[&str],
        allconfig: Option<&Utf8Path>,
        log: &mut File,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), BuildError> {
        let mut cmd = self.toolchain.make(self.tree);
        cmd.arg(format!("-j{}", self.jobs.max(1)))
            .args(self.variables)
            .args(targets);
        if let Some(path) = allconfig {
            cmd.env("KCONFIG_ALLCONFIG", path);
        }
        hold(&mut cmd, self.lock);
        let mut errors = Errors::default();
        let status = proc::stream(&mut cmd, log, self.log, |line| {
            errors.see(line);
            on_line(line);
        })?;
        if errors.full {
            return Err(BuildError::disk_full(
                self.tree,
                format!("the build of {}", self.name),
                0,
            ));
        }
        if status.success() {
            return Ok(());
        }
        if let Some(program) = errors.missing {
            return Err(proc::missing(&program));
        }
        let mut found = errors.lines;
        if found.is_empty() {
            found = errors.make.into_iter().take(3).collect();
        }
        if found.is_empty() {
            found.push(format!("make ended with {status}"));
        }
        Err(BuildError::Compile {
            what: self.name.to_owned(),
            errors: found,
            log: self.log.to_owned(),
        })
    }
}

/// What a build's output says about its failure.
#[derive(Debug, Default)]
struct Errors {
    lines: Vec<String>,
    make: Vec<String>,
    missing: Option<String>,
    full: bool,
}

impl Errors {
    fn see(&mut self, line: &str) {
        let is_error = [
            ": error: ",
            ": fatal error: ",
            "undefined reference",
            "Error: ",
            "error: ",
        ]
        .iter()
        .any(|mark| line.contains(mark));
        self.full |= line.contains("No space left on device");
        if let Some(rest) = line
            .strip_suffix(": not found")
            .or_else(|| line.strip_suffix(": command not found"))
        {
            self.missing = rest.rsplit([' ', ':']).next().map(str::to_owned);
        }
        if is_error && self.lines.len() < 5 {
            self.lines.push(line.trim().to_owned());
        } else if line.starts_with("make") && line.contains("***") {
            self.make.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Errors {
        let mut errors = Errors::default();
        text.lines().for_each(|line| errors.see(line));
        errors
    }

    #[test]
    fn the_compilers_words_come_before_makes() {
        let found = errors(
            "  CC      mm/memory.o\n\
             ../mm/memory.c: In function ‘f’:\n\
             ../mm/memory.c:12:9: error: ‘x’ undeclared (first use in this function)\n\
             make[3]: *** [../scripts/Makefile.build:286: mm/memory.o] Error 1\n",
        );
        assert_eq!(
            found.lines,
            ["../mm/memory.c:12:9: error: ‘x’ undeclared (first use in this function)"]
        );
        assert_eq!(found.make.len(), 1);
    }

    #[test]
    fn a_full_disk_and_a_missing_program_are_told_apart() {
        assert!(errors("as: x.o: No space left on device\n").full);
        assert_eq!(
            errors("/bin/sh: 1: bison: not found\n").missing.as_deref(),
            Some("bison")
        );
        assert_eq!(
            errors("bash: line 1: bc: command not found\n")
                .missing
                .as_deref(),
            Some("bc")
        );
    }
}
