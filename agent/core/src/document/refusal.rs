//! Why a document is refused, with the rule and the values.

use chrono::{DateTime, TimeDelta, Utc};
use muster_signing::Digest;

use super::channel_ref::ChannelRefError;
use super::check::OtherLog;
use super::command::CommandError;
use super::fleet::FleetError;
use super::held::Proof;
use super::plan::RefOrder;
use crate::id::{ChannelId, FleetName};

/// How far ahead of this node's clock a document may have been signed.
pub const CLOCK_AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is longer than any that is accepted.
    #[error("a document has at most {max} bytes, this one has {found}")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// It is not one JSON value in UTF-8.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// It has a key that its kind does not know; ignoring one could turn a typo into "no limit".
    #[error("{0}")]
    UnknownField(String),
    /// Its `kind` is none that is known, or not the one wanted.
    #[error("the kind is {found:?}, not {wanted}")]
    Kind {
        /// What it names.
        found: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// A field is missing, given twice or of the wrong form.
    #[error("{0}")]
    Form(String),
    /// It is of another fleet.
    #[error("the document is of fleet {found}, this node trusts the operators of fleet {pinned}")]
    WrongFleet {
        /// The fleet that it names.
        found: FleetName,
        /// The fleet that is pinned.
        pinned: FleetName,
    },
    /// It came without a signature.
    #[error("the document has no signature")]
    Unsigned,
    /// It came with signatures of which none is valid.
    #[error("none of the {count} signatures is valid: {first}")]
    BadSignature {
        /// How many came.
        count: usize,
        /// Why the first one does not count.
        first: String,
    },
    /// Too few of those who may sign it did.
    #[error("{counted} of {whom} signed, {needed} have to")]
    Threshold {
        /// How many distinct keys of them signed.
        counted: usize,
        /// How many have to.
        needed: usize,
        /// Whose signatures count.
        whom: &'static str,
    },
    /// It was signed in the future.
    #[error("signed at {signed_at}, more than {} minutes ahead of this node's clock, {now}", CLOCK_AHEAD_MAX.num_minutes())]
    NotYet {
        /// When it says it was signed.
        signed_at: DateTime<Utc>,
        /// This node's clock.
        now: DateTime<Utc>,
    },
    /// It no longer counts.
    #[error("expired at {expires_at}, it is {now}")]
    Expired {
        /// When it expired.
        expires_at: DateTime<Utc>,
        /// This node's clock.
        now: DateTime<Utc>,
    },
    /// It is outside its channel's freshness window, so nothing would be dispatched.
    #[error(
        "signed at {signed_at}, outside the freshness window of {window_minutes} minutes of channel {channel}; sign it anew"
    )]
    Stale {
        /// Its channel.
        channel: ChannelId,
        /// When it was signed.
        signed_at: DateTime<Utc>,
        /// The channel's window.
        window_minutes: u64,
    },
    /// A fleet document with a serial that is not greater than the newest one's.
    #[error("the serial {found} is not greater than {newest}, that of the newest fleet document")]
    FleetDowngrade {
        /// Its serial.
        found: u64,
        /// The newest serial.
        newest: u64,
    },
    /// A channel ref that is older than the newest one of its channel.
    #[error("(fleet serial, serial) {found} is below {newest}, that of the newest ref of channel {channel}")]
    RefDowngrade {
        /// Its channel.
        channel: ChannelId,
        /// Its order.
        found: RefOrder,
        /// The order of the newest one.
        newest: RefOrder,
    },
    /// A channel ref that names a fleet document of before a recovery.
    #[error("the ref names fleet document {fleet_hash}, which a recovery document has replaced")]
    Replaced {
        /// The fleet document.
        fleet_hash: Digest,
    },
    /// Two documents with one serial, both signed: someone's key does more than it should.
    #[error("{0}")]
    Equivocation(Box<Proof>),
    /// It needs a fleet document that this node does not have.
    #[error("this node holds no fleet document{}", match .named { Some((serial, hash)) => format!(" with serial {serial} and hash {hash}"), None => String::new() })]
    UnknownFleetDocument {
        /// The serial and hash that it names.
        named: Option<(u64, Digest)>,
    },
    /// The store holds it twice.
    #[error("the store holds the document twice")]
    StoredTwice,
    /// A rule of fleet documents is broken.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// It belongs to another log of the coordinators.
    #[error(transparent)]
    OtherLog(#[from] OtherLog),
    /// A rule of channel refs is broken.
    #[error(transparent)]
    ChannelRef(#[from] ChannelRefError),
    /// A rule of commands is broken.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A recovery document that does not replace what this node holds.
    #[error(
        "the recovery document replaces serial {replaces}, this node's newest fleet document has serial {newest}"
    )]
    ReplacesAnother {
        /// The serial that it replaces.
        replaces: u64,
        /// The newest serial.
        newest: u64,
    },
}

impl Refusal {
    /// Whether no honest host passes such a document on: whoever sent it is to blame.
    pub fn blames_sender(&self) -> bool {
        matches!(self.code(), "too_large" | "not_json" | "wrong_fleet" | "unsigned" | "bad_signature")
    }

    /// The code by which programs know the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NotJson(_) => "not_json",
            Self::UnknownField(_) => "unknown_field",
            Self::WrongFleet { .. } => "wrong_fleet",
            Self::Unsigned => "unsigned",
            Self::BadSignature { .. } => "bad_signature",
            Self::Threshold { .. } => "threshold",
            Self::NotYet { .. } => "not_yet",
            Self::Expired { .. } => "expired",
            Self::Stale { .. } => "stale",
            Self::FleetDowngrade { .. } | Self::RefDowngrade { .. } | Self::Replaced { .. } => "downgrade",
            Self::Equivocation(_) => "equivocation",
            Self::UnknownFleetDocument { .. } => "unknown_fleet_document",
            Self::Kind { .. }
            | Self::Form(_)
            | Self::Fleet(_)
            | Self::OtherLog(_)
            | Self::ChannelRef(_)
            | Self::Command(_)
            | Self::StoredTwice
            | Self::ReplacesAnother { .. } => "invalid",
        }
    }
}
