//! Stories of NixOS systems, told with machines that have a systemd and a Nix of their own.
//!
//! Each story has a site to itself, which takes a few seconds to launch. What happened is asked of three witnesses: what the
//! agents say, what the systems' own switches wrote down, and what the machines' links, profiles and boot loaders name.

mod caches;
mod crashes;
mod deferral;
mod fetches;
mod helper;
mod machines;
mod network;
mod rollouts;
mod units;
mod upgrades;

use muster_tests::machine::{Machine, Site};

/// A machine runs a system, and would boot it, and nothing else.
fn assert_settled_on(site: &Site, machine: &Machine, system: &str) {
    let path = site.path(system);
    assert_eq!(machine.current(), path, "{} runs {system}", machine.name);
    assert_eq!(machine.profile(), path, "{}'s profile is {system}", machine.name);
    assert_eq!(machine.boot_default(), path, "{} would boot {system}", machine.name);
}

/// What a host said in the event of a name, once and not again.
fn only_said(site: &Site, host: &Machine, name: &str) -> String {
    let feed = site.feed(host, host);
    let details: Vec<_> = feed.iter().filter(|event| event.0 == name).map(|event| &event.1).collect();
    assert_eq!(details.len(), 1, "{name} in {feed:#?}");
    details[0].clone()
}
