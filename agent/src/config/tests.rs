//! Configurations that are read, and such as are refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::from_text(Path::new("m.toml"), text, variable).map_err(|error| error.to_string())
}

const SHORT: &str = "fleet = \"home\"\nhost = \"web-01\"\n";

#[test]
fn what_is_left_out_has_its_default() {
    let config = read(SHORT, &[]).unwrap();
    assert_eq!((config.fleet.as_str(), config.host.as_str()), ("home", "web-01"));
    assert_eq!(config.socket, Path::new("/run/muster/muster.sock"));
    assert_eq!(config.state_dir, Path::new("/var/lib/muster"));
    assert_eq!(config.trust, Path::new("/etc/muster/trust.json"));
    assert_eq!(config.identity, Path::new("/etc/ssh/ssh_host_ed25519_key"));
    assert_eq!(config.health_checks, Path::new("/etc/muster/health-checks.json"));
    assert_eq!(config.listen.len(), 2);
    assert_eq!((config.retention_days, config.heartbeat), (90, Duration::from_secs(30)));
    assert_eq!(config.snapshot_entries, 4096);
    assert_eq!((config.relay, config.mirror, config.mdns), (Auto::Auto, Auto::Auto, false));
    assert_eq!(config.activation, Activation::default());
    assert_eq!(config.activation.backend, BackendKind::Nixos);
    assert_eq!(config.activation.defer, [Component::Dbus]);
    assert!(config.gossip.publish);
    assert_eq!(config.metrics.listen, None);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        fleet = "home"
        host = "web-01"
        state_dir = "/s"
        identity = "/i"
        trust = "/t"
        listen = ["/ip4/127.0.0.1/tcp/1"]
        bootstrap = ["/ip4/127.0.0.1/tcp/2"]
        mdns = true
        relay = "off"
        mirror = "on"
        health_checks = "/h"
        socket = "/so"
        retention_days = 7
        snapshot_entries = 500
        heartbeat_seconds = 0.1
        [activation]
        backend = "directory"
        root = "/r"
        defer = ["kernel", "initrd", "systemd"]
        helper = "/he"
        [gossip]
        publish = false
        [metrics]
        listen = "127.0.0.1:9746""#;
    let config = read(text, &[]).unwrap();
    assert_eq!(config.identity, Path::new("/i"));
    assert_eq!(config.heartbeat, Duration::from_millis(100));
    assert_eq!(config.snapshot_entries, 500);
    assert_eq!((config.relay, config.mirror), (Auto::Off, Auto::On));
    assert_eq!(config.activation.root.as_deref(), Some(Path::new("/r")));
    assert_eq!(config.activation.defer.len(), 3);
    assert_eq!(config.metrics.listen.unwrap().port(), 9746);
    assert!(!config.gossip.publish);
}

#[test]
fn unknown_keys_and_wrong_values_are_refused_by_name() {
    for (text, problem) in [
        ("host = \"web-01\"", "missing field `fleet`"),
        ("fleet = \"Home\"", "is not a fleet name"),
        ("fleet = \"home\"\nflet = 1", "unknown field `flet`"),
        ("fleet = \"home\"\n[activation]\nrot = \"/\"", "unknown field `rot`"),
        ("fleet = \"home\"\n[gossip]\nmute = true", "unknown field `mute`"),
        ("fleet = \"home\"\n[metrics]\nport = 1", "unknown field `port`"),
        ("fleet = \"home\"\n[activation]\nbackend = \"guix\"", "unknown variant `guix`"),
        ("fleet = \"home\"\n[activation]\ndefer = [\"shell\"]", "unknown variant `shell`"),
        ("fleet = \"home\"\nheartbeat_seconds = 0.05", "heartbeat_seconds = 0.05 is not in 0.1 to 3600"),
        ("fleet = \"home\"\nheartbeat_seconds = nan", "heartbeat_seconds = NaN is not in"),
        ("fleet = \"home\"\nretention_days = 0", "retention_days = 0 is not in 1 to 36500"),
        ("fleet = \"home\"\nretention_days = -1", "retention_days = -1"),
        ("fleet = \"home\"\nsnapshot_entries = 1", "snapshot_entries = 1 is not in 16 to 1000000"),
        ("fleet", "line 1"),
    ] {
        let error = read(text, &[]).unwrap_err();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn variables_override_known_keys_and_others_are_left_alone() {
    let config = read(
        SHORT,
        &[
            ("MUSTER_HOST", "db-01"),
            ("MUSTER_LISTEN", "/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2"),
            ("MUSTER_MDNS", "true"),
            ("MUSTER_RETENTION_DAYS", "3"),
            ("MUSTER_HEARTBEAT_SECONDS", "2"),
            ("MUSTER_ACTIVATION__BACKEND", "directory"),
            ("MUSTER_ACTIVATION__ROOT", "/r"),
            ("MUSTER_GOSSIP__PUBLISH", "0"),
            ("MUSTER_CLOSURE", "dir:v1"),
            ("MUSTER_ACTIVATION__ROT", "/x"),
        ],
    )
    .unwrap();
    assert_eq!(config.host.as_str(), "db-01");
    assert_eq!(config.listen.len(), 2);
    assert_eq!((config.retention_days, config.heartbeat.as_secs()), (3, 2));
    assert_eq!(config.activation.backend, BackendKind::Directory);
    assert_eq!(config.activation.root.as_deref(), Some(Path::new("/r")));
    assert!(config.mdns && !config.gossip.publish);

    for (name, value, problem) in [
        ("MUSTER_MDNS", "yes", "MUSTER_MDNS=\"yes\": must be true or false"),
        ("MUSTER_RETENTION_DAYS", "many", "must be a whole number"),
        ("MUSTER_HEARTBEAT_SECONDS", "", "must be a number"),
        ("MUSTER_HOST", "A", "is not a host name"),
    ] {
        let error = read(SHORT, &[(name, value)]).unwrap_err();
        assert!(error.contains(problem), "{name}: {error}");
    }
    let error = read(&format!("{SHORT}activation = 1"), &[("MUSTER_ACTIVATION__ROOT", "/r")]).unwrap_err();
    assert!(error.contains("activation"), "{error}");
}

#[test]
fn a_credential_of_systemd_is_the_identity_unless_another_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())];
    assert_eq!(read(SHORT, &variables).unwrap().identity, Path::new(IDENTITY_DEFAULT));
    let loaded = folder.path().join("identity");
    std::fs::write(&loaded, "").unwrap();
    assert_eq!(read(SHORT, &variables).unwrap().identity, loaded);
    let named = format!("{SHORT}identity = \"/i\"");
    assert_eq!(read(&named, &variables).unwrap().identity, Path::new("/i"));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_name() {
    let error = Config::load(Path::new("/nowhere/muster.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/muster.toml: "), "{error}");
}

#[test]
fn what_cannot_be_honoured_is_refused_and_what_has_no_effect_is_said() {
    for (text, expected) in [
        ("", Ok(&[][..])),
        (
            "relay = \"auto\"\nmirror = \"auto\"\nretention_days = 90\n[activation]\ndefer = [\"dbus\"]",
            Ok(&[]),
        ),
        ("relay = \"off\"\nmdns = false", Ok(&[])),
        ("mirror = \"off\"", Ok(&["mirror "])),
        ("mirror = \"on\"\nretention_days = 7", Ok(&["mirror "])),
        ("[activation]\ndefer = []", Ok(&[])),
        ("[activation]\nbackend = \"directory\"\ndefer = []", Ok(&["activation.defer "])),
        ("mdns = true", Err(Unhonoured::Mdns)),
        ("relay = \"on\"\nretention_days = 7", Err(Unhonoured::Relay)),
        ("[activation]\nhelper = \"/run/muster-activate/activate.sock\"", Ok(&[])),
        ("[activation]\nbackend = \"directory\"\nhelper = \"/run/x.sock\"", Err(Unhonoured::Helper)),
    ] {
        let found = read(&format!("{SHORT}{text}"), &[]).unwrap().honoured();
        match (&found, expected) {
            (Err(found), Err(expected)) => assert_eq!(*found, expected, "{text}"),
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
                for (sentence, start) in found.iter().zip(expected) {
                    assert!(sentence.starts_with(start), "{text}: {sentence}");
                }
            }
            _ => panic!("{text}: {found:?} instead of {expected:?}"),
        }
    }
}
