//! Why a host refuses a dispatch.

use chrono::TimeDelta;
use muster_core::id::Closure;
use muster_core::node::{HostReport, Input, Note};
use muster_core::verify;
use muster_core::wire::{DecisionBody, HostState, Notice, NoticeBody, RejectReason};
use muster_signing::{Purpose, seal};
use serde_json::json;

use super::{HOSTS, Own};
use crate::kit::*;

#[test]
fn a_dispatch_is_refused_past_its_end() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    own.story.pass(601);
    own.certified(&decision);
    own.rejected(RejectReason::TooLate);
}

#[test]
fn a_dispatch_whose_end_lies_below_the_greatest_time_ever_signed_is_refused_whatever_the_clock_says() {
    for restarted in [false, true] {
        let mut own = Own::new();
        let id = own.release("v1");
        let decision = own.story.join(&id, "h4").decision;
        let now = own.story.now;
        own.story.pass(700);
        own.step(Input::Tick);
        own.story.now = now;
        if restarted {
            own.restarts();
            own.runs("v0");
        }
        own.certified(&decision);
        own.rejected(RejectReason::TooLate);
    }
}

/// The other hosts speak, and their clocks are off by this.
fn others_speak(own: &mut Own, off: TimeDelta, n: u64) {
    for name in ["h1", "h2", "h3"] {
        let notice = Notice {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation: 1,
            boot: 1,
            n,
            at: own.story.now + off,
            body: NoticeBody::Presence(Box::new(own.story.presence(name))),
        };
        let bytes = seal(&key_of(name), Purpose::Notice, FLEET, &muster_core::wire::codec::encode(&notice));
        let notice = verify::notice(own.node.ledger().roster(), &bytes).unwrap();
        own.step(Input::Notice { notice, message: None });
    }
}

#[test]
fn a_host_whose_clock_is_far_off_that_of_the_others_refuses() {
    for (minutes, refuses) in [(0, false), (4, false), (6, true), (-4, false), (-6, true), (-600, true)] {
        let mut own = Own::new();
        let id = own.release("v1");
        let decision = own.story.join(&id, "h4").decision;
        let off = TimeDelta::minutes(minutes);
        others_speak(&mut own, off, 1);
        own.story.pass(30);
        others_speak(&mut own, off, 2);
        own.certified(&decision);
        match refuses {
            true => own.rejected(RejectReason::Clock),
            false => own.acknowledged(),
        }
    }
}

#[test]
fn a_host_whose_key_was_revoked_refuses_and_still_starts_from_its_own_store() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    let mut fleet = own.story.fleet.clone();
    fleet["hosts"].as_object_mut().unwrap().remove("h4");
    let hash = own.story.accept_fleet(fleet);
    own.hears(hash);
    own.certified(&decision);
    assert_eq!(own.switches(), 0);
    assert!(
        own.notes
            .iter()
            .any(|note| matches!(note, Note::DispatchRejected { reason: RejectReason::Revoked, .. }))
    );
    own.restarts();
    assert_eq!(own.state(&id), Some(HostState::Pending));
}

#[test]
fn a_closure_that_the_operators_did_not_sign_for_this_host_is_refused() {
    let mut own = Own::new();
    let id = own.release("v1");
    let mut decision = own.story.join(&id, "h4").decision;
    let DecisionBody::Dispatch { target_closure, .. } = &mut decision.body else { panic!() };
    *target_closure = closure("evil");
    own.certified(&decision);
    own.rejected(RejectReason::NotMyTarget);
}

#[test]
fn a_ref_that_its_operators_no_longer_sign_is_refused() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    let two = json!({
        "alice": key_of("alice").public().to_openssh(), "bob": key_of("bob").public().to_openssh(),
    });
    let hash = own.story.changed_fleet(&[("/operators", two), ("/thresholds/channelRef", 2.into())]);
    own.hears(hash);
    own.certified(&decision);
    own.rejected(RejectReason::RefSignature);
}

#[test]
fn a_ref_that_expired_or_is_stale_is_refused() {
    let mut own = Own::new();
    let at = (own.story.now + TimeDelta::seconds(60)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let id = own.story.release_on("stable", "v1", &[("/expiresAt", at.into())]);
    own.hears_ref(&id);
    own.story.pass(60);
    own.dispatched(&id);
    own.rejected(RejectReason::RefExpired);

    let mut own = Own::new();
    let id = own.release("v1");
    own.story.pass(1440 * 60 + 1);
    own.dispatched(&id);
    own.rejected(RejectReason::RefStale);
}

#[test]
fn a_ref_older_than_one_that_ran_here_is_refused() {
    let mut own = Own::new();
    let old = own.release("v1");
    let decision = own.story.join(&old, "h4").decision;
    let id = own.release("v2");
    own.dispatched(&id);
    own.switched(&id, 1, "v0");
    let (rollout, observed) = (id.clone(), Some(closure("v0")));
    own.step(Input::Host(HostReport::RollbackEnded { rollout, exit_code: 0, observed }));
    assert_eq!(own.state(&id), Some(HostState::Reverted));
    own.said.clear();
    own.orders.clear();
    own.certified(&decision);
    own.rejected(RejectReason::RefDowngrade);
}

#[test]
fn a_quarantined_closure_is_refused() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    own.story.join(&id, "h3");
    let envelope = own.story.fails("h3", &id);
    let cause = muster_core::wire::Cause::Reported { envelope };
    let derived = own.story.claims(&id, "h3", HostState::Failed, cause);
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap();
    own.certified(&quarantine.decision);
    own.certified(&decision);
    own.rejected(RejectReason::Quarantined);
}

#[test]
fn a_dispatch_from_before_this_incarnation_is_refused() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    let decision = story.join(&id, "h4").decision;
    story.pass(10);
    let mut own = Own::fresh(story);
    own.hears_fleet();
    own.hears_ref(&id);
    own.runs("v0");
    own.certified(&decision);
    own.rejected(RejectReason::TooLate);
}

#[test]
fn a_host_under_way_in_another_rollout_is_busy() {
    let mut own = Own::new();
    let old = own.release("v1");
    own.dispatched(&old);
    own.said.clear();
    own.orders.clear();
    let id = own.release("v2");
    own.dispatched(&id);
    own.rejected(RejectReason::Busy);
}

#[test]
fn a_closure_of_another_backend_is_refused() {
    let mut own = Own::new();
    let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-system";
    assert!(path.parse::<Closure>().is_ok());
    let id = own.story.release_on("stable", "v1", &[("/targets", json!({ "h4": path }))]);
    own.hears_ref(&id);
    own.dispatched(&id);
    own.rejected(RejectReason::Backend);
}
