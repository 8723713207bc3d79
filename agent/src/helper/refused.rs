//! The rules of the helper, each with the values that broke it.

use chrono::{DateTime, Utc};
use muster_core::document::plan::RefOrder;
use muster_core::document::{Refusal, TrustError};
use muster_core::id::{ChannelId, Closure, HostId, RolloutId};
use muster_core::verify::VerifyError;
use muster_core::wire::RejectReason;
use muster_signing::Digest;

use super::memory::USED_MAX;

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A switch came without what proves it.
    #[error("the order needs the documents and the certificate that prove it")]
    NoPapers,
    /// The order names something that is no system.
    #[error("{0} is not a store path")]
    NotAStorePath(Closure),
    /// The pinned root cannot serve.
    #[error("the trust file: {0}")]
    Trust(TrustError),
    /// Bytes that should be a document are none.
    #[error("{what} cannot be read: {error}")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// Why not.
        error: VerifyError,
    },
    /// A fleet document is not acceptable after those before it.
    #[error("fleet document {number} ({hash}): {refusal}")]
    Fleet {
        /// Its place among those handed over, from 1.
        number: usize,
        /// SHA-256 of its bytes.
        hash: Digest,
        /// The rule of documents that it breaks.
        refusal: Box<Refusal>,
    },
    /// Another kind of document stands where a fleet document or a ref belongs.
    #[error("{what} is a document of another kind")]
    Kind {
        /// What it should be.
        what: &'static str,
    },
    /// Without a fleet document nobody can be believed.
    #[error("no fleet document came with the order")]
    NoFleet,
    /// The newest fleet document counts no more.
    #[error("the newest fleet document, with serial {serial}, has expired")]
    FleetExpired {
        /// Its serial.
        serial: u64,
    },
    /// The daemon hands over an older fleet document than one that was acted on.
    #[error(
        "the newest fleet document handed over has serial {found}, an order under serial {known} was carried out"
    )]
    OlderFleet {
        /// The serial of the newest one handed over.
        found: u64,
        /// The serial of the newest one that was acted on.
        known: u64,
    },
    /// The newest fleet document does not have this host.
    #[error("{0} is not in the newest fleet document")]
    NotEnrolled(HostId),
    /// The channel ref is not acceptable.
    #[error("the channel ref: {0}")]
    Ref(Box<Refusal>),
    /// The channel ref names a fleet document that is not there.
    #[error("the channel ref names the fleet document with serial {0}, which was not handed over")]
    RefWithoutFleet(u64),
    /// The certificate does not hold.
    #[error("the certificate: {0}")]
    Certificate(VerifyError),
    /// The decision is of another history of the log.
    #[error("the decision is of epoch {found}, the fleet's is {wanted}")]
    OtherEpoch {
        /// The decision's.
        found: Digest,
        /// What the documents say.
        wanted: Digest,
    },
    /// What a quorum signed is no dispatch.
    #[error("the decision is a {0}, not a dispatch")]
    NotADispatch(&'static str),
    /// The dispatch is another host's.
    #[error("the decision dispatches {found}, this host is {this}")]
    OtherHost {
        /// Whom it dispatches.
        found: HostId,
        /// This host.
        this: HostId,
    },
    /// The decision belongs to another rollout than the ref.
    #[error("the decision is of the rollout {decision}, the ref of {named}")]
    OtherRollout {
        /// The decision's.
        decision: RolloutId,
        /// The ref's.
        named: RolloutId,
    },
    /// The order names another dispatch, or another closure, than the decision.
    #[error("the order is for {asked}, the decision for {decided}")]
    OtherOrder {
        /// What the order asks for.
        asked: String,
        /// What was decided.
        decided: String,
    },
    /// The decision is past its end.
    #[error("the decision could be used until {not_after}, it is {now}")]
    TooLate {
        /// Its end.
        not_after: DateTime<Utc>,
        /// The time, or that of the last use of a decision if that is later.
        now: DateTime<Utc>,
    },
    /// The documents forbid it.
    #[error("{target} on {host} is forbidden: {}", .reason.name())]
    Forbidden {
        /// This host.
        host: HostId,
        /// The closure.
        target: Closure,
        /// Why.
        reason: RejectReason,
    },
    /// A newer ref ran already.
    #[error("on channel {channel} the ref (fleet serial, serial) {ran} ran, {found} is older")]
    OlderRef {
        /// The channel.
        channel: ChannelId,
        /// The place of the ref.
        found: RefOrder,
        /// The place of the newest ref that ran.
        ran: RefOrder,
    },
    /// Another ref of the same place ran already.
    #[error("another ref of channel {channel} with (fleet serial, serial) {place} ran")]
    RefContested {
        /// The channel.
        channel: ChannelId,
        /// The place of both.
        place: RefOrder,
    },
    /// The decision was used.
    #[error("the decision of log index {log_index} was used already")]
    Used {
        /// The index of its entry.
        log_index: u64,
    },
    /// Too many decisions could still be used again.
    #[error("{USED_MAX} decisions were used that have not reached their end; one more cannot be remembered")]
    MemoryFull,
    /// Nothing was switched for that dispatch, or something else since.
    #[error("the last switch was not for {asked}{}", .last.as_ref().map(|it| format!(" but for {it}")).unwrap_or_default())]
    NothingToRollBack {
        /// What is asked for.
        asked: String,
        /// The last switch.
        last: Option<String>,
    },
    /// The last switch was undone already.
    #[error("the last switch was undone already")]
    RolledBack,
    /// The way back leads elsewhere.
    #[error("the last switch came from {}, not from {asked}", .from.as_ref().map_or("nothing known", Closure::as_str))]
    OtherWayBack {
        /// What is asked for.
        asked: Closure,
        /// What ran.
        from: Option<Closure>,
    },
}

impl Refused {
    /// The rule's name.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NoPapers => "no-papers",
            Self::NotAStorePath(_) => "not-a-store-path",
            Self::Trust(_) => "trust",
            Self::Unreadable { .. } => "unreadable",
            Self::Fleet { .. } => "fleet-document",
            Self::Kind { .. } => "kind",
            Self::NoFleet => "no-fleet-document",
            Self::FleetExpired { .. } => "fleet-expired",
            Self::OlderFleet { .. } => "older-fleet-document",
            Self::NotEnrolled(_) => "not-enrolled",
            Self::Ref(_) => "channel-ref",
            Self::RefWithoutFleet(_) => "ref-without-fleet-document",
            Self::Certificate(_) => "certificate",
            Self::OtherEpoch { .. } => "other-epoch",
            Self::NotADispatch(_) => "not-a-dispatch",
            Self::OtherHost { .. } => "other-host",
            Self::OtherRollout { .. } => "other-rollout",
            Self::OtherOrder { .. } => "other-order",
            Self::TooLate { .. } => "too-late",
            Self::Forbidden { .. } => "forbidden",
            Self::OlderRef { .. } => "older-ref",
            Self::RefContested { .. } => "contested-ref",
            Self::Used { .. } => "used",
            Self::MemoryFull => "memory-full",
            Self::NothingToRollBack { .. } => NOTHING_TO_ROLL_BACK,
            Self::RolledBack => "rolled-back",
            Self::OtherWayBack { .. } => "other-way-back",
        }
    }
}

/// The rule by which a way back is refused where nothing was switched.
pub(super) const NOTHING_TO_ROLL_BACK: &str = "nothing-to-roll-back";
