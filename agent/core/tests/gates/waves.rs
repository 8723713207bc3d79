//! The gates that ask about other hosts of the rollout: waves, promotion and probes.

use muster_core::gate::{Gate, Reason, WaveState, wave_state};
use muster_core::id::{HostId, RolloutId};
use muster_core::view::{Excuse, Failure, Standing};
use muster_core::wire::{
    Cause, DeclaredProbe, HostEventKind, HostState, ProbeMode, ProbeStatus, RolloutState,
};
use serde_json::{Value, json};

use crate::kit::*;

/// One host, then two, then one; `max` may fail.
fn waves_of(max: u64) -> Value {
    json!({
        "waves": [
            { "selector": { "hosts": ["h1"] }, "soakSeconds": 0 },
            { "selector": { "hosts": ["h2", "h3"] }, "soakSeconds": 0 },
            { "selector": { "all": true }, "soakSeconds": 0 },
        ],
        "healthGate": { "maxFailures": max },
    })
}

fn with_policy(policy: Value) -> (Story, RolloutId) {
    let mut story = Story::as_host("h3", fleet_of(&["h1", "h2", "h3", "h4"], policy));
    let id = story.release("v1");
    (story, id)
}

fn names(names: &[&str]) -> Vec<HostId> {
    names.iter().map(|name| host(name)).collect()
}

fn not_done(wave: u32, hosts: &[&str]) -> Reason {
    Reason::WaveNotDone { wave, hosts: names(hosts) }
}

fn standing(story: &Story, id: &RolloutId, name: &str) -> Standing {
    story.view().standing(story.ledger.plan(id).unwrap(), &host(name), story.now)
}

fn excuse(story: &Story, id: &RolloutId, name: &str) -> Option<Excuse> {
    story.view().excuse(story.ledger.plan(id).unwrap(), &host(name), story.now)
}

#[test]
fn a_wave_waits_until_every_host_of_the_one_before_has_converged_by_its_own_word() {
    let (mut story, id) = with_policy(waves_of(0));
    admitted(story.asks(Gate::Wave, &id, "h1"));
    blocked(story.asks(Gate::Wave, &id, "h2"), not_done(1, &["h1"]));
    blocked(story.asks(Gate::Wave, &id, "h4"), not_done(1, &["h1"]));
    story.join(&id, "h1");
    blocked(story.asks(Gate::Wave, &id, "h2"), not_done(1, &["h1"]));
    story.soaks("h1", &id);
    blocked(story.asks(Gate::Wave, &id, "h2"), not_done(1, &["h1"]));
    story.settles("h1", &id);
    admitted(story.asks(Gate::Wave, &id, "h2"));
    blocked(story.asks(Gate::Wave, &id, "h4"), not_done(2, &["h2", "h3"]));
    story.done(&id, "h2");
    blocked(story.asks(Gate::Wave, &id, "h4"), not_done(2, &["h3"]));
    story.done(&id, "h3");
    admitted(story.asks(Gate::Wave, &id, "h4"));
}

#[test]
fn what_the_log_claims_of_a_host_opens_no_wave() {
    let (mut story, id) = with_policy(waves_of(0));
    story.join(&id, "h1");
    let envelope = story.acks("h1", &id);
    story.claims(&id, "h1", HostState::Converged, Cause::Reported { envelope });
    assert_eq!(story.ledger.rollouts()[&id].hosts[&host("h1")].state, HostState::Converged);
    blocked(story.asks(Gate::Wave, &id, "h2"), not_done(1, &["h1"]));
}

#[test]
fn a_host_that_was_offline_before_its_dispatch_is_left_out_if_another_of_its_wave_converged() {
    let (mut story, id) = with_policy(waves_of(0));
    story.done(&id, "h1");
    story.done(&id, "h2");
    story.pass(91);
    story.speaks("h2");
    story.speaks("h4");
    assert_eq!(excuse(&story, &id, "h3"), None, "this is the node itself");
    let (mut story, id) = with_policy(waves_of(0));
    story.done(&id, "h1");
    story.done(&id, "h3");
    story.pass(91);
    story.speaks("h4");
    assert_eq!(excuse(&story, &id, "h2"), Some(Excuse::Offline));
    admitted(story.asks(Gate::Wave, &id, "h4"));
}

#[test]
fn a_wave_of_which_nobody_can_be_reached_waits() {
    let (mut story, id) = with_policy(waves_of(0));
    story.pass(91);
    story.speaks("h2");
    let nobody = Reason::WaveUnreachable { wave: 1, hosts: names(&["h1"]) };
    blocked(story.asks(Gate::Wave, &id, "h2"), nobody);
    story.speaks("h1");
    blocked(story.asks(Gate::Wave, &id, "h2"), not_done(1, &["h1"]));
}

#[test]
fn a_host_that_falls_silent_in_flight_holds_its_wave_and_counts_as_failed_after_a_while() {
    for acknowledged in [false, true] {
        let (mut story, id) = with_policy(with(waves_of(0), &[("/activationTimeoutSeconds", 7200.into())]));
        story.join(&id, "h1");
        if acknowledged {
            story.acks("h1", &id);
        }
        story.pass(3599);
        story.speaks("h2");
        blocked(story.asks(Gate::Wave, &id, "h2"), not_done(1, &["h1"]));
        assert_eq!(excuse(&story, &id, "h1"), None);
        story.pass(1);
        assert_eq!(standing(&story, &id, "h1"), Standing::Failed(Failure::Lost));
        let reason = Reason::TooManyFailures { failed: 1, allowed: 0 };
        blocked(story.asks(Gate::Wave, &id, "h2"), reason);
    }
}

#[test]
fn a_deferred_host_counts_as_done_if_another_of_its_wave_converged_or_the_policy_says_so() {
    let (mut story, id) = with_policy(waves_of(0));
    story.done(&id, "h1");
    story.join(&id, "h2");
    story.defers("h2", &id);
    story.join(&id, "h3");
    story.acks("h3", &id);
    blocked(story.asks(Gate::Wave, &id, "h4"), not_done(2, &["h3", "h2"]));
    story.completes("h3", &id);
    let declared_at = story.now;
    story.reports("h3", &id, HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at });
    story.settles("h3", &id);
    admitted(story.asks(Gate::Wave, &id, "h4"));

    for (deferred, answer) in [("hold", Err(not_done(1, &["h1"]))), ("advance", Ok(()))] {
        let (mut story, id) = with_policy(with(waves_of(0), &[("/deferred", deferred.into())]));
        story.join(&id, "h1");
        story.defers("h1", &id);
        assert_eq!(story.asks(Gate::Wave, &id, "h2"), answer, "{deferred}");
    }
}

#[test]
fn a_deferral_that_runs_out_of_time_is_excused_or_fails_the_rollout() {
    let (mut story, id) = with_policy(waves_of(0));
    story.done(&id, "h1");
    story.join(&id, "h2");
    story.defers("h2", &id);
    story.done(&id, "h3");
    story.pass(168 * 3600);
    story.everybody_speaks();
    assert_eq!(excuse(&story, &id, "h2"), None);
    story.pass(1);
    assert_eq!(excuse(&story, &id, "h2"), Some(Excuse::DeferredTooLong));

    let (mut story, id) = with_policy(waves_of(0));
    story.join(&id, "h1");
    story.defers("h1", &id);
    story.pass(168 * 3600 + 1);
    story.everybody_speaks();
    assert_eq!(standing(&story, &id, "h1"), Standing::Failed(Failure::Overdue));
    story.plan();
    assert_eq!(story.ledger.rollouts()[&id].state, RolloutState::Failed);
}

#[test]
fn a_host_that_soaks_after_its_reboot_gets_its_time_anew() {
    let (mut story, id) = with_policy(waves_of(0));
    story.join(&id, "h1");
    story.defers("h1", &id);
    story.pass(100_000);
    story.everybody_speaks();
    story.completes("h1", &id);
    assert_eq!(standing(&story, &id, "h1"), Standing::InFlight(HostState::Soaking));
    story.pass(1800 + 2 * 60 + 1);
    story.everybody_speaks();
    assert_eq!(standing(&story, &id, "h1"), Standing::Failed(Failure::Overdue));
}

#[test]
fn one_failure_more_than_the_policy_allows_closes_every_wave() {
    let (mut story, id) = with_policy(waves_of(1));
    story.done(&id, "h1");
    story.join(&id, "h2");
    story.fails("h2", &id);
    blocked(story.asks(Gate::Wave, &id, "h4"), not_done(2, &["h3"]));
    story.done(&id, "h3");
    admitted(story.asks(Gate::Wave, &id, "h4"));
    let (mut story, id) = with_policy(waves_of(1));
    story.done(&id, "h1");
    for name in ["h2", "h3"] {
        story.join(&id, name);
        story.fails(name, &id);
    }
    let reason = Reason::TooManyFailures { failed: 2, allowed: 1 };
    blocked(story.asks(Gate::Wave, &id, "h4"), reason.clone());
    assert!(story.admit(&id, "h4").unwrap_err().is_against());
    blocked(story.asks(Gate::Wave, &id, "h1"), reason);
}

#[test]
fn a_wave_in_which_nobody_converged_proves_nothing() {
    let (mut story, id) = with_policy(waves_of(1));
    story.join(&id, "h1");
    story.fails("h1", &id);
    blocked(story.asks(Gate::Wave, &id, "h2"), Reason::NoConvergence { wave: 1 });
}

#[test]
fn every_way_to_fail_counts() {
    let (mut story, id) = with_policy(waves_of(9));
    story.join(&id, "h1");
    story.fails("h1", &id);
    assert_eq!(standing(&story, &id, "h1"), Standing::Failed(Failure::Reported));
    story.join(&id, "h2");
    story.reverts("h2", &id);
    assert_eq!(standing(&story, &id, "h2"), Standing::Failed(Failure::Reverted));
    for (round, counted) in [(1, Standing::Waiting), (2, Standing::Failed(Failure::Rejected))] {
        story.join(&id, "h3");
        story.rejects("h3", &id);
        assert_eq!(standing(&story, &id, "h3"), counted, "round {round}");
        story.plan();
    }
    let derived = story.join(&id, "h4");
    story.certify(&derived);
    story.acks("h4", &id);
    story.pass(1800 + 2 * 60);
    story.speaks("h4");
    assert_eq!(standing(&story, &id, "h4"), Standing::InFlight(HostState::Activating));
    story.pass(1);
    assert_eq!(standing(&story, &id, "h4"), Standing::Failed(Failure::Overdue));
}

#[test]
fn two_dispatches_that_a_host_let_expire_count_as_its_failure_only_if_it_could_know_of_them() {
    for certified in [true, false] {
        let (mut story, id) = with_policy(waves_of(0));
        for _ in 0..2 {
            let derived = story.join(&id, "h1");
            if certified {
                story.certify(&derived);
            }
            story.pass(601);
            story.everybody_speaks();
        }
        let counted = if certified { Standing::Failed(Failure::Expired) } else { Standing::Waiting };
        assert_eq!(standing(&story, &id, "h1"), counted);
    }
}

#[test]
fn operators_excuse_hosts_by_skipping_removing_and_clearing() {
    let skip_it = |story: &mut Story, _: &RolloutId| {
        story.command(&json!({ "verb": "skip", "host": "h1" }));
    };
    let skip_it_here = |story: &mut Story, id: &RolloutId| {
        story.command(&json!({ "verb": "skip", "host": "h1", "rollout": id.to_string() }));
    };
    let move_it = |story: &mut Story, _: &RolloutId| {
        let edge = json!({ "rolloutPolicy": "policy", "freshnessWindowMinutes": 60 });
        story.changed_fleet(&[("/channels/edge", edge), ("/hosts/h1/channel", "edge".into())]);
    };
    let clear_it = |story: &mut Story, id: &RolloutId| {
        story.join(id, "h1");
        let envelope = story.fails("h1", id);
        story.claims(id, "h1", HostState::Failed, Cause::Reported { envelope });
        assert_eq!(story.ledger.rollouts()[id].state, RolloutState::Failed);
        story.command(&json!({ "verb": "clear", "rollout": id.to_string() }));
        story.plan();
        assert_eq!(story.ledger.rollouts()[id].state, RolloutState::Active);
    };
    let skip_elsewhere = |story: &mut Story, _: &RolloutId| {
        story.command(&json!({ "verb": "skip", "host": "h1", "rollout": "stable@v9" }));
    };
    type Act<'a> = &'a dyn Fn(&mut Story, &RolloutId);
    let table: [(Act<'_>, Option<Excuse>); 5] = [
        (&skip_it, Some(Excuse::Skipped)),
        (&skip_it_here, Some(Excuse::Skipped)),
        (&move_it, Some(Excuse::Removed)),
        (&clear_it, Some(Excuse::Cleared)),
        (&skip_elsewhere, None),
    ];
    for (row, (act, excused)) in table.into_iter().enumerate() {
        let (mut story, id) = with_policy(waves_of(0));
        act(&mut story, &id);
        assert_eq!(excuse(&story, &id, "h1"), excused, "row {row}");
        let open = excused.is_some();
        assert_eq!(story.asks(Gate::Wave, &id, "h2").is_ok(), open, "row {row}");
        let plan = story.ledger.plan(&id).unwrap();
        assert_eq!(wave_state(&story.view(), plan, 0, story.now) == WaveState::Done, open);
    }
}

#[test]
fn a_skip_counts_once_it_is_adopted_and_until_it_expires() {
    let (mut story, id) = with_policy(waves_of(0));
    let ends = story.now + chrono::TimeDelta::seconds(60);
    let ends = ends.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let order = json!({ "verb": "skip", "host": "h1", "expiresAt": ends });
    story.accept_command(&order);
    assert_eq!(excuse(&story, &id, "h1"), None);
    story.command(&with(order, &[("/reason", "again".into())]));
    assert_eq!(excuse(&story, &id, "h1"), Some(Excuse::Skipped));
    story.pass(60);
    assert_eq!(excuse(&story, &id, "h1"), None);
}

#[test]
fn an_urgent_ref_goes_at_once_where_its_closure_converged_before_and_nowhere_else() {
    let (mut story, id) = with_policy(waves_of(0));
    story.done(&id, "h1");
    story.done(&id, "h2");
    story.release("v2");
    let back = json!({ "h1": "dir:v1", "h2": "dir:v1", "h3": "dir:v1", "h4": "dir:v1" });
    for urgent in [false, true] {
        let name = format!("back-{urgent}");
        let changes = [("/targets", back.clone()), ("/urgent", urgent.into())];
        let id = story.release_on("stable", &name, &changes);
        assert_eq!(story.asks(Gate::Wave, &id, "h2").is_ok(), urgent);
        blocked(story.asks(Gate::Wave, &id, "h3"), not_done(1, &["h1"]));
    }
}

#[test]
fn a_wave_after_a_manual_one_waits_for_a_persons_promotion() {
    let mut policy = waves_of(0);
    policy["waves"][0]["promotion"] = "manual".into();
    let (mut story, id) = with_policy(policy);
    admitted(story.asks(Gate::Promotion, &id, "h1"));
    blocked(story.asks(Gate::Promotion, &id, "h2"), Reason::NeedsPromotion { wave: 1 });
    blocked(story.asks(Gate::Promotion, &id, "h4"), Reason::NeedsPromotion { wave: 1 });
    let promote = |wave: u32| json!({ "verb": "promote", "rollout": "stable@v1", "wave": wave });
    story.command(&promote(1));
    blocked(story.asks(Gate::Promotion, &id, "h2"), Reason::NeedsPromotion { wave: 1 });
    story.accept_command(&promote(0));
    blocked(story.asks(Gate::Promotion, &id, "h2"), Reason::NeedsPromotion { wave: 1 });
    story.command(&with(promote(0), &[("/reason", "looks good".into())]));
    admitted(story.asks(Gate::Promotion, &id, "h2"));
    admitted(story.asks(Gate::Promotion, &id, "h4"));
}

fn probed(story: &mut Story, id: &RolloutId, name: &str, mode: ProbeMode, status: ProbeStatus) {
    story.acks(name, id);
    story.completes(name, id);
    let at = story.now;
    let probe_name = "http".parse().unwrap();
    let declared = DeclaredProbe { probe_name, kind: "http".into(), mode };
    let probe_name = declared.probe_name.clone();
    story.reports(name, id, HostEventKind::ProbeTopologyDeclared { probes: vec![declared], declared_at: at });
    let result = HostEventKind::ProbeResult {
        probe_name,
        mode,
        status,
        observed_at: at,
        failure_reason: None,
        sub_results: None,
    };
    story.reports(name, id, result);
}

#[test]
fn an_enforced_probe_that_fails_in_an_earlier_wave_holds_the_later_ones() {
    use ProbeMode::{Enforce, Observe};
    use ProbeStatus::{Fail, Pass};
    for (mode, status, open) in [(Enforce, Fail, false), (Enforce, Pass, true), (Observe, Fail, true)] {
        let (mut story, id) = with_policy(waves_of(0));
        story.join(&id, "h1");
        probed(&mut story, &id, "h1", mode, status);
        admitted(story.asks(Gate::EnforceProbes, &id, "h1"));
        let answer = story.asks(Gate::EnforceProbes, &id, "h2");
        let fails = Reason::ProbeFails { host: host("h1"), probe: "http".parse().unwrap() };
        assert_eq!(answer, if open { Ok(()) } else { Err(fails) });
    }
    let (mut story, id) = with_policy(waves_of(0));
    story.done(&id, "h1");
    admitted(story.asks(Gate::EnforceProbes, &id, "h2"));
    story.speaks_as("h1", |presence| presence.failing_enforce_probes = vec!["http".parse().unwrap()]);
    let fails = Reason::ProbeFails { host: host("h1"), probe: "http".parse().unwrap() };
    blocked(story.asks(Gate::EnforceProbes, &id, "h2"), fails);
    story.command(&json!({ "verb": "skip", "host": "h1" }));
    admitted(story.asks(Gate::EnforceProbes, &id, "h2"));
}
