//! What a new fleet document changes, in words, and what that means for rollouts that are open.

mod meaning;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use muster_signing::PublicKey;
use serde::Serialize;

use super::check;
use super::fleet::{Fleet, Host};
use crate::id::{FleetName, HostId};

/// What one fleet document changes of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetDiff {
    /// The fleet.
    pub fleet: FleetName,
    /// The serial of the document that is replaced.
    pub from: u64,
    /// The serial of the document that replaces it.
    pub to: u64,
    /// Why a running fleet cannot follow; absent if it can.
    pub refused: Option<String>,
    /// What changes, by what it is about.
    pub changes: Vec<Change>,
    /// What it means, a sentence each.
    pub means: Vec<String>,
}

/// One thing that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What kind of thing it is about.
    pub about: About,
    /// What becomes of it.
    pub kind: Kind,
    /// Which one it is.
    pub subject: String,
    /// The change in a sentence.
    pub text: String,
}

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A host.
    Host,
    /// Who coordinates, and what they withstand.
    Coordinators,
    /// An operator.
    Operator,
    /// How many operators have to sign.
    Threshold,
    /// A channel.
    Channel,
    /// A rollout policy.
    Policy,
    /// A disruption budget.
    Budget,
    /// Hosts or channels that wait for others.
    Edge,
    /// A declared tag.
    Tag,
    /// The document itself.
    Document,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another key.
    Rekeyed,
    /// It follows another channel.
    Moved,
    /// It has another name.
    Renamed,
    /// It is otherwise than before.
    Changed,
}

/// Says what `new` changes of `old`.
pub fn diff(old: &Fleet, new: &Fleet) -> FleetDiff {
    let mut changes = Changes::default();
    hosts(old, new, &mut changes);
    rules::coordinators(old, new, &mut changes);
    rules::operators(old, new, &mut changes);
    rules::channels(old, new, &mut changes);
    rules::policies(old, new, &mut changes);
    rules::budgets(old, new, &mut changes);
    rules::edges(old, new, &mut changes);
    rules::rest(old, new, &mut changes);
    let means = meaning::of(old, new, &changes.0);
    FleetDiff {
        fleet: new.name.clone(),
        from: old.serial,
        to: new.serial,
        refused: follows(old, new).err(),
        changes: changes.0,
        means,
    }
}

/// Whether a fleet that runs under `old` can follow `new`.
pub fn follows(old: &Fleet, new: &Fleet) -> Result<(), String> {
    if old.name != new.name {
        return Err(format!("it is of fleet {}, and replaces one of fleet {}", new.name, old.name));
    }
    if new.replaces.is_none() && new.serial <= old.serial {
        return Err(format!(
            "its serial {} is not greater than {}, which it replaces",
            new.serial, old.serial
        ));
    }
    check::same_log(old, new).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, about: About, kind: Kind, subject: impl ToString, text: String) {
        self.0.push(Change { about, kind, subject: subject.to_string(), text });
    }

    /// A value that is otherwise than before.
    fn was<T: PartialEq + ToString>(&mut self, about: About, subject: &str, what: &str, old: &T, new: &T) {
        if old != new {
            let (old, new) = (old.to_string(), new.to_string());
            self.add(about, Kind::Changed, subject, format!("{what} is {new}, it was {old}"));
        }
    }
}

fn hosts(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    let by_key = |fleet: &Fleet| -> BTreeMap<PublicKey, HostId> {
        fleet.hosts.iter().map(|(id, host)| (host.key, id.clone())).collect()
    };
    let (before, after) = (by_key(old), by_key(new));
    for (id, host) in &new.hosts {
        if let Some(known) = old.hosts.get(id) {
            host_changes(id, known, host, changes);
            continue;
        }
        let tags = tagged(&host.tags);
        // A name that is gone, with a key that is still here, is one host with another name.
        match before.get(&host.key).filter(|name| !new.hosts.contains_key(*name)) {
            Some(name) => changes.add(
                About::Host,
                Kind::Renamed,
                id,
                format!("{name} is named {id}, with the same key; it is on channel {}{tags}", host.channel),
            ),
            None => {
                let text = format!("{id} is added, on channel {}{tags}", host.channel);
                changes.add(About::Host, Kind::Added, id, text);
            }
        }
    }
    for (id, host) in old.hosts.iter().filter(|(id, _)| !new.hosts.contains_key(*id)) {
        if after.get(&host.key).is_none_or(|name| old.hosts.contains_key(name)) {
            let text = format!("{id} is removed; it was on channel {}", host.channel);
            changes.add(About::Host, Kind::Removed, id, text);
        }
    }
}

fn host_changes(id: &HostId, old: &Host, new: &Host, changes: &mut Changes) {
    if old.key != new.key {
        changes.add(About::Host, Kind::Rekeyed, id, format!("{id} has another key"));
    }
    if old.channel != new.channel {
        let text = format!("{id} moves from channel {} to {}", old.channel, new.channel);
        changes.add(About::Host, Kind::Moved, id, text);
    }
    let more: Vec<_> = new.tags.difference(&old.tags).map(ToString::to_string).collect();
    let less: Vec<_> = old.tags.difference(&new.tags).map(ToString::to_string).collect();
    let text = match (more.is_empty(), less.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("{id} is also tagged {}", more.join(", "))),
        (true, false) => Some(format!("{id} is no longer tagged {}", less.join(", "))),
        (false, false) => {
            Some(format!("{id} is also tagged {}, and no longer {}", more.join(", "), less.join(", ")))
        }
    };
    if let Some(text) = text {
        changes.add(About::Host, Kind::Changed, id, text);
    }
    if old.addresses != new.addresses {
        let text = match new.addresses.is_empty() {
            true => format!("{id} has no address any more"),
            false => format!("{id} is dialled at {}", new.addresses.join(", ")),
        };
        changes.add(About::Host, Kind::Changed, id, text);
    }
    if old.system != new.system {
        let name = |system: &Option<String>| system.clone().unwrap_or_else(|| "unknown".to_owned());
        let text = format!("{id}'s system is {}, it was {}", name(&new.system), name(&old.system));
        changes.add(About::Host, Kind::Changed, id, text);
    }
}

fn tagged(tags: &BTreeSet<crate::id::Tag>) -> String {
    match tags.is_empty() {
        true => String::new(),
        false => format!(", tagged {}", list(tags)),
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "nobody".to_owned() } else { items.join(", ") }
}
