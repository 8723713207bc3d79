//! The command line: what people type, and the only part that prints.

pub mod agent;
pub mod demo;
pub mod document_files;
pub mod documents;
pub mod failure;
pub mod fleet;
pub mod id;
pub mod keygen;
pub mod output;
pub mod sign;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::{Exit, Failure};

/// Rolls NixOS system closures out to a fleet without a server.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about, disable_help_subcommand = true, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoCommand),
    Agent(agent::Agent),
    Keygen(keygen::Keygen),
    Id(id::Id),
    Fleet(fleet::FleetCommand),
    Sign(sign::Sign),
    Verify(verify::Verify),
    /// Does one switch of the directory backend; the agent starts it.
    #[command(hide = true)]
    InternalSwitch {
        /// The root of the directory backend.
        root: PathBuf,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}

impl Command {
    fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Demo(command) => command.run(),
            Self::Agent(command) => command.run(),
            Self::Keygen(command) => command.run(),
            Self::Id(command) => command.run(),
            Self::Fleet(command) => command.run(),
            Self::Sign(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::InternalSwitch { root } => {
                crate::activation::switch::perform(&root).map_err(Failure::new)?;
                Ok(Exit::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
