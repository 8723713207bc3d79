//! Approval: what this coordinator says to each decision, and the certificates that a quorum's words make.

use super::coordinator::Coordinator;
use super::door::CoordinatorMessage;
use super::turn::Turn;
use super::{Node, Note, Output, Topic};
use crate::coordination::approval::{Judgement, judge};
use crate::document::Electorate;
use crate::id::FleetName;
use crate::ledger::{Derived, Table, key};
use crate::planted::Bug;
use crate::time::{Mono, Now};
use crate::verify;
use crate::verify::{Endorsement, EndorsementMessage};
use crate::view::View;
use crate::wire::{DecisionBody, DecisionId, NoticeBody, codec};
use muster_signing::{Digest, PublicKey, Signature, SigningKey, assemble, sha256, sign_decision};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long another coordinator waits for the leader to publish a certificate.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(200);

/// The longest pause between two repetitions of one signature.
const REPEAT_MAX: Duration = Duration::from_secs(60);
/// The shortest time between two looks at every waiting decision, but for new ones: many inputs make one look.
const REVIEW_DEBOUNCE: Duration = Duration::from_millis(20);

/// How often a decision that is not certified is looked at again, and its signature sent again.
pub(super) const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

/// What this coordinator said to a decision; on disk before it leaves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(super) enum Said {
    /// It signed these bytes.
    Endorsed {
        /// SHA-256 of the decision.
        hash: Digest,
    },
    /// It never will.
    Objected {
        /// Why.
        reason: String,
    },
}

/// A decision that is not certified yet.
#[derive(Debug)]
pub(super) struct Approval {
    pub(super) derived: Derived,
    pub(super) bytes: Vec<u8>,
    /// Who decides about it.
    pub(super) electorate: Electorate,
    pub(super) said: Option<Said>,
    pub(super) waits_for: Option<String>,
    pub(super) signatures: BTreeMap<PublicKey, Signature>,
    pub(super) objectors: BTreeSet<PublicKey>,
    pub(super) began: Mono,
    /// When it was last judged, or its signature last sent.
    pub(super) looked: Mono,
    /// How long until it is looked at again; doubles while its signature is only repeated.
    pub(super) pause: Duration,
}

impl Approval {
    /// Whether so many objected that it can never be certified.
    pub(super) fn is_void(&self) -> bool {
        let Electorate { members, quorum, faults } = &self.electorate;
        let objectors = self.objectors.iter().filter(|key| members.contains_key(*key)).count();
        objectors >= (members.len() + 1 + faults).saturating_sub(*quorum).max(1)
    }
}

/// A certificate that the leader should have published.
#[derive(Debug)]
pub(super) struct Unpublished {
    pub(super) at: Mono,
    pub(super) bytes: Vec<u8>,
}

impl Node {
    /// Asks this coordinator's own evidence about every decision to which it has said nothing yet.
    pub(super) fn review(&mut self, turn: &mut Turn) {
        let now = turn.now;
        let blind = self.ledger.awaited_dispatch().map(|DecisionId { log_index, ordinal }| {
            format!("a snapshot of the log tells of decision {log_index}.{ordinal}, which is still to come")
        });
        let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) else { return };
        coordinator.review_wanted |= turn.changed && !coordinator.approvals.is_empty();
        if coordinator.review_due().is_none_or(|due| now.mono < due) {
            return;
        }
        coordinator.review_wanted = false;
        coordinator.reviewed = Some(now.mono);
        let void = coordinator.void.clone();
        let nobody = BTreeSet::new();
        let view = View::new(&self.ledger, &self.presences, &void, &nobody, now.mono);
        let (me, planted) = (self.signer.public(), self.ledger.planted());
        let since = self.ledger.approves_since(coordinator.life);
        for (id, approval) in &mut coordinator.approvals {
            // To what an earlier life may have answered otherwise, a readmitted coordinator says nothing at all.
            let answered = since.is_none_or(|since| id.log_index <= since);
            if answered || !approval.electorate.members.contains_key(&me) {
                approval.looked = now.mono;
                approval.pause = REPEAT_MAX;
                continue;
            }
            if planted.has(Bug::ObjectionForgotten) && matches!(approval.said, Some(Said::Objected { .. })) {
                approval.said = None;
            }
            if approval.said.is_some() {
                if now.mono >= approval.looked.after(approval.pause) {
                    turn.say_again.extend((!planted.has(Bug::SaidOnce)).then_some(*id));
                    approval.looked = now.mono;
                    // What an earlier life said begins without a pause.
                    approval.pause = (approval.pause * 2).clamp(REVIEW_INTERVAL, REPEAT_MAX);
                }
                continue;
            }
            approval.looked = now.mono;
            approval.pause = REVIEW_INTERVAL;
            let judgement = match &blind {
                Some(why) => Judgement::Wait(why.clone()),
                None => judge(&view, &approval.derived, now.utc),
            };
            match judgement {
                Judgement::Wait(reason) => approval.waits_for = Some(reason),
                Judgement::Endorse => {
                    let hash = sha256(&approval.bytes);
                    approval.said = Some(Said::Endorsed { hash });
                }
                Judgement::Object(reason) => approval.said = Some(Said::Objected { reason }),
            }
            if let Some(said) = &approval.said {
                approval.waits_for = None;
                if !planted.has(Bug::EndorsementUnstored) {
                    turn.rows.put(Table::Endorsed, key::endorsed(*id), codec::encode(said));
                }
                coordinator.said.insert(*id, said.clone());
                turn.say.push(*id);
            }
        }
        let spoken: Vec<DecisionId> = std::mem::take(&mut turn.say);
        let again: Vec<DecisionId> = std::mem::take(&mut turn.say_again);
        for (id, fresh) in spoken.iter().map(|id| (id, true)).chain(again.iter().map(|id| (id, false))) {
            self.speak(turn, *id, fresh);
        }
    }

    /// Tells the other coordinators what this one says to a decision.
    pub(super) fn speak(&mut self, turn: &mut Turn, id: DecisionId, fresh: bool) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let Some(approval) = coordinator.approvals.get(&id) else { return };
        let me = self.signer.public();
        let others: Vec<PublicKey> =
            approval.electorate.members.keys().filter(|key| **key != me).copied().collect();
        let message = match &approval.said {
            Some(Said::Endorsed { .. }) => {
                let signature = sign_decision(&self.signer, self.settings.fleet.as_str(), &approval.bytes);
                if fresh {
                    turn.own_signatures.push((id, signature));
                }
                let decision = approval.bytes.clone();
                CoordinatorMessage::Endorsement(EndorsementMessage { decision, signature })
            }
            Some(Said::Objected { reason }) => {
                let (epoch, reason) = (coordinator.epoch, reason.clone());
                let body = NoticeBody::Objection { epoch, decision: id, reason };
                CoordinatorMessage::Objection(self.sign_notice(turn, body))
            }
            None => return,
        };
        for to in others {
            turn.outputs.push(Output::Send { to, message: message.clone(), at_once: false });
        }
        if fresh && matches!(message, CoordinatorMessage::Objection(_)) {
            let me = self.signer.public();
            self.objected(turn, id, me);
        }
    }

    /// Another coordinator signed a decision.
    pub(super) fn endorsed(&mut self, turn: &mut Turn, endorsement: Endorsement) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let id = endorsement.decision.id();
        if endorsement.decision.epoch != coordinator.epoch {
            let message = format!("{} signs a decision of another epoch", endorsement.endorsed.signer());
            turn.outputs.push(Output::Tell(Note::Alarm { message }));
            return;
        }
        match coordinator.approvals.get_mut(&id) {
            Some(approval) if approval.bytes == endorsement.endorsed.payload() => {
                approval.signatures.insert(*endorsement.endorsed.signer(), *endorsement.endorsed.signature());
            }
            Some(_) => {
                let message = format!(
                    "{} signed another decision {id:?} than the log led to here",
                    endorsement.endorsed.signer()
                );
                turn.outputs.push(Output::Tell(Note::Alarm { message }));
            }
            None if id.log_index > self.ledger.applied() => {
                let by = *endorsement.endorsed.signer();
                if coordinator.early.endorsed(endorsement) {
                    self.name_early(turn, &by);
                }
            }
            None => {}
        }
        self.certify(turn);
    }

    /// A coordinator will never sign a decision.
    pub(super) fn objected(&mut self, turn: &mut Turn, id: DecisionId, by: PublicKey) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if !self.ledger.roster().coordinated(&by) {
            return;
        }
        match coordinator.approvals.get_mut(&id) {
            Some(approval) => {
                approval.objectors.insert(by);
                if approval.is_void() && coordinator.void.insert(id) {
                    coordinator.want_plan();
                    turn.changed = true;
                }
            }
            None if id.log_index > self.ledger.applied() && coordinator.early.objected(id, by) => {
                self.name_early(turn, &by);
            }
            None => {}
        }
    }

    /// A coordinator speaks of more decisions that are not here yet than any log is ahead.
    fn name_early(&mut self, turn: &mut Turn, by: &PublicKey) {
        let host = self.ledger.roster().host_of(by).map_or_else(|| by.to_string(), ToString::to_string);
        let message = format!("{host} is throttled: it signs decisions that the log has not led to");
        turn.tell(Note::Alarm { message });
    }

    /// Puts certificates together of decisions that a quorum has signed.
    pub(super) fn certify(&mut self, turn: &mut Turn) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let (roster, planted) = (self.ledger.roster().clone(), self.ledger.planted());
        let ready: Vec<DecisionId> = coordinator
            .approvals
            .iter()
            .filter(|(_, approval)| {
                let one_less = usize::from(planted.has(Bug::QuorumMinusOne));
                let any = planted.has(Bug::UncertifiedActed) && !approval.signatures.is_empty();
                approval.signatures.len() + one_less >= approval.electorate.quorum || any
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            let Some(approval) = self.coordinator.as_ref().and_then(|it| it.approvals.get(&id)) else {
                continue;
            };
            let bytes = assemble(&approval.bytes, &approval.signatures);
            let took = turn.now.mono.since(approval.began);
            match verify::certificate(&roster, &bytes) {
                Ok(certified) => {
                    turn.outputs.push(Output::Tell(Note::DecisionLatency { took }));
                    self.take_decision(turn, &certified, None);
                    self.hand_out(turn, id, bytes);
                }
                Err(error) => {
                    let message = format!("a quorum's signatures do not hold: {error}");
                    turn.outputs.push(Output::Tell(Note::Warning { message }));
                }
            }
        }
    }

    /// The leader publishes at once; the others only if nobody has for a while.
    pub(super) fn hand_out(&mut self, turn: &mut Turn, id: DecisionId, bytes: Vec<u8>) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if coordinator.leads() {
            turn.outputs.push(Output::Publish { topic: Topic::Decisions, bytes });
        } else {
            let at = turn.now.mono.after(PUBLISH_PATIENCE);
            coordinator.unpublished.insert(id, Unpublished { at, bytes });
        }
    }

    /// Somebody gossiped this certificate: it need not be published again.
    pub(super) fn was_published(&mut self, id: DecisionId) {
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.unpublished.remove(&id);
        }
    }

    pub(super) fn publish_overdue(&mut self, turn: &mut Turn) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let now = turn.now.mono;
        let due: Vec<DecisionId> =
            coordinator.unpublished.iter().filter(|(_, it)| it.at <= now).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(Unpublished { bytes, .. }) = coordinator.unpublished.remove(&id) {
                turn.outputs.push(Output::Publish { topic: Topic::Decisions, bytes });
            }
        }
    }

    /// Drops what has been certified from what waits.
    pub(super) fn forget_certified(&mut self) {
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.approvals.retain(|id, _| self.ledger.is_uncertified(id));
        }
    }

    /// After a start: what the log led to and nobody is known to have certified waits again.
    pub(super) fn resume_approvals(&mut self, now: Now) {
        let open: Vec<Derived> = self.ledger.uncertified().cloned().collect();
        if let Some(coordinator) = &mut self.coordinator {
            for derived in open {
                let electorate = self.ledger.roster().electorate_or_none(derived.decision.fleet_serial);
                coordinator.admit(derived, electorate, now.mono);
            }
            coordinator.sign_again(&self.signer, &self.settings.fleet);
        }
    }
}

impl Coordinator {
    /// When the waiting decisions are to be looked at next.
    pub(super) fn review_due(&self) -> Option<Mono> {
        let wanted =
            self.review_wanted.then(|| self.reviewed.map_or(Mono::default(), |at| at.after(REVIEW_DEBOUNCE)));
        let each = self.approvals.values().map(|approval| approval.looked.after(approval.pause)).min();
        [wanted, each].into_iter().flatten().min()
    }

    /// A decision that the log led to begins to wait for signatures.
    pub(super) fn admit(&mut self, derived: Derived, electorate: Electorate, now: Mono) {
        let id = derived.decision.id();
        let bytes = codec::encode(&derived.decision);
        let said = self.said.get(&id).cloned().map(|said| match said {
            // Signing other bytes for the same place would be a lie: rather never.
            Said::Endorsed { hash } if hash != sha256(&bytes) => {
                Said::Objected { reason: "another decision was signed in its place".to_owned() }
            }
            said @ (Said::Endorsed { .. } | Said::Objected { .. }) => said,
        });
        let mut approval = Approval {
            derived,
            bytes,
            electorate,
            said,
            waits_for: None,
            signatures: BTreeMap::new(),
            objectors: self.early.objectors(id),
            began: now,
            looked: now,
            pause: Duration::ZERO,
        };
        for early in self.early.endorsements(id) {
            if early.endorsed.payload() == approval.bytes {
                approval.signatures.insert(*early.endorsed.signer(), *early.endorsed.signature());
            }
        }
        if approval.is_void() {
            self.void.insert(id);
        }
        self.approvals.insert(id, approval);
    }

    /// After a restart this coordinator's own earlier signatures and objections count at once: they are on disk.
    pub(super) fn sign_again(&mut self, signer: &SigningKey, fleet: &FleetName) {
        for (id, approval) in &mut self.approvals {
            match approval.said {
                Some(Said::Endorsed { .. }) => {
                    let signature = sign_decision(signer, fleet.as_str(), &approval.bytes);
                    approval.signatures.insert(signer.public(), signature);
                }
                Some(Said::Objected { .. }) => {
                    approval.objectors.insert(signer.public());
                    if approval.is_void() {
                        self.void.insert(*id);
                    }
                }
                None => {}
            }
        }
    }
}

/// What a decision is about, for people.
pub(super) fn describe(body: &DecisionBody) -> String {
    match body {
        DecisionBody::Dispatch { host, rollout_id, .. } => format!("dispatch of {host} into {rollout_id}"),
        DecisionBody::Quarantine { channel, closure, .. } => format!("quarantine of {closure} on {channel}"),
        DecisionBody::RolloutTransition { rollout_id, to, .. } => format!("{rollout_id} is {}", to.name()),
        DecisionBody::Withdrawn { decision } => {
            format!("withdrawal of decision {}.{}", decision.log_index, decision.ordinal)
        }
        DecisionBody::LogSnapshot { .. } => "snapshot of the log".to_owned(),
    }
}
