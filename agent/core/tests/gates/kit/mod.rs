//! One node's evidence, made of real signed documents, envelopes and certificates, so that tests read as stories.

mod answers;
mod coordinators;
mod documents;
mod heartbeats;
mod hosts;
mod operators;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use muster_core::coordination::log::Entry;
use muster_core::document::Documents;
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::ledger::{Derived, Ledger, Rows};
use muster_core::node::{BackendKind, Node, Output, Settings};
use muster_core::presence::Presences;
use muster_core::time::{Mono, Now};
use muster_core::view::View;
use muster_core::wire::DecisionId;
use muster_signing::{Digest, SigningKey, sha256};
use serde_json::Value;

pub(crate) use answers::{admitted, blocked};
pub(crate) use documents::{all_at_once, fleet_of, one_by_one, signed, signed_by, trust, with};

pub(crate) const FLEET: &str = "home";
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);

pub(crate) fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

pub(crate) fn closure(name: &str) -> Closure {
    format!("dir:{name}").parse().unwrap()
}

pub(crate) fn rollout(name: &str) -> RolloutId {
    name.parse().unwrap()
}

pub(crate) fn start() -> DateTime<Utc> {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

pub(crate) fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(sha256(name.as_bytes()).0)
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[derive(Debug, Clone, Copy)]
struct FeedEnd {
    incarnation: u64,
    seq: u64,
    hash: Digest,
}

/// What one coordinator holds, and the hands of everybody else.
pub(crate) struct Story {
    pub(crate) ledger: Ledger,
    pub(crate) presences: Presences,
    pub(crate) void: BTreeSet<DecisionId>,
    pub(crate) tentative: BTreeSet<HostId>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) mono: Mono,
    pub(crate) fleet: Value,
    pub(crate) derived: Vec<Derived>,
    pub(crate) entries: Vec<Entry>,
    serial: u64,
    feeds: BTreeMap<HostId, FeedEnd>,
    events: BTreeMap<(HostId, RolloutId), u64>,
    notices: u64,
}

impl Story {
    /// The fleet document is accepted and adopted, and every host was heard of.
    pub(crate) fn new(fleet: Value) -> Self {
        Self::as_host("h1", fleet)
    }

    pub(crate) fn as_host(me: &str, fleet: Value) -> Self {
        let mut story = Self::empty(me, fleet.clone());
        story.publish_fleet(fleet);
        story.everybody_speaks();
        story
    }

    fn empty(me: &str, fleet: Value) -> Self {
        let documents = Documents::new(vec![trust()]).unwrap();
        Self {
            ledger: Ledger::new(FLEET.parse().unwrap(), host(me), documents),
            presences: Presences::new(host(me), HEARTBEAT, Mono(0)),
            void: BTreeSet::new(),
            tentative: BTreeSet::new(),
            now: start() + TimeDelta::minutes(1),
            mono: Mono(1_000_000),
            fleet,
            derived: Vec::new(),
            entries: Vec::new(),
            serial: 1,
            feeds: BTreeMap::new(),
            events: BTreeMap::new(),
            notices: 0,
        }
    }

    /// Both clocks move on, and nobody speaks meanwhile.
    pub(crate) fn pass(&mut self, secs: u64) {
        self.now += TimeDelta::seconds(i64::try_from(secs).unwrap());
        self.mono = self.mono.after(Duration::from_secs(secs));
    }

    pub(crate) fn clocks(&self) -> Now {
        Now { utc: self.now, mono: self.mono }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(&self.ledger, &self.presences, &self.void, &self.tentative, self.mono)
    }
}

/// A node that starts from what a store holds.
pub(crate) fn node(name: &str, rows: &impl Rows, utc: DateTime<Utc>) -> (Node, Vec<Output>) {
    let settings = Settings {
        fleet: FLEET.parse().unwrap(),
        host: host(name),
        heartbeat: HEARTBEAT,
        agent_version: "1".to_owned(),
        boot_id: "boot".to_owned(),
        backend: BackendKind::Directory,
        rules: muster_core::wire::RULES,
        retention: Duration::from_secs(muster_core::rollout::RETENTION_SECS),
        snapshot_entries: muster_core::node::SNAPSHOT_ENTRIES,
        seed: 1,
    };
    Node::start(settings, key_of(name), vec![trust()], rows, Now { utc, mono: Mono(0) }).unwrap()
}
