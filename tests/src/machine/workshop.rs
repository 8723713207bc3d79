//! Where Nix builds what machines begin with, and what they are sent to: a root file system without a running system.

use std::fs;
use std::path::{Path, PathBuf};

use super::hub::{ADDRESS, Hub, remove_group};
use super::node::{Boot, group};
use super::{Built, System};
use super::{cache, system};
use crate::cli::{Ran, run};

/// The disk that every machine's is laid over.
const SEED: &str = "seed";
/// The disk that systems are built on.
const BENCH: &str = "bench";
/// The folder that scripts see as /share.
const SHARE: &str = "share";
/// The key whose signatures machines trust, and one that they do not.
const TRUSTED_KEY: &str = "/share/trusted.key";
const STRANGE_KEY: &str = "/share/strange.key";

const FILES: [(&str, &str); 5] = [
    ("share/system.nix", include_str!("../../nix/system.nix")),
    ("share/switch-to-configuration.sh", include_str!("../../nix/switch-to-configuration.sh")),
    ("share/set-agent.sh", include_str!("../../nix/set-agent.sh")),
    ("share/hosts.nix", include_str!("../../nix/hosts.nix")),
    ("boot.sh", include_str!("boot.sh")),
];
const BUILD: &str =
    "nix-build --no-out-link --option substitute false /share/system.nix --argstr systems \"$1\"";
const PUT: &str = "nix copy --to \"file:///share/cache?secret-key=$1&compression=none\" $2";
const EVALUATE: &str = "nix-instantiate --eval --strict --json /share/hosts.nix --arg module /share/nixos-module \
                        --argstr hosts \"$1\"";

/// A site's workshop.
#[derive(Debug)]
pub(super) struct Workshop<'a> {
    hub: &'a Hub,
}

impl<'a> Workshop<'a> {
    /// Opens it; the first system is made, and is what machines run at first.
    pub(super) fn open(hub: &'a Hub, first: &System, built: &mut Built) -> Self {
        let workshop = Self { hub };
        fs::create_dir_all(hub.reach("share/cache")).expect("a folder can be made");
        for (name, content) in FILES {
            fs::write(hub.reach(name), content).expect("a file can be written");
        }
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nixos-module");
        copy_folder(&module, &hub.reach("share/nixos-module"));
        let first = std::slice::from_ref(first);
        let cache = format!("http://{ADDRESS}:{}", cache::PORT);
        let argument = system::argument(first);
        let ran = workshop.run(
            SEED,
            &[],
            &format!("set -eu\n{}", include_str!("../../nix/seed.sh")),
            [&argument, &cache],
        );
        built.extend(first, &ran.ok());
        workshop
    }

    /// Goes back to it.
    pub(super) fn reopen(hub: &'a Hub) -> Self {
        Self { hub }
    }

    /// The layer that holds what machines have in common.
    pub(super) fn layer(&self) -> PathBuf {
        self.hub.within(&format!("{SEED}/upper"))
    }

    /// Builds systems and puts them into the cache, signed with the key that machines trust or with another one.
    pub(super) fn build(&self, systems: &[System], trusted: bool, built: &mut Built) {
        let printed = self.run(BENCH, &[self.layer()], BUILD, [&system::argument(systems)]).ok();
        let key = if trusted { TRUSTED_KEY } else { STRANGE_KEY };
        self.run(BENCH, &[self.layer()], PUT, [key, &printed.replace('\n', " ")]).ok();
        built.extend(systems, &printed);
    }

    /// What the NixOS module makes of options, which are JSON by host.
    pub(super) fn hosts(&self, options: &str) -> serde_json::Value {
        self.run(BENCH, &[self.layer()], EVALUATE, [options]).json()
    }

    fn run<const N: usize>(&self, disk: &str, layers: &[PathBuf], script: &str, arguments: [&str; N]) -> Ran {
        let boot = Boot {
            name: disk,
            layers,
            share: Some(self.hub.within(SHARE)),
            port: String::new(),
            address: String::new(),
            link: false,
        };
        let group = group(self.hub, disk);
        let init = [&["/bin/sh", "-c", script, "sh"], &arguments[..]].concat();
        let ran = run(boot.command(self.hub, &group, &init));
        remove_group(&group);
        ran
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read").flatten() {
        let (path, name) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &name);
        } else {
            fs::copy(&path, &name).expect("a file can be copied");
        }
    }
}
