//! The front door: what bytes from outside must prove before a node looks at them.
//!
//! Everything here is checked against a [`Roster`], a snapshot of who belongs to the fleet. The caller may do
//! this work away from the node; if the node has a newer roster by then, it looks the key up again.

use std::collections::{BTreeMap, BTreeSet};

use muster_signing::{
    Certificate, Counted, DecisionError, DocumentError, DocumentParts, Endorsed, EnvelopeError, Namespace,
    PublicKey, Purpose, Sealed, Signature, SignedDocument, Verified, verify_signature,
};
use serde::{Deserialize, Serialize};

use crate::coordination::log;
use crate::document::{self, Documents, Electorate};
use crate::id::{FleetName, HostId};
use crate::planted::{Bug, Planted};
use crate::wire::claim::Claim;
use crate::wire::codec::{self, DecodeError};
use crate::wire::{DECISION_VERSION, Decision, Envelope, Notice, Received};

/// Why bytes from outside are not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not an envelope or notice, or its signature does not hold.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Not a certificate or endorsement, or its signature does not hold.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// Not a document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The signed content cannot be read.
    #[error(transparent)]
    Content(#[from] DecodeError),
    /// Signed for another fleet.
    #[error("it is of fleet {0}, not of this one")]
    OtherFleet(FleetName),
    /// The newest fleet document does not name the host.
    #[error("{0} is not in the roster")]
    UnknownHost(HostId),
    /// The newest fleet document does not name the key.
    #[error("key {0} is not in the roster")]
    UnknownKey(PublicKey),
    /// The fleet document whose electorate decides is not held.
    #[error("the fleet document with serial {0} is not held")]
    UnknownFleetSerial(u64),
    /// Too few coordinators signed.
    #[error("{signed} of the {needed} coordinators that it takes signed it")]
    NoQuorum {
        /// Valid signatures of distinct coordinators.
        signed: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A decision of a version that this program does not know.
    #[error("it is of version {0}; this program knows {DECISION_VERSION}")]
    Version(u32),
}

/// Who belongs to the fleet, as far as a node's documents say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    fleet: FleetName,
    serial: u64,
    keys: BTreeMap<HostId, PublicKey>,
    electorates: BTreeMap<u64, Electorate>,
    planted: Planted,
}

impl Roster {
    /// The roster of a fleet of which no document is held yet: nobody.
    pub fn empty(fleet: FleetName) -> Self {
        Self {
            fleet,
            serial: 0,
            keys: BTreeMap::new(),
            electorates: BTreeMap::new(),
            planted: Planted::default(),
        }
    }

    /// The roster of the newest fleet document, with the electorates of all that are held.
    pub fn of(fleet: FleetName, documents: &Documents) -> Self {
        let mut roster = Self { planted: documents.planted(), ..Self::empty(fleet) };
        for held in documents.fleets() {
            let mut electorate = held.electorate();
            if roster.planted.has(Bug::MajorityForLies) {
                electorate.quorum = electorate.members.len() / 2 + 1;
            }
            roster.electorates.insert(held.serial, electorate);
        }
        if let Some(newest) = documents.fleet() {
            roster.serial = newest.serial;
            roster.keys = newest.hosts.iter().map(|(host, entry)| (host.clone(), entry.key)).collect();
        }
        roster
    }

    /// The serial of the newest fleet document; 0 before the first.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// A host's key.
    pub fn key_of(&self, host: &HostId) -> Option<&PublicKey> {
        self.keys.get(host)
    }

    /// The host that has a key.
    pub fn host_of(&self, key: &PublicKey) -> Option<&HostId> {
        self.keys.iter().find(|(_, of)| *of == key).map(|(host, _)| host)
    }

    /// Every host and its key.
    pub fn members(&self) -> &BTreeMap<HostId, PublicKey> {
        &self.keys
    }

    /// The same roster, but for the key of one host.
    pub(crate) fn with(&self, host: &HostId, key: PublicKey) -> Self {
        let mut other = self.clone();
        other.keys.insert(host.clone(), key);
        other
    }

    /// The electorate of a fleet document.
    pub fn electorate(&self, fleet_serial: u64) -> Option<&Electorate> {
        self.electorates.get(&fleet_serial)
    }

    /// The electorate of the newest fleet document.
    pub(crate) fn newest_electorate(&self) -> Option<&Electorate> {
        self.electorate(self.serial)
    }

    /// The electorate of a fleet document; of one that is not held, nobody, whom no number of signatures makes a quorum.
    pub(crate) fn electorate_or_none(&self, fleet_serial: u64) -> Electorate {
        let nobody = || Electorate { members: BTreeMap::new(), quorum: usize::MAX, faults: 0 };
        self.electorate(fleet_serial).cloned().unwrap_or_else(nobody)
    }

    /// Whether any fleet document names the key's host as a coordinator.
    pub fn coordinated(&self, key: &PublicKey) -> bool {
        self.electorates.values().any(|electorate| electorate.members.contains_key(key))
    }

    /// The keys of an electorate that the newest fleet document still enrols.
    fn counted_keys(&self, electorate: &Electorate) -> BTreeSet<PublicKey> {
        let enrolled: BTreeSet<_> = self.keys.values().copied().collect();
        electorate.members.keys().filter(|key| enrolled.contains(key)).copied().collect()
    }
}

/// Reads a document in its wire form; whose signatures are on it is known afterwards, not whether they suffice.
pub fn document(wire: &[u8]) -> Result<Verified<SignedDocument>, VerifyError> {
    Ok(document_parts(DocumentParts::from_wire(wire)?))
}

/// Verifies a document's signatures in the namespace of the kind that it says it is.
pub fn document_parts(parts: DocumentParts) -> Verified<SignedDocument> {
    let namespace = document::namespace_of(&parts.bytes).unwrap_or(Namespace::Fleet);
    parts.verify(namespace)
}

/// Verifies an envelope under the key of the host that it names.
pub fn envelope(roster: &Roster, bytes: &[u8]) -> Result<Verified<Received<Envelope>>, VerifyError> {
    opened(roster, Purpose::Envelope, bytes)
}

/// Verifies a notice under the key of the host that it names.
pub fn notice(roster: &Roster, bytes: &[u8]) -> Result<Verified<Received<Notice>>, VerifyError> {
    opened(roster, Purpose::Notice, bytes)
}

fn opened<T: serde::de::DeserializeOwned>(
    roster: &Roster,
    purpose: Purpose,
    bytes: &[u8],
) -> Result<Verified<Received<T>>, VerifyError> {
    let sealed = Sealed::parse(bytes)?;
    let Claim { fleet, host } = Claim::of(sealed.payload())?;
    if fleet != roster.fleet {
        return Err(VerifyError::OtherFleet(fleet));
    }
    let key = roster.key_of(&host).ok_or_else(|| VerifyError::UnknownHost(host.clone()))?;
    Ok(Received::read("signed content", sealed.verify(purpose, roster.fleet.as_str(), key)?)?)
}

/// Verifies an envelope of this host's own feed under its own key: what it signed before it was enrolled, or after it
/// was dropped, is its history all the same.
pub fn own_envelope(
    fleet: &FleetName,
    key: &PublicKey,
    bytes: &[u8],
) -> Result<Verified<Received<Envelope>>, VerifyError> {
    let opened = Sealed::parse(bytes)?.verify(Purpose::Envelope, fleet.as_str(), key)?;
    Ok(Received::read("own envelope", opened)?)
}

/// Verifies a notice under a key, whether or not the newest fleet document names it.
pub(crate) fn notice_of(
    fleet: &FleetName,
    key: &PublicKey,
    bytes: &[u8],
) -> Result<Verified<Received<Notice>>, VerifyError> {
    let opened = Sealed::parse(bytes)?.verify(Purpose::Notice, fleet.as_str(), key)?;
    Ok(Received::read("notice", opened)?)
}

/// A decision that a quorum of its electorate signed.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The proof.
    pub certificate: Verified<Counted>,
    /// What was decided.
    pub decision: Decision,
}

/// Verifies that a quorum of the electorate signed a decision: distinct keys, still enrolled.
pub fn certificate(roster: &Roster, bytes: &[u8]) -> Result<Certified, VerifyError> {
    let certificate = Certificate::parse(bytes)?;
    let decision = read_decision(roster, certificate.payload())?;
    let electorate = roster
        .electorate(decision.fleet_serial)
        .ok_or(VerifyError::UnknownFleetSerial(decision.fleet_serial))?;
    let counted = certificate.verify(roster.fleet.as_str(), &roster.counted_keys(electorate));
    let (signed, needed) = (counted.signers().len(), electorate.quorum);
    let (one_less, any) =
        (roster.planted.has(Bug::QuorumMinusOne), roster.planted.has(Bug::UncertifiedActed));
    if signed + usize::from(one_less) < needed && !(any && signed > 0) {
        return Err(VerifyError::NoQuorum { signed, needed });
    }
    Ok(Certified { certificate: counted, decision })
}

/// Counts a certificate again that was verified under an older roster.
pub fn recount(roster: &Roster, certified: &Certified) -> Result<(), VerifyError> {
    let serial = certified.decision.fleet_serial;
    let electorate = roster.electorate(serial).ok_or(VerifyError::UnknownFleetSerial(serial))?;
    let counted = roster.counted_keys(electorate);
    let signed = certified.certificate.signers().keys().filter(|key| counted.contains(*key)).count();
    let needed = match () {
        () if roster.planted.has(Bug::UncertifiedActed) => 1,
        () => electorate.quorum - usize::from(roster.planted.has(Bug::QuorumMinusOne)),
    };
    if signed < needed { Err(VerifyError::NoQuorum { signed, needed }) } else { Ok(()) }
}

/// One coordinator's signature of a decision, as it travels between coordinators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndorsementMessage {
    /// The decision's bytes.
    #[serde(with = "serde_bytes")]
    pub decision: Vec<u8>,
    /// The sender's signature.
    pub signature: Signature,
}

/// A decision that one coordinator signed.
#[derive(Debug, Clone)]
pub struct Endorsement {
    /// The proof.
    pub endorsed: Verified<Endorsed>,
    /// What was signed.
    pub decision: Decision,
}

/// Verifies one coordinator's signature of a decision.
pub fn endorsement(
    roster: &Roster,
    from: &PublicKey,
    message: &EndorsementMessage,
) -> Result<Endorsement, VerifyError> {
    let decision = read_decision(roster, &message.decision)?;
    let electorate = roster
        .electorate(decision.fleet_serial)
        .ok_or(VerifyError::UnknownFleetSerial(decision.fleet_serial))?;
    if !roster.counted_keys(electorate).contains(from) {
        return Err(VerifyError::UnknownKey(*from));
    }
    let endorsed = verify_signature(roster.fleet.as_str(), &message.decision, from, &message.signature)?;
    Ok(Endorsement { endorsed, decision })
}

/// Reads a coordinator's message about the log; a leader's entries have to carry its signature.
pub fn consensus(roster: &Roster, from: &PublicKey, bytes: &[u8]) -> Result<log::Message, VerifyError> {
    let message = log::Message::decode(bytes).map_err(|error| DecodeError::new("log message", error))?;
    if let (Some(head), log::Body::Append(append)) = (message.head_bytes(), &message.body) {
        let signature = append.signature.as_deref().unwrap_or_default();
        let opened = Sealed::parse(signature)?.verify(Purpose::Append, roster.fleet.as_str(), from)?;
        if opened.payload() != head {
            return Err(DecodeError::new("log message", "its signature is of another head").into());
        }
    }
    Ok(message)
}

fn read_decision(roster: &Roster, payload: &[u8]) -> Result<Decision, VerifyError> {
    let decision: Decision = codec::decode("decision", payload)?;
    if decision.v != DECISION_VERSION {
        return Err(VerifyError::Version(decision.v));
    }
    if decision.fleet != roster.fleet {
        return Err(VerifyError::OtherFleet(decision.fleet));
    }
    Ok(decision)
}
