//! What publishing a ref would do, asked before it is signed.

use muster_core::gate::{Gate, Reason};
use muster_core::presence::Reach;
use muster_core::preview::{Known, Preview, PreviewError};
use muster_core::wire::RolloutState;
use muster_signing::{Namespace, verify_document};
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn canary_first() -> Value {
    json!({ "waves": [
        { "selector": { "hosts": ["h1", "h4"] }, "soakSeconds": 60, "promotion": "manual" },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ] })
}

/// The ref as it is before anybody signs it.
fn foresee(story: &Story, document: &Value) -> Result<Preview, PreviewError> {
    let bytes = document.to_string().into_bytes();
    let unsigned = verify_document(Namespace::ChannelRef, bytes, Vec::new());
    Known::of(&story.view(), story.now).foresee(&unsigned)
}

/// Of a host: whether it goes first, and the gates that hold it.
fn told(preview: &Preview, name: &str) -> (bool, Vec<Gate>) {
    let mut hosts = preview.waves.iter().flat_map(|wave| &wave.hosts);
    let found = hosts.find(|it| it.host == host(name)).unwrap();
    (found.first, found.held_by.iter().map(|blocked| blocked.gate).collect())
}

#[test]
fn an_unsigned_ref_shows_who_goes_first_and_which_gates_hold_the_others() {
    let mut fleet = fleet_of(&HOSTS, canary_first());
    fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    let mut story = Story::new(fleet);
    story.pass(91);
    for name in ["h2", "h4"] {
        story.speaks(name);
    }
    let document = story.ref_document("stable", "v1", &[]);
    let before = format!("{:?}", story.ledger.rollouts());
    let preview = foresee(&story, &document).unwrap();
    assert_eq!((preview.rollout.as_str(), preview.refreshes), ("stable@v1", false));
    assert_eq!((preview.signed, preview.needed), (0, 1));
    assert_eq!(told(&preview, "h1"), (true, vec![]));
    assert_eq!(told(&preview, "h4"), (false, vec![Gate::Budget]));
    assert_eq!(told(&preview, "h2"), (false, vec![Gate::Wave, Gate::Promotion, Gate::Budget]));
    assert_eq!(told(&preview, "h3"), (false, vec![Gate::Wave, Gate::Promotion, Gate::Budget, Gate::Online]));
    let reach = |name: &str| {
        preview.waves.iter().flat_map(|wave| &wave.hosts).find(|it| it.host == host(name)).unwrap().reach
    };
    assert_eq!((reach("h3"), reach("h4")), (Reach::Offline, Reach::Online));
    assert_eq!(format!("{:?}", story.ledger.rollouts()), before, "nothing has changed");
    assert!(story.ledger.documents().channel_refs().next().is_none());
}

#[test]
fn what_is_foreseen_is_what_the_planner_then_does() {
    let mut story = Story::new(fleet_of(&HOSTS, canary_first()));
    let document = story.ref_document("stable", "v1", &[]);
    let preview = foresee(&story, &document).unwrap();
    story.accept(&signed(Namespace::ChannelRef, &document)).unwrap();
    story.plan();
    for name in HOSTS {
        let dispatched = story.ledger.slots().of(&host(name)).next().is_some();
        assert_eq!(told(&preview, name).0, dispatched, "{name}");
    }
}

#[test]
fn a_successor_says_whose_place_it_takes_and_who_is_busy_there() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let old = story.release("v1");
    story.join(&old, "h4");
    story.acks("h4", &old);
    let document =
        story.ref_document("stable", "v2", &[("/targets", json!({ "h3": "dir:v2", "h4": "dir:v2" }))]);
    let preview = foresee(&story, &document).unwrap();
    assert_eq!(preview.supersedes, [(old, RolloutState::Active)]);
    assert_eq!(preview.left_out, ["h1", "h2"].map(host).into());
    assert_eq!(told(&preview, "h3"), (true, vec![]));
    assert_eq!(told(&preview, "h4"), (false, vec![Gate::Busy]));
}

#[test]
fn a_published_ref_and_its_refresh_show_how_things_stand() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let document = story.ref_document("stable", "v1", &[]);
    story.accept(&signed(Namespace::ChannelRef, &document)).unwrap();
    story.plan();
    let id = rollout("stable@v1");
    story.converges("h4", &id);
    for changed in [document.clone(), with(document, &[("/serial", 50.into())])] {
        let preview = foresee(&story, &changed).unwrap();
        assert!(preview.refreshes && preview.supersedes.is_empty());
        assert_eq!(told(&preview, "h4"), (false, vec![]));
    }
}

#[test]
fn what_would_be_refused_is_refused_here() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let old = story.ref_document("stable", "v1", &[]);
    story.publish("stable", "v2", &[]);
    assert!(matches!(foresee(&story, &old), Err(PreviewError::Refused(_))), "an older serial");
    let named = story.ref_document("stable", "v2", &[("/targets", json!({ "h1": "dir:x" }))]);
    assert!(matches!(foresee(&story, &named), Err(PreviewError::Refused(_))), "a name that is taken");
    let stranger = story.ref_document("stable", "v3", &[("/targets", json!({ "h9": "dir:x" }))]);
    assert!(matches!(foresee(&story, &stranger), Err(PreviewError::Refused(_))), "an unknown host");
    let before = story.ref_document("stable", "v4", &[]);
    story.changed_fleet(&[("/tags", json!({ "late": {} }))]);
    let older = foresee(&story, &before);
    assert!(matches!(older, Err(PreviewError::OlderFleet { .. })), "{older:?}");
    assert!(matches!(foresee(&story, &story.fleet), Err(PreviewError::Refused(_))), "no ref at all");
}

#[test]
fn a_paused_channel_and_a_quarantined_closure_are_foreseen() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    story.command(&json!({ "verb": "pause", "channel": "stable" }));
    let document = story.ref_document("stable", "v1", &[]);
    let preview = foresee(&story, &document).unwrap();
    for wave in &preview.waves {
        for host in &wave.hosts {
            assert!(!host.first);
            let [blocked] = &host.held_by[..] else { panic!("{:?}", host.held_by) };
            assert!(matches!(blocked.reason, Reason::Paused { .. }), "{blocked}");
        }
    }
}

#[test]
fn a_thousand_hosts_are_foreseen_in_one_go() {
    let names: Vec<String> = (1..=1000).map(|number| format!("h{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let waves = json!({ "waves": [
        { "selector": { "tags": ["coordinator"] }, "soakSeconds": 0 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ] });
    let mut fleet = fleet_of(&names, waves);
    fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlightPct": 10 }]);
    let mut story = Story::new(fleet);
    let document = story.ref_document("stable", "v1", &[]);
    let preview = foresee(&story, &document).unwrap();
    assert_eq!(preview.waves[1].hosts.len(), 997);
    assert!(told(&preview, "h3").0 && !told(&preview, "h4").0);
}
