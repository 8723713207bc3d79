//! What a host says that lies; only the simulator plants it.

use super::Node;
use super::turn::Turn;
use crate::host;
use crate::id::RolloutId;
use crate::planted::{self, Bug};
use crate::wire::{FeedBody, HostEvent, HostEventKind, Presence, RejectReason};

/// Events of one flood.
const FLOOD: u64 = 150;

impl Node {
    /// Says at once that it soaked and is healthy.
    pub(super) fn lie_healthy(&mut self, turn: &mut Turn, rollout: &RolloutId, record: &host::Record) {
        let (now, target) = (turn.now.utc, record.target_closure.clone());
        let soaked = host::after(now, record.soak_secs).max(record.soak_due_at);
        self.emit(
            turn,
            rollout,
            HostEventKind::ActivationCompleted {
                observed_current_closure: target.clone(),
                exit_code: 0,
                completed_at: now,
            },
        );
        let declared = HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at: now };
        self.emit(turn, rollout, declared);
        let converged = HostEventKind::Converged { converged_at: soaked, current_closure: target };
        self.emit(turn, rollout, converged);
    }

    /// A heartbeat as it is, or as a host that lies has it.
    pub(super) fn or_a_lie(&mut self, turn: &mut Turn, mut presence: Presence) -> Presence {
        if planted::on(Bug::LieFlood) && self.feed_is_open() {
            let rollout: Option<RolloutId> = "stable@nowhere".parse().ok();
            for seq in (1..=FLOOD).filter(|_| rollout.is_some()) {
                let kind = HostEventKind::DispatchRejected {
                    reason: RejectReason::Busy,
                    rejected_at: turn.now.utc,
                    log_index: seq,
                };
                let event = rollout.clone().map(|rollout_id| HostEvent { rollout_id, seq, kind });
                event.into_iter().for_each(|event| self.append(turn, FeedBody::Rollout(event), false));
            }
        }
        if planted::on(Bug::LiePresence) {
            presence.head_seq = u64::MAX;
            presence.outbox = u64::MAX;
            presence.fleet_serial = u64::MAX;
            presence.heartbeat_millis = if self.boot.is_multiple_of(2) { 1 } else { u64::MAX };
            presence.current_closure = "dir:elsewhere".parse().ok();
            presence.failing_enforce_probes.clear();
        }
        presence
    }
}
