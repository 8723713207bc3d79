//! A node of a test: its network, its store, and a pump that plays the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_gossip::{Config, Event, HostKey, Network, Roster, Topic, Verdict, start};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::store::Store;

pub(crate) const FLEET: &str = "home";
/// Nothing that a test awaits takes this long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message that begins so is rejected by every test's agent.
pub(crate) const FALSE: &[u8] = b"false";
/// A message that begins so gets no verdict.
pub(crate) const UNJUDGED: &[u8] = b"unjudged";

pub(crate) struct Host {
    pub(crate) network: Network,
    pub(crate) store: Arc<Store>,
    pub(crate) address: String,
    events: mpsc::UnboundedReceiver<Event>,
    /// Everything that `next` passed over.
    pub(crate) seen: Vec<Event>,
}

pub(crate) fn config(seed: u8) -> Config {
    let mut config = Config::new(FLEET, [seed; 32]);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()];
    config.sync_interval = Duration::from_millis(300);
    config
}

/// Fails the test when something takes forever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

impl Host {
    pub(crate) async fn start(config: Config, store: Arc<Store>) -> Self {
        let (network, mut events) = start(config, Arc::<Store>::clone(&store)).unwrap();
        let (seen_in, seen) = mpsc::unbounded_channel();
        let (agent, held) = (network.clone(), Arc::clone(&store));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Message { reference, bytes, .. } = &event {
                    if bytes.starts_with(FALSE) {
                        agent.verdict(*reference, Verdict::Reject);
                    } else if !bytes.starts_with(UNJUDGED) {
                        agent.verdict(*reference, Verdict::Accept);
                    }
                }
                if let Event::Synced { items, .. } = &event {
                    items.iter().for_each(|item| held.add(item.clone()));
                }
                let _test_over = seen_in.send(event);
            }
        });
        let mut host = Self { network, store, address: String::new(), events: seen, seen: Vec::new() };
        host.address = host
            .next("listening", |event| match event {
                Event::Listening { address } => Some(address.clone()),
                _ => None,
            })
            .await;
        host
    }

    pub(crate) fn key(&self) -> HostKey {
        self.network.key()
    }

    /// The next event that `pick` wants.
    pub(crate) async fn next<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
                self.seen.push(event);
            }
        };
        soon(what, wait).await
    }

    pub(crate) async fn up(&mut self, key: HostKey) {
        let pick = |event: &Event| matches!(event, Event::PeerUp { key: of, .. } if *of == key).then_some(());
        self.next("a connection", pick).await;
    }

    pub(crate) async fn down(&mut self, key: HostKey) {
        let pick = |event: &Event| matches!(event, Event::PeerDown { key: of } if *of == key).then_some(());
        self.next("the end of a connection", pick).await;
    }

    pub(crate) async fn message(&mut self, wanted: &[u8]) -> HostKey {
        let pick = |event: &Event| match event {
            Event::Message { from, bytes, .. } if bytes == wanted => Some(*from),
            _ => None,
        };
        self.next("a gossiped message", pick).await
    }

    /// Waits until a peer is in the mesh of every topic.
    pub(crate) async fn meshed(&self, key: HostKey) {
        let mut peers = self.network.watch_peers();
        let all = Topic::ALL.len();
        let ready = peers.wait_for(|peers| peers.iter().any(|peer| peer.key == key && peer.meshed == all));
        soon("a full mesh", ready).await.unwrap();
    }

    /// Whether anything but connections and sync's own results was heard.
    pub(crate) fn heard_nothing(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        !self.seen.iter().any(|event| match event {
            Event::Message { .. } | Event::Log { .. } | Event::PeerUp { .. } => true,
            Event::Synced { items, .. } => !items.is_empty(),
            Event::PeerDown { .. } | Event::Listening { .. } | Event::ListenFailed { .. } => false,
        })
    }
}

/// A roster of the given hosts; the first `coordinators` of them are coordinators.
pub(crate) fn roster(hosts: &[&Host], coordinators: usize, serial: u64) -> Roster {
    let members: BTreeMap<_, _> = hosts.iter().map(|host| (host.key(), vec![host.address.clone()])).collect();
    let coordinators: BTreeSet<_> = hosts.iter().take(coordinators).map(|host| host.key()).collect();
    Roster { members, coordinators, serial }
}

/// Starts hosts that all know each other; the first `coordinators` are coordinators.
pub(crate) async fn fleet(size: u8, coordinators: usize, adapt: impl Fn(&mut Config)) -> Vec<Host> {
    let mut hosts = Vec::new();
    for seed in 1..=size {
        let mut config = config(seed);
        adapt(&mut config);
        hosts.push(Host::start(config, Arc::new(Store::new())).await);
    }
    let roster = roster(&hosts.iter().collect::<Vec<_>>(), coordinators, 1);
    hosts.iter().for_each(|host| host.network.set_roster(roster.clone()));
    hosts
}
