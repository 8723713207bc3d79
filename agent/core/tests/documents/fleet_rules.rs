//! Every rule of fleet documents, broken once.

use muster_core::document::fleet::{Electorate, Fleet};
use muster_core::document::{Refusal, check};
use serde_json::{Value, json};

use crate::kit::{ALICE, CI, FLEET, assert_refusal, line, refused, with, with_fleet};

type Change = (&'static str, Value);

fn check_rule(changes: &[Change], code: &str, fragment: &str) {
    let bytes = with(FLEET, changes);
    assert_refusal(&Fleet::parse(&bytes).unwrap_err(), code, fragment);
    // The same rule holds for a signed successor, unless its own operators can no longer sign it.
    let mut changes = changes.to_vec();
    if !changes.iter().any(|(pointer, _)| *pointer == "/serial") {
        changes.push(("/serial", json!(8)));
    }
    let refusal = refused(&with_fleet(), &with(FLEET, &changes), &[ALICE, CI]);
    assert!(matches!(refusal.code(), c if c == code || c == "threshold"), "{refusal}");
}

#[test]
fn a_broken_form_is_refused() {
    for (changes, code, fragment) in [
        (vec![("/maxInFlight", json!(1))], "unknown_field", "maxInFlight"),
        (vec![("/disruptionBudgets/0/maxInflight", json!(1))], "unknown_field", "maxInflight"),
        (vec![("/hosts/web-01/tag", json!("web"))], "unknown_field", "tag"),
        (vec![("/channels/edge/windows/0/tz", json!("UTC"))], "unknown_field", "tz"),
        (vec![("/rolloutPolicies/careful/healthGate/max", json!(1))], "unknown_field", "max"),
        (vec![("/thresholds/ref", json!(1))], "unknown_field", "ref"),
        (vec![("/coordinators/quorum", json!(1))], "unknown_field", "quorum"),
        (vec![("/coordinators/selector", json!({"tag": ["x"]}))], "unknown_field", "tag"),
        (
            vec![("/coordinators/selector", json!({"all": true, "tags": ["etcd"]}))],
            "invalid",
            "exactly one key",
        ),
        (vec![("/coordinators/selector", json!({}))], "invalid", "exactly one key"),
        (vec![("/coordinators/selector", json!({"all": false}))], "invalid", "only be true"),
        (vec![("/kind", json!("muster/fleet/2"))], "invalid", "muster/fleet/2"),
        (vec![("/kind", json!("muster/command/1"))], "invalid", "muster/command/1"),
        (vec![("/kind", Value::Null)], "invalid", "missing field `kind`"),
        (vec![("/thresholds", Value::Null)], "invalid", "missing field `thresholds`"),
        (vec![("/serial", json!(-1))], "invalid", "u64"),
        (vec![("/signedAt", json!("yesterday"))], "invalid", "line"),
        (vec![("/signedAt", json!("1969-12-31T23:59:59Z"))], "invalid", "1970 to 9999"),
        (vec![("/operators/alice", json!("ssh-rsa AAAA"))], "invalid", "ssh-rsa"),
        (vec![("/hosts/Web", json!({}))], "invalid", "host name"),
        (vec![("/rolloutPolicies/careful/onHealthFailure", json!("ignore"))], "invalid", "ignore"),
        (vec![("/rolloutPolicies/careful/deferred", json!("skip"))], "invalid", "skip"),
        (vec![("/rolloutPolicies/careful/waves/0/promotion", json!("no"))], "invalid", "no"),
        (vec![("/coordinators/tolerate", json!("all"))], "invalid", "all"),
    ] {
        let refusal = Fleet::parse(&with(FLEET, &changes)).unwrap_err();
        assert_refusal(&refusal, code, fragment);
    }
}

#[test]
fn a_key_given_twice_is_refused() {
    let twice = [
        ("\"serial\": 7,", "\"serial\": 7, \"serial\": 9,", "duplicate field `serial`"),
        ("\"operators\": {", "\"operators\": { \"ci\": \"KEY\",", "ci is given twice"),
        (
            "\"channels\": {",
            "\"channels\": { \"edge\": { \"rolloutPolicy\": \"careful\", \"freshnessWindowMinutes\": 1 },",
            "edge is given twice",
        ),
    ];
    for (from, to, fragment) in twice {
        let text = FLEET.replacen(from, &to.replace("KEY", &line(9)), 1);
        assert_ne!(text, FLEET);
        assert_refusal(&Fleet::parse(text.as_bytes()).unwrap_err(), "invalid", fragment);
    }
}

#[test]
fn what_is_not_json_is_refused() {
    let long = vec![b' '; 4 * 1024 * 1024 + 1];
    let deep = "[".repeat(100_000);
    for (bytes, code) in [
        (&b""[..], "not_json"),
        (b"{", "not_json"),
        (b"\xff{}", "not_json"),
        (b"{\"kind\": \"\xff\"}", "not_json"),
        (b"{} {}", "not_json"),
        (b"{\"kind\": \"muster/fleet/1\"} x", "not_json"),
        (deep.as_bytes(), "not_json"),
        (b"[]", "invalid"),
        (&long, "too_large"),
    ] {
        let refusal: Refusal = Fleet::parse(bytes).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal}");
    }
}

#[test]
fn operators_and_thresholds_make_sense() {
    for (changes, fragment) in [
        (vec![("/thresholds/fleet", json!(0))], "thresholds.fleet is 0, it has to be 1 to 2"),
        (vec![("/thresholds/channelRef", json!(3))], "thresholds.channelRef is 3"),
        (vec![("/thresholds/command", json!(0))], "thresholds.command is 0"),
        (vec![("/operators/carol", json!(line(ALICE)))], "alice and carol have one key"),
        (vec![("/operators", json!({}))], "at least one operator"),
        (vec![("/recovery", json!(true))], "go together"),
        (vec![("/replaces", json!(6))], "go together"),
    ] {
        check_rule(&changes, "invalid", fragment);
    }
}

#[test]
fn names_resolve() {
    for (changes, fragment) in [
        (vec![("/hosts/web-01/channel", json!("beta"))], "host web-01 names channel beta"),
        (vec![("/channels/stable/rolloutPolicy", json!("rash"))], "policy rash"),
        (vec![("/coordinators/selector", json!({"tags": ["boss"]}))], "coordinators names tag boss"),
        (
            vec![("/rolloutPolicies/careful/waves/0/selector", json!({"tagsAny": ["web", "boss"]}))],
            "wave 1 of policy careful names tag boss",
        ),
        (vec![("/edges/0/gates", json!({"hosts": ["db-02"]}))], "gates of edge 1 names host db-02"),
        (vec![("/edges/0/gated", json!({"not": {"channel": "beta"}}))], "gated of edge 1 names channel beta"),
        (vec![("/channelEdges/0/gates", json!("beta"))], "channel edge 1 names channel beta"),
        (
            vec![("/disruptionBudgets/0/selector", json!({"and": [{"all": true}, {"hosts": ["x"]}]}))],
            "budget 1 names host x",
        ),
        (vec![("/disruptionBudgets/0/selector", json!({"tags": []}))], "lists at least one"),
        (vec![("/disruptionBudgets/0/selector", json!({"and": []}))], "lists at least one"),
        (vec![("/edges/0/gates", json!({"hosts": []}))], "lists at least one"),
    ] {
        check_rule(&changes, "invalid", fragment);
    }
}

#[test]
fn hosts_waves_edges_and_budgets_make_sense() {
    let waves = "/rolloutPolicies/careful/waves";
    for (changes, fragment) in [
        (vec![("/hosts/web-02/key", json!(line(17)))], "web-01 and web-02 have one key"),
        (vec![("/hosts/web-01/addresses", json!(vec!["/ip4/10.0.0.1"; 17]))], "at most 16"),
        (vec![(waves, json!([]))], "at least one wave"),
        (
            vec![(waves, json!([{"selector": {"tags": ["canary"]}, "soakMinutes": 1}]))],
            "host app-01: no wave",
        ),
        (
            vec![("/rolloutPolicies/careful/waves/0/soakSeconds", json!(1))],
            "either soakMinutes or soakSeconds",
        ),
        (vec![("/rolloutPolicies/careful/waves/0/soakMinutes", Value::Null)], "either soakMinutes"),
        (vec![("/rolloutPolicies/careful/waves/0/soakMinutes", json!(u64::MAX))], "the soak in seconds"),
        (vec![("/rolloutPolicies/careful/dispatchTimeoutSeconds", json!(0))], "dispatchTimeoutSeconds"),
        (vec![("/rolloutPolicies/careful/deferredTimeoutHours", json!(u64::MAX))], "deferredTimeoutHours"),
        (vec![("/channels/stable/freshnessWindowMinutes", json!(0))], "freshnessWindowMinutes"),
        (vec![("/channels/edge/windows/0/days", json!([]))], "at least one day"),
        (vec![("/channels/edge/windows/0/start", json!("9:00"))], "time of day"),
        (vec![("/channels/edge/windows/0/timezone", json!("CEST/X"))], "IANA"),
        (vec![("/edges/0/gated", json!({"all": true}))], "edges form a cycle: db-01 -> db-01"),
        (
            vec![("/edges/-", json!({"gates": {"tags": ["app"]}, "gated": {"tags": ["always-on"]}}))],
            "edges form a cycle",
        ),
        (
            vec![("/edges/0", json!({"gates": {"hosts": ["db-01"]}, "gated": {"hosts": ["web-01"]}}))],
            "edge 1 makes web-01 (wave 1) wait for db-01 (wave 2)",
        ),
        (vec![("/channelEdges/-", json!({"gates": "stable", "gated": "edge"}))], "channelEdges form a cycle"),
        (vec![("/channelEdges/0/gates", json!("stable"))], "stable -> stable"),
        (vec![("/disruptionBudgets/0/maxInFlight", json!(0))], "maxInFlight of budget 1 is 0"),
        (vec![("/disruptionBudgets/1/maxInFlightPct", json!(0))], "maxInFlightPct of budget 2 is 0"),
        (vec![("/disruptionBudgets/1/maxInFlightPct", json!(101))], "1 to 100"),
        (vec![("/disruptionBudgets/0/maxInFlight", Value::Null)], "budget 1 needs maxInFlight"),
    ] {
        check_rule(&changes, "invalid", fragment);
    }
}

#[test]
fn the_electorate_follows_from_the_document() {
    let selector = |hosts: &[&str]| json!({"hosts": hosts});
    let coordinators = |selector: Value, tolerate: &str| json!({"selector": selector, "tolerate": tolerate});
    let four = ["etcd-01", "etcd-02", "etcd-03", "web-01"];
    let five = ["etcd-01", "etcd-02", "etcd-03", "web-01", "web-02"];
    let seven = ["etcd-01", "etcd-02", "etcd-03", "web-01", "web-02", "db-01", "app-01"];
    for (value, members, quorum, faults) in [
        (coordinators(selector(&["db-01"]), "crash"), 1, 1, 0),
        (coordinators(selector(&["db-01", "web-01"]), "crash"), 2, 2, 0),
        (coordinators(json!({"tags": ["coordinator"]}), "crash"), 3, 2, 0),
        (coordinators(selector(&four), "lies"), 4, 3, 1),
        (coordinators(selector(&five), "crash"), 5, 3, 0),
        (coordinators(selector(&five), "lies"), 5, 4, 1),
        (coordinators(selector(&seven), "lies"), 7, 5, 2),
    ] {
        let fleet = Fleet::parse(&with(FLEET, &[("/coordinators", value.clone())])).unwrap();
        let Electorate { members: found, quorum: q, faults: f } = fleet.electorate();
        assert_eq!((found.len(), q, f), (members, quorum, faults), "{value}");
    }
    for (value, fragment) in [
        (coordinators(json!({"all": true}), "crash"), "8 hosts are coordinators"),
        (coordinators(json!({"not": {"all": true}}), "crash"), "0 hosts are coordinators"),
        (coordinators(selector(&four[..3]), "lies"), "at least 4 coordinators, there are 3"),
        (json!({}), "more than 5 hosts has to say who coordinates, this one has 8"),
    ] {
        check_rule(&[("/coordinators", value)], "invalid", fragment);
    }
}

#[test]
fn a_small_fleet_needs_no_coordinators_selector() {
    let hosts: serde_json::Map<String, Value> =
        (1..=5).map(|n| (format!("h{n}"), json!({"key": line(20 + n), "channel": "stable"}))).collect();
    let bytes = with(
        FLEET,
        &[
            ("/hosts", hosts.into()),
            ("/coordinators", Value::Null),
            ("/edges", Value::Null),
            ("/disruptionBudgets", Value::Null),
            ("/rolloutPolicies/careful/waves", json!([{"selector": {"all": true}, "soakMinutes": 0}])),
        ],
    );
    let electorate = Fleet::parse(&bytes).unwrap().electorate();
    assert_eq!((electorate.members.len(), electorate.quorum), (5, 3));
}

#[test]
fn a_report_resolves_everything_and_warns() {
    let clean = check::report(&Fleet::parse(FLEET.as_bytes()).unwrap());
    let text = |report: &check::FleetReport| {
        report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(clean.electorate.withstands, "2 of 3 coordinators have to agree; one may be down");
    assert_eq!(
        text(&clean),
        "fleet documents need all 2 operators: after the loss of one key only a pinned root can change the fleet\nwave 2 of policy careful selects no host of channel edge that an earlier wave leaves"
    );
    for (changes, fragment) in [
        (vec![("/tags/spare", json!({}))], "no host has the declared tag spare"),
        (
            vec![("/tags/spare", json!({})), ("/disruptionBudgets/0/selector", json!({"tags": ["spare"]}))],
            "budget 1 selects no host (tagged spare)",
        ),
        (vec![("/disruptionBudgets/0/maxInFlight", json!(3))], "budget 1 allows all of its 3 hosts"),
        (vec![("/edges/0/gates", json!({"hosts": ["edge-01"]}))], "edge 1 holds nobody"),
        (
            vec![("/coordinators/selector", json!({"hosts": ["etcd-01", "etcd-02"]}))],
            "2 coordinators withstand no more failures than 1",
        ),
        (vec![("/coordinators/selector", json!({"hosts": ["etcd-01"]}))], "a single coordinator"),
        (vec![("/channels/stable/freshnessWindowMinutes", json!(30))], "soak for 30 minutes in all"),
        (
            vec![("/channels/beta", json!({"rolloutPolicy": "careful", "freshnessWindowMinutes": 60}))],
            "no host is on channel beta",
        ),
        (
            vec![(
                "/rolloutPolicies/rash",
                json!({"waves": [{"selector": {"all": true}, "soakSeconds": 0}]}),
            )],
            "no channel has the policy rash",
        ),
    ] {
        let report = check::report(&Fleet::parse(&with(FLEET, &changes)).unwrap());
        assert!(text(&report).contains(fragment), "{}", text(&report));
    }
}

#[test]
fn other_voters_are_named() {
    let old = Fleet::parse(FLEET.as_bytes()).unwrap();
    let voters = json!({"hosts": ["etcd-01", "etcd-02", "web-01"]});
    let new = Fleet::parse(&with(FLEET, &[("/coordinators/selector", voters)])).unwrap();
    let message = check::same_log(&old, &new).unwrap_err().to_string();
    assert!(message.contains("(web-01 would come, etcd-03 would go)"), "{message}");
    assert_eq!(check::same_log(&old, &old), Ok(()));
}

#[test]
fn coordinators_change_in_a_document_that_names_the_founders_as_the_refusal_says() {
    let old = Fleet::parse(FLEET.as_bytes()).unwrap();
    let voters = json!({"hosts": ["etcd-01", "etcd-02", "web-01"]});
    let changed = with(FLEET, &[("/coordinators/selector", voters)]);
    let refusal = check::same_log(&old, &Fleet::parse(&changed).unwrap()).unwrap_err().to_string();
    let named = refusal.split_once("\"founders\": ").unwrap().1.split_once(" to ").unwrap().0;
    let founders: Value = serde_json::from_str(named).unwrap();
    let changed = std::str::from_utf8(&changed).unwrap();
    let new = Fleet::parse(&with(changed, &[("/coordinators/founders", founders.clone())])).unwrap();
    assert_eq!(check::same_log(&old, &new), Ok(()));
    assert_eq!(new.founders(), old.founders());
    assert_ne!(new.electorate(), old.electorate());
    let back = Fleet::parse(FLEET.as_bytes()).unwrap();
    assert_eq!(check::same_log(&new, &back), Ok(()), "whose voters are the founders need not name them");
    let lies = Fleet::parse(&with(changed, &[("/coordinators/tolerate", json!("lies"))]));
    assert!(lies.is_err() || check::same_log(&old, &lies.unwrap()).is_err());
    let twice = json!([founders[0], founders[0]]);
    for (path, value) in [("/coordinators/founders", twice), ("/coordinators/founders", json!([]))] {
        let refusal = Fleet::parse(&with(FLEET, &[(path, value)])).unwrap_err().to_string();
        assert!(refusal.contains("there have to be 1 to 7, each once"), "{refusal}");
    }
    let recovery =
        [("/recovery", json!(true)), ("/replaces", json!(1)), ("/coordinators/founders", founders.clone())];
    let refusal = Fleet::parse(&with(FLEET, &recovery)).unwrap_err().to_string();
    assert!(refusal.contains("leave coordinators.founders out"), "{refusal}");
}
