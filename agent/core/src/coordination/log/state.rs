//! A member's state, its doors, and what one step collects.

use super::election::Candidature;
use super::entries::check_lengths;
use super::forward::Forwards;
use super::message::{Body, Digest32, Echo, Entry, MemberId, Message, ProposalId};
use super::outcome::Unstored;
use super::random::Random;
use super::replication::Leadership;
use super::snapshot::{Arriving, Parcel, Snapshot};
use super::{
    Alarm, Config, Durable, Forwarded, HardState, Membership, Operation, ProposeError, Ready, SignedHead,
    Standing, WriteId,
};
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// One member's part of the ordered log.
#[derive(Debug)]
pub struct Log {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) hard: HardState,
    pub(super) hard_changed: bool,
    /// What stands for the entries before those in memory.
    pub(super) snapshot: Option<Snapshot>,
    /// The entry of index i stands at i minus the first index.
    pub(super) entries: Vec<Entry>,
    /// Where each proposal stands last.
    pub(super) placed: BTreeMap<ProposalId, u64>,
    /// Where the proposal at an index stood before.
    pub(super) earlier: BTreeMap<u64, u64>,
    /// The group from the snapshot's index on, and from each step on; never empty.
    pub(super) memberships: Vec<(u64, Membership)>,
    /// The voters that a leader walks to.
    pub(super) target: Option<BTreeSet<MemberId>>,
    pub(super) acquainted: BTreeSet<MemberId>,
    pub(super) commit: u64,
    pub(super) emitted: u64,
    /// Up to here the entries in memory are on disk.
    pub(super) durable: u64,
    pub(super) unstored: VecDeque<Unstored>,
    pub(super) next_write: u64,
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
    pub(super) parcel: Option<Arc<Parcel>>,
    pub(super) arriving: Option<Arriving>,
    /// The snapshots, by index, that a leader may send.
    pub(super) vouched: BTreeMap<u64, Digest32>,
    pub(super) stopped: bool,
    pub(super) writable: bool,
    /// Members whose word goes against what this one holds.
    pub(super) contradictors: BTreeSet<MemberId>,
    pub(super) operations: Vec<Operation>,
    pub(super) messages: Vec<(MemberId, Message)>,
    pub(super) installed: Option<Box<Snapshot>>,
    pub(super) forwarded: Vec<(ProposalId, Forwarded)>,
    pub(super) alarms: Vec<Alarm>,
}

#[derive(Debug)]
pub(super) enum Role {
    Follower,
    PreCandidate(Candidature),
    Candidate(Candidature),
    Leader(Leadership),
}

impl Log {
    /// Starts a member from what its store held. Ask for a tick at once: the start itself has something to store.
    #[must_use]
    pub fn new(config: Config, durable: Durable, now: Mono) -> Self {
        let mut random = Random::new(config.seed, &config.me);
        let mut hard = durable.hard_state;
        let restarted = hard.store != 0;
        if !restarted {
            hard.store = random.next() | 1;
        }
        hard.boot = hard.boot.saturating_add(1);
        let mut log = Self {
            memberships: vec![(0, Membership::of_voters(config.electorate.clone()))],
            config,
            random,
            hard,
            hard_changed: true,
            snapshot: None,
            entries: Vec::new(),
            placed: BTreeMap::new(),
            earlier: BTreeMap::new(),
            target: None,
            acquainted: BTreeSet::new(),
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
            parcel: None,
            arriving: None,
            vouched: BTreeMap::new(),
            stopped: false,
            writable: true,
            contradictors: BTreeSet::new(),
            operations: Vec::new(),
            messages: Vec::new(),
            installed: None,
            forwarded: Vec::new(),
            alarms: Vec::new(),
        };
        log.load(durable.snapshot, durable.entries);
        log.begin_waiting(restarted, now);
        log
    }

    /// A member that is the only voter need not wait. One that has been a member before waits as if it had heard a leader:
    /// should its store be behind what it once acknowledged, the leader tells it so before it votes.
    fn begin_waiting(&mut self, restarted: bool, now: Mono) {
        let membership = self.membership();
        if membership.voters.len() == 1 && membership.voters.contains(&self.config.me) {
            return;
        }
        if restarted {
            self.leader_heard = Some(now);
            self.draw_election(now.after(self.config.timing.heartbeat_idle));
        } else {
            self.draw_election(now);
        }
    }

    fn load(&mut self, snapshot: Option<Snapshot>, stored: Vec<(u64, Entry)>) {
        if let Some(snapshot) = snapshot {
            let index = snapshot.index;
            let sound =
                index > 0 && snapshot.term <= self.hard.term && !snapshot.membership.voters.is_empty();
            self.begin_behind(snapshot);
            if !sound {
                self.stop(Alarm::StoreDamaged { index });
                return;
            }
        }
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

    /// Whether messages of this sender are looked at; ask before decoding them. Members of any electorate that may count
    /// are, and those whom the caller knows.
    #[must_use]
    pub fn admits(&self, from: &MemberId) -> bool {
        let of_group = || self.counting_memberships().iter().any(|(_, group)| group.contains(from));
        *from != self.config.me && (of_group() || self.acquainted.contains(from))
    }

    /// Takes in one message.
    pub fn handle(&mut self, now: Now, from: MemberId, message: Message) -> Ready {
        if !self.admits(&from) || message.to != self.config.me {
            return Ready::default();
        }
        if !self.stopped && self.credible(from, &message) {
            self.dispatch(now, from, message);
        }
        self.finish()
    }

    /// Lets time pass: timers that are due fire.
    pub fn tick(&mut self, now: Now) -> Ready {
        if !self.stopped {
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
        if self.stopped {
            return None;
        }
        let own = match &self.role {
            Role::Leader(leadership) => self.leader_wakes_at(leadership),
            Role::PreCandidate(votes) | Role::Candidate(votes) => Some(self.election_at.min(votes.ask_at)),
            Role::Follower => self.may_stand().then_some(self.election_at),
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

    /// Under which id this member takes part.
    #[must_use]
    pub fn me(&self) -> MemberId {
        self.config.me
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
            Body::Snapshot(chunk) => self.on_snapshot(now, from, term, chunk),
            Body::SnapshotAnswer(answer) if term == self.hard.term => {
                self.on_snapshot_answer(now, from, &answer);
            }
            Body::AppendAnswer(_) | Body::SnapshotAnswer(_) | Body::TimeoutNow(_) => {}
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

    /// The voters by this member's log, but itself.
    pub(super) fn other_voters(&self) -> Vec<MemberId> {
        self.membership().voters.iter().filter(|member| **member != self.config.me).copied().collect()
    }
}
