//! What a quorum of coordinators has signed is certified once the faults have stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::ledger::Table;
use muster_core::node::Node;
use muster_core::wire::{DecisionId, codec};
use muster_signing::Digest;
use serde::Deserialize;

use super::{LOOK, Run};
use crate::host::Host;
use crate::world::micros;

/// How soon: a signature that was lost is sent again within a minute, and so is the one that answers it.
const CERTIFIED: Duration = Duration::from_secs(150);

/// What a coordinator wrote that it says to a decision.
#[derive(Debug, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
enum Said {
    Endorsed { hash: Digest },
    Objected {},
}

impl Run {
    /// Waits until everything is certified that a quorum has signed.
    pub(super) fn await_certificates(&mut self) {
        let end = self.world.now + micros(CERTIFIED);
        while let Some(what) = self.uncertified() {
            if self.world.now >= end {
                return self.world.truth.broken(16, what);
            }
            if !self.pass(LOOK) {
                return;
            }
        }
    }

    /// A decision that was signed by the disks of a quorum of the coordinators of now, and of which no host holds a
    /// certificate.
    fn uncertified(&self) -> Option<String> {
        let electorate = self.world.truth.documents().fleet()?.electorate();
        let mut signed: BTreeMap<(DecisionId, Digest), Vec<&str>> = BTreeMap::new();
        for host in electorate.members.values() {
            let Some(host) = self.world.number(host.as_str()).map(|number| &self.world.hosts[number]) else {
                continue;
            };
            for said in self.signed_by(host) {
                signed.entry(said).or_default().push(host.name.as_str());
            }
        }
        signed.iter().find_map(|((id, _), by)| {
            let is_open = by.len() >= electorate.quorum && !self.world.truth.decisions.contains_key(id);
            is_open.then(|| format!("{id:?} was signed by {by:?} and is not certified"))
        })
    }

    /// What a coordinator signed that it still answers for: not what it signed of a log that a recovery ended, nor in a
    /// life that it lost the memory of.
    fn signed_by(&self, host: &Host) -> Vec<(DecisionId, Digest)> {
        let honest = !host.lies() && !self.world.truth.is_twofold(&host.name);
        let Some(node) = host.node.as_ref().filter(|node| honest && !node.awaits_readmission()) else {
            return Vec::new();
        };
        let since = since(node);
        let rows = host.disk.of(Table::Endorsed).filter_map(|(key, value)| {
            let (index, ordinal) = key.split_first_chunk()?;
            let ordinal = u32::from_be_bytes(ordinal.try_into().ok()?);
            let id = DecisionId { log_index: u64::from_be_bytes(*index), ordinal };
            match codec::decode::<Said>("a coordinator's word", value).ok()? {
                Said::Endorsed { hash } => Some((id, hash)),
                Said::Objected {} => None,
            }
        });
        rows.filter(|(id, _)| since.is_some_and(|since| id.log_index > since)).collect()
    }
}

/// Behind which entry a coordinator says anything.
fn since(node: &Node) -> Option<u64> {
    let ledger = node.ledger();
    ledger.approves_since(node.life()).map(|since| since.max(ledger.log_begins_behind()))
}
