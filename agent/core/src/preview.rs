//! What publishing a channel ref would do now: the gates and the planner, asked of a fleet that has it already.
//!
//! Nothing is sent and nothing is kept: the ref is put into a copy of what the node knows, signed or not, and the copy is
//! asked whom it would dispatch and what would hold the others.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use muster_signing::{SignedDocument, Verified};

use crate::document::{Acceptance, ChannelRefDocument, Plan, Refusal};
use crate::gate::{self, Blocked};
use crate::id::{Closure, HostId, RolloutId};
use crate::ledger::Ledger;
use crate::planner;
use crate::presence::{Presences, Reach};
use crate::time::Now;
use crate::view::{Standing, View};
use crate::wire::{DecisionId, RolloutEvent, RolloutState};

/// What publishing a ref would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The rollout that it would open, or go on with.
    pub rollout: RolloutId,
    /// Whether that very rollout is there already, so that the ref only refreshes it.
    pub refreshes: bool,
    /// The open rollouts whose place it would take.
    pub supersedes: Vec<(RolloutId, RolloutState)>,
    /// How many operators have signed it.
    pub signed: usize,
    /// How many have to.
    pub needed: usize,
    /// Its waves, in order.
    pub waves: Vec<WavePreview>,
    /// Hosts of the channel that it has no target for.
    pub left_out: BTreeSet<HostId>,
}

/// A wave of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WavePreview {
    /// How long each host soaks, in seconds.
    pub soak_secs: u64,
    /// Whether a person opens the next wave.
    pub manual_promotion: bool,
    /// Its hosts, by name.
    pub hosts: Vec<HostPreview>,
}

/// A host of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPreview {
    /// The host.
    pub host: HostId,
    /// What it would run.
    pub target: Closure,
    /// What it says it runs.
    pub current: Option<Closure>,
    /// Whether it can be reached.
    pub reach: Reach,
    /// Where it stands in the rollout, which is new to it unless the ref is a refresh.
    pub standing: Standing,
    /// Whether it would be dispatched at once.
    pub first: bool,
    /// Every gate that would hold it back.
    pub held_by: Vec<Blocked>,
}

/// Why there is nothing to foresee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreviewError {
    /// The ref would be refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ref names an older fleet document than the newest one.
    #[error(
        "the ref names the fleet document with serial {named}, the newest one has {newest}: no rollout opens for it"
    )]
    OlderFleet {
        /// The serial of the one that it names.
        named: u64,
        /// The serial of the newest one.
        newest: u64,
    },
    /// It is another kind of document.
    #[error("only a channel ref rolls anything out; this is another kind of document")]
    NoRef,
}

/// What a node knows at one moment, to be asked away from it.
#[derive(Debug, Clone)]
pub struct Known {
    ledger: Ledger,
    presences: Presences,
    void: BTreeSet<DecisionId>,
    now: Now,
}

impl Known {
    /// A copy of what a view looks at.
    pub fn of(view: &View<'_>, utc: DateTime<Utc>) -> Self {
        let (ledger, presences) = (view.ledger.clone(), view.presences.clone());
        Self { ledger, presences, void: view.void.clone(), now: Now { utc, mono: view.mono } }
    }

    /// Foresees what publishing a channel ref would do.
    pub fn foresee(self, document: &Verified<SignedDocument>) -> Result<Preview, PreviewError> {
        let Self { ledger, presences, void, now } = self;
        let parsed = ChannelRefDocument::parse(document.bytes())?;
        let id = parsed.rollout_id();
        let refreshes = ledger.rollouts().contains_key(&id);
        let open = ledger.rollouts().values().filter(|it| it.channel == parsed.channel && it.state.is_open());
        let superseded = open.filter(|it| it.rollout_id != id).map(|it| (it.rollout_id.clone(), it.state));
        let supersedes: Vec<_> = superseded.collect();
        let ledger = match ledger.documents().check_supposed(document, now.utc)? {
            Acceptance::New(accepted) => ledger.supposing(accepted, now.utc).ok_or(PreviewError::NoRef)?,
            // It was published already: what is is what would be.
            Acceptance::Duplicate => ledger,
            Acceptance::Waits { fleet_serial, fleet_hash } => {
                return Err(Refusal::UnknownFleetDocument { named: Some((fleet_serial, fleet_hash)) }.into());
            }
        };
        let fleet = ledger.documents().fleet().ok_or(PreviewError::NoRef)?;
        if fleet.hash != parsed.fleet_hash {
            return Err(PreviewError::OlderFleet { named: parsed.fleet_serial, newest: fleet.serial });
        }
        let plan = ledger.plan(&id).ok_or(PreviewError::NoRef)?;
        let nobody = BTreeSet::new();
        let view = View::new(&ledger, &presences, &void, &nobody, now.mono);
        let on_channel = fleet.hosts.iter().filter(|(_, it)| it.channel == plan.channel).map(|(id, _)| id);
        Ok(Preview {
            refreshes,
            supersedes,
            signed: document.count(fleet.operators.values()),
            needed: fleet.thresholds.channel_ref,
            waves: waves(&view, plan, now.utc),
            left_out: on_channel.filter(|id| !plan.targets.contains_key(*id)).cloned().collect(),
            rollout: id,
        })
    }
}

fn waves(view: &View<'_>, plan: &Plan, now: DateTime<Utc>) -> Vec<WavePreview> {
    let events = planner::dispatches(view, now).into_iter();
    let joins = events.filter_map(|event| match event {
        RolloutEvent::HostJoined { rollout_id, host_id, .. } => Some((rollout_id, host_id)),
        RolloutEvent::RolloutOpened { .. }
        | RolloutEvent::HostStateChanged { .. }
        | RolloutEvent::WaveAdvanced { .. }
        | RolloutEvent::RolloutTerminal { .. }
        | RolloutEvent::SuccessorOpened { .. }
        | RolloutEvent::RetentionExpired { .. }
        | RolloutEvent::OperatorClearance { .. }
        | RolloutEvent::RolloutCancelled { .. } => None,
    });
    // Those of other channels hold budgets too.
    let (mut first, mut taken) = (BTreeSet::new(), view.tentative.clone());
    for (rollout, host) in joins {
        taken.insert(host.clone());
        if rollout == plan.rollout_id {
            first.insert(host);
        }
    }
    let view = View::new(view.ledger, view.presences, view.void, &taken, view.mono);
    let waves = plan.waves.iter().map(|wave| WavePreview {
        soak_secs: wave.soak_secs,
        manual_promotion: wave.manual_promotion,
        hosts: wave.hosts.iter().filter_map(|host| preview(&view, plan, host, &first, now)).collect(),
    });
    waves.collect()
}

fn preview(
    view: &View<'_>,
    plan: &Plan,
    host: &HostId,
    first: &BTreeSet<HostId>,
    now: DateTime<Utc>,
) -> Option<HostPreview> {
    let standing = view.standing(plan, host, now);
    let first = first.contains(host);
    let waits = standing == Standing::Waiting && !first;
    let seen = view.presences.of(host);
    Some(HostPreview {
        host: host.clone(),
        target: plan.targets.get(host)?.clone(),
        current: seen.and_then(|seen| seen.presence.current_closure.clone()),
        reach: view.presences.reach(host, view.mono),
        standing,
        first,
        held_by: if waits { gate::all_blocked(view, plan, host, now) } else { Vec::new() },
    })
}
