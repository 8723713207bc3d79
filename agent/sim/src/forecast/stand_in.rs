//! A copy of a fleet with keys that are at hand: both documents written anew and signed.

use std::collections::BTreeSet;

use muster_core::document::plan::{self, Plan};
use muster_core::document::{
    Acceptance, ChannelRefDocument, Documents, Electorate, Fleet as FleetDocument, Refusal,
};
use muster_core::id::{Closure, HostId};
use muster_core::node::BackendKind;
use muster_signing::{Namespace, SignedDocument, Verified, sha256};
use serde_json::{Value, json};

use super::{ForecastError, Options};
use crate::fleet::Fleet;

/// What a host of the directory backend runs before.
const DIRECTORY_BEFORE: [&str; 2] = ["dir:what-ran-before", "dir:something-older"];
/// What a NixOS host runs before.
const STORE_BEFORE: [&str; 2] = [
    "/nix/store/00000000000000000000000000000000-what-ran-before",
    "/nix/store/00000000000000000000000000000000-something-older",
];

/// A fleet that can play.
pub(super) struct StandIn {
    /// Its keys; the coordinators come first.
    pub(super) fleet: Fleet,
    pub(super) electorate: Electorate,
    pub(super) plan: Plan,
    pub(super) fleet_document: Verified<SignedDocument>,
    pub(super) channel_ref: Verified<SignedDocument>,
}

impl StandIn {
    pub(super) fn make(
        fleet_bytes: &[u8],
        ref_bytes: &[u8],
        options: &Options,
    ) -> Result<Self, ForecastError> {
        let document = FleetDocument::parse(fleet_bytes).map_err(ForecastError::Fleet)?;
        let channel_ref = ChannelRefDocument::parse(ref_bytes).map_err(ForecastError::Ref)?;
        let plan = plan::resolve(&document, sha256(fleet_bytes), &channel_ref, sha256(ref_bytes))?;
        check_hosts(&document, &plan, options)?;
        let names = coordinators_first(&document);
        let fleet = Fleet::stand_in(document.name.clone(), names, options.seed);
        let not_json = |error: serde_json::Error| Refusal::NotJson(error.to_string());
        let copy = serde_json::from_slice(fleet_bytes).map_err(not_json).map_err(ForecastError::Fleet)?;
        let fleet_bytes = copy_fleet(copy, &fleet).to_string().into_bytes();
        let mut copy: Value =
            serde_json::from_slice(ref_bytes).map_err(not_json).map_err(ForecastError::Ref)?;
        copy["fleetHash"] = json!(sha256(&fleet_bytes).to_string());
        let ref_bytes = copy.to_string().into_bytes();
        let electorate = FleetDocument::parse(&fleet_bytes).map_err(ForecastError::Fleet)?.electorate();
        let fleet_document = fleet.sign(Namespace::Fleet, fleet_bytes);
        let channel_ref = fleet.sign(Namespace::ChannelRef, ref_bytes);
        check_accepted(&fleet, &fleet_document, &channel_ref, options)?;
        check_quorum(&electorate, options)?;
        let plan = Plan { ref_hash: channel_ref.digest(), fleet_hash: fleet_document.digest(), ..plan };
        Ok(Self { fleet, electorate, plan, fleet_document, channel_ref })
    }
}

/// What a host runs before, and by which backend.
pub(super) fn before(target: Option<&Closure>) -> (BackendKind, Option<Closure>) {
    let directory = target.is_some_and(|target| target.directory_release().is_some());
    let (backend, choice) = match directory {
        true => (BackendKind::Directory, DIRECTORY_BEFORE),
        false => (BackendKind::Nixos, STORE_BEFORE),
    };
    let other = choice.into_iter().filter_map(|text| text.parse().ok());
    (backend, other.into_iter().find(|closure| Some(closure) != target))
}

fn check_hosts(document: &FleetDocument, plan: &Plan, options: &Options) -> Result<(), ForecastError> {
    let mut asked = options.fail.iter().chain(&options.offline);
    if let Some(host) = asked.find(|host| !document.hosts.contains_key(*host)) {
        let known = document.hosts.keys().cloned().collect();
        return Err(ForecastError::UnknownHost { host: host.clone(), known });
    }
    match options.fail.iter().find(|host| !plan.targets.contains_key(*host)) {
        None => Ok(()),
        Some(host) => {
            let (rollout, known) = (plan.rollout_id.clone(), plan.targets.keys().cloned().collect());
            Err(ForecastError::NoTarget { host: host.clone(), rollout, known })
        }
    }
}

/// Says what a host would say to whoever publishes the two.
fn check_accepted(
    fleet: &Fleet,
    fleet_document: &Verified<SignedDocument>,
    channel_ref: &Verified<SignedDocument>,
    options: &Options,
) -> Result<(), ForecastError> {
    let mut documents =
        Documents::new(vec![fleet.trust()]).map_err(|error| ForecastError::Broken(error.to_string()))?;
    if let Acceptance::New(accepted) =
        documents.check_publish(fleet_document, options.at).map_err(ForecastError::Fleet)?
    {
        documents.insert(accepted);
    }
    documents.check_publish(channel_ref, options.at).map(drop).map_err(ForecastError::Ref)
}

fn check_quorum(electorate: &Electorate, options: &Options) -> Result<(), ForecastError> {
    let down: BTreeSet<&HostId> =
        electorate.members.values().filter(|host| options.offline.contains(*host)).collect();
    let (of, needed) = (electorate.members.len(), electorate.quorum);
    let up = of - down.len();
    if up >= needed {
        return Ok(());
    }
    Err(ForecastError::NoQuorum { up, of, needed, down: down.into_iter().cloned().collect() })
}

fn coordinators_first(document: &FleetDocument) -> Vec<HostId> {
    let electorate = document.electorate();
    let first: BTreeSet<&HostId> = electorate.members.values().collect();
    let rest = document.hosts.keys().filter(|host| !first.contains(host));
    first.iter().copied().chain(rest).cloned().collect()
}

fn copy_fleet(mut document: Value, fleet: &Fleet) -> Value {
    document["operators"] = fleet.operators();
    document["thresholds"] = json!({ "fleet": 1, "channelRef": 1, "command": 1 });
    if let Some(fields) = document.as_object_mut() {
        // The copy is the first document that its fleet ever had, so there is none that it could replace.
        fields.remove("recovery");
        fields.remove("replaces");
    }
    if let Some(hosts) = document["hosts"].as_object_mut() {
        for (name, host) in hosts {
            let key = name.parse::<HostId>().ok().and_then(|id| fleet.hosts().get(&id));
            host["key"] = json!(key.map(|key| key.public().to_openssh()));
        }
    }
    document
}
