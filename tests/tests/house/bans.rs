//! What the core and the simulator must not touch: clocks, hash maps, the environment, threads, files, the network.

use quote::ToTokens as _;

use super::source::{Mention, for_tests_only, mentions, test_files};
use super::{none, rust_files};

/// Names of what iterates in another order in every run.
const UNORDERED: [&str; 6] = ["HashMap", "HashSet", "hash_map", "hash_set", "RandomState", "DefaultHasher"];
/// Types whose `now` reads a clock.
const CLOCKS: [&str; 4] = ["Utc", "Local", "SystemTime", "Instant"];
/// Modules of the standard library that reach outside; tests of the core may use them.
const OUTSIDE: [&str; 4] = ["env", "thread", "fs", "net"];

/// The folders in which the bans hold.
const PURE: [&str; 2] = ["agent/core/src/", "agent/sim/src/"];
/// Programs that measure and print; what they call is pure.
const PROGRAMS: [&str; 1] = ["agent/sim/src/bin/"];

/// Whether a path may stand nowhere, not even in tests.
fn never(mention: &Mention) -> bool {
    let path: Vec<&str> = mention.path.iter().map(String::as_str).collect();
    let last = path.last().copied().unwrap_or_default();
    path.iter().any(|segment| UNORDERED.contains(segment))
        || path.windows(2).any(|pair| CLOCKS.contains(&pair[0]) && pair[1] == "now")
        || path.starts_with(&["std", "time", "Instant"])
        || path.starts_with(&["std", "time", "SystemTime"])
        // Behind another name the rest of this list would not find it.
        || mention.renamed && (path == ["std"] || path.len() > 1 && CLOCKS.contains(&last))
        || path == ["std", "*"]
}

/// Whether a path may stand in tests only.
fn not_outside_tests(mention: &Mention) -> bool {
    matches!(mention.path.as_slice(), [first, second, ..] if first == "std" && OUTSIDE.contains(&second.as_str()))
}

/// The banned paths of one file.
fn breaches(name: &str, text: &str, test: bool) -> Vec<String> {
    let mut file = syn::parse_file(text).unwrap();
    let mut banned: Vec<_> = mentions(file.to_token_stream()).into_iter().filter(never).collect();
    if !test {
        file.items.retain(|item| !matches!(item, syn::Item::Mod(module) if for_tests_only(&module.attrs)));
        banned.extend(mentions(file.to_token_stream()).into_iter().filter(not_outside_tests));
    }
    banned
        .into_iter()
        .map(|mention| format!("{name}:{}: {}", mention.line, mention.path.join("::")))
        .collect()
}

#[test]
fn the_core_and_the_simulator_reach_for_nothing_outside() {
    let pure = |path: &str| PURE.iter().any(|folder| path.starts_with(folder));
    let program = |path: &str| PROGRAMS.iter().any(|start| path.starts_with(start));
    let files: Vec<_> = rust_files().into_iter().filter(|(path, _)| pure(path) && !program(path)).collect();
    assert!(files.len() > 10, "the sources of the core are where this rule looks for them");
    let tests = test_files(&files);
    let found: Vec<_> =
        files.iter().flat_map(|(path, text)| breaches(path, text, tests.contains(path))).collect();
    none("banned in what decides", &found);
}

#[test]
fn whatever_is_banned_is_found() {
    for bad in [
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashSet};",
        "fn f() { let map = std::collections::hash_map::Entry; }",
        "fn f() { let now = Utc::now(); }",
        "fn f() { let now = <Utc>::now(); }",
        "fn f() { let now = chrono::Local::now(); }",
        "use std::{fmt, time::{Duration, Instant}};",
        "use std::time; fn f() { time::SystemTime::now(); }",
        "use chrono::Utc as Clock;",
        "use std as outside;",
        "use std::*;",
        "m! { HashMap::new() }",
        "macro_rules! m { () => { std::env::var(\"HOME\") }; }",
        "use std::{env, fmt};",
        "fn f() { std::thread::spawn(|| ()); }",
        "fn f() -> std::fs::File { todo() }",
        "use r#std::net::TcpStream;",
        "#[cfg(test)] mod tests { use std::collections::HashMap; }",
        "#[cfg(not(test))] mod real { use std::fs; }",
    ] {
        assert_ne!(breaches("sample.rs", bad, false), [""; 0], "{bad}");
    }
}

#[test]
fn what_is_allowed_is_let_through() {
    for good in [
        "use std::collections::{BTreeMap, BTreeSet};",
        "use std::{fmt, time::Duration};",
        "fn f(now: DateTime<Utc>) -> DateTime<Utc> { now }",
        "fn f() { let env = 1; g(env as u64, <Utc as TimeZone>::offset()); }",
        "// HashMap::new() and Utc::now()\nfn f() { g(\"std::env::var\"); }",
        "#[cfg(test)] mod tests { use std::{env, fs}; }",
        "#[cfg(all(test, unix))] mod tests { fn f() { std::thread::spawn(g); } }",
    ] {
        assert_eq!(breaches("sample.rs", good, false), [""; 0], "{good}");
    }
    assert_eq!(breaches("tests.rs", "use std::fs;", true), [""; 0]);
}
