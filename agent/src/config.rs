//! The agent's configuration: a TOML file in which unknown keys are refused, and `MUSTER_*` variables that override it.

mod honoured;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::id::{FleetName, HostId};
use serde::Deserialize;

use crate::hooks::{HOOKS_MAX, Hook, RawHook};

pub use honoured::Unhonoured;

/// Where the configuration lies unless `--config` says otherwise.
pub const CONFIG_DEFAULT: &str = "/etc/muster/muster.toml";
/// Where the control socket lies unless the configuration says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/muster/muster.sock";
/// The host key that is used when neither the configuration nor systemd names another.
pub const IDENTITY_DEFAULT: &str = "/etc/ssh/ssh_host_ed25519_key";
/// The most that is read of a configuration file.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// The shortest and the longest heartbeat, in seconds.
const HEARTBEAT_SECS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;
/// How long history is kept unless the configuration says otherwise, in days.
const RETENTION_DAYS_DEFAULT: u32 = 90;
/// The shortest and the longest that history is kept, in days.
const RETENTION_DAYS: std::ops::RangeInclusive<u32> = 1..=36_500;
/// The values of `snapshot_entries`: fewer would make more work than they save, more is a log that no memory holds.
const SNAPSHOT_ENTRIES: std::ops::RangeInclusive<u64> = 16..=1_000_000;

/// Why a configuration does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{path}: more than {CONFIG_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML, or holds an unknown key or a wrong value.
    #[error("{path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        message: String,
    },
    /// A variable's value does not fit its key.
    #[error("{name}={value:?}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong.
        message: String,
    },
    /// A key has a value outside its range.
    #[error("{key} = {value} is not in {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: String,
    },
    /// A hook cannot be called as it is written.
    #[error("hook {name:?}: {message}")]
    Hook {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The system's host name cannot serve as the host's name in the fleet.
    #[error("the system's host name {name:?} is no host's name in a fleet; set `host`")]
    HostName {
        /// The name.
        name: String,
    },
}

/// What an operator has configured, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The fleet.
    pub fleet: FleetName,
    /// This host's name in the fleet document.
    pub host: HostId,
    /// Where the agent keeps its store.
    pub state_dir: PathBuf,
    /// The host's private key.
    pub identity: PathBuf,
    /// The pinned operators.
    pub trust: PathBuf,
    /// The addresses to listen on, as multiaddrs.
    pub listen: Vec<String>,
    /// The peers to dial first, as multiaddrs.
    pub bootstrap: Vec<String>,
    /// Whether peers are looked for on the local network; [`Config::honoured`] refuses it.
    pub mdns: bool,
    /// Whether to serve as a relay; [`Config::honoured`] refuses `on`.
    pub relay: Auto,
    /// Whether to keep a copy of every host's feed.
    pub mirror: Auto,
    /// The health checks, where the backend's closures do not bring their own.
    pub health_checks: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// How long what is over is kept, in days.
    pub retention_days: u32,
    /// After how many entries a coordinator that leads asks for a snapshot of the log.
    pub snapshot_entries: u64,
    /// How often this host speaks when it has nothing to say.
    pub heartbeat: Duration,
    /// How closures are put into place.
    pub activation: Activation,
    /// What goes over gossip.
    pub gossip: Gossip,
    /// Where metrics are served besides the socket.
    pub metrics: Metrics,
    /// Who is called when something happens.
    pub hooks: Vec<Hook>,
}

/// A choice that the agent can make by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// The agent decides.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The `[activation]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Activation {
    /// What puts closures into place.
    pub backend: BackendKind,
    /// The folder of the directory backend.
    pub root: Option<PathBuf>,
    /// The components whose change waits for a reboot.
    pub defer: Vec<Component>,
    /// The socket of the privileged helper; none: the agent switches by itself. [`Config::honoured`] refuses one for the
    /// directory backend.
    pub helper: Option<PathBuf>,
}

impl Default for Activation {
    fn default() -> Self {
        Self { backend: BackendKind::default(), root: None, defer: vec![Component::Dbus], helper: None }
    }
}

/// What puts closures into place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// NixOS systems.
    #[default]
    Nixos,
    /// Folders below one root.
    Directory,
}

/// A component that cannot always be swapped on a running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The message bus.
    Dbus,
    /// The init system.
    Systemd,
    /// The kernel.
    Kernel,
    /// The first stage of boot.
    Initrd,
}

impl Component {
    /// The component's name, as the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dbus => "dbus",
            Self::Systemd => "systemd",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
        }
    }
}

/// The `[gossip]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gossip {
    /// Whether the agent publishes; if not, what it says travels by sync alone.
    pub publish: bool,
}

impl Default for Gossip {
    fn default() -> Self {
        Self { publish: true }
    }
}

/// The `[metrics]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// A TCP address, such as 127.0.0.1:9746; none: the control socket only. Whoever reaches it may read.
    pub listen: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    fleet: FleetName,
    host: Option<HostId>,
    state_dir: Option<PathBuf>,
    identity: Option<PathBuf>,
    trust: Option<PathBuf>,
    listen: Option<Vec<String>>,
    #[serde(default)]
    bootstrap: Vec<String>,
    #[serde(default)]
    mdns: bool,
    #[serde(default)]
    relay: Auto,
    #[serde(default)]
    mirror: Auto,
    health_checks: Option<PathBuf>,
    socket: Option<PathBuf>,
    retention_days: Option<u32>,
    snapshot_entries: Option<u64>,
    heartbeat_seconds: Option<f64>,
    #[serde(default)]
    activation: Activation,
    #[serde(default)]
    gossip: Gossip,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default)]
    hook: Vec<RawHook>,
}

/// How a variable's text becomes a value.
#[derive(Clone, Copy)]
enum Form {
    Text,
    List,
    Flag,
    Whole,
    Number,
}

/// Every key that a variable can override; hooks, of which there may be many, have none: `activation.root` is `MUSTER_ACTIVATION__ROOT`.
const KEYS: [(&str, Form); 21] = [
    ("fleet", Form::Text),
    ("host", Form::Text),
    ("state_dir", Form::Text),
    ("identity", Form::Text),
    ("trust", Form::Text),
    ("listen", Form::List),
    ("bootstrap", Form::List),
    ("mdns", Form::Flag),
    ("relay", Form::Text),
    ("mirror", Form::Text),
    ("health_checks", Form::Text),
    ("socket", Form::Text),
    ("retention_days", Form::Whole),
    ("snapshot_entries", Form::Whole),
    ("heartbeat_seconds", Form::Number),
    ("activation.backend", Form::Text),
    ("activation.root", Form::Text),
    ("activation.defer", Form::List),
    ("activation.helper", Form::Text),
    ("gossip.publish", Form::Flag),
    ("metrics.listen", Form::Text),
];

impl Config {
    /// Reads a file, with the process's environment over it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(read)?;
        file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(read)?;
        if u64::try_from(text.len()).is_ok_and(|len| len > CONFIG_BYTES_MAX) {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::from_text(path, &text, |name| std::env::var(name).ok())
    }

    /// Reads the text of a file named `path`, with variables over it; `variable` gives a variable's value.
    pub fn from_text(
        path: &Path,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let content = |message: String| ConfigError::Content { path: path.to_owned(), message };
        // The file alone is looked at first where it can be, since only then do errors name a line.
        let overridden = overrides(&variable)?;
        let raw: Raw = if overridden.is_empty() {
            toml::from_str(text).map_err(|error| content(error.to_string()))?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(|error| content(error.to_string()))?;
            for (key, value) in overridden {
                set(&mut table, key, value);
            }
            table.try_into().map_err(|error: toml::de::Error| content(error.to_string()))?
        };
        raw.complete(&variable)
    }
}

fn overrides(
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Vec<(&'static str, toml::Value)>, ConfigError> {
    let mut found = Vec::new();
    for (key, form) in KEYS {
        let name = format!("MUSTER_{}", key.to_ascii_uppercase().replace('.', "__"));
        let Some(text) = variable(&name) else { continue };
        match form.value(&text) {
            Ok(value) => found.push((key, value)),
            Err(message) => return Err(ConfigError::Variable { name, value: text, message }),
        }
    }
    Ok(found)
}

fn set(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((outer, inner)) => {
            let entry = table.entry(outer).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            // Something else than a table is left for the reader of the whole to refuse.
            if let Some(inside) = entry.as_table_mut() {
                inside.insert(inner.to_owned(), value);
            }
        }
    }
}

impl Form {
    fn value(self, text: &str) -> Result<toml::Value, String> {
        match self {
            Self::Text => Ok(toml::Value::String(text.to_owned())),
            Self::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect()))
            }
            Self::Flag => match text {
                "true" | "1" => Ok(toml::Value::Boolean(true)),
                "false" | "0" => Ok(toml::Value::Boolean(false)),
                _ => Err("must be true or false".to_owned()),
            },
            Self::Whole => {
                text.parse().map(toml::Value::Integer).map_err(|_| "must be a whole number".to_owned())
            }
            Self::Number => text.parse().map(toml::Value::Float).map_err(|_| "must be a number".to_owned()),
        }
    }
}

impl Raw {
    fn complete(self, variable: &impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let retention_days = self.retention_days.unwrap_or(RETENTION_DAYS_DEFAULT);
        within("retention_days", retention_days, &RETENTION_DAYS)?;
        let snapshot_entries = self.snapshot_entries.unwrap_or(muster_core::node::SNAPSHOT_ENTRIES);
        within("snapshot_entries", snapshot_entries, &SNAPSHOT_ENTRIES)?;
        let heartbeat_secs = self.heartbeat_seconds.unwrap_or(30.0);
        within("heartbeat_seconds", heartbeat_secs, &HEARTBEAT_SECS)?;
        Ok(Config {
            host: self.host.map_or_else(system_host, Ok)?,
            fleet: self.fleet,
            state_dir: self.state_dir.unwrap_or_else(|| "/var/lib/muster".into()),
            identity: self.identity.unwrap_or_else(|| default_identity(variable)),
            trust: self.trust.unwrap_or_else(|| "/etc/muster/trust.json".into()),
            listen: self.listen.unwrap_or_else(|| {
                vec!["/ip4/0.0.0.0/udp/7946/quic-v1".to_owned(), "/ip4/0.0.0.0/tcp/7946".to_owned()]
            }),
            bootstrap: self.bootstrap,
            mdns: self.mdns,
            relay: self.relay,
            mirror: self.mirror,
            health_checks: self.health_checks.unwrap_or_else(|| "/etc/muster/health-checks.json".into()),
            socket: self.socket.unwrap_or_else(|| SOCKET_DEFAULT.into()),
            retention_days,
            snapshot_entries,
            heartbeat: Duration::from_secs_f64(heartbeat_secs),
            activation: self.activation,
            gossip: self.gossip,
            metrics: self.metrics,
            hooks: hooks(self.hook)?,
        })
    }
}

fn hooks(raw: Vec<RawHook>) -> Result<Vec<Hook>, ConfigError> {
    let wrong = |name: &str, message: String| ConfigError::Hook { name: name.to_owned(), message };
    let mut hooks: Vec<Hook> = Vec::new();
    for raw in raw {
        let name = raw.name().to_owned();
        if hooks.len() == HOOKS_MAX {
            return Err(wrong(&name, format!("there are at most {HOOKS_MAX} hooks")));
        }
        if hooks.iter().any(|hook| hook.name == name) {
            return Err(wrong(&name, "there are two of that name".to_owned()));
        }
        hooks.push(raw.complete().map_err(|message| wrong(&name, message))?);
    }
    Ok(hooks)
}

fn within<T: PartialOrd + std::fmt::Display + std::fmt::Debug>(
    key: &'static str,
    value: T,
    range: &std::ops::RangeInclusive<T>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let range = format!("{} to {}", range.start(), range.end());
    Err(ConfigError::Range { key, value: value.to_string(), range })
}

/// The key that systemd was told to load for the unit, or else the SSH host key.
pub fn default_identity(variable: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let loaded = variable("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("identity"));
    loaded.filter(|file| file.exists()).unwrap_or_else(|| IDENTITY_DEFAULT.into())
}

/// The system's host name without its domain.
pub fn system_host() -> Result<HostId, ConfigError> {
    let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let first = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    first.parse().map_err(|_| ConfigError::HostName { name })
}

#[cfg(test)]
mod tests;
