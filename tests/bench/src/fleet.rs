//! A fleet of any size in one store: a real node is its one coordinator, and everybody else is played.
//!
//! All of it is signed as in a real fleet, so that the agent that opens the store finds nothing amiss: some rollouts that
//! are over, and one that is under way, whose hosts soak and stay there.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use muster_core::document::Trust;
use muster_core::drive::{Drive, Shell};
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::ledger::{Batch, NO_HASH, Rows, Table};
use muster_core::node::{
    BackendKind, HostOrder, HostReport, Input, Node, Origin, Output, RequestId, Settings, Topic,
};
use muster_core::time::{Mono, Now};
use muster_core::verify;
use muster_core::wire::{
    Decision, DecisionBody, Envelope, FeedBody, HostEvent, HostEventKind, Notice, NoticeBody, Presence,
    RULES, StoreState, codec,
};
use muster_signing::{
    Certificate, Digest, DocumentParts, Namespace, Purpose, SigningKey, seal, sha256, sign_document,
};
use muster_store::{Identity, Store};
use serde_json::{Map, Value, json};

/// The fleet's name.
pub(crate) const FLEET: &str = "bench";
/// The coordinator, whose agent is measured; it has a channel of its own, on which nothing is released.
pub(crate) const ME: &str = "coordinator";
/// The channel of all others.
const CHANNEL: &str = "stable";
/// Longer than any measurement takes.
const DAY_SECS: u64 = 86_400;
/// How long ago the story begins.
const STORY: TimeDelta = TimeDelta::hours(2);
/// How long a node may have nothing to do before it is stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often hosts say that they are there.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What the coordinator's store holds.
#[derive(Debug, Default)]
struct Disk(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Rows for Disk {
    fn get(&self, of: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(&(of, key.to_vec())).cloned())
    }

    fn table(&self, of: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        let rows = self.0.range((of, Vec::new())..).take_while(move |((table, _), _)| *table == of);
        rows.map(|((_, key), value)| Ok((key.clone(), value.clone())))
    }
}

/// The coordinator's hands: writes are durable at once.
#[derive(Debug, Default)]
struct Hands {
    disk: Disk,
    stored: VecDeque<u64>,
    performed: VecDeque<Output>,
}

impl Shell for Hands {
    fn store(&mut self, batch: u64, rows: Batch) {
        for change in rows.0 {
            let place = (change.table, change.key);
            match change.value {
                Some(value) => drop(self.disk.0.insert(place, value)),
                None => drop(self.disk.0.remove(&place)),
            }
        }
        self.stored.push_back(batch);
    }

    fn perform(&mut self, output: Output) {
        self.performed.push_back(output);
    }
}

/// A host that is played.
#[derive(Debug)]
struct Host {
    key: SigningKey,
    incarnation: u64,
    seq: u64,
    hash: Digest,
    running: Option<Closure>,
}

/// The fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    node: Node,
    drive: Drive,
    hands: Hands,
    hosts: BTreeMap<HostId, Host>,
    document: Vec<u8>,
    begun: DateTime<Utc>,
    clock: Mono,
    refs: u64,
    /// Whether hosts that are dispatched stay in their soak.
    soak: bool,
}

fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(sha256(name.as_bytes()).0)
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn trust_text() -> String {
    let operators = json!({ "alice": key_of("alice").public().to_openssh() });
    json!({ "fleet": FLEET, "operators": operators, "threshold": 1 }).to_string()
}

fn is_canary(number: usize, hosts: usize) -> bool {
    number * 10 < hosts
}

/// A tenth is the canary; the rest go by halves.
fn fleet_document(hosts: usize, at: DateTime<Utc>) -> Value {
    let entry = |number: usize| {
        let name = format!("host-{number:04}");
        let wave = if is_canary(number, hosts) {
            "canary"
        } else if number * 2 < hosts {
            "early"
        } else {
            "late"
        };
        let key = key_of(&name).public().to_openssh();
        (name, json!({ "key": key, "channel": CHANNEL, "tags": [wave] }))
    };
    let mut all: Map<String, Value> = (1..hosts).map(entry).collect();
    all.insert(ME.to_owned(), json!({ "key": key_of(ME).public().to_openssh(), "channel": "control" }));
    let waves: Vec<Value> = ["canary", "early", "late"]
        .iter()
        .map(|tag| json!({ "selector": { "tags": [tag] }, "soakSeconds": 0 }))
        .collect();
    let channel = |policy: &str| json!({ "rolloutPolicy": policy, "freshnessWindowMinutes": 10080 });
    let everybody = json!({ "selector": { "all": true }, "soakSeconds": 0 });
    // Who soaks says nothing more, and is to stay where it is.
    let patient =
        json!({ "waves": waves, "activationTimeoutSeconds": DAY_SECS, "lostAfterSeconds": DAY_SECS });
    json!({
        "kind": "muster/fleet/1", "fleet": FLEET, "serial": 1, "signedAt": stamp(at),
        "operators": { "alice": key_of("alice").public().to_openssh() },
        "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
        "coordinators": { "selector": { "hosts": [ME] } },
        "hosts": all,
        "channels": { CHANNEL: channel("waves"), "control": channel("all") },
        "rolloutPolicies": { "waves": patient, "all": { "waves": [everybody] } },
        "disruptionBudgets": [{ "selector": { "all": true }, "maxInFlight": hosts.div_ceil(5) }],
    })
}

impl Fleet {
    /// Plays the story of a fleet of so many hosts: so many rollouts that are over, and one that is under way.
    pub(crate) fn play(hosts: usize, history: usize) -> Result<Self> {
        let begun = Utc::now() - STORY;
        let document = fleet_document(hosts, begun).to_string().into_bytes();
        let settings = Settings {
            fleet: FLEET.parse()?,
            host: ME.parse()?,
            heartbeat: HEARTBEAT,
            agent_version: "0".to_owned(),
            boot_id: "boot".to_owned(),
            backend: BackendKind::Directory,
            rules: RULES,
            retention: Duration::from_secs(DAY_SECS * 90),
            snapshot_entries: muster_core::node::SNAPSHOT_ENTRIES,
            seed: 1,
        };
        let trust = Trust::parse(trust_text().as_bytes())?;
        let hands = Hands::default();
        let now = Now { utc: begun, mono: Mono(0) };
        let (node, outputs) = Node::start(settings, key_of(ME), vec![trust], &hands.disk, now)?;
        let incarnation = u64::try_from(begun.timestamp_millis())?;
        let host = |number: usize| -> Result<(HostId, Host)> {
            let name = format!("host-{number:04}");
            let key = key_of(&name);
            let running = Some("dir:v0".parse()?);
            Ok((name.parse()?, Host { key, incarnation, seq: 0, hash: NO_HASH, running }))
        };
        let mut fleet = Self {
            node,
            drive: Drive::new(),
            hands,
            hosts: (1..hosts).map(host).collect::<Result<_>>()?,
            document,
            begun,
            clock: Mono(0),
            refs: 0,
            soak: false,
        };
        fleet.carry_out(outputs)?;
        fleet.publish(Namespace::Fleet, fleet.document.clone())?;
        fleet.everybody_speaks()?;
        for _ in 0..history {
            fleet.release()?;
            let id = fleet.open_rollout();
            fleet.until(|fleet| fleet.state_of(&id).is_some_and(|open| !open))?;
        }
        fleet.soak = true;
        fleet.release()?;
        let canaries = (1..hosts).filter(|number| is_canary(*number, hosts)).count();
        fleet
            .until(|fleet| fleet.hosts.keys().filter(|host| fleet.is_dispatched(host)).count() == canaries)?;
        Ok(fleet)
    }

    /// The coordinator's key.
    pub(crate) fn key(&self) -> SigningKey {
        key_of(ME)
    }

    /// The pinned operators, as a file.
    pub(crate) fn trust_text(&self) -> String {
        trust_text()
    }

    /// The rollout that was released last.
    pub(crate) fn open_rollout(&self) -> String {
        format!("{CHANNEL}@v{}", self.refs)
    }

    /// How many records the coordinator has learnt.
    pub(crate) fn records(&self) -> u64 {
        self.node.ledger().position()
    }

    /// A ref that could be published next.
    pub(crate) fn next_ref(&self) -> String {
        self.channel_ref(self.refs + 1, Utc::now()).to_string()
    }

    /// Writes all that the coordinator knows into a store.
    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        let store = Store::open(path, Identity { fleet: FLEET.to_owned(), host: ME.to_owned() })?;
        let mut batch = Batch::default();
        for ((of, key), value) in &self.hands.disk.0 {
            batch.put(*of, key.clone(), value.clone());
        }
        store.commit_wait(muster::storage::changes(batch))?;
        store.close()?;
        Ok(())
    }

    fn state_of(&self, id: &str) -> Option<bool> {
        let id: RolloutId = id.parse().ok()?;
        self.node.ledger().rollouts().get(&id).map(|record| record.state.is_open())
    }

    fn is_dispatched(&self, host: &HostId) -> bool {
        let id: Option<RolloutId> = self.open_rollout().parse().ok();
        id.is_some_and(|id| self.node.ledger().record(host, &id).is_some())
    }

    fn channel_ref(&self, number: u64, at: DateTime<Utc>) -> Value {
        let target = format!("dir:v{number}");
        let targets: Map<String, Value> =
            self.hosts.keys().map(|host| (host.to_string(), json!(target))).collect();
        json!({
            "kind": "muster/channel-ref/1", "fleet": FLEET, "channel": CHANNEL, "ref": format!("v{number}"),
            "serial": number, "signedAt": stamp(at), "fleetSerial": 1,
            "fleetHash": sha256(&self.document).to_string(), "targets": targets,
        })
    }

    fn release(&mut self) -> Result<()> {
        self.refs += 1;
        let document = self.channel_ref(self.refs, self.now().utc).to_string().into_bytes();
        self.publish(Namespace::ChannelRef, document)
    }

    fn publish(&mut self, namespace: Namespace, bytes: Vec<u8>) -> Result<()> {
        let signatures = vec![sign_document(&key_of("alice"), namespace, &bytes)];
        let document = verify::document_parts(DocumentParts { bytes, signatures });
        self.step(Input::Document { document, origin: Origin::Operator(RequestId(1)) })
    }

    fn now(&self) -> Now {
        let passed = i64::try_from(self.clock.0 / 1000).unwrap_or_default();
        Now { utc: self.begun + TimeDelta::milliseconds(passed), mono: self.clock }
    }

    /// Lets time pass until something has come about.
    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        let begun = self.clock;
        while !done(self) {
            if self.clock.since(begun) > PATIENCE {
                bail!("the coordinator makes no way; alarms: {:?}", self.node.alarms().collect::<Vec<_>>());
            }
            let next = self.node.wakes_at().context("the coordinator sleeps for ever")?;
            self.clock = next.max(self.clock.after(Duration::from_millis(1)));
            self.step(Input::Tick)?;
        }
        Ok(())
    }

    fn step(&mut self, input: Input) -> Result<()> {
        let outputs = self.node.step(self.now(), input);
        self.carry_out(outputs)
    }

    /// Does what a step asked for, and all that follows from it.
    fn carry_out(&mut self, outputs: Vec<Output>) -> Result<()> {
        self.drive.carry_out(outputs, &mut self.hands);
        loop {
            let outputs = if let Some(batch) = self.hands.stored.pop_front() {
                self.drive.stored(batch, &mut self.hands);
                self.node.step(self.now(), Input::Stored { batch })
            } else if let Some(output) = self.hands.performed.pop_front() {
                self.answer(output)?
            } else {
                return Ok(());
            };
            self.drive.carry_out(outputs, &mut self.hands);
        }
    }

    fn answer(&mut self, output: Output) -> Result<Vec<Output>> {
        match output {
            Output::Publish { topic: Topic::Decisions, bytes } => self.decided(&bytes),
            Output::Order(HostOrder::Observe) => {
                let running = HostReport::Running(None);
                Ok(self.node.step(self.now(), Input::Host(running)))
            }
            Output::Order(HostOrder::StartProbes { generation }) => {
                let declared = HostReport::ProbesDeclared { generation, probes: Ok(Vec::new()) };
                Ok(self.node.step(self.now(), Input::Host(declared)))
            }
            Output::Reply { result: Err(refusal), .. } => bail!("a document is refused: {refusal}"),
            Output::Reply { .. }
            | Output::Publish { .. }
            | Output::Order(_)
            | Output::Persist { .. }
            | Output::Send { .. }
            | Output::Verdict { .. }
            | Output::Fetch { .. }
            | Output::Enrol(_)
            | Output::Tell(_) => Ok(Vec::new()),
        }
    }

    /// Whoever is dispatched says what a host says that switches.
    fn decided(&mut self, bytes: &[u8]) -> Result<Vec<Output>> {
        let certificate = Certificate::parse(bytes)?;
        let decision: Decision = codec::decode("decision", certificate.payload())?;
        let DecisionBody::Dispatch { host, rollout_id, target_closure: closure, .. } = decision.body else {
            return Ok(Vec::new());
        };
        let (at, log_index, soaks) = (self.now().utc, decision.log_index, self.soak);
        let Some(of) = self.hosts.get_mut(&host) else { return Ok(Vec::new()) };
        let before = of.running.replace(closure.clone());
        let mut kinds = vec![
            HostEventKind::DispatchAck { current_closure_at_dispatch: before, received_at: at, log_index },
            HostEventKind::ActivationStarted {
                started_at: at,
                switch_method: "directory".to_owned(),
                boot_id: "boot".to_owned(),
            },
            HostEventKind::ActivationCompleted {
                observed_current_closure: closure.clone(),
                exit_code: 0,
                completed_at: at,
            },
            HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at: at },
        ];
        if !soaks {
            kinds.push(HostEventKind::Converged { converged_at: at, current_closure: closure });
        }
        let mut outputs = Vec::new();
        let said = (1..).zip(kinds).map(|(seq, kind)| {
            of_host(of, &host, at, HostEvent { rollout_id: rollout_id.clone(), seq, kind })
        });
        for bytes in said.collect::<Vec<_>>() {
            let envelope = verify::envelope(self.node.ledger().roster(), &bytes)?;
            outputs.extend(self.node.step(self.now(), Input::Envelope { envelope, message: None }));
        }
        Ok(outputs)
    }

    fn everybody_speaks(&mut self) -> Result<()> {
        let names: Vec<HostId> = self.hosts.keys().cloned().collect();
        for host in names {
            let Some(of) = self.hosts.get(&host) else { continue };
            let notice = Notice {
                fleet: FLEET.parse()?,
                host: host.clone(),
                incarnation: of.incarnation,
                boot: 1,
                n: 1,
                at: self.now().utc,
                body: NoticeBody::Presence(Box::new(presence(of))),
            };
            let bytes = seal(&of.key, Purpose::Notice, FLEET, &codec::encode(&notice));
            let notice = verify::notice(self.node.ledger().roster(), &bytes)?;
            self.step(Input::Notice { notice, message: None })?;
        }
        Ok(())
    }
}

/// The host's next envelope, signed.
fn of_host(of: &mut Host, host: &HostId, at: DateTime<Utc>, event: HostEvent) -> Vec<u8> {
    let envelope = Envelope {
        fleet: FLEET.parse().unwrap_or_else(|_| unreachable!("a fleet's name of letters")),
        host: host.clone(),
        incarnation: of.incarnation,
        seq: of.seq + 1,
        prev: of.hash,
        at,
        body: FeedBody::Rollout(event),
    };
    let bytes = seal(&of.key, Purpose::Envelope, FLEET, &codec::encode(&envelope));
    (of.seq, of.hash) = (envelope.seq, sha256(&bytes));
    bytes
}

fn presence(of: &Host) -> Presence {
    Presence {
        head_seq: of.seq,
        head_hash: of.hash,
        current_closure: of.running.clone(),
        fetched: Vec::new(),
        prefetches: false,
        fetching: String::new(),
        reboot_pending: false,
        store: StoreState::Ok,
        agent_version: "0".to_owned(),
        fleet_serial: 1,
        uptime_secs: 1,
        outbox: 0,
        failing_enforce_probes: Vec::new(),
        rules: RULES,
        awaits_readmission: false,
        epoch: None,
        asks_for_head: false,
        heartbeat_millis: 30_000,
    }
}
