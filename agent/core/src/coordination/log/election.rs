//! Who leads: timeouts, pre-votes, votes, stepping down.

use super::message::{Ballot, Body, Candidacy, MemberId};
use super::planted::Planted;
use super::replication::Leadership;
use super::state::{Log, Role};
use crate::time::{Mono, Now};
use std::collections::BTreeSet;
use std::time::Duration;

/// Round trips in the shortest election timeout, at least.
const ROUND_TRIPS_PER_ELECTION: u32 = 10;
/// A longer round trip than this is not believed.
pub(super) const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// Who said yes so far.
#[derive(Debug)]
pub(super) struct Candidature {
    granted: BTreeSet<MemberId>,
    forced: bool,
    /// When those who have not said yes are asked again.
    pub(super) ask_at: Mono,
}

impl Log {
    /// The shortest election timeout.
    fn election_timeout(&self) -> Duration {
        self.config.timing.election.max(self.round_trip * ROUND_TRIPS_PER_ELECTION)
    }

    /// How long a leader counts as heard: until its next heartbeat is overdue by an election timeout.
    pub(super) fn heard_span(&self) -> Duration {
        self.config.timing.heartbeat_idle + self.election_timeout()
    }

    /// After how long without a quorum a leader steps down.
    pub(super) fn quorum_span(&self) -> Duration {
        self.heard_span() * 2
    }

    /// Between two sends of what is not answered.
    pub(super) fn retry_span(&self, round_trip: Duration) -> Duration {
        self.config.timing.heartbeat_busy.max(round_trip * 2)
    }

    /// Draws the moment of the next candidacy, from a spread as wide as the timeout.
    pub(super) fn draw_election(&mut self, now: Mono) {
        let timeout = self.election_timeout();
        self.election_at = now.after(timeout + self.random.below(timeout));
    }

    pub(super) fn hear_leader(&mut self, now: Now) {
        self.leader_heard = Some(now.mono);
        self.draw_election(now.mono.after(self.config.timing.heartbeat_idle));
    }

    /// The leader's connection closed: the first to stand should win, so the spread is kept though the wait is not.
    pub(super) fn lose_leader(&mut self, now: Now) {
        if matches!(self.role, Role::Follower) {
            self.leader_heard = None;
            let spread = self.election_timeout() / 4;
            self.election_at = self.election_at.min(now.mono.after(self.random.below(spread)));
        }
    }

    /// A member that hears its leader keeps it, or any member that comes back would unseat it.
    fn keeps_leader(&self, now: Now) -> bool {
        match self.role {
            Role::Leader(_) => true,
            Role::Follower => {
                self.leader_heard.is_some_and(|heard| now.mono.since(heard) < self.heard_span())
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    pub(super) fn tick_election(&mut self, now: Now) {
        if !self.may_stand() {
            self.role = Role::Follower;
            return;
        }
        if now.mono >= self.election_at {
            self.pre_campaign(now);
            return;
        }
        let retry = self.retry_span(self.round_trip);
        let (Role::PreCandidate(votes) | Role::Candidate(votes)) = &mut self.role else { return };
        if now.mono >= votes.ask_at {
            votes.ask_at = now.mono.after(retry);
            self.ask_for_votes();
        }
    }

    fn pre_campaign(&mut self, now: Now) {
        self.leader = None;
        self.leader_heard = None;
        self.draw_election(now.mono);
        self.role = Role::PreCandidate(self.candidature(now, false));
        self.ask_for_votes();
        self.count_pre_votes(now);
    }

    pub(super) fn campaign(&mut self, now: Now, forced: bool) {
        let Some(term) = self.hard.term.checked_add(1) else { return };
        self.set_hard(term, Some(self.config.me));
        self.leader = None;
        self.leader_heard = None;
        self.draw_election(now.mono);
        self.role = Role::Candidate(self.candidature(now, forced));
        self.ask_for_votes();
        self.count_votes(now);
    }

    fn candidature(&self, now: Now, forced: bool) -> Candidature {
        let ask_at = now.mono.after(self.retry_span(self.round_trip));
        Candidature { granted: BTreeSet::from([self.config.me]), forced, ask_at }
    }

    fn ask_for_votes(&mut self) {
        let (votes, pre) = match &self.role {
            Role::PreCandidate(votes) => (votes, true),
            Role::Candidate(votes) => (votes, false),
            Role::Follower | Role::Leader(_) => return,
        };
        let last_index = self.last_index();
        let candidacy = Candidacy { forced: votes.forced, last_term: self.term_at(last_index), last_index };
        let body = if pre { Body::PreVote(candidacy) } else { Body::Vote(candidacy) };
        let silent: Vec<_> =
            self.other_voters().into_iter().filter(|member| !votes.granted.contains(member)).collect();
        for member in silent {
            self.send(member, body.clone());
        }
    }

    fn is_elected(&self, votes: &Candidature) -> bool {
        self.voters_among(votes.granted.iter()) >= self.quorum()
    }

    fn count_pre_votes(&mut self, now: Now) {
        if matches!(&self.role, Role::PreCandidate(votes) if self.is_elected(votes)) {
            self.campaign(now, false);
        }
    }

    fn count_votes(&mut self, now: Now) {
        if matches!(&self.role, Role::Candidate(votes) if self.is_elected(votes)) {
            self.lead(now);
        }
    }

    fn lead(&mut self, now: Now) {
        self.leader = Some(self.config.me);
        self.leader_heard = None;
        let others: Vec<_> =
            self.membership().members().filter(|member| **member != self.config.me).copied().collect();
        self.role = Role::Leader(Leadership::new(&others, self.last_index(), now.mono));
        self.append_own(now, None, Vec::new());
        self.append_own_forwards(now);
        self.replicate(now);
    }

    fn is_as_new_as_ours(&self, candidacy: &Candidacy) -> bool {
        let last = self.last_index();
        (candidacy.last_term, candidacy.last_index) >= (self.term_at(last), last)
            || self.plants(Planted::SkipElectability)
    }

    /// The term is the one that it would stand for.
    pub(super) fn on_pre_vote(&mut self, now: Now, from: MemberId, term: u64, candidacy: &Candidacy) {
        let granted = term > self.hard.term && !self.keeps_leader(now) && self.is_as_new_as_ours(candidacy);
        self.send(from, Body::PreVoteAnswer(Ballot { term, granted }));
    }

    pub(super) fn on_vote(&mut self, now: Now, from: MemberId, term: u64, candidacy: &Candidacy) {
        if term > self.hard.term {
            if self.keeps_leader(now) && !candidacy.forced {
                return;
            }
            self.follow(now, term, None);
        }
        let free = self.hard.voted_for.is_none_or(|voted| voted == from) || self.plants(Planted::VoteTwice);
        let granted = term == self.hard.term && free && self.is_as_new_as_ours(candidacy);
        if granted {
            if self.hard.voted_for != Some(from) {
                self.set_hard(self.hard.term, Some(from));
            }
            self.draw_election(now.mono);
        }
        self.send(from, Body::VoteAnswer(Ballot { term, granted }));
    }

    pub(super) fn on_pre_vote_answer(&mut self, now: Now, from: MemberId, ballot: Ballot) {
        let Role::PreCandidate(votes) = &mut self.role else { return };
        if ballot.granted && Some(ballot.term) == self.hard.term.checked_add(1) {
            votes.granted.insert(from);
            self.count_pre_votes(now);
        }
    }

    pub(super) fn on_vote_answer(&mut self, now: Now, from: MemberId, ballot: Ballot) {
        let Role::Candidate(votes) = &mut self.role else { return };
        if ballot.granted && ballot.term == self.hard.term {
            votes.granted.insert(from);
            self.count_votes(now);
        }
    }
}
