//! What a hook can be called for, and what of the things that are learnt it is.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::host::Record;
use crate::id::{Closure, HostId, RolloutId};
use crate::wire::{Decision, DecisionBody, Envelope, FeedBody, HostEvent, HostEventKind, RolloutState};

/// The longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// How many hosts a reason names.
const HOSTS_NAMED: usize = 8;
/// How much of the epoch stands in an id: enough to tell the logs of one fleet apart.
const EPOCH_BYTES: usize = 8;

/// What a hook can be called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A rollout was opened.
    RolloutOpened,
    /// Every host of a rollout converged or is excused.
    RolloutCompleted,
    /// A rollout stopped: too many hosts failed, or an operator cancelled it.
    RolloutFailed,
    /// The hosts of a failed rollout are back on what they ran before.
    RolloutReverted,
    /// A newer ref took a rollout's place.
    RolloutSuperseded,
    /// A closure was barred from a channel.
    Quarantined,
    /// A host could not switch, lost its health, or could not go back.
    HostFailed,
    /// A host went back to what it ran before.
    HostReverted,
    /// A host waits for its reboot.
    HostDeferred,
    /// Too few coordinators are in this host's reach.
    QuorumLost,
    /// Enough of them are back.
    QuorumRestored,
    /// Somebody tries a hook; nobody need ask for it.
    Test,
}

impl Event {
    /// What a hook can ask for.
    pub const ALL: [Self; 11] = [
        Self::RolloutOpened,
        Self::RolloutCompleted,
        Self::RolloutFailed,
        Self::RolloutReverted,
        Self::RolloutSuperseded,
        Self::Quarantined,
        Self::HostFailed,
        Self::HostReverted,
        Self::HostDeferred,
        Self::QuorumLost,
        Self::QuorumRestored,
    ];

    /// The event's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RolloutOpened => "rollout-opened",
            Self::RolloutCompleted => "rollout-completed",
            Self::RolloutFailed => "rollout-failed",
            Self::RolloutReverted => "rollout-reverted",
            Self::RolloutSuperseded => "rollout-superseded",
            Self::Quarantined => "quarantined",
            Self::HostFailed => "host-failed",
            Self::HostReverted => "host-reverted",
            Self::HostDeferred => "host-deferred",
            Self::QuorumLost => "quorum-lost",
            Self::QuorumRestored => "quorum-restored",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no event has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no event is called {name:?}; there are {}", listed())]
pub struct UnknownEvent {
    /// The name.
    pub name: String,
}

fn listed() -> String {
    Event::ALL.map(Event::name).join(", ")
}

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(name: &str) -> Result<Self, UnknownEvent> {
        let found = Self::ALL.into_iter().find(|event| event.name() == name);
        found.ok_or_else(|| UnknownEvent { name: name.to_owned() })
    }
}

/// Something that happened and that somebody may want to be called for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// The same for the same occurrence, whoever tells of it and however often.
    pub id: String,
    /// What happened.
    pub event: Event,
    /// When, by the clock of whoever said so.
    pub at: DateTime<Utc>,
    /// The rollout that it is about.
    pub rollout: Option<RolloutId>,
    /// The host that it is about.
    pub host: Option<HostId>,
    /// The closure that it is about.
    pub closure: Option<Closure>,
    /// Why, in words, at most [`REASON_BYTES_MAX`].
    pub reason: Option<String>,
}

/// What the views say beside a record.
pub trait Records {
    /// A host's record in a rollout.
    fn record(&self, rollout: &RolloutId, host: &HostId) -> Option<Record>;

    /// The hosts that failed in a rollout, as far as their own word is held.
    fn failed(&self, rollout: &RolloutId) -> Vec<HostId>;

    /// A host's event in words.
    fn words(&self, event: &HostEvent) -> String;

    /// When this is looked at.
    fn now(&self) -> DateTime<Utc>;
}

/// What an envelope tells of.
pub fn of_envelope(envelope: &Envelope, around: &impl Records) -> Option<Occurrence> {
    let FeedBody::Rollout(said) = &envelope.body else { return None };
    let target = || Some(around.record(&said.rollout_id, &envelope.host)?.target_closure);
    let (event, closure) = match &said.kind {
        HostEventKind::ActivationFailed { .. } | HostEventKind::Failed { .. } => {
            (Event::HostFailed, target())
        }
        HostEventKind::RollbackComplete { reverted_to_closure, exit_code: 0, .. } => {
            (Event::HostReverted, Some(reverted_to_closure.clone()))
        }
        HostEventKind::RollbackComplete { reverted_to_closure, .. } => {
            (Event::HostFailed, Some(reverted_to_closure.clone()))
        }
        HostEventKind::ActivationDeferred { .. } => (Event::HostDeferred, target()),
        HostEventKind::DispatchAck { .. }
        | HostEventKind::DispatchRejected { .. }
        | HostEventKind::ActivationStarted { .. }
        | HostEventKind::ActivationCompleted { .. }
        | HostEventKind::ProbeTopologyDeclared { .. }
        | HostEventKind::ProbeObservedFirst { .. }
        | HostEventKind::ProbeResult { .. }
        | HostEventKind::ProbeFailureFirst { .. }
        | HostEventKind::Converged { .. } => return None,
    };
    Some(Occurrence {
        id: format!("{event}:event:{}:{}:{}", envelope.host, envelope.incarnation, envelope.seq),
        event,
        at: envelope.at,
        rollout: Some(said.rollout_id.clone()),
        host: Some(envelope.host.clone()),
        closure,
        reason: Some(cut(around.words(said))),
    })
}

/// What a certified decision tells of.
pub fn of_decision(decision: &Decision, around: &impl Records) -> Vec<Occurrence> {
    let epoch = &decision.epoch.as_bytes()[..EPOCH_BYTES];
    let place = format!(
        "decision:{}:{}.{}",
        data_encoding::HEXLOWER.encode(epoch),
        decision.log_index,
        decision.ordinal
    );
    let bare = |event: Event, at, rollout: &RolloutId| Occurrence {
        id: format!("{event}:{place}"),
        event,
        at,
        rollout: Some(rollout.clone()),
        host: None,
        closure: None,
        reason: None,
    };
    match &decision.body {
        DecisionBody::Quarantine { channel, closure, rollout_id, host, .. } => {
            let failed_at = around.record(rollout_id, host).and_then(|record| record.failed_at);
            vec![Occurrence {
                host: Some(host.clone()),
                closure: Some(closure.clone()),
                reason: Some(cut(format!("it failed on {host} and is barred from {channel}"))),
                ..bare(Event::Quarantined, failed_at.unwrap_or_else(|| around.now()), rollout_id)
            }]
        }
        DecisionBody::RolloutTransition { rollout_id, from, to, at, .. } if Some(*to) != *from => {
            let stopped = || Occurrence {
                reason: Some(cut(why_stopped(around.failed(rollout_id)))),
                ..bare(Event::RolloutFailed, *at, rollout_id)
            };
            let was_open = from.is_none_or(RolloutState::is_open);
            match to {
                RolloutState::Opening => vec![bare(Event::RolloutOpened, *at, rollout_id)],
                RolloutState::Terminal => vec![bare(Event::RolloutCompleted, *at, rollout_id)],
                RolloutState::Failed => vec![stopped()],
                // Where every host was back before the coordinators heard that one had failed, the two are one step.
                RolloutState::Reverted if was_open => {
                    vec![stopped(), bare(Event::RolloutReverted, *at, rollout_id)]
                }
                RolloutState::Reverted => vec![bare(Event::RolloutReverted, *at, rollout_id)],
                RolloutState::Superseded => vec![bare(Event::RolloutSuperseded, *at, rollout_id)],
                RolloutState::Active | RolloutState::Converging | RolloutState::Pruned => Vec::new(),
            }
        }
        DecisionBody::RolloutTransition { .. }
        | DecisionBody::Dispatch { .. }
        | DecisionBody::Withdrawn { .. }
        | DecisionBody::LogSnapshot { .. } => Vec::new(),
    }
}

fn why_stopped(failed: Vec<HostId>) -> String {
    let count = failed.len();
    let named: Vec<&str> = failed.iter().take(HOSTS_NAMED).map(HostId::as_str).collect();
    let more = if count > HOSTS_NAMED { ", ..." } else { "" };
    match count {
        0 => "an operator cancelled it, or more hosts are lost than its policy allows".to_owned(),
        1 => format!("1 host failed: {}", named.join(", ")),
        _ => format!("{count} hosts failed: {}{more}", named.join(", ")),
    }
}

/// The beginning of a text, at most so long as a reason may be.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
