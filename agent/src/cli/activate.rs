//! `muster activate`: the privileged helper, which systemd starts for one connection.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::socket::{getsockopt, sockopt::SockType};
use tokio::net::UnixStream;
use tracing_subscriber::EnvFilter;

use super::{Exit, Failure};
use crate::activation::nixos::machine::Machine;
use crate::config::CONFIG_DEFAULT;
use crate::helper::caller::Allowed;
use crate::helper::serve::Door;

/// Where the helper keeps its memory unless systemd or the command line says otherwise.
const STATE_DEFAULT: &str = "/var/lib/muster-activate";

/// Carries out one order of the agent as root, after verifying it anew.
///
/// systemd starts it for each connection of /run/muster/activate.sock, which is its standard input. It reads one request,
/// verifies it from the documents in it, the trust file that the configuration names and its own memory, carries it out and
/// answers. It listens to root and to the agent's user or group.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Activate {
    /// The agent's configuration: this host's name, its fleet, and where the trust file lies.
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// The folder of the memory, which has to be root's [default: $STATE_DIRECTORY, or /var/lib/muster-activate].
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The user that the agent runs as.
    #[arg(long, value_name = "NAME", default_value = "muster")]
    user: String,
    /// The group that the agent runs under.
    #[arg(long, value_name = "NAME", default_value = "muster")]
    group: String,
    /// What is logged: error, warn, info, debug, or a filter.
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG", default_value = "info")]
    log: String,
}

impl Activate {
    /// Serves the connection on standard input.
    pub fn run(self) -> Result<Exit, Failure> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| Failure::usage(format!("--log {}: {error}", self.log)))?;
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
        let connection = connection().map_err(|error| {
            Failure::usage(format!("standard input is not a connection: {error}"))
                .hint("systemd starts this command, people do not: see muster-activate.socket")
        })?;
        let state = self.state.unwrap_or_else(state_folder);
        make(&state).map_err(|error| Failure::new(format!("{}: {error}", state.display())))?;
        let allowed = Allowed::named(&self.user, &self.group).map_err(Failure::new)?;
        let door = Door::new(self.config, state, allowed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("the asynchronous runtime cannot be set up: {error}")))?;
        runtime.block_on(async {
            let connection = UnixStream::from_std(connection)
                .map_err(|error| Failure::new(format!("the connection: {error}")))?;
            door.serve(connection, &Machine::default()).await;
            Ok(Exit::Done)
        })
    }
}

/// Standard input, if it is a socket.
fn connection() -> io::Result<std::os::unix::net::UnixStream> {
    let stdin = io::stdin();
    getsockopt(&stdin, SockType)?;
    let connection = std::os::unix::net::UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    connection.set_nonblocking(true)?;
    Ok(connection)
}

fn state_folder() -> PathBuf {
    let given = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    // systemd separates several by colons.
    match given.split(':').next() {
        Some(first) if !first.is_empty() => first.into(),
        Some(_) | None => STATE_DEFAULT.into(),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
