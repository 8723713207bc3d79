//! A fleet of real agents on loopback, with its operators and documents.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::agent::Agent;
use crate::cli::{Muster, Ran};
use crate::keys::Operator;
use crate::permit::Permit;
use crate::release::Release;
use crate::wait::wait_for;

/// The fleet's name.
const FLEET: &str = "home";
/// The one channel.
const CHANNEL: &str = "stable";
/// Below the ports that Linux gives to whoever asks for any, so that a restarted agent finds its own free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How long a fleet may take to start, to agree on a document, or to elect a coordinator.
const PATIENCE: Duration = Duration::from_secs(60);
/// Three of them missed are a host that is offline, which a machine busy with other tests must not make of one that runs.
const HEARTBEAT_SECS: f64 = 1.0;
/// Without gossip a heartbeat comes by sync, which asks one random peer every ten seconds: as in a fleet with the defaults,
/// three heartbeats are longer than it takes to be heard of by way of anyone.
const HEARTBEAT_BY_SYNC_SECS: f64 = 15.0;

/// What a fleet is to be.
#[derive(Debug)]
pub struct Builder {
    hosts: usize,
    coordinators: usize,
    operators: usize,
    threshold: usize,
    tags: Vec<(usize, &'static str)>,
    policy: Map<String, Value>,
    windows: Value,
    budgets: Value,
    gossip: bool,
    patience: Duration,
}

impl Builder {
    /// The first so many hosts are coordinators; unless said, all of them, but at most three.
    #[must_use]
    pub fn coordinators(mut self, count: usize) -> Self {
        self.coordinators = count;
        self
    }

    /// How many operators there are and how many of them must sign a document.
    #[must_use]
    pub fn operators(mut self, count: usize, threshold: usize) -> Self {
        (self.operators, self.threshold) = (count, threshold);
        self
    }

    /// Tags hosts, which are counted from 0.
    #[must_use]
    pub fn tag(mut self, tag: &'static str, hosts: impl IntoIterator<Item = usize>) -> Self {
        self.tags.extend(hosts.into_iter().map(|host| (host, tag)));
        self
    }

    /// Sets a key of the rollout policy.
    #[must_use]
    pub fn policy(mut self, key: &str, value: Value) -> Self {
        self.policy.insert(key.to_owned(), value);
        self
    }

    /// The maintenance windows of the one channel.
    #[must_use]
    pub fn windows(mut self, windows: Value) -> Self {
        self.windows = windows;
        self
    }

    /// The disruption budgets.
    #[must_use]
    pub fn budgets(mut self, budgets: Value) -> Self {
        self.budgets = budgets;
        self
    }

    /// Nothing is gossiped: what is said travels by sync alone, and takes its time.
    #[must_use]
    pub fn without_gossip(mut self, patience: Duration) -> Self {
        (self.gossip, self.patience) = (false, patience);
        self
    }

    /// Makes folders, keys, configurations and the signed fleet document; starts nothing.
    pub fn build(self) -> Fleet {
        let permit = Permit::acquire(self.hosts);
        // Not the system's temporary folder, which may be too long for a socket's path.
        let folder =
            tempfile::Builder::new().prefix("muster-").tempdir_in("/tmp").expect("a folder can be made");
        let top = folder.path();
        let agents: Vec<_> =
            (0..self.hosts).map(|index| Agent::new(top, &format!("host-{index}"), free_port())).collect();
        let names = ["alice", "bob", "carol"];
        let operators: Vec<_> = names[..self.operators].iter().map(|name| Operator::new(top, name)).collect();
        for agent in &agents {
            let others = agents.iter().filter(|other| other.name != agent.name);
            write_config(top, agent, others.map(Agent::bootstrap).collect(), self.gossip);
        }
        let lines: Map<_, _> =
            operators.iter().map(|operator| (operator.name.clone(), json!(operator.line))).collect();
        let trust = json!({ "fleet": FLEET, "operators": lines, "threshold": self.threshold });
        fs::write(top.join("trust.json"), trust.to_string()).expect("a file can be written");
        let document = self.document(&agents, &lines);
        let fleet = Fleet {
            agents,
            operators,
            document,
            coordinators: self.coordinators,
            serial: AtomicU64::new(0),
            patience: self.patience,
            folder: Some(folder),
            _permit: permit,
        };
        fleet.write_document();
        fleet
    }

    fn document(&self, agents: &[Agent], operators: &Map<String, Value>) -> Value {
        let host = |(index, agent): (usize, &Agent)| {
            let mut tags: Vec<_> =
                self.tags.iter().filter(|(host, _)| *host == index).map(|(_, tag)| *tag).collect();
            if index < self.coordinators {
                tags.push("coordinator");
            }
            let key = agent.key.public().to_openssh();
            let entry =
                json!({ "key": key, "tags": tags, "channel": CHANNEL, "addresses": [agent.address()] });
            (agent.name.clone(), entry)
        };
        let hosts: Map<_, _> = agents.iter().enumerate().map(host).collect();
        let threshold = self.threshold;
        json!({
            "kind": "muster/fleet/1", "fleet": FLEET, "serial": 1, "signedAt": now(),
            "operators": operators,
            "thresholds": { "fleet": threshold, "channelRef": threshold, "command": threshold },
            "coordinators": { "selector": { "tags": ["coordinator"] } },
            "hosts": hosts,
            "channels": { CHANNEL: {
                "rolloutPolicy": "tested", "freshnessWindowMinutes": 60, "windows": self.windows,
            } },
            "rolloutPolicies": { "tested": self.policy },
            "disruptionBudgets": self.budgets,
        })
    }
}

fn write_config(top: &Path, agent: &Agent, bootstrap: Vec<String>, gossip: bool) {
    let path = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
    let list = |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect());
    let table = |entries: Vec<(&str, toml::Value)>| {
        toml::Table::from_iter(entries.into_iter().map(|(key, value)| (key.to_owned(), value)))
    };
    let config = table(vec![
        ("fleet", FLEET.into()),
        ("host", agent.name.as_str().into()),
        ("state_dir", path(agent.folder.join("state"))),
        ("identity", path(agent.folder.join("key"))),
        ("trust", path(top.join("trust.json"))),
        ("listen", list(vec![agent.address()])),
        ("bootstrap", list(bootstrap)),
        ("socket", path(agent.socket())),
        ("heartbeat_seconds", (if gossip { HEARTBEAT_SECS } else { HEARTBEAT_BY_SYNC_SECS }).into()),
        ("activation", table(vec![("backend", "directory".into()), ("root", path(agent.root()))]).into()),
        ("gossip", table(vec![("publish", gossip.into())]).into()),
    ]);
    fs::write(agent.config(), config.to_string()).expect("a configuration can be written");
}

/// A port on loopback that no agent of these tests has.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Two runs of the tests at the same time begin at different places.
    let begin = u16::try_from(std::process::id() * 97 % u32::from(count)).expect("less than a port");
    let free =
        (0..count).map(|_| PORTS.start + (begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % count);
    free.into_iter().find(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok()).expect("some port is free")
}

/// The present moment as documents write it.
fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A fleet of real agents; all of them end, and all they had is removed, when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The hosts.
    pub agents: Vec<Agent>,
    /// The people who sign.
    pub operators: Vec<Operator>,
    /// The fleet document.
    pub document: Value,
    coordinators: usize,
    serial: AtomicU64,
    patience: Duration,
    folder: Option<TempDir>,
    _permit: Permit,
}

impl Fleet {
    /// A fleet of so many hosts: one operator, one wave without soak, rollback when health fails for a second.
    pub fn of(hosts: usize) -> Builder {
        let policy = json!({
            "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }],
            "sustainedFailureSeconds": 1, "onHealthFailure": "rollback-and-halt",
        });
        Builder {
            hosts,
            coordinators: hosts.min(3),
            operators: 1,
            threshold: 1,
            tags: Vec::new(),
            policy: policy.as_object().cloned().unwrap_or_default(),
            windows: json!([]),
            budgets: json!([]),
            gossip: true,
            patience: PATIENCE,
        }
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("the fleet lives").path()
    }

    /// The fleet document's file.
    pub fn document_file(&self) -> PathBuf {
        self.folder().join("fleet.json")
    }

    /// The trust file of every host.
    pub fn trust_file(&self) -> PathBuf {
        self.folder().join("trust.json")
    }

    fn write_document(&self) {
        let text = serde_json::to_string_pretty(&self.document).expect("JSON can be written");
        fs::write(self.document_file(), text).expect("a document can be written");
    }

    /// Puts a release on every host, to be switched to.
    pub fn install(&self, name: &str, release: Release) {
        self.agents.iter().for_each(|agent| agent.install(name, release));
    }

    /// Starts every agent and waits until each answers.
    pub fn start(&self) {
        self.agents.iter().for_each(Agent::start);
        self.agents.iter().for_each(|agent| self.wait_until_up(agent));
    }

    /// Waits until an agent answers on its socket.
    pub fn wait_until_up(&self, agent: &Agent) {
        wait_for(&format!("{} answers", agent.name), self.patience, || {
            assert!(agent.is_running(), "{} ended by itself", agent.name);
            agent.ask("/healthz").ok().filter(|answer| answer.status == 200)
        });
    }

    /// Signs the fleet document, publishes it at the first host, and waits until all hold it, have a coordinator, and
    /// have heard each other: a host that was never heard of counts as offline, and a rollout goes past it.
    pub fn found(&self) {
        for (index, operator) in self.operators.iter().enumerate() {
            let add: &[&str] = if index == 0 { &[] } else { &["--add"] };
            self.sign(&[&["fleet"], add].concat(), &self.document_file(), operator).ok();
        }
        self.agents[0].muster(["publish"]).arg(self.document_file()).run().ok();
        self.wait_for_all("holds the fleet document", |agent| agent.look("/v1/status")["fleet_serial"] == 1);
        self.coordinator();
        self.wait_for_all("hears every host", |agent| {
            let hosts = agent.look("/v1/status")["hosts"].take();
            hosts.as_array().is_some_and(|hosts| hosts.iter().all(|host| host["online"] == true))
        });
    }

    /// Starts every agent and gives them the fleet document.
    pub fn launch(&self) {
        self.start();
        self.found();
    }

    /// Has an operator sign a file as it stands: `muster sign KIND FILE --key KEY`.
    pub fn sign(&self, kind: &[&str], file: &Path, operator: &Operator) -> Ran {
        Muster::new(["sign"])
            .args(kind)
            .arg(file)
            .arg("--key")
            .arg(&operator.file)
            .within(self.folder())
            .run()
    }

    /// Makes and signs a channel ref with the next serial that sends every host to a release.
    pub fn sign_ref(&self, name: &str, release: &str) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let targets: Map<_, _> =
            self.agents.iter().map(|agent| (agent.name.clone(), json!(format!("dir:{release}")))).collect();
        let targets_file = self.folder().join(format!("{name}.targets.json"));
        fs::write(&targets_file, Value::from(targets).to_string()).expect("targets can be written");
        let out = self.folder().join(format!("{name}.json"));
        let serial = serial.to_string();
        Muster::new(["sign", "channel-ref", "--channel", CHANNEL, "--ref", name, "--serial", &serial])
            .args(["--targets".as_ref(), targets_file.as_os_str(), "--fleet".as_ref()])
            .arg(self.document_file())
            .args(["--key".as_ref(), self.operators[0].file.as_os_str(), "--out".as_ref(), out.as_os_str()])
            .within(self.folder())
            .run()
            .ok();
        for operator in &self.operators[1..] {
            Muster::new(["sign", "channel-ref", "--add", "--channel", CHANNEL, "--fleet"])
                .arg(self.document_file())
                .args(["--key".as_ref(), operator.file.as_os_str(), "--out".as_ref(), out.as_os_str()])
                .run()
                .ok();
        }
        out
    }

    /// A channel ref as an operator would write it by hand: for every host, with any serial.
    pub fn channel_ref(&self, name: &str, release: &str, serial: u64) -> Value {
        let document = fs::read(self.document_file()).expect("the fleet document can be read");
        let targets: Map<_, _> =
            self.agents.iter().map(|agent| (agent.name.clone(), json!(format!("dir:{release}")))).collect();
        json!({
            "kind": "muster/channel-ref/1", "fleet": FLEET, "channel": CHANNEL, "ref": name, "serial": serial,
            "signedAt": now(), "fleetSerial": 1, "fleetHash": muster_signing::sha256(&document).to_string(),
            "targets": targets,
        })
    }

    /// Sends every host to a release; gives the rollout's id.
    pub fn roll_out(&self, name: &str, release: &str) -> String {
        self.roll_out_at(0, name, release)
    }

    /// The same, published at another host than the first.
    pub fn roll_out_at(&self, agent: usize, name: &str, release: &str) -> String {
        let file = self.sign_ref(name, release);
        self.agents[agent].muster(["publish"]).arg(file).run().ok();
        format!("{CHANNEL}@{name}")
    }

    /// Waits until every running agent shows something.
    pub fn wait_for_all(&self, what: &str, shows: impl Fn(&Agent) -> bool) {
        for agent in self.agents.iter().filter(|agent| agent.is_running()) {
            wait_for(&format!("{} {what}", agent.name), self.patience, || shows(agent).then_some(()));
        }
    }

    /// Waits until every running agent is on a release; that its rollout is over does not say so, since a rollout goes past
    /// whoever is not heard of, and who is heard again comes after.
    pub fn wait_for_release(&self, release: &str) {
        let closure = format!("dir:{release}");
        self.wait_for_all(&format!("is on {closure}"), |agent| agent.current() == closure);
    }

    /// Waits until every running agent shows a rollout in a state.
    pub fn wait_for_rollout(&self, id: &str, state: &str) {
        self.wait_for_all(&format!("shows {id} {state}"), |agent| agent.rollout_state(id) == state);
    }

    /// The elected coordinator, once all running coordinators agree on one that runs.
    pub fn coordinator(&self) -> &Agent {
        wait_for("the coordinators agree on one of them", self.patience, || {
            let running: Vec<_> =
                self.agents[..self.coordinators].iter().filter(|agent| agent.is_running()).collect();
            let named = |agent: &Agent| agent.look("/v1/status")["coordinator"].take();
            let name = named(running.first()?);
            let agreed = running.iter().all(|agent| named(agent) == name);
            running.into_iter().find(|agent| agreed && name == agent.name.as_str())
        })
    }
}

impl Drop for Fleet {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the test that failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for agent in &self.agents {
                eprintln!("{}", agent.log_tail());
            }
            if std::env::var_os("MUSTER_TEST_KEEP").is_some()
                && let Some(folder) = self.folder.take()
            {
                eprintln!("kept: {}", folder.keep().display());
            }
        }
    }
}
