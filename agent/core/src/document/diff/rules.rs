//! What changes of the rules: who decides, and by which policies, budgets and edges.

use std::collections::{BTreeMap, BTreeSet};

use super::{About, Changes, Kind, list};
use crate::document::check;
use crate::document::fleet::{Channel, Fleet, RolloutPolicy};
use crate::wire::HealthPolicy;

pub(super) fn coordinators(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    let (before, after) = (check::electorate(old), check::electorate(new));
    if before.members != after.members {
        let text = format!("coordinators are {}; they were {}", list(&after.members), list(&before.members));
        changes.add(About::Coordinators, Kind::Changed, "members", text);
    }
    if before.withstands != after.withstands {
        let text = format!("{}; before, {}", after.withstands, before.withstands);
        changes.add(About::Coordinators, Kind::Changed, "quorum", text);
    }
}

pub(super) fn operators(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    for (name, key) in &new.operators {
        match old.operators.get(name) {
            None => changes.add(About::Operator, Kind::Added, name, format!("operator {name} is added")),
            Some(known) if known != key => {
                changes.add(About::Operator, Kind::Rekeyed, name, format!("operator {name} has another key"));
            }
            Some(_) => {}
        }
    }
    for name in old.operators.keys().filter(|name| !new.operators.contains_key(*name)) {
        changes.add(About::Operator, Kind::Removed, name, format!("operator {name} is removed"));
    }
    let sizes = (old.operators.len(), new.operators.len());
    let (before, after) = (old.thresholds, new.thresholds);
    for (name, what, old, new) in [
        ("fleet", "a fleet document", before.fleet, after.fleet),
        ("channelRef", "a channel ref", before.channel_ref, after.channel_ref),
        ("command", "a command", before.command, after.command),
    ] {
        if (old, sizes.0) != (new, sizes.1) {
            let text = format!("{new} of {} operators sign {what}; before, {old} of {}", sizes.1, sizes.0);
            changes.add(About::Threshold, Kind::Changed, name, text);
        }
    }
}

pub(super) fn channels(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    for (id, channel) in &new.channels {
        let Some(known) = old.channels.get(id) else {
            let text = format!("channel {id} is added, with policy {}", channel.policy);
            changes.add(About::Channel, Kind::Added, id, text);
            continue;
        };
        let of = |what: &str| format!("the {what} of channel {id}");
        changes.was(About::Channel, id.as_str(), &of("policy"), &known.policy, &channel.policy);
        let minutes = |channel: &Channel| format!("{} min", channel.freshness_window_minutes);
        changes.was(About::Channel, id.as_str(), &of("freshness window"), &minutes(known), &minutes(channel));
        let what = of("maintenance window");
        changes.was(About::Channel, id.as_str(), &what, &windows(known), &windows(channel));
    }
    for id in old.channels.keys().filter(|id| !new.channels.contains_key(*id)) {
        changes.add(About::Channel, Kind::Removed, id, format!("channel {id} is removed"));
    }
}

fn windows(channel: &Channel) -> String {
    match channel.windows.is_empty() {
        true => "always open".to_owned(),
        false => list(&channel.windows),
    }
}

pub(super) fn policies(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    for (name, policy) in &new.policies {
        let Some(known) = old.policies.get(name) else {
            let waves = policy.waves.len();
            changes.add(
                About::Policy,
                Kind::Added,
                name,
                format!("policy {name} is added, with {waves} waves"),
            );
            continue;
        };
        let (before, after) = (settings(known), settings(policy));
        for (what, value) in &after {
            let was = before.get(what).cloned().unwrap_or_else(|| "none".to_owned());
            changes.was(About::Policy, name.as_str(), &format!("{what} of policy {name}"), &was, value);
        }
        for (what, value) in before.iter().filter(|(what, _)| !after.contains_key(*what)) {
            let text = format!("{what} of policy {name} is gone; it was {value}");
            changes.add(About::Policy, Kind::Removed, name, text);
        }
    }
    for name in old.policies.keys().filter(|name| !new.policies.contains_key(*name)) {
        changes.add(About::Policy, Kind::Removed, name, format!("policy {name} is removed"));
    }
}

/// Everything that a policy says, by what it is about.
fn settings(rules: &RolloutPolicy) -> BTreeMap<String, String> {
    let policy = &rules.policy;
    let mut all: BTreeMap<String, String> = (1..)
        .zip(&rules.waves)
        .map(|(number, wave)| {
            let then = if wave.manual_promotion { ", then a person promotes" } else { "" };
            (format!("wave {number}"), format!("{}, each soaks {} s{then}", wave.selector, wave.soak_secs))
        })
        .collect();
    let health = match policy.on_health_failure {
        HealthPolicy::Halt => "halt",
        HealthPolicy::RollbackAndHalt => "rollback-and-halt",
    };
    let deferred = if policy.deferred_advances { "advance" } else { "hold" };
    for (what, value) in [
        ("maxFailures", policy.max_failures.to_string()),
        ("onHealthFailure", health.to_owned()),
        ("sustainedFailureSeconds", policy.sustained_failure_secs.to_string()),
        ("dispatchTimeoutSeconds", policy.dispatch_timeout_secs.to_string()),
        ("activationTimeoutSeconds", policy.activation_timeout_secs.to_string()),
        ("deferredTimeoutHours", (policy.deferred_timeout_secs / 3600).to_string()),
        ("lostAfterSeconds", policy.lost_after_secs.to_string()),
        ("fetchTimeoutSeconds", policy.fetch_timeout_secs.to_string()),
        ("deferred", deferred.to_owned()),
    ] {
        all.insert(what.to_owned(), value);
    }
    all
}

pub(super) fn budgets(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    let words = |fleet: &Fleet| -> Vec<(String, String)> {
        let rules = fleet.budgets.iter().map(|rule| {
            let hosts = rule.selector.resolve(fleet).len();
            (rule.selector.to_string(), format!("{} of {hosts}", rule.limit(hosts)))
        });
        rules.collect()
    };
    let (before, after) = (words(old), words(new));
    for (at, (selector, limit)) in after.iter().enumerate() {
        let number = at + 1;
        match before.get(at) {
            None => {
                let text = format!("budget {number} is added: {limit} at once of {selector}");
                changes.add(About::Budget, Kind::Added, number, text);
            }
            Some(known) if *known != after[at] => {
                let (was, was_limit) = known;
                let text = format!(
                    "budget {number} lets {limit} at once of {selector}; before, {was_limit} of {was}"
                );
                changes.add(About::Budget, Kind::Changed, number, text);
            }
            Some(_) => {}
        }
    }
    for (at, (selector, limit)) in before.iter().enumerate().skip(after.len()) {
        let text = format!("budget {} is removed: it let {limit} at once of {selector}", at + 1);
        changes.add(About::Budget, Kind::Removed, at + 1, text);
    }
}

pub(super) fn edges(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    let words = |fleet: &Fleet| -> BTreeSet<(String, String)> {
        let hosts = fleet
            .edges
            .iter()
            .map(|rule| (format!("{} before {}", rule.gates, rule.gated), because(&rule.reason)));
        let channels = fleet.channel_edges.iter().map(|rule| {
            (format!("channel {} before channel {}", rule.gates, rule.gated), because(&rule.reason))
        });
        hosts.chain(channels).collect()
    };
    let (before, after) = (words(old), words(new));
    for (edge, reason) in after.difference(&before) {
        changes.add(About::Edge, Kind::Added, edge, format!("{edge} is a new edge{reason}"));
    }
    for (edge, reason) in before.difference(&after) {
        changes.add(About::Edge, Kind::Removed, edge, format!("{edge} is an edge no more{reason}"));
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

pub(super) fn rest(old: &Fleet, new: &Fleet, changes: &mut Changes) {
    for tag in new.tags.keys().filter(|tag| !old.tags.contains_key(*tag)) {
        changes.add(About::Tag, Kind::Added, tag, format!("tag {tag} is declared"));
    }
    for tag in old.tags.keys().filter(|tag| !new.tags.contains_key(*tag)) {
        changes.add(About::Tag, Kind::Removed, tag, format!("tag {tag} is declared no more"));
    }
    let ends = |fleet: &Fleet| fleet.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_rfc3339());
    changes.was(About::Document, "expiresAt", "the document's end", &ends(old), &ends(new));
}
