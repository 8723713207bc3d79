//! `muster completions` and `muster man`: what shells and man pages know of the commands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell as Generator;

use super::output::{line, note};
use super::{Cli, Exit, Failure};

/// Writes what a shell needs to complete muster's commands and options.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster completions bash > /usr/share/bash-completion/completions/muster
  muster completions zsh  > /usr/local/share/zsh/site-functions/_muster
  muster completions fish > ~/.config/fish/completions/muster.fish")]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

/// A shell whose completions can be written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Writes a man page for every command into a folder, which is made if it is not there.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster man /usr/local/share/man/man1 && man muster-rollout-watch")]
pub(super) struct Man {
    /// The folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Completions {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        line(completions(self.shell).trim_end());
        Ok(Exit::Done)
    }
}

fn completions(shell: Shell) -> String {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "muster", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

impl Man {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| Failure::file(&self.folder, error))?;
        let pages = pages(&self.folder)?;
        note(format_args!("{}: {pages} man pages", self.folder.display()));
        Ok(Exit::Done)
    }
}

/// Writes every page; how many there are.
fn pages(folder: &Path) -> Result<usize, Failure> {
    let mut root = Cli::command();
    root.build();
    let mut left = vec![("muster".to_owned(), root)];
    let mut count = 0;
    while let Some((name, command)) = left.pop() {
        let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
        left.extend(subcommands.map(|command| (format!("{name}-{}", command.get_name()), command.clone())));
        let file = folder.join(format!("{name}.1"));
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command.disable_help_subcommand(true)).render(&mut page);
        rendered.and_then(|()| fs::write(&file, page)).map_err(|error| Failure::file(&file, error))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Every command that is shown, as words.
    fn commands() -> Vec<Vec<String>> {
        fn below(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let path = [path, &[command.get_name().to_owned()]].concat();
                below(command, &path, found);
                found.push(path);
            }
        }
        let mut found = Vec::new();
        below(&Cli::command(), &[], &mut found);
        found
    }

    #[test]
    fn every_command_can_be_completed_in_every_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completions(shell);
            for command in commands() {
                let last = command.last().unwrap();
                assert!(text.contains(last.as_str()), "{shell:?} does not know {command:?}");
            }
            assert!(text.contains("--socket") || text.contains("-l socket"), "{shell:?}");
        }
    }

    #[test]
    fn every_command_has_a_man_page_and_an_example() {
        let folder = tempfile::tempdir().unwrap();
        let count = pages(folder.path()).unwrap();
        assert_eq!(count, commands().len() + 1, "one for each command, and one for all");
        for command in commands() {
            let name = format!("muster-{}", command.join("-"));
            let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}:\n{page}");
            // A command of which there are only kinds shows its examples there.
            let kinds = page.contains(".SH SUBCOMMANDS");
            assert!(kinds || page.contains("Example"), "{name} has no example:\n{page}");
        }
    }

    #[test]
    fn no_command_that_only_the_agent_starts_is_told_of() {
        assert!(commands().iter().flatten().all(|name| !name.starts_with("internal")));
    }
}
