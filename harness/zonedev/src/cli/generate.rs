//! `zonedev completions` and `zonedev man`: what a shell and `man` know of the command line.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Command, CommandFactory};

use super::args::Cli;
use super::exit::{Exit, Failure};

const NAME: &str = "zonedev";

/// `zonedev completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Whose
    pub(super) shell: clap_complete::Shell,
}

/// `zonedev man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder, such as ~/.local/share/man/man1
    pub(super) to: Utf8PathBuf,
}

/// Prints a shell's completions.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut text);
    out!("{}", String::from_utf8_lossy(&text));
    Ok(Exit::Good)
}

/// Writes the man pages of zonedev and of each of its commands into a folder.
pub(super) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    fs_err::create_dir_all(&args.to)?;
    let mut command = Cli::command();
    // The pages of the commands tell of the options that every command has.
    command.build();
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        if sub.get_name() != "help" {
            page(sub, &format!("{NAME}-{}", sub.get_name()), &args.to)?;
        }
    }
    page(&command, NAME, &args.to)?;
    Ok(Exit::Good)
}

fn page(command: &Command, name: &str, to: &Utf8Path) -> Result<(), Failure> {
    // A name that is made at run time lives as long as the program: a page for each command.
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let command = command.clone().name(leaked).display_name(name);
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    fs_err::write(to.join(format!("{name}.1")), text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_its_completions() {
        let dir = tempfile::tempdir().unwrap();
        let to = Utf8PathBuf::from_path_buf(dir.path().join("man1")).unwrap();
        man(&ManArgs { to: to.clone() }).unwrap();
        let mut shell = Vec::new();
        clap_complete::generate(
            clap_complete::Shell::Bash,
            &mut Cli::command(),
            NAME,
            &mut shell,
        );
        let shell = String::from_utf8(shell).unwrap();
        let mut names = 0;
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let page = fs_err::read_to_string(to.join(format!("{NAME}-{name}.1"))).unwrap();
            assert!(page.contains(&format!(".TH {NAME}-{name} 1")), "{page}");
            assert!(page.contains("\\-\\-project"), "{name}: {page}");
            assert!(
                shell.contains(&format!("zonedev,{name})")),
                "{name}: {shell}"
            );
            names += 1;
        }
        assert!(names > 10);
        let whole = fs_err::read_to_string(to.join("zonedev.1")).unwrap();
        assert!(whole.contains("zonedev\\-matrix(1)"), "{whole}");
    }
}
