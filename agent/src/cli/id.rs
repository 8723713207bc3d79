//! `muster id`: this host as a line of the fleet document.

use std::path::PathBuf;

use clap::Args;
use muster_core::id::{ChannelId, HostId};
use muster_signing::PublicKey;
use serde::Serialize;

use super::output::{self, line, note};
use super::{Exit, Failure};
use crate::{config, keys};

/// Prints this host's key as a line of the fleet document, and its peer id.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster id --identity /etc/ssh/ssh_host_ed25519_key.pub --host alpha")]
pub struct Id {
    /// The host's key; its public half is enough.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The host's name in the fleet; by default the system's.
    #[arg(long)]
    host: Option<HostId>,
    /// The channel that the host is to follow.
    #[arg(long, default_value = "stable")]
    channel: ChannelId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Identity {
    schema: u32,
    host: HostId,
    key: String,
    peer_id: String,
}

impl Id {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let host = match self.host {
            Some(host) => host,
            None => {
                config::system_host().map_err(|error| Failure::new(error).hint("muster id --host NAME"))?
            }
        };
        let variable = |name: &str| std::env::var(name).ok();
        let file = self.identity.unwrap_or_else(|| config::default_identity(&variable));
        let key = keys::read_public(&file)?;
        if self.json {
            output::json(&Identity {
                schema: 1,
                host,
                key: key.to_openssh(),
                peer_id: key.peer_id().to_string(),
            });
        } else {
            line(fleet_line(&host, &key, &self.channel));
            note(format_args!("peer id {}", key.peer_id()));
        }
        Ok(Exit::Done)
    }
}

/// What stands for a host in `hosts` of the fleet document.
pub fn fleet_line(host: &HostId, key: &PublicKey, channel: &ChannelId) -> String {
    format!(r#""{host}": {{ "key": "{}", "channel": "{channel}" }}"#, key.to_openssh())
}
