//! When a quorum counts as lost: not at the first silence, and not while an agent that just started has heard nobody.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::occurrence::cut;
use super::{Event, Occurrence};
use crate::id::HostId;
use crate::time::{Mono, Now};

/// Watches whether enough coordinators are in reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumWatch {
    grace: Duration,
    lacking_since: Option<Now>,
}

impl QuorumWatch {
    /// A quorum that lacks for so long counts as lost.
    pub fn new(grace: Duration) -> Self {
        Self { grace, lacking_since: None }
    }

    /// Takes in how it is now; whether it counts as lost, and since when, or not as anything yet.
    pub fn seen(&mut self, now: Now, lacks: bool) -> Option<(bool, DateTime<Utc>)> {
        if !lacks {
            self.lacking_since = None;
            return Some((false, now.utc));
        }
        let since = *self.lacking_since.get_or_insert(now);
        (now.mono >= since.mono.after(self.grace)).then_some((true, since.utc))
    }

    /// When to look again though nothing has changed.
    pub fn wakes_at(&self) -> Option<Mono> {
        self.lacking_since.map(|since| since.mono.after(self.grace))
    }
}

/// What a host tells of its own quorum; others may see it otherwise, so its name is in the id.
pub fn quorum_changed(me: &HostId, lost: bool, since: DateTime<Utc>, reason: String) -> Occurrence {
    let event = if lost { Event::QuorumLost } else { Event::QuorumRestored };
    Occurrence {
        id: format!("{event}:seen:{me}:{}", since.timestamp_millis()),
        event,
        at: since,
        rollout: None,
        host: None,
        closure: None,
        reason: Some(cut(reason)),
    }
}
