//! Who is in no roster: what it gets, and what it does not.

use std::sync::Arc;

use muster_gossip::{Event, Item, Section, Topic};

use crate::host::{Host, config, fleet, roster, soon};
use crate::store::{Store, envelope, fleet_document, item};

fn fill(host: &Host) {
    host.store.add(Item::Document(fleet_document(1, b"fleet")));
    host.store.add(Item::Document(fleet_document(2, &vec![4; 2 * 1024 * 1024])));
    host.store.add(Item::Document(item(1, 1, 0, b"ref")));
    host.store.add(Item::Decision(item(1, 1, 0, b"dispatch")));
    host.store.add(Item::Envelope(envelope(host.key(), 1, 1, b"event")));
    host.store.add(Item::Notice(envelope(host.key(), 1, 1, b"here")));
}

fn bootstrap(host: &Host) -> Vec<String> {
    vec![format!("{}/p2p/{}", host.address, host.network.peer_id())]
}

#[tokio::test]
async fn stranger_gets_fleet_documents_and_nothing_else() {
    let mut hosts = fleet(2, 2, |_| {}).await;
    let other = hosts[1].key();
    hosts[0].up(other).await;
    fill(&hosts[0]);
    let mut config = config(66);
    config.bootstrap = bootstrap(&hosts[0]);
    let mut stranger = Host::start(config, Arc::new(Store::new())).await;
    let done = |event: &Event| matches!(event, Event::Synced { complete: true, .. }).then_some(());
    stranger.next("the end of enrolment", done).await;
    assert_eq!(stranger.store.count(Section::Documents), 2, "the fleet documents");
    for section in [Section::Decisions, Section::Notices, Section::Proofs] {
        assert_eq!(stranger.store.count(section), 0);
    }
    assert_eq!(stranger.store.feed_len(hosts[0].key(), 1), 0);
}

#[tokio::test]
async fn stranger_that_claims_to_be_a_member_is_neither_heard_nor_answered() {
    let mut hosts = fleet(2, 2, |_| {}).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[1]).await;
    hosts[0].seen.clear();
    fill(&hosts[0]);
    // Its own roster lets it speak every protocol to the victim.
    let mut stranger = Host::start(config(66), Arc::new(Store::new())).await;
    stranger.store.add(Item::Decision(item(6, 6, 6, b"forged")));
    stranger.network.set_roster(roster(&[&hosts[0], &stranger], 2, 9));
    stranger.up(keys[0]).await;
    stranger.network.send_log(keys[0], b"usurped".to_vec());
    stranger.network.publish(Topic::Events, b"forged".to_vec());
    stranger.network.sync_now(None);
    let refused = |event: &Event| match event {
        Event::Synced { items, complete, .. } => Some((items.len(), *complete)),
        _ => None,
    };
    assert_eq!(stranger.next("the refusal", refused).await, (0, false));
    stranger.down(keys[0]).await;
    assert!(stranger.seen.iter().all(|event| !matches!(event, Event::Message { .. } | Event::Log { .. })));
    assert_eq!(stranger.network.counters().pulls, 0);
    assert!(stranger.network.counters().logs_dropped >= 1);
    assert!(hosts[0].heard_nothing(), "{:?}", hosts[0].seen);
    assert!(hosts[0].network.peers().iter().all(|peer| peer.key != stranger.key()));
    assert!(hosts[0].network.counters().strangers >= 1);
}

#[tokio::test]
async fn newcomer_joins_once_it_has_the_fleet_document() {
    let mut founder = Host::start(config(1), Arc::new(Store::new())).await;
    let mut newcomer_config = config(2);
    newcomer_config.bootstrap = bootstrap(&founder);
    let mut newcomer = Host::start(newcomer_config, Arc::new(Store::new())).await;
    // The newcomer asks in vain until the first fleet document is published, here at the founder.
    let roster = roster(&[&founder, &newcomer], 1, 1);
    fill(&founder);
    founder.network.set_roster(roster.clone());
    soon("the fleet document", newcomer.store.until(|store| store.count(Section::Documents) == 2)).await;
    newcomer.network.set_roster(roster);
    let (founder_key, newcomer_key) = (founder.key(), newcomer.key());
    newcomer.up(founder_key).await;
    soon("the rest", newcomer.store.until(|store| store.count(Section::Decisions) == 1)).await;
    newcomer.meshed(founder_key).await;
    founder.meshed(newcomer_key).await;
    founder.network.publish(Topic::Events, b"welcome".to_vec());
    newcomer.message(b"welcome").await;
    newcomer.network.publish(Topic::Events, b"thanks".to_vec());
    founder.message(b"thanks").await;
}

#[tokio::test]
async fn another_fleet_is_not_spoken_to() {
    let mut host = Host::start(config(1), Arc::new(Store::new())).await;
    let mut other = config(2);
    other.fleet = "work".to_owned();
    let mut other = Host::start(other, Arc::new(Store::new())).await;
    let both = roster(&[&host, &other], 2, 1);
    host.store.add(Item::Decision(item(1, 1, 0, b"dispatch")));
    host.network.set_roster(both.clone());
    other.network.set_roster(both);
    let refused = |event: &Event| match event {
        Event::Synced { items, complete, .. } => Some((items.len(), *complete)),
        _ => None,
    };
    assert_eq!(other.next("a refusal", refused).await, (0, false));
    assert_eq!(host.next("a refusal", refused).await, (0, false));
}
