//! A fleet of machines with the documents of its operator, and the cache that its systems come from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::cache::Cache;
use super::hub::Hub;
use super::workshop::Workshop;
use super::{Built, Machine, System};
use crate::cli::Muster;
use crate::keys::{Operator, write_key};
use crate::permit::Permit;
use crate::wait::wait_for;

/// The fleet's name.
const FLEET: &str = "home";
/// The one channel.
const CHANNEL: &str = "stable";
/// How much of the machine one of these takes, in agents: its own, its systemd, its Nix.
const WEIGHT: usize = 2;
/// Has the agents say in their journals what they do.
const LOG: &str = "[Service]\nEnvironment=RUST_LOG=muster=debug,info\n";
/// How long a step of a story may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a site is to be.
#[derive(Debug)]
pub struct Plan {
    machines: usize,
    policy: Map<String, Value>,
    options: Value,
}

impl Plan {
    /// Sets a key of the rollout policy.
    #[must_use]
    pub fn policy(mut self, key: &str, value: Value) -> Self {
        self.policy.insert(key.to_owned(), value);
        self
    }

    /// Sets an option of `services.muster` on every machine.
    #[must_use]
    pub fn option(mut self, key: &str, value: Value) -> Self {
        self.options[key] = value;
        self
    }

    /// Builds the systems, gives all machines power, and waits until they are a fleet on the system `v0`.
    pub fn launch(self, systems: &[System]) -> Site {
        let permit = Permit::acquire(self.machines * WEIGHT);
        let hub = Arc::new(Hub::open());
        let folder =
            tempfile::Builder::new().prefix("muster-").tempdir_in("/tmp").expect("a folder can be made");
        let mut built = Built::default();
        let workshop = Workshop::open(&hub, &System::new("v0"), &mut built);
        if !systems.is_empty() {
            workshop.build(systems, true, &mut built);
        }
        let layers = vec![workshop.layer()];
        let machines: Vec<_> =
            (1..=self.machines).map(|number| Machine::new(&hub, layers.clone(), number)).collect();
        let operator = Operator::new(folder.path(), "alice");
        self.furnish(&workshop, &machines, &operator);
        let document = self.document(&machines, &operator);
        let cache = Cache::serve(&hub, hub.reach("share/cache"));
        let site = Site {
            machines,
            built,
            operator,
            document,
            serial: AtomicU64::new(0),
            folder,
            cache,
            hub,
            _permit: permit,
        };
        fs::write(site.document_file(), site.document.to_string()).expect("a document can be written");
        site.machines.iter().for_each(Machine::power_on);
        site.machines.iter().for_each(Machine::wait_until_up);
        site.found();
        site
    }

    /// Puts keys, configurations and units on the machines' disks.
    fn furnish(&self, workshop: &Workshop<'_>, machines: &[Machine], operator: &Operator) {
        let bootstrap =
            |machine: &Machine| format!("{}/p2p/{}", machine.multiaddr(), machine.key.public().peer_id());
        let options = |machine: &Machine| {
            let others = machines.iter().filter(|other| other.name != machine.name);
            let mut options = self.options.clone();
            options["host"] = json!(machine.name);
            options["operators"] = json!({ operator.name.as_str(): operator.line });
            options["bootstrap"] = others.map(bootstrap).collect();
            (machine.name.clone(), options)
        };
        let options: BTreeMap<_, _> = machines.iter().map(options).collect();
        let rendered = workshop.hosts(&json!(options).to_string());
        for machine in machines {
            let rendered = &rendered[&machine.name];
            let config: toml::Table =
                serde_json::from_value(rendered["toml"].clone()).expect("TOML has what JSON has");
            machine.write("/etc/muster/muster.toml", &config.to_string());
            for (path, content) in rendered["files"].as_object().into_iter().flatten() {
                machine.write(path, content.as_str().unwrap_or_default());
            }
            for wanted in rendered["wanted"].as_array().into_iter().flatten() {
                let [unit, by] = ["unit", "by"].map(|key| wanted[key].as_str().unwrap_or_default());
                let folder = machine.disk(&format!("/etc/systemd/system/{by}.wants"));
                fs::create_dir_all(&folder).expect("a folder can be made");
                symlink(format!("../{unit}"), folder.join(unit)).expect("a link can be made");
            }
            machine.write("/etc/systemd/system/muster.service.d/log.conf", LOG);
            machine.write("/etc/hostname", &machine.name);
            machine.write("/etc/machine-id", &machine_id(machine));
            fs::create_dir_all(machine.disk("/etc/ssh")).expect("a folder can be made");
            write_key(&machine.disk("/etc/ssh/ssh_host_ed25519_key"), &machine.key, &machine.name);
        }
    }

    fn document(&self, machines: &[Machine], operator: &Operator) -> Value {
        let host = |machine: &Machine| {
            let entry = json!({
                "key": machine.key.public().to_openssh(), "channel": CHANNEL, "addresses": [machine.multiaddr()],
                "tags": [machine.name],
            });
            (machine.name.clone(), entry)
        };
        json!({
            "kind": "muster/fleet/1", "fleet": FLEET, "serial": 1, "signedAt": now(),
            "operators": { operator.name.as_str(): operator.line },
            "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
            "coordinators": { "selector": { "all": true } },
            "hosts": machines.iter().map(host).collect::<Map<_, _>>(),
            "channels": { CHANNEL: { "rolloutPolicy": "tested", "freshnessWindowMinutes": 60 } },
            "rolloutPolicies": { "tested": self.policy },
        })
    }
}

/// An id that is no other machine's.
fn machine_id(machine: &Machine) -> String {
    let digits = data_encoding::HEXLOWER.encode(&machine.key.public().as_bytes()[..16]);
    format!("{digits}\n")
}

/// The present moment as documents write it.
fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Machines that are a fleet; all of it is gone when it is dropped.
#[derive(Debug)]
pub struct Site {
    /// The machines, all of them coordinators.
    pub machines: Vec<Machine>,
    /// The person who signs.
    pub operator: Operator,
    /// The fleet document.
    pub document: Value,
    built: Built,
    serial: AtomicU64,
    folder: TempDir,
    cache: Cache,
    hub: Arc<Hub>,
    _permit: Permit,
}

impl Site {
    /// A site of so many machines: one wave without soak, rollback when health fails for a second.
    pub fn of(machines: usize) -> Plan {
        let policy = json!({
            "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }],
            "sustainedFailureSeconds": 1, "onHealthFailure": "rollback-and-halt",
        });
        let options = json!({
            "fleet": FLEET, "activation": { "backend": "nixos" }, "settings": { "heartbeat_seconds": 1.0 },
        });
        Plan { machines, policy: policy.as_object().cloned().unwrap_or_default(), options }
    }

    fn document_file(&self) -> PathBuf {
        self.folder.path().join("fleet.json")
    }

    /// Publishes the fleet document, and waits until all hold it, have a coordinator and have heard each other.
    fn found(&self) {
        let file = self.document_file();
        Muster::new(["sign", "fleet"])
            .arg(&file)
            .arg("--key")
            .arg(&self.operator.file)
            .within(self.folder.path())
            .run()
            .ok();
        self.muster(&self.machines[0], ["publish"]).arg(&file).run().ok();
        for machine in &self.machines {
            self.wait(&format!("{} has heard all of a fleet with a coordinator", machine.name), || {
                let status = machine.control().look("/v1/status");
                let hosts = status["hosts"].as_array()?;
                let heard = hosts.iter().all(|host| host["online"] == true);
                (status["fleet_serial"] == 1 && heard && status["coordinator"].is_string()).then_some(())
            });
        }
    }

    /// Waits for a step of a story.
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait_for(what, PATIENCE, look)
    }

    /// A command line that talks to a machine's agent.
    pub fn muster<const N: usize>(&self, machine: &Machine, arguments: [&str; N]) -> Muster {
        Muster::new(arguments).socket(&machine.control().socket)
    }

    /// The store path of a system.
    pub fn path(&self, system: &str) -> &str {
        self.built.path(system)
    }

    /// Builds one more system into the cache, signed with a key that no machine trusts.
    pub fn build_untrusted(&mut self, system: System) {
        let workshop = Workshop::reopen(&self.hub);
        workshop.build(&[system], false, &mut self.built);
    }

    /// Changes the bytes of a system in the cache, and leaves their signature as it was.
    pub fn tamper(&self, system: &str) {
        let info = fs::read_to_string(self.narinfo(system)).expect("the cache has the system");
        let nar = info.lines().find_map(|line| line.strip_prefix("URL: ")).expect("a narinfo says where");
        let nar = self.hub.reach("share/cache").join(nar);
        let mut bytes = fs::read(&nar).expect("the cache has the archive");
        let place = bytes.windows(6).position(|window| window == b"26.05.").expect("the version is in it");
        bytes[place] = b'9';
        fs::write(nar, bytes).expect("a file can be written");
    }

    /// Takes a system out of the cache, as if nobody had put it there.
    pub fn withhold(&self, system: &str) {
        let info = self.narinfo(system);
        fs::rename(&info, info.with_extension("withheld")).expect("the cache has the system");
    }

    /// Puts a system that was withheld into the cache.
    pub fn offer(&self, system: &str) {
        let info = self.narinfo(system);
        fs::rename(info.with_extension("withheld"), info).expect("the system was withheld");
    }

    /// What the cache says of a system.
    fn narinfo(&self, system: &str) -> PathBuf {
        let hash = self.path(system).trim_start_matches("/nix/store/").split('-').next().unwrap_or_default();
        self.hub.reach(&format!("share/cache/{hash}.narinfo"))
    }

    /// What machines asked the cache for, and got.
    pub fn asked(&self) -> Vec<String> {
        self.cache.asked()
    }

    /// Signs and publishes a ref that sends every machine to a system; gives the rollout's id.
    pub fn roll_out(&self, name: &str, system: &str) -> String {
        let targets: Vec<_> = self.machines.iter().map(|machine| (machine, self.path(system))).collect();
        self.publish_ref(&self.machines[0], name, &targets)
    }

    /// Signs a ref for some machines and publishes it at one of them; gives the rollout's id.
    pub fn publish_ref(&self, at: &Machine, name: &str, targets: &[(&Machine, &str)]) -> String {
        let file = self.sign_ref(name, targets);
        self.muster(at, ["publish"]).arg(file).run().ok();
        format!("{CHANNEL}@{name}")
    }

    /// Signs a ref for some machines; its signature lies beside the file.
    pub fn sign_ref(&self, name: &str, targets: &[(&Machine, &str)]) -> PathBuf {
        let serial = (self.serial.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        let targets: Map<_, _> =
            targets.iter().map(|(machine, path)| (machine.name.clone(), json!(path))).collect();
        let targets_file = self.folder.path().join(format!("{name}.targets.json"));
        fs::write(&targets_file, Value::from(targets).to_string()).expect("targets can be written");
        let out = self.folder.path().join(format!("{name}.json"));
        Muster::new(["sign", "channel-ref", "--channel", CHANNEL, "--ref", name, "--serial", &serial])
            .args(["--targets".as_ref(), targets_file.as_os_str(), "--fleet".as_ref()])
            .arg(self.document_file())
            .args(["--key".as_ref(), self.operator.file.as_os_str(), "--out".as_ref(), out.as_os_str()])
            .within(self.folder.path())
            .run()
            .ok();
        out
    }

    /// Waits until a machine shows a rollout in a state.
    pub fn wait_for_rollout(&self, machine: &Machine, id: &str, state: &str) {
        self.wait(&format!("{} shows {id} {state}", machine.name), || {
            let rollout = machine.control().look(&format!("/v1/rollouts/{id}"));
            (rollout["rollout"]["state"] == state).then_some(())
        });
    }

    /// Waits until a machine runs a system; a rollout that is over does not say so of a host that it went past.
    pub fn wait_for_system(&self, machine: &Machine, system: &str) {
        self.wait(&format!("{} runs {system}", machine.name), || {
            (machine.current() == self.path(system)).then_some(())
        });
    }

    /// The events of a host's feed as a machine knows them: name and detail, in order.
    pub fn feed(&self, observer: &Machine, host: &Machine) -> Vec<(String, String)> {
        let own = |event: &Value| event["kind"] == "event" && event["host"] == host.name.as_str();
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let events = observer.control().events().into_iter().filter(own);
        events.map(|event| (text(&event, "name"), text(&event, "detail"))).collect()
    }

    /// How often a host said something, by its own account.
    pub fn times_said(&self, host: &Machine, name: &str) -> usize {
        self.feed(host, host).iter().filter(|event| event.0 == name).count()
    }
}

impl Drop for Site {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the test that failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for machine in &self.machines {
                eprintln!("{}", machine.log_tail());
            }
        }
    }
}
