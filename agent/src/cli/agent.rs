//! `muster agent`: the daemon.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Exit, Failure};
use crate::config::{CONFIG_DEFAULT, Config};
use crate::daemon;

/// What is logged where nobody says otherwise. That a message which came twice is not published twice is no news.
const LOG_DEFAULT: &str = "info,libp2p=warn,libp2p_gossipsub=error,quinn=warn";

/// Runs the agent of this host until it is told to stop (SIGTERM, SIGINT).
///
/// One agent runs on every host of the fleet, usually as a systemd service. It logs to standard error.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:
  muster agent --config /etc/muster/muster.toml

A configuration has to say no more than this (the README has the rest):
  fleet = \"home\"
  bootstrap = [\"/dns4/beta.example.org/udp/7946/quic-v1/p2p/12D3Koo...\"]
  [activation]
  backend = \"directory\"
  root = \"/srv/app\"

muster doctor says what a host lacks."
)]
pub struct Agent {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// What is logged: error, warn, info, debug, or a filter such as muster=debug,libp2p=warn.
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG", default_value = LOG_DEFAULT)]
    log: String,
}

impl Agent {
    /// Runs the daemon.
    pub fn run(self) -> Result<Exit, Failure> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| Failure::usage(format!("--log {}: {error}", self.log)))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        let config = Config::load(&self.config).map_err(|error| {
            Failure::new(error)
                .hint("muster agent --help shows what it has to say; muster doctor looks at all of it")
        })?;
        daemon::run(config).map_err(|error| Failure::new(format!("{error:#}")))?;
        Ok(Exit::Done)
    }
}
