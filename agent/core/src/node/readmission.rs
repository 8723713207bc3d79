//! A coordinator whose store was lost or put back in time: it finds out, says nothing more, and comes back once operators
//! readmit it.
//!
//! What it promised before is forgotten here and relied upon elsewhere. Its peers tell it: by what they remember of its
//! log, and by this host's own signed feed, of which they hold more than its store does. It comes back under another id,
//! as a learner first, and approves only what was entered after the command that readmitted it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use muster_signing::Digest;

use super::coordinator::{Coordinator, WhichLog};
use super::restore::StoredLog;
use super::turn::Turn;
use super::{Node, Note};
use crate::coordination::log::{self, Alarm, Durable, HardState};
use crate::id::HostId;
use crate::ledger::{Table, key};
use crate::time::{Mono, Now};
use crate::wire::codec;

impl Node {
    /// What people read of a coordinator that only they can bring back.
    fn readmit(&self, host: &HostId) -> String {
        let way = match self.others_suffice() {
            true => format!("sign a readmit command for host {host}"),
            false => "the others are no quorum without it: sign a fleet document with recovery and replaces"
                .to_owned(),
        };
        format!(
            "the store of {host}, a coordinator, was lost or put back in time, so that it votes and approves no more: {way}"
        )
    }

    /// Whether this coordinator takes no part until operators readmit it, or should not.
    pub fn awaits_readmission(&self) -> bool {
        self.coordinator.is_some() && (self.distrusted || self.doubted)
    }

    /// By which command this coordinator takes part, if operators readmitted it.
    pub fn life(&self) -> Option<Digest> {
        self.coordinator.as_ref().and_then(|coordinator| coordinator.life)
    }

    /// Whether this coordinator takes part, and all that it has stored is committed.
    pub fn is_settled(&self) -> bool {
        self.coordinator
            .as_ref()
            .is_some_and(|it| it.takes_part() && it.log.is_settled() && it.has_applied_all())
    }

    /// Whether a host says of itself that it coordinates no more until operators readmit it.
    pub(super) fn is_out(&self, host: &HostId) -> bool {
        if *host == self.settings.host {
            return self.awaits_readmission();
        }
        self.presences.of(host).is_some_and(|seen| seen.presence.awaits_readmission)
    }

    /// The coordinators that wait for operators, in words.
    pub(super) fn readmission_alarms(&self) -> impl Iterator<Item = String> {
        let members = self.ledger.documents().fleet().map(|fleet| fleet.electorate().members);
        let hosts = members.into_iter().flat_map(BTreeMap::into_values);
        hosts.filter(|host| self.is_out(host)).map(|host| self.readmit(&host))
    }

    /// That the fleet was recovered is shown for as long as the store keeps the document.
    pub(super) fn recovery_alarm(&self) -> Option<String> {
        let recovery = self.ledger.documents().last_recovery()?;
        let replaced = recovery.replaces.unwrap_or_default();
        Some(format!(
            "fleet document {} recovered the fleet: it took the place of {replaced} without a quorum of its coordinators, \
             and what they had decided counts no more",
            recovery.serial
        ))
    }

    /// Begins to take part once it is known that the store is what it was, and takes up what operators say of it.
    pub(super) fn prove_store(&mut self, turn: &mut Turn) {
        self.follow_readmission(turn);
        if !self.history_is_known(turn.now.mono) {
            return;
        }
        let silenced = self.is_silenced();
        let Some(coordinator) = &mut self.coordinator else { return };
        coordinator.unproven = false;
        if silenced && coordinator.stopped.is_none() {
            let message = "this coordinator stops: another machine signs with this host's key".to_owned();
            coordinator.stopped = Some(message.clone());
            turn.tell(Note::Alarm { message });
        }
    }

    /// When a coordinator that waits for its peers looks again.
    pub(super) fn proof_wakes_at(&self) -> Option<Mono> {
        let waits = self.coordinator.as_ref().is_some_and(|it| it.unproven);
        self.history_wakes_at().filter(|_| waits)
    }

    /// The peers hold what this host said, at that time, and its own store does not.
    pub(super) fn history_is_lost(&mut self, turn: &mut Turn, said: DateTime<Utc>) {
        let Some(coordinator) = &self.coordinator else { return };
        // Operators who spoke since know of it.
        let command = coordinator.life.and_then(|command| self.ledger.documents().command(&command));
        let known = command.is_some_and(|command| coordinator.life_is_new || command.signed_at >= said);
        if !known {
            self.distrust(turn);
        }
    }

    /// Takes no part from now on, and not after a restart either.
    fn distrust(&mut self, turn: &mut Turn) {
        let words = self.readmit(&self.settings.host);
        let Some(coordinator) = &mut self.coordinator else { return };
        if !self.distrusted {
            self.distrusted = true;
            self.presence_wanted = true;
            turn.rows.put(Table::Meta, key::meta("distrusted"), codec::encode(&true));
            turn.tell(Note::Alarm { message: words.clone() });
        }
        coordinator.stopped.get_or_insert(words);
    }

    /// What the log says that a person must know.
    pub(super) fn log_alarms(&mut self, turn: &mut Turn, alarms: Vec<Alarm>) {
        for alarm in alarms {
            let Some(coordinator) = &self.coordinator else { return };
            match &alarm {
                Alarm::DiskPutBack { member, .. } if *member == coordinator.log.me() => {
                    // Where coordinators may lie, one word is no proof; people may know better.
                    self.doubted = true;
                    self.presence_wanted = true;
                    if coordinator.log.is_stopped() {
                        self.distrust(turn);
                    }
                }
                Alarm::DiskPutBack { member, .. } => self.other_store_is_lost(turn, member),
                Alarm::OtherEpoch { .. }
                | Alarm::TermJump { .. }
                | Alarm::TwoLeaders { .. }
                | Alarm::BadAppend { .. }
                | Alarm::LyingLeader { .. }
                | Alarm::Diverged { .. }
                | Alarm::CommittedContradicted { .. }
                | Alarm::BadSnapshot { .. }
                | Alarm::StoreDamaged { .. } => {
                    turn.tell(Note::Alarm { message: format!("the log: {alarm:?}") });
                }
            }
        }
        let host = &self.settings.host;
        if let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.log.is_stopped()) {
            coordinator.stopped.get_or_insert_with(|| {
                format!(
                    "this coordinator stops, for its log is not what the others have: start it with an empty state \
                     directory and sign a readmit command for host {host}"
                )
            });
        }
    }

    /// What was told of a host that operators have readmitted is over.
    pub(super) fn forget_readmitted(&mut self) {
        let hosts =
            self.ledger.roster().members().keys().filter(|host| self.ledger.readmission(host).is_some());
        let over: BTreeSet<String> = hosts.map(|host| self.readmit(host)).collect();
        self.alarms.retain(|told| !over.contains(told));
    }

    fn other_store_is_lost(&self, turn: &mut Turn, member: &log::MemberId) {
        let Some(key) = self.ledger.key_of_member(member) else { return };
        let Some(host) = self.ledger.roster().host_of(&key) else { return };
        if self.ledger.member_of(&key, host) == *member {
            turn.tell(Note::Alarm { message: self.readmit(host) });
        }
    }

    /// Takes up a command that readmits this host, if it is newer than the one by which it takes part.
    fn follow_readmission(&mut self, turn: &mut Turn) {
        let Some(coordinator) = &self.coordinator else { return };
        if !self.others_suffice() {
            return;
        }
        let Some(newest) = self.ledger.newest_readmission(&self.settings.host, turn.now.utc) else { return };
        if coordinator.life.is_none_or(|life| self.ledger.is_later_command(&life, &newest)) {
            self.begin_life(turn, newest);
        }
    }

    /// Whether the other coordinators are a quorum, and so can readmit this one.
    fn others_suffice(&self) -> bool {
        let electorate = self.ledger.roster().newest_electorate();
        electorate.is_some_and(|electorate| electorate.members.len() > electorate.quorum)
    }

    /// Begins another life among the coordinators: of the log it keeps what is committed, and of its votes nothing.
    fn begin_life(&mut self, turn: &mut Turn, command: Digest) {
        let Some(fleet) = self.ledger.documents().fleet().map(|fleet| fleet.document.clone()) else { return };
        let Some(before) = self.coordinator.take() else { return };
        let base = before.base;
        let applied = self.ledger.applied().saturating_sub(base);
        let kept = before.log.first_index()..=applied;
        let entries: Vec<_> =
            kept.filter_map(|index| Some((index, before.log.entry(index)?.clone()))).collect();
        for gone in applied + 1..=before.stored_last {
            turn.rows.delete(Table::Log, key::number(base + gone));
        }
        let compacted = before.log.snapshot().map_or(0, |snapshot| snapshot.term);
        let term = entries.last().map_or(compacted, |(_, entry)| entry.term);
        let hard_state = HardState { term, ..HardState::default() };
        turn.rows.put(Table::HardState, key::meta("hard_state"), codec::encode(&hard_state));
        turn.rows.put(Table::Meta, key::meta("life"), codec::encode(&command));
        turn.rows.delete(Table::Meta, key::meta("distrusted"));
        (self.distrusted, self.doubted, self.presence_wanted) = (false, false, true);
        turn.log_writes.clear();
        turn.own_signatures.clear();
        let memory = before.log.memory().iter().map(|(member, echo)| (*member, *echo)).collect();
        let durable = Durable { hard_state, snapshot: before.log.snapshot().cloned(), entries };
        let stored = StoredLog { durable, said: before.said, life: Some(command), memory };
        let (me, seed) = (self.signer.public(), self.random.next());
        let (of, planted) = (WhichLog { epoch: before.epoch, base }, self.ledger.planted());
        let mut coordinator = Coordinator::new(me, of, &fleet, stored, seed, turn.now.mono, planted);
        (coordinator.unproven, coordinator.life_is_new) = (before.unproven, true);
        self.coordinator = Some(coordinator);
        self.settle_in(turn.now);
        turn.changed = true;
    }

    /// A recovery document has ended the log: what this host promised in it binds nobody, and nobody to it.
    pub(super) fn begin_epoch(&mut self, turn: &mut Turn) {
        turn.log_writes.clear();
        turn.own_signatures.clear();
        turn.rows.put(Table::HardState, key::meta("hard_state"), codec::encode(&HardState::default()));
        for name in ["life", "distrusted", "coordinators"] {
            turn.rows.delete(Table::Meta, key::meta(name));
        }
        self.coordinator = None;
        self.stored_log = Some(StoredLog::default());
        (self.distrusted, self.doubted, self.presence_wanted) = (false, false, true);
    }

    /// What every coordinator does when it begins.
    pub(super) fn settle_in(&mut self, now: Now) {
        self.stop_under_newer_rules();
        self.resume_approvals(now);
        let words = self.readmit(&self.settings.host);
        if let Some(coordinator) = self.coordinator.as_mut().filter(|_| self.distrusted) {
            coordinator.stopped.get_or_insert(words);
        }
    }
}
