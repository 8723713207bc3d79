//! The daemon's tie to the privileged helper: the proofs that it is shown, and the agent's own renewal.

use std::path::Path;
use std::sync::Arc;

use muster_core::document::Documents;
use muster_store::Store;

use crate::activation::Backend;
use crate::activation::nixos::machine::Machine;
use crate::config::Config;
use crate::helper::client::Client;
use crate::helper::papers::Archive;
use crate::helper::restart;

/// Where processes are told of.
const PROC: &str = "/proc";

/// Who does what this process may not.
#[derive(Debug)]
pub(super) struct Helping {
    archive: Arc<Archive>,
    renews: Renews,
}

/// Who restarts the agent once a new program of it is in place.
#[derive(Debug, Clone)]
enum Renews {
    /// The privileged helper.
    Helper(Client),
    /// The agent itself, which is root on this machine.
    Own(Box<Machine>),
    /// Whoever put the new program there.
    Nobody,
}

impl Helping {
    /// The tie that the configuration asks for, and the backend with what needs root behind the helper, if there is one.
    pub(super) fn new(config: &Config, store: &Arc<Store>, backend: Backend) -> (Self, Backend) {
        let archive = Arc::new(Archive::new(config.host.clone(), Arc::clone(store)));
        let (renews, backend) = match (backend, &config.activation.helper) {
            (Backend::Nixos(nixos), Some(socket)) => {
                let client = Client::new(socket.clone(), Arc::clone(&archive));
                (Renews::Helper(client.clone()), Backend::Nixos(nixos.with_root(Arc::new(client))))
            }
            (Backend::Nixos(nixos), None) => {
                (Renews::Own(Box::new(nixos.machine().clone())), Backend::Nixos(nixos))
            }
            (backend @ Backend::Directory(_), _) => (Renews::Nobody, backend),
        };
        (Self { archive, renews }, backend)
    }

    /// Follows the documents that the node holds, before an order needs them as proofs.
    pub(super) fn follow(&self, documents: &Documents) {
        self.archive.follow(documents);
    }

    /// Has the agent restarted if its unit file names another program by now: a switch leaves it alone, since it is the
    /// agent that sees the switch to its end.
    pub(super) fn renew(&self) {
        let renews = self.renews.clone();
        tokio::spawn(async move {
            let result = match renews {
                Renews::Helper(client) => client.restart().await.map_err(|error| error.to_string()),
                Renews::Own(machine) => {
                    let restarted = restart::restart(&machine, Path::new(PROC)).await;
                    restarted.map(|restarted| restarted.to_string())
                }
                Renews::Nobody => return,
            };
            match result {
                Ok(done) => tracing::info!("{done}"),
                Err(error) => tracing::warn!(%error, "whether there is a new agent cannot be told"),
            }
        });
    }
}
