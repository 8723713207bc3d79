//! The whole road: the agent's backend, its client and its archive, and on the other side the helper on a machine whose Nix
//! and systemd are stand-ins.

use std::sync::Arc;

use muster_core::document::{Acceptance, Documents, Trust};
use muster_core::ledger::key;
use muster_store::{Change, Identity, Store, Table};
use tokio::net::UnixListener;

use super::*;
use crate::activation::nixos::testing::Bench as Stand;
use crate::activation::{Job, Nixos, Outcome, Switched, Task};
use crate::helper::client::Client;
use crate::helper::papers::Archive;

const LONG: Duration = Duration::from_secs(60);

/// A host whose agent switches through its helper.
struct Road {
    bench: Bench,
    stand: Stand,
    archive: Arc<Archive>,
    store: Arc<Store>,
    story: Story,
    before: Closure,
    target: Closure,
}

impl Road {
    /// The operators signed a system for the host, a quorum dispatched it, and the agent holds the proofs.
    fn new() -> Self {
        let (bench, stand, mut story) = (Bench::new(), Stand::new(), Story::new());
        let (before, target) = (stand.system("before", &[]), stand.system("target", &[]));
        stand.boot(&before);
        std::os::unix::fs::symlink("system-0-link", &stand.machine.profile).unwrap();
        std::os::unix::fs::symlink(before.as_str(), stand.path("profiles/system-0-link")).unwrap();
        story.channel_ref.json["targets"]["web"] = target.as_str().into();
        story.dispatched("stable@v1", target.as_str());
        let identity = Identity { fleet: FLEET.into(), host: HOST.into() };
        let store = Arc::new(Store::open(bench.root.join("muster.redb"), identity).unwrap());
        let archive = Arc::new(Archive::new(HOST.parse().unwrap(), Arc::clone(&store)));
        Self { bench, stand, archive, store, story, before, target }
    }

    /// The agent holds what the story says.
    fn learn(&self) {
        let trust = fs::read(self.bench.root.join("trust.json")).unwrap();
        let mut documents = Documents::new(vec![Trust::parse(&trust).unwrap()]).unwrap();
        for wire in self.story.fleets.iter().map(Signed::wire).chain([self.story.channel_ref.wire()]) {
            let document = muster_core::verify::document(&wire).unwrap();
            let accepted = documents.check(&document, self.story.now).unwrap();
            let Acceptance::New(accepted) = accepted else { panic!("{accepted:?}") };
            documents.insert(accepted);
        }
        self.archive.follow(&documents);
        let row = key::decision(5, self.story.decision.id());
        self.store.commit_wait(vec![Change::put(Table::Decisions, row, self.story.certificate())]).unwrap();
    }

    /// Does a job through the helper.
    async fn switch(&self, task: Task, target: &Closure) -> Outcome {
        let socket = self.bench.root.join("activate.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let helper = async {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                self.bench.door.serve(connection, &self.stand.machine).await;
            }
        };
        let client = Arc::new(Client::new(socket, Arc::clone(&self.archive)));
        // Whoever has no rights cannot read the journal, either.
        let mut machine = self.stand.machine.clone();
        machine.programs.journalctl = "false".into();
        let nixos = Nixos::new(machine, client, Vec::new(), &self.stand.path("state"));
        let job = Job {
            rollout: "stable@v1".parse().unwrap(),
            task,
            target: target.clone(),
            previous: Some(self.before.clone()),
            log_index: self.story.decision.log_index,
        };
        tokio::select! {
            switched = nixos.switch(job, None, LONG) => match switched {
                Switched::Ended(outcome) => outcome,
                Switched::Deferred { component } => panic!("waits for {component}"),
            },
            () = helper => panic!("the helper ended"),
        }
    }
}

#[tokio::test]
async fn an_agent_without_rights_switches_and_goes_back_through_its_helper() {
    let road = Road::new();
    road.learn();
    let there = road.switch(Task::Switch, &road.target).await;
    assert_eq!((there.exit_code, there.observed), (0, Some(road.target.clone())), "{}", there.stderr_tail);
    let back = road.switch(Task::RollBack, &road.before).await;
    assert_eq!((back.exit_code, back.observed), (0, Some(road.before.clone())), "{}", back.stderr_tail);
    let switched = road.stand.switched();
    let expected = [format!("switch {}", road.target), format!("switch {}", road.before)];
    assert_eq!(switched, expected);
    // An agent that was killed before it stored the result asks again, and hears how the one way back ended.
    let again = road.switch(Task::RollBack, &road.before).await;
    assert_eq!((again.exit_code, road.stand.switched()), (0, switched), "{}", again.stderr_tail);
}

#[tokio::test]
async fn an_agent_without_rights_hears_from_its_helper_why_a_switch_failed() {
    let mut road = Road::new();
    road.target = road.stand.system("broken", &[("breaks", "")]);
    road.story.channel_ref.json["targets"]["web"] = road.target.as_str().into();
    road.story.dispatched("stable@v1", road.target.as_str());
    road.learn();
    let failed = road.switch(Task::Switch, &road.target).await;
    assert_eq!(failed.exit_code, 1);
    assert!(failed.stderr_tail.contains("it breaks at once"), "{}", failed.stderr_tail);
}

#[tokio::test]
async fn what_the_helper_refuses_is_a_failed_activation_in_its_words() {
    let mut road = Road::new();
    let unproven = road.switch(Task::Switch, &road.target).await;
    assert!(unproven.stderr_tail.contains("any document of stable@v1"), "{}", unproven.stderr_tail);
    road.story.coordinators.truncate(1);
    road.learn();
    let refused = road.switch(Task::Switch, &road.target).await;
    assert_eq!((refused.exit_code, refused.observed), (-1, Some(road.before.clone())));
    let words = "the helper refuses (certificate): the certificate: 1 of the 2 coordinators";
    assert!(refused.stderr_tail.starts_with(words), "{}", refused.stderr_tail);
    assert!(road.stand.switched().is_empty());
    // The policy asks for a rollback, and there is nothing to undo.
    let back = road.switch(Task::RollBack, &road.before).await;
    assert_eq!((back.exit_code, back.observed), (0, Some(road.before.clone())), "{}", back.stderr_tail);
    assert!(road.stand.switched().is_empty());
}

#[tokio::test]
async fn a_helper_that_is_not_there_is_named() {
    let road = Road::new();
    road.learn();
    let client = Client::new("/nowhere/activate.sock".into(), Arc::clone(&road.archive));
    let order = Order::Switch { dispatch: road.story.dispatch(), to: road.target.clone(), timeout_secs: 5 };
    let error = client.carry_out(&order).await.unwrap_err().to_string();
    assert!(error.starts_with("the helper at /nowhere/activate.sock: "), "{error}");
    assert!(client.restart().await.is_err());
}
