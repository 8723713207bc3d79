//! The command: one operator's order about something under way.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fleet::Fleet;
use super::json::{self, maybe_time, time};
use super::refusal::Refusal;
use crate::id::{ChannelId, Closure, FleetName, HostId, RolloutId};
use crate::wire::{DecisionId, DocumentKind};

/// The longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// The most quarantines that one clearance names.
pub const QUARANTINES_MAX: usize = 1024;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// The fleet.
    pub fleet: FleetName,
    /// Commands take effect in the order of serial, then hash.
    pub serial: u64,
    /// When it was signed.
    pub signed_at: DateTime<Utc>,
    /// Past this it counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// What is ordered, and of what.
    pub verb: Verb,
    /// Why.
    pub reason: String,
}

/// What a command orders, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Nothing more is dispatched to what it covers.
    Pause(Scope),
    /// Lifts the earlier pauses of this very scope.
    Resume(Scope),
    /// The rollout fails; hosts in flight finish by themselves.
    Cancel {
        /// The rollout.
        rollout: RolloutId,
    },
    /// Opens what follows a wave that waits for a person.
    Promote {
        /// The rollout.
        rollout: RolloutId,
        /// The wave that waited for it, from 0: the next one opens.
        wave: u32,
    },
    /// Clears a failed rollout.
    ClearRollout {
        /// The rollout.
        rollout: RolloutId,
    },
    /// Lifts the quarantines that it names of a closure.
    ClearClosure {
        /// The channel.
        channel: ChannelId,
        /// The closure.
        closure: Closure,
        /// The decisions that are lifted.
        quarantines: BTreeSet<DecisionId>,
    },
    /// Nobody waits for the host any more.
    Skip {
        /// The host.
        host: HostId,
        /// In this rollout only; absent: in all.
        rollout: Option<RolloutId>,
    },
    /// The host's store was lost or put back in time: it may coordinate again.
    Readmit {
        /// The host.
        host: HostId,
    },
}

/// What a pause covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every rollout on a channel.
    Channel(ChannelId),
    /// One rollout.
    Rollout(RolloutId),
    /// One host.
    Host(HostId),
}

impl Scope {
    /// Whether it covers a host in a rollout.
    pub fn covers(&self, channel: &ChannelId, rollout: &RolloutId, host: &HostId) -> bool {
        match self {
            Self::Channel(covered) => covered == channel,
            Self::Rollout(covered) => covered == rollout,
            Self::Host(covered) => covered == host,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "channel {channel}"),
            Self::Rollout(rollout) => write!(f, "rollout {rollout}"),
            Self::Host(host) => write!(f, "host {host}"),
        }
    }
}

impl Verb {
    /// The verb's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Cancel { .. } => "cancel",
            Self::Promote { .. } => "promote",
            Self::ClearRollout { .. } | Self::ClearClosure { .. } => "clear",
            Self::Skip { .. } => "skip",
            Self::Readmit { .. } => "readmit",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    fleet: FleetName,
    serial: u64,
    #[serde(deserialize_with = "time")]
    signed_at: DateTime<Utc>,
    #[serde(default, deserialize_with = "maybe_time")]
    expires_at: Option<DateTime<Utc>>,
    verb: VerbForm,
    reason: String,
    #[serde(default)]
    channel: Option<ChannelId>,
    #[serde(default)]
    rollout: Option<RolloutId>,
    #[serde(default)]
    host: Option<HostId>,
    #[serde(default)]
    closure: Option<Closure>,
    #[serde(default)]
    wave: Option<u32>,
    #[serde(default)]
    quarantines: Option<Vec<QuarantineForm>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerbForm {
    Pause,
    Resume,
    Cancel,
    Promote,
    Clear,
    Skip,
    Readmit,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QuarantineForm {
    log_index: u64,
    ordinal: u32,
}

/// The rule of commands that one breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The verb does not apply to what is given.
    #[error("{verb} applies to {wanted}, and to nothing else")]
    Applies {
        /// The verb.
        verb: &'static str,
        /// What it applies to.
        wanted: &'static str,
    },
    /// The reason is empty or too long.
    #[error("the reason has {found} bytes, it has to have 1 to {REASON_BYTES_MAX}")]
    Reason {
        /// Its length.
        found: usize,
    },
    /// Too many quarantines.
    #[error("a clearance names at most {QUARANTINES_MAX} quarantines, not {found}")]
    Quarantines {
        /// How many.
        found: usize,
    },
    /// The channel is not declared.
    #[error("channel {0} is not declared in the newest fleet document")]
    UnknownChannel(ChannelId),
    /// The host is not declared.
    #[error("host {0} is not declared in the newest fleet document")]
    UnknownHost(HostId),
}

impl Command {
    /// Reads a command; neither its signatures nor its names are looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let form: Form = json::read_kind(bytes, DocumentKind::Command)?;
        if form.reason.trim().is_empty() || form.reason.len() > REASON_BYTES_MAX {
            return Err(CommandError::Reason { found: form.reason.len() }.into());
        }
        let quarantines = form.quarantines.map(|ids| {
            let ids = ids.into_iter().map(|id| DecisionId { log_index: id.log_index, ordinal: id.ordinal });
            ids.collect::<BTreeSet<_>>()
        });
        let found = quarantines.as_ref().map_or(0, BTreeSet::len);
        if found > QUARANTINES_MAX {
            return Err(CommandError::Quarantines { found }.into());
        }
        let given = (form.channel, form.rollout, form.host, form.closure, form.wave, quarantines);
        Ok(Self {
            fleet: form.fleet,
            serial: form.serial,
            signed_at: form.signed_at,
            expires_at: form.expires_at,
            verb: verb(form.verb, given)?,
            reason: form.reason,
        })
    }

    /// The quarantines that it lifts: on which channel, of which closure, by decision.
    pub fn lifts(&self) -> Option<(&ChannelId, &Closure, &BTreeSet<DecisionId>)> {
        match &self.verb {
            Verb::ClearClosure { channel, closure, quarantines } => Some((channel, closure, quarantines)),
            Verb::Pause(_)
            | Verb::Resume(_)
            | Verb::Cancel { .. }
            | Verb::Promote { .. }
            | Verb::ClearRollout { .. }
            | Verb::Skip { .. }
            | Verb::Readmit { .. } => None,
        }
    }

    /// The rollout that it clears.
    pub fn clears_rollout(&self) -> Option<&RolloutId> {
        match &self.verb {
            Verb::ClearRollout { rollout } => Some(rollout),
            Verb::Pause(_)
            | Verb::Resume(_)
            | Verb::Cancel { .. }
            | Verb::Promote { .. }
            | Verb::ClearClosure { .. }
            | Verb::Skip { .. }
            | Verb::Readmit { .. } => None,
        }
    }

    /// Whether it still counts.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Resolves its names in the newest fleet document.
    pub fn check(&self, fleet: &Fleet) -> Result<(), CommandError> {
        let channel = |channel: &ChannelId| match fleet.channels.contains_key(channel) {
            true => Ok(()),
            false => Err(CommandError::UnknownChannel(channel.clone())),
        };
        let host = |host: &HostId| match fleet.hosts.contains_key(host) {
            true => Ok(()),
            false => Err(CommandError::UnknownHost(host.clone())),
        };
        match &self.verb {
            Verb::Pause(scope) | Verb::Resume(scope) => match scope {
                Scope::Channel(id) => channel(id),
                Scope::Rollout(rollout) => channel(&rollout.channel()),
                Scope::Host(id) => host(id),
            },
            Verb::Cancel { rollout } | Verb::Promote { rollout, .. } | Verb::ClearRollout { rollout } => {
                channel(&rollout.channel())
            }
            Verb::ClearClosure { channel: id, .. } => channel(id),
            Verb::Skip { host: id, rollout } => {
                host(id)?;
                rollout.as_ref().map_or(Ok(()), |rollout| channel(&rollout.channel()))
            }
            Verb::Readmit { host: id } => host(id),
        }
    }
}

/// What a command applies to, as given.
type Given = (
    Option<ChannelId>,
    Option<RolloutId>,
    Option<HostId>,
    Option<Closure>,
    Option<u32>,
    Option<BTreeSet<DecisionId>>,
);

const SCOPES: &str = "one of a channel, a rollout and a host";

fn verb(verb: VerbForm, given: Given) -> Result<Verb, CommandError> {
    let wrong = |verb, wanted| Err(CommandError::Applies { verb, wanted });
    match verb {
        VerbForm::Pause => {
            scope(given).map_or_else(|| wrong("pause", SCOPES), |scope| Ok(Verb::Pause(scope)))
        }
        VerbForm::Resume => {
            scope(given).map_or_else(|| wrong("resume", SCOPES), |scope| Ok(Verb::Resume(scope)))
        }
        VerbForm::Cancel => match given {
            (None, Some(rollout), None, None, None, None) => Ok(Verb::Cancel { rollout }),
            _ => wrong("cancel", "a rollout"),
        },
        VerbForm::Promote => match given {
            (None, Some(rollout), None, None, Some(wave), None) => Ok(Verb::Promote { rollout, wave }),
            _ => wrong("promote", "a rollout and a wave"),
        },
        VerbForm::Clear => match given {
            (None, Some(rollout), None, None, None, None) => Ok(Verb::ClearRollout { rollout }),
            (Some(channel), None, None, Some(closure), None, quarantines) => {
                Ok(Verb::ClearClosure { channel, closure, quarantines: quarantines.unwrap_or_default() })
            }
            _ => wrong("clear", "a rollout, or a closure with its channel and the quarantines to lift"),
        },
        VerbForm::Skip => match given {
            (None, rollout, Some(host), None, None, None) => Ok(Verb::Skip { host, rollout }),
            _ => wrong("skip", "a host, or a host in a rollout"),
        },
        VerbForm::Readmit => match given {
            (None, None, Some(host), None, None, None) => Ok(Verb::Readmit { host }),
            _ => wrong("readmit", "a host"),
        },
    }
}

fn scope(given: Given) -> Option<Scope> {
    match given {
        (Some(channel), None, None, None, None, None) => Some(Scope::Channel(channel)),
        (None, Some(rollout), None, None, None, None) => Some(Scope::Rollout(rollout)),
        (None, None, Some(host), None, None, None) => Some(Scope::Host(host)),
        _ => None,
    }
}
