//! Reads the health checks that a closure declares. Whatever is not understood is an error: a host whose health cannot be
//! known is not healthy.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::id::ProbeName;
use muster_core::wire::ProbeMode;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::evidence::Evidence;
use super::exec::Exec;
use super::http::Http;
use super::peers::Peers;
use super::systemd::Systemd;
use super::{Check, ProbeSpec};

/// The most that is read of a file of health checks.
pub const HEALTH_CHECKS_BYTES_MAX: u64 = 1024 * 1024;
/// The most probes that one closure declares.
pub const PROBES_MAX: usize = 256;
/// The bounds of `intervalSeconds` and of `timeoutSeconds`.
const SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
const INTERVAL_SECS_DEFAULT: u64 = 30;
const TIMEOUT_SECS_DEFAULT: u64 = 10;
/// The kinds of probes.
const KINDS: &str = "http, tcp, exec, systemd, peers, evidence";

/// Why a host's health checks do not serve.
#[derive(Debug, thiserror::Error)]
pub enum HealthChecksError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is larger than any list of probes.
    #[error("{path}: more than {HEALTH_CHECKS_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not an object by the names of probes.
    #[error("{path}: {source}")]
    NotProbes {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// More probes than a host can look after.
    #[error("{path}: {count} probes are more than {PROBES_MAX}")]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A probe has an unknown kind, mode or key, or a wrong value.
    #[error("{path}: probe {probe}: {message}")]
    Probe {
        /// The file.
        path: PathBuf,
        /// The probe.
        probe: ProbeName,
        /// What is wrong.
        message: String,
    },
}

/// The health checks of a closure.
#[derive(Debug)]
pub struct HealthChecks;

impl HealthChecks {
    /// Reads the file at `path`, in the order of the probes' names; no file declares no probes.
    pub fn load(path: &Path) -> Result<Vec<ProbeSpec>, HealthChecksError> {
        let read = |source| HealthChecksError::Read { path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(read)?,
        };
        let mut text = Vec::new();
        file.take(HEALTH_CHECKS_BYTES_MAX + 1).read_to_end(&mut text).map_err(read)?;
        if u64::try_from(text.len()).is_ok_and(|len| len > HEALTH_CHECKS_BYTES_MAX) {
            return Err(HealthChecksError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, &text)
    }

    /// Reads the text of a file that lies at `path`.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Vec<ProbeSpec>, HealthChecksError> {
        let probes: Probes = serde_json::from_slice(text)
            .map_err(|source| HealthChecksError::NotProbes { path: path.to_owned(), source })?;
        if probes.0.len() > PROBES_MAX {
            return Err(HealthChecksError::TooMany { path: path.to_owned(), count: probes.0.len() });
        }
        let dir = path.parent().unwrap_or(Path::new("/"));
        let read = |(name, keys): (ProbeName, Map<String, Value>)| {
            spec(name.clone(), keys, dir).map_err(|message| HealthChecksError::Probe {
                path: path.to_owned(),
                probe: name,
                message,
            })
        };
        probes.0.into_iter().map(read).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHttp {
    url: String,
    ca_file: Option<PathBuf>,
    #[serde(default = "ok_status")]
    expect_status: u16,
    body_contains: Option<String>,
}

fn ok_status() -> u16 {
    200
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawExec {
    command: Vec<String>,
    #[serde(default)]
    expect_exit_code: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSystemd {
    #[serde(default)]
    units: Vec<String>,
    max_failed_units: Option<u32>,
}

fn spec(name: ProbeName, mut keys: Map<String, Value>, dir: &Path) -> Result<ProbeSpec, String> {
    let kind: String = required(&mut keys, "kind")?;
    let mode: ProbeMode = required(&mut keys, "mode")?;
    let interval = seconds(&mut keys, "intervalSeconds", INTERVAL_SECS_DEFAULT)?;
    let timeout = seconds(&mut keys, "timeoutSeconds", TIMEOUT_SECS_DEFAULT)?;
    let check = match kind.as_str() {
        "http" => {
            let raw: RawHttp = rest(keys)?;
            Check::Http(Http::new(&raw.url, raw.ca_file, raw.expect_status, raw.body_contains)?)
        }
        "tcp" => Check::Tcp(rest(keys)?),
        "exec" => {
            let RawExec { command, expect_exit_code } = rest(keys)?;
            if command.first().is_none_or(String::is_empty) {
                return Err("command names no program".to_owned());
            }
            Check::Exec(Exec { command, expect_exit_code, dir: dir.to_owned() })
        }
        "systemd" => {
            let RawSystemd { units, max_failed_units } = rest(keys)?;
            Check::Systemd(Systemd::new(units, max_failed_units)?)
        }
        "peers" => Check::Peers(rest::<Peers>(keys)?.checked()?),
        "evidence" => Check::Evidence(rest::<Evidence>(keys)?.checked()?),
        unknown => return Err(format!("kind {unknown:?} is not one of {KINDS}")),
    };
    Ok(ProbeSpec { name, mode, interval, timeout, check })
}

fn required<T: DeserializeOwned>(keys: &mut Map<String, Value>, key: &str) -> Result<T, String> {
    let value = keys.remove(key).ok_or_else(|| format!("`{key}` is missing"))?;
    serde_json::from_value(value).map_err(|error| format!("`{key}`: {error}"))
}

fn seconds(keys: &mut Map<String, Value>, key: &str, default: u64) -> Result<Duration, String> {
    let Some(value) = keys.remove(key) else { return Ok(Duration::from_secs(default)) };
    match value.as_u64() {
        Some(secs) if SECONDS.contains(&secs) => Ok(Duration::from_secs(secs)),
        Some(_) | None => Err(format!(
            "`{key}`: {value} is not a whole number from {} to {}",
            SECONDS.start(),
            SECONDS.end()
        )),
    }
}

fn rest<T: DeserializeOwned>(keys: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(keys)).map_err(|error| error.to_string())
}

/// An object in which no name may come twice, since only one of the two would be looked at.
struct Probes(BTreeMap<ProbeName, Map<String, Value>>);

impl<'de> Deserialize<'de> for Probes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Probes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of probes by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Probes, A::Error> {
                let mut probes = BTreeMap::new();
                while let Some((name, keys)) = access.next_entry::<ProbeName, Map<String, Value>>()? {
                    if let Some(_first) = probes.insert(name.clone(), keys) {
                        return Err(de::Error::custom(format!("the probe {name} is declared twice")));
                    }
                }
                Ok(Probes(probes))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parse(text: &str) -> Result<Vec<ProbeSpec>, String> {
        HealthChecks::parse(Path::new("/r/health-checks.json"), text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind_is_read_with_its_defaults() {
        let specs = parse(
            r#"{ "web": { "kind": "http", "mode": "enforce", "url": "http://127.0.0.1/", "bodyContains": "ok" },
                 "port": { "kind": "tcp", "mode": "observe", "host": "::1", "port": 22, "intervalSeconds": 1 },
                 "job": { "kind": "exec", "mode": "disabled", "command": ["./x", "y"], "expectExitCode": 3,
                          "timeoutSeconds": 5 },
                 "units": { "kind": "systemd", "mode": "enforce", "units": ["nginx.service"], "maxFailedUnits": 0 },
                 "fleet": { "kind": "peers", "mode": "enforce", "min": 2 },
                 "nis2": { "kind": "evidence", "mode": "observe", "framework": "nis2", "evidencePath": "/var/e.json",
                           "controlOverrides": { "disk": { "mode": "disabled", "reason": "no disk" } } } }"#,
        )
        .unwrap();
        let seen: Vec<_> = specs
            .iter()
            .map(|s| (s.name.as_str(), s.check.kind(), s.mode, s.interval.as_secs(), s.timeout.as_secs()))
            .collect();
        assert_eq!(
            seen,
            [
                ("fleet", "peers", ProbeMode::Enforce, 30, 10),
                ("job", "exec", ProbeMode::Disabled, 30, 5),
                ("nis2", "evidence", ProbeMode::Observe, 30, 10),
                ("port", "tcp", ProbeMode::Observe, 1, 10),
                ("units", "systemd", ProbeMode::Enforce, 30, 10),
                ("web", "http", ProbeMode::Enforce, 30, 10),
            ]
        );
        let command = vec!["./x".to_owned(), "y".to_owned()];
        assert_eq!(specs[1].check, Check::Exec(Exec { command, expect_exit_code: 3, dir: "/r".into() }));
        assert_eq!(specs[1].declared().kind, "exec");
    }

    #[test]
    fn whatever_is_not_understood_is_refused_by_name() {
        for (text, problem) in [
            ("", "EOF"),
            ("[]", "an object of probes"),
            (r#"{"A": {}}"#, "probe name"),
            (r#"{"a": 1}"#, "a map"),
            (r#"{"a": {}}"#, "probe a: `kind` is missing"),
            (r#"{"a": {"kind": "tcp", "host": "x", "port": 1}}"#, "`mode` is missing"),
            (r#"{"a": {"kind": "icmp", "mode": "enforce"}}"#, "kind \"icmp\" is not one of http, tcp, exec"),
            (r#"{"a": {"kind": "systemd", "mode": "enforce"}}"#, "neither `units` nor `maxFailedUnits`"),
            (r#"{"a": {"kind": "systemd", "mode": "enforce", "units": ["x"]}}"#, "no unit's full name"),
            (r#"{"a": {"kind": "systemd", "mode": "enforce", "maxFailedUnits": -1}}"#, "-1"),
            (r#"{"a": {"kind": "peers", "mode": "enforce"}}"#, "missing field `min`"),
            (r#"{"a": {"kind": "peers", "mode": "enforce", "min": 0}}"#, "`min`: 0 is not in 1 to 10000"),
            (r#"{"a": {"kind": "peers", "mode": "enforce", "min": 1, "max": 2}}"#, "`max`"),
            (r#"{"a": {"kind": "evidence", "mode": "observe"}}"#, "missing field `framework`"),
            (
                r#"{"a": {"kind": "evidence", "mode": "observe", "framework": "nis2", "evidencePath": "e.json"}}"#,
                "`evidencePath`: e.json is not absolute",
            ),
            (
                r#"{"a": {"kind": "evidence", "mode": "observe", "framework": "nis2", "evidencePath": "/e.json",
                    "controlOverrides": {"disk": {"mode": "observe"}}}}"#,
                "missing field `reason`",
            ),
            (
                r#"{"a": {"kind": "evidence", "mode": "observe", "framework": "nis2", "evidencePath": "/e.json",
                    "controlOverrides": {"disk": {"mode": "observe", "reason": " "}}}}"#,
                "`controlOverrides.disk.reason` has 1 to 128 bytes",
            ),
            (r#"{"a": {"kind": "tcp", "mode": "warn", "host": "x", "port": 1}}"#, "unknown variant `warn`"),
            (r#"{"a": {"kind": "tcp", "mode": "enforce", "host": "x", "port": 1, "prot": 1}}"#, "`prot`"),
            (r#"{"a": {"kind": "tcp", "mode": "enforce", "host": "x", "port": 70000}}"#, "70000"),
            (r#"{"a": {"kind": "exec", "mode": "enforce", "command": []}}"#, "names no program"),
            (r#"{"a": {"kind": "exec", "mode": "enforce", "command": "true"}}"#, "a sequence"),
            (
                r#"{"a": {"kind": "http", "mode": "enforce", "url": "ftp://x"}}"#,
                "begins with http:// or https://",
            ),
            (
                r#"{"a": {"kind": "http", "mode": "enforce", "url": "http://x", "caFile": "/ca.pem"}}"#,
                "a file of authorities is for an https URL",
            ),
            (
                r#"{"a": {"kind": "exec", "mode": "enforce", "command": ["x"], "intervalSeconds": 0}}"#,
                "`intervalSeconds`: 0 is not a whole number from 1 to 86400",
            ),
            (
                r#"{"a": {"kind": "exec", "mode": "enforce", "command": ["x"], "timeoutSeconds": 0.5}}"#,
                "`timeoutSeconds`: 0.5",
            ),
            (
                r#"{"a": {"kind": "exec", "mode": "enforce", "command": ["x"]},
                    "a": {"kind": "exec", "mode": "disabled", "command": ["x"]}}"#,
                "declared twice",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn no_file_declares_no_probes_and_an_unreadable_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(HealthChecks::load(&folder.path().join("health-checks.json")).unwrap(), []);
        assert!(matches!(HealthChecks::load(folder.path()), Err(HealthChecksError::Read { .. })));
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(HealthChecks::load(&large), Err(HealthChecksError::TooLarge { .. })));
    }
}
