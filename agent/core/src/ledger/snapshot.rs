//! What the log alone led to: the same bytes on every coordinator, so that a quorum can sign for them and they can take
//! the place of the entries.
//!
//! An entry says when, and by then each coordinator has come to the same state; its digest is a decision like any other.
//! Who is sent such a snapshot believes the quorum that certified it, and nobody else. What hosts, operators and quorums
//! signed is not in it: it is held by whoever takes it in, or is still to come. What makes a state is part of the
//! reducer's version: another form of it is another version of the rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use muster_signing::Digest;
use serde::{Deserialize, Serialize};

use super::views::Subject;
use super::{Adopted, EntryError, Ledger, NO_HASH, Table, key};
use crate::coordination::log::{Entry, ProposalId, REPEAT_WINDOW, Snapshot};
use crate::id::{ChannelId, HostId, RolloutId};
use crate::planted::Bug;
use crate::rollout;
use crate::wire::codec::{self, DecodeError};
use crate::wire::{DecisionBody, DecisionId, RolloutState};

/// The version of a state's form.
const VERSION: u32 = 1;
/// How many certified snapshots are remembered: a leader may still be sending an older one.
const CERTIFIED_MAX: usize = 16;

/// What only snapshots need to know of the log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Traces {
    /// The adopted ref that gave each rollout its name.
    pub(super) named: BTreeMap<RolloutId, Digest>,
    /// Rollouts that the log gave up: their names mean nothing any more.
    pub(super) pruned: BTreeSet<RolloutId>,
    /// Dispatches of all others that were not given up.
    pub(super) dispatches: BTreeMap<DecisionId, (RolloutId, HostId)>,
    /// Which proposals stand among the last entries.
    recent: VecDeque<(u64, ProposalId)>,
    /// The newest entry that asked for a snapshot.
    asked: u64,
    /// The newest certified snapshots, by the entry up to which each stands.
    certified: BTreeMap<u64, Digest>,
    /// Dispatches that a snapshot told of and whose certificates are still to come.
    awaited: BTreeSet<DecisionId>,
    /// Up to which entry this node knows of dispatches by their certificates alone.
    installed: u64,
}

/// What the log alone led to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    v: u32,
    epoch: Digest,
    rules: u32,
    deciding: u64,
    last_entry_at: Option<DateTime<Utc>>,
    adopted: Adopted,
    named: BTreeMap<RolloutId, Digest>,
    /// Those that were not pruned.
    rollouts: BTreeMap<RolloutId, rollout::Record>,
    newest: BTreeMap<ChannelId, RolloutId>,
    ended: BTreeMap<ChannelId, u64>,
    pruned: BTreeSet<RolloutId>,
    dispatches: BTreeMap<DecisionId, (RolloutId, HostId)>,
}

impl Ledger {
    /// The snapshot up to the entry that was applied last.
    pub(super) fn take_snapshot(&self, index: u64, entry: &Entry) -> Snapshot {
        Snapshot {
            at: entry.at,
            term: entry.term,
            index: index - self.base,
            state: codec::encode_row(&self.state_of_log()),
            recent: self.traces.recent.iter().map(|(at, id)| (*id, *at)).collect(),
            chain_hash: entry.chain_hash,
            membership: self.group.clone().unwrap_or_default(),
        }
    }

    /// The digest of what the log alone led to.
    pub fn digest_of_log(&self) -> Digest {
        muster_signing::sha256(&codec::encode_row(&self.state_of_log()))
    }

    fn state_of_log(&self) -> State {
        let kept = |id: &RolloutId| !self.traces.pruned.contains(id);
        let mut ended = self.ended.clone();
        let pruned = self.rollouts.iter().filter(|(id, record)| !kept(id) && record.came_to_its_end());
        for (_, record) in pruned {
            let last = ended.entry(record.channel.clone()).or_default();
            *last = record.opened_log_index.max(*last);
        }
        let rollouts = self.rollouts.iter().filter(|(id, _)| kept(id));
        State {
            v: VERSION,
            epoch: self.epoch.unwrap_or(NO_HASH),
            rules: self.rules,
            deciding: self.deciding,
            last_entry_at: self.last_entry_at,
            adopted: self.adopted.clone(),
            named: self.traces.named.clone(),
            rollouts: rollouts.map(|(id, record)| (id.clone(), record.clone())).collect(),
            newest: self.newest.clone(),
            ended,
            pruned: self.traces.pruned.clone(),
            dispatches: self.traces.dispatches.clone(),
        }
    }

    /// Puts a snapshot in the place of everything that the log led to before.
    ///
    /// It waits for the documents that it names, as the entries would have.
    pub(crate) fn install(&mut self, snapshot: &Snapshot) -> Result<(), EntryError> {
        let index = self.base.saturating_add(snapshot.index);
        let damaged = |error: DecodeError| EntryError::Damaged { index, detail: error.to_string() };
        let state: State = codec::decode("snapshot of the log", &snapshot.state).map_err(damaged)?;
        if state.v != VERSION || Some(state.epoch) != self.epoch || index <= self.applied {
            let detail = format!("version {} after entry {}, or of another epoch", state.v, self.applied);
            return Err(EntryError::Damaged { index, detail });
        }
        if state.rules > self.known_rules {
            return Err(EntryError::UnknownRules { wanted: state.rules, known: self.known_rules });
        }
        let named = state.adopted.documents().chain(state.named.values().copied());
        if let Some(hash) = named.into_iter().find(|hash| !self.documents.holds(hash)) {
            return Err(EntryError::Waits { hash });
        }
        let row = key::installed(self.position);
        self.batch.put(Table::Snapshot, row.clone(), snapshot.encode());
        let position = self.arrive(Table::Snapshot, row);
        if !self.follows_log {
            self.follow_log();
        }
        (self.rules, self.deciding, self.applied) = (state.rules, state.deciding, index);
        self.last_entry_at = state.last_entry_at;
        self.group = Some(snapshot.membership.clone());
        self.adopted = state.adopted;
        self.resolve_budgets();
        for (id, hash) in &state.named {
            let known = self.plans.get(id).map(|plan| plan.ref_hash);
            let goes_on = known.is_some_and(|known| self.documents.are_one_release(&known, hash));
            if let Some(plan) = self.documents.plan_by_ref(hash).filter(|_| !goes_on) {
                self.plans.insert(id.clone(), plan);
            }
        }
        self.replace_rollouts(state.rollouts, &state.pruned, position);
        (self.newest, self.ended) = (state.newest, state.ended);
        self.lifted.clear();
        for command in self.adopted.commands.clone() {
            self.lift_by(command);
        }
        self.traces.awaited =
            state.dispatches.keys().filter(|id| !self.certified.contains_key(id)).copied().collect();
        (self.traces.named, self.traces.pruned) = (state.named, state.pruned);
        self.traces.dispatches = state.dispatches;
        self.traces.recent = snapshot.recent.iter().map(|(id, at)| (*at, *id)).collect();
        (self.traces.asked, self.traces.installed) = (index, index);
        // What waited for entries before the snapshot has nothing to wait for any more.
        let hosts: Vec<HostId> = self.feeds.keys().cloned().collect();
        for host in hosts {
            self.advance(&host);
        }
        Ok(())
    }

    fn replace_rollouts(
        &mut self,
        rollouts: BTreeMap<RolloutId, rollout::Record>,
        pruned: &BTreeSet<RolloutId>,
        position: u64,
    ) {
        let before = std::mem::replace(&mut self.rollouts, rollouts);
        for (id, mut record) in before {
            self.touch(Subject::Rollout(id.clone()), position);
            if self.planted().has(Bug::SnapshotForgets) {
                self.rollouts.insert(id, record);
                continue;
            }
            // This host gives it up in its own time.
            if pruned.contains(&id) {
                record.state = RolloutState::Pruned;
                self.rollouts.insert(id, record);
            }
        }
        let now: Vec<RolloutId> = self.rollouts.keys().cloned().collect();
        for id in now {
            self.touch(Subject::Rollout(id), position);
        }
    }

    /// Notes a proposal that stands in the log.
    pub(super) fn note_proposal(&mut self, index: u64, entry: &Entry) {
        let index = index - self.base;
        let recent = &mut self.traces.recent;
        recent.extend(entry.id.map(|id| (index, id)));
        while recent.front().is_some_and(|(at, _)| *at + REPEAT_WINDOW <= index) {
            recent.pop_front();
        }
    }

    /// The log asks for a snapshot up to this entry.
    pub(super) fn note_asked(&mut self, index: u64) {
        self.traces.asked = index;
    }

    /// How many entries were applied since the log asked for a snapshot.
    pub fn entries_since_snapshot(&self) -> u64 {
        self.applied - self.traces.asked.max(self.base)
    }

    /// The newest certified snapshots: the entry up to which each stands, and the digest of its bytes.
    pub fn certified_snapshots(&self) -> &BTreeMap<u64, Digest> {
        &self.traces.certified
    }

    /// A quorum signed for the snapshot up to an entry.
    pub(super) fn certify_snapshot(&mut self, index: u64, digest: Digest) {
        self.traces.certified.insert(index, digest);
        while self.traces.certified.len() > CERTIFIED_MAX {
            self.traces.certified.pop_first();
        }
        let Some(taken) = self.taken.as_ref().map(|taken| self.base + taken.index) else { return };
        let differs = taken == index && self.taken_digest() != Some(digest);
        if differs {
            self.alarm(format!(
                "a quorum of the coordinators has come to another state after log entry {index} than this one: start it \
                 with an empty state directory and sign a readmit command for host {}",
                self.me
            ));
        }
        if differs || taken < index {
            self.taken = None;
        }
    }

    fn taken_digest(&self) -> Option<Digest> {
        Some(muster_signing::sha256(&self.taken.as_ref()?.encode()))
    }

    /// The snapshot that may take the place of entries now: made here, and certified in the same bytes.
    pub(crate) fn certified_here(&mut self) -> Option<Snapshot> {
        let certified = self.traces.certified.get(&(self.base + self.taken.as_ref()?.index)).copied();
        let same = certified.is_some() && certified == self.taken_digest();
        self.taken.take_if(|_| same)
    }

    /// A decision up to an entry of which a quorum may still have to say something, so that no snapshot may stand for what
    /// led to it.
    pub fn unsettled_before(&self, index: u64, is_void: impl Fn(&DecisionId) -> bool) -> Option<DecisionId> {
        let open = self.uncertified.values().filter(|derived| !is_snapshot(&derived.decision.body));
        let open = open.map(|derived| derived.decision.id()).filter(|id| id.log_index < index);
        // Who installs the snapshot waits for every dispatch in it.
        let mut open = open.filter(|id| !is_void(id) || self.traces.dispatches.contains_key(id));
        open.next()
    }

    /// A dispatch of which a snapshot told, and that no certificate has shown yet: until then this coordinator does not know
    /// which hosts are on their way.
    pub fn awaited_dispatch(&self) -> Option<&DecisionId> {
        self.traces.awaited.first()
    }

    /// A certificate has come, or none ever will.
    pub(super) fn await_no_more(&mut self, id: DecisionId) {
        self.traces.awaited.remove(&id);
    }

    /// Whether every dispatch up to an entry of the log is known here.
    pub(super) fn knows_dispatches_at(&self, index: u64) -> bool {
        self.follows_log && index <= self.applied && index > self.traces.installed
    }

    /// Whether the log gave a rollout up: its name means nothing any more.
    pub fn is_pruned(&self, rollout: &RolloutId) -> bool {
        self.traces.pruned.contains(rollout)
    }

    /// The log gives a rollout up.
    pub(super) fn prune(&mut self, rollout: &RolloutId) {
        let traces = &mut self.traces;
        traces.named.remove(rollout);
        traces.pruned.insert(rollout.clone());
        traces.dispatches.retain(|_, (of, _)| of != rollout);
        traces.awaited.retain(|id| traces.dispatches.contains_key(id));
    }
}

/// Whether a decision is about the log itself.
fn is_snapshot(body: &DecisionBody) -> bool {
    matches!(body, DecisionBody::LogSnapshot { .. })
}

impl Adopted {
    /// Everything that it names.
    fn documents(&self) -> impl Iterator<Item = Digest> {
        let commands = self.commands.iter().chain(self.readmissions.keys());
        self.fleet.iter().chain(self.refs.values()).chain(commands).copied()
    }
}
