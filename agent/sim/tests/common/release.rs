//! A release of a fleet of five hosts, of which the last is the one that looks on.

use muster_core::wire::RolloutState;
use muster_sim::World;

use crate::common::reaches;

/// Publishes a release and waits until its rollout is over.
#[track_caller]
pub(crate) fn release(world: &mut World, name: &str) {
    let document = world.fleet.publish_ref(world.utc(), name, &format!("dir:{name}"));
    world.publish("h5", document);
    let rollout = format!("stable@{name}");
    reaches(world, &format!("{name} is Terminal"), |world| {
        world.rollout_state("h5", &rollout) == Some(RolloutState::Terminal)
    });
}
