//! The demo's fleet on disk: keys, addresses, signed documents, releases, and one configuration per agent.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::BASE64;
use muster_signing::{Namespace, SigningKey, armor, sha256, sign_document};
use serde_json::{Value, json};

use super::DemoError;
use crate::control::wire::SignedDocument;
use crate::keys;

/// The fleet's name.
pub const FLEET: &str = "demo";
/// Its only channel.
pub const CHANNEL: &str = "stable";
/// Its only operator.
pub const OPERATOR: &str = "operator";
/// How many coordinators it has.
pub const COORDINATORS: usize = 3;
/// The fewest hosts with which the story can be told: the canary is no coordinator.
pub const HOSTS_MIN: usize = COORDINATORS + 1;
/// The most hosts that two cores carry within the time that a demo may take.
pub const HOSTS_MAX: usize = 16;
/// How often an agent says that it is there, in seconds.
const HEARTBEAT_SECS: i64 = 1;
/// How long an activation takes, as a shell's `sleep` takes it.
const ACTIVATION_SECS: &str = "0.3";
/// How long a health check must have failed before a host goes back, in seconds.
pub const SUSTAINED_FAILURE_SECS: u64 = 2;

/// A release that the demo rolls out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Its name: the ref, and the closure `dir:<name>` on every host.
    pub name: &'static str,
    /// Its place among the channel's refs.
    pub serial: u64,
    /// Whether its health check passes.
    pub healthy: bool,
}

/// The first release.
pub const V1: Release = Release { name: "v1", serial: 1, healthy: true };
/// The second one, as good as the first.
pub const V2: Release = Release { name: "v2", serial: 2, healthy: true };
/// The one that starts, and does not work.
pub const V3: Release = Release { name: "v3", serial: 3, healthy: false };

impl Release {
    /// The closure on every host.
    pub fn closure(self) -> String {
        format!("dir:{}", self.name)
    }

    /// The id of the rollout that brings it.
    pub fn rollout(self) -> String {
        format!("{CHANNEL}@{}", self.name)
    }
}

/// One host of the fleet.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Whether it is a coordinator.
    pub coordinator: bool,
    /// Its tags in the fleet document.
    tags: Vec<&'static str>,
    port: u16,
    key: SigningKey,
}

impl Host {
    /// Its agent's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("muster.toml")
    }

    /// Its agent's control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("muster.sock")
    }

    /// What its agent says.
    pub fn log(&self) -> PathBuf {
        self.dir.join("muster.log")
    }

    /// The folder of its activation backend.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The release that its `current` link names.
    pub fn current(&self) -> Option<String> {
        let link = fs::read_link(self.root().join("current")).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    fn address(&self) -> String {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", self.port)
    }
}

/// The fleet and everything that was written for it.
#[derive(Debug)]
pub struct Fleet {
    /// Its folder.
    pub dir: PathBuf,
    /// Its hosts, in the order of their waves.
    pub hosts: Vec<Host>,
    operator: SigningKey,
    document: Vec<u8>,
}

impl Fleet {
    /// Makes a fleet of `count` hosts in an empty folder; the ports are free at this moment.
    pub fn make(dir: &Path, count: usize, now: DateTime<Utc>) -> Result<Self, DemoError> {
        let ports = free_ports(count)?;
        let operator = keys::generate()?;
        let hosts = roles(count).into_iter().zip(ports).map(|((name, tags), port)| {
            let key = keys::generate()?;
            let coordinator = tags.contains(&"coordinator");
            Ok(Host { dir: dir.join(&name), name, coordinator, tags, port, key })
        });
        let hosts = hosts.collect::<Result<Vec<_>, DemoError>>()?;
        let document = text(&fleet_document(&operator, &hosts, now));
        let fleet = Self { dir: dir.to_owned(), hosts, operator, document };
        fleet.write()?;
        Ok(fleet)
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The first host that gets a release.
    pub fn canary(&self) -> &Host {
        &self.hosts[0]
    }

    /// The names of the hosts for which `which` holds.
    pub fn names(&self, which: impl Fn(&Host) -> bool) -> Vec<&str> {
        self.hosts.iter().filter(|host| which(host)).map(|host| host.name.as_str()).collect()
    }

    /// The fleet document, signed.
    pub fn signed(&self) -> Result<SignedDocument, DemoError> {
        self.sign(Namespace::Fleet, "fleet.json", &self.document)
    }

    /// The channel ref that releases `release`, signed now.
    pub fn release(&self, release: Release, now: DateTime<Utc>) -> Result<SignedDocument, DemoError> {
        let targets = self.targets(release);
        let document = text(&json!({
            "kind": "muster/channel-ref/1",
            "fleet": FLEET,
            "channel": CHANNEL,
            "ref": release.name,
            "serial": release.serial,
            "signedAt": rfc3339(now),
            "fleetSerial": 1,
            "fleetHash": sha256(&self.document).to_string(),
            "targets": targets,
        }));
        self.sign(Namespace::ChannelRef, &format!("{}.json", release.name), &document)
    }

    fn targets(&self, release: Release) -> BTreeMap<&str, String> {
        self.hosts.iter().map(|host| (host.name.as_str(), release.closure())).collect()
    }

    /// Signs a document and leaves both as files, as `muster sign` does.
    fn sign(&self, namespace: Namespace, name: &str, document: &[u8]) -> Result<SignedDocument, DemoError> {
        let signature = armor(&sign_document(&self.operator, namespace, document));
        write(&self.dir.join(name), document)?;
        write(&self.dir.join(format!("{name}.{OPERATOR}.sig")), signature.as_bytes())?;
        Ok(SignedDocument { document: BASE64.encode(document), signatures: vec![signature] })
    }

    fn write(&self) -> Result<(), DemoError> {
        keys::write_pair(&self.dir.join(OPERATOR), &self.operator, "muster demo")?;
        let trust = json!({
            "fleet": FLEET,
            "operators": { OPERATOR: self.operator.public().to_openssh() },
            "threshold": 1,
        });
        write(&self.dir.join("trust.json"), &text(&trust))?;
        for release in [V1, V2, V3] {
            let name = format!("{}.targets.json", release.name);
            write(&self.dir.join(name), &text(&json!(self.targets(release))))?;
        }
        for host in &self.hosts {
            let root = host.root();
            for release in [V1, V2, V3] {
                write_release(&root.join("releases").join(release.name), release)?;
            }
            keys::write_pair(&host.dir.join("identity"), &host.key, &host.name)?;
            write(&host.config(), self.configuration(host).to_string().as_bytes())?;
        }
        Ok(())
    }

    fn configuration(&self, host: &Host) -> toml::Table {
        let path = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
        let others = self.hosts.iter().filter(|other| other.name != host.name);
        let bootstrap =
            others.map(|other| format!("{}/p2p/{}", other.address(), other.key.public().peer_id()));
        let mut activation = toml::Table::new();
        activation.insert("backend".to_owned(), "directory".into());
        activation.insert("root".to_owned(), path(host.root()));
        [
            ("fleet", FLEET.into()),
            ("host", host.name.clone().into()),
            ("state_dir", path(host.dir.clone())),
            ("socket", path(host.socket())),
            ("identity", path(host.dir.join("identity"))),
            ("trust", path(self.dir.join("trust.json"))),
            ("listen", vec![host.address()].into()),
            ("bootstrap", bootstrap.collect::<Vec<_>>().into()),
            ("relay", "off".into()),
            ("heartbeat_seconds", HEARTBEAT_SECS.into()),
            ("activation", activation.into()),
        ]
        .into_iter()
        .map(|(key, value): (&str, toml::Value)| (key.to_owned(), value))
        .collect()
    }
}

/// Names and tags: a canary, two more web servers in the second wave, and the databases with whatever is left in the last.
fn roles(count: usize) -> Vec<(String, Vec<&'static str>)> {
    let webs = count.saturating_sub(2).max(1);
    let web = (1..=webs).map(|n| {
        let mut tags = vec!["web"];
        match n {
            1 => tags.push("canary"),
            2 | 3 => tags.push("early"),
            _ => {}
        }
        (format!("web-{n}"), tags)
    });
    let db = (1..=count - webs).map(|n| (format!("db-{n}"), vec!["db"]));
    let mut all: Vec<_> = web.chain(db).collect();
    for (_, tags) in all.iter_mut().rev().take(COORDINATORS) {
        tags.push("coordinator");
    }
    all
}

fn fleet_document(operator: &SigningKey, hosts: &[Host], now: DateTime<Utc>) -> Value {
    let line = |host: &Host| {
        json!({
            "key": host.key.public().to_openssh(),
            "tags": host.tags,
            "channel": CHANNEL,
            "addresses": [host.address()],
        })
    };
    let lines: BTreeMap<_, _> = hosts.iter().map(|host| (host.name.as_str(), line(host))).collect();
    json!({
        "kind": "muster/fleet/1",
        "fleet": FLEET,
        "serial": 1,
        "signedAt": rfc3339(now),
        "operators": { OPERATOR: operator.public().to_openssh() },
        "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
        "coordinators": { "selector": { "tags": ["coordinator"] } },
        "hosts": lines,
        "channels": { CHANNEL: { "rolloutPolicy": "careful", "freshnessWindowMinutes": 1440 } },
        "rolloutPolicies": { "careful": {
            "waves": [
                { "selector": { "tags": ["canary"] }, "soakSeconds": 1 },
                { "selector": { "tags": ["early"] }, "soakSeconds": 1 },
                { "selector": { "all": true }, "soakSeconds": 1 },
            ],
            "sustainedFailureSeconds": SUSTAINED_FAILURE_SECS,
            "onHealthFailure": "rollback-and-halt",
            "dispatchTimeoutSeconds": 30,
            "activationTimeoutSeconds": 30,
            "lostAfterSeconds": 60,
        } },
        "disruptionBudgets": [
            { "selector": { "tags": ["db"] }, "maxInFlight": 1 },
            { "selector": { "all": true }, "maxInFlightPct": 50 },
        ],
    })
}

/// A folder with a program that puts the release into service, and one that says how it does.
fn write_release(dir: &Path, release: Release) -> Result<(), DemoError> {
    let health = if release.healthy {
        "#!/bin/sh\n# Here a real one would ask the service.\nexit 0\n"
    } else {
        "#!/bin/sh\necho 'the front page answers 500' >&2\nexit 1\n"
    };
    let activate = format!(
        "#!/bin/sh\n# Here a real one would restart services.\nsleep {ACTIVATION_SECS}\necho \"$MUSTER_CLOSURE\" > \"$MUSTER_ROOT/in-service\"\n"
    );
    let checks = json!({ "front-page": {
        "kind": "exec", "mode": "enforce", "command": ["./health"], "intervalSeconds": 1, "timeoutSeconds": 5,
    } });
    fs::create_dir_all(dir).map_err(DemoError::io(dir))?;
    write(&dir.join("health-checks.json"), &text(&checks))?;
    for (name, script) in [("activate", activate.as_str()), ("health", health)] {
        let path = dir.join(name);
        write(&path, script.as_bytes())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(DemoError::io(&path))?;
    }
    Ok(())
}

/// Ports that nobody listens on; all are held until the last one is found, so that they differ.
fn free_ports(count: usize) -> Result<Vec<u16>, DemoError> {
    let bound = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>();
    let bound = bound.map_err(DemoError::io("127.0.0.1"))?;
    bound.iter().map(|socket| Ok(socket.local_addr().map_err(DemoError::io("127.0.0.1"))?.port())).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DemoError> {
    fs::write(path, bytes).map_err(DemoError::io(path))
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;

    use muster_core::document::{self, ChannelRefDocument, check, plan};
    use muster_signing::{dearmor, verify_document};

    use super::*;
    use crate::activation::{Backend, Directory};
    use crate::config::Config;
    use crate::probe::health_checks::HealthChecks;

    fn bytes(signed: &SignedDocument) -> Vec<u8> {
        BASE64.decode(signed.document.as_bytes()).unwrap()
    }

    #[test]
    fn every_size_of_fleet_is_valid_and_its_first_wave_is_one_host_that_is_no_coordinator() {
        for count in HOSTS_MIN..=HOSTS_MAX {
            let folder = tempfile::tempdir().unwrap();
            let fleet = Fleet::make(folder.path(), count, Utc::now()).unwrap();
            assert_eq!(fleet.hosts.len(), count);
            assert_eq!(fleet.names(|host| host.coordinator).len(), COORDINATORS);
            assert!(!fleet.canary().coordinator);
            let document = bytes(&fleet.signed().unwrap());
            let parsed = document::Fleet::parse(&document).unwrap();
            let report = check::report(&parsed);
            let waves = &report.channels[0].waves;
            let sizes: Vec<_> = waves.iter().map(|wave| wave.hosts.len()).collect();
            let early = 2.min(count - 3);
            assert_eq!(sizes, [1, early, count - 1 - early], "{count} hosts");
            assert_eq!(report.electorate.members.len(), COORDINATORS);

            let released = bytes(&fleet.release(V1, Utc::now()).unwrap());
            let reference = ChannelRefDocument::parse(&released).unwrap();
            assert_eq!(reference.rollout_id().to_string(), V1.rollout());
            plan::resolve(&parsed, sha256(&document), &reference, sha256(&released)).unwrap();
        }
    }

    #[test]
    fn the_files_are_what_the_agent_reads() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::make(folder.path(), 5, Utc::now()).unwrap();
        for host in &fleet.hosts {
            let text = fs::read_to_string(host.config()).unwrap();
            let config = Config::from_text(&host.config(), &text, |_| None).unwrap();
            assert_eq!((config.host.as_str(), config.fleet.as_str()), (host.name.as_str(), FLEET));
            assert_eq!(config.socket, host.socket());
            assert_eq!(config.bootstrap.len(), 4);
            assert_eq!(keys::read_private(&config.identity).unwrap().public(), host.key.public());
            let backend = Backend::new(&config.activation, &config.state_dir).unwrap();
            assert_eq!(backend.current(), None);
            for release in [V1, V2, V3] {
                let closure = release.closure().parse().unwrap();
                backend.accepts(&closure).unwrap();
                let checks = Directory::new(host.root()).health_checks(&closure).unwrap();
                assert_eq!(HealthChecks::load(&checks).unwrap().len(), 1);
            }
        }
    }

    #[test]
    fn documents_are_signed_by_the_operator_and_lie_beside_their_signatures() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::make(folder.path(), 5, Utc::now()).unwrap();
        for (namespace, name, signed) in [
            (Namespace::Fleet, "fleet.json", fleet.signed().unwrap()),
            (Namespace::ChannelRef, "v2.json", fleet.release(V2, Utc::now()).unwrap()),
        ] {
            let signatures = signed.signatures.iter().map(|armored| dearmor(armored).unwrap()).collect();
            let verified = verify_document(namespace, bytes(&signed), signatures);
            assert_eq!(verified.count([&fleet.operator.public().into()]), 1, "{name}");
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), bytes(&signed));
            assert!(folder.path().join(format!("{name}.{OPERATOR}.sig")).exists());
        }
    }

    #[test]
    fn ports_differ() {
        let ports = free_ports(HOSTS_MAX).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), HOSTS_MAX);
    }
}
