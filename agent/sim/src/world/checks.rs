//! What is looked at once all has ended: every disk against its node, and coordinators against one another.

use std::collections::BTreeMap;

use muster_core::ledger::{Ledger, Table};
use muster_core::node::Node;

use super::World;
use crate::parcel::Shelved;

impl World {
    /// Rebuilds every host's views from its disk and says where they differ from what was written.
    pub fn check_views(&self) -> Result<(), String> {
        for host in &self.hosts {
            let id = &host.name;
            let documents = muster_core::document::Documents::new(vec![self.fleet.trust()])
                .map_err(|error| error.to_string())?;
            let fleet = self.fleet.name().clone();
            let empty = Ledger::new(fleet, id.clone(), documents);
            let rows = Shelved { disk: &host.disk, shelf: &self.shelf };
            let (ledger, views) =
                muster_core::ledger::verify(empty, &rows).map_err(|error| format!("{id}: {error}"))?;
            let settled = host.node.as_ref().filter(|_| host.disk.writes.is_empty() && host.bug.is_none());
            if settled.is_some_and(|node| node.ledger().state_bytes() != ledger.state_bytes()) {
                return Err(format!("{id}: what it knows is not what its arrivals lead to"));
            }
            let rows = |table| host.disk.of(table).map(move |(key, value)| ((table, key.clone()), value));
            let stored: Vec<_> = Table::DERIVED.into_iter().flat_map(rows).collect();
            let same = |row: &((Table, Vec<u8>), &Vec<u8>)| views.get(&row.0) == Some(row.1);
            if stored.len() != views.len() || !stored.iter().all(same) {
                let other = stored.iter().find(|row| !same(row)).map(|(key, _)| key);
                let missing = views.keys().find(|(table, key)| host.disk.row(*table, key).is_none());
                let at = other.or(missing);
                let at = at.map(|(table, key)| format!("{table:?} {}", String::from_utf8_lossy(key)));
                return Err(format!("{id}: the views are not what the arrivals derive, at {at:?}"));
            }
        }
        Ok(())
    }

    /// Two honest coordinators that applied the same entries and came to different states.
    pub fn logs_differ(&self) -> Option<String> {
        let mut states = BTreeMap::new();
        for host in self.hosts.iter().filter(|host| !host.lies()) {
            let Some(ledger) = host.node.as_ref().map(Node::ledger).filter(|ledger| ledger.follows_log())
            else {
                continue;
            };
            let (name, digest) = (&host.name, ledger.digest_of_log());
            let (known, of) = states.entry((ledger.epoch(), ledger.applied())).or_insert((digest, name));
            if *known != digest {
                return Some(format!("{of} and {name} differ after entry {}", ledger.applied()));
            }
        }
        None
    }
}
