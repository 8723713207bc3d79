//! `/v1/plan` and `/v1/channels/{channel}`: what is asked before something is published.

use chrono::{DateTime, Utc};
use muster_core::id::{ChannelId, RolloutId};
use muster_core::presence::Reach;
use muster_core::preview::{HostPreview, Known, Preview, PreviewError};
use muster_core::view::{Failure, Standing};
use muster_core::wire::HostState;
use muster_signing::DocumentParts;

use super::{Asked, explain, fleet, not_found, refused};
use crate::control::{Code, Problem, wire};

/// What the loop tells of the moment.
pub(super) struct Told {
    fleet: String,
    me: String,
    running: Option<String>,
    quorum: wire::Quorum,
    at: DateTime<Utc>,
}

impl Told {
    pub(super) fn of(asked: &Asked<'_>) -> Self {
        let settings = asked.node.settings();
        Self {
            fleet: settings.fleet.to_string(),
            me: settings.host.to_string(),
            running: asked.node.running().map(ToString::to_string),
            quorum: fleet::quorum(asked),
            at: asked.now.utc,
        }
    }

    /// Foresees what publishing the document would do.
    pub(super) fn plan(self, known: Known, parts: DocumentParts) -> Result<wire::Plan, Problem> {
        let document = muster_core::verify::document_parts(parts);
        let preview = known.foresee(&document).map_err(|error| match error {
            PreviewError::Refused(refusal) => refused(&refusal),
            PreviewError::OlderFleet { .. } => Problem::new(Code::UnknownFleetDocument, error)
                .hint("sign the ref with the newest fleet document: muster sign channel-ref --fleet FILE"),
            PreviewError::NoRef => Problem::new(Code::Invalid, error),
        })?;
        Ok(self.shown(preview))
    }

    fn shown(self, preview: Preview) -> wire::Plan {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let waves = (0..).zip(&preview.waves).map(|(wave, of)| wire::PlannedWave {
            wave,
            soak_secs: of.soak_secs,
            manual_promotion: of.manual_promotion,
            hosts: of.hosts.iter().map(|host| self.host(&preview.rollout, host)).collect(),
        });
        let supersedes = preview.supersedes.iter();
        wire::Plan {
            schema: wire::SCHEMA,
            waves: waves.collect(),
            fleet: self.fleet,
            rollout: preview.rollout.to_string(),
            at: self.at,
            refreshes: preview.refreshes,
            supersedes: supersedes
                .map(|(id, state)| wire::Superseded {
                    id: id.to_string(),
                    state: wire::RolloutState::from(*state),
                })
                .collect(),
            signed: number(preview.signed),
            needed: number(preview.needed),
            quorum: self.quorum,
            left_out: preview.left_out.iter().map(ToString::to_string).collect(),
        }
    }

    fn host(&self, of: &RolloutId, host: &HostPreview) -> wire::PlannedHost {
        let said = host.current.as_ref().map(ToString::to_string);
        let current = if host.host.as_str() == self.me { self.running.clone().or(said) } else { said };
        wire::PlannedHost {
            host: host.host.to_string(),
            target: host.target.to_string(),
            on_target: current.as_deref() == Some(host.target.as_str()),
            current,
            online: match host.reach {
                Reach::Online => Some(true),
                Reach::Offline => Some(false),
                Reach::Unknown => None,
            },
            state: state(host.standing).map(wire::HostState::from),
            first: host.first,
            gates: host.held_by.iter().map(|blocked| explain::shown(blocked, of, &host.host)).collect(),
        }
    }
}

fn state(standing: Standing) -> Option<HostState> {
    match standing {
        Standing::Waiting => None,
        Standing::InFlight(state) => Some(state),
        Standing::Deferred { .. } => Some(HostState::Deferred),
        Standing::Converged => Some(HostState::Converged),
        Standing::Failed(Failure::Reverted) => Some(HostState::Reverted),
        Standing::Failed(_) => Some(HostState::Failed),
    }
}

/// What was released on a channel.
pub(super) fn channel(asked: &Asked<'_>, name: &str) -> Result<wire::Channel, Problem> {
    let ledger = asked.node.ledger();
    let unknown = || not_found(format_args!("the fleet has no channel {name:?}; see `muster status`"));
    let id: ChannelId = name.parse().map_err(|_| unknown())?;
    if ledger.documents().fleet().is_none_or(|fleet| !fleet.channels.contains_key(&id)) {
        return Err(unknown());
    }
    let refs = ledger.documents().refs(&id).rev().map(|held| wire::Released {
        r#ref: held.target_ref.to_string(),
        serial: held.serial,
        fleet_serial: held.fleet_serial,
        signed_at: held.signed_at,
        state: ledger.rollouts().get(&held.rollout_id()).map(|record| wire::RolloutState::from(record.state)),
        targets: held.targets.iter().map(|(host, closure)| (host.to_string(), closure.to_string())).collect(),
    });
    Ok(wire::Channel { schema: wire::SCHEMA, channel: name.to_owned(), refs: refs.collect() })
}
