//! What may hold an open rollout for as long as it likes: people, time, and hosts that truly failed.

use muster_core::gate::{self, Reason, WaveState};
use muster_core::id::{HostId, RolloutId};
use muster_core::node::Node;
use muster_core::wire::HostState;

use super::Run;

impl Run {
    /// What nameable holds a rollout that is open.
    pub(super) fn held_by(&self, node: &Node, id: &RolloutId) -> Option<String> {
        let host = &self.world.hosts[self.world.leader_number()?];
        let now = host.now(self.world.now);
        let plan = node.ledger().plan(id)?;
        node.with_view(now, |view| {
            for host in plan.hosts() {
                for blocked in gate::all_blocked(view, plan, host, now.utc) {
                    let nameable = self.is_nameable(host, &blocked.reason);
                    let done = node
                        .ledger()
                        .record(host, id)
                        .is_some_and(|it| it.record.state != HostState::Pending);
                    if nameable && !done {
                        return Some(format!("{host}: {blocked}"));
                    }
                }
            }
            let record = node.ledger().rollouts().get(id)?;
            // A wave may go on past a host that waits for its reboot, and turn out unproven when that comes to nothing.
            (0..=record.current_wave).find_map(|wave| match gate::wave_state(view, plan, wave, now.utc) {
                WaveState::Open(reason @ (Reason::NoConvergence { .. } | Reason::WaveUnreachable { .. })) => {
                    Some(reason.to_string())
                }
                WaveState::Done | WaveState::Open(_) => None,
            })
        })
    }

    /// Whether people, time or a host that truly failed hold a host back, so that nobody can expect the rollout to end.
    fn is_nameable(&self, host: &HostId, reason: &Reason) -> bool {
        match reason {
            Reason::BudgetFull { in_flight, .. } => in_flight.iter().any(|host| self.keeps_slot(host)),
            Reason::InFlight { .. } => self.keeps_slot(host),
            // Of these the evidence is here at once, and somebody has to come of himself.
            Reason::OffChannel { .. }
            | Reason::WaveNotDone { .. }
            | Reason::TooManyFailures { .. }
            | Reason::NotInPlan
            | Reason::NotFetched { .. }
            | Reason::NeverFetched { .. }
            | Reason::Offline
            | Reason::NotHeardYet => false,
            // In the calm every pause is lifted and every wave promoted; who was replaced can have said so in
            // vain.
            Reason::Paused { .. } | Reason::NeedsPromotion { .. } => self.world.fleet.generation() > 0,
            // People have to act: a ref to sign, a closure to clear, a host to give another key.
            Reason::Unsigned { .. }
            | Reason::FleetExpired { .. }
            | Reason::Quarantined { .. }
            | Reason::Suspect { .. }
            | Reason::Forked
            | Reason::WaveUnreachable { .. }
            | Reason::NoConvergence { .. }
            | Reason::WindowClosed
            | Reason::Stale { .. }
            | Reason::Expired { .. } => true,
            // The other rollout failed and was not cleared, or is looked at by itself.
            Reason::ChannelFirst { .. } => true,
            Reason::HostFirst { host, .. } => self.keeps_slot(host),
            Reason::ProbeFails { host, .. } => self.world.is_sick(host),
        }
    }

    /// Whether a host truly failed, or waits for a reboot that nobody makes: it keeps its slot until people see to it.
    fn keeps_slot(&self, host: &HostId) -> bool {
        let Some(number) = self.world.number(host.as_str()) else { return false };
        if self.world.truth.is_twofold(host) {
            return true;
        }
        self.world.truth.own[number].values().any(|own| match own.state {
            HostState::Failed => true,
            HostState::Deferred => self.world.is_never_rebooted(),
            HostState::Pending
            | HostState::Activating
            | HostState::Soaking
            | HostState::Converged
            | HostState::Reverted => false,
        })
    }
}
