//! How entries get from the leader to the others, and when they count as committed.

use super::Alarm;
use super::election::ROUND_TRIP_MAX;
use super::message::{
    Append, AppendAnswer, Body, Entry, MESSAGE_ENTRIES_MAX, MemberId, Outcome, PAYLOAD_BYTES_MAX,
};
use super::planted::Planted;
use super::snapshot::Transfer;
use super::state::{Log, Role};
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Batches on their way to one member.
const IN_FLIGHT_MAX: usize = 8;

/// What a leader keeps of its term.
#[derive(Debug)]
pub(super) struct Leadership {
    pub(super) peers: BTreeMap<MemberId, Peer>,
    /// Since when it wants another to lead.
    pub(super) handing_over: Option<Mono>,
}

/// How far one other member is.
#[derive(Debug)]
pub(super) struct Peer {
    /// Up to here its log is known to agree, on its disk.
    pub(super) matched: u64,
    /// The next index to send.
    next: u64,
    /// Where the logs agree is not known yet, or something was lost: one message at a time.
    probing: bool,
    /// The last index of each batch on its way.
    in_flight: VecDeque<u64>,
    pub(super) last_sent: Mono,
    /// The newest message has its answer.
    pub(super) answered: bool,
    /// When it last answered this leader; nothing once its connection closed.
    pub(super) heard: Option<Mono>,
    round_trip: Duration,
    /// The commit index that it was last told, as far as it can use it.
    commit_told: u64,
    /// A snapshot on its way, since the entries that it lacks are gone.
    pub(super) transfer: Option<Transfer>,
}

impl Leadership {
    pub(super) fn new(others: &[MemberId], last_index: u64, now: Mono) -> Self {
        let peers = others.iter().map(|member| (*member, Peer::new(last_index, now)));
        Self { peers: peers.collect(), handing_over: None }
    }
}

impl Peer {
    /// It counts as heard at the start: it voted a moment ago, or gets its time to answer.
    fn new(last_index: u64, now: Mono) -> Self {
        Self {
            matched: 0,
            next: last_index + 1,
            probing: true,
            in_flight: VecDeque::new(),
            last_sent: now,
            answered: true,
            heard: Some(now),
            round_trip: Duration::ZERO,
            commit_told: 0,
            transfer: None,
        }
    }

    fn is_settled(&self) -> bool {
        self.answered && !self.probing && self.in_flight.is_empty()
    }

    pub(super) fn heard_within(&self, now: Mono, span: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < span)
    }

    pub(super) fn go_back_to(&mut self, next: u64) {
        self.probing = true;
        self.in_flight.clear();
        self.next = next;
    }

    pub(super) fn measure(&mut self, now: Mono, sent: u64) {
        if sent <= now.0 {
            let sample = now.since(Mono(sent)).min(ROUND_TRIP_MAX);
            let first = self.round_trip.is_zero();
            self.round_trip = if first { sample } else { (self.round_trip * 7 + sample) / 8 };
        }
        self.answered |= sent == self.last_sent.0;
    }
}

impl Log {
    pub(super) fn leader_wakes_at(&self, leadership: &Leadership) -> Option<Mono> {
        leadership.peers.values().map(|peer| self.send_at(peer)).min()
    }

    /// When a peer is due for the next message even if nothing happens. One that is silent for long gets them at the
    /// idle pace: it is likely dead.
    fn send_at(&self, peer: &Peer) -> Mono {
        let idle = peer.is_settled() || !peer.heard_within(peer.last_sent, self.heard_span());
        let span = if idle { self.config.timing.heartbeat_idle } else { self.retry_span(peer.round_trip) };
        peer.last_sent.after(span)
    }

    pub(super) fn tick_leader(&mut self, now: Now) {
        let Role::Leader(leadership) = &mut self.role else { return };
        self.round_trip = leadership.peers.values().map(|peer| peer.round_trip).max().unwrap_or_default();
        let quorum_span = self.quorum_span();
        let Role::Leader(leadership) = &mut self.role else { return };
        let heard = leadership.peers.iter().filter(|(_, peer)| peer.heard_within(now.mono, quorum_span));
        let heard: Vec<_> = heard.map(|(member, _)| *member).chain([self.config.me]).collect();
        if self.voters_among(heard.iter()) < self.quorum() {
            self.follow(now, self.hard.term, None);
            return;
        }
        let Role::Leader(leadership) = &mut self.role else { return };
        if leadership.handing_over.is_some_and(|since| now.mono.since(since) > quorum_span) {
            leadership.handing_over = None;
        }
        if !self.writable && leadership.handing_over.is_none() {
            self.begin_handing_over(now);
        }
        self.let_go(now);
        for member in self.peers() {
            let due = self.peer(member).is_some_and(|peer| self.send_at(peer) <= now.mono);
            if due {
                self.send_again(now, member);
            }
        }
        self.walk(now);
    }

    /// Follows a step of its own: a new member is sent the log, and one that leaves hears of that as long as it answers.
    pub(super) fn follow_step(&mut self, now: Now) {
        let last_index = self.last_index();
        let members: Vec<_> = self.membership().members().copied().collect();
        let me = self.config.me;
        let Role::Leader(leadership) = &mut self.role else { return };
        for member in members.into_iter().filter(|member| *member != me) {
            leadership.peers.entry(member).or_insert_with(|| Peer::new(last_index, now.mono));
        }
    }

    /// Forgets who has left and knows it, or does not answer any more.
    fn let_go(&mut self, now: Now) {
        let (since, commit, span) = (self.membership_since(), self.commit, self.heard_span());
        let membership = self.membership().clone();
        let Role::Leader(leadership) = &mut self.role else { return };
        leadership.peers.retain(|member, peer| {
            let knows = peer.commit_told >= since && peer.matched >= since;
            let gone = knows || !peer.heard_within(now.mono, span);
            membership.contains(member) || since > commit || !gone
        });
    }

    /// Whom the leader sends to: the members, and who leaves.
    pub(super) fn peers(&self) -> Vec<MemberId> {
        match &self.role {
            Role::Leader(leadership) => leadership.peers.keys().copied().collect(),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => Vec::new(),
        }
    }

    /// A timer ran out: what is on its way counts as lost; with nothing on its way it is a heartbeat.
    fn send_again(&mut self, now: Now, member: MemberId) {
        let heard_span = self.heard_span();
        let Some(peer) = self.peer_mut(member) else { return };
        if !peer.in_flight.is_empty() {
            peer.go_back_to(peer.matched + 1);
        }
        let alive = peer.heard_within(now.mono, heard_span);
        self.send_append(now, member, alive);
    }

    pub(super) fn peer(&self, member: MemberId) -> Option<&Peer> {
        match &self.role {
            Role::Leader(leadership) => leadership.peers.get(&member),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    pub(super) fn peer_mut(&mut self, member: MemberId) -> Option<&mut Peer> {
        match &mut self.role {
            Role::Leader(leadership) => leadership.peers.get_mut(&member),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Sends new entries to everybody who can take them.
    pub(super) fn replicate(&mut self, now: Now) {
        for member in self.peers() {
            self.pump(now, member);
        }
    }

    /// Sends batches while there is something to send and room for it on the way.
    fn pump(&mut self, now: Now, member: MemberId) {
        loop {
            let last = self.last_index();
            let Some(peer) = self.peer(member) else { return };
            let room = if peer.probing { peer.answered } else { peer.in_flight.len() < IN_FLIGHT_MAX };
            if !room || peer.next > last {
                return;
            }
            self.send_append(now, member, true);
        }
    }

    /// Sends what comes next, or, without entries, a heartbeat where the logs agree.
    fn send_append(&mut self, now: Now, member: MemberId, with_entries: bool) {
        let Some(peer) = self.peer(member) else { return };
        let gone = self.first_index() - 1;
        if peer.next <= gone || peer.transfer.is_some() {
            self.send_chunk(now, member, with_entries);
            return;
        }
        let entries = if with_entries { self.batch(peer.next) } else { Vec::new() };
        let heartbeat = entries.is_empty() && !peer.probing;
        let prev_index = if heartbeat { peer.matched.max(gone) } else { peer.next - 1 };
        let append = Append {
            sent: now.mono.0,
            commit: self.commit,
            prev_hash: self.hash_at(prev_index),
            prev_term: self.term_at(prev_index),
            signature: None,
            prev_index,
            round_trip: u64::try_from(peer.round_trip.as_micros()).unwrap_or(u64::MAX),
            entries,
        };
        let last = prev_index + append.entries.len() as u64;
        let told = self.commit.min(last);
        let Some(peer) = self.peer_mut(member) else { return };
        peer.last_sent = now.mono;
        peer.answered = false;
        peer.commit_told = peer.commit_told.max(told);
        if !peer.probing && !heartbeat {
            peer.in_flight.push_back(last);
            peer.next = last + 1;
        }
        self.send(member, Body::Append(append));
    }

    fn batch(&self, from: u64) -> Vec<Entry> {
        let mut payload_bytes = 0;
        let start = self.position(from).unwrap_or(usize::MAX);
        let fits = |entry: &&Entry| {
            payload_bytes += entry.payload.len();
            payload_bytes <= PAYLOAD_BYTES_MAX
        };
        let count = self.config.batch_entries_max.clamp(1, MESSAGE_ENTRIES_MAX);
        self.entries.iter().skip(start).take(count).take_while(fits).cloned().collect()
    }

    /// Whether a message comes from the leader of this term, who is followed from now on.
    pub(super) fn accept_leader(&mut self, now: Now, from: MemberId, term: u64, sent: u64) -> bool {
        if term < self.hard.term {
            self.send(from, Body::AppendAnswer(AppendAnswer { sent, outcome: Outcome::Stale }));
            return false;
        }
        if let Some(known) = self.leader.filter(|known| *known != from) {
            self.alarm(Alarm::TwoLeaders { term, known, other: from });
            return false;
        }
        self.follow(now, term, Some(from));
        self.hear_leader(now);
        true
    }

    /// A follower's side: agrees, stores, answers.
    pub(super) fn on_append(&mut self, now: Now, from: MemberId, term: u64, append: Append) {
        let sent = append.sent;
        if !self.accept_leader(now, from, term, sent) {
            return;
        }
        self.round_trip = Duration::from_micros(append.round_trip).min(ROUND_TRIP_MAX);
        let outcome = match self.agrees_before(from, &append) {
            Agreement::Same => self.take_in(from, term, append),
            Agreement::Other => Some(self.refusal(&append)),
            Agreement::Contradiction => None,
        };
        if let Some(outcome) = outcome {
            self.send(from, Body::AppendAnswer(AppendAnswer { sent, outcome }));
        }
    }

    /// Whether this log has the very entry before the Append's first.
    fn agrees_before(&mut self, leader: MemberId, append: &Append) -> Agreement {
        let index = append.prev_index;
        if index > self.last_index() {
            return Agreement::Other;
        }
        if index < self.first_index() - 1 {
            // What stands in the snapshot is committed, so that any leader has it.
            return Agreement::Same;
        }
        let (ours, theirs) = (self.term_at(index), append.prev_term);
        if ours != theirs {
            if index <= self.commit {
                self.contradicted(leader, Alarm::CommittedContradicted { leader, index, ours, theirs });
                return Agreement::Contradiction;
            }
            return Agreement::Other;
        }
        if self.same_hash(leader, index, append.prev_hash) {
            Agreement::Same
        } else {
            Agreement::Contradiction
        }
    }

    fn same_hash(&mut self, leader: MemberId, index: u64, theirs: [u8; 32]) -> bool {
        let ours = self.hash_at(index);
        if ours != theirs {
            self.contradicted(leader, Alarm::Diverged { leader, index, ours, theirs });
        }
        ours == theirs
    }

    /// The last place before the refused one that the leader's log can share: its terms never fall.
    fn refusal(&self, append: &Append) -> Outcome {
        let before = self.last_index().min(append.prev_index.saturating_sub(1));
        // What stands in the snapshot is committed, so that any leader shares it.
        let hint = before.min(self.last_index_of_term(append.prev_term)).max(self.first_index() - 1);
        Outcome::Refused { prev: append.prev_index, hint, hint_term: self.term_at(hint) }
    }

    /// Stores the entries that this log lacks. Everything is checked before anything is changed.
    fn take_in(&mut self, leader: MemberId, term: u64, append: Append) -> Option<Outcome> {
        if let Some(index) = first_that_does_not_follow(term, self.entry(append.prev_index), &append) {
            self.alarm(Alarm::BadAppend { from: leader, index });
            return None;
        }
        let matched = append.prev_index + append.entries.len() as u64;
        let mut missing_from = None;
        let gone = self.first_index() - 1;
        for (index, entry) in (append.prev_index + 1..).zip(&append.entries) {
            if index < gone {
                continue;
            }
            let ours = self.term_at(index);
            if index <= self.last_index() && ours == entry.term {
                if !self.same_hash(leader, index, entry.chain_hash) {
                    return None;
                }
                continue;
            }
            if index <= self.commit {
                let theirs = entry.term;
                self.contradicted(leader, Alarm::CommittedContradicted { leader, index, ours, theirs });
                return None;
            }
            missing_from = Some(index);
            break;
        }
        if let Some(index) = missing_from {
            if index <= self.last_index() {
                self.cut_from(index);
            }
            let known = usize::try_from(index - append.prev_index - 1).unwrap_or(usize::MAX);
            append.entries.into_iter().skip(known).for_each(|entry| self.append(entry));
        }
        self.commit = self.commit.max(append.commit.min(matched));
        Some(Outcome::Stored { matched })
    }

    /// The leader's side of an answer in its own term.
    pub(super) fn on_append_answer(&mut self, now: Now, from: MemberId, answer: AppendAnswer) {
        let last = self.last_index();
        let Some(peer) = self.peer_mut(from) else { return };
        peer.heard = Some(now.mono);
        peer.measure(now.mono, answer.sent);
        match answer.outcome {
            Outcome::Stored { matched } if matched <= last => self.on_stored(now, from, matched),
            Outcome::Refused { prev, hint, hint_term } => self.on_refused(now, from, prev, hint, hint_term),
            Outcome::Stored { .. } | Outcome::Stale => {}
        }
    }

    /// Only what makes progress triggers the next send: an answer that came twice would otherwise multiply.
    fn on_stored(&mut self, now: Now, from: MemberId, matched: u64) {
        let storm = self.plants(Planted::DuplicateAckStorm);
        let Some(peer) = self.peer_mut(from) else { return };
        let found = peer.probing && matched + 1 == peer.next;
        if matched <= peer.matched && !found {
            if storm {
                self.send_append(now, from, true);
            }
            return;
        }
        peer.matched = peer.matched.max(matched);
        peer.in_flight.retain(|last| *last > matched);
        peer.transfer = None;
        if peer.probing || peer.next <= matched {
            peer.probing = false;
            peer.next = matched + 1;
        }
        self.pump(now, from);
        self.try_hand_over();
        self.advance_commit(now);
        self.tell_commit(now, from);
        self.walk(now);
    }

    fn on_refused(&mut self, now: Now, from: MemberId, prev: u64, hint: u64, hint_term: u64) {
        let shared = hint.min(self.last_index_of_term(hint_term));
        let Some(peer) = self.peer_mut(from) else { return };
        let outdated = peer.transfer.is_some()
            || prev <= peer.matched
            || prev >= peer.next
            || (peer.probing && prev != peer.next - 1);
        if outdated {
            return;
        }
        peer.go_back_to((shared + 1).min(prev).max(peer.matched + 1));
        self.send_append(now, from, true);
    }

    /// What counts as stored here: only what is, so that a crash takes nothing back.
    pub(super) fn counts_as_durable(&self) -> u64 {
        if self.plants(Planted::CountOwnMatchEarly) { self.last_index() } else { self.durable }
    }

    /// Commits what a quorum stored, if this term wrote it; entries before it are committed with it.
    pub(super) fn advance_commit(&mut self, now: Now) {
        let Role::Leader(leadership) = &self.role else { return };
        let own = (self.config.me, self.counts_as_durable());
        let stored = leadership.peers.iter().map(|(member, peer)| (*member, peer.matched)).chain([own]);
        let mut stored: Vec<(MemberId, u64)> = stored.filter(|(_, index)| *index > self.commit).collect();
        stored.sort_unstable_by_key(|(_, index)| std::cmp::Reverse(*index));
        let by_quorum = (1..=stored.len())
            .find(|count| self.voters_among(stored[..*count].iter().map(|(it, _)| it)) >= self.quorum());
        let Some(index) = by_quorum.map(|count| stored[count - 1].1) else { return };
        let own_term = self.term_at(index) == self.hard.term || self.plants(Planted::CommitOldTerm);
        if own_term {
            self.commit = index;
            for member in self.peers() {
                self.tell_commit(now, member);
            }
            self.retire(now);
            self.walk(now);
        }
    }

    /// Followers apply at once what is committed, rather than with the next heartbeat.
    fn tell_commit(&mut self, now: Now, member: MemberId) {
        let commit = self.commit;
        if self.peer(member).is_some_and(|peer| !peer.probing && peer.commit_told < commit.min(peer.matched))
        {
            self.send_append(now, member, false);
        }
    }
}

/// What a follower finds where an Append begins.
enum Agreement {
    /// The very same entry.
    Same,
    /// None, or another one that may be replaced.
    Other,
    /// What no honest leader can have.
    Contradiction,
}

/// The index of the first entry that cannot stand behind the one before it.
fn first_that_does_not_follow(term: u64, before: Option<&Entry>, append: &Append) -> Option<u64> {
    let (mut hash, mut last_term) = (append.prev_hash, append.prev_term);
    let mut at = before.map(|entry| entry.at);
    for (offset, entry) in append.entries.iter().enumerate() {
        let follows = entry.chain_hash == entry.chain_hash_after(&hash)
            && (last_term..=term).contains(&entry.term)
            && at.is_none_or(|at| at <= entry.at);
        if !follows {
            return Some(append.prev_index + 1 + offset as u64);
        }
        (hash, last_term, at) = (entry.chain_hash, entry.term, Some(entry.at));
    }
    None
}
