//! The fleet as one agent sees it: `/v1/status`, `/v1/fleet`, `/v1/peers`, `/v1/id`, `/v1/store`, `/v1/store/verify`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{HookStatus, HostState, RolloutState};

/// `GET /v1/status`: the fleet at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The form's version.
    pub schema: u32,
    /// The fleet's name.
    pub fleet: String,
    /// The host whose agent answers.
    pub host: String,
    /// The serial of the fleet document that it holds; absent before the first.
    pub fleet_serial: Option<u64>,
    /// Whether decisions can be made.
    pub quorum: Quorum,
    /// The coordinator that leads, if one is known.
    pub coordinator: Option<String>,
    /// What a person must look at, worst first, one sentence each.
    pub alarms: Vec<String>,
    /// Why nothing moves, in one sentence; absent while something moves or nothing is to do.
    pub held: Option<String>,
    /// The greatest serial of a command that is held; a new one takes effect after all others with a greater one.
    #[serde(default)]
    pub command_serial: Option<u64>,
    /// The channels by name.
    pub channels: Vec<ChannelStatus>,
    /// The hosts by name.
    pub hosts: Vec<HostStatus>,
    /// Whom the agent that answers calls when something happens, by name.
    #[serde(default)]
    pub hooks: Vec<HookStatus>,
}

/// How many coordinators are in reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// Coordinators heard of lately, this one included.
    pub reachable: u32,
    /// How many a decision needs.
    pub needed: u32,
    /// How many there are.
    pub of: u32,
    /// The hosts that are coordinators and out of reach.
    pub missing: Vec<String>,
}

/// A channel and its newest rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// The channel.
    pub channel: String,
    /// The newest ref that was accepted.
    pub r#ref: Option<String>,
    /// That ref's serial; the channel's next one needs a greater one.
    pub ref_serial: Option<u64>,
    /// The newest rollout's id.
    pub rollout: Option<String>,
    /// The rollout's state.
    pub state: Option<RolloutState>,
    /// The wave under way, counted from 0.
    pub wave: Option<u32>,
    /// How many waves the rollout has.
    pub waves: Option<u32>,
}

/// A host and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The host.
    pub host: String,
    /// Its state in the rollout that it was last part of.
    pub state: Option<HostState>,
    /// The closure that it last said it runs.
    pub current: Option<String>,
    /// The closure that its channel's newest ref names for it.
    pub target: Option<String>,
    /// Whether it has been heard of lately.
    pub online: bool,
    /// What holds it back, in one sentence.
    pub waits_for: Option<String>,
    /// How the fetching of its next target goes; null if nothing is missing or its backend does not fetch ahead.
    #[serde(default)]
    pub fetching: Option<String>,
    /// Whether a part of what it runs, such as its kernel, takes effect at the next boot only.
    #[serde(default)]
    pub reboot_pending: bool,
}

/// `GET /v1/fleet`: the newest fleet document that was accepted, as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetDocument {
    /// The form's version.
    pub schema: u32,
    /// Its serial.
    pub serial: u64,
    /// The SHA-256 of the document: `sha256-` and hexadecimal digits.
    pub hash: String,
    /// The document's bytes, in base64.
    pub document: String,
    /// Its signatures, armored as `ssh-keygen -Y sign` writes them.
    pub signatures: Vec<String>,
}

/// `GET /v1/peers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// The form's version.
    pub schema: u32,
    /// Every host of the roster but the one that answers, by name.
    pub peers: Vec<Peer>,
}

/// A member of the roster, as its connection and its last words show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// The host.
    pub host: String,
    /// The libp2p peer id of its key.
    pub peer_id: String,
    /// Whether there is a connection right now.
    pub connected: bool,
    /// `quic`, `tcp` or `relay`.
    pub transport: Option<String>,
    /// The multiaddr of the connection.
    pub address: Option<String>,
    /// The last round trip, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// How far its clock is ahead of this host's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// The version of its agent.
    pub agent_version: Option<String>,
    /// When it was last heard of, by any road.
    pub last_heard: Option<DateTime<Utc>>,
    /// The incarnation of its feed.
    pub feed_incarnation: Option<u64>,
    /// The last position of its feed that this host holds.
    pub feed_seq: Option<u64>,
    /// How many positions more the host itself has.
    pub feed_behind: Option<u64>,
    /// The serial of the fleet document that it holds.
    pub fleet_serial: Option<u64>,
    /// How many of its events no quorum has stored yet.
    pub outbox: Option<u64>,
}

/// `GET /v1/id`: who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// The form's version.
    pub schema: u32,
    /// The fleet's name.
    pub fleet: String,
    /// This host's name.
    pub host: String,
    /// The libp2p peer id of its key.
    pub peer_id: String,
    /// Its public key as OpenSSH writes it.
    pub public_key: String,
    /// The incarnation of its feed.
    pub incarnation: u64,
}

/// `GET /v1/store`: what lies on this host's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfo {
    /// The form's version.
    pub schema: u32,
    /// The file.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The tables by name.
    pub tables: Vec<StoreTable>,
    /// How many own events no quorum has stored yet.
    pub outbox: u64,
    /// `ok`, or what is wrong with it.
    pub health: String,
}

/// `GET /v1/store/verify`: whether every signature on the disk holds, and every view is what was signed comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreVerified {
    /// The form's version.
    pub schema: u32,
    /// How many records were learnt, in order; absent with a fault.
    pub arrivals: Option<u64>,
    /// How many rows the views have; absent with a fault.
    pub views: Option<u64>,
    /// Whether all is as it should be.
    pub ok: bool,
    /// What is not.
    pub fault: Option<String>,
}

/// One table of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTable {
    /// The table.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// Their keys and values together, in bytes.
    pub bytes: u64,
    /// `canonical`: signed, cannot be made again from the rest; `derived`: can; `local`: only this host's.
    pub class: String,
}
