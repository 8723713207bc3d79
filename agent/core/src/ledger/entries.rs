//! Applying entries of the coordinators' log: what each means, and the decisions that follow from it.

use muster_signing::{Digest, PublicKey, sha256};
use serde::{Deserialize, Serialize};

use super::views::Subject;
use super::{Happening, Ledger, Table, key};
use crate::coordination::log::{Entry, MemberId, Membership};
use crate::document::{Plan, Verb};
use crate::planted::Bug;
use crate::rollout::{self, Effect, StepContext};
use crate::wire::{
    DECISION_VERSION, Decision, DecisionBody, DecisionId, DocumentKind, LogPayload, LogStatement,
    RolloutEvent, RolloutState, codec,
};

/// Why an entry cannot be applied yet, or ever by this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The document that the entry adopts is not held yet.
    #[error("the log adopts a document that is not held yet: {hash}")]
    Waits {
        /// SHA-256 of the document's bytes.
        hash: Digest,
    },
    /// The entry is of a newer reducer: this program must not go on as a coordinator.
    #[error("the log asks for rules {wanted}; this program knows up to {known}")]
    UnknownRules {
        /// The version that the entry asks for.
        wanted: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// What stands for the beginning of the log is not what this program makes of it.
    #[error("the snapshot of the log up to entry {index} cannot be used: {detail}")]
    Damaged {
        /// The last entry that it stands for.
        index: u64,
        /// What is wrong.
        detail: String,
    },
}

/// Why a decision follows from the log: what an approver asks its own evidence about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// An event of a rollout.
    Event(RolloutEvent),
    /// An earlier decision was given up.
    Withdrawn(DecisionId),
    /// The log asked for a snapshot.
    SnapshotAsked,
}

/// A decision that follows from an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// The decision.
    pub decision: Decision,
    /// Why.
    pub because: Because,
    /// Whether the leader's clock went back since the entry before.
    pub time_went_back: bool,
}

/// What an applied entry led to.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The decisions to be signed, by ordinal.
    pub decisions: Vec<Derived>,
    /// An earlier decision that was given up by it.
    pub withdrawn: Option<DecisionId>,
}

impl Ledger {
    /// Applies the next entry of the log.
    ///
    /// An entry is a claim of its leader. What it claims wrongly is refused by the reducer, the same way on
    /// every coordinator, and becomes an alarm; the entry still counts as applied.
    pub fn entry(&mut self, index: u64, entry: &Entry) -> Result<Applied, EntryError> {
        debug_assert!(index > self.applied, "entries are applied in order");
        let payload = self.read_payload(index, entry)?;
        if !self.follows_log {
            self.follow_log();
        }
        let position = self.arrive(Table::Log, key::number(index));
        let time_went_back = self.last_entry_at.is_some_and(|last| entry.at < last);
        self.applied = index;
        self.last_entry_at = self.last_entry_at.max(Some(entry.at));
        let mut applied = Applied::default();
        let mut bodies = Vec::new();
        self.step_group(entry);
        self.note_proposal(index, entry);
        let mut asked = false;
        match payload {
            None => {}
            Some(LogStatement::Rollout { events }) => {
                for event in events {
                    self.rollout_event(index, position, &event, &mut bodies);
                }
            }
            Some(LogStatement::RulesRaised { rules, .. }) => self.rules = rules,
            Some(LogStatement::SnapshotAsked {}) => asked = true,
            Some(LogStatement::DocumentAdopted { kind, hash, .. }) => self.adopt(index, kind, hash),
            Some(LogStatement::Withdrawn { log_index, ordinal }) => {
                let decision = DecisionId { log_index, ordinal };
                self.withdraw(decision, position);
                applied.withdrawn = Some(decision);
                bodies.push((DecisionBody::Withdrawn { decision }, Because::Withdrawn(decision)));
            }
        }
        let own = self.planted().has(Bug::OwnDecisions) && self.me.as_str().len() > 1;
        let own = if own { self.me.as_str().bytes().map(u64::from).sum::<u64>() } else { 0 };
        self.choose_deciding();
        if asked {
            self.note_asked(index);
            let snapshot = self.take_snapshot(index, entry);
            let digest = sha256(&snapshot.encode());
            bodies.push((DecisionBody::LogSnapshot { digest }, Because::SnapshotAsked));
            self.taken = Some(snapshot);
        }
        let fleet_serial = self.deciding + own % 2;
        let epoch = self.epoch().unwrap_or(super::NO_HASH);
        for (ordinal, (body, because)) in (0..).zip(bodies) {
            let decision = Decision {
                v: DECISION_VERSION,
                fleet: self.fleet.clone(),
                epoch,
                fleet_serial,
                log_index: index,
                ordinal,
                body,
            };
            let derived = Derived { decision, because, time_went_back };
            if !self.certified.contains_key(&derived.decision.id()) {
                self.uncertified.insert(derived.decision.id(), derived.clone());
                applied.decisions.push(derived);
            }
        }
        Ok(applied)
    }

    /// The serial of the newest adopted fleet document; 0 before the first.
    pub fn adopted_fleet_serial(&self) -> u64 {
        self.adopted
            .fleet
            .and_then(|hash| self.documents.fleet_by_hash(&hash))
            .map_or(0, |fleet| fleet.serial)
    }

    /// The serial of the fleet document whose coordinators decide: the newest adopted one whose coordinators all vote.
    pub fn deciding_serial(&self) -> u64 {
        self.deciding
    }

    /// The members of the log, as far as it was applied; nothing before its first entry.
    pub fn group(&self) -> Option<&Membership> {
        self.group.as_ref()
    }

    /// Follows the electorate of the log, which begins with the founders that every fleet document of it tells.
    fn step_group(&mut self, entry: &Entry) {
        if self.group.is_none() {
            let founders = self.documents.fleet().map(|fleet| fleet.founders()).unwrap_or_default();
            let voters = founders.iter().map(|key| MemberId(*key.as_bytes())).collect();
            self.group = Some(Membership::of_voters(voters));
        }
        let next = entry.change.and_then(|step| self.group.as_ref().and_then(|group| group.after(step)));
        if next.is_some() {
            self.group = next;
        }
    }

    /// The coordinators of a newer fleet document decide once all of them vote.
    fn choose_deciding(&mut self) {
        let adopted = self.adopted.fleet.and_then(|hash| self.documents.fleet_by_hash(&hash));
        let Some(adopted) = adopted.filter(|fleet| fleet.serial != self.deciding) else { return };
        let voters = self.group.as_ref().map(|group| &group.voters);
        let votes = |key: &PublicKey| {
            voters.is_some_and(|it| it.iter().any(|member| self.key_of_member(member) == Some(*key)))
        };
        if adopted.electorate().members.keys().all(votes) {
            self.deciding = adopted.serial;
        }
    }

    /// Reads an entry; what cannot be read is nothing, on every coordinator alike.
    fn read_payload(&mut self, index: u64, entry: &Entry) -> Result<Option<LogStatement>, EntryError> {
        if entry.payload.is_empty() {
            return Ok(None);
        }
        let payload: LogPayload = match codec::decode("log entry", &entry.payload) {
            Ok(payload) => payload,
            Err(error) => {
                self.alarm(format!("log entry {index} cannot be read: {error}"));
                return Ok(None);
            }
        };
        let Some(what) = self.under_rules(index, payload)? else { return Ok(None) };
        if let LogStatement::DocumentAdopted { hash, .. } = &what
            && !self.documents.holds(hash)
        {
            return Err(EntryError::Waits { hash: *hash });
        }
        Ok(Some(what))
    }

    /// From the first entry on rollouts follow from the log; what certified decisions showed is dropped.
    pub(super) fn follow_log(&mut self) {
        self.follows_log = true;
        for rollout in std::mem::take(&mut self.rollouts).into_keys() {
            self.touch(Subject::Rollout(rollout), self.last_position());
        }
        self.newest.clear();
        // What a command lifted is barred again until the log has adopted that command.
        let lifted = std::mem::take(&mut self.lifted);
        let places = self
            .quarantines
            .iter()
            .filter(|((channel, _), of)| of.keys().any(|id| lifted.contains(&(channel.clone(), *id))));
        let places: Vec<_> = places.map(|(place, _)| place.clone()).collect();
        for (channel, closure) in places {
            self.touch(Subject::Quarantine(channel, closure), self.last_position());
        }
    }

    fn adopt(&mut self, index: u64, kind: DocumentKind, hash: Digest) {
        match kind {
            DocumentKind::Fleet => {
                let Some(fleet) = self.documents.fleet_by_hash(&hash) else { return };
                if fleet.replaces.is_some() || fleet.serial > self.adopted_fleet_serial() {
                    self.adopted.fleet = Some(hash);
                    self.resolve_budgets();
                }
            }
            DocumentKind::ChannelRef => {
                let Some(plan) = self.documents.plan_by_ref(&hash) else { return };
                let known = self.adopted.refs.get(&plan.channel);
                let known = known.and_then(|known| self.documents.plan_by_ref(known));
                if known.is_some_and(|known| known.order >= plan.order) {
                    return;
                }
                self.adopted.refs.insert(plan.channel.clone(), hash);
                // A rollout that goes on under a name keeps its plan, whatever else operators give the name to.
                let id = &plan.rollout_id;
                let opened = self.rollouts.contains_key(id).then(|| self.traces.named.get(id)).flatten();
                let keeps = opened.is_some_and(|known| !self.documents.are_one_release(known, &hash));
                if !(keeps || self.is_pruned(id)) {
                    self.traces.named.insert(id.clone(), hash);
                    self.plans.insert(plan.rollout_id.clone(), plan);
                }
            }
            DocumentKind::Command => {
                if self.adopted.commands.insert(hash) {
                    self.lift_by(hash);
                    let command = self.documents.command(&hash);
                    if command.is_some_and(|it| matches!(it.verb, Verb::Readmit { .. })) {
                        self.adopted.readmissions.insert(hash, index);
                    }
                }
            }
        }
    }

    fn withdraw(&mut self, decision: DecisionId, position: u64) {
        self.slots.withdraw(decision);
        self.await_no_more(decision);
        // Whether its slot is still taken here is no matter of the log.
        let Some((rollout, host)) = self.traces.dispatches.remove(&decision) else { return };
        if let Some(record) = self.rollouts.get_mut(&rollout) {
            *record = rollout::withdraw(record, &host, decision.log_index);
        }
        self.touch(Subject::Rollout(rollout), position);
    }

    fn rollout_event(
        &mut self,
        index: u64,
        position: u64,
        event: &RolloutEvent,
        bodies: &mut Vec<(DecisionBody, Because)>,
    ) {
        let id = event.rollout_id().clone();
        if self.is_pruned(&id) {
            self.alarm(format!("log entry {index} speaks of {id}, which was pruned"));
            return;
        }
        let Some(plan) = self.plans.get(&id).cloned() else {
            self.alarm(format!("log entry {index} speaks of {id}, whose ref is not held"));
            return;
        };
        if let Err(why) = self.is_founded(event, &plan) {
            self.alarm(format!("log entry {index} claims what cannot be: {why}"));
            return;
        }
        let channel = id.channel();
        let open = self
            .rollouts
            .iter()
            .find(|(other, record)| **other != id && record.state.is_open() && other.channel() == channel);
        let let_go = self.let_go_for(event, &plan);
        let context = StepContext { open_on_channel: open.map(|(id, _)| id), let_go: &let_go };
        let step = match rollout::step(&plan, self.rollouts.get(&id), event, index, &context) {
            Ok(step) => step,
            Err(error) => {
                self.alarm(format!("log entry {index} claims what cannot be: {error}"));
                return;
            }
        };
        self.rollouts.insert(id.clone(), step.record);
        self.touch(Subject::Rollout(id.clone()), position);
        for effect in step.effects {
            let decision =
                DecisionId { log_index: index, ordinal: u32::try_from(bodies.len()).unwrap_or(u32::MAX) };
            if let Some(body) = self.rollout_effect(decision, event, effect) {
                bodies.push((body, Because::Event(event.clone())));
            }
        }
        match event {
            RolloutEvent::RolloutOpened { .. } => self.note_newest(&id),
            RolloutEvent::RolloutCancelled { reason, .. } => {
                self.mark_handled(&Verb::Cancel { rollout: id }, reason);
            }
            RolloutEvent::OperatorClearance { reason, .. } => {
                self.mark_handled(&Verb::ClearRollout { rollout: id }, reason);
            }
            RolloutEvent::HostJoined { .. }
            | RolloutEvent::HostStateChanged { .. }
            | RolloutEvent::WaveAdvanced { .. }
            | RolloutEvent::RolloutTerminal { .. }
            | RolloutEvent::SuccessorOpened { .. } => {}
            RolloutEvent::RetentionExpired { .. } => self.prune(&id),
        }
    }

    /// Whether the documents that count bear out what an event says that people ordered; the same on every
    /// coordinator, since the log itself says which documents count.
    fn is_founded(&self, event: &RolloutEvent, plan: &Plan) -> Result<(), String> {
        let id = event.rollout_id();
        let (verb, reason) = match event {
            RolloutEvent::RolloutOpened { .. } => {
                let newest = self.adopted.refs.get(&id.channel());
                let newest = newest.and_then(|hash| self.documents.plan_by_ref(hash));
                let of_newest = newest.is_some_and(|newest| newest.rollout_id == *id);
                return match of_newest && self.adopted.fleet == Some(plan.fleet_hash) {
                    true => Ok(()),
                    false => Err(format!("{id} is not of the newest ref and fleet document that count")),
                };
            }
            RolloutEvent::RolloutCancelled { reason, .. } => (Verb::Cancel { rollout: id.clone() }, reason),
            RolloutEvent::OperatorClearance { reason, .. } => {
                (Verb::ClearRollout { rollout: id.clone() }, reason)
            }
            RolloutEvent::HostJoined { .. }
            | RolloutEvent::HostStateChanged { .. }
            | RolloutEvent::WaveAdvanced { .. }
            | RolloutEvent::RolloutTerminal { .. }
            | RolloutEvent::SuccessorOpened { .. } => return Ok(()),
            RolloutEvent::RetentionExpired { .. } if self.log_refers_to(id) => {
                return Err(format!("{id} is its channel's newest rollout and may not be pruned"));
            }
            RolloutEvent::RetentionExpired { .. } => return Ok(()),
        };
        match self.unhandled(&verb, reason) {
            Some(_) => Ok(()),
            None => {
                Err(format!("no command that counts and was not carried out yet says {} {id}", verb.name()))
            }
        }
    }

    /// The first adopted command that orders this and whose event is not in the log yet.
    fn unhandled(&self, verb: &Verb, reason: &str) -> Option<Digest> {
        let mut commands = self.documents.commands().filter(|command| {
            self.adopted.commands.contains(&command.hash) && !self.adopted.handled.contains(&command.hash)
        });
        commands.find(|command| command.verb == *verb && command.reason == reason).map(|command| command.hash)
    }

    /// What an effect of the reducer means here; the decision that it asks for, if it asks for one.
    fn rollout_effect(
        &mut self,
        decision: DecisionId,
        event: &RolloutEvent,
        effect: Effect,
    ) -> Option<DecisionBody> {
        match effect {
            // Every host gives up what is over by its own retention: nobody waits for a decision.
            Effect::RecordRolloutTransition { to: RolloutState::Pruned, .. } => None,
            Effect::RecordRolloutTransition { rollout_id, from, to, at } => {
                self.happenings.push(Happening::RolloutMoved { rollout: rollout_id.clone(), from, to });
                let wave = self.rollouts.get(&rollout_id).map_or(0, |record| record.current_wave);
                Some(DecisionBody::RolloutTransition { rollout_id, from, to, wave, at })
            }
            Effect::UpdateCurrentWave { rollout_id, wave } => {
                let state = self.rollouts.get(&rollout_id)?.state;
                Some(DecisionBody::RolloutTransition {
                    rollout_id,
                    from: Some(state),
                    to: state,
                    wave,
                    at: event.at(),
                })
            }
            Effect::InsertQuarantineFromRollout { channel, closure, host, evidence } => {
                Some(DecisionBody::Quarantine {
                    channel,
                    closure,
                    rollout_id: event.rollout_id().clone(),
                    host,
                    evidence,
                })
            }
            Effect::QueueDispatch(dispatch) => {
                let host = dispatch.host.clone();
                let given_up = self.retired.contains(event.rollout_id());
                self.traces.dispatches.insert(decision, (event.rollout_id().clone(), host.clone()));
                let body = dispatch.into_decision();
                if !given_up {
                    self.slots.take(decision, &body);
                    self.open_record(decision.log_index, &body);
                    self.advance(&host);
                }
                Some(body)
            }
            // The record opens with the dispatch, and the planner looks for what is to be pruned.
            Effect::SchedulePruning { .. } | Effect::OpenRolloutRecord { .. } => None,
        }
    }

    /// A command whose event is in the log is not proposed again.
    fn mark_handled(&mut self, verb: &Verb, reason: &str) {
        if let Some(hash) = self.unhandled(verb, reason) {
            self.adopted.handled.insert(hash);
        }
    }
}
