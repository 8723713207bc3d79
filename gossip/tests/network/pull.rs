//! Sync: with every gossip message missing, the fleet still converges.

use std::sync::Arc;

use muster_gossip::{Event, Item, Library as _, limits};

use crate::host::{Host, config, fleet, roster, soon};
use crate::store::{Store, envelope, fleet_document, item};

/// Waits until all hosts hold the same.
async fn in_step(hosts: &[Host], wanted: &Store) {
    let wanted = wanted.summary();
    for host in hosts {
        soon("being in step", host.store.until(|store| store.summary() == wanted)).await;
    }
}

#[tokio::test]
async fn sync_alone_carries_everything_among_five_hosts() {
    let hosts = fleet(5, 3, |config| config.publish = false).await;
    let wanted = Store::new();
    let add = |host: usize, item: Item| {
        hosts[host].store.add(item.clone());
        wanted.add(item);
    };
    for (place, host) in hosts.iter().enumerate() {
        let number = place as u64;
        add(place, Item::Document(fleet_document(number + 1, b"fleet")));
        add(place, Item::Document(item(1, number, 0, b"ref")));
        add(place, Item::Proof(item(1, number, 0, b"lie")));
        for index in 0..20 {
            add(place, Item::Decision(item(1, index, number, b"dispatch")));
        }
        for seq in 1..=20 {
            add(place, Item::Envelope(envelope(host.key(), 1, seq, b"converged")));
        }
        add(place, Item::Notice(envelope(host.key(), 1, 9, b"here")));
    }
    in_step(&hosts, &wanted).await;
    // What happens later is found as well.
    add(4, Item::Envelope(envelope(hosts[4].key(), 1, 21, b"failed")));
    add(4, Item::Notice(envelope(hosts[4].key(), 1, 10, b"still here")));
    in_step(&hosts, &wanted).await;
}

#[tokio::test]
async fn holes_among_decisions_are_filled() {
    let hosts = fleet(2, 1, |config| config.publish = false).await;
    let wanted = Store::new();
    for index in 0..200 {
        let decision = Item::Decision(item(1, index, 0, b"dispatch"));
        wanted.add(decision.clone());
        for (place, host) in hosts.iter().enumerate() {
            if index % 50 != 7 + place as u64 {
                host.store.add(decision.clone());
            }
        }
    }
    in_step(&hosts, &wanted).await;
}

#[tokio::test]
async fn large_feeds_and_documents_go_on_over_several_answers() {
    let hosts = fleet(2, 1, |config| config.publish = false).await;
    let (key, large) = (hosts[0].key(), vec![3; 10 * 1024]);
    let wanted = Store::new();
    let document = item(1, 1, 0, &vec![9; limits::FRAME_BYTES_MAX * 7 / 2]);
    let envelopes = (1..=400).map(|seq| Item::Envelope(envelope(key, 1, seq, &large)));
    for item in envelopes.chain([Item::Document(document)]) {
        hosts[0].store.add(item.clone());
        wanted.add(item);
    }
    in_step(&hosts, &wanted).await;
    assert_eq!(hosts[1].store.feed_len(key, 1), 400);
}

#[tokio::test]
async fn many_small_feeds_are_fetched() {
    let hosts = fleet(2, 1, |config| config.publish = false).await;
    let wanted = Store::new();
    for number in 0..1500_u32 {
        let mut key = [5; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        for seq in 1..=2 {
            let item = Item::Envelope(envelope(key, u64::from(number % 3), seq, b"event"));
            hosts[0].store.add(item.clone());
            wanted.add(item);
        }
    }
    in_step(&hosts, &wanted).await;
}

#[tokio::test]
async fn pull_hands_over_in_causal_order_and_says_when_it_is_done() {
    let mut hosts = fleet(2, 1, |config| config.sync_interval = std::time::Duration::from_secs(3600)).await;
    let key = hosts[0].key();
    hosts[1].up(key).await;
    let done = |event: &Event| matches!(event, Event::Synced { complete: true, .. }).then_some(());
    hosts[1].next("the first pull", done).await;
    hosts[1].seen.clear();
    hosts[0].store.add(Item::Notice(envelope(key, 1, 1, b"here")));
    for number in [2, 1, 3] {
        hosts[0].store.add(Item::Document(item(1, number, 0, b"ref")));
        hosts[0].store.add(Item::Decision(item(1, number, 0, b"dispatch")));
        hosts[0].store.add(Item::Document(fleet_document(number, b"fleet")));
    }
    hosts[0].store.add(Item::Envelope(envelope(key, 1, 1, b"acknowledged")));
    hosts[1].network.sync_now(Some(key));
    hosts[1].next("the pull", done).await;
    let items = hosts[1].seen.iter().filter_map(|event| match event {
        Event::Synced { items, .. } => Some(items.clone()),
        _ => None,
    });
    let ranks: Vec<_> = items
        .flatten()
        .map(|item| match item {
            Item::Document(bytes) => (0, bytes),
            Item::Decision(bytes) => (1, bytes),
            Item::Proof(bytes) => (2, bytes),
            Item::Envelope(bytes) => (3, bytes),
            Item::Notice(bytes) => (4, bytes),
        })
        .collect();
    assert_eq!(ranks.len(), 11);
    assert!(ranks.is_sorted(), "documents, fleet first; decisions; envelopes; notices");
}

#[tokio::test]
async fn node_that_reads_late_loses_nothing_of_a_pull() {
    let holder = Host::start(config(1), Arc::new(Store::new())).await;
    let (network, mut events) = muster_gossip::start(config(2), Arc::new(Store::new())).unwrap();
    let large = vec![3; 60 * 1024];
    let count = (limits::EVENT_BYTES_MAX * 3 / 2 / large.len()) as u64;
    for seq in 1..=count {
        holder.store.add(Item::Envelope(envelope(holder.key(), 1, seq, &large)));
    }
    let mut roster = roster(&[&holder], 1, 1);
    roster.members.insert(network.key(), Vec::new());
    network.set_roster(roster.clone());
    holder.network.set_roster(roster);
    let (mut fetched, mut next) = (0, 1);
    let all = async {
        while fetched < count {
            if let Event::Synced { items, .. } = events.recv().await.unwrap() {
                for item in items.iter().filter(|item| item.bytes().len() > large.len()) {
                    assert_eq!(item.bytes()[40..48], u64::to_be_bytes(next), "in order, without a gap");
                    (fetched, next) = (fetched + 1, next + 1);
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    soon("everything", all).await;
}
