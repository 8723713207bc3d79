//! The files of an operator for the screens: keys, documents, a configuration, and what one host of a fleet has learnt.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use muster_core::ledger::{Batch, Rows, Table};
use muster_signing::SigningKey;
use muster_store::{Identity, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::keys::write_pair;
use crate::storage::import::tests::{EXPORT, meta, new_store};
use crate::storage::{self, Export};

/// What a command line calls the desk's folder.
pub(super) const CALLED: &str = "desk/";
/// How a screen shows it; as long as its true path, so that lines break at the same places.
const SHOWN: &str = "/home/alice/desk";

/// A folder that one command line runs beside, and nobody else.
pub(super) struct Desk(TempDir);

/// The key of the host that the scenes are seen from.
pub(super) fn host_key() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

fn operator(seed: u8) -> String {
    SigningKey::from_seed([seed; 32]).public().to_openssh()
}

/// A fleet of three hosts.
fn fleet() -> Value {
    let host = |seed, tags: &[&str]| json!({ "key": operator(seed), "channel": "stable", "tags": tags });
    json!({
        "kind": "muster/fleet/1", "fleet": "home", "serial": 4, "signedAt": "2026-11-18T10:00:00Z",
        "operators": { "alice": operator(100), "bob": operator(101) },
        "thresholds": { "fleet": 2, "channelRef": 1, "command": 1 },
        "coordinators": { "selector": { "hosts": ["web-01", "web-02", "db-01"] } },
        "hosts": { "web-01": host(2, &["canary"]), "web-02": host(3, &[]), "db-01": host(4, &[]) },
        "channels": { "stable": { "rolloutPolicy": "careful", "freshnessWindowMinutes": 1440 } },
        "rolloutPolicies": { "careful": { "waves": [
            { "selector": { "tags": ["canary"] }, "soakMinutes": 10 },
            { "selector": { "all": true }, "soakMinutes": 0 } ] } },
        "disruptionBudgets": [{ "selector": { "all": true }, "maxInFlight": 1 }],
    })
}

/// The next one, with a change of each kind that operators make most.
fn next_fleet() -> Value {
    let mut next = fleet();
    next["serial"] = 5.into();
    next["thresholds"]["channelRef"] = 2.into();
    next["hosts"]["web-03"] = json!({ "key": operator(5), "channel": "stable", "tags": ["canary"] });
    next["hosts"]["db-01"]["tags"] = json!(["db"]);
    next["rolloutPolicies"]["careful"]["waves"][0]["soakMinutes"] = 20.into();
    next["disruptionBudgets"][0]["maxInFlight"] = 2.into();
    next
}

/// The same without a serial of its own.
fn mistaken_fleet() -> Value {
    let mut mistaken = next_fleet();
    mistaken["serial"] = 4.into();
    mistaken
}

impl Desk {
    /// Lays out everything; `socket` is the agent's that the configuration names.
    pub(super) fn new(socket: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("desk-").rand_bytes(6).tempdir_in("/tmp").unwrap();
        assert_eq!(folder.path().as_os_str().len(), SHOWN.len());
        let desk = Self(folder);
        for (name, seed) in [("alice", 100), ("bob", 101), ("mallory", 102), ("host", 2)] {
            write_pair(&desk.at(name), &SigningKey::from_seed([seed; 32]), name).unwrap();
        }
        let targets = json!({ "web-01": "dir:v3", "web-02": "dir:v3", "db-01": "dir:v3" });
        let pause = json!({ "kind": "muster/command/1", "fleet": "home", "serial": 7,
                            "signedAt": "2026-11-18T11:00:00Z", "verb": "pause", "channel": "stable",
                            "reason": "the database moves tonight" });
        let trust = json!({ "fleet": "home", "operators": fleet()["operators"], "threshold": 2 });
        for (name, document) in [
            ("fleet.json", fleet()),
            ("fleet-next.json", next_fleet()),
            ("fleet-mistaken.json", mistaken_fleet()),
            ("targets.json", targets),
            ("pause.json", pause),
            ("trust.json", trust),
        ] {
            desk.write(name, &format!("{document:#}\n"));
        }
        desk.lay_out_host(socket);
        desk
    }

    /// What a host has that is in order.
    fn lay_out_host(&self, socket: &Path) {
        let at = self.0.path().display();
        let config = format!(
            "fleet = \"home\"\nhost = \"web-01\"\nstate_dir = \"{at}/state\"\nidentity = \"{at}/host\"\n\
             trust = \"{at}/trust.json\"\nlisten = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\nsocket = \"{}\"\n\
             [activation]\nbackend = \"directory\"\nroot = \"{at}/app\"\n",
            socket.display()
        );
        self.write("muster.toml", &config);
        let nobody = format!("{at}/nobody.sock");
        self.write("muster-stopped.toml", &config.replace(socket.to_str().unwrap(), &nobody));
        fs::create_dir_all(self.at("state")).unwrap();
        fs::create_dir_all(self.at("app/releases/v2")).unwrap();
        symlink("releases/v2", self.at("app/current")).unwrap();
        let probes = json!({ "site": { "kind": "tcp", "mode": "enforce", "host": "127.0.0.1", "port": 80 } });
        self.write("app/releases/v2/health-checks.json", &probes.to_string());
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// A command line with the desk's true path in it; the larger files are laid out if it speaks of them.
    pub(super) fn spoken(&self, line: &str) -> String {
        if line.contains("demo.cbor") {
            fs::copy(EXPORT, self.at("demo.cbor")).unwrap();
        }
        if line.contains("muster.redb") {
            fs::write(self.at("muster.redb"), store()).unwrap();
        }
        if line.contains("new.redb") {
            new_store(&self.at("new.redb"), "demo", "web-2");
        }
        line.replace(CALLED, &format!("{}/", self.0.path().display()))
    }

    /// What a command said, as a screen shows it.
    pub(super) fn shown(&self, text: &str) -> String {
        let text = text.replace(self.0.path().to_str().unwrap(), SHOWN);
        text.lines().map(|line| without_size(line) + "\n").collect()
    }
}

/// A line of text without how much of this machine's disk is free.
fn without_size(line: &str) -> String {
    match line.split_once("/state: ").filter(|(_, rest)| rest.contains(" free")) {
        Some((before, rest)) => {
            let (_, behind) = rest.split_once(" free").unwrap();
            format!("{before}/state: 93.1 GiB free{behind}")
        }
        None => line.to_owned(),
    }
}

/// A store that holds what the export does, with its views.
fn store() -> &'static [u8] {
    static STORE: OnceLock<Vec<u8>> = OnceLock::new();
    STORE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.redb");
        let export = Export::read(Path::new(EXPORT)).unwrap();
        let text = |name: &str| String::from_utf8(meta(&export, name)).unwrap();
        let identity = Identity { fleet: text("fleet"), host: text("host") };
        let store = Store::open(&path, identity).unwrap();
        let mut batch = Batch::default();
        for table in storage::EXPORTED {
            for row in export.table(table) {
                let (key, value) = row.unwrap();
                // These the store writes itself.
                if table != Table::Meta || ![&b"format"[..], b"fleet", b"host"].contains(&key.as_slice()) {
                    batch.put(table, key, value);
                }
            }
        }
        store.commit_wait(storage::changes(batch)).unwrap();
        store.close().unwrap();
        storage::rebuild(&path).unwrap();
        fs::read(&path).unwrap()
    })
}
