//! Systems to switch to: what they are, before Nix has built them, and where they lie when it has.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a system is, and how a switch to it goes; see `tests/nix/system.nix`.
#[derive(Debug, Clone)]
pub struct System {
    name: &'static str,
    dbus: &'static str,
    checks: Value,
    service: &'static str,
    exits: u8,
    waits: &'static str,
    network: bool,
    restarts: &'static str,
    agent: &'static str,
}

impl System {
    /// A system that works; its only health check is that its service is active.
    pub fn new(name: &'static str) -> Self {
        let checks = json!({ "demo": {
            "kind": "systemd", "mode": "enforce", "intervalSeconds": 1, "timeoutSeconds": 5,
            "units": ["demo.service"],
        }});
        Self {
            name,
            dbus: "dbus",
            checks,
            service: "/usr/bin/sleep infinity",
            exits: 0,
            waits: "never",
            network: true,
            restarts: "",
            agent: "",
        }
    }

    /// Its service ends at once, and badly.
    #[must_use]
    pub fn with_broken_service(mut self) -> Self {
        self.service = "/usr/bin/false";
        self
    }

    /// Its `switch` has failed units in the end.
    #[must_use]
    pub fn whose_switch_exits(mut self, code: u8) -> Self {
        self.exits = code;
        self
    }

    /// Its `switch` waits until [`super::Machine::open_gate`], before it has done anything.
    #[must_use]
    pub fn that_waits_first(mut self) -> Self {
        self.waits = "first";
        self
    }

    /// Its `switch` waits until [`super::Machine::open_gate`], when the boot loader is set and nothing else.
    #[must_use]
    pub fn that_waits_halfway(mut self) -> Self {
        self.waits = "halfway";
        self
    }

    /// Once it is switched to, the machine hears and reaches nobody.
    #[must_use]
    pub fn without_network(mut self) -> Self {
        self.network = false;
        self
    }

    /// Another implementation of D-Bus, which must not be changed live.
    #[must_use]
    pub fn with_dbus(mut self, implementation: &'static str) -> Self {
        self.dbus = implementation;
        self
    }

    /// Its `switch` restarts a unit.
    #[must_use]
    pub fn that_restarts(mut self, unit: &'static str) -> Self {
        self.restarts = unit;
        self
    }

    /// Its units of the agent run a program of its own: the one under test, in another store path.
    #[must_use]
    pub fn with_agent(mut self, version: &'static str) -> Self {
        self.agent = version;
        self
    }

    /// Declares one more enforced health check.
    #[must_use]
    pub fn with_check(mut self, name: &str, check: Value) -> Self {
        self.checks[name] = check;
        self
    }

    fn argument(&self) -> Value {
        json!({
            "name": self.name, "dbus": self.dbus, "checks": self.checks, "service": self.service,
            "exits": self.exits.to_string(), "waits": self.waits, "network": self.network,
            "restarts": self.restarts, "agent": self.agent,
        })
    }
}

/// The argument of `system.nix` for some systems.
pub(super) fn argument(systems: &[System]) -> String {
    systems.iter().map(System::argument).collect::<Value>().to_string()
}

/// Where systems lie, by name.
#[derive(Debug, Clone, Default)]
pub struct Built(BTreeMap<&'static str, String>);

impl Built {
    /// Takes what `nix-build` printed: one path a system, in their order.
    pub(super) fn extend(&mut self, systems: &[System], printed: &str) {
        let paths: Vec<_> =
            printed.lines().map(str::trim).filter(|line| line.starts_with("/nix/store/")).collect();
        assert_eq!(paths.len(), systems.len(), "nix-build printed {printed}");
        self.0.extend(systems.iter().zip(paths).map(|(system, path)| (system.name, path.to_owned())));
    }

    /// The store path of a system.
    pub fn path(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("no system {name} was built"))
    }
}
