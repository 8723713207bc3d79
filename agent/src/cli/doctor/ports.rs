//! Whether the addresses that the agent listens at are free, or taken by it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use super::Finding;
use crate::config::Config;

/// What is listened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// Whether the address can be bound now; the socket is gone again when this returns.
    fn bind(self, address: SocketAddr) -> std::io::Result<()> {
        match self {
            Self::Udp => UdpSocket::bind(address).map(drop),
            Self::Tcp => TcpListener::bind(address).map(drop),
        }
    }
}

/// Looks at every address that the configuration names.
pub(super) fn look(config: &Config, agent_runs: bool, found: &mut Vec<Finding>) {
    if config.listen.is_empty() {
        let mend = "set listen, or leave it out for the default";
        found.push(Finding::wrong("ports", "listen is empty: nobody can reach this host", mend));
    }
    for text in &config.listen {
        found.push(match parse(text) {
            Some((address, protocol)) => port(address, protocol, agent_runs, text),
            None => Finding::wrong(
                "ports",
                format_args!("listen: {text} is no address to listen at"),
                "an address is /ip4/0.0.0.0/udp/7946/quic-v1 or /ip4/0.0.0.0/tcp/7946, or the same with /ip6/::",
            ),
        });
    }
    if let Some(address) = config.metrics.listen {
        found.push(port(address, Protocol::Tcp, agent_runs, &format!("metrics.listen {address}")));
        if !address.ip().is_loopback() {
            let mend = "metrics.listen = \"127.0.0.1:9746\", unless only your monitoring reaches it";
            let what = format_args!("metrics.listen {address}: whoever reaches it may read the metrics");
            found.push(Finding::warning("ports", what, mend));
        }
    }
}

fn port(address: SocketAddr, protocol: Protocol, agent_runs: bool, text: &str) -> Finding {
    let (name, port) = (protocol.name(), address.port());
    // Any free port can be had, and which one it became is not said.
    if port == 0 {
        return Finding::ok("ports", format_args!("{text}: any free port"));
    }
    let flag = if protocol == Protocol::Udp { 'u' } else { 't' };
    let who = format!("ss -l{flag}np 'sport = :{port}' says who has it; or listen at another port");
    match (protocol.bind(address), agent_runs) {
        (Ok(()), false) => Finding::ok("ports", format_args!("{text}: {name} port {port} is free")),
        (Ok(()), true) => Finding::wrong(
            "ports",
            format_args!("{text}: the agent runs and does not listen there"),
            "systemctl restart muster: it runs with an older configuration",
        ),
        (Err(error), true) if error.kind() == ErrorKind::AddrInUse => {
            Finding::ok("ports", format_args!("{text}: in use, and the agent runs"))
        }
        (Err(error), _) if error.kind() == ErrorKind::AddrInUse => {
            Finding::wrong("ports", format_args!("{text}: another process has {name} port {port}"), who)
        }
        (Err(error), _) if error.kind() == ErrorKind::AddrNotAvailable => Finding::wrong(
            "ports",
            format_args!("{text}: this machine has no such address"),
            "ip address lists those that it has; /ip4/0.0.0.0 is all of them",
        ),
        (Err(error), _) => Finding::wrong(
            "ports",
            format_args!("{text}: {error}"),
            "a port below 1024 needs rights of its own; listen at a higher one",
        ),
    }
}

/// An address to listen at, out of its multiaddr.
fn parse(text: &str) -> Option<(SocketAddr, Protocol)> {
    let mut parts = text.strip_prefix('/')?.split('/');
    let ip: IpAddr = match (parts.next()?, parts.next()?) {
        ("ip4", ip) => IpAddr::V4(ip.parse().ok()?),
        ("ip6", ip) => IpAddr::V6(ip.parse().ok()?),
        _ => return None,
    };
    let (transport, port) = (parts.next()?, parts.next()?.parse().ok()?);
    let protocol = match (transport, parts.next(), parts.next()) {
        ("udp", Some("quic-v1"), None) => Protocol::Udp,
        ("tcp", None, None) => Protocol::Tcp,
        _ => return None,
    };
    Some((SocketAddr::new(ip, port), protocol))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::Verdict;
    use super::*;

    #[test]
    fn addresses_to_listen_at_are_read() {
        for (text, expected) in [
            ("/ip4/0.0.0.0/udp/7946/quic-v1", Some(("0.0.0.0:7946", Protocol::Udp))),
            ("/ip4/127.0.0.1/tcp/7946", Some(("127.0.0.1:7946", Protocol::Tcp))),
            ("/ip6/::/tcp/0", Some(("[::]:0", Protocol::Tcp))),
            ("/ip4/0.0.0.0/udp/7946", None),
            ("/ip4/0.0.0.0/udp/70000/quic-v1", None),
            ("/ip4/0.0.0.0/tcp/7946/ws", None),
            ("/dns4/alpha/tcp/7946", None),
            ("0.0.0.0:7946", None),
            ("", None),
        ] {
            let expected = expected.map(|(address, protocol)| (address.parse().unwrap(), protocol));
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_port_is_free_or_taken_by_the_agent_or_by_another() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.local_addr().unwrap();
        let verdict = |address, runs| port(address, Protocol::Tcp, runs, "x").verdict;
        assert_eq!(verdict(taken, true), Verdict::Ok);
        assert_eq!(verdict(taken, false), Verdict::Wrong);
        let elsewhere = "192.0.2.1:7946".parse().unwrap();
        assert_eq!(verdict(elsewhere, false), Verdict::Wrong);
        drop(held);
        assert_eq!(verdict(taken, false), Verdict::Ok);
        assert_eq!(verdict(taken, true), Verdict::Wrong, "the agent listens elsewhere");
    }
}
