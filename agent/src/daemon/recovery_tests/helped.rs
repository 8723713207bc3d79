//! The same daemon without rights of its own: what needs root is asked of the privileged helper, with the proofs that the
//! daemon took out of its store.

use tokio::net::UnixListener;

use super::*;
use crate::activation::nixos::machine::Machine;
use crate::helper::caller::Allowed;
use crate::helper::memory::{Memory, Phase};
use crate::helper::serve::Door;

/// A host whose agent has a helper; another agent than the one that runs is in its unit file.
fn helped() -> Host {
    let host = Host::new(0);
    let trust = host.bench.path("trust.json");
    let config = format!("fleet = \"home\"\nhost = \"alpha\"\ntrust = {trust:?}\n");
    std::fs::write(host.bench.path("muster.toml"), config).unwrap();
    std::fs::create_dir(host.bench.path("helper")).unwrap();
    let unit = format!(
        "MainPID={}\nExecStart={{ path=/nix/new/muster ; argv[]=/nix/new/muster agent ; ignore_errors=no }}\n",
        std::process::id()
    );
    std::fs::write(host.bench.path("muster.service"), unit).unwrap();
    host
}

/// Serves whoever calls, as long as the daemon's runtime lives.
fn open_door(host: &Host) {
    let listener = UnixListener::bind(host.bench.path("activate.sock")).unwrap();
    let allowed = Allowed { user: Some(nix::unistd::geteuid()), group: None };
    let door = Door::new(host.bench.path("muster.toml"), host.bench.path("helper"), allowed);
    let machine: Machine = host.bench.machine.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            door.serve(connection, &machine).await;
        }
    });
}

fn memory(host: &Host) -> Memory {
    Memory::decode(&std::fs::read(host.bench.path("helper/memory.cbor")).unwrap()).unwrap()
}

#[test]
fn an_agent_without_rights_converges_through_its_helper_and_is_renewed() {
    let host = helped();
    let new = host.bench.system("new", &[]);
    host.lives("boot-1", async |life| {
        open_door(&host);
        life.releases(&new).await;
        life.reaches(HostState::Converged).await;
        let restart = "systemctl restart muster.service".to_owned();
        life.until("the new agent", |_| host.bench.log().contains(&restart)).await;
    });
    assert_eq!(host.switched(), ["switch new"]);
    let last = memory(&host).last.unwrap();
    assert_eq!((last.from, last.to, last.phase), (Some(host.old.clone()), new, Phase::Done));
}

#[test]
fn an_agent_without_rights_goes_back_through_its_helper_and_is_renewed() {
    let host = helped();
    let new = host.bench.system("new", &[("breaks", "")]);
    host.lives("boot-1", async |life| {
        open_door(&host);
        life.releases(&new).await;
        life.reaches(HostState::Reverted).await;
        // It may be the new release's own, started in the middle of it.
        let restart = "systemctl restart muster.service".to_owned();
        life.until("the agent of the old release", |_| host.bench.log().contains(&restart)).await;
    });
    assert_eq!(host.switched(), ["switch new", "switch old"]);
    assert_eq!(memory(&host).last.unwrap().rollback, Some(Phase::Done));
}

#[test]
fn what_the_helper_refuses_fails_the_activation_and_touches_nothing() {
    let host = helped();
    let new = host.bench.system("new", &[]);
    // Root pins other operators than the agent believes.
    let pinned = std::fs::read_to_string(host.bench.path("trust.json")).unwrap();
    let other =
        pinned.replace(&testing::operator().public().to_openssh(), &testing::alpha().public().to_openssh());
    assert_ne!(pinned, other);
    host.lives("boot-1", async |life| {
        std::fs::write(host.bench.path("trust.json"), other).unwrap();
        open_door(&host);
        life.releases(&new).await;
        life.reaches(HostState::Reverted).await;
    });
    assert_eq!(host.switched(), [""; 0]);
    assert!(!host.bench.path("helper/memory.cbor").exists());
}
