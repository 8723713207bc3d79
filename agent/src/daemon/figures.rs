//! What the daemon counts, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use muster_core::node::Node;
use muster_core::time::Now;
use muster_gossip::Network;

/// The upper bounds of the buckets of decision latency, in seconds.
const LATENCY_BOUNDS: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Counters of one run of the daemon.
#[derive(Debug, Default)]
pub(super) struct Figures {
    rejects: BTreeMap<&'static str, u64>,
    latency: [u64; LATENCY_BOUNDS.len()],
    latency_count: u64,
    latency_sum: f64,
}

impl Figures {
    pub(super) fn rejected(&mut self, reason: &'static str) {
        *self.rejects.entry(reason).or_default() += 1;
    }

    pub(super) fn certified(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        for (bucket, bound) in self.latency.iter_mut().zip(LATENCY_BOUNDS) {
            *bucket += u64::from(took <= bound);
        }
        self.latency_count += 1;
        self.latency_sum += took;
    }

    /// OpenMetrics text.
    pub(super) fn render(&self, node: &Node, network: &Network, now: Now) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, rows: Vec<(String, f64)>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (labels, value) in rows {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let peers = network.peers();
        let by_transport = |transport: &str| {
            peers.iter().filter(|peer| peer.connected && peer.transport == Some(transport)).count() as f64
        };
        let transports =
            ["quic", "tcp"].map(|name| (format!("{{transport=\"{name}\"}}"), by_transport(name)));
        gauge("muster_peers_connected", "Connected members, by transport.", transports.into());
        let census = node.census(now.mono);
        let hosts = census.hosts.iter().map(|((channel, state), count)| {
            (format!("{{channel=\"{channel}\",state=\"{}\"}}", state.name()), *count as f64)
        });
        gauge("muster_hosts", "Hosts in the newest rollout of their channel, by state.", hosts.collect());
        let waves = census
            .waves
            .iter()
            .map(|(channel, wave)| (format!("{{channel=\"{channel}\"}}"), f64::from(*wave)));
        gauge(
            "muster_rollout_wave",
            "The current wave of a channel's newest rollout, from 0.",
            waves.collect(),
        );
        gauge(
            "muster_quorum_reachable",
            "Coordinators that are online.",
            vec![(String::new(), census.reachable as f64)],
        );
        gauge(
            "muster_is_coordinator",
            "Whether this host coordinates.",
            vec![(String::new(), f64::from(u8::from(census.coordinates)))],
        );
        gauge("muster_term", "The term of the coordinators' log.", vec![(String::new(), census.term as f64)]);
        gauge(
            "muster_outbox_depth",
            "Durable events that wait for a quorum's marks.",
            vec![(String::new(), census.outbox as f64)],
        );
        let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        gauge("muster_build_info", "The agent's version.", vec![(version, 1.0)]);
        self.render_counters(&mut text, network);
        text.push_str("# EOF\n");
        text
    }

    fn render_counters(&self, text: &mut String, network: &Network) {
        let _ = writeln!(
            text,
            "# HELP muster_rejects Dispatches that this host refused.\n# TYPE muster_rejects counter"
        );
        for (reason, count) in &self.rejects {
            let _ = writeln!(text, "muster_rejects_total{{reason=\"{reason}\"}} {count}");
        }
        let counters = network.counters();
        let _ = writeln!(
            text,
            "# HELP muster_network_dropped Messages dropped at a limit.\n# TYPE muster_network_dropped counter"
        );
        for (what, count) in [
            ("events", counters.events_dropped),
            ("commands", counters.commands_dropped),
            ("log", counters.logs_dropped),
            ("publish", counters.publishes_dropped),
        ] {
            let _ = writeln!(text, "muster_network_dropped_total{{what=\"{what}\"}} {count}");
        }
        let name = "muster_decision_latency_seconds";
        let _ = writeln!(
            text,
            "# HELP {name} From a decision's entry to its certificate here.\n# TYPE {name} histogram"
        );
        for (bound, count) in LATENCY_BOUNDS.iter().zip(self.latency) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", self.latency_count);
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {}", self.latency_sum, self.latency_count);
    }
}
