//! Who holds a gate closed, and what opens it.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Blocked, Reason};
use crate::document::Scope;
use crate::id::{HostId, RolloutId};

/// The most hosts that are named.
const NAMED_MAX: usize = 8;

impl Blocked {
    /// Whom or what the gate waits for.
    pub fn holder(&self) -> String {
        match &self.reason {
            Reason::Paused { scope, .. } => format!("an operator's resume of {scope}"),
            Reason::Unsigned { .. } | Reason::Stale { .. } | Reason::Expired { .. } => {
                "a ref that operators sign anew".to_owned()
            }
            Reason::FleetExpired { .. } => "a newer fleet document".to_owned(),
            Reason::OffChannel { .. } | Reason::NotInPlan => {
                "a fleet document or ref that names it".to_owned()
            }
            Reason::Quarantined { .. } | Reason::Suspect { .. } => {
                "another release, or an operator's clearance".to_owned()
            }
            Reason::WindowClosed => "the next maintenance window".to_owned(),
            Reason::ChannelFirst { rollout, .. } => rollout.to_string(),
            Reason::WaveNotDone { hosts, .. } | Reason::WaveUnreachable { hosts, .. } => list(hosts),
            Reason::NoConvergence { .. } | Reason::TooManyFailures { .. } | Reason::Forked => {
                "an operator".to_owned()
            }
            Reason::NeedsPromotion { .. } => "an operator's promotion".to_owned(),
            Reason::HostFirst { host, .. } | Reason::ProbeFails { host, .. } => host.to_string(),
            Reason::BudgetFull { in_flight, .. } => list(in_flight),
            Reason::NotFetched { .. }
            | Reason::NeverFetched { .. }
            | Reason::Offline
            | Reason::NotHeardYet => "the host itself".to_owned(),
            Reason::InFlight { rollout, .. } => rollout.to_string(),
        }
    }

    /// What a person can do about it in the rollout that it holds, or what will do it without one.
    pub fn way_out(&self, of: &RolloutId) -> String {
        match &self.reason {
            Reason::Paused { scope, .. } => match scope {
                Scope::Channel(channel) => format!("muster resume {channel}"),
                Scope::Rollout(rollout) => format!("muster resume {rollout}"),
                Scope::Host(host) => format!("muster resume --host {host}"),
            },
            Reason::Unsigned { rollout } => {
                format!("sign {rollout} anew with the operators of the newest fleet document, and publish it")
            }
            Reason::FleetExpired { .. } => {
                "sign the fleet document with the next serial and a later expiresAt, and publish it"
                    .to_owned()
            }
            Reason::OffChannel { .. } => {
                "nothing, if it was moved on purpose: it follows its own channel now".to_owned()
            }
            Reason::Quarantined { channel, .. } => {
                format!("release a mended closure, or lift it: muster clear {channel} CLOSURE")
            }
            Reason::Suspect { rollout, .. } => {
                format!("release a mended closure; muster rollout show {rollout} says how it failed")
            }
            Reason::Stale { .. } => {
                "sign the same ref with the next serial and a new date, and publish it".to_owned()
            }
            Reason::Expired { .. } => {
                "sign the same ref with the next serial and a later end, and publish it".to_owned()
            }
            Reason::WindowClosed => "wait, or sign a fleet document with another window".to_owned(),
            Reason::ChannelFirst { rollout, state, .. } => match *state {
                "Failed" | "Reverted" => format!("muster clear {rollout}, or release a mended ref there"),
                _ => format!("wait until it is finished; muster explain {rollout} says what holds it"),
            },
            Reason::WaveNotDone { hosts, .. } => without(hosts.first()),
            Reason::WaveUnreachable { hosts, .. } => match hosts.first() {
                Some(host) => format!("bring one of them back, or go on without them: muster skip {host}"),
                None => "bring one of them back".to_owned(),
            },
            Reason::NoConvergence { .. } => {
                "release a mended ref, or go on without the hosts of that wave: muster skip HOST".to_owned()
            }
            Reason::TooManyFailures { .. } => {
                format!("release a mended ref, or let it go on without them: muster clear {of}")
            }
            Reason::NotInPlan => "publish a ref with a target for it".to_owned(),
            Reason::NeedsPromotion { wave } => format!("muster promote {of} --wave {wave}"),
            Reason::HostFirst { host, .. } => without(Some(host)),
            Reason::BudgetFull { in_flight, .. } => match in_flight.first() {
                Some(host) => {
                    format!("wait for one of them; of one that failed, muster skip {host} frees the slot")
                }
                None => "sign a fleet document with a larger budget".to_owned(),
            },
            Reason::ProbeFails { host, .. } => {
                format!("mend {host}, or go on without it: muster skip {host}")
            }
            Reason::NotFetched { .. } => {
                "wait; the host says so when it holds its target, and what keeps it from fetching".to_owned()
            }
            Reason::NeverFetched { .. } => {
                "mend what it fetches from, or release a mended ref; while the rollout is open it is dispatched when it \
                 holds its target"
                    .to_owned()
            }
            Reason::Offline | Reason::NotHeardYet => {
                "start its agent and see to its network; muster peers says when it was last heard".to_owned()
            }
            Reason::Forked => "give it another key in the fleet document, or take it out".to_owned(),
            Reason::InFlight { rollout, .. } => {
                format!("wait until it is done there; muster rollout show {rollout} says how far it is")
            }
        }
    }
}

fn without(host: Option<&HostId>) -> String {
    match host {
        Some(host) => format!("muster explain {host}; muster skip {host} goes on without it"),
        None => "muster status says where the others stand".to_owned(),
    }
}

/// When waiting comes to its end, if that is known.
pub(super) fn ends(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| format!("; it counts as failed at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)))
        .unwrap_or_default()
}

/// The hosts' names, the first few of many.
pub(super) fn list(hosts: &[HostId]) -> String {
    let mut text = hosts.iter().take(NAMED_MAX).map(HostId::as_str).collect::<Vec<_>>().join(", ");
    if hosts.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", hosts.len() - NAMED_MAX));
    }
    text
}
