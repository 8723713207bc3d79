//! Which verb fits when: the whole table, and each refusal with its own sentence.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::document::Command;
use muster_core::id::{ChannelId, Closure};
use muster_core::verbs::{
    Coordinating, Lifted, Misfit, Readiness, RolloutVerb, Skippable, Stage, effect, fits, on_rollout,
    promotes, readmits, skips,
};
use muster_core::wire::{Cause, DecisionId, HostState};
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// Every case that a verb can meet, by name, and what is said to it.
fn table() -> Vec<(String, Result<(), Misfit>)> {
    let (id, newest, h4) = (rollout("stable@v1"), rollout("stable@v2"), host("h4"));
    let mut table = Vec::new();
    for verb in RolloutVerb::ALL {
        for stage in Stage::ALL {
            let newest = (stage == Stage::Superseded).then_some(&newest);
            table.push((format!("{} {stage:?}", verb.name()), on_rollout(verb, stage, &id, newest)));
        }
    }
    use Readiness as R;
    for readiness in [R::NoSuchWave, R::Last, R::OpensByItself, R::Promoted, R::Waits] {
        table.push((format!("promote wave {readiness:?}"), promotes(&id, 0, 2, readiness)));
    }
    use Skippable as S;
    for skippable in [S::NoPart, S::Skipped, S::Converged, S::Waits] {
        table.push((format!("skip in one {skippable:?}"), skips(&h4, Some(&id), skippable)));
        table.push((format!("skip in all {skippable:?}"), skips(&h4, None, skippable)));
    }
    use Coordinating as C;
    for coordinating in [C::No, C::Works, C::Stopped, C::Unknown] {
        table.push((format!("readmit {coordinating:?}"), readmits(&h4, coordinating)));
    }
    let (channel, closure): (ChannelId, Closure) = ("stable".parse().unwrap(), closure("v1"));
    let set = |indices: &[u64]| -> BTreeSet<DecisionId> {
        indices.iter().map(|log_index| DecisionId { log_index: *log_index, ordinal: 0 }).collect()
    };
    for (case, named, standing, suspect) in [
        ("named, standing", set(&[4]), set(&[4]), false),
        ("none named, suspect here", set(&[]), set(&[]), true),
        ("none named, none standing", set(&[]), set(&[]), false),
        ("none named, one standing", set(&[]), set(&[4]), false),
        ("another named", set(&[5]), set(&[4]), false),
    ] {
        let lifted = Lifted { named: &named, standing: &standing, suspect };
        table.push((format!("clear closure, {case}"), lifted.check(&channel, &closure)));
    }
    table
}

#[test]
fn every_pair_of_verb_and_case_is_legal_or_has_a_sentence_of_its_own_and_a_way_out() {
    let table = table();
    let mut sentences: BTreeMap<String, &str> = BTreeMap::new();
    let mut text = String::new();
    for (case, answer) in &table {
        match answer {
            Ok(()) => text.push_str(&format!("{case:<40} fits\n")),
            Err(misfit) => {
                let (why, instead) = (misfit.to_string(), misfit.way_out());
                text.push_str(&format!("{case:<40} {why}; {instead}\n"));
                assert!(!why.ends_with('.') && !instead.is_empty(), "{case}: {why}");
                let twin = sentences.insert(why.clone(), case);
                assert_eq!(twin, None, "{case} has the same sentence: {why}");
            }
        }
    }
    // Shown by `cargo test -- --nocapture`, and with a test that fails.
    print(&text);
    let fits = |verb: &str| -> Vec<&str> {
        let of_it = table.iter().filter(|(_, answer)| answer.is_ok());
        of_it.filter_map(|(case, _)| case.strip_prefix(verb)?.strip_prefix(' ')).collect()
    };
    assert_eq!(fits("pause"), ["Opening", "Active", "Converging", "Terminal"]);
    assert_eq!(fits("resume").len(), Stage::ALL.len());
    assert_eq!(fits("cancel"), ["Opening", "Active", "Converging"]);
    assert_eq!(fits("promote"), ["Opening", "Active", "Converging", "wave Waits"]);
    assert_eq!(
        fits("clear"),
        ["Reverted", "Failed", "Cancelled", "closure, named, standing", "closure, none named, suspect here"]
    );
    assert_eq!(fits("skip"), ["Opening", "Active", "Converging", "in one Waits", "in all Waits"]);
    assert_eq!(fits("readmit"), ["Stopped", "Unknown"]);
}

#[expect(clippy::print_stdout, reason = "the table is for people, and the test runner shows it on demand")]
fn print(text: &str) {
    println!("{text}");
}

fn command(order: &Value) -> Command {
    let mut document = json!({
        "kind": "muster/command/1", "fleet": FLEET, "serial": 900, "signedAt": "2026-11-21T10:00:00Z",
        "reason": "because",
    });
    for (name, value) in order.as_object().unwrap() {
        document[name] = value.clone();
    }
    Command::parse(document.to_string().as_bytes()).unwrap()
}

/// What publishing an order would be told: nothing if it fits.
fn said(story: &Story, order: &Value) -> String {
    let answer = fits(&story.view(), &command(order), |_| Coordinating::Unknown, story.now);
    answer.err().map(|misfit| misfit.to_string()).unwrap_or_default()
}

fn two_waves(manual: bool) -> Value {
    let promotion = if manual { "manual" } else { "auto" };
    json!({ "waves": [
        { "selector": { "hosts": ["h1"] }, "soakSeconds": 0, "promotion": promotion },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ] })
}

#[test]
fn a_scope_is_resumed_if_and_only_if_that_very_scope_is_paused() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    story.release("v1");
    let resume = json!({ "verb": "resume", "rollout": "stable@v1" });
    assert_eq!(said(&story, &resume), "rollout stable@v1 is not paused");
    let pause = json!({ "verb": "pause", "channel": "stable" });
    assert_eq!(said(&story, &pause), "");
    story.accept_command(&pause);
    assert_eq!(said(&story, &pause), "channel stable is paused already: because");
    assert_eq!(
        said(&story, &resume),
        "rollout stable@v1 is not paused by itself; what is paused is channel stable"
    );
    assert_eq!(said(&story, &json!({ "verb": "resume", "channel": "stable" })), "");
}

#[test]
fn a_pause_that_lasts_longer_takes_the_place_of_a_shorter_one() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let until = |hours: i64| (story.now + chrono::TimeDelta::hours(hours)).to_rfc3339();
    let pause = |ends: &str| json!({ "verb": "pause", "host": "h4", "expiresAt": ends });
    let (one, two, three) = (until(1), until(2), until(3));
    story.accept_command(&pause(&two));
    assert_eq!(said(&story, &pause(&one)), "host h4 is paused already: because");
    assert_eq!(said(&story, &pause(&three)), "");
    assert_eq!(said(&story, &json!({ "verb": "pause", "host": "h4" })), "");
}

#[test]
fn a_promotion_is_of_a_wave_that_waits_for_it() {
    let mut story = Story::new(fleet_of(&HOSTS, two_waves(true)));
    let promote = |wave: u32| json!({ "verb": "promote", "rollout": "stable@v1", "wave": wave });
    assert_eq!(said(&story, &promote(0)), "no rollout stable@v1 is known here: nothing to promote");
    story.release("v1");
    assert_eq!(said(&story, &promote(0)), "");
    assert!(said(&story, &promote(1)).starts_with("wave 2 is the last one"));
    assert_eq!(said(&story, &promote(7)), "stable@v1 has no wave 8: its waves are 1 to 2");
    let hash = story.command(&promote(0));
    assert_eq!(said(&story, &promote(0)), "wave 1 of stable@v1 was promoted before");
    let held = story.ledger.documents().command(&hash).unwrap().clone();
    let effect = effect(&story.view(), &held, story.now);
    assert!(effect.in_effect);
    assert_eq!(effect.held, ["h2", "h3", "h4"].map(host).into(), "wave 1 has to be done first");

    let mut story = Story::new(fleet_of(&HOSTS, two_waves(false)));
    story.release("v1");
    assert!(said(&story, &promote(0)).contains("needs no promotion"));
}

#[test]
fn a_rollout_is_cleared_when_it_failed_and_a_closure_while_it_is_barred() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    let clear = json!({ "verb": "clear", "rollout": "stable@v1" });
    assert!(said(&story, &clear).starts_with("stable@v1 has only just opened"));
    story.join(&id, "h4");
    assert!(said(&story, &clear).starts_with("stable@v1 is under way"));
    let envelope = story.fails("h4", &id);
    let derived = story.claims(&id, "h4", HostState::Failed, Cause::Reported { envelope });
    assert_eq!(said(&story, &clear), "");
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap().clone();
    let of =
        |ids: Value| json!({ "verb": "clear", "channel": "stable", "closure": "dir:v1", "quarantines": ids });
    assert_eq!(said(&story, &of(json!([]))), "dir:v1 is not quarantined on stable");
    story.certify(&quarantine);
    let DecisionId { log_index, ordinal } = quarantine.decision.id();
    assert!(said(&story, &of(json!([]))).contains(&format!("which are {log_index}.{ordinal}")));
    assert_eq!(said(&story, &of(json!([{ "logIndex": log_index, "ordinal": ordinal }]))), "");
    assert!(said(&story, &of(json!([{ "logIndex": 999, "ordinal": 0 }]))).contains("no quarantine 999.0"));
    let hash = story.command(&clear);
    story.plan();
    let held = story.ledger.documents().command(&hash).unwrap().clone();
    let effect = effect(&story.view(), &held, story.now);
    assert_eq!((effect.in_effect, effect.barred), (true, [closure("v1")].into()));
    assert_eq!(effect.held, ["h1", "h2", "h3"].map(host).into(), "the quarantine still holds them");
}

#[test]
fn a_host_is_skipped_where_something_waits_for_it() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let skip = json!({ "verb": "skip", "host": "h4" });
    assert!(said(&story, &skip).starts_with("h4 is in no open rollout"));
    let id = story.release_on("stable", "v1", &[("/targets", json!({ "h1": "dir:v1", "h4": "dir:v1" }))]);
    assert_eq!(said(&story, &skip), "");
    let in_it = |name: &str| json!({ "verb": "skip", "host": name, "rollout": "stable@v1" });
    assert_eq!(said(&story, &in_it("h3")), "stable@v1 has no target for h3, and h3 holds no slot in it");
    story.done(&id, "h1");
    assert!(said(&story, &in_it("h1")).starts_with("h1 has converged in stable@v1"));
    story.command(&in_it("h4"));
    assert_eq!(said(&story, &in_it("h4")), "h4 was skipped in stable@v1 before");
    assert_eq!(said(&story, &skip), "h4 was skipped before");
}

#[test]
fn a_failed_host_of_a_rollout_that_is_over_is_skipped_for_its_slot() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    story.join(&id, "h4");
    let envelope = story.fails("h4", &id);
    story.claims(&id, "h4", HostState::Failed, Cause::Reported { envelope });
    let skip = |name: &str| json!({ "verb": "skip", "host": name, "rollout": "stable@v1" });
    assert_eq!(said(&story, &skip("h4")), "", "it failed and keeps its slot");
    assert!(said(&story, &skip("h3")).starts_with("stable@v1 has failed: it waits for no host"));
    let cancel = json!({ "verb": "cancel", "rollout": "stable@v1" });
    assert!(
        said(&story, &cancel).starts_with("stable@v1 has failed by itself")
            || said(&story, &cancel).starts_with("stable@v1 has failed: it stands still")
    );
}

#[test]
fn a_pause_says_whom_it_holds_and_who_is_under_way() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    story.join(&id, "h4");
    story.acks("h4", &id);
    let hash = story.accept_command(&json!({ "verb": "pause", "channel": "stable" }));
    let held = story.ledger.documents().command(&hash).unwrap().clone();
    let effect = effect(&story.view(), &held, story.now);
    assert!(effect.in_effect, "before any coordinator says so");
    assert_eq!(effect.held, ["h1", "h2", "h3"].map(host).into());
    assert_eq!(effect.in_flight, [host("h4")].into());
    assert!(effect.free.is_empty());
}
