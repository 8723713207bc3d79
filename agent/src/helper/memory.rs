//! What the helper remembers from one order to the next: without it, old papers would be as good as new ones.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use muster_core::document::plan::RefOrder;
use muster_core::document::{Documents, Fleet, Held};
use muster_core::id::{ChannelId, Closure, RolloutId};
use muster_core::wire::codec::{self, DecodeError};
use muster_core::wire::{Decision, DecisionId};
use muster_signing::Digest;
use serde::{Deserialize, Serialize};

/// The version of the memory.
const VERSION: u32 = 1;
/// The longest memory, in bytes.
pub const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// How many decisions are remembered that could still be used.
pub const USED_MAX: usize = 512;

/// What the helper remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    v: u32,
    /// The newest fleet document.
    pub fleet: Option<KnownFleet>,
    /// The greatest time at which a decision was used: clocks that go back make nothing young again.
    pub clock: Option<DateTime<Utc>>,
    /// The newest ref of each channel that ran, since the last recovery.
    pub ran: BTreeMap<ChannelId, Ran>,
    /// The decisions that were used and are not past their end yet.
    pub used: Vec<Used>,
    /// The last switch.
    pub last: Option<LastSwitch>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { v: VERSION, fleet: None, clock: None, ran: BTreeMap::new(), used: Vec::new(), last: None }
    }
}

/// A fleet document that was acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFleet {
    /// Its serial.
    pub serial: u64,
    /// SHA-256 of its bytes.
    pub hash: Digest,
    /// The last recovery document up to it, if there was one: from each on, serials begin anew.
    pub recovery: Option<Digest>,
}

/// A ref that was acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// The serial of the fleet document that it names.
    pub fleet_serial: u64,
    /// Its own serial.
    pub serial: u64,
    /// SHA-256 of its bytes.
    pub hash: Digest,
}

impl Ran {
    /// Its place among the refs of its channel.
    pub fn order(&self) -> RefOrder {
        RefOrder { fleet_serial: self.fleet_serial, serial: self.serial }
    }
}

/// A decision that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// The epoch of the log.
    pub epoch: Digest,
    /// The decision's id in it.
    pub id: DecisionId,
    /// Past this it is refused anyway.
    pub not_after: DateTime<Utc>,
}

impl Used {
    /// Whether it is that decision.
    pub fn is(&self, decision: &Decision) -> bool {
        (self.epoch, self.id) == (decision.epoch, decision.id())
    }
}

/// The last switch, and whether it was undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastSwitch {
    /// The decision that it follows from.
    pub decision: Used,
    /// The rollout.
    pub rollout: RolloutId,
    /// How long the switch may take, and the way back, in seconds.
    pub timeout_secs: u64,
    /// What ran when it began; none if that is unknown, or was the target itself.
    pub from: Option<Closure>,
    /// Its target.
    pub to: Closure,
    /// How far it came.
    pub phase: Phase,
    /// How far its rollback came, if one was asked for.
    pub rollback: Option<Phase>,
}

/// How far something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was written down; whether it began nobody knows, so the same order may be given again.
    Begun,
    /// It was carried out.
    Done,
}

impl Memory {
    /// Reads a memory.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let memory: Self = codec::decode("memory of the helper", bytes)?;
        if memory.v != VERSION {
            let detail = format!("version {} is not {VERSION}", memory.v);
            return Err(DecodeError::new("memory of the helper", detail));
        }
        Ok(memory)
    }

    /// The memory as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The time to judge by.
    pub fn not_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.clock.map_or(now, |clock| clock.max(now))
    }

    /// Forgets the decisions that `now` refuses by itself.
    pub fn prune(&mut self, now: DateTime<Utc>) {
        self.used.retain(|used| used.not_after >= now);
    }
}

impl KnownFleet {
    /// The newest of documents that were accepted, where nothing is remembered; none if there is none.
    pub fn first(documents: &Documents) -> Option<Self> {
        let recovery = documents.last_recovery().map(|recovery| recovery.hash);
        Some(Self { recovery, ..Self::newest(documents)? })
    }

    /// The newest of documents that were accepted, if it is this one or may take its place: by a greater serial, or by a
    /// recovery document that replaces it. `anchored` says that the documents begin with this one.
    pub fn next(&self, documents: &Documents, anchored: bool) -> Option<Self> {
        let newest = Self::newest(documents)?;
        if newest.hash == self.hash {
            return Some(self.clone());
        }
        let recoveries: Vec<&Held<Fleet>> =
            documents.chain().iter().map(|link| &**link).filter(|link| link.replaces.is_some()).collect();
        let known = self.recovery.map(|hash| recoveries.iter().position(|it| it.hash == hash));
        let since = match known {
            None => 0,
            Some(Some(position)) => position + 1,
            Some(None) if anchored => 0,
            Some(None) => return None,
        };
        let follows = match recoveries.get(since) {
            None => newest.serial > self.serial,
            Some(recovery) => recovery.replaces.is_some_and(|replaces| {
                replaces == self.serial || (replaces > self.serial && recovery.serial > self.serial)
            }),
        };
        let last = recoveries[since..].last().map(|recovery| recovery.hash);
        follows.then_some(Self { recovery: last.or(self.recovery), ..newest })
    }

    fn newest(documents: &Documents) -> Option<Self> {
        let newest = documents.fleet()?;
        Some(Self { serial: newest.serial, hash: newest.hash, recovery: None })
    }
}
