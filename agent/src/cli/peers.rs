//! `muster peers`: the roster and the connections.

use clap::Args;

use super::asking::Agent;
use super::output::Tone;
use super::render::{Field, Look, NONE, field, field_or_none, flat, relative, tinted};
use super::{Exit, Failure};
use crate::control::client::{Client, parse};
use crate::control::wire::{Peer, Peers as Roster};

/// A clock that is further off than this is shown as skewed, in milliseconds.
const SKEW_MS: u64 = 30_000;

/// Shows every other host of the fleet: how it is connected, when it was last heard, how far behind we are.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster peers
  muster peers --json | jq -r '.peers[] | select(.connected | not) | .host'

BEHIND counts the events that a host says it has and this one does not hold yet;
OUTBOX those that no quorum of coordinators has stored. FLEET is the serial of
the fleet document that the host holds.")]
pub(super) struct Peers {
    #[command(flatten)]
    agent: Agent,
    /// Show it again whenever it changes.
    #[arg(long)]
    watch: bool,
}

impl Peers {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if !self.watch {
            return self.agent.show("/v1/peers", |peers| text(peers, &Look::of_stdout()));
        }
        let json = self.agent.json;
        self.agent.watch(async |client: &Client| {
            let body = client.get("/v1/peers").await?;
            if json {
                return Ok(String::from_utf8_lossy(&body).into_owned());
            }
            Ok(text(&parse(&body)?, &Look::of_stdout()))
        })
    }
}

fn text(roster: &Roster, look: &Look) -> String {
    if roster.peers.is_empty() {
        return "no other host is known yet".to_owned();
    }
    let connected = roster.peers.iter().filter(|peer| peer.connected).count();
    let table = look.table(
        &["HOST", "LINK", "RTT", "CLOCK", "HEARD", "BEHIND", "OUTBOX", "FLEET"],
        roster.peers.iter().map(|peer| row(peer, look)),
    );
    let mut text = format!("{connected} of {} connected\n\n{table}\n\n", roster.peers.len());
    let width = roster.peers.iter().map(|peer| peer.host.len()).max().unwrap_or(0);
    for peer in &roster.peers {
        let (host, id) = (flat(&peer.host), flat(&peer.peer_id));
        text.push_str(&format!("{host:width$}  {id}\n"));
        let version = peer.agent_version.as_ref().map(|version| format!("agent {version}"));
        for said in [&peer.address, &version].into_iter().flatten() {
            text.push_str(&format!("{:width$}  {}\n", "", look.tone(Tone::Faint, said)));
        }
    }
    text
}

fn row(peer: &Peer, look: &Look) -> Vec<Field> {
    let link = match (peer.connected, &peer.transport) {
        (true, Some(transport)) => tinted(Tone::Good, transport),
        (true, None) => tinted(Tone::Good, "up"),
        (false, _) => tinted(Tone::Bad, "down"),
    };
    let clock = match peer.clock_offset_ms {
        None => tinted(Tone::Faint, NONE),
        Some(offset) if offset.unsigned_abs() > SKEW_MS => tinted(Tone::Bad, signed(offset)),
        Some(offset) => field(signed(offset)),
    };
    let heard = match peer.last_heard {
        Some(at) => field(relative(at, look.now)),
        None => tinted(Tone::Bad, "never"),
    };
    let behind = match peer.feed_behind {
        Some(0) | None => field_or_none(peer.feed_behind),
        Some(behind) => tinted(Tone::Warn, behind),
    };
    vec![
        field(&peer.host),
        link,
        field_or_none(peer.round_trip_ms.map(milliseconds)),
        clock,
        heard,
        behind,
        field_or_none(peer.outbox),
        field_or_none(peer.fleet_serial),
    ]
}

/// Tenths matter of short times only.
fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn signed(offset_ms: i64) -> String {
    let sign = if offset_ms < 0 { '-' } else { '+' };
    let ms = offset_ms.unsigned_abs();
    if ms < 10_000 { format!("{sign}{ms} ms") } else { format!("{sign}{} s", ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures;

    #[test]
    fn the_roster_fits_eighty_columns() {
        check(
            &text(&fixtures::peers(), &look()),
            &[
                "1 of 2 connected",
                "",
                "HOST     LINK  RTT     CLOCK   HEARD    BEHIND  OUTBOX  FLEET",
                "edge-01  down  -       -       never    -       -       -",
                "web-02   quic  1.2 ms  -40 ms  4 s ago  0       2       4",
                "",
                "edge-01  12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo",
                "web-02   12D3KooWLJtG8fd2hkQzTn96MrLvThmnNQjTUFZwGEsLRz5EmSzc",
                "         /ip4/192.0.2.7/udp/7946/quic-v1",
                "         agent 0.1.0",
            ],
        );
    }

    #[test]
    fn clocks_are_shown_in_the_unit_that_matters() {
        for (ms, expected) in
            [(0, "+0 ms"), (-40, "-40 ms"), (31_000, "+31 s"), (i64::MIN, "-9223372036854775 s")]
        {
            assert_eq!(signed(ms), expected);
        }
    }
}
