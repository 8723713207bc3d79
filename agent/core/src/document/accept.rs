//! What makes a document acceptable; every check in one order, stopping at the first that fails.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_signing::{Digest, OperatorKey, SignedDocument, Verified};

use super::channel_ref::{ChannelRefDocument, ChannelRefError};
use super::command::Command;
pub use super::documents::{Document, Documents};
use super::documents::{State, operators};
use super::fleet::Fleet;
use super::fleet_form::FleetForm;
use super::held::{Held, Proof, ProofPlace};
use super::json;
use super::refusal::{CLOCK_AHEAD_MAX, Refusal};
pub use super::trust::{Trust, TrustError};
use crate::id::{ChannelId, FleetName};
use crate::planted::Bug;
use crate::wire::DocumentKind;

const PINNED: &str = "the pinned operators";
const CURRENT: &str = "the current operators";
const NAMED: &str = "the operators that it names";

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// The very document is held.
    Duplicate,
    /// A channel ref that can only be judged with a fleet document that is not held. Its signatures are valid
    /// but may be anybody's: whoever keeps such refs bounds their number.
    Waits {
        /// The serial of that fleet document.
        fleet_serial: u64,
        /// Its hash.
        fleet_hash: Digest,
    },
    /// It passed every check.
    New(Accepted),
}

/// A document that passed every check, to be stored and then inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted(Document);

impl Accepted {
    /// The document.
    pub fn document(&self) -> &Document {
        &self.0
    }

    /// What the store and the log know it by: its kind, the channel of a ref, its serial, its hash.
    pub fn identity(&self) -> (DocumentKind, Option<ChannelId>, u64, Digest) {
        let channel = match &self.0 {
            Document::ChannelRef(held) => Some(held.channel.clone()),
            Document::Fleet(_) | Document::Command(_) => None,
        };
        (self.0.kind(), channel, self.0.serial(), self.0.hash())
    }

    /// The document with its signatures as it travels and as it is stored.
    pub fn to_wire(&self) -> Vec<u8> {
        self.0.signed().to_wire()
    }

    pub(super) fn into_document(self) -> Document {
        self.0
    }
}

/// From where a document comes, and thus which checks it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A peer.
    Peer(DateTime<Utc>),
    /// A peer, and a held or waiting ref, the log or a decision names the document.
    Named(DateTime<Utc>),
    /// An operator who publishes it right now.
    Publisher(DateTime<Utc>),
    /// Somebody who asks what publishing it would do, before all have signed it.
    Supposed(DateTime<Utc>),
    /// This node's own store.
    Store,
    /// This node's own store, which kept it since it contradicts another one.
    Proof,
}

impl Source {
    fn now(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Peer(now) | Self::Named(now) | Self::Publisher(now) | Self::Supposed(now) => Some(now),
            Self::Store | Self::Proof => None,
        }
    }
}

impl Documents {
    /// Checks a document that gossip or sync brought.
    pub fn check(
        &self,
        document: &Verified<SignedDocument>,
        now: DateTime<Utc>,
    ) -> Result<Acceptance, Refusal> {
        Check::new(self, document, Source::Peer(now)).run()
    }

    /// Checks a document that an operator publishes; refuses also a ref outside its freshness window.
    pub fn check_publish(
        &self,
        document: &Verified<SignedDocument>,
        now: DateTime<Utc>,
    ) -> Result<Acceptance, Refusal> {
        Check::new(self, document, Source::Publisher(now)).run()
    }

    /// Checks a fleet document that a ref names by hash, or a ref whose rollout is known already; it may be older
    /// than the newest one, whose place it does not take.
    pub fn check_named(
        &self,
        document: &Verified<SignedDocument>,
        now: DateTime<Utc>,
    ) -> Result<Acceptance, Refusal> {
        Check::new(self, document, Source::Named(now)).run()
    }

    /// Checks a channel ref as if all who have to had signed it now, for a set of documents that is thrown away.
    pub(crate) fn check_supposed(
        &self,
        document: &Verified<SignedDocument>,
        now: DateTime<Utc>,
    ) -> Result<Acceptance, Refusal> {
        Check::new(self, document, Source::Supposed(now)).run()
    }

    /// Checks a document of this node's own store, to be given in the order of acceptance: neither the clock nor
    /// the pinned roots, which may have moved on since, are asked.
    pub fn stored(&self, document: &Verified<SignedDocument>) -> Result<Accepted, Refusal> {
        match Check::new(self, document, Source::Store).run()? {
            Acceptance::New(accepted) => Ok(accepted),
            Acceptance::Duplicate => Err(Refusal::StoredTwice),
            Acceptance::Waits { fleet_serial, fleet_hash } => {
                Err(Refusal::UnknownFleetDocument { named: Some((fleet_serial, fleet_hash)) })
            }
        }
    }
}

impl Documents {
    /// The proof that a document of this node's own store contradicts one that is held; none if it does so no more.
    pub fn stored_proof(&self, document: &Verified<SignedDocument>) -> Option<Proof> {
        match Check::new(self, document, Source::Proof).run() {
            Err(Refusal::Equivocation(proof)) => Some(*proof),
            Ok(_) | Err(_) => None,
        }
    }
}

struct Check<'a> {
    documents: &'a Documents,
    state: &'a State,
    signed: &'a Verified<SignedDocument>,
    source: Source,
}

impl<'a> Check<'a> {
    fn new(documents: &'a Documents, signed: &'a Verified<SignedDocument>, source: Source) -> Self {
        Self { documents, state: documents.state(), signed, source }
    }

    fn run(&self) -> Result<Acceptance, Refusal> {
        // Size, JSON and kind.
        let kind = json::kind_of(self.signed.bytes())?;
        match kind {
            DocumentKind::Fleet => self.fleet(json::read(self.signed.bytes())?),
            DocumentKind::ChannelRef => self.channel_ref(ChannelRefDocument::parse(self.signed.bytes())?),
            DocumentKind::Command => self.command(Command::parse(self.signed.bytes())?),
        }
    }

    fn fleet(&self, form: FleetForm) -> Result<Acceptance, Refusal> {
        self.of_this_fleet(&form.fleet)?;
        self.has_valid_signature(DocumentKind::Fleet)?;
        if self.is_duplicate() {
            return Ok(Acceptance::Duplicate);
        }
        let newest = self.documents.fleet();
        match newest {
            Some(newest) if !form.recovery => {
                let replaced = self.replaced_by(newest, form.serial);
                self.current(replaced, replaced.thresholds.fleet)?;
            }
            Some(_) | None => self.pinned()?,
        }
        self.counted(form.operators.0.values(), form.thresholds.fleet, NAMED)?;
        self.signed_before(form.signed_at)?;
        let changes_operators = newest.is_none_or(|newest| {
            newest.operators != form.operators.0
                || newest.thresholds.fleet != form.thresholds.fleet
                || newest.thresholds.channel_ref != form.thresholds.channel_ref
                || newest.thresholds.command != form.thresholds.command
        });
        // A link of the operators' chain leads on also when it is old; only the chain's end has to be valid.
        let publishes = matches!(self.source, Source::Publisher(_));
        if publishes || !(changes_operators || self.is_history()) {
            self.not_expired(form.expires_at)?;
        }
        self.fleet_serial(&form)?;
        let held = self.held(Fleet::from_form(form)?);
        Ok(Acceptance::New(Accepted(Document::Fleet(held))))
    }

    /// The fleet document whose operators let one of that serial follow: the newest one, or for a document that a
    /// ref names the last link of the chain before it.
    fn replaced_by(&self, newest: &'a Held<Fleet>, serial: u64) -> &'a Held<Fleet> {
        let may_be_older = self.is_history();
        if !may_be_older || serial > newest.serial {
            return newest;
        }
        let chain = self.documents.chain();
        let since = chain.iter().rposition(|link| link.replaces.is_some()).unwrap_or(0);
        chain[since..].iter().rev().find(|link| link.serial < serial).map_or(newest, |link| link)
    }

    fn fleet_serial(&self, form: &FleetForm) -> Result<(), Refusal> {
        let Some(newest) = self.documents.fleet() else { return Ok(()) };
        let serial = form.serial;
        if let Some(replaces) = form.replaces.filter(|_| form.recovery) {
            let of_this = replaces == newest.serial;
            let of_a_later = replaces > newest.serial && serial > newest.serial;
            let instead_of_another = newest.replaces == Some(replaces) && serial > newest.serial;
            if of_this || of_a_later || instead_of_another {
                return Ok(());
            }
            self.equivocates_fleet(serial)?;
            return Err(Refusal::ReplacesAnother { replaces, newest: newest.serial });
        }
        self.equivocates_fleet(serial)?;
        let may_be_older = self.is_history();
        if serial > newest.serial || may_be_older {
            Ok(())
        } else {
            Err(Refusal::FleetDowngrade { found: serial, newest: newest.serial })
        }
    }

    fn equivocates_fleet(&self, serial: u64) -> Result<(), Refusal> {
        match self.documents.fleet_by_serial(serial) {
            Some(held) if self.is_contested() => {
                Err(self.equivocation(ProofPlace::Fleet { serial }, held.hash))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn channel_ref(&self, document: ChannelRefDocument) -> Result<Acceptance, Refusal> {
        self.of_this_fleet(&document.fleet)?;
        self.has_valid_signature(DocumentKind::ChannelRef)?;
        if self.is_duplicate() {
            return Ok(Acceptance::Duplicate);
        }
        let (fleet_serial, fleet_hash) = (document.fleet_serial, document.fleet_hash);
        let named = self.documents.fleet_by_hash(&fleet_hash);
        // A fleet document yet to come may name the operators who signed.
        let newest = self.documents.fleet();
        if let Some(newest) = newest.filter(|newest| named.is_some() || fleet_serial <= newest.serial) {
            // History counts by the operators of its time; the gates ask those of today. What this node accepted once
            // it may have accepted under others than the ref names, and is not asked again.
            let counted = named.filter(|_| self.is_history()).unwrap_or(newest);
            if !(self.is_stored() || self.is_supposed()) {
                self.current(counted, counted.thresholds.channel_ref)?;
            }
        }
        self.signed_before(document.signed_at)?;
        if !self.is_history() {
            self.not_expired(document.expires_at)?;
        }
        let replaced = |named: &&Arc<Held<Fleet>>| {
            self.documents.fleet_by_serial(named.serial).is_none_or(|held| held.hash != named.hash)
        };
        if named.is_some_and(|named| replaced(&named)) {
            return Err(Refusal::Replaced { fleet_hash });
        }
        self.ref_order(&document)?;
        let Some(named) = named else {
            return match self.source {
                Source::Publisher(_) | Source::Supposed(_) => {
                    Err(Refusal::UnknownFleetDocument { named: Some((fleet_serial, fleet_hash)) })
                }
                Source::Peer(_) | Source::Named(_) | Source::Store | Source::Proof => {
                    Ok(Acceptance::Waits { fleet_serial, fleet_hash })
                }
            };
        };
        document.check(named)?;
        self.name_is_free(&document)?;
        self.fresh_when_published(named, &document)?;
        Ok(Acceptance::New(Accepted(Document::ChannelRef(self.held(document)))))
    }

    fn fresh_when_published(&self, named: &Fleet, document: &ChannelRefDocument) -> Result<(), Refusal> {
        let Source::Publisher(now) = self.source else { return Ok(()) };
        match named.channels.get(&document.channel) {
            Some(channel) if !document.is_fresh(channel, now) => Err(Refusal::Stale {
                channel: document.channel.clone(),
                signed_at: document.signed_at,
                window_minutes: channel.freshness_window_minutes,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the document is one that the log or a decision speaks of already, or that this node held before.
    fn is_history(&self) -> bool {
        matches!(self.source, Source::Named(_) | Source::Store | Source::Proof)
    }

    /// Whether the place that another document holds keeps this one out. What the log has adopted every coordinator has to
    /// read, or the log would stop for ever: it is held beside the other one, whose place it does not take.
    fn is_contested(&self) -> bool {
        !matches!(self.source, Source::Named(_) | Source::Store)
    }

    fn is_supposed(&self) -> bool {
        matches!(self.source, Source::Supposed(_))
    }

    fn is_stored(&self) -> bool {
        matches!(self.source, Source::Store | Source::Proof)
    }

    fn ref_order(&self, document: &ChannelRefDocument) -> Result<(), Refusal> {
        let Some(refs) = self.state.refs.get(&document.channel) else { return Ok(()) };
        let (channel, order) = (document.channel.clone(), document.order());
        if let Some(held) = refs.get(&order).filter(|_| self.is_contested()) {
            return Err(self.equivocation(ProofPlace::Channel { channel, order }, held.hash));
        }
        match refs.keys().next_back() {
            Some(&newest) if order < newest && !self.is_history() => {
                Err(Refusal::RefDowngrade { channel, found: order, newest })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asked of who publishes: two refs of one name that were published apart are held by everybody alike, and the first
    /// one has the name.
    fn name_is_free(&self, document: &ChannelRefDocument) -> Result<(), Refusal> {
        if !(matches!(self.source, Source::Publisher(_)) || self.is_supposed()) {
            return Ok(());
        }
        let Some(used) = self.state.names.get(&document.rollout_id()) else { return Ok(()) };
        let newest = self.documents.channel_ref(&document.channel);
        if newest.is_some_and(|newest| newest.hash == used.hash && document.is_refresh_of(newest)) {
            return Ok(());
        }
        Err(ChannelRefError::NameUsed {
            channel: document.channel.clone(),
            target_ref: document.target_ref.clone(),
            serial: used.serial,
        }
        .into())
    }

    fn command(&self, document: Command) -> Result<Acceptance, Refusal> {
        self.of_this_fleet(&document.fleet)?;
        self.has_valid_signature(DocumentKind::Command)?;
        if self.is_duplicate() {
            return Ok(Acceptance::Duplicate);
        }
        let newest = self.documents.fleet().ok_or(Refusal::UnknownFleetDocument { named: None })?;
        self.commanded_by(newest)?;
        self.signed_before(document.signed_at)?;
        // What the log has adopted is history: whether it still counts is asked of each use.
        if !self.is_history() {
            self.not_expired(document.expires_at)?;
        }
        // What it speaks of may have left the fleet since it was signed: whoever comes late takes it like everybody.
        if matches!(self.source, Source::Publisher(_)) {
            document.check(newest)?;
        }
        Ok(Acceptance::New(Accepted(Document::Command(self.held(document)))))
    }

    /// Whether enough operators signed a command: those of today, or for what the log has adopted already those of any
    /// fleet document that is held.
    fn commanded_by(&self, newest: &Fleet) -> Result<(), Refusal> {
        let today = self.current(newest, newest.thresholds.command);
        let once = || {
            let mut held = self.documents.fleets().rev();
            held.any(|fleet| self.current(fleet, fleet.thresholds.command).is_ok())
        };
        match self.source {
            Source::Store | Source::Proof => Ok(()),
            Source::Named(_) if once() => Ok(()),
            Source::Named(_) | Source::Peer(_) | Source::Publisher(_) | Source::Supposed(_) => today,
        }
    }

    fn of_this_fleet(&self, found: &FleetName) -> Result<(), Refusal> {
        let pinned = self.documents.fleet_name();
        if found == pinned {
            Ok(())
        } else {
            Err(Refusal::WrongFleet { found: found.clone(), pinned: pinned.clone() })
        }
    }

    fn has_valid_signature(&self, kind: DocumentKind) -> Result<(), Refusal> {
        if self.is_supposed() {
            return Ok(());
        }
        let rejected = self.signed.rejected();
        let wanted = json::namespace(kind);
        if self.signed.namespace() != wanted {
            let first = format!("signed in the namespace {}, not {wanted}", self.signed.namespace());
            let count = rejected.len() + self.signed.signers().len();
            return Err(Refusal::BadSignature { count, first });
        }
        if !self.signed.signers().is_empty() {
            return Ok(());
        }
        match rejected.first() {
            Some(first) => Err(Refusal::BadSignature { count: rejected.len(), first: first.to_string() }),
            None => Err(Refusal::Unsigned),
        }
    }

    /// Asked before operators are counted: what was accepted under earlier operators is still relayed in good
    /// faith, and there is nothing left to decide.
    fn is_duplicate(&self) -> bool {
        self.documents.holds(&self.signed.digest())
    }

    fn current(&self, fleet: &Fleet, needed: usize) -> Result<(), Refusal> {
        self.counted(operators(fleet), needed, CURRENT)
    }

    fn pinned(&self) -> Result<(), Refusal> {
        if self.is_stored() {
            return Ok(());
        }
        let mut outcome = Ok(());
        for pin in &self.state.pins {
            outcome = self.counted(pin.operators.values(), pin.threshold, PINNED);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn counted<'k>(
        &self,
        operators: impl IntoIterator<Item = &'k OperatorKey>,
        needed: usize,
        whom: &'static str,
    ) -> Result<(), Refusal> {
        let counted = self.signed.count(operators);
        if counted >= needed || self.state.planted.has(Bug::ForgedAccepted) {
            Ok(())
        } else {
            Err(Refusal::Threshold { counted, needed, whom })
        }
    }

    fn signed_before(&self, signed_at: DateTime<Utc>) -> Result<(), Refusal> {
        match self.source.now() {
            Some(now) if signed_at.signed_duration_since(now) > CLOCK_AHEAD_MAX => {
                Err(Refusal::NotYet { signed_at, now })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn not_expired(&self, expires_at: Option<DateTime<Utc>>) -> Result<(), Refusal> {
        match (self.source.now(), expires_at) {
            (Some(now), Some(expires_at)) if expires_at <= now => Err(Refusal::Expired { expires_at, now }),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn equivocation(&self, place: ProofPlace, held: Digest) -> Refusal {
        Refusal::Equivocation(Box::new(Proof { place, held, other: Arc::new(self.signed.clone()) }))
    }

    fn held<T>(&self, document: T) -> Arc<Held<T>> {
        Arc::new(Held {
            document: Arc::new(document),
            hash: self.signed.digest(),
            signed: Arc::new(self.signed.clone()),
            position: self.state.next,
        })
    }
}
