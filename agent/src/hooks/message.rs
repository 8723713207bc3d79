//! What a hook is told: JSON, and the host's signature over exactly these bytes.

use chrono::{DateTime, Utc};
use data_encoding::BASE64;
use muster_core::hook::Occurrence;
use muster_core::id::{Closure, FleetName, HostId, RolloutId};
use muster_signing::{Namespace, SigningKey, sign_document};
use serde::Serialize;

/// The form's version.
const SCHEMA: u32 = 1;

/// What one call says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The event's name.
    pub event: &'static str,
    /// The JSON.
    pub body: Vec<u8>,
    /// An SSHSIG over it in the namespace `muster-hook`, in base64 on one line.
    pub signature: String,
}

/// Who tells.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The fleet.
    pub fleet: FleetName,
    /// The host whose agent calls.
    pub host: HostId,
    /// That host's key.
    pub key: SigningKey,
}

#[derive(Serialize)]
struct Body<'a> {
    schema: u32,
    id: &'a str,
    fleet: &'a FleetName,
    sender: &'a HostId,
    event: &'static str,
    at: DateTime<Utc>,
    rollout: Option<&'a RolloutId>,
    host: Option<&'a HostId>,
    closure: Option<&'a Closure>,
    reason: Option<&'a str>,
}

impl Sender {
    /// Puts an occurrence into words and signs them.
    pub fn message(&self, occurrence: &Occurrence) -> Message {
        let event = occurrence.event.name();
        let body = Body {
            schema: SCHEMA,
            id: &occurrence.id,
            fleet: &self.fleet,
            sender: &self.host,
            event,
            at: occurrence.at,
            rollout: occurrence.rollout.as_ref(),
            host: occurrence.host.as_ref(),
            closure: occurrence.closure.as_ref(),
            reason: occurrence.reason.as_deref(),
        };
        // Texts, numbers and a time cannot fail to become JSON in memory.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let signature = BASE64.encode(&sign_document(&self.key, Namespace::Hook, &body));
        Message { event, body, signature }
    }
}
