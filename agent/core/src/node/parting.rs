//! Coordinators that are lost, that stop, and that can write nothing more.

use muster_signing::PublicKey;

use super::Node;
use super::turn::Turn;
use crate::coordination::log::MemberId;

impl Node {
    /// A coordinator's connection closed.
    pub(super) fn coordinator_lost(&mut self, turn: &mut Turn, peer: PublicKey) {
        let Some(coordinator) = &self.coordinator else { return };
        let members = coordinator.log.membership().members().copied();
        let of_peer: Vec<MemberId> =
            members.filter(|member| self.ledger.key_of_member(member) == Some(peer)).collect();
        for member in of_peer {
            let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) else { return };
            let ready = coordinator.log.disconnected(turn.now, member);
            self.absorb(turn, ready);
        }
    }

    pub(super) fn hand_over(&mut self, turn: &mut Turn) {
        if let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) {
            let ready = coordinator.log.hand_over(turn.now);
            self.absorb(turn, ready);
        }
    }

    /// A coordinator that can write nothing neither leads nor stands for election.
    pub(super) fn give_way(&mut self, turn: &mut Turn) {
        if let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) {
            let ready = coordinator.log.give_way(turn.now);
            self.absorb(turn, ready);
        }
    }
}
