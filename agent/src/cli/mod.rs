//! The command line: what people type, and the only part that prints.

pub mod activate;
pub mod agent;
mod asking;
pub mod demo;
mod doctor;
pub mod document_files;
pub mod documents;
mod events;
mod explain;
pub mod failure;
pub mod fleet;
mod fleet_diff;
mod hook;
pub mod id;
pub mod keygen;
pub mod output;
mod peers;
mod plan;
mod publish;
mod quarantine;
mod render;
mod replay;
mod report;
mod rollout;
mod screen;
#[cfg(test)]
mod screens;
mod shell;
pub mod sign;
mod simulate;
#[cfg(test)]
mod stage;
mod status;
mod store;
mod until;
mod verbs;
pub mod verify;
mod web;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::SOCKET_DEFAULT;

pub use failure::{Exit, Failure};

/// Rolls NixOS system closures out to a fleet without a server.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about, disable_help_subcommand = true, propagate_version = true)]
pub struct Cli {
    /// The control socket of the agent to ask, for every command that asks one.
    #[arg(long, global = true, env = "MUSTER_SOCKET", default_value = SOCKET_DEFAULT, value_name = "PATH")]
    #[arg(hide = true)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoCommand),
    Agent(agent::Agent),
    Status(status::Status),
    Rollout(rollout::RolloutCommand),
    Explain(explain::Explain),
    Events(events::Events),
    Peers(peers::Peers),
    Quarantine(quarantine::QuarantineCommand),
    Hook(hook::HookCommand),
    Publish(publish::Publish),
    Keygen(keygen::Keygen),
    Id(id::Id),
    Fleet(fleet::FleetCommand),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Simulate(simulate::Simulate),
    Plan(plan::Plan),
    #[command(flatten)]
    Verbs(verbs::Verbs),
    Store(store::StoreCommand),
    Doctor(doctor::Doctor),
    Web(web::Web),
    Replay(replay::Replay),
    Completions(shell::Completions),
    Man(shell::Man),
    #[command(hide = true)]
    Activate(activate::Activate),
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
    let ended = cli.command.run().and_then(|exit| match output::lost() {
        Some(why) => Err(Failure::new(format_args!("the output could not be written: {why}"))),
        None => Ok(exit),
    });
    match ended {
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
            Self::Status(command) => command.run(),
            Self::Rollout(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Events(command) => command.run(),
            Self::Peers(command) => command.run(),
            Self::Quarantine(command) => command.run(),
            Self::Hook(command) => command.run(),
            Self::Publish(command) => command.run(),
            Self::Store(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Web(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
            Self::Keygen(command) => command.run(),
            Self::Id(command) => command.run(),
            Self::Fleet(command) => command.run(),
            Self::Sign(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Simulate(command) => command.run(),
            Self::Plan(command) => command.run(),
            Self::Verbs(verbs) => verbs.run(),
            Self::Activate(command) => command.run(),
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
    fn the_socket_is_named_before_a_command_or_after_it() {
        let before = ["muster", "--socket", "/x", "rollout", "show", "stable@v1"];
        let after = ["muster", "rollout", "show", "stable@v1", "--socket", "/x"];
        for words in [before, after] {
            let matches = Cli::command().try_get_matches_from(words);
            let matches = matches.unwrap_or_else(|error| panic!("{words:?}: {error}"));
            let show = matches.subcommand_matches("rollout").and_then(|it| it.subcommand_matches("show"));
            let socket = show.and_then(|show| show.get_one::<PathBuf>("socket"));
            assert_eq!(socket, Some(&PathBuf::from("/x")), "{words:?}");
        }
    }

    #[test]
    fn a_rollback_says_why_it_takes_no_reason() {
        let words = ["muster", "rollback", "stable", "--reason", "it leaks", "--key", "/nowhere"];
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        let Err(failure) = cli.command.run() else { panic!("it went well") };
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("no place for one"), "{failure}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
