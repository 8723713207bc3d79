//! What hosts sign: feed envelopes, and notices beside the feed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_signing::{Digest, Opened, PublicKey, Verified};
use serde::{Deserialize, Serialize};

use super::codec::{self, DecodeError};
use super::{DecisionId, FeedBody};
use crate::id::{Closure, FleetName, HostId, ProbeName};

/// One position of a host's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The fleet.
    pub fleet: FleetName,
    /// The host that speaks.
    pub host: HostId,
    /// Milliseconds, chosen when the host's store was created: tells a reinstalled host's feed from its old one.
    pub incarnation: u64,
    /// Counts that feed from 1.
    pub seq: u64,
    /// SHA-256 of the feed's previous envelope; zeros for the first.
    pub prev: Digest,
    /// The host's clock when it signed.
    pub at: DateTime<Utc>,
    /// What happened.
    pub body: FeedBody,
}

/// What a host says outside its feed; of one body's type the greatest (incarnation, boot, n) holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The fleet.
    pub fleet: FleetName,
    /// The host that speaks.
    pub host: HostId,
    /// The host's incarnation.
    pub incarnation: u64,
    /// Counts the starts of the host's agent.
    pub boot: u64,
    /// Counts the notices of this boot from 1.
    pub n: u64,
    /// The host's clock when it signed.
    pub at: DateTime<Utc>,
    /// What it says.
    pub body: NoticeBody,
}

impl Notice {
    /// What orders the notices of one host.
    pub fn order(&self) -> (u64, u64, u64) {
        (self.incarnation, self.boot, self.n)
    }
}

/// What a notice says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum NoticeBody {
    /// The heartbeat.
    Presence(Box<Presence>),
    /// What a coordinator has durably stored since its last such message.
    Marks {
        /// The heads of feeds.
        feeds: Vec<FeedMark>,
        /// Hashes of documents.
        documents: Vec<Digest>,
    },
    /// A coordinator will never sign this decision.
    Objection {
        /// The epoch of the log.
        epoch: Digest,
        /// The decision.
        decision: DecisionId,
        /// Why, for people.
        reason: String,
    },
    /// A host signed two histories: its own envelopes show it.
    Fork(ForkProof),
}

/// Two envelopes of one feed that cannot both be true, as their host signed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkProof {
    /// The one.
    #[serde(with = "serde_bytes")]
    pub first: Vec<u8>,
    /// The other: of the same place, or of the next one and after something else.
    #[serde(with = "serde_bytes")]
    pub second: Vec<u8>,
}

/// A host's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The position of the newest envelope of the host's feed; 0 if there is none.
    pub head_seq: u64,
    /// That envelope's hash; zeros if there is none.
    pub head_hash: Digest,
    /// What the host runs, if its backend can tell.
    pub current_closure: Option<Closure>,
    /// The targets that the host holds already, of those that it was asked to fetch.
    pub fetched: Vec<Closure>,
    /// Whether the activation backend fetches ahead at all.
    pub prefetches: bool,
    /// How the fetching of what is missing goes, in words for people; empty if nothing is.
    #[serde(default)]
    pub fetching: String,
    /// Whether a part of what runs, such as its kernel, takes effect at the next boot only.
    #[serde(default)]
    pub reboot_pending: bool,
    /// How the store is.
    pub store: StoreState,
    /// The agent's version.
    pub agent_version: String,
    /// The serial of the newest fleet document that the host holds.
    pub fleet_serial: u64,
    /// How long the agent has run, in seconds.
    pub uptime_secs: u64,
    /// Durable events that wait for a quorum's marks.
    pub outbox: u64,
    /// Enforced probes that fail now.
    pub failing_enforce_probes: Vec<ProbeName>,
    /// The newest version of the reducer that the agent knows; 0 if it says none.
    #[serde(default)]
    pub rules: u32,
    /// Whether the host asks how far the others hold its feed, since it has just started.
    #[serde(default)]
    pub asks_for_head: bool,
    /// The epoch of the coordinators' log, as the documents that the host holds tell it.
    #[serde(default)]
    pub epoch: Option<Digest>,
    /// Whether the host takes no part among the coordinators until operators readmit it: its store is not what it was.
    #[serde(default)]
    pub awaits_readmission: bool,
    /// How often the host speaks, in milliseconds.
    pub heartbeat_millis: u64,
}

/// How a host's store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// It takes writes.
    Ok,
    /// The disk is full: only what is in flight is recorded.
    Full,
    /// It takes no writes.
    Failed,
}

/// The newest position of one feed that a coordinator has stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedMark {
    /// Whose feed.
    pub host: HostId,
    /// Which incarnation.
    pub incarnation: u64,
    /// Stored up to here.
    pub seq: u64,
}

/// Verified content together with the bytes that were verified, which are what is stored and passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<T> {
    /// The content, shared by all who received it.
    pub content: Arc<T>,
    /// The signed bytes as they came.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub hash: Digest,
    /// Whose signature it is.
    pub signer: PublicKey,
}

impl<T: serde::de::DeserializeOwned> Received<T> {
    /// Reads the content of signed bytes; the proof of the signature stays with it.
    pub fn read(what: &'static str, opened: Verified<Opened>) -> Result<Verified<Self>, DecodeError> {
        opened.parse(|opened| {
            Ok(Self {
                content: Arc::new(codec::decode(what, opened.payload())?),
                bytes: opened.bytes().to_vec(),
                hash: opened.digest(),
                signer: *opened.signer(),
            })
        })
    }
}
