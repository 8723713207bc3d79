//! Who votes, who only learns, and how a leader walks from one electorate to the next.
//!
//! One step at a time, each an entry of the log that counts from the moment it is appended and is undone when it is cut.
//! The next step waits until the one before is committed and an entry of the leader's own term is: any quorum of one
//! electorate then shares a member with any quorum of the next.

use super::Ready;
use super::message::{Entry, MemberId};
use super::planted::Planted;
use super::state::{Log, Role};
use crate::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Voters and learners together, in the middle of the longest walk.
pub const MEMBERS_MAX: usize = 32;
/// How many entries a learner may lack to become a voter.
const LEARNER_LAG_MAX: u64 = 64;

/// What a group withstands, and so how many make a quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tolerance {
    /// Members that are down: a quorum is more than half.
    #[default]
    Crash,
    /// Also members that lie, fewer than a third: any two quorums share one that does not.
    Lies,
}

impl Tolerance {
    /// How many of so many voters may lie.
    #[must_use]
    pub fn faults(self, voters: usize) -> usize {
        match self {
            Self::Crash => 0,
            Self::Lies => voters.saturating_sub(1) / 3,
        }
    }

    /// How many of so many voters have to vote or to store.
    ///
    /// Quorums of two electorates that differ by one voter share more members than may lie in the smaller.
    #[must_use]
    pub fn quorum(self, voters: usize) -> usize {
        (voters + self.faults(voters)) / 2 + 1
    }
}

/// Who belongs to the group at one place of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Those whose votes and copies count.
    pub voters: BTreeSet<MemberId>,
    /// Those who only receive.
    pub learners: BTreeSet<MemberId>,
}

/// One step from an electorate to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElectorateStep {
    /// A member begins to receive the log.
    AddLearner(MemberId),
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A voter or learner leaves.
    Remove(MemberId),
}

impl ElectorateStep {
    /// The bytes that the chain hash covers.
    pub(super) fn to_bytes(self) -> [u8; 33] {
        let (kind, member) = match self {
            Self::AddLearner(member) => (1, member),
            Self::Promote(member) => (2, member),
            Self::Remove(member) => (3, member),
        };
        let mut bytes = [kind; 33];
        bytes[1..].copy_from_slice(&member.0);
        bytes
    }
}

impl Membership {
    /// The group that a log begins with.
    #[must_use]
    pub fn of_voters(voters: BTreeSet<MemberId>) -> Self {
        Self { voters, learners: BTreeSet::new() }
    }

    /// Voters and learners.
    pub fn members(&self) -> impl Iterator<Item = &MemberId> {
        self.voters.iter().chain(&self.learners)
    }

    /// Whether it votes or learns.
    #[must_use]
    pub fn contains(&self, member: &MemberId) -> bool {
        self.voters.contains(member) || self.learners.contains(member)
    }

    /// The group after a step; nothing if the step makes no sense here, and so changes nothing.
    #[must_use]
    pub fn after(&self, step: ElectorateStep) -> Option<Self> {
        let mut next = self.clone();
        let sensible = match step {
            ElectorateStep::AddLearner(member) => {
                let room = self.members().count() < MEMBERS_MAX;
                room && !self.voters.contains(&member) && next.learners.insert(member)
            }
            ElectorateStep::Promote(member) => next.learners.remove(&member) && next.voters.insert(member),
            ElectorateStep::Remove(member) => {
                (next.voters.remove(&member) || next.learners.remove(&member)) && !next.voters.is_empty()
            }
        };
        sensible.then_some(next)
    }
}

impl Log {
    /// Who belongs to the group by this member's log, committed or not: that is what counts.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.membership_at(u64::MAX)
    }

    /// Who belongs to the group by what is committed.
    #[must_use]
    pub fn committed_membership(&self) -> &Membership {
        self.membership_at(self.commit)
    }

    /// Who belongs to the group at an index.
    pub(super) fn membership_at(&self, index: u64) -> &Membership {
        let behind = self.memberships.partition_point(|(at, _)| *at <= index);
        &self.memberships[behind.saturating_sub(1)].1
    }

    /// The index of the newest step.
    pub(super) fn membership_since(&self) -> u64 {
        self.memberships.last().map_or(0, |(index, _)| *index)
    }

    /// How many of the present voters make a quorum.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.config.tolerance.quorum(self.membership().voters.len())
    }

    /// How many of these count as voters.
    pub(super) fn voters_among<'a>(&self, members: impl Iterator<Item = &'a MemberId>) -> usize {
        let membership = self.membership();
        let removed_count = self.plants(Planted::RemovedStillCounted);
        let learners_count = self.plants(Planted::LearnersCounted);
        let counts = |member: &&MemberId| {
            membership.voters.contains(*member)
                || (learners_count && membership.learners.contains(*member))
                || (removed_count && self.config.electorate.contains(*member))
        };
        members.filter(counts).count()
    }

    /// Whether this member may stand for election. One that its own log removes may, as long as it does not know that to
    /// be committed: it can be the only one left that holds the removal.
    pub(super) fn may_stand(&self) -> bool {
        let me = &self.config.me;
        self.writable && self.counting_memberships().iter().any(|(_, group)| group.voters.contains(me))
    }

    /// The electorate that is known to be committed, and all behind it.
    pub(super) fn counting_memberships(&self) -> &[(u64, Membership)] {
        let committed = self.memberships.partition_point(|(at, _)| *at <= self.commit).saturating_sub(1);
        &self.memberships[committed..]
    }

    /// Whom the leader wants to vote in the end; it walks there by itself, additions first. Every member may be told,
    /// since any may lead.
    pub fn aim_for(&mut self, now: Now, voters: BTreeSet<MemberId>) -> Ready {
        self.target = Some(voters);
        self.walk(now);
        self.finish()
    }

    /// Whose messages are looked at besides the members': who was down cannot know whom the others took in meanwhile.
    pub fn acquaint(&mut self, members: BTreeSet<MemberId>) {
        self.acquainted = members;
    }

    /// Takes the next step, if this member leads and the step before it is done.
    pub(super) fn walk(&mut self, now: Now) {
        let Role::Leader(leadership) = &self.role else { return };
        let in_step = self.membership_since() <= self.commit || self.plants(Planted::TwoStepsAtOnce);
        let own_term = self.term_at(self.commit) == self.hard.term || self.plants(Planted::StepBeforeOwnTerm);
        if leadership.handing_over.is_some() || !in_step || !own_term || self.is_stopped() {
            return;
        }
        if let Some(step) = self.next_step(now) {
            self.append_step(now, step);
            self.replicate(now);
        }
    }

    fn next_step(&self, now: Now) -> Option<ElectorateStep> {
        let target = self.target.as_ref().filter(|target| !target.is_empty())?;
        let membership = self.membership();
        let unwanted = membership.learners.difference(target).next();
        if let Some(unwanted) = unwanted {
            return Some(ElectorateStep::Remove(*unwanted));
        }
        if let Some(ready) = membership.learners.iter().find(|it| self.is_up_to_date(now, **it)) {
            return Some(ElectorateStep::Promote(*ready));
        }
        let missing = target.iter().find(|member| !membership.contains(member));
        if let Some(missing) = missing.filter(|_| membership.members().count() < MEMBERS_MAX) {
            return Some(ElectorateStep::AddLearner(*missing));
        }
        if !target.is_subset(&membership.voters) {
            return None;
        }
        // The leader goes last: until then nobody has to be elected for the walk.
        let leaving = membership.voters.difference(target);
        let last = |member: &&MemberId| **member == self.config.me;
        leaving.min_by_key(last).map(|member| ElectorateStep::Remove(*member))
    }

    fn is_up_to_date(&self, now: Now, member: MemberId) -> bool {
        let span = self.heard_span();
        self.peer(member).is_some_and(|peer| {
            peer.heard_within(now.mono, span)
                && peer.matched >= self.membership_since().max(self.first_index() - 1)
                && peer.matched.saturating_add(LEARNER_LAG_MAX) >= self.last_index()
        })
    }

    /// Follows an entry that was placed, if it is a step.
    pub(super) fn note_step(&mut self, index: u64, entry: &Entry) {
        let next = entry.change.and_then(|step| self.membership().after(step));
        if let Some(next) = next {
            self.memberships.push((index, next));
        }
    }

    /// Undoes the steps from an index on.
    pub(super) fn undo_steps_from(&mut self, index: u64) {
        while self.memberships.len() > 1 && self.membership_since() >= index {
            self.memberships.pop();
        }
    }

    /// A leader that is no voter any more leads until that is committed.
    pub(super) fn retire(&mut self, now: Now) {
        let removed = !self.membership().voters.contains(&self.config.me);
        let Role::Leader(leadership) = &self.role else { return };
        if !removed || self.membership_since() > self.commit {
            return;
        }
        let heir = leadership
            .peers
            .iter()
            .filter(|(member, _)| self.membership().voters.contains(member))
            .max_by_key(|(_, peer)| (peer.matched, peer.heard))
            .map(|(member, _)| *member);
        if let Some(heir) = heir {
            self.send_timeout_now(heir);
        }
        self.follow(now, self.hard.term, None);
    }
}
