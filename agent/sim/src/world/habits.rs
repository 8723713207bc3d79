//! What a run leaves to its seed about how its hosts behave.

use std::time::Duration;

use muster_core::node::BackendKind;

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
    /// Every machine fetches what it is to run, as those of NixOS do.
    pub(crate) fn fetch_ahead(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.backend = BackendKind::Nixos);
    }

    /// The closure of a release, as the machines' backend takes it.
    pub(crate) fn release_named(&self, name: &str) -> String {
        match self.hosts.first().is_some_and(|host| host.backend.prefetches()) {
            true => format!("/nix/store/{}-{name}", "0".repeat(32)),
            false => format!("dir:{name}"),
        }
    }

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
