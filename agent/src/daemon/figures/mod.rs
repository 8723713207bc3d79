//! What the daemon counts, for `/metrics`.
//!
//! Labels are names that the operators gave (channels, probes, hooks) or words of this program, never a closure, a rollout or a
//! host: how many there are does not grow with time.

mod page;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_core::gate::{self, GATES};
use muster_core::id::RolloutId;
use muster_core::node::{HostOrder, HostReport, Node};
use muster_core::presence::Reach;
use muster_core::time::Now;
use muster_core::view::Standing;
use muster_core::wire::{ProbeMode, ProbeStatus, RolloutState};
use muster_gossip::{Network, Topic, Verdict};

use crate::control::wire::HookStatus;
use page::{Histogram, Page};

/// The upper bounds of the buckets of what takes milliseconds, in seconds.
const SHORT: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// The same for a switch.
const LONG: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0];
/// Every topic, to be told of also while nothing came on it.
const TOPICS: [Topic; 4] = [Topic::Documents, Topic::Decisions, Topic::Events, Topic::Presence];
/// Every verdict and its word.
const VERDICTS: [(Verdict, &str); 3] =
    [(Verdict::Accept, "accept"), (Verdict::Ignore, "ignore"), (Verdict::Reject, "reject")];

/// Counters of one run of the daemon.
#[derive(Debug)]
pub(super) struct Figures {
    rejects: BTreeMap<&'static str, u64>,
    latency: Histogram,
    commits: Histogram,
    activations: Histogram,
    /// Switches and rollbacks under way: since when.
    under_way: BTreeMap<(RolloutId, bool), Instant>,
    gossip: BTreeMap<(&'static str, &'static str), u64>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            rejects: BTreeMap::new(),
            latency: Histogram::new(SHORT),
            commits: Histogram::new(SHORT),
            activations: Histogram::new(LONG),
            under_way: BTreeMap::new(),
            gossip: BTreeMap::new(),
        }
    }
}

/// What the figures are told of, beside what was counted.
pub(super) struct Scene<'a> {
    pub(super) node: &'a Node,
    pub(super) network: &'a Network,
    /// The size of the store's file; none if it cannot be had.
    pub(super) store_bytes: Option<u64>,
    pub(super) hooks: Vec<HookStatus>,
    pub(super) now: Now,
}

impl Figures {
    pub(super) fn rejected(&mut self, reason: &'static str) {
        *self.rejects.entry(reason).or_default() += 1;
    }

    pub(super) fn certified(&mut self, took: Duration) {
        self.latency.observe(took);
    }

    /// A write to the store is durable.
    pub(super) fn committed(&mut self, took: Duration) {
        self.commits.observe(took);
    }

    /// A gossiped message was judged.
    pub(super) fn judged(&mut self, topic: Topic, verdict: Verdict) {
        let word = VERDICTS.iter().find(|(of, _)| *of == verdict).map_or("unknown", |(_, word)| word);
        *self.gossip.entry((topic.name(), word)).or_default() += 1;
    }

    /// This host's workers are given an order.
    pub(super) fn ordered(&mut self, order: &HostOrder) {
        match order {
            HostOrder::Switch(job) => self.begun(&job.rollout, false),
            HostOrder::RollBack(job) => self.begun(&job.rollout, true),
            HostOrder::Await { .. }
            | HostOrder::Inspect { .. }
            | HostOrder::Fetch(_)
            | HostOrder::StartProbes { .. }
            | HostOrder::StopProbes
            | HostOrder::Observe => {}
        }
    }

    fn begun(&mut self, rollout: &RolloutId, rollback: bool) {
        self.under_way.insert((rollout.clone(), rollback), Instant::now());
    }

    /// This host's workers have something to say.
    pub(super) fn reported(&mut self, report: &HostReport) {
        let job = match report {
            HostReport::SwitchEnded { rollout, .. } | HostReport::SwitchDeferred { rollout, .. } => {
                (rollout.clone(), false)
            }
            HostReport::RollbackEnded { rollout, .. } => (rollout.clone(), true),
            HostReport::Running(_)
            | HostReport::Fetching { .. }
            | HostReport::RebootPending(_)
            | HostReport::ProbesDeclared { .. }
            | HostReport::ProbeRan { .. }
            | HostReport::Inspected { .. } => return,
        };
        // One that an earlier run of the agent began took longer than is known.
        if let Some(begun) = self.under_way.remove(&job) {
            self.activations.observe(begun.elapsed());
        }
    }

    /// OpenMetrics text.
    pub(super) fn render(&self, scene: &Scene<'_>) -> String {
        let mut page = Page::default();
        fleet(&mut page, scene);
        channels(&mut page, scene);
        coordinators(&mut page, scene);
        peers(&mut page, scene);
        own(&mut page, scene);
        called(&mut page, scene);
        self.counted(&mut page, scene);
        page.info("muster_build", "The agent's version.", &[("version", env!("CARGO_PKG_VERSION"))]);
        page.finish()
    }

    fn counted(&self, page: &mut Page, scene: &Scene<'_>) {
        let rejects = self.rejects.iter().map(|(reason, count)| (vec![("reason", *reason)], *count));
        page.counters("muster_rejects", "Dispatches that this host refused.", rejects);
        let judged = TOPICS.iter().flat_map(|topic| {
            VERDICTS.map(|(_, verdict)| {
                let count = self.gossip.get(&(topic.name(), verdict)).copied().unwrap_or(0);
                (vec![("topic", topic.name()), ("verdict", verdict)], count)
            })
        });
        page.counters(
            "muster_gossip_messages",
            "Gossiped messages by topic, and what was thought of them.",
            judged,
        );
        let counters = scene.network.counters();
        let sync = [("in", counters.sync_bytes_in), ("out", counters.sync_bytes_out)];
        let sync = sync.map(|(direction, bytes)| (vec![("direction", direction)], bytes));
        page.counters("muster_sync_bytes", "What sync received and sent, in bytes.", sync);
        let dropped = [
            ("events", counters.events_dropped),
            ("commands", counters.commands_dropped),
            ("log", counters.logs_dropped),
            ("publish", counters.publishes_dropped),
        ];
        let dropped = dropped.map(|(what, count)| (vec![("what", what)], count));
        page.counters("muster_network_dropped", "Messages dropped at a limit.", dropped);
        page.histogram(
            "muster_decision_latency_seconds",
            "From a decision's entry to its certificate here.",
            &self.latency,
        );
        page.histogram(
            "muster_store_commit_seconds",
            "How long a write takes to become durable.",
            &self.commits,
        );
        page.histogram(
            "muster_activation_seconds",
            "How long this host's switches and rollbacks take.",
            &self.activations,
        );
    }
}

fn fleet(page: &mut Page, Scene { node, now, .. }: &Scene<'_>) {
    let hosts = node.ledger().documents().fleet().into_iter().flat_map(|fleet| fleet.hosts.keys());
    let (mut enrolled, mut online) = (0u32, 0u32);
    for host in hosts {
        enrolled += 1;
        let here = *host == node.settings().host || node.presences().reach(host, now.mono) == Reach::Online;
        online += u32::from(here);
    }
    page.gauge("muster_hosts_enrolled", "Hosts that the fleet document names.", enrolled.into());
    page.gauge("muster_hosts_online", "Those of them that were heard of lately.", online.into());
    let census = node.census(now.mono);
    let rows = census.hosts.iter().map(|((channel, state), count)| {
        (vec![("channel", channel.as_str()), ("state", state.name())], *count as f64)
    });
    page.gauges("muster_hosts", "Hosts in the newest rollout of their channel, by state.", rows);
}

fn channels(page: &mut Page, Scene { node, now, .. }: &Scene<'_>) {
    let ledger = node.ledger();
    let census = node.census(now.mono);
    let waves =
        census.waves.iter().map(|(channel, wave)| (vec![("channel", channel.as_str())], f64::from(*wave)));
    page.gauges("muster_rollout_wave", "The current wave of a channel's newest rollout, from 0.", waves);
    let of_channel = |channel| ledger.newest_rollout(channel).and_then(|id| ledger.rollouts().get(id));
    let newest = census.waves.keys().filter_map(|channel| Some((channel, of_channel(channel)?.state)));
    let states = newest.flat_map(|(channel, is)| {
        RolloutState::ALL.map(|state| {
            (vec![("channel", channel.as_str()), ("state", state.name())], f64::from(u8::from(state == is)))
        })
    });
    page.gauges(
        "muster_rollout_state",
        "1 for the state of a channel's newest rollout, 0 for the others.",
        states,
    );
    let refs = || ledger.documents().channel_refs();
    let ages = refs().map(|(channel, held)| {
        let age = (now.utc - held.signed_at).num_milliseconds() as f64 / 1000.0;
        (vec![("channel", channel.as_str())], age)
    });
    page.gauges("muster_ref_age_seconds", "How long ago a channel's newest ref was signed.", ages);
    let fleet = ledger.documents().fleet();
    let windows = fleet.into_iter().flat_map(|fleet| &fleet.channels).map(|(channel, of)| {
        (vec![("channel", channel.as_str())], of.freshness_window_minutes as f64 * 60.0)
    });
    page.gauges("muster_ref_window_seconds", "How old a channel's ref may be to be dispatched.", windows);
    let mut barred: BTreeMap<&str, u32> = BTreeMap::new();
    for channel in fleet.into_iter().flat_map(|fleet| fleet.channels.keys()) {
        barred.entry(channel.as_str()).or_default();
    }
    for (channel, ..) in ledger.quarantines() {
        *barred.entry(channel.as_str()).or_default() += 1;
    }
    let barred = barred.into_iter().map(|(channel, count)| (vec![("channel", channel)], f64::from(count)));
    page.gauges("muster_quarantines", "Quarantines that nobody has lifted.", barred);
    gates(page, node, *now);
}

/// Whom the gates hold back; of each host the first that is closed.
fn gates(page: &mut Page, node: &Node, now: Now) {
    let mut held: BTreeMap<&'static str, u32> = GATES.iter().map(|(gate, _)| (gate.name(), 0)).collect();
    let ledger = node.ledger();
    node.with_view(now, |view| {
        for record in ledger.rollouts().values().filter(|record| record.state.is_open()) {
            let Some(plan) = ledger.plan(&record.rollout_id) else { continue };
            for host in plan.targets.keys() {
                if view.standing(plan, host, now.utc) == Standing::Waiting
                    && let Err(blocked) = gate::admit(view, plan, host, now.utc)
                {
                    *held.entry(blocked.gate.name()).or_default() += 1;
                }
            }
        }
    });
    let rows = held.into_iter().map(|(gate, count)| (vec![("gate", gate)], f64::from(count)));
    page.gauges(
        "muster_gate_blocked",
        "Hosts that wait for their dispatch, by the first gate that is closed.",
        rows,
    );
}

fn coordinators(page: &mut Page, Scene { node, now, .. }: &Scene<'_>) {
    let (census, quorum) = (node.census(now.mono), node.quorum(now.mono));
    page.gauge("muster_quorum_reachable", "Coordinators that are online.", quorum.reachable as f64);
    page.gauge("muster_quorum_needed", "Coordinators that a decision needs.", quorum.needed as f64);
    let coordinates = f64::from(u8::from(census.coordinates));
    page.gauge("muster_is_coordinator", "Whether this host coordinates.", coordinates);
    page.gauge("muster_term", "The term of the coordinators' log.", census.term as f64);
    page.gauge("muster_outbox_depth", "Durable events that wait for a quorum's marks.", census.outbox as f64);
}

fn peers(page: &mut Page, Scene { node, network, now, .. }: &Scene<'_>) {
    let peers = network.peers();
    let by_transport = |transport| {
        let of = peers.iter().filter(|peer| peer.connected && peer.transport == Some(transport));
        (vec![("transport", transport)], of.count() as f64)
    };
    page.gauges(
        "muster_peers_connected",
        "Connected members, by transport.",
        ["quic", "tcp"].map(by_transport),
    );
    let me = &node.settings().host;
    let others = || node.ledger().roster().members().keys().filter(move |host| *host != me);
    let lag = others().filter_map(|host| {
        let head =
            node.ledger().feed(host).and_then(muster_core::ledger::Feed::head).map_or(0, |head| head.seq);
        Some(node.presences().of(host)?.presence.head_seq.saturating_sub(head))
    });
    let lag: u64 = lag.sum();
    page.gauge(
        "muster_peer_lag_events",
        "Events that other hosts have and this one does not hold yet.",
        lag as f64,
    );
    let mut offsets: Vec<i64> = others()
        .filter_map(|host| Some(node.presences().offset_of(host, *now)?.num_milliseconds()))
        .collect();
    offsets.sort_unstable();
    let median = offsets.get(offsets.len() / 2).map(|offset| (Vec::new(), *offset as f64 / 1000.0));
    page.gauges(
        "muster_clock_offset_seconds",
        "How far the clocks of most peers are ahead of this host's.",
        median,
    );
}

/// The hooks; their counters go on over restarts.
fn called(page: &mut Page, Scene { hooks, .. }: &Scene<'_>) {
    let calls = hooks.iter().flat_map(|hook| {
        let results = [("delivered", hook.delivered), ("failed", hook.failed), ("given_up", hook.given_up)];
        results.map(|(result, count)| (vec![("hook", hook.name.as_str()), ("result", result)], count))
    });
    page.counters("muster_hook_deliveries", "Calls of a hook, by what came of them.", calls);
    let pending = hooks.iter().map(|hook| (vec![("hook", hook.name.as_str())], hook.pending as f64));
    page.gauges("muster_hook_pending", "Calls that wait for a hook.", pending);
}

fn own(page: &mut Page, Scene { node, store_bytes, .. }: &Scene<'_>) {
    let me = &node.settings().host;
    let newest = node.ledger().records_of(me).map(|mirrored| &mirrored.record);
    let newest = newest.max_by_key(|record| record.dispatched_at);
    let probes = newest.into_iter().flat_map(|record| &record.probes).map(|(name, probe)| {
        let mode = match probe.mode {
            ProbeMode::Enforce => "enforce",
            ProbeMode::Observe => "observe",
            ProbeMode::Disabled => "disabled",
        };
        let passes = f64::from(u8::from(probe.status == ProbeStatus::Pass));
        (vec![("probe", name.as_str()), ("mode", mode)], passes)
    });
    page.gauges("muster_probe_status", "Whether a probe of this host passed when it last ran.", probes);
    let bytes = store_bytes.map(|bytes| (Vec::new(), bytes as f64));
    page.gauges("muster_store_bytes", "The size of the store's file.", bytes);
}
