//! Settings that are understood and that this version cannot honour: what matters is refused, what does not is said.

use super::{Activation, Auto, BackendKind, Config};

/// Why an agent does not start with its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unhonoured {
    /// Peers would not be found.
    #[error(
        "mdns = true cannot be honoured: this version does not look for peers on the local network; name them in \
         `bootstrap` and by `addresses` in the fleet document"
    )]
    Mdns,
    /// Hosts behind a NAT would count on it.
    #[error(
        "relay = \"on\" cannot be honoured: this version does not serve as a relay; hosts have to reach each other"
    )]
    Relay,
    /// The agent would switch with its own rights instead.
    #[error(
        "activation.helper cannot be honoured with activation.backend = \"directory\": the privileged helper switches \
         NixOS systems, and the agent runs the programs of a directory's releases by itself"
    )]
    Helper,
}

impl Config {
    /// Refuses what the agent would have to do otherwise than it was told; gives what has no effect, one sentence each.
    pub fn honoured(&self) -> Result<Vec<String>, Unhonoured> {
        if self.mdns {
            return Err(Unhonoured::Mdns);
        }
        if self.relay == Auto::On {
            return Err(Unhonoured::Relay);
        }
        if self.activation.helper.is_some() && self.activation.backend == BackendKind::Directory {
            return Err(Unhonoured::Helper);
        }
        let mut idle = Vec::new();
        if self.mirror != Auto::default() {
            idle.push("mirror has no effect yet: every host keeps every host's events".to_owned());
        }
        if self.activation.backend == BackendKind::Directory
            && self.activation.defer != Activation::default().defer
        {
            idle.push(
                "activation.defer has no effect with the directory backend, which never waits for a reboot"
                    .to_owned(),
            );
        }
        Ok(idle)
    }
}
