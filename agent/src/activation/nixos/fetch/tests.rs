//! Tests of fetching, over a program that stands in for `nix-store`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use muster_core::node::{Fetch, Goods};
use muster_signing::sha256;

use super::*;
use crate::activation::nixos::Nixos;
use crate::activation::nixos::testing::Bench;

fn quick(tries: u32) -> Patience {
    let pause = Duration::from_millis(1);
    Patience { tries, first: pause, longest: pause, each: Duration::from_secs(60) }
}

fn backend(bench: &Bench, tries: u32) -> Nixos {
    let root = Arc::new(bench.machine.clone());
    Nixos::new(bench.machine.clone(), root, Vec::new(), &bench.path("state")).with_patience(quick(tries))
}

async fn prefetched(backend: &Nixos, closure: &Closure, contents: Option<Digest>) -> Vec<Fetch> {
    let mut told = Vec::new();
    let goods = Goods { closure: closure.clone(), contents };
    backend.prefetch(&goods, &mut |fetch| told.push(fetch)).await;
    told
}

fn roots(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path("state/roots")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_fetched_is_rooted_until_it_is_not_wanted_any_more() {
    let bench = Bench::new();
    let backend = backend(&bench, 1);
    let (one, two) = (bench.cached("one", &[]), bench.cached("two", &[]));
    let told = prefetched(&backend, &one, None).await;
    assert_eq!(told, [Fetch::Goes("fetches path 1 of 1".to_owned()), Fetch::Done]);
    assert!(bench.machine.exists(one.as_str()));
    // What is here already is only rooted.
    assert_eq!(prefetched(&backend, &one, None).await, [Fetch::Done]);
    prefetched(&backend, &two, None).await;
    assert_eq!(roots(&bench).len(), 2);
    fs::write(bench.path("state/roots/target"), "").unwrap();
    backend.keep_ahead(&[Goods { closure: two.clone(), contents: None }]);
    let kept = two.as_str().trim_start_matches("/nix/store/");
    assert_eq!(roots(&bench), [format!("ahead-{kept}"), "target".to_owned()]);
    let realised = bench.log().into_iter().find(|line| line.contains("--add-root")).unwrap();
    assert!(realised.ends_with(&format!("--indirect -- {one}")), "{realised}");
}

#[tokio::test]
async fn what_cannot_be_fetched_is_tried_again_so_often_and_the_reason_told() {
    let bench = Bench::new();
    let gone: Closure = format!("/nix/store/{}-gone", "1".repeat(32)).parse().unwrap();
    let told = prefetched(&backend(&bench, 3), &gone, None).await;
    let reason = format!("nix-store --realise: exit status: 1: error: path '{gone}' does not exist");
    let fails = |tries: &str| Fetch::Fails(format!("cannot be fetched{tries}: {reason}"));
    assert_eq!(told, [fails(" (try 1 of 3)"), fails(" (try 2 of 3)"), fails("")]);
}

#[tokio::test]
async fn what_is_no_system_or_not_what_was_signed_is_not_tried_again() {
    let bench = Bench::new();
    let backend = backend(&bench, 3);
    let bare: Closure = format!("/nix/store/{}-hello", "1".repeat(32)).parse().unwrap();
    fs::create_dir(bench.machine.real(bare.as_str())).unwrap();
    let told = prefetched(&backend, &bare, None).await;
    let not_a_system =
        format!("cannot be fetched: {bare} brings no bin/switch-to-configuration: it is not a NixOS system");
    assert_eq!(told, [Fetch::Fails(not_a_system)]);

    let system = bench.system("one", &[]);
    let info = format!("{}.info", bench.machine.real(system.as_str()).display());
    fs::write(info, format!(r#"[{{"path":"{system}","narHash":"sha256-AA=="}}]"#)).unwrap();
    let signed = sha256(format!("{system} sha256-AA==\n").as_bytes());
    assert_eq!(prefetched(&backend, &system, Some(signed)).await, [Fetch::Done]);
    let told = prefetched(&backend, &system, Some(sha256(b"other"))).await;
    assert!(
        matches!(&told[..], [Fetch::Fails(reason)] if reason.contains("but the operators signed")),
        "{told:?}"
    );
}

#[test]
fn pauses_grow_up_to_the_longest_and_end_with_the_last_try() {
    let secs = Duration::from_secs;
    let patience = Patience { tries: 5, first: secs(5), longest: secs(15), each: secs(1) };
    let pauses: Vec<_> = (1..=5).map(|failed| patience.pause(failed)).collect();
    assert_eq!(pauses, [Some(secs(5)), Some(secs(10)), Some(secs(15)), Some(secs(15)), None]);
    assert!(Patience::default().pause(u32::MAX - 1).is_none());
}
