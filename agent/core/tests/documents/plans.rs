//! What rollouts follow from a fleet document and a channel ref.

use muster_core::document::plan::{self, Plan, PlanError};
use muster_core::document::{ChannelRefDocument, Fleet};
use muster_signing::{Digest, sha256};
use serde_json::{Value, json};

use crate::kit::{FLEET, STABLE, stable, with};

fn resolve(fleet: &[u8], channel_ref: &[u8]) -> Result<Plan, PlanError> {
    let document = ChannelRefDocument::parse(channel_ref).unwrap();
    plan::resolve(&Fleet::parse(fleet).unwrap(), sha256(fleet), &document, sha256(channel_ref))
}

fn hosts(plan: &Plan) -> Vec<Vec<&str>> {
    plan.waves.iter().map(|wave| wave.hosts.iter().map(|host| host.as_str()).collect()).collect()
}

#[test]
fn a_host_is_in_the_first_wave_that_selects_it() {
    let plan = resolve(FLEET.as_bytes(), STABLE.as_bytes()).unwrap();
    let rest = vec!["app-01", "db-01", "etcd-01", "etcd-02", "etcd-03", "web-02"];
    assert_eq!(hosts(&plan), [vec!["web-01"], rest]);
    assert_eq!((plan.waves[0].soak_secs, plan.waves[1].soak_secs), (1800, 0));
    assert_eq!(plan.wave_of(&"web-02".parse().unwrap()), Some(1));
    assert_eq!(plan.waits_for.iter().map(|edge| edge.gates.as_str()).collect::<Vec<_>>(), ["edge"]);
    assert_eq!(plan.edges.len(), 1);
    assert_eq!(plan.rollout_id.as_str(), "stable@a1b2c3d4");
}

#[test]
fn waves_and_edges_without_targets_are_left_out() {
    for (gone, waves, edges) in [
        (&["web-01"][..], vec![vec!["app-01", "db-01", "etcd-01", "etcd-02", "etcd-03", "web-02"]], 1),
        (&["app-01", "etcd-01", "etcd-02", "etcd-03", "web-02"], vec![vec!["web-01"], vec!["db-01"]], 0),
        (&["db-01", "etcd-01", "etcd-02", "etcd-03", "web-02"], vec![vec!["web-01"], vec!["app-01"]], 0),
    ] {
        let pointers: Vec<String> = gone.iter().map(|host| format!("/targets/{host}")).collect();
        let mut changes: Vec<(&str, Value)> = pointers.iter().map(|at| (at.as_str(), Value::Null)).collect();
        changes.push(("/contents", Value::Null));
        let plan = resolve(FLEET.as_bytes(), &with(STABLE, &changes)).unwrap();
        assert_eq!((hosts(&plan), plan.edges.len()), (waves, edges));
    }
}

#[test]
fn budgets_cover_hosts_of_every_channel_and_round_down() {
    for (budget, size, limit) in [
        (json!({"selector": {"tags": ["etcd"]}, "maxInFlight": 2}), 3, 2),
        (json!({"selector": {"tags": ["etcd"]}, "maxInFlightPct": 50}), 3, 1),
        (json!({"selector": {"tags": ["etcd"]}, "maxInFlightPct": 67}), 3, 2),
        (json!({"selector": {"tags": ["etcd"]}, "maxInFlightPct": 1}), 3, 1),
        (json!({"selector": {"tags": ["etcd"]}, "maxInFlightPct": 100, "maxInFlight": 2}), 3, 2),
        (json!({"selector": {"tags": ["etcd"]}, "maxInFlightPct": 34, "maxInFlight": 3}), 3, 1),
        (json!({"selector": {"tags": ["canary"]}, "maxInFlight": 1}), 2, 1),
        (json!({"selector": {"not": {"channel": "stable"}}, "maxInFlight": 1}), 1, 1),
        (
            json!({"selector": {"and": [{"tagsAny": ["web", "app"]}, {"not": {"hosts": ["web-01"]}}]}, "maxInFlight": 1}),
            2,
            1,
        ),
    ] {
        let fleet = with(FLEET, &[("/disruptionBudgets", json!([budget.clone()]))]);
        let plan = resolve(&fleet, &stable(&fleet, 1, "v1")).unwrap();
        let found: Vec<_> = plan.budgets.iter().map(|budget| (budget.hosts.len(), budget.limit)).collect();
        assert_eq!(found, [(size, limit)], "{budget}");
    }
}

#[test]
fn a_budget_without_hosts_is_left_out_and_the_others_keep_their_places() {
    let nobody = json!({"selector": {"and": [{"tags": ["etcd"]}, {"tags": ["web"]}]}, "maxInFlight": 1});
    let fleet = with(FLEET, &[("/disruptionBudgets/0", nobody)]);
    let plan = resolve(&fleet, &stable(&fleet, 1, "v1")).unwrap();
    assert_eq!(plan.budgets.iter().map(|budget| budget.index).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_plan_needs_the_very_fleet_document_that_its_ref_names() {
    let fleet = Fleet::parse(FLEET.as_bytes()).unwrap();
    let document = ChannelRefDocument::parse(STABLE.as_bytes()).unwrap();
    let other = plan::resolve(&fleet, Digest([0; 32]), &document, Digest([1; 32]));
    assert!(matches!(other, Err(PlanError::OtherFleetDocument { .. })));
}
