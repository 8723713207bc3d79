//! A member's state, its doors, and what one step collects.

use super::election::Candidature;
use super::entries::check_lengths;
use super::forward::Forwards;
use super::message::{Body, Echo, Entry, MemberId, Message, ProposalId, TimeoutNow};
use super::random::Random;
use super::replication::Leadership;
use super::{
    Alarm, Config, Durable, Forwarded, HardState, Operation, ProposeError, Ready, SignedHead, Standing,
    Write, WriteId,
};
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One member's part of the ordered log.
#[derive(Debug)]
pub struct Log {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) hard: HardState,
    hard_changed: bool,
    /// The entry of index i stands at i - 1.
    pub(super) entries: Vec<Entry>,
    /// Where each proposal stands first.
    pub(super) placed: BTreeMap<ProposalId, u64>,
    pub(super) commit: u64,
    emitted: u64,
    /// Up to here the entries in memory are on disk.
    pub(super) durable: u64,
    unstored: VecDeque<Unstored>,
    next_write: u64,
    pub(super) role: Role,
    pub(super) leader: Option<MemberId>,
    /// When the leader was last heard; nothing once its connection closed.
    pub(super) leader_heard: Option<Mono>,
    /// When a member that does not lead stands for election.
    pub(super) election_at: Mono,
    pub(super) round_trip: Duration,
    pub(super) known: BTreeMap<MemberId, Echo>,
    pub(super) put_back: BTreeSet<MemberId>,
    pub(super) heads: BTreeMap<(u64, u64), SignedHead>,
    counter: u64,
    pub(super) forwards: Forwards,
    stopped: bool,
    pub(super) operations: Vec<Operation>,
    messages: Vec<(MemberId, Message)>,
    pub(super) forwarded: Vec<(ProposalId, Forwarded)>,
    alarms: Vec<Alarm>,
}

#[derive(Debug)]
pub(super) enum Role {
    Follower,
    PreCandidate(Candidature),
    Candidate(Candidature),
    Leader(Leadership),
}

/// A write that the caller has not reported durable.
#[derive(Debug)]
struct Unstored {
    id: WriteId,
    last_index: u64,
    /// The lowest index that the write cuts.
    cut_from: Option<u64>,
}

impl Log {
    /// Starts a member from what its store held. Ask for a tick at once: the start itself has something to store.
    #[must_use]
    pub fn new(mut config: Config, durable: Durable, now: Mono) -> Self {
        config.quorum = config.quorum.max(config.electorate.len() / 2 + 1);
        let mut random = Random::new(config.seed, &config.me);
        let mut hard = durable.hard_state;
        if hard.store == 0 {
            hard.store = random.next() | 1;
        }
        hard.boot = hard.boot.saturating_add(1);
        let mut log = Self {
            config,
            random,
            hard,
            hard_changed: true,
            entries: Vec::new(),
            placed: BTreeMap::new(),
            commit: 0,
            emitted: 0,
            durable: 0,
            unstored: VecDeque::new(),
            next_write: 1,
            role: Role::Follower,
            leader: None,
            leader_heard: None,
            election_at: now,
            round_trip: Duration::ZERO,
            known: BTreeMap::new(),
            put_back: BTreeSet::new(),
            heads: BTreeMap::new(),
            counter: 0,
            forwards: Forwards::default(),
            stopped: false,
            operations: Vec::new(),
            messages: Vec::new(),
            forwarded: Vec::new(),
            alarms: Vec::new(),
        };
        log.load(durable.entries);
        if log.config.electorate.len() > 1 {
            log.draw_election(now);
        }
        log
    }

    fn load(&mut self, stored: Vec<(u64, Entry)>) {
        for (index, entry) in stored {
            let follows = index == self.last_index() + 1
                && entry.chain_hash == entry.chain_hash_after(&self.last_hash())
                && entry.term >= self.term_at(self.last_index())
                && entry.term <= self.hard.term;
            if !follows {
                self.stop(Alarm::StoreDamaged { index });
                return;
            }
            self.place(entry);
        }
        self.durable = self.last_index();
    }

    /// Whether messages of this sender are looked at; ask before decoding them.
    #[must_use]
    pub fn admits(&self, from: &MemberId) -> bool {
        *from != self.config.me && self.is_member() && self.config.electorate.contains(from)
    }

    fn is_member(&self) -> bool {
        self.config.electorate.contains(&self.config.me)
    }

    /// Takes in one message.
    pub fn handle(&mut self, now: Now, from: MemberId, message: Message) -> Ready {
        if !self.admits(&from) {
            return Ready::default();
        }
        if !self.stopped && self.credible(from, &message) {
            self.dispatch(now, from, message);
        }
        self.finish()
    }

    /// Lets time pass: timers that are due fire.
    pub fn tick(&mut self, now: Now) -> Ready {
        if !self.stopped && self.is_member() {
            if matches!(self.role, Role::Leader(_)) {
                self.tick_leader(now);
            } else {
                self.tick_election(now);
            }
            self.tick_forwards(now);
        }
        self.finish()
    }

    /// When the next tick is wanted; nothing if no timer runs.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Mono> {
        if self.hard_changed || !self.alarms.is_empty() {
            return Some(Mono::default());
        }
        if self.stopped || !self.is_member() {
            return None;
        }
        let own = match &self.role {
            Role::Leader(leadership) => self.leader_wakes_at(leadership),
            Role::PreCandidate(votes) | Role::Candidate(votes) => Some(self.election_at.min(votes.ask_at)),
            Role::Follower => Some(self.election_at),
        };
        [own, self.forwards.wakes_at()].into_iter().flatten().min()
    }

    /// Appends proposals, if this member leads; all of them or none.
    pub fn propose(
        &mut self,
        now: Now,
        payloads: Vec<Vec<u8>>,
    ) -> Result<(Vec<ProposalId>, Ready), ProposeError> {
        let leads = matches!(&self.role, Role::Leader(leadership) if leadership.handing_over.is_none());
        if !leads || self.stopped {
            return Err(ProposeError::NotLeader { leader: self.leader.filter(|it| *it != self.config.me) });
        }
        check_lengths(&payloads)?;
        if !self.has_room(payloads.len(), payloads.iter().map(Vec::len).sum()) {
            return Err(ProposeError::Full);
        }
        let mut ids = Vec::new();
        for payload in payloads {
            let id = self.next_id();
            self.append_own(now, Some(id), payload);
            ids.push(id);
        }
        self.replicate(now);
        Ok((ids, self.finish()))
    }

    /// Hears that a write, and so every earlier one, is durable.
    pub fn stored(&mut self, now: Now, id: WriteId) -> Ready {
        while self.unstored.front().is_some_and(|write| write.id <= id) {
            let Some(write) = self.unstored.pop_front() else { break };
            let kept = self.unstored.iter().filter_map(|later| later.cut_from).min();
            self.durable = kept.map_or(write.last_index, |cut| write.last_index.min(cut - 1));
        }
        if !self.stopped {
            self.advance_commit(now);
        }
        self.finish()
    }

    /// Hears from the transport that a member's connection closed: it counts as not heard at once.
    pub fn disconnected(&mut self, now: Now, member: MemberId) -> Ready {
        if !self.stopped {
            if self.leader == Some(member) {
                self.lose_leader(now);
            }
            if let Role::Leader(leadership) = &mut self.role
                && let Some(peer) = leadership.peers.get_mut(&member)
            {
                peer.heard = None;
            }
        }
        self.finish()
    }

    /// Stops taking proposals and lets the member with the newest log take over, as soon as one has all of this one's.
    pub fn hand_over(&mut self, now: Now) -> Ready {
        if let Role::Leader(leadership) = &mut self.role
            && !leadership.peers.is_empty()
        {
            leadership.handing_over = Some(now.mono);
            self.try_hand_over();
        }
        self.finish()
    }

    pub(super) fn try_hand_over(&mut self) {
        let last = self.last_index();
        let Role::Leader(leadership) = &self.role else { return };
        if leadership.handing_over.is_none() {
            return;
        }
        let heir = leadership
            .peers
            .iter()
            .filter(|(_, peer)| peer.matched == last)
            .max_by_key(|(_, peer)| peer.heard);
        if let Some(heir) = heir.map(|(member, _)| *member) {
            self.send(heir, Body::TimeoutNow(TimeoutNow {}));
        }
    }

    /// What this member is at the moment.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.role {
            Role::Follower => Standing::Follower,
            Role::PreCandidate(_) => Standing::PreCandidate,
            Role::Candidate(_) => Standing::Candidate,
            Role::Leader(_) => Standing::Leader,
        }
    }

    /// Who leads this term, as far as known; this member itself if it does.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.hard.term
    }

    /// The last index known to be committed.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Whether everything that this member has is committed and was handed out to be applied.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.emitted == self.last_index()
    }

    /// The last index that this member has, durable or not.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The entry at an index, committed or not.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// Whether this member stopped with an alarm; it neither votes nor acknowledges any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn dispatch(&mut self, now: Now, from: MemberId, message: Message) {
        let term = message.term;
        let asks_for_vote = matches!(message.body, Body::PreVote(_) | Body::Vote(_));
        if term > self.hard.term && !asks_for_vote {
            self.follow(now, term, None);
        }
        match message.body {
            Body::PreVote(candidacy) => self.on_pre_vote(now, from, term.saturating_add(1), &candidacy),
            Body::Vote(candidacy) => self.on_vote(now, from, term, &candidacy),
            Body::Append(append) => self.on_append(now, from, term, append),
            Body::Forward(forward) => self.on_forward(now, from, forward),
            Body::ForwardAnswer(answer) => self.on_forward_answer(&answer),
            Body::PreVoteAnswer(ballot) => self.on_pre_vote_answer(now, from, ballot),
            Body::VoteAnswer(ballot) => self.on_vote_answer(now, from, ballot),
            Body::AppendAnswer(answer) if term == self.hard.term => self.on_append_answer(now, from, answer),
            Body::TimeoutNow(_) if term == self.hard.term => self.on_timeout_now(now, from),
            Body::AppendAnswer(_) | Body::TimeoutNow(_) => {}
        }
    }

    /// Takes over a term's leader, or a term whose leader is unknown yet.
    pub(super) fn follow(&mut self, now: Now, term: u64, leader: Option<MemberId>) {
        if term > self.hard.term {
            self.set_hard(term, None);
            self.leader = None;
            self.leader_heard = None;
        }
        if matches!(self.role, Role::Leader(_)) {
            self.draw_election(now.mono);
        }
        if self.leader == Some(self.config.me) {
            self.leader = None;
        }
        self.role = Role::Follower;
        if leader.is_some() {
            self.leader = leader;
        }
    }

    pub(super) fn set_hard(&mut self, term: u64, voted_for: Option<MemberId>) {
        self.hard.term = term;
        self.hard.voted_for = voted_for;
        self.hard_changed = true;
    }

    pub(super) fn next_id(&mut self) -> ProposalId {
        // A store that was lost counts its starts from 1 again: what an earlier life proposed stays taken.
        loop {
            self.counter += 1;
            let id = ProposalId { boot: self.hard.boot, member: self.config.me, counter: self.counter };
            if !self.placed.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn others(&self) -> Vec<MemberId> {
        self.config.electorate.iter().filter(|member| **member != self.config.me).copied().collect()
    }

    pub(super) fn send(&mut self, to: MemberId, body: Body) {
        let message = Message {
            body,
            boot: self.hard.boot,
            echo: self.known.get(&to).copied(),
            term: self.hard.term,
            epoch: self.config.epoch,
            store: self.hard.store,
        };
        self.messages.push((to, message));
    }

    pub(super) fn alarm(&mut self, alarm: Alarm) {
        self.alarms.push(alarm);
    }

    pub(super) fn stop(&mut self, alarm: Alarm) {
        self.alarm(alarm);
        self.stopped = true;
        self.role = Role::Follower;
        self.leader = None;
    }

    /// Hands out what the step collected.
    fn finish(&mut self) -> Ready {
        let mut operations = Vec::new();
        if std::mem::take(&mut self.hard_changed) {
            operations.push(Operation::HardState(self.hard));
        }
        operations.append(&mut self.operations);
        let write = (!operations.is_empty()).then(|| self.write(operations));
        let mut messages = std::mem::take(&mut self.messages);
        if self.stopped {
            messages.clear();
        }
        Ready {
            write,
            messages,
            committed: self.take_committed(),
            forwarded: std::mem::take(&mut self.forwarded),
            alarms: std::mem::take(&mut self.alarms),
        }
    }

    fn write(&mut self, operations: Vec<Operation>) -> Write {
        let id = WriteId(self.next_write);
        self.next_write += 1;
        let cut_from = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::CutFrom(index) => Some(*index),
                Operation::HardState(_) | Operation::Append { .. } => None,
            })
            .min();
        self.unstored.push_back(Unstored { id, last_index: self.last_index(), cut_from });
        Write { id, operations }
    }

    fn take_committed(&mut self) -> Vec<(u64, Entry)> {
        let mut committed = Vec::new();
        while !self.stopped && self.emitted < self.commit.min(self.counts_as_durable()) {
            self.emitted += 1;
            let Some(entry) = self.entry(self.emitted) else { break };
            let repeated = entry.id.is_some_and(|id| self.placed.get(&id) != Some(&self.emitted));
            if !repeated {
                committed.push((self.emitted, entry.clone()));
            }
        }
        committed
    }
}
