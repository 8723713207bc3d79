//! The channel ref: for one channel the ref, and what each host is to run.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use muster_signing::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fleet::{Channel, Fleet};
use super::json::{self, UniqueMap, maybe_time, time};
use super::plan::RefOrder;
use super::refusal::Refusal;
use crate::id::{ChannelId, ChannelRef, Closure, FleetName, HostId, RolloutId};
use crate::wire::DocumentKind;

/// A channel ref; [`ChannelRefDocument::check`] holds it against the fleet document that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelRefDocument {
    /// The fleet.
    pub fleet: FleetName,
    /// The channel.
    pub channel: ChannelId,
    /// What is released.
    pub target_ref: ChannelRef,
    /// Orders the refs of a channel that name one fleet document.
    pub serial: u64,
    /// When it was signed.
    pub signed_at: DateTime<Utc>,
    /// Past this it counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// The serial of the fleet document against which names resolve.
    pub fleet_serial: u64,
    /// SHA-256 of that document's bytes.
    pub fleet_hash: Digest,
    /// What each host is to run.
    pub targets: BTreeMap<HostId, Closure>,
    /// SHA-256 over the sorted `path narHash` lines of each target's whole closure.
    pub contents: BTreeMap<HostId, Digest>,
    /// Opens the `wave` and `promotion` gates for closures that already converged on the host.
    pub urgent: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    fleet: FleetName,
    channel: ChannelId,
    #[serde(rename = "ref")]
    target_ref: ChannelRef,
    serial: u64,
    #[serde(deserialize_with = "time")]
    signed_at: DateTime<Utc>,
    #[serde(default, deserialize_with = "maybe_time")]
    expires_at: Option<DateTime<Utc>>,
    fleet_serial: u64,
    fleet_hash: Digest,
    targets: UniqueMap<HostId, Closure>,
    #[serde(default)]
    contents: UniqueMap<HostId, Digest>,
    #[serde(default)]
    urgent: bool,
}

/// The rule of channel refs that one breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelRefError {
    /// The document with that hash has another serial.
    #[error("the ref names fleet serial {named}, but the fleet document with hash {hash} has serial {found}")]
    FleetSerial {
        /// The hash that the ref names.
        hash: Digest,
        /// The serial that the ref names.
        named: u64,
        /// The serial of the document with that hash.
        found: u64,
    },
    /// The channel is not declared.
    #[error("channel {channel} is not declared in the fleet document with serial {fleet_serial}")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
        /// The fleet document's serial.
        fleet_serial: u64,
    },
    /// A host is not declared.
    #[error("target {host} is not declared in the fleet document with serial {fleet_serial}")]
    UnknownHost {
        /// The host.
        host: HostId,
        /// The fleet document's serial.
        fleet_serial: u64,
    },
    /// A host follows another channel.
    #[error("target {host} is on channel {found}, not on {channel}")]
    OtherChannel {
        /// The host.
        host: HostId,
        /// The channel that it is on.
        found: ChannelId,
        /// The ref's channel.
        channel: ChannelId,
    },
    /// The ref is for nobody.
    #[error("a channel ref has at least one target")]
    NoTargets,
    /// Contents of a host without a target.
    #[error("contents are given for {0}, which has no target")]
    ContentsWithoutTarget(HostId),
    /// The name was used before.
    #[error(
        "the ref {target_ref} was used on channel {channel} before (serial {serial}); only serial, signedAt and expiresAt of the newest ref may change: pick a new name"
    )]
    NameUsed {
        /// The channel.
        channel: ChannelId,
        /// The ref's name.
        target_ref: ChannelRef,
        /// The serial with which it was used.
        serial: u64,
    },
}

impl ChannelRefDocument {
    /// Reads a channel ref; neither its signatures nor its names are looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let form: Form = json::read_kind(bytes, DocumentKind::ChannelRef)?;
        Ok(Self {
            fleet: form.fleet,
            channel: form.channel,
            target_ref: form.target_ref,
            serial: form.serial,
            signed_at: form.signed_at,
            expires_at: form.expires_at,
            fleet_serial: form.fleet_serial,
            fleet_hash: form.fleet_hash,
            targets: form.targets.0,
            contents: form.contents.0,
            urgent: form.urgent,
        })
    }

    /// Its place among the refs of its channel.
    pub fn order(&self) -> RefOrder {
        RefOrder { fleet_serial: self.fleet_serial, serial: self.serial }
    }

    /// The rollout that it asks for.
    pub fn rollout_id(&self) -> RolloutId {
        RolloutId::new(&self.channel, &self.target_ref)
    }

    /// Whether it repeats all of another but serial, `signedAt` and `expiresAt`.
    pub fn is_refresh_of(&self, other: &Self) -> bool {
        let Self { fleet, channel, target_ref, fleet_serial, fleet_hash, targets, contents, urgent, .. } =
            self;
        (fleet, channel, target_ref, fleet_serial, fleet_hash, targets, contents, urgent)
            == (
                &other.fleet,
                &other.channel,
                &other.target_ref,
                &other.fleet_serial,
                &other.fleet_hash,
                &other.targets,
                &other.contents,
                &other.urgent,
            )
    }

    /// Whether its dispatches may still be made as far as its signature's age goes.
    pub fn is_fresh(&self, channel: &Channel, now: DateTime<Utc>) -> bool {
        let minutes = i64::try_from(channel.freshness_window_minutes).unwrap_or(i64::MAX);
        let window = TimeDelta::try_minutes(minutes).unwrap_or(TimeDelta::MAX);
        now.signed_duration_since(self.signed_at) <= window
            && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Resolves its names in the fleet document with the hash that it names.
    pub fn check(&self, fleet: &Fleet) -> Result<(), ChannelRefError> {
        let fleet_serial = fleet.serial;
        if self.fleet_serial != fleet_serial {
            let (hash, named) = (self.fleet_hash, self.fleet_serial);
            return Err(ChannelRefError::FleetSerial { hash, named, found: fleet_serial });
        }
        if !fleet.channels.contains_key(&self.channel) {
            return Err(ChannelRefError::UnknownChannel { channel: self.channel.clone(), fleet_serial });
        }
        if self.targets.is_empty() {
            return Err(ChannelRefError::NoTargets);
        }
        for id in self.targets.keys() {
            let Some(host) = fleet.hosts.get(id) else {
                return Err(ChannelRefError::UnknownHost { host: id.clone(), fleet_serial });
            };
            if host.channel != self.channel {
                let (found, channel) = (host.channel.clone(), self.channel.clone());
                return Err(ChannelRefError::OtherChannel { host: id.clone(), found, channel });
            }
        }
        match self.contents.keys().find(|host| !self.targets.contains_key(*host)) {
            Some(host) => Err(ChannelRefError::ContentsWithoutTarget(host.clone())),
            None => Ok(()),
        }
    }
}
