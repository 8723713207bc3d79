//! What the stories of simulated fleets share.

use std::time::Duration;

use muster_sim::World;

/// How much virtual time a story may take to get anywhere.
pub(crate) const MINUTES: Duration = Duration::from_secs(300);

/// Lets time pass until something has happened, and asks every disk whether its views are what it learnt.
#[track_caller]
pub(crate) fn reaches(world: &mut World, what: &str, done: impl FnMut(&World) -> bool) {
    if !world.run_until(MINUTES, done) {
        for (at, host, note) in &world.notes {
            println!("{at} {host} {note:?}");
        }
        panic!("never: {what}");
    }
    world.check_views().unwrap();
}
