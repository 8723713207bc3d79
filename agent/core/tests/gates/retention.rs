//! What is over: when the log may prune it, and what a store needs to go on without its beginning.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::ledger::{RebuildError, Table, base, checkpoints, key, rebuild, verify};
use muster_core::node::{Input, Node, Output};
use muster_core::time::{Mono, Now};
use muster_core::wire::{RolloutEvent, RolloutState};

use crate::history::{Disk, empty_ledger, long_story};
use crate::kit::*;

/// Writes what a node asks to be written.
fn store(disk: &mut Disk, outputs: Vec<Output>) -> Vec<Input> {
    let mut stored = Vec::new();
    for output in outputs {
        if let Output::Persist { batch, rows } = output {
            disk.write(rows);
            stored.push(Input::Stored { batch });
        }
    }
    stored
}

/// Takes a step and writes what it asks for; whoever is killed between two writes finds a store that leads to what the
/// node knows.
fn step(node: &mut Node, disk: &mut Disk, now: Now, input: Input) {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        let outputs = node.step(now, input);
        inputs.extend(store(disk, outputs));
        let (again, _) = verify(empty_ledger(), &*disk).unwrap();
        assert!(again.state_bytes() == node.ledger().state_bytes(), "at {now:?}");
    }
}

/// The node of a long story, and its store after it has run for so many days.
fn aged(days: u64) -> (Node, Disk) {
    let (_, mut disk) = long_story();
    let day = |n: u64| Now {
        utc: start() + TimeDelta::days(i64::try_from(n).unwrap()),
        mono: Mono(n * 24 * 3_600 * 1_000_000),
    };
    let (mut node, outputs) = node("h4", &disk, day(0).utc);
    for input in store(&mut disk, outputs) {
        step(&mut node, &mut disk, day(0), input);
    }
    for n in 1..=days {
        step(&mut node, &mut disk, day(n), Input::Tick);
    }
    (node, disk)
}

fn arrivals(disk: &Disk) -> BTreeSet<Vec<u8>> {
    disk.0.keys().filter(|(table, _)| *table == Table::Arrivals).map(|(_, key)| key.clone()).collect()
}

#[test]
fn a_store_goes_on_from_a_checkpoint_once_what_lies_before_it_is_old_enough() {
    let (_, young) = aged(10);
    assert_eq!((base(&young).unwrap(), checkpoints(&young).unwrap().len()), (0, 0));
    let (_, older) = aged(80);
    assert_eq!(base(&older).unwrap(), 0);
    assert!(!checkpoints(&older).unwrap().is_empty());
    let (node, old) = aged(150);
    let from = base(&old).unwrap();
    assert!(from > 0);
    assert_eq!(checkpoints(&old).unwrap()[0].position, from);
    assert!(arrivals(&old).iter().all(|position| *position >= key::number(from - 1)));
    assert!(arrivals(&young).len() > arrivals(&old).len());
    // What was signed stays.
    let signed = |disk: &Disk, of| disk.0.keys().filter(|(table, _)| *table == of).count();
    for table in [Table::Documents, Table::Feeds, Table::Decisions, Table::Log] {
        assert!(signed(&old, table) >= signed(&young, table), "{table:?}");
    }
    // The newest rollout of the channel is open, and so is everything that it needs.
    assert_eq!(node.ledger().rollouts()[&rollout("stable@v1")].state, RolloutState::Active);
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_is_made_of_it() {
    let (_, disk) = aged(150);
    let from = base(&disk).unwrap();
    let pieces: Vec<_> = disk.0.keys().filter(|(table, _)| *table == Table::Snapshot).cloned().collect();
    let of_base = pieces.into_iter().filter(|(_, row)| row.starts_with(&key::number(from)));
    for row in of_base {
        let length = disk.0[&row].len();
        for at in [0, length / 3, length / 2, length - 1] {
            let mut flipped = Disk(disk.0.clone());
            flipped.0.get_mut(&row).unwrap()[at] ^= 1;
            match rebuild(empty_ledger(), &flipped) {
                Err(RebuildError::Checkpoint { position, .. }) => assert_eq!(position, from),
                // Of the head, the time at which it was made can be damaged without anybody noticing.
                Ok((again, _)) => {
                    assert_eq!(again.position(), rebuild(empty_ledger(), &disk).unwrap().0.position())
                }
                Err(other) => panic!("{row:?} at {at}: {other}"),
            }
        }
        let mut missing = Disk(disk.0.clone());
        missing.0.remove(&row);
        assert!(matches!(rebuild(empty_ledger(), &missing), Err(RebuildError::Checkpoint { .. })));
    }
}

fn expired(name: &str, at: DateTime<Utc>) -> RolloutEvent {
    RolloutEvent::RetentionExpired { rollout_id: rollout(name), at }
}

#[test]
fn the_log_prunes_what_is_over_and_never_the_newest_of_a_channel() {
    let hosts = ["h1", "h2", "h3", "h4"];
    let mut story = Story::as_host("h4", fleet_of(&hosts, all_at_once()));
    story.release("v1");
    story.release("v2");
    let later = start() + TimeDelta::days(100);
    assert_eq!(story.ledger.rollouts()[&rollout("stable@v1")].state, RolloutState::Superseded);
    assert_eq!(story.ledger.expired(start()).count(), 0, "it ended just now");
    assert_eq!(story.ledger.expired(later).collect::<Vec<_>>(), [&rollout("stable@v1")]);

    assert!(story.says(vec![expired("stable@v2", later)]).is_empty());
    assert_ne!(story.ledger.rollouts()[&rollout("stable@v2")].state, RolloutState::Pruned);
    assert!(story.alarms().iter().any(|alarm| alarm.contains("newest rollout")), "{:?}", story.alarms());

    assert!(story.says(vec![expired("stable@v1", later)]).is_empty(), "no decision follows");
    assert_eq!(story.ledger.rollouts()[&rollout("stable@v1")].state, RolloutState::Pruned);
    assert_eq!(story.ledger.expired(later).count(), 0);
}

#[test]
fn what_a_slot_or_a_quarantine_refers_to_is_not_given_up() {
    let hosts = ["h1", "h2", "h3", "h4"];
    let mut story = Story::as_host("h4", fleet_of(&hosts, all_at_once()));
    let first = story.release("v1");
    story.join(&first, "h1");
    story.release("v2");
    let later = start() + TimeDelta::days(100);
    assert!(story.ledger.refers_to(&first), "h1 holds its slot");
    assert_eq!(story.ledger.expired(later).count(), 0);
    story.converges("h1", &first);
    assert!(!story.ledger.refers_to(&first));
    assert_eq!(story.ledger.expired(later).collect::<Vec<_>>(), [&first]);
}
