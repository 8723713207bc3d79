//! The loop over a real store and network, with nobody else in the fleet.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use muster_core::wire::{FeedBody, IncarnationStarted};
use muster_gossip::{Event, Item};
use muster_signing::{Digest, DocumentParts};
use tokio::sync::oneshot;

use super::*;
use crate::control::{Answer, Code, Problem, Query, wire};

/// Runs a test with the daemon of `alpha`, which holds nothing yet.
fn check(test: impl AsyncFnOnce(&mut Daemon)) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(path("root/releases/v0")).unwrap();
    std::os::unix::fs::symlink("releases/v0", path("root/current")).unwrap();
    keys::write_pair(&folder.path().join("host"), &testing::alpha(), "").unwrap();
    std::fs::write(path("trust.json"), testing::trust()).unwrap();
    let text = format!(
        "fleet = \"home\"\nhost = \"alpha\"\nstate_dir = {:?}\nidentity = {:?}\ntrust = {:?}\nsocket = {:?}\n\
         listen = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\nactivation.backend = \"directory\"\n\
         activation.root = {:?}\n",
        path("state"),
        path("host"),
        path("trust.json"),
        path("muster.sock"),
        path("root")
    );
    let config = Config::from_text(Path::new("muster.toml"), &text, |_| None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut daemon = Daemon::start(config).await.unwrap();
        test(&mut daemon).await;
        daemon.stop().await.unwrap();
    });
}

/// Runs the loop until something else is done.
async fn serve_until<T>(daemon: &mut Daemon, done: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = daemon.serve() => panic!("the loop ended: {ended:?}"),
        done = done => done,
    }
}

fn ask(daemon: &mut Daemon, ask: Ask) -> oneshot::Receiver<Result<Answer, Problem>> {
    let (reply, answer) = oneshot::channel();
    daemon.request(Request { ask, peer: None, reply });
    answer
}

fn publish(daemon: &mut Daemon) -> oneshot::Receiver<Result<Answer, Problem>> {
    ask(daemon, Ask::Publish(DocumentParts::from_wire(&testing::fleet_document()).unwrap()))
}

async fn held(daemon: &mut Daemon) -> String {
    match ask(daemon, Ask::Query(Query::Status)).await.unwrap() {
        Ok(Answer::Status(wire::Status { held, .. })) => held.unwrap_or_default(),
        other => panic!("no status: {other:?}"),
    }
}

/// A fleet document and so many envelopes of `beta`, whom it names, as they come after a long absence: one event a second
/// is within any host's quota.
fn much(envelopes: u64) -> Vec<Item> {
    let mut items = vec![Item::Document(testing::fleet_document())];
    let mut prev = Digest([0; 32]);
    for seq in 1..=envelopes {
        let at = Utc::now() - chrono::TimeDelta::seconds(i64::try_from(envelopes - seq).unwrap());
        let began = IncarnationStarted { current_closure: None, started_at: at };
        let body = FeedBody::Incarnation(began);
        let (bytes, hash) = testing::envelope(&testing::beta(), seq, prev, at, body);
        items.push(Item::Envelope(bytes));
        prev = hash;
    }
    items
}

#[test]
fn a_sync_of_more_things_than_the_store_queues_is_taken_in_whole() {
    check(async |daemon| {
        let count = muster_store::QUEUE_BATCHES_MAX as u64 + 100;
        let items = much(count);
        let from = *testing::beta().public().as_bytes();
        daemon.event(Event::Synced { from, items, complete: false });
        assert_eq!(daemon.backlog.len() as u64, count + 1);
        let mut learnt = daemon.inbox.position.subscribe();
        serve_until(daemon, learnt.wait_for(|learnt| *learnt > count)).await.unwrap();
        assert!(daemon.backlog.is_empty());
        let beta = "beta".parse().unwrap();
        assert_eq!(daemon.node.ledger().feed(&beta).unwrap().head().unwrap().seq, count);
    });
}

#[test]
fn a_full_disk_ends_nothing_but_what_waits_for_it_and_work_goes_on_when_there_is_room() {
    check(async |daemon| {
        // The daemon's first write is under way, so this one waits behind it.
        let waiting = publish(daemon);
        let (batch, result) = daemon.written.recv().await.unwrap();
        assert_eq!(result, Ok(()));
        daemon.stored(batch, Err(CommitError::Full)).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err().code, Code::Unavailable);
        assert!(held(daemon).await.contains("disk is full"));
        assert_eq!(publish(daemon).await.unwrap().unwrap_err().code, Code::Unavailable);
        daemon.step(Input::Tick);
        daemon.stored(hands::TRIAL, Err(CommitError::Full)).unwrap();
        assert!(daemon.disk.is_full() && daemon.hands.writes.is_empty());

        daemon.try_the_disk();
        let (batch, result) = daemon.written.recv().await.unwrap();
        assert_eq!((batch, &result), (hands::TRIAL, &Ok(())));
        daemon.stored(batch, result).unwrap();
        assert!(!daemon.disk.is_full());
        assert!(daemon.node.ledger().documents().fleet().is_none());
        assert!(!held(daemon).await.contains("disk is full"));
        let published = publish(daemon);
        assert!(matches!(serve_until(daemon, published).await.unwrap(), Ok(Answer::Receipt(_))));
        assert!(daemon.node.ledger().documents().fleet().is_some());
    });
}

#[test]
fn any_other_failure_of_a_write_ends_the_agent() {
    check(async |daemon| {
        let reason = "a sync failed".into();
        assert!(daemon.stored(1, Err(CommitError::Failed { reason })).is_err());
    });
}
