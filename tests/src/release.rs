//! Releases of the directory backend: programs that write down when they ran, and health checks that tests steer.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::json;

/// How a release's `activate` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// It works at once.
    #[default]
    Works,
    /// It exits with 3.
    Fails,
    /// It waits until the test lets it go on with [`crate::Agent::open_gate`].
    WaitsAtGate,
}

/// How a release's one enforced probe goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// It passes.
    #[default]
    Passes,
    /// It fails.
    Fails,
    /// It passes while the test says so with [`crate::Agent::set_healthy`].
    AsTheTestSays,
    /// No probe is declared.
    NotDeclared,
}

/// What a release does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Release {
    /// How its switch goes.
    pub activation: Activation,
    /// How its health is.
    pub health: Health,
}

impl Release {
    /// A release that works.
    pub const GOOD: Self = Self { activation: Activation::Works, health: Health::Passes };
    /// A release that switches well and is not healthy.
    pub const SICK: Self = Self { activation: Activation::Works, health: Health::Fails };
    /// A release whose switch fails.
    pub const BROKEN: Self = Self { activation: Activation::Fails, health: Health::Passes };
    /// A release whose switch takes until the test lets it go on.
    pub const SLOW: Self = Self { activation: Activation::WaitsAtGate, health: Health::Passes };

    /// Writes the release into a host's root.
    pub(crate) fn install(self, root: &Path, name: &str) {
        let folder = root.join("releases").join(name);
        fs::create_dir_all(&folder).expect("a release's folder can be made");
        let program = folder.join("activate");
        fs::write(&program, self.program()).expect("a release's program can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
        if let Some(command) = self.probe(root) {
            let checks = json!({ "works": {
                "kind": "exec", "mode": "enforce", "intervalSeconds": 1, "timeoutSeconds": 10, "command": command,
            }});
            fs::write(folder.join("health-checks.json"), checks.to_string())
                .expect("health checks can be written");
        }
    }

    fn program(self) -> String {
        let body = match self.activation {
            Activation::Works => "",
            Activation::Fails => "echo 'the disk of this release is on fire' >&2\nexit 3\n",
            // The root goes when the test ends, and with it the reason to wait.
            Activation::WaitsAtGate => {
                "while [ ! -e \"$MUSTER_ROOT/gate\" ]; do [ -d \"$MUSTER_ROOT\" ] || exit 1; sleep 0.05; done\n"
            }
        };
        let log = |word: &str| {
            format!("echo \"{word} $MUSTER_CLOSURE $(date +%s%N)\" >> \"$MUSTER_ROOT/runs.log\"\n")
        };
        format!("#!/bin/sh\n{}{body}{}", log("began"), log("ended"))
    }

    fn probe(self, root: &Path) -> Option<Vec<String>> {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        match self.health {
            Health::Passes => words(&["true"]),
            Health::Fails => words(&["false"]),
            Health::AsTheTestSays => words(&["test", "-e", &root.join("healthy").to_string_lossy()]),
            Health::NotDeclared => None,
        }
    }
}

/// Makes a release the one that runs, as if it had been switched to long ago.
pub(crate) fn make_current(root: &Path, name: &str) {
    symlink(Path::new("releases").join(name), root.join("current")).expect("a link can be made");
}

/// One line of what the releases' programs wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `began` or `ended`.
    pub word: String,
    /// The closure that was switched to.
    pub closure: String,
    /// When, in nanoseconds since 1970.
    pub at: u128,
}

/// What the releases' programs wrote down, in order.
pub(crate) fn runs(root: &Path) -> Vec<Run> {
    let text = fs::read_to_string(root.join("runs.log")).unwrap_or_default();
    let parsed = text.lines().filter_map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        Some(Run { word: words.next()?, closure: words.next()?, at: words.next()?.parse().ok()? })
    });
    parsed.collect()
}
