//! What members of the ordered log say to each other, and its bounded CBOR form.

use super::ElectorateStep;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes of payload that one entry may have, and all entries of one message together.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Entries or proposals in one message.
pub const MESSAGE_ENTRIES_MAX: usize = 64;
/// Bytes of one encoded message: the payloads, and room for what surrounds each.
pub const MESSAGE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + MESSAGE_ENTRIES_MAX * 512 + 4096;
/// Bytes of an Append's signature.
pub const SIGNATURE_BYTES_MAX: usize = 1024;
/// Bytes of a snapshot in one message.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Maps and arrays inside one another in a message.
const NESTING_MAX: usize = 16;

/// A SHA-256 digest.
pub type Digest32 = [u8; 32];

/// A member of the electorate: the 32 bytes of its public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl MemberId {
    /// The id of a member in a later life; an id names one life of one store, or what an earlier one promised would
    /// count as this one's.
    #[must_use]
    pub fn in_life(self, life: Option<Life>) -> Self {
        let Some(Life(life)) = life else { return self };
        let mut hash = Sha256::new();
        hash.update(b"muster/member/1");
        hash.update(self.0);
        hash.update(life);
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names one proposal for ever: no other has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProposalId {
    /// How often the proposing member's process had started.
    pub boot: u64,
    /// Who proposed it.
    pub member: MemberId,
    /// Counts the proposals of that process.
    pub counter: u64,
}

/// One place of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's wall clock, in whole microseconds and never below the previous entry's.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub at: DateTime<Utc>,
    /// Which proposal it is; a leader's first entry, which says nothing, has none.
    pub id: Option<ProposalId>,
    /// The term in which a leader wrote it.
    pub term: u64,
    /// A step of the electorate, which the log itself follows; such an entry has nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ElectorateStep>,
    /// What was proposed; the log does not read it.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// The digest of this entry and, through its predecessor's, of everything before it.
    #[serde(with = "serde_bytes")]
    pub chain_hash: Digest32,
}

impl Entry {
    /// Makes the entry that follows one with `previous` as its chain hash.
    pub(super) fn following(
        previous: &Digest32,
        term: u64,
        id: Option<ProposalId>,
        at: DateTime<Utc>,
        payload: Vec<u8>,
    ) -> Self {
        let mut entry = Self { at, id, term, change: None, payload, chain_hash: [0; 32] };
        entry.chain_hash = entry.chain_hash_after(previous);
        entry
    }

    /// Makes it a step of the electorate.
    pub(super) fn stepping(mut self, previous: &Digest32, step: ElectorateStep) -> Self {
        self.change = Some(step);
        self.chain_hash = self.chain_hash_after(previous);
        self
    }

    /// The chain hash that it must have behind `previous`.
    #[must_use]
    pub fn chain_hash_after(&self, previous: &Digest32) -> Digest32 {
        let mut hash = Sha256::new();
        match self.change {
            None => hash.update(b"muster/log-entry/1"),
            Some(step) => {
                hash.update(b"muster/log-step/1");
                hash.update(step.to_bytes());
            }
        }
        hash.update(previous);
        hash.update(self.term.to_be_bytes());
        hash.update(self.at.timestamp_micros().to_be_bytes());
        match &self.id {
            None => hash.update([0]),
            Some(id) => {
                hash.update([1]);
                hash.update(id.member.0);
                hash.update(id.boot.to_be_bytes());
                hash.update(id.counter.to_be_bytes());
            }
        }
        hash.update(&self.payload);
        hash.finalize().into()
    }
}

/// One message; what it says about its sender was stored there before it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What is asked or answered.
    pub body: Body,
    /// How often the sender's process has started.
    pub boot: u64,
    /// What the sender remembers of the receiver's store.
    pub echo: Option<Echo>,
    /// The sender's term.
    pub term: u64,
    /// Which log this is; another one's messages are refused.
    #[serde(with = "serde_bytes")]
    pub epoch: Digest32,
    /// The random name of the sender's store.
    pub store: u64,
    /// Whom it is for: a later life of the receiver is somebody else.
    pub to: MemberId,
    /// By which readmission the sender takes part, if its store was lost once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Life>,
}

/// What readmitted a member whose store was lost or put back in time: it takes part under a new id since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Life(#[serde(with = "serde_bytes")] pub Digest32);

/// What one member remembers another to have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// The greatest boot counter that it named.
    pub boot: u64,
    /// The greatest term that it named.
    pub term: u64,
    /// The greatest index that it had stored in agreement with the leader of that term.
    pub index: u64,
    /// The name of its store.
    pub store: u64,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Would you vote for me? Changes nothing at the receiver.
    PreVote(Candidacy),
    /// The answer to it.
    PreVoteAnswer(Ballot),
    /// Vote for me.
    Vote(Candidacy),
    /// The answer to it.
    VoteAnswer(Ballot),
    /// A leader's entries and commit index; without entries a heartbeat.
    Append(Append),
    /// The answer to it.
    AppendAnswer(AppendAnswer),
    /// A follower's proposals, for the leader to append.
    Forward(Forward),
    /// Which of them are in the leader's log now.
    ForwardAnswer(ForwardAnswer),
    /// A leader that shuts down asks the receiver to stand for election at once.
    TimeoutNow(TimeoutNow),
    /// A part of a leader's snapshot, for whom its entries do not go back far enough.
    Snapshot(SnapshotChunk),
    /// How much of it has arrived; when all has, an `AppendAnswer` says so.
    SnapshotAnswer(SnapshotAnswer),
}

/// How new the log of the sender is, who stands for its own term or, in a `PreVote`, would for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidacy {
    /// The leader asked for this election, so that having heard it is no reason to refuse.
    pub forced: bool,
    /// The term of its last entry.
    pub last_term: u64,
    /// The index of its last entry.
    pub last_index: u64,
}

/// The answer to a candidacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// The term that was stood for.
    pub term: u64,
    /// Whether the vote is given.
    pub granted: bool,
}

/// A leader's entries from one place on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// The leader's own clock when it left, given back by the answer, in microseconds.
    pub sent: u64,
    /// The leader's commit index.
    pub commit: u64,
    /// At most `MESSAGE_ENTRIES_MAX`, and `PAYLOAD_BYTES_MAX` of payload.
    pub entries: Vec<Entry>,
    /// The chain hash of the entry before them.
    #[serde(with = "serde_bytes")]
    pub prev_hash: Digest32,
    /// The term of the entry before them.
    pub prev_term: u64,
    /// The leader's signature over `Message::head_bytes`; the caller makes and verifies it.
    #[serde(with = "serde_bytes")]
    pub signature: Option<Vec<u8>>,
    /// The index of the entry before them.
    pub prev_index: u64,
    /// The round trip that the leader measures to the receiver, in microseconds.
    pub round_trip: u64,
}

/// The answer to an Append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendAnswer {
    /// The Append's `sent`.
    pub sent: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl AppendAnswer {
    /// Up to where the sender's log agrees with the leader's, as far as the answer tells.
    pub(super) fn matched(&self) -> u64 {
        match self.outcome {
            Outcome::Stored { matched } => matched,
            Outcome::Refused { .. } | Outcome::Stale => 0,
        }
    }
}

/// What became of an Append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The log agrees with the leader's up to here, on disk.
    Stored {
        /// The last index that agrees.
        matched: u64,
    },
    /// The entry before the first is missing or another one.
    Refused {
        /// The Append's `prev_index`.
        prev: u64,
        /// The last index that may agree.
        hint: u64,
        /// The term there.
        hint_term: u64,
    },
    /// The sender is no leader any more; the answer's term says why.
    Stale,
}

/// One forwarded proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Its id, made by the follower that forwards it.
    pub id: ProposalId,
    /// What is proposed.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// Proposals on their way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// At most `MESSAGE_ENTRIES_MAX`, and `PAYLOAD_BYTES_MAX` of payload.
    pub proposals: Vec<Proposal>,
}

/// Which forwarded proposals stand in the leader's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardAnswer {
    /// Those; an empty list comes from a member that does not lead or has no room.
    pub taken: Vec<ProposalId>,
}

/// A part of an encoded snapshot; without data it only asks how much has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotChunk {
    /// At most `SNAPSHOT_CHUNK_BYTES`.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// The leader's own clock when it left, given back by the answer, in microseconds.
    pub sent: u64,
    /// The last index that the snapshot stands for.
    pub index: u64,
    /// Bytes of the whole snapshot.
    pub total: u64,
    /// The digest of all of them.
    #[serde(with = "serde_bytes")]
    pub digest: Digest32,
    /// Where the data begins.
    pub offset: u64,
}

/// The answer to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotAnswer {
    /// The chunk's `sent`.
    pub sent: u64,
    /// Of which snapshot.
    #[serde(with = "serde_bytes")]
    pub digest: Digest32,
    /// Bytes that have arrived without gaps.
    pub received: u64,
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutNow {}

/// What a leader signs: in its term, this is the digest of its log up to there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The leader's term.
    pub term: u64,
    /// Which log.
    #[serde(with = "serde_bytes")]
    pub epoch: Digest32,
    /// The chain hash at `last_index`.
    #[serde(with = "serde_bytes")]
    pub chain_hash: Digest32,
    /// The last index of the Append.
    pub last_index: u64,
}

impl Head {
    /// The bytes to sign: deterministic CBOR (RFC 8949, section 4.2).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than any message has.
    #[error("a message has at most {MESSAGE_BYTES_MAX} bytes, this one {0}")]
    TooLong(usize),
    /// Not CBOR, or not of this shape.
    #[error("not a message of the log: {0}")]
    Malformed(String),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// Too many entries or proposals.
    #[error("a message has at most {MESSAGE_ENTRIES_MAX} entries, this one {0}")]
    TooManyEntries(usize),
    /// Too much payload.
    #[error("the entries of a message have at most {PAYLOAD_BYTES_MAX} bytes, these {0}")]
    PayloadTooLong(usize),
    /// Too long a signature.
    #[error("a signature has at most {SIGNATURE_BYTES_MAX} bytes, this one {0}")]
    SignatureTooLong(usize),
}

impl Message {
    /// Its CBOR form: maps with text keys, always in the same order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads one message from exactly these bytes, within the limits above.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let mut rest = bytes;
        let message: Self = ciborium::de::from_reader_with_recursion_limit(&mut rest, NESTING_MAX)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(DecodeError::Trailing(rest.len()));
        }
        message.within_limits()?;
        Ok(message)
    }

    /// What the leader signs of an Append that carries entries; nothing for any other message.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let Body::Append(append) = &self.body else { return None };
        let last = append.entries.last()?;
        let last_index = append.prev_index.checked_add(append.entries.len() as u64)?;
        Some(Head { term: self.term, epoch: self.epoch, chain_hash: last.chain_hash, last_index })
    }

    /// The bytes that the leader signs, if this is an Append that carries entries.
    #[must_use]
    pub fn head_bytes(&self) -> Option<Vec<u8>> {
        self.head().map(|head| head.to_bytes())
    }

    /// Puts the signature into an Append; leaves any other message as it is.
    pub fn set_signature(&mut self, signature: Vec<u8>) {
        if let Body::Append(append) = &mut self.body {
            append.signature = Some(signature);
        }
    }

    fn within_limits(&self) -> Result<(), DecodeError> {
        let (count, payload_bytes) = match &self.body {
            Body::Append(append) => {
                let signature = append.signature.as_ref().map_or(0, Vec::len);
                if signature > SIGNATURE_BYTES_MAX {
                    return Err(DecodeError::SignatureTooLong(signature));
                }
                (append.entries.len(), append.entries.iter().map(|entry| entry.payload.len()).sum())
            }
            Body::Forward(forward) => {
                (forward.proposals.len(), forward.proposals.iter().map(|it| it.payload.len()).sum())
            }
            Body::ForwardAnswer(answer) => (answer.taken.len(), 0),
            Body::Snapshot(chunk) => (0, chunk.data.len()),
            Body::PreVote(_)
            | Body::PreVoteAnswer(_)
            | Body::Vote(_)
            | Body::VoteAnswer(_)
            | Body::AppendAnswer(_)
            | Body::SnapshotAnswer(_)
            | Body::TimeoutNow(_) => (0, 0),
        };
        if count > MESSAGE_ENTRIES_MAX {
            return Err(DecodeError::TooManyEntries(count));
        }
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(DecodeError::PayloadTooLong(payload_bytes));
        }
        Ok(())
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = ciborium::into_writer(value, &mut bytes);
    debug_assert!(written.is_ok(), "writing to memory cannot fail");
    bytes
}
