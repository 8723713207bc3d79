//! One sequence of entries that all coordinators agree on, whoever of them is up: the ordered log.
//!
//! A few members, the electorate, each keep a copy of one list of entries. The protocol is Raft, as told in Diego
//! Ongaro's dissertation "Consensus: Bridging Theory and Practice" (chapters 3, 4, 6 and 9). In short:
//!
//! **Terms and leaders.** Time is cut into numbered terms. In each at most one member leads: to lead, it needs the votes
//! of a quorum, and a member votes once per term and has that on disk before its vote leaves. Any two quorums share a
//! member, so two leaders of one term cannot be. A member that hears no leader for an election timeout, drawn at random
//! so that two rarely start together, first asks whether it *would* be elected (`PreVote`), which disturbs nobody, and
//! only then starts a term (`Vote`). Whoever heard a leader lately refuses both; a leader that has not heard a quorum for
//! two election timeouts stops leading; one that shuts down tells its best follower to start at once (`TimeoutNow`).
//!
//! **Entries.** Only the leader writes. It appends proposals to its own log and sends them on (`Append`), each batch with
//! index, term and chain hash of the entry before it. A follower that has that very entry stores the batch, cutting
//! away whatever stood there otherwise, and answers; one that has not says where the logs may still agree, a term per
//! round, and the leader starts from there. So logs that agree in index and term somewhere agree in all before it.
//!
//! **Commitment.** An entry is committed once a quorum stored it and the leader's own term wrote it or something after
//! it (entries of earlier terms may still be overwritten, however many hold them). A voter refuses candidates whose log
//! is older than its own, so every later leader has every committed entry, and what is committed never changes. The
//! leader's first entry in a term is empty, so that what it inherited gets committed without waiting for a proposal.
//!
//! **Store, send, apply.** [`Log`] does no I/O. Each step returns a [`Ready`]: operations to store in one transaction,
//! messages that may leave only when that (and every earlier) transaction is durable, and entries newly committed, to be
//! applied after it. The caller reports durability with [`Log::stored`]; only then do the member's own copies count.
//!
//! **Hostile surroundings.** Messages may be lost, doubled, late or out of order. Messages from outside the electorate
//! are ignored. The chain hash of an entry covers everything before it: where index and term agree and it differs, or
//! a leader asks to cut what is committed, the member stops and says so ([`Alarm`]). A leader signs (epoch, term, index,
//! chain hash) of its entries; two different ones for one place prove that it lies. Members tell each other what they
//! remember of each other's disks, so that a disk put back in time is noticed by whoever meets a peer that remembers;
//! the caller keeps that memory ([`Log::memory`]), or a group that restarts as a whole could not notice it. Such a member
//! comes back under a new id ([`MemberId::in_life`]), as a learner first: what it promised before binds nobody any more.
//!
//! **Proposals** carry ids. Any member may hand its own to the leader ([`Log::forward`]); one that arrives twice is
//! appended once. Which one was lost is for the proposer to see by what gets committed.
//!
//! **Membership** changes by entries that the log itself reads ([`ElectorateStep`]): a new member learns first, becomes a
//! voter when it is up to date, and one voter comes or goes at a time. A leader that is told where to go
//! ([`Log::aim_for`]) walks there by itself.
//!
//! **Snapshots.** Each member may replace the entries that it applied by the state that they led to ([`Log::compact`]).
//! Whoever lacks entries that the leader does not have any more gets its [`Snapshot`] in chunks, and goes on behind it.

mod alarm;
mod credible;
mod election;
mod entries;
mod forward;
mod handover;
mod membership;
mod message;
mod outcome;
mod planted;
mod random;
mod replication;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use alarm::{Alarm, SignedHead};
pub use membership::{ElectorateStep, MEMBERS_MAX, Membership, Tolerance};

pub use message::{
    Append, AppendAnswer, Ballot, Body, Candidacy, DecodeError, Digest32, Echo, Entry, Forward,
    ForwardAnswer, Head, Life, MESSAGE_BYTES_MAX, MESSAGE_ENTRIES_MAX, MemberId, Message, Outcome,
    PAYLOAD_BYTES_MAX, Proposal, ProposalId, SIGNATURE_BYTES_MAX, SNAPSHOT_CHUNK_BYTES, SnapshotAnswer,
    SnapshotChunk, TimeoutNow,
};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use snapshot::{REPEAT_WINDOW, STATE_BYTES_MAX, Snapshot};
pub use state::Log;

use std::collections::BTreeSet;
use std::time::Duration;

/// What a member is built with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub me: MemberId,
    /// The voters with whom the log begins, before any step; this one need not be among them.
    pub electorate: BTreeSet<MemberId>,
    /// What the members withstand; it holds for the whole log.
    pub tolerance: Tolerance,
    /// Which log this is; its first entry's chain hash builds on it.
    pub epoch: Digest32,
    /// The timers.
    pub timing: Timing,
    /// Where the spread of election timeouts and a new store's name come from.
    pub seed: u64,
    /// By which readmission this member takes part; `me` is of that life.
    pub life: Option<Life>,
    /// Entries in one Append, at most `MESSAGE_ENTRIES_MAX`.
    pub batch_entries_max: usize,
    /// Whether a leader's snapshot is taken only if the caller vouched for it.
    pub vouched_snapshots: bool,
    /// A bug for the simulator to find.
    #[cfg(feature = "planted")]
    pub planted: Option<Planted>,
}

impl Config {
    /// A member of a group that tolerates crashes: a quorum is more than half.
    #[must_use]
    pub fn new(me: MemberId, electorate: BTreeSet<MemberId>, epoch: Digest32, seed: u64) -> Self {
        Self {
            me,
            electorate,
            tolerance: Tolerance::Crash,
            epoch,
            timing: Timing::default(),
            seed,
            life: None,
            batch_entries_max: MESSAGE_ENTRIES_MAX,
            vouched_snapshots: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

/// The protocol's timers.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two sends to a member that has not answered yet; at least two round trips.
    pub heartbeat_busy: Duration,
    /// Between two sends to a member that has answered everything.
    pub heartbeat_idle: Duration,
    /// The shortest election timeout, counted from when the next heartbeat is due; at least ten round trips. The
    /// longest is twice that.
    pub election: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_busy: Duration::from_millis(50),
            heartbeat_idle: Duration::from_millis(250),
            election: Duration::from_millis(250),
        }
    }
}

/// What a member must not forget, besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HardState {
    /// How often the process has started.
    pub boot: u64,
    /// The current term.
    pub term: u64,
    /// The store's random name; zero in a store that was never used.
    pub store: u64,
    /// Whom it voted for in this term.
    pub voted_for: Option<MemberId>,
}

/// What the store held when the process started.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// The default in a new store.
    pub hard_state: HardState,
    /// What stands for the entries up to an index.
    pub snapshot: Option<Snapshot>,
    /// The entries with their indexes, without gaps from 1 or from behind the snapshot.
    pub entries: Vec<(u64, Entry)>,
}

/// Names one write; later ones have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// One transaction for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// To be given back to `Log::stored`.
    pub id: WriteId,
    /// To be done in this order, all or a beginning of them.
    pub operations: Vec<Operation>,
}

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Replace the hard state.
    HardState(HardState),
    /// Add an entry behind the last one.
    Append {
        /// Its index.
        index: u64,
        /// The entry.
        entry: Entry,
    },
    /// Remove this entry and all behind it.
    CutFrom(u64),
    /// Keep this snapshot in place of the last one and of the entries up to its index.
    Compact(Box<Snapshot>),
    /// Keep this snapshot in place of the last one and of all entries.
    Install(Box<Snapshot>),
}

/// What one step asks for: store the write, then send the messages, then apply the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "the member relies on what it asked for being done"]
pub struct Ready {
    /// The transaction; the messages and entries below wait for it and for every earlier one.
    pub write: Option<Write>,
    /// Messages and their receivers; Appends with entries want a signature.
    pub messages: Vec<(MemberId, Message)>,
    /// A leader's snapshot was installed: its state replaces whatever was applied before.
    pub installed: Option<Box<Snapshot>>,
    /// Entries newly committed and durable here, in order; a proposal's second appearance is left out.
    pub committed: Vec<(u64, Entry)>,
    /// What became of forwarded proposals.
    pub forwarded: Vec<(ProposalId, Forwarded)>,
    /// What a person must know.
    pub alarms: Vec<Alarm>,
}

impl Ready {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of a forwarded proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It stands in the leader's log; it may still be lost with that leader.
    Taken,
    /// No leader took it in time.
    GivenUp,
}

/// What a member is to the others at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It follows, or waits for a leader.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It stands for election.
    Candidate,
    /// It leads.
    Leader,
}

/// Why a proposal was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader appends; the follower can forward.
    #[error("this member does not lead the log")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<MemberId>,
    },
    /// One payload is too long.
    #[error("a proposal has at most {PAYLOAD_BYTES_MAX} bytes, this one {0}")]
    TooLong(usize),
    /// Too much waits already.
    #[error("too many proposals wait to be committed")]
    Full,
}

/// Why a log was not compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// Only what was applied has led to a state.
    #[error("entries up to {applied} are applied, not yet {index}")]
    NotApplied {
        /// Up to where it was to be compacted.
        index: u64,
        /// Up to where entries were handed out to be applied.
        applied: u64,
    },
    /// The state is too long to be sent to others.
    #[error("a state has at most {STATE_BYTES_MAX} bytes, this one {0}")]
    TooLong(usize),
}
