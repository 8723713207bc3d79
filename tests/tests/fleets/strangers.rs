//! A peer whose key is not in the fleet document learns what a stranger may learn, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_gossip::{
    Config, Event, Events, FeedHead, Head, HostKey, Item, Library, Network, Roster, Section, Summary, Topic,
    start,
};
use muster_tests::{Agent, Fleet, Release, fresh_key};

/// How long the stranger gets to try everything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The stranger has nothing to give.
struct Nothing;

impl Library for Nothing {
    fn summary(&self) -> Summary {
        Summary::default()
    }

    fn heads(&self, _: Section, _: u8) -> Vec<Head> {
        Vec::new()
    }

    fn item(&self, _: Section, _: &[u8; 32]) -> Option<Vec<u8>> {
        None
    }

    fn feed_heads(&self, _: u8) -> Vec<FeedHead> {
        Vec::new()
    }

    fn feed(&self, _: &HostKey, _: u64, _: u64, _: u64, _: usize) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn fleet_documents(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

fn key(agent: &Agent) -> HostKey {
    *agent.key.public().as_bytes()
}

/// Everything that the network tells the stranger until the pulls it asked for have ended.
async fn heard(network: &Network, events: &mut Events, usurp: bool, victim: HostKey) -> Vec<Event> {
    let mut seen = Vec::new();
    let listen = async {
        while let Some(event) = events.recv().await {
            if usurp && matches!(event, Event::PeerUp { .. }) {
                network.send_log(victim, b"usurped".to_vec());
                network.publish(Topic::Events, b"forged".to_vec());
                network.sync_now(None);
            }
            let over = matches!(event, Event::Synced { .. });
            seen.push(event);
            if over {
                break;
            }
        }
    };
    // Silence for all that time is as good an answer as a refusal.
    let _ = tokio::time::timeout(PATIENCE, listen).await;
    seen
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_stranger_gets_no_gossip_no_log_and_no_sync_but_fleet_documents() {
    let fleet = Fleet::of(2).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Terminal");
    let victim = &fleet.agents[0];

    // As a newcomer, it is given the fleet document and nothing else.
    let seen = runtime().block_on(async {
        let mut config = Config::new("home", *fresh_key().seed());
        config.bootstrap = vec![victim.bootstrap()];
        let (network, mut events) = start(config, Arc::new(Nothing)).unwrap();
        heard(&network, &mut events, false, key(victim)).await
    });
    let mut items = Vec::new();
    for event in seen {
        if let Event::Synced { items: brought, .. } = event {
            items.extend(brought);
        }
    }
    assert!(items.iter().all(|item| matches!(item, Item::Document(_))), "{items:?}");
    let refs = |item: &&Item| item.bytes().windows(18).any(|window| window == b"muster/channel-ref");
    assert_eq!(items.iter().filter(refs).count(), 0, "a channel ref is none of a stranger's business");

    // As one who claims to be a member and a coordinator, it is not heard.
    let seen = runtime().block_on(async {
        let seed = *fresh_key().seed();
        let config = Config::new("home", seed);
        let (network, mut events) = start(config, Arc::new(Nothing)).unwrap();
        let members = BTreeMap::from([(key(victim), vec![victim.address()]), (network.key(), Vec::new())]);
        let coordinators = BTreeSet::from([key(victim), network.key()]);
        network.set_roster(Roster { members, coordinators, serial: 1 });
        heard(&network, &mut events, true, key(victim)).await
    });
    for event in &seen {
        assert!(!matches!(event, Event::Message { .. } | Event::Log { .. }), "it heard {event:?}");
        if let Event::Synced { items, .. } = event {
            assert!(items.is_empty(), "it was given {items:?}");
        }
    }
    // The fleet goes on as if nothing had been.
    let status = victim.look("/v1/status");
    assert_eq!(status["hosts"].as_array().map(Vec::len), Some(2), "{status}");
    let known = victim.look("/v1/peers");
    assert_eq!(known["peers"].as_array().map(Vec::len), Some(1), "{known}");
    assert!(victim.is_running() && fleet.agents[1].is_running());
}
