//! What hosts sign into their feeds.

use muster_core::id::RolloutId;
use muster_core::ledger::{FeedError, NO_HASH};
use muster_core::verify;
use muster_core::wire::{Envelope, EnvelopeRef, FeedBody, HostEvent, HostEventKind, Received, codec};
use muster_signing::{Digest, Purpose, Verified, seal, sha256};

use super::{FLEET, FeedEnd, Story, closure, host, key_of};

impl Story {
    pub(crate) fn envelope(&mut self, name: &str, body: FeedBody) -> Verified<Received<Envelope>> {
        let end = self.feeds.get(&host(name)).copied();
        let end = end.unwrap_or(FeedEnd { incarnation: 1, seq: 0, hash: NO_HASH });
        let envelope = Envelope {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation: end.incarnation,
            seq: end.seq + 1,
            prev: end.hash,
            at: self.now,
            body,
        };
        let bytes = seal(&key_of(name), Purpose::Envelope, FLEET, &codec::encode(&envelope));
        let end = FeedEnd { seq: envelope.seq, hash: sha256(&bytes), ..end };
        self.feeds.insert(host(name), end);
        verify::envelope(self.ledger.roster(), &bytes).unwrap()
    }

    /// Signs an envelope of another place than the next.
    pub(crate) fn envelope_at(
        &self,
        name: &str,
        (incarnation, seq, prev): (u64, u64, Digest),
        body: FeedBody,
    ) -> Verified<Received<Envelope>> {
        let envelope = Envelope {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation,
            seq,
            prev,
            at: self.now,
            body,
        };
        let bytes = seal(&key_of(name), Purpose::Envelope, FLEET, &codec::encode(&envelope));
        verify::envelope(self.ledger.roster(), &bytes).unwrap()
    }

    /// The host's next feed begins anew, as after a reinstallation.
    pub(crate) fn reinstall(&mut self, name: &str, incarnation: u64) {
        self.feeds.insert(host(name), FeedEnd { incarnation, seq: 0, hash: NO_HASH });
        self.events.retain(|(of, _), _| *of != host(name));
    }

    pub(crate) fn event(&mut self, name: &str, id: &RolloutId, kind: HostEventKind) -> FeedBody {
        let seq = self.events.entry((host(name), id.clone())).or_default();
        *seq += 1;
        FeedBody::Rollout(HostEvent { rollout_id: id.clone(), seq: *seq, kind })
    }

    /// The host signs an event and this node hears of it.
    pub(crate) fn reports(&mut self, name: &str, id: &RolloutId, kind: HostEventKind) -> EnvelopeRef {
        let body = self.event(name, id, kind);
        let envelope = self.envelope(name, body);
        self.takes(&envelope).unwrap();
        let Envelope { incarnation, seq, .. } = *envelope.content;
        EnvelopeRef { incarnation, seq, hash: envelope.hash }
    }

    pub(crate) fn takes(&mut self, envelope: &Verified<Received<Envelope>>) -> Result<(), FeedError> {
        let now = self.clocks();
        self.presences.heard_envelope(now, &envelope.content.host, envelope.content.at);
        self.ledger.envelope(envelope)
    }

    pub(crate) fn acks(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        let log_index = self.ledger.record(&host(name), id).unwrap().record.log_index;
        let received_at = self.now;
        let current_closure_at_dispatch = Some(closure("v0"));
        self.reports(
            name,
            id,
            HostEventKind::DispatchAck { current_closure_at_dispatch, received_at, log_index },
        )
    }

    pub(crate) fn completes(&mut self, name: &str, id: &RolloutId) {
        let observed_current_closure =
            self.ledger.record(&host(name), id).unwrap().record.target_closure.clone();
        let completed_at = self.now;
        self.reports(
            name,
            id,
            HostEventKind::ActivationCompleted { observed_current_closure, exit_code: 0, completed_at },
        );
    }

    pub(crate) fn soaks(&mut self, name: &str, id: &RolloutId) {
        self.acks(name, id);
        self.completes(name, id);
        let declared_at = self.now;
        self.reports(name, id, HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at });
    }

    /// Acknowledged, switched, soaked, converged; all by the host's own word.
    pub(crate) fn converges(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.soaks(name, id);
        self.settles(name, id)
    }

    pub(crate) fn settles(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        let record = &self.ledger.record(&host(name), id).unwrap().record;
        let current_closure = record.target_closure.clone();
        let converged_at = self.now.max(record.soak_deadline().unwrap());
        self.reports(name, id, HostEventKind::Converged { converged_at, current_closure })
    }

    pub(crate) fn defers(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.acks(name, id);
        let deferred_at = self.now;
        self.reports(name, id, HostEventKind::ActivationDeferred { component: "dbus".into(), deferred_at })
    }

    pub(crate) fn fails(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.acks(name, id);
        let failed_at = self.now;
        let stderr_tail = "no".to_owned();
        self.reports(name, id, HostEventKind::ActivationFailed { exit_code: 1, stderr_tail, failed_at })
    }

    pub(crate) fn reverts(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.fails(name, id);
        let completed_at = self.now;
        let reverted_to_closure = closure("v0");
        self.reports(
            name,
            id,
            HostEventKind::RollbackComplete { reverted_to_closure, exit_code: 0, completed_at },
        )
    }

    pub(crate) fn rejects(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        let log_index = self.ledger.record(&host(name), id).unwrap().record.log_index;
        self.rejects_index(name, id, log_index)
    }

    pub(crate) fn rejects_index(&mut self, name: &str, id: &RolloutId, log_index: u64) -> EnvelopeRef {
        let rejected_at = self.now;
        let reason = muster_core::wire::RejectReason::Busy;
        self.reports(name, id, HostEventKind::DispatchRejected { reason, rejected_at, log_index })
    }

    /// Dispatched and converged, as the log and the feed say.
    pub(crate) fn done(&mut self, id: &RolloutId, name: &str) {
        self.join(id, name);
        self.converges(name, id);
    }
}
