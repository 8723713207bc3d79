//! A host, its operators and its coordinators, and a daemon that says what a test wants it to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod files;
mod honest;
mod through;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use muster_core::coordination;
use muster_core::document::Fleet;
use muster_core::id::{Closure, RolloutId};
use muster_core::wire::{DECISION_VERSION, Decision, DecisionBody, codec};
use muster_signing::{
    Digest, DocumentParts, Namespace, SigningKey, assemble, sha256, sign_decision, sign_document,
};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::authorize::Act;
use super::caller::Allowed;
use super::memory::Memory;
use super::protocol::{Answer, CarryOut, Papers, Request};
use super::serve::{Door, Hands};
use super::vault::Vault;
use crate::activation::nixos::root::{Dispatch, Order, Unit};

const FLEET: &str = "home";
const HOST: &str = "web";
const BEFORE: &str = "/nix/store/00000000000000000000000000000000-nixos-system-web-before";
const TARGET: &str = "/nix/store/11111111111111111111111111111111-nixos-system-web-target";
const OTHER: &str = "/nix/store/22222222222222222222222222222222-nixos-system-web-other";
/// How long a test's helper waits for the rest of a request.
const TALK_TIME: Duration = Duration::from_millis(300);

fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(sha256(name.as_bytes()).0)
}

fn line_of(name: &str) -> String {
    key_of(name).public().to_openssh()
}

fn stamp(at: DateTime<Utc>) -> Value {
    at.to_rfc3339_opts(SecondsFormat::Millis, true).into()
}

fn system(path: &str) -> Closure {
    path.parse().unwrap()
}

/// Changes values by JSON pointer; null takes the key away.
fn change(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
}

/// A document and who signs it.
#[derive(Clone)]
struct Signed {
    json: Value,
    namespace: Namespace,
    by: Vec<&'static str>,
}

impl Signed {
    fn bytes(&self) -> Vec<u8> {
        self.json.to_string().into_bytes()
    }

    fn hash(&self) -> Digest {
        sha256(&self.bytes())
    }

    fn wire(&self) -> ByteBuf {
        let bytes = self.bytes();
        let signatures =
            self.by.iter().map(|name| sign_document(&key_of(name), self.namespace, &bytes)).collect();
        ByteBuf::from(DocumentParts { bytes, signatures }.to_wire())
    }
}

/// One order and its papers, honest until a test changes them.
#[derive(Clone)]
struct Story {
    now: DateTime<Utc>,
    fleets: Vec<Signed>,
    channel_ref: Signed,
    decision: Decision,
    /// Whose signatures the certificate holds, and beside whose name each stands.
    coordinators: Vec<(&'static str, &'static str)>,
    order: Order,
    with_papers: bool,
}

impl Story {
    /// The operators signed the target for the host, and a quorum has dispatched it.
    fn new() -> Self {
        let now = Utc::now().trunc_subsecs(3);
        let host =
            |name: &str, tag: &str| json!({ "key": line_of(name), "channel": "stable", "tags": [tag] });
        let fleet = json!({
            "kind": "muster/fleet/1", "fleet": FLEET, "serial": 5, "signedAt": stamp(now - TimeDelta::minutes(20)),
            "operators": { "alice": line_of("alice"), "bob": line_of("bob") },
            "thresholds": { "fleet": 2, "channelRef": 1, "command": 1 },
            "coordinators": { "selector": { "tags": ["coordinator"] } },
            "hosts": { "c1": host("c1", "coordinator"), "c2": host("c2", "coordinator"), "c3": host("c3", "coordinator"),
                       "web": host("web", "web"), "db": host("db", "web") },
            "channels": { "stable": { "rolloutPolicy": "policy", "freshnessWindowMinutes": 60 } },
            "rolloutPolicies": { "policy": {
                "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }], "activationTimeoutSeconds": 77 } },
        });
        let fleet = Signed { json: fleet, namespace: Namespace::Fleet, by: vec!["alice", "bob"] };
        let channel_ref = json!({
            "kind": "muster/channel-ref/1", "fleet": FLEET, "channel": "stable", "ref": "v1", "serial": 9,
            "signedAt": stamp(now - TimeDelta::minutes(10)), "fleetSerial": 5, "fleetHash": fleet.hash().to_string(),
            "targets": { "web": TARGET, "db": OTHER },
        });
        let channel_ref = Signed { json: channel_ref, namespace: Namespace::ChannelRef, by: vec!["alice"] };
        let rollout: RolloutId = "stable@v1".parse().unwrap();
        let decision = Decision {
            v: DECISION_VERSION,
            fleet: FLEET.parse().unwrap(),
            epoch: sha256(b""),
            fleet_serial: 5,
            log_index: 40,
            ordinal: 0,
            body: DecisionBody::Dispatch {
                host: HOST.parse().unwrap(),
                rollout_id: rollout.clone(),
                target_closure: system(TARGET),
                wave: 0,
                soak_due_at: now,
                soak_secs: 0,
                not_after: now + TimeDelta::minutes(9),
            },
        };
        let dispatch = Dispatch { rollout, log_index: 40 };
        let order = Order::Switch { dispatch, to: system(TARGET), timeout_secs: 5 };
        let coordinators = vec![("c1", "c1"), ("c2", "c2")];
        let mut story =
            Self { now, fleets: vec![fleet], channel_ref, decision, coordinators, order, with_papers: true };
        story.decision.epoch = story.epoch(0);
        story
    }

    fn epoch(&self, recovery: u64) -> Digest {
        let newest = Fleet::parse(&self.fleets.last().unwrap().bytes()).unwrap();
        coordination::epoch(&FLEET.parse().unwrap(), &newest, recovery)
    }

    /// The next release of the channel, dispatched at the next index of the log.
    fn next(&self) -> Self {
        let mut next = self.clone();
        let serial = self.channel_ref.json["serial"].as_u64().unwrap() + 1;
        next.channel_ref.json["serial"] = serial.into();
        next.channel_ref.json["ref"] = format!("v{serial}").into();
        next.dispatched(&format!("stable@v{serial}"), TARGET);
        next
    }

    /// The decision and the order are for a rollout's target, at the next index of the log.
    fn dispatched(&mut self, rollout: &str, target: &str) {
        self.decision.log_index += 1;
        let id: RolloutId = rollout.parse().unwrap();
        if let DecisionBody::Dispatch { rollout_id, target_closure, .. } = &mut self.decision.body {
            (*rollout_id, *target_closure) = (id.clone(), system(target));
        }
        let dispatch = Dispatch { rollout: id, log_index: self.decision.log_index };
        self.order = Order::Switch { dispatch, to: system(target), timeout_secs: 5 };
    }

    /// The fleet document that follows the newest one, changed; the ref names it.
    fn then_fleet(&mut self, by: Vec<&'static str>, changes: &[(&str, Value)]) {
        let mut fleet = self.fleets.last().unwrap().clone();
        fleet.json["serial"] = (fleet.json["serial"].as_u64().unwrap() + 1).into();
        for (pointer, value) in changes {
            change(&mut fleet.json, pointer, value.clone());
        }
        fleet.by = by;
        self.fleets.push(fleet);
        self.name_newest();
    }

    /// The ref names the newest fleet document.
    fn name_newest(&mut self) {
        let newest = self.fleets.last().unwrap();
        self.channel_ref.json["fleetSerial"] = newest.json["serial"].clone();
        self.channel_ref.json["fleetHash"] = newest.hash().to_string().into();
    }

    fn certificate(&self) -> Vec<u8> {
        let payload = codec::encode(&self.decision);
        let sign = |(beside, by): &(&str, &str)| {
            (key_of(beside).public(), sign_decision(&key_of(by), FLEET, &payload))
        };
        assemble(&payload, &self.coordinators.iter().map(sign).collect::<BTreeMap<_, _>>())
    }

    fn papers(&self) -> Papers {
        Papers {
            fleets: self.fleets.iter().map(Signed::wire).collect(),
            channel_ref: self.channel_ref.wire(),
            certificate: ByteBuf::from(self.certificate()),
        }
    }

    fn request(&self) -> Request {
        let papers = self.with_papers.then(|| self.papers());
        Request::CarryOut(CarryOut { order: self.order.clone(), papers })
    }

    fn dispatch(&self) -> Dispatch {
        Dispatch { rollout: self.rollout(), log_index: self.decision.log_index }
    }

    fn rollout(&self) -> RolloutId {
        match &self.order {
            Order::Switch { dispatch, .. }
            | Order::Boot { dispatch, .. }
            | Order::RollBack { dispatch, .. } => dispatch.rollout.clone(),
            Order::Reset(unit) => unit.dispatch.rollout.clone(),
        }
    }

    /// The way back from this story's switch.
    fn way_back(&self, to: &str) -> Request {
        let order =
            Order::RollBack { dispatch: self.dispatch(), to: system(to), timeout_secs: 5, live: true };
        Request::CarryOut(CarryOut { order, papers: None })
    }
}

/// Does nothing, and remembers what it was told to.
#[derive(Default)]
struct Pretend {
    running: RefCell<Option<Closure>>,
    acts: RefCell<Vec<Order>>,
    restarts: RefCell<u32>,
    /// Why every order fails.
    broken: Option<&'static str>,
    /// Whether orders never end.
    hangs: bool,
    /// Where the memory has to tell of an order when it is carried out.
    state: PathBuf,
}

impl Hands for Pretend {
    fn running(&self) -> Option<Closure> {
        self.running.borrow().clone()
    }

    async fn check_contents(&self, system: &Closure, signed: Digest) -> Result<(), String> {
        let found = sha256(system.as_str().as_bytes());
        if found == signed { Ok(()) } else { Err(format!("the contents of {system} are {found}")) }
    }

    async fn carry_out(&self, act: &Act) -> Result<(), String> {
        let remembered = fs::read(self.state.join("memory.cbor")).map(|bytes| Memory::decode(&bytes));
        let last = remembered.ok().and_then(Result::ok).and_then(|memory| memory.last);
        match act.order() {
            Order::Switch { to, .. } | Order::Boot { to, .. } => assert_eq!(last.unwrap().to, *to),
            Order::RollBack { .. } => assert!(last.unwrap().rollback.is_some()),
            Order::Reset(_) => {}
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(reason) = self.broken {
            return Err(reason.to_owned());
        }
        if let Order::Switch { to, .. } | Order::RollBack { to, live: true, .. } = act.order() {
            *self.running.borrow_mut() = Some(to.clone());
        }
        self.acts.borrow_mut().push(act.order().clone());
        Ok(())
    }

    async fn said(&self, unit: &Unit) -> String {
        format!("{} {}", "x".repeat(10_000), unit.name())
    }

    async fn restart(&self) -> Result<String, String> {
        *self.restarts.borrow_mut() += 1;
        Ok("restarted".to_owned())
    }
}

/// A host with its helper.
struct Bench {
    _folder: tempfile::TempDir,
    root: PathBuf,
    door: Door,
    hands: Pretend,
}

impl Bench {
    /// A host that trusts alice and bob, and runs what ran before.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let state = root.join("state");
        fs::create_dir(&state).unwrap();
        let trust = root.join("trust.json");
        fs::write(
            root.join("muster.toml"),
            format!("fleet = \"{FLEET}\"\nhost = \"{HOST}\"\ntrust = {trust:?}\n"),
        )
        .unwrap();
        let hands = Pretend {
            running: RefCell::new(Some(system(BEFORE))),
            state: state.clone(),
            ..Pretend::default()
        };
        let allowed = Allowed { user: Some(nix::unistd::geteuid()), group: None };
        let mut door = Door::new(root.join("muster.toml"), state, allowed);
        door.talk_time = TALK_TIME;
        let bench = Self { _folder: folder, root, door, hands };
        bench.trust(&["alice", "bob"], 2);
        bench
    }

    fn trust(&self, operators: &[&str], threshold: usize) {
        let operators: BTreeMap<&str, String> = operators.iter().map(|name| (*name, line_of(name))).collect();
        let trust = json!({ "fleet": FLEET, "operators": operators, "threshold": threshold });
        fs::write(self.root.join("trust.json"), trust.to_string()).unwrap();
    }

    /// Says these bytes to the helper, closes, and hears what it answers.
    async fn say(&self, bytes: &[u8]) -> Answer {
        let (mut daemon, helper) = UnixStream::pair().unwrap();
        let said = async {
            // A helper that has heard enough breaks off.
            drop(daemon.write_all(bytes).await);
            drop(daemon.shutdown().await);
            let mut answer = Vec::new();
            drop(daemon.read_to_end(&mut answer).await);
            answer
        };
        let (answer, ()) = tokio::join!(said, self.door.serve(helper, &self.hands));
        Answer::decode(&answer).unwrap()
    }

    async fn ask(&self, request: &Request) -> Answer {
        self.say(&request.encode()).await
    }

    fn memory(&self) -> Memory {
        Vault::open(&self.door.state, self.door.owner).unwrap().load().unwrap()
    }

    /// Changes what the helper remembers.
    fn remember(&self, change: impl FnOnce(&mut Memory)) {
        let vault = Vault::open(&self.door.state, self.door.owner).unwrap();
        let mut memory = vault.load().unwrap();
        change(&mut memory);
        vault.store(&memory).unwrap();
    }

    /// Asks for something that is carried out.
    async fn done(&self, request: &Request) {
        let before = self.hands.acts.borrow().len();
        let answer = self.ask(request).await;
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        assert_eq!(self.hands.acts.borrow().len(), before + 1);
    }

    /// Asks for something that a rule forbids: nothing is carried out, and nothing is remembered of it.
    async fn refused(&self, request: &Request, rule: &str, words: &str) {
        self.refused_of("it", request, rule, words).await;
    }

    /// The same, with a name for what is asked.
    async fn refused_of(&self, name: &str, request: &Request, rule: &str, words: &str) {
        let before = (self.hands.acts.borrow().clone(), self.memory());
        let answer = self.ask(request).await;
        let Answer::Refused { rule: found, reason } = answer else { panic!("{name}: {answer:?}") };
        assert_eq!(found, rule, "{name}: {reason}");
        assert!(reason.contains(words), "{name}: {reason}");
        assert_eq!((self.hands.acts.borrow().clone(), self.memory()), before, "{name}");
    }
}
