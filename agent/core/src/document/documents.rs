//! The documents that a node has accepted, and what follows from them together.

mod pauses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_signing::{Digest, OperatorKey, SignedDocument, Verified};

use super::accept::Accepted;
use super::channel_ref::ChannelRefDocument;
use super::command::Command;
use super::fleet::Fleet;
use super::held::{Held, Proof, ProofPlace};
use super::plan::{self, Plan, RefOrder};
use super::trust::{Trust, TrustError};
use crate::id::{ChannelId, FleetName, OperatorName, RolloutId};
use crate::planted::{Bug, Planted};
use crate::wire::DocumentKind;

/// The set of accepted documents; cheap to clone.
#[derive(Debug, Clone)]
pub struct Documents(Arc<State>);

#[derive(Debug, Clone)]
pub(super) struct State {
    /// Never empty, all of one fleet.
    pub(super) pins: Vec<Trust>,
    /// The bug that whatever relies on them has, in the simulator.
    pub(super) planted: Planted,
    /// The position of the next document.
    pub(super) next: u64,
    /// Every document by position.
    by_position: BTreeMap<u64, Document>,
    positions: BTreeMap<Digest, u64>,
    /// The fleet documents since the last recovery; the last one is the newest.
    pub(super) fleets: BTreeMap<u64, Arc<Held<Fleet>>>,
    /// The refs since the last recovery.
    pub(super) refs: BTreeMap<ChannelId, BTreeMap<RefOrder, Arc<Held<ChannelRefDocument>>>>,
    /// The newest ref of each name that was ever used.
    pub(super) names: BTreeMap<RolloutId, Arc<Held<ChannelRefDocument>>>,
    plans: BTreeMap<Digest, Arc<Plan>>,
    commands: BTreeMap<(u64, Digest), Arc<Held<Command>>>,
    /// The fleet documents that changed the operators, in order; the first one is the root.
    chain: Vec<Arc<Held<Fleet>>>,
    /// By the hash of the later document.
    proofs: BTreeMap<Digest, Proof>,
    /// The proofs since the last recovery.
    contended: BTreeMap<ProofPlace, Digest>,
    /// A ref that is not there, and counts as signed by all who have to.
    supposed: Option<Digest>,
}

/// An accepted document of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A fleet document.
    Fleet(Arc<Held<Fleet>>),
    /// A channel ref.
    ChannelRef(Arc<Held<ChannelRefDocument>>),
    /// A command.
    Command(Arc<Held<Command>>),
}

impl Document {
    /// What kind it is.
    pub fn kind(&self) -> DocumentKind {
        match self {
            Self::Fleet(_) => DocumentKind::Fleet,
            Self::ChannelRef(_) => DocumentKind::ChannelRef,
            Self::Command(_) => DocumentKind::Command,
        }
    }

    /// SHA-256 of its bytes.
    pub fn hash(&self) -> Digest {
        match self {
            Self::Fleet(held) => held.hash,
            Self::ChannelRef(held) => held.hash,
            Self::Command(held) => held.hash,
        }
    }

    /// Its serial.
    pub fn serial(&self) -> u64 {
        match self {
            Self::Fleet(held) => held.serial,
            Self::ChannelRef(held) => held.serial,
            Self::Command(held) => held.serial,
        }
    }

    /// How many documents were accepted before it.
    pub fn position(&self) -> u64 {
        match self {
            Self::Fleet(held) => held.position,
            Self::ChannelRef(held) => held.position,
            Self::Command(held) => held.position,
        }
    }

    /// The channel of a ref.
    pub fn channel(&self) -> Option<&ChannelId> {
        match self {
            Self::ChannelRef(held) => Some(&held.channel),
            Self::Fleet(_) | Self::Command(_) => None,
        }
    }

    /// Its bytes and signatures.
    pub fn signed(&self) -> &Arc<Verified<SignedDocument>> {
        match self {
            Self::Fleet(held) => &held.signed,
            Self::ChannelRef(held) => &held.signed,
            Self::Command(held) => &held.signed,
        }
    }
}

impl Documents {
    /// Begins with nothing but the pinned roots.
    pub fn new(pins: Vec<Trust>) -> Result<Self, TrustError> {
        let first = pins.first().ok_or(TrustError::Nothing)?;
        if let Some(other) = pins.iter().find(|pin| pin.fleet != first.fleet) {
            return Err(TrustError::TwoFleets(first.fleet.clone(), other.fleet.clone()));
        }
        Ok(Self(Arc::new(State {
            pins,
            planted: Planted::default(),
            next: 0,
            by_position: BTreeMap::new(),
            positions: BTreeMap::new(),
            fleets: BTreeMap::new(),
            refs: BTreeMap::new(),
            names: BTreeMap::new(),
            plans: BTreeMap::new(),
            commands: BTreeMap::new(),
            chain: Vec::new(),
            proofs: BTreeMap::new(),
            contended: BTreeMap::new(),
            supposed: None,
        })))
    }

    /// The same documents for a node that has a bug.
    #[cfg(feature = "planted")]
    #[must_use]
    pub fn with_planted(mut self, planted: Planted) -> Self {
        Arc::make_mut(&mut self.0).planted = planted;
        self
    }

    /// The bug that whatever relies on them has: none but in the simulator.
    pub(crate) fn planted(&self) -> Planted {
        self.0.planted
    }

    pub(super) fn state(&self) -> &State {
        &self.0
    }

    /// Adds a document that a check accepted.
    ///
    /// # Panics
    ///
    /// If another one was added since the check: a check speaks of the set that it saw.
    pub fn insert(&mut self, accepted: Accepted) {
        let document = accepted.into_document();
        let state = Arc::make_mut(&mut self.0);
        assert_eq!(document.position(), state.next, "a document was accepted since this one was checked");
        state.next += 1;
        state.positions.insert(document.hash(), document.position());
        state.by_position.insert(document.position(), document.clone());
        match document {
            Document::Fleet(held) => state.insert_fleet(held),
            Document::ChannelRef(held) => {
                state.insert_plan(&held);
                state
                    .refs
                    .entry(held.channel.clone())
                    .or_default()
                    .entry(held.order())
                    .or_insert(Arc::clone(&held));
                state.insert_name(&held);
            }
            Document::Command(held) => {
                state.commands.insert((held.serial, held.hash), held);
            }
        }
    }

    /// Adds a ref as if it had been signed by all who have to.
    pub(crate) fn insert_supposed(&mut self, accepted: Accepted) {
        Arc::make_mut(&mut self.0).supposed = Some(accepted.document().hash());
        self.insert(accepted);
    }

    /// Keeps a proof that operators signed two documents of one serial.
    pub fn insert_proof(&mut self, proof: Proof) {
        // One proof of a place is enough, and more could be made without end.
        if self.0.contended.contains_key(&proof.place) {
            return;
        }
        let state = Arc::make_mut(&mut self.0);
        let other = proof.other.digest();
        state.contended.insert(proof.place.clone(), other);
        state.proofs.insert(other, proof);
    }

    /// Gives up a document that nothing needs any more; answers whether it did.
    ///
    /// Kept are the newest fleet document, those that changed the operators, those that a held ref names, and
    /// each channel's newest ref.
    pub fn forget(&mut self, hash: &Digest) -> bool {
        let Some(document) = self.get(hash).cloned() else { return false };
        if self.is_needed(&document) {
            return false;
        }
        let state = Arc::make_mut(&mut self.0);
        state.positions.remove(hash);
        state.by_position.remove(&document.position());
        match document {
            Document::Fleet(_) => state.fleets.retain(|_, held| held.hash != *hash),
            Document::ChannelRef(_) => {
                state.names.retain(|_, held| held.hash != *hash);
                state.plans.remove(hash);
                for refs in state.refs.values_mut() {
                    refs.retain(|_, held| held.hash != *hash);
                }
            }
            Document::Command(held) => {
                state.commands.remove(&(held.serial, held.hash));
            }
        }
        true
    }

    fn is_needed(&self, document: &Document) -> bool {
        match document {
            Document::Fleet(held) => {
                self.fleet().is_some_and(|newest| newest.hash == held.hash)
                    || self.0.chain.iter().any(|link| link.hash == held.hash)
                    || self.0.by_position.values().any(|other| match other {
                        Document::ChannelRef(other) => other.fleet_hash == held.hash,
                        Document::Fleet(_) | Document::Command(_) => false,
                    })
            }
            Document::ChannelRef(held) => {
                self.channel_ref(&held.channel).is_some_and(|newest| newest.hash == held.hash)
            }
            Document::Command(_) => false,
        }
    }

    /// Every document, in the order in which they were accepted.
    pub fn in_order(&self) -> impl Iterator<Item = &Document> {
        self.0.by_position.values()
    }

    /// The fleet of the pinned roots.
    pub fn fleet_name(&self) -> &FleetName {
        &self.0.pins[0].fleet
    }

    /// The pinned roots.
    pub fn pins(&self) -> &[Trust] {
        &self.0.pins
    }

    /// The newest fleet document.
    pub fn fleet(&self) -> Option<&Arc<Held<Fleet>>> {
        self.0.fleets.values().next_back()
    }

    /// Whether the newest fleet document counts no more.
    pub fn fleet_is_expired(&self, now: DateTime<Utc>) -> bool {
        self.fleet().and_then(|fleet| fleet.expires_at).is_some_and(|expires_at| expires_at <= now)
    }

    /// A fleet document by hash, also one from before a recovery.
    pub fn fleet_by_hash(&self, hash: &Digest) -> Option<&Arc<Held<Fleet>>> {
        match self.get(hash)? {
            Document::Fleet(held) => Some(held),
            Document::ChannelRef(_) | Document::Command(_) => None,
        }
    }

    /// The fleet documents since the last recovery, oldest first.
    pub fn fleets(&self) -> impl DoubleEndedIterator<Item = &Arc<Held<Fleet>>> {
        self.0.fleets.values()
    }

    /// A fleet document by serial, of those since the last recovery.
    pub fn fleet_by_serial(&self, serial: u64) -> Option<&Arc<Held<Fleet>>> {
        self.0.fleets.get(&serial)
    }

    /// The fleet documents that changed the operators, in order, from the root on.
    pub fn chain(&self) -> &[Arc<Held<Fleet>>] {
        &self.0.chain
    }

    /// The last recovery document, if there ever was one.
    pub fn last_recovery(&self) -> Option<&Arc<Held<Fleet>>> {
        self.0.chain.iter().rev().find(|fleet| fleet.replaces.is_some())
    }

    /// A channel's newest ref.
    pub fn channel_ref(&self, channel: &ChannelId) -> Option<&Arc<Held<ChannelRefDocument>>> {
        self.0.refs.get(channel)?.values().next_back()
    }

    /// The newest ref of each channel.
    pub fn channel_refs(&self) -> impl Iterator<Item = (&ChannelId, &Arc<Held<ChannelRefDocument>>)> {
        self.0.refs.iter().filter_map(|(channel, refs)| Some((channel, refs.values().next_back()?)))
    }

    /// A ref by hash, also one from before a recovery.
    pub fn ref_by_hash(&self, hash: &Digest) -> Option<&Arc<Held<ChannelRefDocument>>> {
        match self.get(hash)? {
            Document::ChannelRef(held) => Some(held),
            Document::Fleet(_) | Document::Command(_) => None,
        }
    }

    /// A rollout's newest ref: the original or its latest refresh; of several that differ, the first one has the name.
    pub fn ref_of_rollout(&self, rollout: &RolloutId) -> Option<&Arc<Held<ChannelRefDocument>>> {
        self.0.names.get(rollout)
    }

    /// Whether two refs, by hash, release the same: one is the other or its refresh.
    pub fn are_one_release(&self, a: &Digest, b: &Digest) -> bool {
        match (self.ref_by_hash(a), self.ref_by_hash(b)) {
            (Some(a), Some(b)) => a.is_refresh_of(b),
            (Some(_) | None, _) => false,
        }
    }

    /// A channel's refs since the last recovery, oldest first.
    pub fn refs(
        &self,
        channel: &ChannelId,
    ) -> impl DoubleEndedIterator<Item = &Arc<Held<ChannelRefDocument>>> {
        self.0.refs.get(channel).into_iter().flat_map(BTreeMap::values)
    }

    /// The plan that a ref makes with the fleet document that it names.
    pub fn plan_by_ref(&self, hash: &Digest) -> Option<Arc<Plan>> {
        self.0.plans.get(hash).cloned()
    }

    /// The plan of each channel's newest ref.
    pub fn newest_plans(&self) -> impl Iterator<Item = Arc<Plan>> {
        self.channel_refs().filter_map(|(_, newest)| self.plan_by_ref(&newest.hash))
    }

    /// A command by hash.
    pub fn command(&self, hash: &Digest) -> Option<&Arc<Held<Command>>> {
        match self.get(hash)? {
            Document::Command(held) => Some(held),
            Document::Fleet(_) | Document::ChannelRef(_) => None,
        }
    }

    /// Every command, in the order in which they take effect.
    pub fn commands(&self) -> impl DoubleEndedIterator<Item = &Arc<Held<Command>>> {
        self.0.commands.values()
    }

    /// The commands that still count: not expired, and signed by enough of the newest operators.
    pub fn commands_in_force(
        &self,
        now: DateTime<Utc>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Held<Command>>> {
        let fleet = self.fleet();
        self.commands().filter(move |command| {
            command.is_live(now)
                && fleet.is_some_and(|fleet| enough(&command.signed, fleet, fleet.thresholds.command))
        })
    }

    /// Whether a ref is held and enough of the newest operators sign it.
    pub fn is_still_signed(&self, hash: &Digest) -> bool {
        let (Some(held), Some(fleet)) = (self.ref_by_hash(hash), self.fleet()) else { return false };
        let enough = enough(&held.signed, fleet, fleet.thresholds.channel_ref);
        self.0.supposed == Some(*hash) || enough || self.planted().has(Bug::SignersKept)
    }

    /// The name of the first of the newest operators who is among the signers.
    pub fn signer_name(&self, signers: &BTreeSet<OperatorKey>) -> Option<&OperatorName> {
        let operators = &self.fleet()?.operators;
        operators.iter().find(|(_, key)| signers.contains(*key)).map(|(name, _)| name)
    }

    /// The proof because of which nothing opens or is adopted on a channel, if there is one.
    pub fn blocked_by(&self, channel: &ChannelId) -> Option<&Proof> {
        self.fleet_blocked_by().or_else(|| {
            let newest = self.channel_ref(channel)?;
            self.contention(&ProofPlace::Channel { channel: channel.clone(), order: newest.order() })
        })
    }

    /// The proof because of which no fleet document is adopted, if there is one.
    pub fn fleet_blocked_by(&self) -> Option<&Proof> {
        self.contention(&ProofPlace::Fleet { serial: self.fleet()?.serial })
    }

    /// Whether equivocation keeps fleet documents from being adopted.
    pub fn is_fleet_blocked(&self) -> bool {
        self.fleet_blocked_by().is_some()
    }

    /// Whether equivocation keeps a channel from opening or adopting anything.
    pub fn is_blocked(&self, channel: &ChannelId) -> bool {
        self.blocked_by(channel).is_some()
    }

    fn contention(&self, place: &ProofPlace) -> Option<&Proof> {
        self.0.proofs.get(self.0.contended.get(place)?)
    }

    /// Every proof of equivocation.
    pub fn proofs(&self) -> impl Iterator<Item = &Proof> {
        self.0.proofs.values()
    }

    /// A document by hash.
    pub fn get(&self, hash: &Digest) -> Option<&Document> {
        self.0.by_position.get(self.0.positions.get(hash)?)
    }

    /// Whether a document is held.
    pub fn holds(&self, hash: &Digest) -> bool {
        self.0.positions.contains_key(hash)
    }

    /// Every document in the order of acceptance; in that order another node accepts them too.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Document> {
        self.0.by_position.values()
    }
}

impl State {
    /// A check let the ref through, so that it makes a plan with the fleet document that it names.
    fn insert_plan(&mut self, held: &Held<ChannelRefDocument>) {
        let named = self.positions.get(&held.fleet_hash).and_then(|position| self.by_position.get(position));
        if let Some(Document::Fleet(fleet)) = named
            && let Ok(plan) = plan::resolve(fleet, fleet.hash, held, held.hash)
        {
            self.plans.insert(held.hash, Arc::new(plan));
        }
    }

    /// A ref and its refreshes have a name together: of several that differ, those of which one was signed first. A
    /// refresh may come before what it refreshes.
    fn insert_name(&mut self, held: &Arc<Held<ChannelRefDocument>>) {
        let refs = self.refs.get(&held.channel);
        let is_present =
            |it: &Held<ChannelRefDocument>| refs.is_some_and(|refs| refs.contains_key(&it.order()));
        let known = self.names.get(&held.rollout_id());
        let first = match known {
            None => held,
            Some(known) if held.is_refresh_of(known) => known,
            Some(known) if is_present(known) && held.order() < known.order() => held,
            Some(known) => known,
        };
        let of_it = refs.into_iter().flat_map(BTreeMap::values).filter(|other| other.is_refresh_of(first));
        let newest = Arc::clone(of_it.max_by_key(|other| other.order()).unwrap_or(first));
        self.names.insert(held.rollout_id(), newest);
    }

    fn insert_fleet(&mut self, held: Arc<Held<Fleet>>) {
        let newest = self.fleets.values().next_back();
        let past = held.replaces.is_none() && newest.is_some_and(|newest| held.serial <= newest.serial);
        let is_link = newest.is_none_or(|newest| !newest.same_operators(&held)) || held.replaces.is_some();
        if held.replaces.is_some() {
            self.fleets.clear();
            self.refs.clear();
            self.contended.clear();
        }
        if is_link && !past {
            self.chain.push(Arc::clone(&held));
        }
        self.fleets.entry(held.serial).or_insert(held);
    }
}

/// Whether enough of a fleet document's operators signed.
pub(super) fn enough(signed: &SignedDocument, fleet: &Fleet, threshold: usize) -> bool {
    signed.count(operators(fleet)) >= threshold
}

pub(super) fn operators(fleet: &Fleet) -> impl Iterator<Item = &OperatorKey> {
    fleet.operators.values()
}
