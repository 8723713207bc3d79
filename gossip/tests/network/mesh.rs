//! Gossip: what is accepted travels on, what is not does not.

use std::sync::Arc;

use muster_gossip::{Event, Topic};

use crate::host::{FALSE, Host, UNJUDGED, config, fleet, roster};
use crate::store::Store;

/// Three hosts in a row: the ends do not know each other.
async fn row() -> [Host; 3] {
    let mut row = Vec::new();
    for seed in 1..=3 {
        row.push(Host::start(config(seed), Arc::new(Store::new())).await);
    }
    let rosters = [
        roster(&[&row[0], &row[1]], 1, 1),
        roster(&[&row[0], &row[1], &row[2]], 1, 1),
        roster(&[&row[1], &row[2]], 1, 1),
    ];
    for (host, roster) in row.iter().zip(rosters) {
        host.network.set_roster(roster);
    }
    let row: [Host; 3] = row.try_into().ok().unwrap();
    row[0].meshed(row[1].key()).await;
    row[1].meshed(row[2].key()).await;
    row[1].meshed(row[0].key()).await;
    row
}

#[tokio::test]
async fn message_reaches_the_other_host() {
    let mut hosts = fleet(2, 1, |_| {}).await;
    hosts[0].meshed(hosts[1].key()).await;
    hosts[1].meshed(hosts[0].key()).await;
    hosts[0].network.publish(Topic::Events, b"there".to_vec());
    let from = hosts[1].message(b"there").await;
    assert_eq!(from, hosts[0].key());
    hosts[1].network.publish(Topic::Presence, b"and back".to_vec());
    hosts[0].message(b"and back").await;
}

#[tokio::test]
async fn accepted_message_is_forwarded_and_others_are_not() {
    let [first, mut middle, mut last] = row().await;
    for refused in [FALSE, UNJUDGED] {
        first.network.publish(Topic::Events, refused.to_vec());
        middle.message(refused).await;
    }
    first.network.publish(Topic::Events, b"true".to_vec());
    let from = last.message(b"true").await;
    assert_eq!(from, middle.key(), "the one that forwarded it");
    let refused = |event: &Event| matches!(event, Event::Message { bytes, .. } if bytes != b"true");
    assert!(!last.seen.iter().any(refused), "{:?}", last.seen);
    assert_eq!(middle.network.counters().rejected, 1);
}

#[tokio::test]
async fn too_large_message_is_not_gossiped() {
    let mut hosts = fleet(2, 1, |_| {}).await;
    hosts[0].meshed(hosts[1].key()).await;
    hosts[0].network.publish(Topic::Documents, vec![0; muster_gossip::limits::MESSAGE_BYTES_MAX + 1]);
    let largest = vec![1; muster_gossip::limits::MESSAGE_BYTES_MAX];
    hosts[0].network.publish(Topic::Documents, largest.clone());
    hosts[1].message(&largest).await;
    assert_eq!(hosts[0].network.counters().publishes_dropped, 1);
}

#[tokio::test]
async fn peer_that_forwards_false_messages_is_no_longer_heard() {
    let mut hosts = fleet(2, 1, |_| {}).await;
    hosts[0].meshed(hosts[1].key()).await;
    let mut rejected = 0;
    for number in 0..=muster_gossip::limits::REJECTS_MAX {
        let message = [FALSE, &number.to_be_bytes()].concat();
        hosts[0].network.publish(Topic::Events, message.clone());
        hosts[1].message(&message).await;
        rejected += 1;
    }
    assert_eq!(hosts[1].network.counters().rejected, rejected);
    hosts[0].network.publish(Topic::Events, b"true at last".to_vec());
    // What it says in sync is still heard: it is a member, and may be a coordinator that everybody needs.
    hosts[0].store.add(muster_gossip::Item::Decision(crate::store::item(1, 1, 0, b"")));
    hosts[1].store.until(|store| store.count(muster_gossip::Section::Decisions) == 1).await;
    assert!(!hosts[1].seen.iter().any(|event| matches!(event, Event::Message { .. })));
}
