//! A fleet of one agent: what it refuses to start with, and what the command line asks it for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

/// The folder of a host that is all of its fleet, and its operator's.
struct Host {
    folder: tempfile::TempDir,
    metrics: u16,
}

/// An agent's process, ended with the test.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap(), metrics: free_port() };
        fs::create_dir_all(host.path("root/releases/v0")).unwrap();
        std::os::unix::fs::symlink("releases/v0", host.path("root/current")).unwrap();
        for key in ["alice", "host"] {
            host.ok(&["keygen", key]);
        }
        let alice = json!({ "alice": host.public("alice") });
        host.write("trust.json", &json!({ "fleet": "home", "operators": alice, "threshold": 1 }));
        host.write("targets.json", &json!({ "web-01": "dir:v0" }));
        host.write(
            "fleet.json",
            &json!({
                "kind": "muster/fleet/1", "fleet": "home", "serial": 1, "signedAt": "2026-01-01T10:00:00Z",
                "operators": alice, "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
                "hosts": { "web-01": { "key": host.public("host"), "channel": "stable" } },
                "channels": { "stable": { "rolloutPolicy": "all", "freshnessWindowMinutes": 60 } },
                "rolloutPolicies": { "all": { "waves": [{ "selector": { "all": true }, "soakMinutes": 0 }] } }
            }),
        );
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// Writes a configuration with `more` at its top.
    fn configure(&self, more: &str) {
        let path = |name| self.path(name).display().to_string();
        let text = format!(
            "{more}\nfleet = \"home\"\nhost = \"web-01\"\nstate_dir = {:?}\nidentity = {:?}\ntrust = {:?}\n\
             socket = {:?}\nlisten = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\nheartbeat_seconds = 0.1\n\
             metrics.listen = \"127.0.0.1:{}\"\nactivation.backend = \"directory\"\nactivation.root = {:?}\n",
            path("state"),
            path("host"),
            path("trust.json"),
            path("muster.sock"),
            self.metrics,
            path("root")
        );
        fs::write(self.path("muster.toml"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("SSH_AUTH_SOCK").env_remove("MUSTER_LOG");
        command.env("MUSTER_SOCKET", self.path("muster.sock"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Starts the agent and waits until it answers; gives what it logged until then, too.
    fn start(&self) -> (Running, Vec<String>) {
        let mut command = self.command(&["agent", "--config", "muster.toml"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { child };
        let mut log = BufReader::new(running.child.stderr.take().unwrap()).lines();
        let mut lines = Vec::new();
        for line in log.by_ref() {
            lines.push(line.unwrap());
            if lines.last().is_some_and(|line| line.contains("the agent runs")) {
                break;
            }
        }
        assert!(UnixStream::connect(self.path("muster.sock")).is_ok(), "{lines:?}");
        std::thread::spawn(move || log.for_each(drop));
        (running, lines)
    }

    fn sign_ref(&self, name: &str, more: &[&str]) -> Output {
        let args = ["sign", "channel-ref", "--channel", "stable", "--targets", "targets.json"];
        let rest = ["--fleet", "fleet.json", "--key", "alice", "--ref", name];
        self.run(&[&args, &rest, more].concat())
    }

    fn over_tcp(&self, route: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics)).unwrap();
        write!(stream, "GET {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_line_asks_the_agent_for_what_it_is_not_told() {
    let host = Host::new();
    host.configure("");
    let (running, log) = host.start();
    assert!(!log.iter().any(|line| line.contains("no effect")), "{log:?}");

    let refused = host.sign_ref("v1", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("holds no fleet document yet"), "{}", text(&refused.stderr));
    host.ok(&["sign", "fleet", "fleet.json", "--key", "alice"]);
    let unknown = host.run(&["verify", "fleet.json"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("this host holds no fleet document yet"));
    host.ok(&["publish", "fleet.json"]);
    assert!(host.ok(&["verify", "fleet.json"]).contains("good fleet.json.alice.sig: alice"));

    for (name, more, serial) in [("v1", &[][..], 1), ("v2", &["--serial", "7"], 7), ("v3", &[], 8)] {
        let signed = host.sign_ref(name, more);
        assert!(signed.status.success(), "{}", text(&signed.stderr));
        let document: Value = serde_json::from_slice(&fs::read(host.path("stable.json")).unwrap()).unwrap();
        assert_eq!(document["serial"], json!(serial), "{name}");
        assert!(host.ok(&["verify", "stable.json"]).contains("valid"));
        host.ok(&["publish", "stable.json"]);
    }
    let status: Value = serde_json::from_str(&host.ok(&["status", "--json"])).unwrap();
    assert_eq!(status["channels"][0]["ref_serial"], json!(8), "{status}");

    let verified: Value = serde_json::from_str(&host.ok(&["store", "verify", "--json"])).unwrap();
    assert_eq!((&verified["ok"], &verified["fault"]), (&json!(true), &Value::Null), "{verified}");
    assert!(verified["arrivals"].as_u64().unwrap() >= 4, "{verified}");
    assert!(host.ok(&["store", "verify"]).contains("every signature holds"));
    assert!(host.ok(&["store", "stats"]).contains("documents"));
    let held = host.run(&["store", "verify", "--store", "state/muster.redb"]);
    assert_eq!(held.status.code(), Some(1), "a running agent holds its store to itself");

    let metrics = host.over_tcp("/metrics");
    assert!(metrics.contains("muster_build_info") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(host.over_tcp("/healthz").contains(r#""status":"ok""#));
    assert!(host.over_tcp("/v1/status").starts_with("HTTP/1.1 404 "));

    drop(running);
    let stopped = host.ok(&["store", "verify", "--store", "state/muster.redb", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stopped).unwrap()["ok"], json!(true));

    // The fleet is old enough for a checkpoint, which is made soon after a start.
    let (running, _) = host.start();
    let pieces = || -> u64 {
        let stats: Value = serde_json::from_str(&host.ok(&["store", "stats", "--json"])).unwrap();
        let tables = stats["tables"].as_array().unwrap().iter();
        tables
            .filter(|table| table["table"] == json!("snapshot"))
            .map(|it| it["rows"].as_u64().unwrap())
            .sum()
    };
    assert!((0..500).any(|_| pieces() >= 2), "no checkpoint was made");
    drop(running);
    let compacted = host.ok(&["store", "compact", "--store", "state/muster.redb"]);
    assert!(compacted.trim_end().ends_with(" smaller"), "{compacted}");
    assert!(host.ok(&["store", "verify", "--store", "state/muster.redb"]).contains("every signature holds"));
    host.ok(&["store", "export", "--store", "state/muster.redb", "--out", "web.cbor"]);
    assert!(host.ok(&["replay", "--store", "web.cbor"]).contains("stable"));
}

#[test]
fn an_agent_says_what_it_cannot_honour() {
    let host = Host::new();
    for (more, problem) in [
        ("mdns = true", "mdns = true cannot be honoured"),
        ("relay = \"on\"", "relay = \"on\" cannot be honoured"),
        ("activation.helper = \"/h\"", "activation.helper cannot be honoured"),
    ] {
        host.configure(more);
        let output = host.run(&["agent", "--config", "muster.toml"]);
        assert_eq!(output.status.code(), Some(1), "{more}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(problem), "{more}: {}", text(&output.stderr));
        assert!(!host.path("state").exists(), "{more}: nothing is made");
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, host.metrics)).unwrap();
    host.configure("");
    let output = host.run(&["agent", "--config", "muster.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be listened on"), "{}", text(&output.stderr));
    drop(taken);

    host.configure("mirror = \"off\"\nactivation.defer = []");
    let (_running, log) = host.start();
    for setting in ["mirror", "activation.defer"] {
        let said: Vec<_> =
            log.iter().filter(|line| line.contains(&format!("{setting} has no effect"))).collect();
        assert_eq!(said.len(), 1, "{log:?}");
        assert!(said[0].contains("WARN"), "{said:?}");
    }
}
