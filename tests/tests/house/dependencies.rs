//! What the dependency tree may hold: nothing impure below the core, no crate older than its last serious repair.

use std::collections::BTreeMap;

use super::{cargo, none, top};

/// Crates that would bring I/O or randomness into what must have neither; a `*` stands for any ending.
const IMPURE: [&str; 7] = ["tokio", "libp2p*", "redb", "rand", "getrandom", "mio", "async-std"];

/// The oldest version of each crate in which no peer or file can do harm that is known of.
const OLDEST: [(&str, [u64; 3]); 5] = [
    ("libp2p-gossipsub", [0, 50, 1]),
    ("libp2p-quic", [0, 13, 1]),
    ("yamux", [0, 13, 10]),
    ("quinn-proto", [0, 11, 15]),
    ("redb", [4, 2, 0]),
];

/// The impure crates in what `cargo tree --prefix none` printed.
fn impure(tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split_ascii_whitespace().next());
    let bad = |name: &str| {
        IMPURE.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
    };
    names.filter(|name| bad(name)).map(str::to_owned).collect()
}

/// The locked versions that are older than they may be, and the crates of the list that are not locked at all.
fn too_old(lock: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, oldest) in OLDEST {
        let packages = lock["package"].as_array().unwrap().iter();
        let versions: Vec<_> = packages
            .filter(|package| package["name"].as_str() == Some(name))
            .map(|package| package["version"].as_str().unwrap())
            .collect();
        if versions.is_empty() {
            found.push(format!("{name} is not in the lock file: take it off the list"));
        }
        let old = versions.into_iter().filter(|version| parsed(version) < oldest);
        found.extend(old.map(|version| format!("{name} {version} is older than {oldest:?}")));
    }
    found
}

fn parsed(version: &str) -> [u64; 3] {
    let release = version.split(['-', '+']).next().unwrap();
    let numbers: Vec<u64> = release.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// The packages that what `cargo tree -e features` printed builds with the feature `planted`.
fn planted(tree: &str) -> Vec<String> {
    tree.lines()
        .filter(|line| line.contains("feature \"planted\""))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn the_core_and_the_signatures_need_no_runtime_network_database_or_randomness() {
    for package in ["muster-core", "muster-signing", "muster-sim"] {
        let tree = cargo(&["tree", "-p", package, "-e", "normal", "--prefix", "none"]);
        none(&format!("{package} depends on"), &impure(&tree));
    }
}

#[test]
fn no_locked_crate_is_older_than_its_last_serious_repair() {
    let lock = std::fs::read_to_string(top().join("Cargo.lock")).unwrap().parse().unwrap();
    none("the lock file holds versions with known harm", &too_old(&lock));
}

#[test]
fn planted_bugs_are_not_built_into_the_program() {
    let tree = cargo(&["tree", "-p", "muster", "-e", "features", "--prefix", "none"]);
    assert!(tree.contains("muster-core"), "the tree lists what the program is made of:\n{tree}");
    none("planted bugs are built into the program", &planted(&tree));
}

#[test]
fn an_impure_crate_is_found() {
    let tree = "muster-core v0.1.0 (/agent/core)\nrand_core v0.9.0\nlibp2p-quic v0.14.0\nmio v1.0.0 (*)\n";
    assert_eq!(impure(tree), ["libp2p-quic", "mio"]);
}

#[test]
fn an_old_version_is_found() {
    let good = BTreeMap::from([
        ("libp2p-gossipsub", "0.50.1"),
        ("libp2p-quic", "0.14.0"),
        ("yamux", "0.13.10"),
        ("quinn-proto", "0.11.15"),
        ("redb", "4.2.0-rc.1"),
    ]);
    let lock = |versions: &BTreeMap<&str, &str>| -> toml::Table {
        let packages = versions
            .iter()
            .map(|(name, version)| format!("[[package]]\nname = '{name}'\nversion = '{version}'\n"));
        packages.collect::<String>().parse().unwrap()
    };
    assert_eq!(too_old(&lock(&good)), [""; 0]);
    for (name, version) in [("yamux", "0.12.1"), ("redb", "4.1.9"), ("quinn-proto", "0.11.14")] {
        let mut bad = good.clone();
        bad.insert(name, version);
        assert_eq!(too_old(&lock(&bad)).len(), 1, "{name} {version}");
    }
    let mut missing = good;
    missing.remove("yamux");
    assert_eq!(too_old(&lock(&missing)), ["yamux is not in the lock file: take it off the list"]);
}

#[test]
fn a_planted_feature_is_found() {
    let tree = "muster-core feature \"default\"\nmuster-core feature \"planted\"\nmuster-core v0.1.0\n";
    assert_eq!(planted(tree), ["muster-core feature \"planted\""]);
}
