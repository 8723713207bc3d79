//! Connections: the coordinators' log, cutting off, coming back.

use std::sync::Arc;

use muster_gossip::limits::FRAME_BYTES_MAX;
use muster_gossip::{Event, Roster, Topic};

use crate::host::{Host, config, fleet, roster};

async fn log(host: &mut Host, wanted: &[u8]) -> muster_gossip::HostKey {
    let pick = |event: &Event| match event {
        Event::Log { from, bytes } if bytes == wanted => Some(*from),
        _ => None,
    };
    host.next("a log message", pick).await
}

#[tokio::test]
async fn log_messages_arrive_both_ways() {
    let mut hosts = fleet(3, 2, |_| {}).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[1]).await;
    hosts[1].up(keys[0]).await;
    let largest = vec![7; FRAME_BYTES_MAX];
    hosts[0].network.send_log(keys[1], b"append".to_vec());
    hosts[0].network.send_log(keys[1], largest.clone());
    hosts[1].network.send_log(keys[0], b"appended".to_vec());
    assert_eq!(log(&mut hosts[1], b"append").await, keys[0]);
    assert_eq!(log(&mut hosts[0], b"appended").await, keys[1]);
    log(&mut hosts[1], &largest).await;
    hosts[0].network.send_log(keys[1], vec![7; FRAME_BYTES_MAX + 1]);
    assert_eq!(hosts[0].network.counters().logs_dropped, 1, "too large");
}

#[tokio::test]
async fn log_message_of_a_host_that_is_no_coordinator_is_not_heard() {
    let mut hosts = fleet(3, 2, |_| {}).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[2]).await;
    hosts[2].up(keys[0]).await;
    hosts[0].up(keys[1]).await;
    hosts[2].network.send_log(keys[0], b"usurped".to_vec());
    hosts[2].meshed(keys[0]).await;
    hosts[2].network.publish(Topic::Events, b"afterwards".to_vec());
    hosts[0].message(b"afterwards").await;
    hosts[1].network.send_log(keys[0], b"rightful".to_vec());
    log(&mut hosts[0], b"rightful").await;
    assert!(!hosts[0].seen.iter().any(|event| matches!(event, Event::Log { .. })));
}

#[tokio::test]
async fn host_that_leaves_the_roster_is_cut_off_at_once() {
    let mut hosts = fleet(3, 1, |_| {}).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[2]).await;
    hosts[2].up(keys[0]).await;
    hosts[0].up(keys[1]).await;
    let without = roster(&[&hosts[0], &hosts[1]], 1, 2);
    hosts[0].network.set_roster(without.clone());
    hosts[0].down(keys[2]).await;
    hosts[2].down(keys[0]).await;
    assert!(hosts[0].network.peers().iter().all(|peer| peer.key != keys[2]));
    hosts[1].network.set_roster(without);
    hosts[1].down(keys[2]).await;
    let still = hosts[0].network.peers();
    assert!(still.iter().any(|peer| peer.key == keys[1] && peer.connected), "{still:?}");
}

#[tokio::test]
async fn older_roster_does_not_replace_a_newer_one() {
    let mut hosts = fleet(2, 1, |_| {}).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[1]).await;
    hosts[0].network.set_roster(Roster { serial: 0, ..roster(&[&hosts[0]], 1, 0) });
    hosts[0].meshed(keys[1]).await;
    hosts[1].network.publish(Topic::Events, b"still here".to_vec());
    hosts[0].message(b"still here").await;
}

/// Waits until an address can be listened on again: the system frees it when the last closed connection is forgotten.
async fn free(address: &str) {
    let port = address.split('/').nth(4).unwrap();
    let mut again = tokio::time::interval(std::time::Duration::from_millis(20));
    let free = async {
        while tokio::net::UdpSocket::bind(format!("127.0.0.1:{port}")).await.is_err() {
            again.tick().await;
        }
    };
    crate::host::soon("a free port", free).await;
}

#[tokio::test]
async fn restarted_peer_is_connected_again() {
    let mut hosts = fleet(2, 2, |_| {}).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[1]).await;
    let stopped = hosts.pop().unwrap();
    stopped.network.shutdown();
    stopped.network.closed().await;
    hosts[0].down(keys[1]).await;
    free(&stopped.address).await;

    let mut again = config(2);
    again.listen = vec![stopped.address.clone()];
    let mut again = Host::start(again, Arc::clone(&stopped.store)).await;
    again.network.set_roster(roster(&[&hosts[0], &again], 2, 1));
    hosts[0].up(keys[1]).await;
    again.up(keys[0]).await;
    again.meshed(keys[0]).await;
    hosts[0].meshed(keys[1]).await;
    again.network.publish(Topic::Events, b"back".to_vec());
    hosts[0].message(b"back").await;
}

#[tokio::test]
async fn host_without_udp_is_reached_over_tcp() {
    let mut hosts = fleet(2, 2, |config| config.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()]).await;
    let keys: Vec<_> = hosts.iter().map(Host::key).collect();
    hosts[0].up(keys[1]).await;
    hosts[1].up(keys[0]).await;
    let peers = hosts[0].network.peers();
    assert_eq!(peers.iter().map(|peer| peer.transport).collect::<Vec<_>>(), vec![Some("tcp")]);
    hosts[0].network.send_log(keys[1], b"over tcp".to_vec());
    log(&mut hosts[1], b"over tcp").await;
}

#[tokio::test]
async fn round_trips_are_measured() {
    let mut hosts = fleet(2, 2, |_| {}).await;
    let key = hosts[1].key();
    hosts[0].up(key).await;
    let mut peers = hosts[0].network.watch_peers();
    let measured =
        peers.wait_for(|peers| peers.iter().any(|peer| peer.key == key && peer.round_trip.is_some()));
    crate::host::soon("a ping", measured).await.unwrap();
}
