//! The fleet document as JSON writes it, with its defaults.
//!
//! `coordinators` is `{"selector": .., "tolerate": "crash" | "lies", "founders": ["ssh-ed25519 AAAA...", ..]}`, each of them
//! optional. `founders` are the keys of the voters with whom the coordinators' log began; they are the document's own voters
//! if it does not say. A document whose voters are others has to name them, or it would be one of another log.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use muster_signing::{OperatorKey, PublicKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fleet::{
    BudgetRule, COORDINATORS_MAX, Channel, ChannelEdgeRule, Coordinators, EdgeRule, Fleet, FleetError, Host,
    RolloutPolicy, Thresholds, Tolerate, WaveRule,
};
use super::json::{UniqueMap, maybe_time, time};
use super::plan::Policy;
use super::selector::Selector;
use super::window::Window;
use crate::id::{ChannelId, FleetName, HostId, OperatorName, PolicyName, Tag};
use crate::wire::HealthPolicy;

/// The longest time limit of a policy, in seconds: ten years.
const SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FleetForm {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    pub(super) fleet: FleetName,
    pub(super) serial: u64,
    #[serde(deserialize_with = "time")]
    pub(super) signed_at: DateTime<Utc>,
    #[serde(default, deserialize_with = "maybe_time")]
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) operators: UniqueMap<OperatorName, OperatorKey>,
    pub(super) thresholds: ThresholdsForm,
    #[serde(default)]
    coordinators: CoordinatorsForm,
    hosts: UniqueMap<HostId, HostForm>,
    channels: UniqueMap<ChannelId, ChannelForm>,
    rollout_policies: UniqueMap<PolicyName, PolicyForm>,
    #[serde(default)]
    tags: UniqueMap<Tag, TagForm>,
    #[serde(default)]
    edges: Vec<EdgeForm>,
    #[serde(default)]
    channel_edges: Vec<ChannelEdgeRule>,
    #[serde(default)]
    disruption_budgets: Vec<BudgetForm>,
    #[serde(default)]
    pub(super) recovery: bool,
    #[serde(default)]
    pub(super) replaces: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ThresholdsForm {
    pub(super) fleet: usize,
    pub(super) channel_ref: usize,
    pub(super) command: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CoordinatorsForm {
    #[serde(default)]
    selector: Option<Selector>,
    #[serde(default)]
    tolerate: Option<Tolerate>,
    #[serde(default)]
    founders: Option<Vec<PublicKey>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostForm {
    key: PublicKey,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    tags: BTreeSet<Tag>,
    channel: ChannelId,
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChannelForm {
    rollout_policy: PolicyName,
    freshness_window_minutes: u64,
    #[serde(default)]
    windows: Vec<WindowForm>,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WindowForm {
    days: Vec<String>,
    start: String,
    length_minutes: u64,
    #[serde(default = "utc")]
    timezone: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyForm {
    waves: Vec<WaveForm>,
    #[serde(default)]
    health_gate: HealthGateForm,
    #[serde(default)]
    on_health_failure: OnHealthFailure,
    #[serde(default = "default_sustained_failure")]
    sustained_failure_seconds: u64,
    #[serde(default = "default_dispatch_timeout")]
    dispatch_timeout_seconds: u64,
    #[serde(default = "default_activation_timeout")]
    activation_timeout_seconds: u64,
    #[serde(default = "default_deferred_timeout")]
    deferred_timeout_hours: u64,
    #[serde(default = "default_lost_after")]
    lost_after_seconds: u64,
    #[serde(default = "default_fetch_timeout")]
    fetch_timeout_seconds: u64,
    #[serde(default)]
    deferred: Deferred,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HealthGateForm {
    #[serde(default)]
    max_failures: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnHealthFailure {
    #[default]
    RollbackAndHalt,
    Halt,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Deferred {
    #[default]
    Hold,
    Advance,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WaveForm {
    selector: Selector,
    #[serde(default)]
    soak_minutes: Option<u64>,
    #[serde(default)]
    soak_seconds: Option<u64>,
    #[serde(default)]
    promotion: Promotion,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Promotion {
    #[default]
    Auto,
    Manual,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TagForm {
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgeForm {
    gates: Selector,
    gated: Selector,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BudgetForm {
    selector: Selector,
    #[serde(default)]
    max_in_flight: Option<usize>,
    #[serde(default)]
    max_in_flight_pct: Option<usize>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn default_sustained_failure() -> u64 {
    60
}

fn default_dispatch_timeout() -> u64 {
    600
}

fn default_activation_timeout() -> u64 {
    1800
}

fn default_deferred_timeout() -> u64 {
    168
}

fn default_lost_after() -> u64 {
    3600
}

fn default_fetch_timeout() -> u64 {
    3600
}

/// Turns the written form into the types of [`Fleet`]; the rules between its parts are not checked yet.
pub(super) fn convert(form: FleetForm) -> Result<Fleet, FleetError> {
    if form.recovery != form.replaces.is_some() {
        return Err(FleetError::Recovery);
    }
    let channels = form.channels.0.into_iter().map(|(id, channel)| {
        let channel = convert_channel(&id, channel)?;
        Ok((id, channel))
    });
    let policies = form.rollout_policies.0.into_iter().map(|(name, policy)| {
        let policy = convert_policy(&name, policy)?;
        Ok((name, policy))
    });
    let founders = form.coordinators.founders.map(convert_founders).transpose()?;
    Ok(Fleet {
        name: form.fleet,
        serial: form.serial,
        signed_at: form.signed_at,
        expires_at: form.expires_at,
        operators: form.operators.0,
        thresholds: Thresholds {
            fleet: form.thresholds.fleet,
            channel_ref: form.thresholds.channel_ref,
            command: form.thresholds.command,
        },
        coordinators: Coordinators {
            selector: form.coordinators.selector,
            tolerate: form.coordinators.tolerate.unwrap_or(Tolerate::Crash),
            founders,
        },
        hosts: form.hosts.0.into_iter().map(|(id, host)| (id, convert_host(host))).collect(),
        channels: channels.collect::<Result<_, FleetError>>()?,
        policies: policies.collect::<Result<_, FleetError>>()?,
        tags: form.tags.0.into_iter().map(|(tag, form)| (tag, form.description)).collect(),
        edges: form.edges.into_iter().map(convert_edge).collect(),
        channel_edges: form.channel_edges,
        budgets: form.disruption_budgets.into_iter().map(convert_budget).collect(),
        replaces: form.replaces,
        resolved_budgets: Vec::new(),
    })
}

/// Each founder once, and as many as there may be coordinators.
fn convert_founders(keys: Vec<PublicKey>) -> Result<BTreeSet<PublicKey>, FleetError> {
    let found = keys.len();
    let founders: BTreeSet<_> = keys.into_iter().collect();
    let sensible = founders.len() == found && (1..=COORDINATORS_MAX).contains(&found);
    if sensible { Ok(founders) } else { Err(FleetError::Founders { found }) }
}

fn convert_host(form: HostForm) -> Host {
    let HostForm { key, system, tags, channel, addresses } = form;
    Host { key, system, tags, channel, addresses }
}

fn convert_edge(form: EdgeForm) -> EdgeRule {
    let EdgeForm { gates, gated, reason } = form;
    EdgeRule { gates, gated, reason }
}

fn convert_budget(form: BudgetForm) -> BudgetRule {
    let BudgetForm { selector, max_in_flight, max_in_flight_pct } = form;
    BudgetRule { selector, max_in_flight, max_in_flight_pct }
}

fn convert_channel(id: &ChannelId, form: ChannelForm) -> Result<Channel, FleetError> {
    let windows = form.windows.iter().map(|window| {
        Window::new(&window.days, &window.start, window.length_minutes, &window.timezone)
            .map_err(|error| FleetError::Window { channel: id.clone(), error })
    });
    let place = || format!("freshnessWindowMinutes of channel {id}");
    Ok(Channel {
        policy: form.rollout_policy,
        freshness_window_minutes: in_range(form.freshness_window_minutes, 1, SECONDS_MAX / 60, place)?,
        windows: windows.collect::<Result<_, _>>()?,
        description: form.description,
    })
}

fn convert_policy(name: &PolicyName, form: PolicyForm) -> Result<RolloutPolicy, FleetError> {
    let limit = |key: &str, value: u64| in_range(value, 1, SECONDS_MAX, || format!("{key} of policy {name}"));
    let policy = Policy {
        max_failures: form.health_gate.max_failures,
        on_health_failure: match form.on_health_failure {
            OnHealthFailure::RollbackAndHalt => HealthPolicy::RollbackAndHalt,
            OnHealthFailure::Halt => HealthPolicy::Halt,
        },
        sustained_failure_secs: limit("sustainedFailureSeconds", form.sustained_failure_seconds)?,
        dispatch_timeout_secs: limit("dispatchTimeoutSeconds", form.dispatch_timeout_seconds)?,
        activation_timeout_secs: limit("activationTimeoutSeconds", form.activation_timeout_seconds)?,
        deferred_timeout_secs: 3600
            * in_range(form.deferred_timeout_hours, 1, SECONDS_MAX / 3600, || {
                format!("deferredTimeoutHours of policy {name}")
            })?,
        lost_after_secs: limit("lostAfterSeconds", form.lost_after_seconds)?,
        fetch_timeout_secs: limit("fetchTimeoutSeconds", form.fetch_timeout_seconds)?,
        deferred_advances: match form.deferred {
            Deferred::Hold => false,
            Deferred::Advance => true,
        },
    };
    let waves = form.waves.into_iter().zip(1..).map(|(wave, number)| convert_wave(name, number, wave));
    Ok(RolloutPolicy { policy, waves: waves.collect::<Result<_, _>>()? })
}

fn convert_wave(policy: &PolicyName, wave: usize, form: WaveForm) -> Result<WaveRule, FleetError> {
    let soak_secs = match (form.soak_minutes, form.soak_seconds) {
        (Some(minutes), None) => minutes.saturating_mul(60),
        (None, Some(seconds)) => seconds,
        (Some(_), Some(_)) | (None, None) => return Err(FleetError::Soak { policy: policy.clone(), wave }),
    };
    let place = || format!("the soak in seconds of wave {wave} of policy {policy}");
    Ok(WaveRule {
        selector: form.selector,
        soak_secs: in_range(soak_secs, 0, SECONDS_MAX, place)?,
        manual_promotion: form.promotion == Promotion::Manual,
    })
}

fn in_range(found: u64, least: u64, most: u64, place: impl FnOnce() -> String) -> Result<u64, FleetError> {
    if (least..=most).contains(&found) {
        Ok(found)
    } else {
        Err(FleetError::OutOfRange { place: place(), found, least, most })
    }
}
