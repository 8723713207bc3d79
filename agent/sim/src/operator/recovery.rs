//! What operators do when so many coordinators are lost for good that the others are no quorum.

use std::collections::BTreeSet;

use muster_core::id::HostId;

use super::Operator;
use crate::fault::Fault;
use crate::world::World;

impl Operator {
    /// Names other coordinators, without asking those of before, and leaves out who is lost.
    ///
    /// What is true from then on: the lost hosts count for nobody, and their slots neither; what the old coordinators
    /// certified is nothing to whoever holds the document, so that only later decisions have to be the same everywhere;
    /// a host acts on an earlier one only as long as it does not hold the document, and its slot stays taken until it
    /// shows that it does. Quarantines, feeds and states of before go on to count where they are held.
    pub(super) fn recover(&mut self, world: &mut World) -> Option<()> {
        world.recovers_at = None;
        let lost: BTreeSet<usize> =
            (0..world.hosts.len()).filter(|host| world.hosts[*host].is_gone).collect();
        if !self.draft.recover(lost.clone(), world.able(), &mut self.random) {
            world.truth.broken(0, "nobody is left to coordinate".to_owned());
            return None;
        }
        let document = self.draft.document(&world.fleet);
        let signed = world.fleet.sign_recovery(world.utc(), document);
        if self.publish(world, signed).is_none() {
            world.truth.broken(0, "the drawn recovery document breaks a rule".to_owned());
            return None;
        }
        world.coordinators.clone_from(&self.draft.coordinators);
        for host in lost {
            world.truth.left_out.insert(world.hosts[host].name.clone());
        }
        world.faults.hit(Fault::Recovery);
        // It is no readmission, if it takes the place of one.
        None
    }

    /// Whether those of the coordinators who wait to be readmitted leave no quorum that could do it. Of a fleet as it was
    /// founded no seed takes so many; but a recovery may name hosts that have lost what they do not know of.
    pub(super) fn needs_recovery(&self, world: &World, waits: &[HostId]) -> bool {
        let Some(electorate) = world.truth.documents().fleet().map(|fleet| fleet.electorate()) else {
            return false;
        };
        let out = electorate.members.values().filter(|host| waits.contains(host)).count();
        out > 0 && electorate.members.len() - out < electorate.quorum
    }
}
