//! What monitoring reads: every metric there is to be, over the socket and over TCP, and what the dashboard and the alerts use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use muster_tests::{Answer, Fleet, Release, request_tcp};
use prometheus_parse::{Scrape, Value};

/// Every metric, with all labels that it may have; histograms by the name of the family.
const METRICS: [(&str, &[&str]); 29] = [
    ("muster_activation_seconds", &[]),
    ("muster_build_info", &["version"]),
    ("muster_clock_offset_seconds", &[]),
    ("muster_decision_latency_seconds", &[]),
    ("muster_gate_blocked", &["gate"]),
    ("muster_gossip_messages_total", &["topic", "verdict"]),
    ("muster_hook_deliveries_total", &["hook", "result"]),
    ("muster_hook_pending", &["hook"]),
    ("muster_hosts", &["channel", "state"]),
    ("muster_hosts_enrolled", &[]),
    ("muster_hosts_online", &[]),
    ("muster_is_coordinator", &[]),
    ("muster_network_dropped_total", &["what"]),
    ("muster_outbox_depth", &[]),
    ("muster_peer_lag_events", &[]),
    ("muster_peers_connected", &["transport"]),
    ("muster_probe_status", &["mode", "probe"]),
    ("muster_quarantines", &["channel"]),
    ("muster_quorum_needed", &[]),
    ("muster_quorum_reachable", &[]),
    ("muster_ref_age_seconds", &["channel"]),
    ("muster_ref_window_seconds", &["channel"]),
    ("muster_rejects_total", &["reason"]),
    ("muster_rollout_state", &["channel", "state"]),
    ("muster_rollout_wave", &["channel"]),
    ("muster_store_bytes", &[]),
    ("muster_store_commit_seconds", &[]),
    ("muster_sync_bytes_total", &["direction"]),
    ("muster_term", &[]),
];

/// What a scrape holds: the labels of each metric, and each sample once.
fn read(answer: &Answer) -> BTreeMap<String, BTreeSet<String>> {
    assert!(answer.media_type.starts_with("application/openmetrics-text"), "{}", answer.media_type);
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).unwrap();
    assert!(!scrape.samples.is_empty(), "{text}");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for sample in &scrape.samples {
        assert!(seen.insert((sample.metric.clone(), format!("{:?}", sample.labels))), "twice: {sample:?}");
        if let Value::Histogram(buckets) = &sample.value {
            assert!(buckets.windows(2).all(|pair| pair[0].count <= pair[1].count), "{sample:?}");
        }
        let name = sample.metric.trim_end_matches("_sum").trim_end_matches("_count");
        let histogram = METRICS.iter().any(|(metric, _)| *metric == name);
        let name = if histogram { name } else { sample.metric.as_str() };
        found.entry(name.to_owned()).or_default().extend(sample.labels.keys().cloned());
    }
    for name in found.keys() {
        let family = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(text.contains(&format!("# TYPE {family} ")), "{name} has a type:\n{text}");
        assert!(text.contains(&format!("# HELP {family} ")), "{name} has a help:\n{text}");
    }
    found
}

#[test]
fn every_metric_is_told_over_the_socket_and_over_tcp_with_few_labels() {
    let fleet = Fleet::of(2).build();
    let agent = &fleet.agents[0];
    let address = agent.serve_metrics();
    agent.configure("[[hook]]\nname = \"pager\"\nevents = [\"rollout-failed\"]\ncommand = [\"/bin/true\"]");
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Terminal");
    for answer in [agent.ask("/metrics").unwrap(), request_tcp(&address, "/metrics").unwrap()] {
        let found = read(&answer);
        // Nothing was refused, so there is no reason to tell of.
        let wanted = METRICS.iter().filter(|(name, _)| *name != "muster_rejects_total");
        for (name, labels) in wanted {
            let seen = found.get(*name).unwrap_or_else(|| panic!("{name} is missing: {:?}", found.keys()));
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            assert_eq!(*seen, labels, "the labels of {name}");
        }
        for name in found.keys() {
            assert!(METRICS.iter().any(|(known, _)| known == name), "{name} is on no list");
        }
        let text = String::from_utf8(answer.body).unwrap();
        for bounded in ["dir:v1", "stable@r1", "host-1"] {
            assert!(!text.contains(bounded), "{bounded} would grow the number of series:\n{text}");
        }
        assert!(text.contains("muster_rollout_state{channel=\"stable\",state=\"Terminal\"} 1"), "{text}");
        assert!(text.contains("muster_activation_seconds_count 1"), "the one switch was timed:\n{text}");
        assert!(text.contains("muster_probe_status{probe="), "{text}");
    }
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("nixos-module/monitoring");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let (dashboard, alerts) = (json("dashboard.json"), json("alerts.json"));
    let text = |value: &serde_json::Value| value["expr"].as_str().unwrap().to_owned();
    let panels = dashboard["panels"].as_array().unwrap();
    let drawn = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()).map(text);
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let used: Vec<String> = drawn.chain(rules.iter().map(text)).collect();
    let mut names = BTreeSet::new();
    for expression in &used {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("muster_")) {
            let family = name.trim_end_matches("_bucket");
            assert!(METRICS.iter().any(|(known, _)| *known == family), "{name} in {expression} is no metric");
            names.insert(family.to_owned());
        }
    }
    for (name, _) in METRICS {
        assert!(names.contains(name), "nobody looks at {name}");
    }
    let alerts: Vec<_> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    let expected = [
        "MusterNoQuorum",
        "MusterHostLost",
        "MusterRefStale",
        "MusterQuarantine",
        "MusterHookGivenUp",
        "MusterClockSkew",
    ];
    assert_eq!(alerts, expected);
}
