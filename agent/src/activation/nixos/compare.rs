//! What of a running system cannot be swapped, and what of it takes effect at the next boot only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use muster_core::id::Closure;

use super::machine::Machine;
use crate::config::Component;

/// The file in which a system names what stands in the way of a live switch when it changes.
const INHIBITORS: &str = "switch-inhibitors";
/// The most that is read of it.
const INHIBITORS_BYTES_MAX: u64 = 64 * 1024;
/// What only a boot takes into use.
const BOOTED: [&str; 3] = ["kernel", "initrd", "kernel-modules"];
/// The files of a system whose store paths tell one message bus from another; which of them there are differs by version.
const BUS: [&str; 4] = [
    "sw/bin/dbus-daemon",
    "sw/bin/dbus-broker",
    "etc/systemd/system/dbus-broker.service",
    "etc/systemd/system/dbus.service",
];

/// Why a live switch cannot be compared with what runs.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The list cannot be read, so that nobody can tell what stands in the way.
    #[error("{closure}/{INHIBITORS}: {message}")]
    Inhibitors {
        /// The system.
        closure: Closure,
        /// What is wrong.
        message: String,
    },
}

impl Machine {
    /// The component whose change makes the switch wait for a reboot; none if the switch can be done live.
    ///
    /// A key that both systems' lists of inhibitors have with another value stands in the way, and so does a component
    /// of `defer` that lies in another store path.
    pub fn compare(
        &self,
        running: &Closure,
        target: &Closure,
        defer: &[Component],
    ) -> Result<Option<String>, CompareError> {
        if running == target {
            return Ok(None);
        }
        let (before, after) = (self.inhibitors(running)?, self.inhibitors(target)?);
        let changed = before.iter().find(|(key, value)| after.get(*key).is_some_and(|other| other != *value));
        if let Some((key, _)) = changed {
            return Ok(Some(key.clone()));
        }
        let differs = |component: &&Component| match component {
            Component::Dbus => self.bus(running) != self.bus(target),
            Component::Systemd | Component::Kernel | Component::Initrd => {
                self.part(running, component.name()) != self.part(target, component.name())
            }
        };
        Ok(defer.iter().find(differs).map(|component| component.name().to_owned()))
    }

    /// Whether a part of what runs takes effect at the next boot only.
    pub fn reboot_is_pending(&self) -> bool {
        match (self.booted(), self.current()) {
            (Some(booted), Some(current)) => {
                BOOTED.iter().any(|file| self.part(&booted, file) != self.part(&current, file))
            }
            (None, _) | (_, None) => false,
        }
    }

    fn part(&self, system: &Closure, file: &str) -> Option<std::path::PathBuf> {
        self.component(Path::new(system.as_str()).join(file))
    }

    fn bus(&self, system: &Closure) -> Option<std::path::PathBuf> {
        BUS.iter().find_map(|file| self.part(system, file))
    }

    /// The list of a system; an older one that has none names nothing.
    fn inhibitors(&self, system: &Closure) -> Result<BTreeMap<String, serde_json::Value>, CompareError> {
        let failed = |message: String| CompareError::Inhibitors { closure: system.clone(), message };
        let Some(path) = self.resolve(Path::new(system.as_str()).join(INHIBITORS)) else {
            return Ok(BTreeMap::new());
        };
        let file = File::open(self.real(path)).map_err(|error| failed(error.to_string()))?;
        let mut text = Vec::new();
        file.take(INHIBITORS_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| failed(error.to_string()))?;
        if u64::try_from(text.len()).is_ok_and(|len| len > INHIBITORS_BYTES_MAX) {
            return Err(failed(format!("more than {INHIBITORS_BYTES_MAX} bytes")));
        }
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::activation::nixos::testing::Bench;

    const ALL: [Component; 4] = [Component::Dbus, Component::Systemd, Component::Kernel, Component::Initrd];

    #[test]
    fn a_changed_inhibitor_or_a_changed_component_waits_for_a_reboot() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        let list = |text| [(INHIBITORS, text)];
        let cases: [(Files<'_>, Files<'_>, &[Component], Option<&str>); 9] = [
            (&[], &[], &ALL, None),
            (&list(r#"{"dbus":"dbus"}"#), &list(r#"{"dbus":"broker"}"#), &[], Some("dbus")),
            // A key that only one has says nothing of what runs.
            (&list(r#"{"dbus":"dbus"}"#), &list(r#"{"init":"x"}"#), &[], None),
            (&list(r#"{"dbus":"dbus"}"#), &[], &[], None),
            (&list(r#"{"a":{"b":1},"c":2}"#), &list(r#"{"a":{"b":1},"c":3}"#), &[], Some("c")),
            (&[], &[("kernel", "a file of its own")], &ALL, Some("kernel")),
            (&[], &[("kernel", "a file of its own")], &[Component::Dbus], None),
            (&[], &[("systemd", "")], &ALL, Some("systemd")),
            (&[], &[("sw/bin/dbus-daemon", "")], &[Component::Dbus], Some("dbus")),
        ];
        for (number, (before, after, defer, expected)) in cases.into_iter().enumerate() {
            let bench = Bench::new();
            let (old, new) = (bench.system("old", before), bench.system("new", after));
            let found = bench.machine.compare(&old, &new, defer).unwrap();
            assert_eq!(found.as_deref(), expected, "case {number}");
            assert_eq!(bench.machine.compare(&new, &new, defer).unwrap(), None);
        }
    }

    #[test]
    fn a_list_that_cannot_be_read_is_no_licence_to_switch() {
        let bench = Bench::new();
        let old = bench.system("old", &[]);
        for (name, text) in [("torn", "{\"dbus\":"), ("list", "[]"), ("long", &" ".repeat(65 * 1024))] {
            let new = bench.system(name, &[(INHIBITORS, text)]);
            let error = bench.machine.compare(&old, &new, &[]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{new}/{INHIBITORS}: ")), "{error}");
        }
    }

    #[test]
    fn a_new_kernel_is_pending_until_it_is_booted() {
        let bench = Bench::new();
        let old = bench.system("old", &[("kernel", "1")]);
        let same = bench.system("same", &[("sw/bin/x", "")]);
        let new = bench.system("new", &[("kernel", "2")]);
        assert!(!bench.machine.reboot_is_pending());
        bench.boot(&old);
        assert!(!bench.machine.reboot_is_pending());
        for (system, pending) in [(&new, true), (&old, false), (&same, true)] {
            std::fs::remove_file(&bench.machine.current_system).unwrap();
            std::os::unix::fs::symlink(system.as_str(), &bench.machine.current_system).unwrap();
            assert_eq!(bench.machine.reboot_is_pending(), pending, "{system}");
        }
        bench.boot(&new);
        assert!(!bench.machine.reboot_is_pending());
    }
}
