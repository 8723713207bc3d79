//! Stories of whole fleets in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a story that goes wrong is told")]

mod common;

use std::time::Duration;

use muster_core::document::{Acceptance, Documents};
use muster_core::node::Note;
use muster_core::wire::{HostState, RolloutState};
use muster_sim::Lie;
use muster_sim::World;
use muster_sim::fleet::Fleet;
use serde_json::json;

use common::{MINUTES, reaches};

fn policy() -> serde_json::Value {
    json!({
        "waves": [
            { "selector": { "hosts": ["h1"] }, "soakSeconds": 5 },
            { "selector": { "hosts": ["h2", "h3"] }, "soakSeconds": 2 },
            { "selector": { "all": true }, "soakSeconds": 0 },
        ],
        "sustainedFailureSeconds": 3,
    })
}

/// A fleet whose first release is out.
fn fleet(seed: u64, hosts: usize, coordinators: usize) -> World {
    let mut world = World::new(seed, hosts);
    let document = world.fleet.publish_fleet(world.utc(), coordinators, policy(), json!([]));
    world.publish("h1", document);
    world.run_until(Duration::from_secs(30), |_| false);
    world
}

fn release(world: &mut World, name: &str) {
    let document = world.fleet.publish_ref(world.utc(), name, &format!("dir:{name}"));
    world.publish("h1", document);
}

fn everybody(world: &World, hosts: usize, check: impl Fn(&World, &str) -> bool) -> bool {
    (1..=hosts).all(|n| check(world, &format!("h{n}")))
}

#[test]
fn a_release_reaches_every_host_in_waves() {
    for (hosts, coordinators) in [(3, 1), (3, 2), (5, 3)] {
        let mut world = fleet(1, hosts, coordinators);
        release(&mut world, "v1");
        reaches(&mut world, "v1 is Terminal", |world| {
            everybody(world, hosts, |world, host| {
                world.rollout_state(host, "stable@v1") == Some(RolloutState::Terminal)
            })
        });
        for n in 1..=hosts {
            let host = format!("h{n}");
            assert_eq!(world.running(&host).unwrap().as_str(), "dir:v1");
            assert_eq!(world.activations(&host).len(), 1);
            assert_eq!(world.host_state(&host, "stable@v1"), Some(HostState::Converged));
        }
    }
}

#[test]
fn a_bad_release_is_undone_and_quarantined() {
    let mut world = fleet(2, 5, 3);
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h5", "stable@v1") == Some(RolloutState::Terminal)
    });
    world.health.unhealthy.insert("dir:v2".parse().unwrap());
    release(&mut world, "v2");
    reaches(&mut world, "v2 is Reverted and quarantined everywhere", |world| {
        everybody(world, 5, |world, host| {
            world.rollout_state(host, "stable@v2") == Some(RolloutState::Reverted)
                && world.node(host).unwrap().ledger().quarantines().count() == 1
        })
    });
    assert!(everybody(&world, 5, |world, host| world.running(host).unwrap().as_str() == "dir:v1"));
    assert_eq!(world.host_state("h1", "stable@v2"), Some(HostState::Reverted));
    assert_eq!(world.host_state("h5", "stable@v2"), None);
}

#[test]
fn another_coordinator_takes_over_when_the_elected_one_dies() {
    let mut world = fleet(3, 5, 3);
    release(&mut world, "v1");
    reaches(&mut world, "the first host soaks", |world| {
        world.host_state("h1", "stable@v1") == Some(HostState::Soaking)
    });
    let leader = world.leader().unwrap();
    world.kill(&leader);
    reaches(&mut world, "another leads", |world| world.leader().is_some());
    world.start(&leader);
    reaches(&mut world, "v1 is Terminal", |world| {
        everybody(world, 5, |world, host| {
            world.rollout_state(host, "stable@v1") == Some(RolloutState::Terminal)
        })
    });
    assert!(everybody(&world, 5, |world, host| world.activations(host).len() == 1));
}

#[test]
fn sync_alone_carries_a_rollout() {
    let mut world = World::new(4, 3);
    world.gossip_lost = true;
    let document = world.fleet.publish_fleet(world.utc(), 1, policy(), json!([]));
    world.publish("h1", document);
    world.run_until(Duration::from_secs(60), |_| false);
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        everybody(world, 3, |world, host| {
            world.rollout_state(host, "stable@v1") == Some(RolloutState::Terminal)
        })
    });
}

#[test]
fn clearing_a_failed_rollout_that_a_newer_one_has_replaced_changes_nothing() {
    let mut world = fleet(5, 3, 1);
    world.health.unhealthy.insert("dir:v1".parse().unwrap());
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Reverted", |world| {
        world.rollout_state("h1", "stable@v1") == Some(RolloutState::Reverted)
    });
    release(&mut world, "v2");
    reaches(&mut world, "v2 is Terminal", |world| {
        world.rollout_state("h1", "stable@v2") == Some(RolloutState::Terminal)
    });
    let clear = json!({ "verb": "clear", "rollout": "stable@v1" });
    let command = world.fleet.sign_command(world.utc(), clear);
    world.publish("h1", command);
    assert!(!world.run_until(MINUTES, |world| {
        world.rollout_state("h1", "stable@v1") != Some(RolloutState::Reverted)
    }));
    assert_eq!(world.running("h3").unwrap().as_str(), "dir:v2");
}

#[test]
fn host_that_missed_a_fleet_document_learns_it_with_what_was_decided_under_it() {
    let mut world = fleet(6, 5, 3);
    let absent = "h5".parse().unwrap();
    world.kill(&absent);
    // It counts as offline by then, so nobody waits for it.
    world.run_until(Duration::from_secs(60), |_| false);
    let second = world.fleet.publish_fleet(world.utc(), 3, policy(), json!([]));
    world.publish("h1", second);
    release(&mut world, "v1");
    reaches(&mut world, "v1 has reached those who are there", |world| {
        world.rollout_state("h1", "stable@v1") == Some(RolloutState::Terminal)
    });
    let third = world.fleet.publish_fleet(world.utc(), 3, policy(), json!([]));
    world.publish("h1", third);
    world.start(&absent);
    let decided = world.node("h1").unwrap().ledger().certified().len();
    reaches(&mut world, "h5 holds every decision", |world| {
        world.node("h5").unwrap().ledger().certified().len() >= decided
    });
}

#[test]
fn refreshes_of_a_ref_are_accepted_in_whatever_order_they_come() {
    let mut fleet = Fleet::new(2, true);
    let at = World::new(0, 1).utc();
    let document = fleet.publish_fleet(at, 1, policy_of_two(), json!([]));
    let [first, second, third] = [(); 3].map(|()| fleet.publish_ref(at, "v1", "dir:v1"));
    let mut documents = Documents::new(vec![fleet.trust()]).unwrap();
    for (document, named) in [(document, false), (second, false), (first, true), (third, false)] {
        let checked =
            if named { documents.check_named(&document, at) } else { documents.check(&document, at) };
        match checked.unwrap() {
            Acceptance::New(accepted) => documents.insert(accepted),
            other @ (Acceptance::Duplicate | Acceptance::Waits { .. }) => panic!("not new: {other:?}"),
        }
    }
}

fn policy_of_two() -> serde_json::Value {
    json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }] })
}

/// A fleet on v1 whose h1 waits for its reboot into v2.
fn deferring(seed: u64) -> World {
    let mut world = fleet(seed, 5, 3);
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h5", "stable@v1") == Some(RolloutState::Terminal)
    });
    world.health.deferred.insert("dir:v2".parse().unwrap());
    release(&mut world, "v2");
    reaches(&mut world, "h1 waits for its reboot", |world| {
        world.host_state("h1", "stable@v2") == Some(HostState::Deferred)
    });
    assert_eq!(world.running("h1").unwrap().as_str(), "dir:v1");
    world
}

#[test]
fn host_that_defers_holds_its_wave_until_it_was_rebooted() {
    let mut world = deferring(7);
    assert!(!world.run_until(MINUTES, |world| world.host_state("h2", "stable@v2").is_some()));
    world.health.deferred.clear();
    world.reboot(&"h1".parse().unwrap(), true);
    reaches(&mut world, "v2 is Terminal", |world| {
        world.rollout_state("h5", "stable@v2") == Some(RolloutState::Terminal)
    });
    assert_eq!(world.running("h1").unwrap().as_str(), "dir:v2");
}

#[test]
fn host_that_comes_up_on_what_ran_before_has_failed() {
    let mut world = deferring(8);
    world.reboot(&"h1".parse().unwrap(), false);
    reaches(&mut world, "v2 is Reverted", |world| {
        world.rollout_state("h5", "stable@v2") == Some(RolloutState::Reverted)
    });
    assert_eq!(world.host_state("h1", "stable@v2"), Some(HostState::Reverted));
    assert_eq!(world.running("h1").unwrap().as_str(), "dir:v1");
}

#[test]
fn host_that_waits_for_its_reboot_takes_the_target_back_when_the_rollout_is_cancelled() {
    let mut world = deferring(9);
    let cancel = json!({ "verb": "cancel", "rollout": "stable@v2" });
    let command = world.fleet.sign_command(world.utc(), cancel);
    world.publish("h5", command);
    reaches(&mut world, "h1 is Reverted", |world| {
        world.host_state("h1", "stable@v2") == Some(HostState::Reverted)
    });
    world.reboot(&"h1".parse().unwrap(), true);
    assert_eq!(world.running("h1").unwrap().as_str(), "dir:v1");
}

#[test]
fn reboot_for_an_older_release_undoes_nothing_of_a_newer_one() {
    let mut world = deferring(10);
    release(&mut world, "v3");
    reaches(&mut world, "v3 is Terminal", |world| {
        world.rollout_state("h5", "stable@v3") == Some(RolloutState::Terminal)
    });
    world.reboot(&"h1".parse().unwrap(), true);
    world.run_until(MINUTES, |_| false);
    assert_eq!(world.running("h1").unwrap().as_str(), "dir:v3");
    assert_eq!(world.activations("h1").len(), 3);
}

fn feed_of<'w>(world: &'w World, at: &str, of: &str) -> &'w muster_core::ledger::Feed {
    world.node(at).unwrap().ledger().feed(&of.parse().unwrap()).unwrap()
}

/// A fleet in which h4 soaks in a release of which its wave has yet to be done.
fn soaking(seed: u64) -> World {
    let mut world = World::new(seed, 5);
    let policy = json!({
        "waves": [{ "selector": { "all": true }, "soakSeconds": 30 }], "healthGate": { "maxFailures": 2 },
    });
    let document = world.fleet.publish_fleet(world.utc(), 3, policy, json!([]));
    world.publish("h1", document);
    world.run_until(Duration::from_secs(30), |_| false);
    release(&mut world, "v1");
    world
}

#[test]
fn host_that_lost_its_disk_begins_anew_and_its_release_is_not_blamed() {
    let mut world = soaking(11);
    reaches(&mut world, "h4 soaks", |world| world.host_state("h4", "stable@v1") == Some(HostState::Soaking));
    let before = feed_of(&world, "h1", "h4").incarnation();
    world.lose_disk(&"h4".parse().unwrap());
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h1", "stable@v1") == Some(RolloutState::Terminal)
    });
    assert!(feed_of(&world, "h1", "h4").incarnation() > before);
    assert!(!feed_of(&world, "h1", "h4").is_forked());
    assert_eq!(world.node("h1").unwrap().ledger().quarantines().count(), 0);
    release(&mut world, "v2");
    reaches(&mut world, "h4 takes the next release", |world| {
        world.host_state("h4", "stable@v2") == Some(HostState::Converged)
    });
}

#[test]
fn host_whose_disk_was_put_back_signs_no_second_history() {
    let mut world = soaking(12);
    let host = "h4".parse().unwrap();
    reaches(&mut world, "h4 activates", |world| world.host_state("h4", "stable@v1").is_some());
    world.keep_disk(&host);
    reaches(&mut world, "h4 has converged", |world| {
        world.host_state("h4", "stable@v1") == Some(HostState::Converged)
    });
    world.run_until(Duration::from_secs(5), |_| false);
    let before = feed_of(&world, "h1", "h4").incarnation();
    world.put_disk_back();
    reaches(&mut world, "h4 begins a new incarnation", |world| {
        feed_of(world, "h1", "h4").incarnation() > before
    });
    release(&mut world, "v2");
    reaches(&mut world, "h4 takes the next release", |world| {
        world.host_state("h4", "stable@v2") == Some(HostState::Converged)
    });
    assert!(everybody(&world, 3, |world, host| !feed_of(world, host, "h4").is_forked()));
    assert_eq!(world.activations("h4").len(), 2);
}

#[test]
fn two_machines_with_one_key_are_found_out_and_hold_nobody_else_up() {
    let mut world = soaking(13);
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h1", "stable@v1") == Some(RolloutState::Terminal)
    });
    world.clone_machine(&"h4".parse().unwrap());
    world.run_until(Duration::from_secs(30), |_| false);
    release(&mut world, "v2");
    reaches(&mut world, "the others converge", |world| {
        ["h1", "h2", "h3", "h5"]
            .iter()
            .all(|host| world.host_state(host, "stable@v2") == Some(HostState::Converged))
    });
    let told = |world: &World| {
        world.notes.iter().any(|(_, _, note)| {
            matches!(note, Note::Alarm { message } if message.contains("h4 signed two histories")
                || message.contains("another machine signs"))
        })
    };
    assert!(told(&world));
}

fn alarmed(world: &World, says: &str) -> Vec<String> {
    let of = world
        .notes
        .iter()
        .filter(|(_, _, note)| matches!(note, Note::Alarm { message } if message.contains(says)));
    of.map(|(_, host, _)| host.to_string()).collect()
}

#[test]
fn host_that_tells_two_histories_is_shown_to_everybody_and_dispatched_no_more() {
    let mut world = fleet(14, 5, 3);
    world.make_lie("h4", Lie::Fork);
    release(&mut world, "v1");
    reaches(&mut world, "everybody knows", |world| {
        everybody(world, 3, |world, host| feed_of(world, host, "h4").is_forked())
    });
    release(&mut world, "v2");
    reaches(&mut world, "v2 is Terminal without it", |world| {
        world.rollout_state("h1", "stable@v2") == Some(RolloutState::Terminal)
    });
    assert_eq!(world.host_state("h4", "stable@v2"), None);
    assert!(!alarmed(&world, "h4 signed two histories").is_empty());
}

#[test]
fn host_that_floods_its_feed_is_throttled_and_named() {
    let mut world = fleet(15, 5, 3);
    world.make_lie("h4", Lie::Flood);
    world.run_until(Duration::from_secs(50), |_| false);
    release(&mut world, "v1");
    world.run_until(Duration::from_secs(30), |_| false);
    assert!(alarmed(&world, "h4 is throttled").contains(&"h1".to_owned()));
    let held = feed_of(&world, "h1", "h4").head().unwrap().seq;
    assert!(held < 1_000 + 120, "{held} events are held");
    assert!(
        ["h1", "h2", "h3", "h5"].iter().all(|host| world.host_state(host, "stable@v1").is_some()),
        "it holds the others up"
    );
}

fn rules(world: &World, host: &str) -> u32 {
    world.node(host).unwrap().ledger().rules()
}

#[test]
fn rules_are_raised_once_every_coordinator_knows_them() {
    let mut world = fleet(16, 5, 3);
    for host in ["h1", "h2"] {
        world.change_program(&host.parse().unwrap(), 2);
    }
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h5", "stable@v1") == Some(RolloutState::Terminal)
    });
    assert_eq!(rules(&world, "h1"), 1);
    world.change_program(&"h3".parse().unwrap(), 2);
    reaches(&mut world, "the rules are raised", |world| {
        everybody(world, 3, |world, host| rules(world, host) == 2)
    });
    release(&mut world, "v2");
    reaches(&mut world, "v2 is Terminal", |world| {
        world.rollout_state("h5", "stable@v2") == Some(RolloutState::Terminal)
    });
}

#[test]
fn older_program_under_newer_rules_coordinates_no_more_and_holds_nobody_up() {
    let mut world = fleet(17, 5, 3);
    for host in ["h1", "h2", "h3"] {
        world.change_program(&host.parse().unwrap(), 2);
    }
    reaches(&mut world, "the rules are raised", |world| {
        everybody(world, 3, |world, host| rules(world, host) == 2)
    });
    let older = world.leader().unwrap();
    world.change_program(&older, 1);
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h5", "stable@v1") == Some(RolloutState::Terminal)
    });
    assert_ne!(world.leader(), Some(older));
}

#[test]
fn leader_that_claims_rules_nobody_announced_stops_no_other_coordinator() {
    let mut world = fleet(18, 5, 4);
    let leader = world.leader().unwrap();
    world.make_lie(leader.as_str(), Lie::Rules);
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        world.rollout_state("h5", "stable@v1") == Some(RolloutState::Terminal)
    });
    assert!(alarmed(&world, "is of rules 4294967295").len() > 1);
    assert!(alarmed(&world, "this coordinator stops").is_empty());
}

#[test]
fn release_of_an_operator_who_was_replaced_is_dispatched_to_nobody_more() {
    let mut world = fleet(19, 5, 3);
    release(&mut world, "v1");
    reaches(&mut world, "h1 is under way", |world| world.host_state("h1", "stable@v1").is_some());
    world.fleet.change_operator();
    let document = world.fleet.publish_fleet(world.utc(), 3, policy(), json!([]));
    world.publish("h1", document);
    world.run_until(MINUTES, |_| false);
    assert_eq!(world.host_state("h5", "stable@v1"), None);
    assert_eq!(world.rollout_state("h1", "stable@v1"), Some(RolloutState::Active));
    release(&mut world, "v2");
    reaches(&mut world, "v2 is Terminal", |world| {
        world.rollout_state("h1", "stable@v2") == Some(RolloutState::Terminal)
    });
}
