//! What people may ask a node: everything here only reads.

use std::collections::{BTreeMap, BTreeSet};

use muster_signing::{Digest, PublicKey, SignedDocument, Verified};

use super::approvals::describe;
use super::coordinator::Coordinator;
use super::{Node, Settings};
use crate::document::{Acceptance, Document};
use crate::id::{ChannelId, Closure, HostId};
use crate::ledger::Ledger;
use crate::presence::{Presences, Reach};
use crate::preview::Known;
use crate::time::{Mono, Now};
use crate::verbs::{self, Coordinating, Effect, Misfit};
use crate::view::View;
use crate::wire::{DecisionBody, HostState};

/// A decision that waits for signatures.
#[derive(Debug, Clone)]
pub struct WaitingDecision<'a> {
    /// The decision.
    pub body: &'a DecisionBody,
    /// What it is about, in words.
    pub about: String,
    /// For what this coordinator waits before it signs; none if it has signed or objected.
    pub waits_for: Option<&'a str>,
    /// How many signatures are here.
    pub signatures: usize,
}

/// How the fleet stands, in numbers.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Hosts in the newest rollout of their channel, by state.
    pub hosts: BTreeMap<(ChannelId, HostState), usize>,
    /// The current wave of each channel's newest rollout, from 0.
    pub waves: BTreeMap<ChannelId, u32>,
    /// Coordinators that are online.
    pub reachable: usize,
    /// Whether this host coordinates.
    pub coordinates: bool,
    /// The term of the coordinators' log, as far as this host knows.
    pub term: u64,
    /// Durable events that wait for a quorum's marks.
    pub outbox: usize,
}

/// How far the coordinators are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quorum {
    /// Coordinators that are online.
    pub reachable: usize,
    /// How many it takes.
    pub needed: usize,
    /// How many there are.
    pub of: usize,
    /// Those that are not online.
    pub missing: Vec<HostId>,
}

impl Node {
    /// What the node was built with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the node knows for good.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whom the node heard of lately.
    pub fn presences(&self) -> &Presences {
        &self.presences
    }

    /// This host's key.
    pub fn key(&self) -> PublicKey {
        self.signer.public()
    }

    /// What this host runs, if its backend has said.
    pub fn running(&self) -> Option<&Closure> {
        self.own.running.as_ref()?.as_ref()
    }

    /// This host's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Own durable events that a quorum has not stored yet.
    pub fn outbox(&self) -> usize {
        self.outbox.len()
    }

    /// Who has stored a document, as far as coordinators have said.
    pub fn stored_by(&self, document: &Digest) -> BTreeSet<HostId> {
        self.marks.documents.get(document).cloned().unwrap_or_default()
    }

    /// What people should act on, the newest last.
    pub fn alarms(&self) -> impl Iterator<Item = String> {
        // Why this coordinator stopped is shown for as long as it stands still, whatever else was told since.
        let stopped = self.coordinator.as_ref().and_then(|it| it.stopped.as_deref());
        let stopped = stopped.filter(|why| self.alarms.iter().all(|known| known != why));
        let told: BTreeSet<&str> = self.alarms.iter().map(String::as_str).chain(stopped).collect();
        let out: Vec<String> = self
            .recovery_alarm()
            .into_iter()
            .chain(self.readmission_alarms())
            .filter(|message| !told.contains(message.as_str()))
            .collect();
        self.alarms.iter().map(String::as_str).chain(stopped).map(str::to_owned).chain(out)
    }

    /// Whether this node leads the coordinators' log.
    pub fn leads(&self) -> bool {
        self.coordinator.as_ref().is_some_and(Coordinator::leads)
    }

    /// The coordinator that leads, if this host is a coordinator and knows.
    pub fn leader(&self) -> Option<&HostId> {
        let key = self.ledger.key_of_member(&self.coordinator.as_ref()?.leader()?)?;
        self.ledger.roster().host_of(&key)
    }

    /// The newest heartbeat of every host, its own among them, for others who ask.
    pub fn notices(&self) -> impl Iterator<Item = &[u8]> {
        self.own_presence.iter().chain(self.notices_held.values()).map(Vec::as_slice)
    }

    /// Decisions that wait for signatures; only a coordinator knows of any.
    pub fn waiting_decisions(&self) -> impl Iterator<Item = WaitingDecision<'_>> {
        self.coordinator.iter().flat_map(Coordinator::waiting).map(|(derived, waits_for, signatures)| {
            let body = &derived.decision.body;
            WaitingDecision { body, about: describe(body), waits_for, signatures }
        })
    }

    /// The document that the log adopts and this coordinator does not hold, so that it cannot go on.
    pub fn awaits(&self) -> Option<Digest> {
        self.coordinator.as_ref()?.awaits()
    }

    /// How far the coordinators are there.
    pub fn quorum(&self, now: Mono) -> Quorum {
        let Some(fleet) = self.ledger.documents().fleet() else { return Quorum::default() };
        let electorate = fleet.electorate();
        let online = |host: &&HostId| self.presences.reach(host, now) == Reach::Online && !self.is_out(host);
        let mut missing: Vec<HostId> =
            electorate.members.values().filter(|host| !online(host)).cloned().collect();
        missing.sort();
        Quorum {
            reachable: electorate.members.values().filter(online).count(),
            needed: electorate.quorum,
            of: electorate.members.len(),
            missing,
        }
    }

    /// Who may speak about the coordinators' log: those whom the newest fleet document names, and to whom who has a part
    /// in the log also those who have one until it lets them go.
    pub fn log_peers(&self) -> BTreeSet<PublicKey> {
        let Some(fleet) = self.ledger.documents().fleet() else { return BTreeSet::new() };
        let mut peers: BTreeSet<PublicKey> = fleet.electorate().members.into_keys().collect();
        if self.coordinator.is_some() {
            match self.ledger.group() {
                Some(group) => {
                    peers.extend(group.members().filter_map(|member| self.ledger.key_of_member(member)));
                }
                None => peers.extend(fleet.founders()),
            }
        }
        peers
    }

    /// Asks the gates as this node would.
    pub fn with_view<T>(&self, now: Now, ask: impl FnOnce(&View<'_>) -> T) -> T {
        let nothing = BTreeSet::new();
        let nobody = BTreeSet::new();
        let view = View::new(
            &self.ledger,
            &self.presences,
            self.coordinator.as_ref().map_or(&nothing, |it| &it.void),
            &nobody,
            now.mono,
        );
        ask(&view)
    }

    /// Why a command that is about to be published would do nothing; none if it fits, or is refused for another reason.
    pub fn misfit(&self, now: Now, document: &Verified<SignedDocument>) -> Option<Misfit> {
        let checked = self.ledger.documents().check_publish(document, now.utc);
        let Ok(Acceptance::New(accepted)) = checked else { return None };
        let Document::Command(command) = accepted.document() else { return None };
        let coordinating = |host: &HostId| self.coordinating(host);
        self.with_view(now, |view| verbs::fits(view, command, coordinating, now.utc).err())
    }

    /// A copy of what the node knows, to be asked what publishing a channel ref would do.
    pub fn known(&self, now: Now) -> Known {
        self.with_view(now, |view| Known::of(view, now.utc))
    }

    /// What a command that is held does now; none if it is not held.
    pub fn effect(&self, now: Now, command: &Digest) -> Option<Effect> {
        let command = self.ledger.documents().command(command)?;
        Some(self.with_view(now, |view| verbs::effect(view, command, now.utc)))
    }

    fn coordinating(&self, host: &HostId) -> Coordinating {
        let fleet = self.ledger.documents().fleet();
        let named =
            fleet.is_some_and(|fleet| fleet.electorate().members.values().any(|member| member == host));
        match &self.coordinator {
            Some(own) if *host == self.settings.host && own.stopped.is_some() => Coordinating::Stopped,
            Some(_) if *host == self.settings.host => Coordinating::Works,
            Some(_) | None if !named => Coordinating::No,
            Some(_) if self.leader() == Some(host) => Coordinating::Works,
            Some(_) | None => Coordinating::Unknown,
        }
    }

    /// How the fleet stands, in numbers.
    pub fn census(&self, now: Mono) -> Census {
        let mut census = Census {
            reachable: self.quorum(now).reachable,
            coordinates: self.coordinator.is_some(),
            term: self.coordinator.as_ref().map_or(0, |it| it.log.term()),
            outbox: self.outbox.len(),
            ..Census::default()
        };
        for record in self.ledger.rollouts().values() {
            if self.ledger.newest_rollout(&record.channel) != Some(&record.rollout_id) {
                continue;
            }
            census.waves.insert(record.channel.clone(), record.current_wave);
            for host in record.hosts.keys() {
                if let Some(mirrored) = self.ledger.record(host, &record.rollout_id) {
                    *census.hosts.entry((record.channel.clone(), mirrored.record.state)).or_default() += 1;
                }
            }
        }
        census
    }
}
