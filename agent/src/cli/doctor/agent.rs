//! What the running agent says: who it is, its peers and their clocks, the quorum.

use muster_signing::PublicKey;

use super::super::output::{count, plain};
use super::super::render::{bytes, span};
use super::{Failure, Finding, hooks};
use crate::config::Config;
use crate::control::client::{Client, ClientError};
use crate::control::wire::{Id, Peer, Peers, Status, StoreInfo};

/// From here on a clock is shown as skewed, in milliseconds.
const SKEW_MS: u64 = 30_000;
/// From here on a host refuses its own dispatches, in milliseconds.
const SKEW_REFUSED_MS: u64 = 300_000;

/// Everything that the agent was asked for.
#[derive(Debug)]
pub(super) struct Told {
    status: Status,
    peers: Peers,
    id: Id,
    store: StoreInfo,
}

/// Asks the agent; nothing if none answers.
pub(super) async fn ask(config: &Config, found: &mut Vec<Finding>) -> Option<Told> {
    let client = Client::new(&config.socket);
    let asked = async {
        Ok::<_, ClientError>(Told {
            status: client.read("/v1/status").await?,
            peers: client.read("/v1/peers").await?,
            id: client.read("/v1/id").await?,
            store: client.read("/v1/store").await?,
        })
    };
    match asked.await {
        Ok(told) => Some(told),
        Err(ClientError::Unreachable { path, source })
            if source.kind() != std::io::ErrorKind::PermissionDenied =>
        {
            let what = format_args!(
                "no agent answers at {}: peers, clocks and quorum were not looked at",
                path.display()
            );
            found.push(Finding::warning("agent", what, "systemctl start muster, and look again"));
            None
        }
        Err(error) => {
            found.push(Finding::failed("agent", Failure::from(error)));
            None
        }
    }
}

/// Says what is to be thought of the answers.
pub(super) fn judge(told: &Told, config: &Config, key: Option<&PublicKey>, found: &mut Vec<Finding>) {
    found.push(identity(told, config, key));
    store(&told.store, found);
    hooks::judge(&told.status.hooks, found);
    let Some(serial) = told.status.fleet_serial else {
        let mend = "muster publish the fleet document here, or name a host that holds it in `bootstrap`";
        found.push(Finding::warning("fleet", "no fleet document is held yet", mend));
        return;
    };
    if told.status.hosts.iter().any(|host| host.host == told.status.host) {
        found.push(Finding::ok("fleet", format_args!("fleet document {serial} names this host")));
    } else {
        let what = format_args!("fleet document {serial} does not name {}", plain(&told.status.host));
        let mend = "muster id prints the line for it; an operator signs a fleet document that has it";
        found.push(Finding::wrong("fleet", what, mend));
    }
    peers(&told.peers.peers, found);
    clocks(&told.peers.peers, found);
    quorum(&told.status, found);
    for alarm in &told.status.alarms {
        found.push(Finding::wrong("alarm", plain(alarm), "muster explain and journalctl -u muster say more"));
    }
}

fn identity(told: &Told, config: &Config, key: Option<&PublicKey>) -> Finding {
    let Told { id, .. } = told;
    let restart = "systemctl restart muster: it runs with an older configuration or key";
    if id.fleet != config.fleet.as_str() || id.host != config.host.as_str() {
        let what = format_args!("the agent is {} of the fleet {}", plain(&id.host), plain(&id.fleet));
        return Finding::wrong("agent", what, restart);
    }
    if key.is_some_and(|key| key.to_openssh() != id.public_key) {
        return Finding::wrong(
            "agent",
            format_args!("the agent has another key: peer {}", plain(&id.peer_id)),
            restart,
        );
    }
    Finding::ok("agent", format_args!("answers as {}", plain(&id.host)))
}

fn store(store: &StoreInfo, found: &mut Vec<Finding>) {
    let what = format!("{}: {}, {}", plain(&store.path), bytes(store.bytes), plain(&store.health));
    found.push(match store.health.as_str() {
        "ok" => Finding::ok("store", what),
        "full" => Finding::wrong("store", what, "free some space there; the agent goes on by itself"),
        _ => Finding::wrong(
            "store",
            what,
            "journalctl -u muster says why; systemctl restart muster tries again",
        ),
    });
}

fn peers(peers: &[Peer], found: &mut Vec<Finding>) {
    if peers.is_empty() {
        found.push(Finding::ok("peers", "this host is the only one of the fleet"));
        return;
    }
    let down: Vec<String> =
        peers.iter().filter(|peer| !peer.connected).map(|peer| plain(&peer.host)).collect();
    let reached = format!("{} of {} connected", peers.len() - down.len(), count(peers.len(), "peer"));
    let mend = "is the agent there up, and are UDP and TCP port 7946 open both ways? muster peers says more";
    found.push(if down.is_empty() {
        Finding::ok("peers", reached)
    } else if down.len() == peers.len() {
        Finding::wrong("peers", format_args!("{reached}: this host is alone"), mend)
    } else {
        Finding::warning("peers", format_args!("{reached}; not {}", down.join(", ")), mend)
    });
}

/// Compares this host's clock with those of its peers: where most are off the same way, it is this host that is.
fn clocks(peers: &[Peer], found: &mut Vec<Finding>) {
    let mut offsets: Vec<i64> = peers.iter().filter_map(|peer| peer.clock_offset_ms).collect();
    offsets.sort_unstable();
    let Some(median) = offsets.get(offsets.len() / 2).copied() else {
        if !peers.is_empty() {
            let mend = "timedatectl says whether the clock is synchronised";
            found.push(Finding::warning("clock", "no peer was heard to compare the clock with", mend));
        }
        return;
    };
    let off = median.unsigned_abs();
    let amount = span(off / 1000);
    // Of two hosts nobody can say which one is off.
    let whose = if offsets.len() > 1 { "this host's clock" } else { "this host's clock or its only peer's" };
    let way = if median > 0 { "behind" } else { "ahead" };
    let mend = "timedatectl set-ntp true, and look at the time servers that it names";
    let what = format!("{whose} is {amount} {way}");
    match off {
        SKEW_REFUSED_MS.. => {
            let what = format_args!("{what}: this host refuses its dispatches");
            found.push(Finding::wrong("clock", what, mend));
        }
        SKEW_MS.. => found.push(Finding::warning("clock", what, mend)),
        _ => found
            .push(Finding::ok("clock", format_args!("within {off} ms of {}", count(offsets.len(), "peer")))),
    }
    for peer in peers {
        let Some(offset) = peer.clock_offset_ms.filter(|_| off <= SKEW_MS) else { continue };
        if offset.unsigned_abs() > SKEW_MS {
            let amount = span(offset.unsigned_abs() / 1000);
            let what = format_args!("the clock of {} is off by {amount}", plain(&peer.host));
            found.push(Finding::warning("clock", what, "timedatectl set-ntp true on that host"));
        }
    }
}

fn quorum(status: &Status, found: &mut Vec<Finding>) {
    let quorum = &status.quorum;
    let reach =
        format!("{} of {} coordinators in reach, {} needed", quorum.reachable, quorum.of, quorum.needed);
    let missing = plain(&quorum.missing.join(", "));
    let mend = format!("bring back {missing}; muster doctor on each says what it lacks");
    found.push(if quorum.reachable < quorum.needed {
        Finding::wrong("quorum", format_args!("{reach}: nothing new is dispatched"), mend)
    } else if missing.is_empty() {
        Finding::ok("quorum", reach)
    } else {
        Finding::warning("quorum", format_args!("{reach}; missing: {missing}"), mend)
    });
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::control::wire::{Quorum, fixtures};

    fn peer(host: &str, offset: Option<i64>) -> Peer {
        let heard = fixtures::peers().peers.swap_remove(1);
        Peer { host: host.to_owned(), clock_offset_ms: offset, ..heard }
    }

    fn check(of: impl FnOnce(&mut Vec<Finding>), expected: &[(Verdict, &str)]) {
        let mut found = Vec::new();
        of(&mut found);
        let seen: Vec<_> = found.iter().map(|it| (it.verdict, it.what.as_str())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_clock_is_blamed_that_most_others_contradict() {
        use Verdict::{Ok, Warning, Wrong};
        let three = |a, b, c| vec![peer("a", Some(a)), peer("b", Some(b)), peer("c", c)];
        check(|found| clocks(&three(40, -20, None), found), &[(Ok, "within 40 ms of 2 peers")]);
        check(
            |found| clocks(&three(400_000, 401_000, Some(3)), found),
            &[(Wrong, "this host's clock is 6 min behind: this host refuses its dispatches")],
        );
        check(
            |found| clocks(&three(-3_600_000, -3_600_400, Some(-3_599_000)), found),
            &[(Wrong, "this host's clock is 60 min ahead: this host refuses its dispatches")],
        );
        check(
            |found| clocks(&three(-60_000, -60_500, Some(-61_000)), found),
            &[(Warning, "this host's clock is 60 s ahead")],
        );
        check(
            |found| clocks(&three(1, 400_000, Some(-2)), found),
            &[(Ok, "within 1 ms of 3 peers"), (Warning, "the clock of b is off by 6 min")],
        );
        check(
            |found| clocks(&[peer("a", Some(60_000))], found),
            &[(Warning, "this host's clock or its only peer's is 60 s behind")],
        );
        check(
            |found| clocks(&[peer("a", None)], found),
            &[(Warning, "no peer was heard to compare the clock with")],
        );
        check(|found| clocks(&[], found), &[]);
    }

    #[test]
    fn a_lost_quorum_and_lost_peers_are_told_by_name() {
        use Verdict::{Ok, Warning, Wrong};
        let mut status = fixtures::status();
        check(|found| quorum(&status, found), &[(Ok, "3 of 3 coordinators in reach, 2 needed")]);
        status.quorum = Quorum { reachable: 2, needed: 2, of: 3, missing: vec!["db-01".to_owned()] };
        check(
            |found| quorum(&status, found),
            &[(Warning, "2 of 3 coordinators in reach, 2 needed; missing: db-01")],
        );
        status.quorum.reachable = 1;
        check(
            |found| quorum(&status, found),
            &[(Wrong, "1 of 3 coordinators in reach, 2 needed: nothing new is dispatched")],
        );
        let mut both = fixtures::peers().peers;
        check(|found| peers(&both, found), &[(Warning, "1 of 2 peers connected; not edge-01")]);
        both[1].connected = false;
        check(|found| peers(&both, found), &[(Wrong, "0 of 2 peers connected: this host is alone")]);
        check(|found| peers(&[], found), &[(Ok, "this host is the only one of the fleet")]);
    }
}
