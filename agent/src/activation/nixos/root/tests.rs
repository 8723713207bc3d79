//! Tests of the orders, over programs that stand in for Nix and systemd.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::activation::nixos::testing::{Bench, Held};

fn dispatch() -> Dispatch {
    Dispatch { rollout: "stable@r1".parse().unwrap(), log_index: 7 }
}

fn switch(to: &Closure) -> Order {
    Order::Switch { dispatch: dispatch(), to: to.clone(), timeout_secs: 60 }
}

fn roll_back(to: &Closure, live: bool) -> Order {
    Order::RollBack { dispatch: dispatch(), to: to.clone(), timeout_secs: 60, live }
}

async fn ended(bench: &Bench, road: Road) -> UnitTrace {
    bench.machine.wait(&dispatch().unit(road)).await.unwrap()
}

fn ok() -> UnitTrace {
    UnitTrace::Ended { exit_code: 0, how: None }
}

#[test]
fn a_unit_is_named_by_its_dispatch_within_what_systemd_allows() {
    assert_eq!(dispatch().unit(Road::Switch).name(), "muster-switch-stable:r1-7.service");
    let (channel, target_ref) = ("c".repeat(63), "R".repeat(128));
    let rollout = format!("{channel}@{target_ref}").parse().unwrap();
    let longest = Dispatch { rollout, log_index: u64::MAX }.unit(Road::RollBack).name();
    assert!(longest.len() <= 237, "{}", longest.len());
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.".contains(c);
    assert!(longest.chars().all(allowed), "{longest}");
}

#[tokio::test]
async fn a_switch_sets_the_profile_first_and_leaves_a_unit_that_tells_how_it_ended() {
    let bench = Bench::new();
    let (old, new) = (bench.system("old", &[]), bench.system("new", &[]));
    bench.boot(&old);
    bench.machine.carry_out(&switch(&new)).await.unwrap();
    assert_eq!(ended(&bench, Road::Switch).await, ok());
    assert_eq!((bench.machine.current(), bench.machine.profile()), (Some(new.clone()), Some(new.clone())));
    assert_eq!(bench.machine.booted(), Some(old));
    let log = bench.log();
    let place = |start: &str| log.iter().position(|line| line.starts_with(start)).unwrap();
    assert!(place("nix-store --check-validity") < place("nix-env --profile"));
    assert!(place("nix-env --profile") < place("systemd-run --no-block"));
    assert!(log.iter().any(|line| line.contains("--set -- /nix/store/")), "{log:?}");
    // Done again it is reset first, and runs again.
    bench.machine.carry_out(&switch(&new)).await.unwrap();
    assert_eq!(ended(&bench, Road::Switch).await, ok());
    assert_eq!(bench.switched(), [format!("switch {new}"), format!("switch {new}")]);
    let unit = dispatch().unit(Road::Switch);
    bench.machine.carry_out(&Order::Reset(unit.clone())).await.unwrap();
    bench.machine.carry_out(&Order::Reset(unit.clone())).await.unwrap();
    assert_eq!(bench.machine.trace(&unit).await.unwrap(), UnitTrace::Absent);
}

#[tokio::test]
async fn what_runs_already_is_not_started_again_and_not_reset() {
    let bench = Bench::new();
    let new = bench.system("new", &[]);
    let hold = bench.hold(Held::Switcher);
    bench.machine.carry_out(&switch(&new)).await.unwrap();
    hold.begun().await;
    bench.machine.carry_out(&switch(&new)).await.unwrap();
    let error = bench.machine.carry_out(&Order::Reset(dispatch().unit(Road::Switch))).await.unwrap_err();
    assert_eq!(error.to_string(), "muster-switch-stable:r1-7.service still runs");
    hold.release();
    assert_eq!(ended(&bench, Road::Switch).await, ok());
    assert_eq!(bench.switched(), [format!("switch {new}")]);
}

#[tokio::test]
async fn a_rollback_ends_the_switch_first_and_is_live_only_if_it_must_be() {
    for live in [true, false] {
        let bench = Bench::new();
        let (old, new) = (bench.system("old", &[]), bench.system("new", &[]));
        bench.boot(&old);
        let hold = bench.hold(Held::Switcher);
        bench.machine.carry_out(&switch(&new)).await.unwrap();
        hold.begun().await;
        bench.machine.carry_out(&roll_back(&old, live)).await.unwrap();
        assert_eq!(ended(&bench, Road::RollBack).await, ok());
        assert_eq!(bench.machine.profile(), Some(old.clone()));
        assert_eq!(bench.machine.current(), Some(old.clone()));
        let action = if live { "switch" } else { "boot" };
        assert_eq!(bench.switched(), [format!("switch {new}"), format!("{action} {old}")]);
        let gone = ended(&bench, Road::Switch).await;
        assert_eq!(gone, UnitTrace::Absent);
    }
}

#[tokio::test]
async fn a_rollback_uses_the_programs_of_the_system_that_it_leads_to() {
    let bench = Bench::new();
    let own = "#!/bin/sh\necho own >&2; exit 3\n";
    let old = bench.system("old", &[("sw/bin/nix-env", own)]);
    let mut machine = bench.machine.clone();
    machine.programs.nix_env = "nix-env".into();
    let brought = machine.real(format!("{old}/sw/bin/nix-env"));
    std::fs::set_permissions(brought, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = machine.carry_out(&roll_back(&old, true)).await.unwrap_err();
    assert_eq!(error.to_string(), "nix-env --profile: exit code 3: own");
}

#[tokio::test]
async fn an_order_that_cannot_be_carried_out_says_why_and_starts_nothing() {
    let bench = Bench::new();
    let good = bench.system("good", &[]);
    let bare: Closure = format!("/nix/store/{}-hello", "1".repeat(32)).parse().unwrap();
    std::fs::create_dir(bench.machine.real(bare.as_str())).unwrap();
    let missing: Closure = format!("/nix/store/{}-gone", "2".repeat(32)).parse().unwrap();
    let endless = Order::Switch { dispatch: dispatch(), to: good.clone(), timeout_secs: 0 };
    for (order, problem) in [
        (switch(&"dir:v1".parse().unwrap()), "dir:v1 is not a store path"),
        (roll_back(&"dir:v1".parse().unwrap(), true), "dir:v1 is not a store path"),
        (endless, "a switch of 0 s is not within 1 to 86400 s"),
        (switch(&missing), "is not in the store: nix-store --check-validity: exit code 1: error: path"),
        (switch(&bare), "brings no bin/switch-to-configuration"),
    ] {
        let error = bench.machine.carry_out(&order).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    std::fs::write(bench.path("no-profile"), "").unwrap();
    let error = bench.machine.carry_out(&switch(&good)).await.unwrap_err().to_string();
    assert_eq!(error, "nix-env --profile: exit code 1: error: no space left");
    assert!(!bench.log().iter().any(|line| line.starts_with("systemd-run")), "{:?}", bench.log());
    std::fs::write(bench.path("no-systemd"), "").unwrap();
    let error = bench.machine.carry_out(&switch(&good)).await.unwrap_err().to_string();
    assert!(error.contains("Failed to connect to bus"), "{error}");
}

#[tokio::test]
async fn what_a_unit_said_is_found_again() {
    let bench = Bench::new();
    let bad = bench.system("bad", &[("breaks", "")]);
    bench.machine.carry_out(&switch(&bad)).await.unwrap();
    assert_eq!(ended(&bench, Road::Switch).await, UnitTrace::Ended { exit_code: 1, how: None });
    let said = bench.machine.said(&dispatch().unit(Road::Switch)).await;
    assert!(said.ends_with("it breaks at once\n"), "{said}");
    let unheard = bench.machine.said(&dispatch().unit(Road::Boot)).await;
    assert_eq!(unheard, "systemd speaks of muster-boot-stable:r1-7.service\n");
}

#[test]
fn orders_travel_as_json_and_hold_only_what_was_parsed() {
    let order = roll_back(&format!("/nix/store/{}-x", "1".repeat(32)).parse().unwrap(), true);
    let text = serde_json::to_string(&order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    for (from, to) in
        [("/nix/store/1", "/nix/store/../1"), ("stable@r1", "stable@r1;reboot"), ("live", "lively")]
    {
        assert!(serde_json::from_str::<Order>(&text.replace(from, to)).is_err(), "{from}");
    }
}
