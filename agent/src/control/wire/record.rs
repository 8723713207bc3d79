//! What was said and decided: `/v1/events`, `/v1/quarantines`, `/v1/explain/{subject}`, `/v1/documents`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// `GET /v1/events`: what this host learned, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The form's version.
    pub schema: u32,
    /// The events, oldest first.
    pub events: Vec<Event>,
}

/// One thing that this host learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in this host's own order; `after` goes on behind it.
    pub position: u64,
    /// When it happened, by the clock of whoever said it.
    pub at: DateTime<Utc>,
    /// What kind of thing it is.
    pub kind: EventKind,
    /// The host that it is of.
    pub host: Option<String>,
    /// The rollout that it belongs to.
    pub rollout: Option<String>,
    /// Its name, such as `Converged` or `Dispatch`.
    pub name: String,
    /// The rest, in words.
    pub detail: String,
    /// Whether its signatures were looked at again just now and hold.
    pub verified: bool,
}

/// What kind of thing an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A host signed it.
    Event,
    /// A quorum of coordinators signed it.
    Decision,
    /// Operators signed it.
    Document,
    /// An entry of the coordinators' log.
    Log,
    /// A kind that a newer agent knows.
    #[serde(other)]
    Unknown,
}

/// `GET /v1/quarantines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantines {
    /// The form's version.
    pub schema: u32,
    /// The quarantines that nobody has lifted, newest first.
    pub quarantines: Vec<Quarantine>,
}

/// A closure that must not be activated on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The channel.
    pub channel: String,
    /// The closure.
    pub closure: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The rollout in which it failed.
    pub rollout: Option<String>,
    /// A host whose failure is the evidence.
    pub host: Option<String>,
    /// The decision, which a clearance names.
    pub decision: DecisionId,
}

/// Where in the coordinators' log a decision was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionId {
    /// The entry.
    pub log_index: u64,
    /// Which of the entry's decisions, counted from 0.
    pub ordinal: u32,
}

/// `GET /v1/explain/{subject}`: why a host or a rollout does not move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// The form's version.
    pub schema: u32,
    /// What was asked about.
    pub subject: String,
    /// The host, if it is one.
    pub host: Option<String>,
    /// The rollout that it is, or that the host is part of.
    pub rollout: Option<String>,
    /// The answer in one sentence.
    pub summary: String,
    /// Every gate that is closed.
    pub gates: Vec<BlockedGate>,
    /// What the host last reported.
    pub last_report: Option<LastReport>,
}

/// A gate that holds a host back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedGate {
    /// The gate.
    pub gate: String,
    /// Whom it holds back.
    pub host: Option<String>,
    /// Why.
    pub reason: String,
    /// Who or what would open it.
    pub waits_for: Option<String>,
    /// What a person can do about it, or what will do it without one.
    #[serde(default)]
    pub way_out: Option<String>,
    /// The earliest time at which it can open, if that is known.
    pub opens_at: Option<DateTime<Utc>>,
}

/// What a host last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// The event's name.
    pub name: String,
    /// When, by the host's clock.
    pub at: DateTime<Utc>,
    /// The rest, in words.
    pub detail: String,
}

/// What `POST /v1/documents` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDocument {
    /// The document's bytes, in base64.
    pub document: String,
    /// Its signatures, armored as `ssh-keygen -Y sign` writes them.
    pub signatures: Vec<String>,
}

/// `POST /v1/documents`, accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentReceipt {
    /// The form's version.
    pub schema: u32,
    /// The SHA-256 of the document: `sha256-` and hexadecimal digits.
    pub hash: String,
    /// Whether this host held it already.
    pub duplicate: bool,
}

/// `GET /v1/documents/{hash}`: how far a document has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentInfo {
    /// The form's version.
    pub schema: u32,
    /// The SHA-256 of the document: `sha256-` and hexadecimal digits.
    pub hash: String,
    /// `fleet`, `channel-ref` or `command`.
    pub kind: String,
    /// Its serial.
    pub serial: Option<u64>,
    /// Whether this host has accepted it.
    pub accepted: bool,
    /// The coordinators that are known to have stored it.
    pub stored_by: Vec<String>,
    /// Whether they are a quorum.
    pub quorum: bool,
    /// What a command does; absent for other documents.
    #[serde(default)]
    pub effect: Option<CommandEffect>,
}

/// What a command does, by this agent's evidence now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEffect {
    /// Whether it counts already; before that it is on its way through the coordinators' log.
    pub in_effect: bool,
    /// What it comes to: `stable is paused`.
    pub summary: String,
    /// What that means for hosts, if anything.
    pub detail: Option<String>,
    /// The hosts that it is about, not dispatched, and held back by some gate.
    pub held: Vec<String>,
    /// The hosts that it is about, not dispatched, and held back by nothing.
    pub free: Vec<String>,
    /// The hosts that it is about and that are under way.
    pub in_flight: Vec<String>,
}
