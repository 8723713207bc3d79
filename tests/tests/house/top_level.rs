//! What stands at the top of the tree, and nothing else.

use std::collections::BTreeSet;

use super::{none, tracked};

/// The folders and files of the top level.
const ALLOWED: [&str; 24] = [
    ".cargo",
    ".ci",
    ".editorconfig",
    ".envrc",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "agent",
    "clippy.toml",
    "deny.toml",
    "flake.lock",
    "flake.nix",
    "gossip",
    "nixos-module",
    "rustfmt.toml",
    "signing",
    "store",
    "tests",
];

fn strangers<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let tops: BTreeSet<&str> = paths.into_iter().map(|path| path.split('/').next().unwrap_or(path)).collect();
    let known = |name: &str| ALLOWED.contains(&name);
    tops.into_iter().filter(|name| !known(name)).map(str::to_owned).collect()
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    none("these do not belong at the top level", &strangers(tracked().iter().map(String::as_str)));
}

#[test]
fn a_stranger_at_the_top_level_is_found() {
    let paths = ["README.md", "agent/core/src/lib.rs", "notes.md", "scripts/run.sh", "scripts/stop.sh"];
    assert_eq!(strangers(paths), ["notes.md", "scripts"]);
}
