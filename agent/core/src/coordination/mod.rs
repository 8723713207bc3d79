//! How coordinators order and approve: one sequence of entries, and signatures on what follows from it.
//!
//! **Order** is the replicated [`log`]. **Approval** is [`approval`]: each coordinator asks its own evidence
//! about every decision that the log led to, and signs it, waits, or objects for good. The two are apart on
//! purpose: an entry is a claim of its leader, and only a quorum's signatures let a host act.

pub mod approval;
pub mod log;

use muster_signing::{Digest, sha256};

use crate::document::fleet::{Fleet, Tolerate};
use crate::id::FleetName;

/// Names one history of the log: the fleet, the voters with whom it began, what they withstand, and the fleet document
/// that last started it anew.
///
/// `recovery_serial` is the serial of the recovery document that did, 0 before the first. Every fleet document tells the
/// founders, by its own voters or by name: so every coordinator comes to the same epoch whichever it met first.
pub fn epoch(fleet: &FleetName, document: &Fleet, recovery_serial: u64) -> Digest {
    let mut bytes = b"muster/epoch/1\0".to_vec();
    bytes.extend(fleet.as_str().as_bytes());
    bytes.push(0);
    bytes.extend(recovery_serial.to_be_bytes());
    for key in document.founders() {
        bytes.extend(key.as_bytes());
    }
    if document.coordinators.tolerate == Tolerate::Lies {
        bytes.extend(b"lies");
    }
    sha256(&bytes)
}
