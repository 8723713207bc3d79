//! How the hooks of an agent fare over restarts, and what is told of what was learnt.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use muster_core::ledger::{Batch, Reference, key};
use muster_core::wire::{FeedBody, HealthPolicy, HostEvent, HostEventKind};
use muster_signing::Digest;
use muster_store::Identity;

use super::super::testing;
use super::*;
use crate::storage;

/// An agent's store, a program that writes down what it is told, and nothing else of an agent.
struct Bench {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    learnt: watch::Sender<u64>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { fleet: "home".into(), host: "alpha".into() };
        let store = Arc::new(Store::open(folder.path().join(storage::STORE_FILE), identity).unwrap());
        Self { folder, store, learnt: watch::channel(0).0 }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("told")
    }

    fn start(&self, hooks: &str) -> Hooks {
        let text = format!("fleet = \"home\"\nhost = \"alpha\"\n{hooks}");
        let config = Config::from_text(Path::new("m.toml"), &text, |_| None).unwrap();
        Hooks::start(&config, &self.store, &testing::alpha(), Instant::now(), &self.learnt).unwrap()
    }

    /// A hook that runs this script.
    fn hook(&self, script: &str, tries: u32) -> String {
        let script = script.replace("OUT", &self.out().display().to_string());
        format!(
            "[[hook]]\nname = \"pager\"\nevents = [\"host-failed\"]\ntries = {tries}\ncommand = [\"/bin/sh\", \"-c\", {script:?}]"
        )
    }

    /// Learns that `beta` failed, as the node would write it down.
    fn learn(&self, position: u64, at: DateTime<Utc>) {
        let failed = HostEvent {
            rollout_id: "stable@v1".parse().unwrap(),
            seq: 1,
            kind: HostEventKind::Failed {
                failing_probes: vec!["ready".parse().unwrap()],
                failed_at: at,
                policy_applied: HealthPolicy::Halt,
                sustained_duration_secs: 9,
            },
        };
        let (bytes, _) =
            testing::envelope(&testing::beta(), position + 1, Digest([0; 32]), at, FeedBody::Rollout(failed));
        let row = key::feed(&"beta".parse().unwrap(), 7, position + 1);
        let reference = Reference { table: muster_core::ledger::Table::Feeds, key: row.clone() };
        let mut rows = Batch::default();
        rows.put(muster_core::ledger::Table::Feeds, row, bytes);
        rows.put(muster_core::ledger::Table::Arrivals, key::number(position), codec::encode(&reference));
        self.store.commit_wait(storage::changes(rows)).unwrap();
        self.learnt.send_replace(position + 1);
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.out()).unwrap_or_default()
    }
}

/// Waits until a hook's status is as it should be.
async fn until(hooks: &mut Hooks, is: impl FnMut(&HookStatus) -> bool) {
    let seen = tokio::time::timeout(Duration::from_secs(60), hooks.handles[0].status.wait_for(is));
    seen.await.unwrap().unwrap();
}

/// Runs a test on a runtime of its own, whose end is that of all tasks in it: as a kill of the agent.
fn life<T>(test: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test())
}

#[test]
fn what_is_learnt_is_told_and_what_was_learnt_before_the_hook_was_there_is_not() {
    let bench = Bench::new();
    bench.learn(0, Utc::now());
    life(async || {
        let mut hooks = bench.start(&bench.hook("cat >> OUT; echo >> OUT", 3));
        until(&mut hooks, |status| status.pending == 0).await;
        bench.learn(1, Utc::now());
        until(&mut hooks, |status| status.delivered == 1).await;
    });
    let told = bench.told();
    assert_eq!(told.lines().count(), 1, "{told}");
    let json: serde_json::Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!(json["id"], "host-failed:event:beta:7:2");
    assert_eq!((&json["sender"], &json["host"]), (&"alpha".into(), &"beta".into()));
    assert_eq!(json["reason"], "ready failed for 9 s");
}

#[test]
fn what_nobody_can_read_keeps_nobody_from_being_told_of_the_rest() {
    let bench = Bench::new();
    life(async || {
        let mut hooks = bench.start(&bench.hook("cat >> OUT; echo >> OUT", 3));
        until(&mut hooks, |_| true).await;
        let gone = key::feed(&"beta".parse().unwrap(), 7, 1);
        let reference = Reference { table: muster_core::ledger::Table::Feeds, key: gone };
        let mut rows = Batch::default();
        for (position, value) in [(0, codec::encode(&reference)), (1, b"nothing".to_vec())] {
            rows.put(muster_core::ledger::Table::Arrivals, key::number(position), value);
        }
        bench.store.commit_wait(storage::changes(rows)).unwrap();
        bench.learn(2, Utc::now());
        until(&mut hooks, |status| status.delivered == 1).await;
    });
    assert!(bench.told().contains("host-failed:event:beta:7:3"), "{}", bench.told());
}

#[test]
fn what_waits_or_was_given_up_is_there_after_a_restart_and_goes_with_its_hook() {
    let bench = Bench::new();
    life(async || {
        let mut hooks = bench.start(&bench.hook("exit 1", 1));
        until(&mut hooks, |_| true).await;
        bench.learn(0, Utc::now());
        until(&mut hooks, |status| status.given_up == 1).await;
    });
    // What was learnt while no agent ran is found when one does.
    bench.learn(1, Utc::now());
    life(async || {
        let mut hooks = bench.start(&bench.hook("cat >> OUT; echo >> OUT", 1));
        until(&mut hooks, |status| status.delivered == 1 && status.dead.len() == 1).await;
        let (reply, answer) = oneshot::channel();
        hooks.obey("pager", HookVerb::Retry, reply);
        let Ok(Answer::Hook(done)) = answer.await.unwrap() else { panic!("no answer") };
        assert_eq!((done.ok, done.calls), (true, 1));
        until(&mut hooks, |status| status.delivered == 2).await;
    });
    assert_eq!(bench.told().lines().count(), 2);
    life(async || drop(bench.start("")));
    life(async || {
        let mut hooks = bench.start(&bench.hook("exit 1", 1));
        until(&mut hooks, |status| status.delivered == 0 && status.given_up == 0 && status.pending == 0)
            .await;
    });
}

#[test]
fn a_hook_that_takes_its_time_holds_up_no_other_one_and_can_be_tested_meanwhile() {
    let bench = Bench::new();
    life(async || {
        let slow = bench.hook("grep -q '.test.,' || sleep 1000", 1);
        let quick = bench.hook("exit 0", 1).replace("pager", "quick");
        let mut hooks = bench.start(&format!("{quick}\n{slow}"));
        bench.learn(0, Utc::now());
        until(&mut hooks, |status| status.delivered == 1).await;
        hooks.handles[1].status.wait_for(|status| status.pending == 1).await.unwrap();
        let (reply, answer) = oneshot::channel();
        hooks.obey("pager", HookVerb::Test, reply);
        assert!(matches!(answer.await.unwrap(), Ok(Answer::Hook(done)) if done.ok));
        assert_eq!(hooks.statuses().iter().map(|status| status.pending).collect::<Vec<_>>(), [0, 1]);
        let (reply, answer) = oneshot::channel();
        hooks.obey("nobody", HookVerb::Test, reply);
        assert!(answer.await.unwrap().unwrap_err().hint.unwrap().contains("quick, pager"));
    });
}
