//! What lies on the disk: configuration, key, trust, state, store, releases.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use muster_core::document::Trust;
use muster_signing::PublicKey;
use muster_store::{FORMAT, RESERVE_NAME, Store, StoreError, Table};
use nix::unistd::{AccessFlags, access};

use super::super::output::plain;
use super::super::render::bytes;
use super::{Failure, Finding};
use crate::activation::Backend;
use crate::config::{BackendKind, Config};
use crate::probe::health_checks::HealthChecks;
use crate::{keys, storage};

/// With less free space than this a store soon cannot grow, in bytes.
const FREE_BYTES_LOW: u64 = 512 << 20;
/// With less than this it can be full with the next event, in bytes.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// The mode bits by which others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Whether the configuration can be honoured, and who may change it.
pub(super) fn config(path: &Path, config: &Config, found: &mut Vec<Finding>) {
    let shown = path.display();
    if let Some(finding) = open_to_others("config", path) {
        found.push(finding);
    }
    match config.honoured() {
        Ok(idle) => {
            let (host, fleet) = (&config.host, &config.fleet);
            found.push(Finding::ok("config", format_args!("{shown}: host {host} of the fleet {fleet}")));
            let mend = "take it out of the configuration";
            found.extend(idle.into_iter().map(|what| Finding::warning("config", what, mend)));
        }
        Err(error) => {
            let mend = "the agent does not start with it: take it out of the configuration";
            found.push(Finding::wrong("config", error, mend));
        }
    }
}

/// Whether the host's key is there, secret, and a key; its public half.
pub(super) fn key(config: &Config, found: &mut Vec<Finding>) -> Option<PublicKey> {
    match keys::read_private(&config.identity) {
        Ok(key) => {
            let public = key.public();
            let (path, peer) = (config.identity.display(), public.peer_id());
            found.push(Finding::ok("key", format_args!("{path}: only its owner can read it; peer {peer}")));
            Some(public)
        }
        Err(error) => {
            let mut finding = Finding::failed("key", Failure::from(error));
            finding
                .mend
                .get_or_insert_with(|| "set identity to this host's private OpenSSH ed25519 key".to_owned());
            found.push(finding);
            None
        }
    }
}

/// Whether the pinned operators are those of the fleet, and who may change them.
pub(super) fn trust(config: &Config, found: &mut Vec<Finding>) {
    let path = &config.trust;
    let shown = path.display();
    let form = "a trust file is {\"fleet\": \"home\", \"operators\": {\"alice\": \"ssh-ed25519 AAAA...\"}, \"threshold\": 1}";
    if let Some(finding) = open_to_others("trust", path) {
        found.push(finding);
    }
    let read = fs::read(path).map_err(|error| error.to_string());
    found.push(match read.and_then(|bytes| Trust::parse(&bytes).map_err(|error| error.to_string())) {
        Err(error) => Finding::wrong("trust", format_args!("{shown}: {error}"), form),
        Ok(trust) if trust.fleet != config.fleet => Finding::wrong(
            "trust",
            format_args!("{shown} pins the fleet {}, the configuration says {}", trust.fleet, config.fleet),
            "one of them is another fleet's: put the right file there",
        ),
        Ok(trust) => {
            let (threshold, operators) = (trust.threshold, trust.operators.len());
            Finding::ok(
                "trust",
                format_args!("{shown}: {threshold} of {operators} operators sign for the fleet"),
            )
        }
    });
}

/// Whether others than its owner could change a file that says whom to believe.
fn open_to_others(check: &'static str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.mode();
    let shown = path.display();
    (mode & WRITABLE_BY_OTHERS != 0).then(|| {
        Finding::wrong(
            check,
            format_args!("{shown}: its mode {:04o} lets others than its owner change it", mode & 0o7777),
            format!("chmod go-w {shown}"),
        )
    })
}

/// Whether there is a folder to keep the store in, with room.
pub(super) fn state(config: &Config, found: &mut Vec<Finding>) {
    let folder = &config.state_dir;
    let shown = folder.display();
    let Some(there) = folder.ancestors().find(|folder| folder.exists()) else { return };
    if !there.is_dir() || access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let user = nix::unistd::geteuid();
        let what =
            format_args!("state_dir {shown}: {} is no folder that user {user} can write to", there.display());
        let mend =
            format!("install -d -m 0700 -o {user} {shown}, or run this as the user who runs the agent");
        found.push(Finding::wrong("state", what, mend));
        return;
    }
    match nix::sys::statvfs::statvfs(there) {
        Err(error) => {
            let mend = "is the file system mounted? findmnt -T names it";
            found.push(Finding::warning("state", format_args!("state_dir {shown}: {error}"), mend));
        }
        Ok(disk) => {
            // The size of these fields differs between systems.
            #[expect(clippy::useless_conversion, reason = "the fields have other types elsewhere")]
            let free = u64::from(disk.blocks_available()).saturating_mul(disk.fragment_size().into());
            let what = format!("state_dir {shown}: {} free", bytes(free));
            let mend = "free some space there: a full disk stops this host, and nothing else";
            found.push(match free {
                FREE_BYTES_LOW.. => Finding::ok("state", what),
                FREE_BYTES_MIN.. => Finding::warning("state", what, mend),
                _ => Finding::wrong("state", what, mend),
            });
        }
    }
}

/// Whether the store of a stopped agent opens; a running one holds it and tells of it itself.
pub(super) fn store(config: &Config, agent_runs: bool, found: &mut Vec<Finding>) {
    let path = config.state_dir.join(storage::STORE_FILE);
    if !agent_runs {
        found.push(match Store::open_offline(&path) {
            Ok(store) => opened(&path, &store, config),
            Err(StoreError::Missing { .. }) => {
                Finding::ok("store", format_args!("{}: none yet; the first start makes it", path.display()))
            }
            Err(error) => {
                let mend = if matches!(error, StoreError::InUse { .. }) {
                    "an agent runs and does not answer at the configuration's socket: systemctl status muster"
                } else if matches!(error, StoreError::Corrupt { .. }) {
                    "move the file away and start: the fleet brings the records back (a coordinator needs a new key)"
                } else if matches!(error, StoreError::Newer { .. } | StoreError::Older { .. }) {
                    "install the version of muster that fits"
                } else {
                    "muster store verify --store says more"
                };
                Finding::wrong("store", plain(&error.to_string()), mend)
            }
        });
    }
    let reserve = config.state_dir.join(RESERVE_NAME);
    if path.exists() && !reserve.exists() {
        let what = format_args!("{}: the reserve for a full disk is gone", reserve.display());
        found.push(Finding::warning(
            "store",
            what,
            "free some space and restart the agent, which makes it again",
        ));
    }
}

fn opened(path: &Path, store: &Store, config: &Config) -> Finding {
    let shown = path.display();
    let rows = store.read().and_then(|snapshot| {
        let text = |name: &str| {
            let value = snapshot.get(Table::Meta, name.as_bytes())?.unwrap_or_default();
            Ok::<_, StoreError>(String::from_utf8_lossy(&value).into_owned())
        };
        Ok((text("fleet")?, text("host")?, snapshot.len(Table::Arrivals)?))
    });
    match rows {
        Err(error) => Finding::wrong("store", error, "muster store verify --store says more"),
        Ok((fleet, host, _)) if fleet != config.fleet.as_str() || host != config.host.as_str() => {
            Finding::wrong(
                "store",
                format_args!("{shown} is of the host {} of the fleet {}", plain(&host), plain(&fleet)),
                "another host's store: set state_dir to this one's, or begin with an empty folder",
            )
        }
        Ok((_, _, records)) => {
            Finding::ok("store", format_args!("{shown}: opens, format {FORMAT}, {records} records"))
        }
    }
}

/// Whether the backend can be had, and knows what runs.
pub(super) fn backend(config: &Config, found: &mut Vec<Finding>) {
    let backend = match Backend::new(&config.activation, &config.state_dir) {
        Ok(backend) => backend,
        Err(error) => {
            let mend = "set activation.backend and activation.root to what this host has";
            found.push(Finding::wrong("backend", error, mend));
            return;
        }
    };
    match (config.activation.backend, &config.activation.root) {
        (BackendKind::Directory, Some(root)) => directory(root, &backend, found),
        (BackendKind::Directory, None) => {}
        (BackendKind::Nixos, _) => nixos(found),
    }
    match backend.current() {
        Some(current) => found.push(Finding::ok("backend", format_args!("runs {current}"))),
        None => found.push(Finding::warning(
            "backend",
            "nothing runs that the backend put there; the first release cannot be rolled back",
            "that is as it should be before the first rollout",
        )),
    }
}

fn directory(root: &Path, backend: &Backend, found: &mut Vec<Finding>) {
    let (shown, releases) = (root.display(), root.join("releases"));
    if !releases.is_dir() {
        let what = format_args!("{} is no folder: no release can lie there", releases.display());
        found.push(Finding::wrong("backend", what, format!("mkdir -p {}", releases.display())));
        return;
    }
    if access(root, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let what = format_args!("{shown} cannot be written to: no switch would move {shown}/current");
        found.push(Finding::wrong(
            "backend",
            what,
            "run this as the user who runs the agent, or give that user the folder",
        ));
        return;
    }
    let Some(current) = backend.current() else {
        found.push(Finding::ok("backend", format_args!("directory, {shown}")));
        return;
    };
    let checks = current.directory_release().map(|name| releases.join(name).join("health-checks.json"));
    match checks.map(|path| HealthChecks::load(&path)) {
        Some(Err(error)) => found.push(Finding::wrong(
            "backend",
            error,
            "what runs could not be dispatched again: mend its health checks, or release another",
        )),
        Some(Ok(probes)) => {
            let probes = super::output::count(probes.len(), "probe");
            found.push(Finding::ok("backend", format_args!("directory, {shown}; {probes} of what runs")));
        }
        None => found.push(Finding::ok("backend", format_args!("directory, {shown}"))),
    }
}

fn nixos(found: &mut Vec<Finding>) {
    let output = std::process::Command::new("nix-store").arg("--version").output();
    found.push(match output {
        Ok(output) if output.status.success() => {
            Finding::ok("backend", format_args!("nixos, {}", plain(String::from_utf8_lossy(&output.stdout).trim())))
        }
        Ok(output) => Finding::wrong(
            "backend",
            format_args!("nix-store --version: {}", output.status),
            "is /nix/store mounted? nix-store --verify looks at it",
        ),
        Err(error) => Finding::wrong(
            "backend",
            format_args!("nix-store: {error}"),
            "the nixos backend needs Nix in the agent's PATH; elsewhere use activation.backend = \"directory\"",
        ),
    });
    if !Path::new("/nix/store").is_dir() {
        found.push(Finding::wrong(
            "backend",
            "/nix/store is no folder",
            "install Nix, or use the directory backend",
        ));
    }
}

/// Whether the privileged helper's socket is there, if one is named.
pub(super) fn helper(config: &Config, found: &mut Vec<Finding>) {
    let Some(path) = &config.activation.helper else { return };
    let shown = path.display();
    found.push(match fs::metadata(path) {
        Ok(at) if at.file_type().is_socket() => Finding::ok("helper", format_args!("{shown} is there")),
        Ok(_) => Finding::wrong(
            "helper",
            format_args!("{shown} is no socket"),
            "systemctl status muster-activate.socket",
        ),
        Err(error) => Finding::wrong(
            "helper",
            format_args!("{shown}: {error}"),
            "systemctl enable --now muster-activate.socket",
        ),
    });
}
