//! What would become of a ref, told before it is published.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::id::HostId;
use muster_core::wire::{HostState, RolloutState};
use muster_signing::{SigningKey, sha256};
use muster_sim::forecast::{End, Forecast, ForecastError, HostForecast, Options, What};
use serde_json::{Value, json};

/// A fleet of three coordinators and some more, whose documents can be changed before they are played.
struct Case {
    fleet: Value,
    channel_ref: Value,
    options: Options,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

fn public(name: &str) -> String {
    SigningKey::from_seed(sha256(name.as_bytes()).0).public().to_openssh()
}

impl Case {
    fn of(hosts: usize) -> Self {
        let entry = |n: usize| {
            let mut tags = vec![];
            if n <= 3 {
                tags.push("coordinator");
            }
            if n == 4 {
                tags.push("canary");
            }
            json!({ "key": public(&format!("h{n}")), "channel": "stable", "tags": tags })
        };
        let hosts: BTreeMap<String, Value> = (1..=hosts).map(|n| (format!("h{n}"), entry(n))).collect();
        let targets: BTreeMap<&String, &str> = hosts.keys().map(|host| (host, "dir:v2")).collect();
        let channel_ref = json!({
            "kind": "muster/channel-ref/1", "fleet": "home", "channel": "stable", "ref": "v2", "serial": 7,
            "signedAt": "2025-03-04T10:00:00Z", "fleetSerial": 3, "targets": targets,
        });
        let fleet = json!({
            "kind": "muster/fleet/1", "fleet": "home", "serial": 3, "signedAt": "2025-03-01T10:00:00Z",
            "operators": { "alice": public("alice"), "bob": public("bob") },
            "thresholds": { "fleet": 2, "channelRef": 2, "command": 1 },
            "coordinators": { "selector": { "tags": ["coordinator"] } },
            "hosts": hosts,
            "channels": { "stable": { "rolloutPolicy": "careful", "freshnessWindowMinutes": 1440 } },
            "rolloutPolicies": { "careful": { "waves": [
                { "selector": { "tags": ["canary"] }, "soakMinutes": 10 },
                { "selector": { "all": true }, "soakMinutes": 0 } ] } },
        });
        let options = Options {
            at: at("2025-03-04T10:05:00Z"),
            seed: 1,
            activation: Duration::from_secs(30),
            fail: BTreeSet::new(),
            offline: BTreeSet::new(),
            lose_coordinator: false,
            promote: false,
            limit: Duration::from_secs(30 * 24 * 3600),
        };
        Self { fleet, channel_ref, options }
    }

    fn try_play(&self) -> Result<Forecast, ForecastError> {
        let fleet = self.fleet.to_string().into_bytes();
        let mut channel_ref = self.channel_ref.clone();
        channel_ref["fleetHash"] = json!(sha256(&fleet).to_string());
        Forecast::of(&fleet, channel_ref.to_string().as_bytes(), &self.options, &mut |_| ())
    }

    #[track_caller]
    fn play(&self) -> Forecast {
        self.try_play().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let error = self.try_play().unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }
}

fn of<'a>(forecast: &'a Forecast, name: &str) -> &'a HostForecast {
    forecast.hosts.iter().find(|host| host.host.as_str() == name).unwrap()
}

fn took(forecast: &Forecast) -> i64 {
    (forecast.ends_at - forecast.published_at).num_seconds()
}

#[test]
fn a_healthy_ref_goes_out_wave_by_wave() {
    let forecast = Case::of(6).play();
    assert_eq!(forecast.end, End::Terminal);
    // A switch and ten minutes of soak, then a switch.
    assert_eq!(took(&forecast), 30 + 600 + 30);
    assert_eq!((forecast.coordinators.len(), forecast.coordinators_total, forecast.quorum), (3, 3, 2));
    let waves: Vec<_> = forecast
        .waves
        .iter()
        .map(|wave| (wave.soak_secs, wave.hosts, wave.converged, wave.at_once))
        .collect();
    assert_eq!(waves, [(600, 1, 1, 1), (0, 5, 5, 5)]);
    assert!(forecast.waves[0].ended_at <= forecast.waves[1].began_at);
    assert!(forecast.hosts.iter().all(|host| host.state == Some(HostState::Converged)));
    assert_eq!(forecast.happenings[0].what, What::Published);
    let ordered = forecast.happenings.is_sorted_by_key(|happening| happening.at);
    assert!(ordered, "{:#?}", forecast.happenings);
    let last = forecast.happenings.last().unwrap();
    assert_eq!(last.what, What::Rollout { state: RolloutState::Terminal });
}

#[test]
fn the_same_seed_tells_the_same_and_another_one_comes_to_the_same() {
    let mut case = Case::of(5);
    let tell = |case: &Case| serde_json::to_string(&case.play()).unwrap();
    assert_eq!(tell(&case), tell(&case));
    case.options.seed = 2;
    assert_eq!(case.play().end, End::Terminal);
}

#[test]
fn a_failing_canary_goes_back_and_the_rest_never_moves() {
    let mut case = Case::of(6);
    case.options.fail.insert(host("h4"));
    let forecast = case.play();
    assert_eq!(forecast.end, End::Reverted);
    assert_eq!(of(&forecast, "h4").state, Some(HostState::Reverted));
    for name in ["h1", "h2", "h3", "h5", "h6"] {
        let host = of(&forecast, name);
        assert_eq!((host.state, host.dispatched_at), (None, None));
        let held = host.held_by.as_ref().unwrap();
        assert!(held.reason.contains("quarantined") && held.reason.contains("h4"), "{held:?}");
    }
    // A switch, a minute of failing, and the way back.
    assert!((120..=125).contains(&took(&forecast)), "{}", took(&forecast));
    let tells = |wanted: &dyn Fn(&What) -> bool| forecast.happenings.iter().any(|it| wanted(&it.what));
    assert!(tells(&|what| matches!(what, What::Failed { because, .. } if because.contains("health"))));
    assert!(tells(&|what| matches!(what, What::Quarantined { closure, .. } if closure.as_str() == "dir:v2")));
}

#[test]
fn a_host_that_is_down_is_left_out() {
    let mut case = Case::of(6);
    case.options.offline.insert(host("h6"));
    let forecast = case.play();
    assert_eq!((forecast.end, took(&forecast)), (End::Terminal, 660));
    let down = of(&forecast, "h6");
    assert_eq!(down.state, None);
    assert!(down.excused.is_some(), "{down:?}");
    assert!(down.held_by.as_ref().unwrap().reason.contains("not been heard of"), "{down:?}");
}

#[test]
fn losing_the_leading_coordinator_changes_nothing_but_who_leads() {
    for seed in 1..=3 {
        let mut case = Case::of(6);
        case.options.seed = seed;
        case.options.lose_coordinator = true;
        let forecast = case.play();
        assert_eq!(forecast.end, End::Terminal);
        let mut lost = None;
        for happening in &forecast.happenings {
            if let What::CoordinatorLost { host } = &happening.what {
                lost = Some(host.clone());
            }
        }
        let lost = lost.unwrap();
        let others = forecast.hosts.iter().filter(|host| host.host != lost);
        assert!(others.clone().all(|host| host.state == Some(HostState::Converged)), "{forecast:#?}");
        assert!(of(&forecast, lost.as_str()).excused.is_some());
        let leads = forecast.happenings.iter().filter(|it| matches!(it.what, What::Leads { .. })).count();
        assert_eq!(leads, 2, "{forecast:#?}");
        assert!(took(&forecast) <= 665, "{}", took(&forecast));
    }
}

#[test]
fn a_budget_makes_a_wave_take_its_turns() {
    let mut case = Case::of(8);
    case.fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlight": 2 }]);
    let forecast = case.play();
    assert_eq!(forecast.end, End::Terminal);
    assert_eq!(forecast.waves[1].at_once, 2);
    // Seven hosts by twos: four turns of half a minute.
    assert!((630 + 120..630 + 125).contains(&took(&forecast)), "{}", took(&forecast));
}

#[test]
fn a_wave_that_waits_for_a_person_holds_the_rest_in_the_gates_own_words() {
    let mut case = Case::of(5);
    case.fleet["rolloutPolicies"]["careful"]["waves"][0]["promotion"] = json!("manual");
    let forecast = case.play();
    assert_eq!(forecast.end, End::Held);
    let held = of(&forecast, "h5").held_by.clone().unwrap();
    assert_eq!(held.reason, "wave 1 waits for an operator's promotion");
    assert_eq!(took(&forecast), 630);
    case.options.promote = true;
    let forecast = case.play();
    assert_eq!(forecast.end, End::Terminal);
    assert!(forecast.happenings.iter().any(|it| it.what == What::Promoted { wave: 0 }));
}

#[test]
fn an_empty_canary_and_a_short_freshness_hold_the_rest() {
    let mut case = Case::of(5);
    case.options.offline.insert(host("h4"));
    let forecast = case.play();
    assert_eq!(forecast.end, End::Held);
    assert_eq!(of(&forecast, "h1").held_by.as_ref().unwrap().reason, "no host of wave 1 can be reached: h4");
    let mut case = Case::of(5);
    case.fleet["channels"]["stable"]["freshnessWindowMinutes"] = json!(10);
    let forecast = case.play();
    assert_eq!(forecast.end, End::Held);
    assert!(of(&forecast, "h1").held_by.as_ref().unwrap().reason.contains("signed more than 10 minutes ago"));
}

#[test]
fn a_maintenance_window_is_waited_for() {
    let mut case = Case::of(5);
    // A Tuesday morning.
    case.fleet["channels"]["stable"]["windows"] =
        json!([{ "days": ["tue"], "start": "22:00", "lengthMinutes": 60, "timezone": "Europe/Zurich" }]);
    let forecast = case.play();
    assert_eq!(forecast.end, End::Terminal);
    let opened = at("2025-03-04T21:00:00Z");
    let began = forecast.waves[0].began_at.unwrap();
    assert!(opened <= began && began < opened + TimeDelta::seconds(30), "{began}");
    assert!(forecast.ends_at < opened + TimeDelta::minutes(13), "{}", forecast.ends_at);
    let waits = What::Waits { reason: "no maintenance window is open".to_owned(), until: opened };
    assert!(
        forecast
            .happenings
            .iter()
            .any(|it| it.what == waits && it.at < case.options.at + TimeDelta::minutes(1))
    );
    let leads = forecast.happenings.iter().filter(|it| matches!(it.what, What::Leads { .. })).count();
    assert_eq!(leads, 1);
}

#[test]
fn store_paths_are_switched_to_as_well() {
    let mut case = Case::of(4);
    for n in 1..=4 {
        let path = format!("/nix/store/{}-nixos-system-h{n}-25.11", "0123456789abcdfghijklmnpqrsvwxyz");
        case.channel_ref["targets"][format!("h{n}")] = json!(path);
    }
    case.options.fail.insert(host("h2"));
    let forecast = case.play();
    assert_eq!(forecast.end, End::Reverted);
    assert_eq!(of(&forecast, "h4").state, Some(HostState::Converged));
    assert_eq!(of(&forecast, "h2").state, Some(HostState::Reverted));
}

#[test]
fn a_switch_that_takes_too_long_fails() {
    let mut case = Case::of(4);
    case.fleet["rolloutPolicies"]["careful"]["activationTimeoutSeconds"] = json!(20);
    let forecast = case.play();
    assert_eq!(forecast.end, End::Failed);
    assert_eq!(of(&forecast, "h4").activated_at, None);
    let because =
        |what: &What| matches!(what, What::Failed { because, .. } if because.contains("activation"));
    assert!(forecast.happenings.iter().any(|it| because(&it.what)), "{forecast:#?}");
}

#[test]
fn documents_and_questions_that_make_no_sense_are_refused_in_the_words_of_the_core() {
    let changed = |change: &dyn Fn(&mut Case)| {
        let mut case = Case::of(4);
        change(&mut case);
        case
    };
    changed(&|case| case.fleet["maxInFlihgt"] = json!(1)).refused(&["maxInFlihgt"]);
    changed(&|case| case.channel_ref["channel"] = json!("edge")).refused(&["channel edge is not declared"]);
    changed(&|case| case.channel_ref["targets"]["h9"] = json!("dir:v2")).refused(&["h9 is not declared"]);
    changed(&|case| case.channel_ref["signedAt"] = json!("2025-03-01T10:00:00Z")).refused(&["sign it anew"]);
    changed(&|case| case.options.at = at("2025-02-01T10:00:00Z")).refused(&["minutes ahead"]);
    changed(&|case| case.options.fail.extend([host("nosuch")]))
        .refused(&["no host nosuch", "h1, h2, h3, h4"]);
    changed(&|case| {
        case.channel_ref["targets"].as_object_mut().unwrap().remove("h2");
        case.options.fail.insert(host("h2"));
    })
    .refused(&["h2 cannot fail in stable@v2", "h1, h3, h4"]);
    changed(&|case| case.options.offline.extend([host("h1"), host("h2")])).refused(&[
        "1 of 3 coordinators",
        "2 have to agree",
        "h1, h2",
    ]);
    let case = Case::of(4);
    let fleet = case.fleet.to_string();
    let mut other = case.channel_ref.clone();
    other["fleetHash"] = json!(sha256(b"another").to_string());
    let error = Forecast::of(fleet.as_bytes(), other.to_string().as_bytes(), &case.options, &mut |_| ());
    assert!(error.unwrap_err().to_string().contains("names fleet document"));
}

#[test]
fn without_a_quorum_nothing_moves_any_more() {
    let mut case = Case::of(5);
    case.options.offline.insert(host("h1"));
    case.options.lose_coordinator = true;
    let forecast = case.play();
    assert_eq!(forecast.end, End::Held);
    let held = of(&forecast, "h5").held_by.clone().unwrap();
    assert!(held.gate.is_none() && held.reason.contains("1 of 3 coordinators are up"), "{held:?}");
}

#[test]
fn a_large_fleet_takes_its_turns_too() {
    let mut case = Case::of(120);
    case.fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlightPct": 10 }]);
    let forecast = case.play();
    assert_eq!(forecast.end, End::Terminal);
    assert_eq!(forecast.waves[1].at_once, 12);
    assert_eq!(forecast.waves[1].converged, 119);
}
