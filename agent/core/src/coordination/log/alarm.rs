//! What honest members with sound disks never cause, and what a member does about it.

use super::message::{Digest32, Echo, Head, MemberId};
use super::state::{Log, Role};

/// What honest members with sound disks never cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A member's message belongs to another log; it was ignored.
    OtherEpoch {
        /// Who sent it.
        from: MemberId,
        /// The epoch it named.
        epoch: Digest32,
    },
    /// A member named a term that no sequence of elections reaches; its message was ignored.
    TermJump {
        /// Who sent it.
        from: MemberId,
        /// The term it named.
        term: u64,
    },
    /// Two members, this one perhaps, lead in one term; the second one's message was ignored.
    TwoLeaders {
        /// The term.
        term: u64,
        /// The one known.
        known: MemberId,
        /// The other.
        other: MemberId,
    },
    /// A leader's entries do not follow from one another; its message was ignored.
    BadAppend {
        /// Who sent it.
        from: MemberId,
        /// The first index that does not follow.
        index: u64,
    },
    /// A leader gave two logs in one term.
    LyingLeader {
        /// What came first.
        first: SignedHead,
        /// What contradicts it.
        second: SignedHead,
    },
    /// Where index and term agree, the chain hashes differ; this member stopped.
    Diverged {
        /// The leader whose log it is.
        leader: MemberId,
        /// Where.
        index: u64,
        /// The chain hash here.
        ours: Digest32,
        /// The chain hash there.
        theirs: Digest32,
    },
    /// A leader's log lacks an entry that is committed here; this member stopped.
    CommittedContradicted {
        /// The leader whose log it is.
        leader: MemberId,
        /// Where.
        index: u64,
        /// The term here, of the committed entry.
        ours: u64,
        /// The term there.
        theirs: u64,
    },
    /// A member's store is older than what another remembers of it; if it is this member's, it stopped.
    DiskPutBack {
        /// Whose store.
        member: MemberId,
        /// What is remembered.
        remembered: Echo,
        /// What it is now.
        found: Echo,
    },
    /// A leader's snapshot cannot be read or is not of the place that it names; it was ignored.
    BadSnapshot {
        /// Who sent it.
        from: MemberId,
        /// The index that it named.
        index: u64,
    },
    /// The store's entries do not follow from one another from this index on; this member stopped.
    StoreDamaged {
        /// The first index that does not follow.
        index: u64,
    },
}

/// A leader's claim about its log, with the signature it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// Who sent it.
    pub from: MemberId,
    /// The claim.
    pub head: Head,
    /// The signature over `head.to_bytes()`, as received.
    pub signature: Option<Vec<u8>>,
}

impl Log {
    pub(super) fn alarm(&mut self, alarm: Alarm) {
        self.alarms.push(alarm);
    }

    pub(super) fn stop(&mut self, alarm: Alarm) {
        self.alarm(alarm);
        self.stopped = true;
        self.role = Role::Follower;
        self.leader = None;
    }

    /// Another member's word goes against what this one holds, so that one of the two is wrong.
    ///
    /// Where members may lie, one word proves nothing, or a single liar could stop all others. Only when more members
    /// say so than may lie does an honest one among them, and this member stops; until then what the others say in
    /// that message is ignored.
    pub(super) fn contradicted(&mut self, by: MemberId, alarm: Alarm) {
        let liars_max = self.config.tolerance.faults(self.membership().voters.len());
        let first = self.contradictors.insert(by);
        if self.contradictors.len() > liars_max {
            self.stop(alarm);
        } else if first {
            self.alarm(alarm);
        }
    }
}
