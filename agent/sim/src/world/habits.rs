//! What a run leaves to its seed about how its hosts behave.

use std::time::Duration;

use super::{Habits, World};
use crate::liar::Lie;
use crate::random::Random;

impl Habits {
    /// How long what is over is kept: in some runs so shortly that it is given up while they go on.
    pub(crate) fn draw_retention(random: &mut Random) -> Duration {
        match random.percent(25) {
            true => Duration::from_secs(random.between(20, 300)),
            false => Self::default().retention,
        }
    }

    /// Logs of seeds are short: most fleets ask for snapshots far more often than real ones.
    pub(crate) fn draw_snapshot_entries(random: &mut Random) -> u64 {
        match random.percent(75) {
            true => random.between(3, 60),
            false => Self::default().snapshot_entries,
        }
    }
}

impl World {
    /// As many coordinators lie as the electorate tolerates, each in its own way.
    pub(crate) fn choose_liars(&mut self, coordinators: usize, random: &mut Random) {
        const WAYS: [Lie; 5] = [Lie::Rules, Lie::Early, Lie::Forge, Lie::Silent, Lie::Twice];
        for _ in 0..coordinators.saturating_sub(1) / 3 {
            let host = random.index(coordinators);
            if let Some(lie) = random.pick(&WAYS).copied() {
                self.make_liar(host, lie);
            }
        }
    }
}
