//! The pauses that stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Documents;
use crate::document::{Command, Held, Scope, Verb};
use crate::id::{ChannelId, HostId, RolloutId};

impl Documents {
    /// The pause that holds a host of a rollout back, if any.
    ///
    /// A resume lifts the earlier pauses of the scope that it names and no others: resuming a channel leaves a
    /// host paused that was paused by name.
    pub fn paused(
        &self,
        channel: &ChannelId,
        rollout: &RolloutId,
        host: &HostId,
        now: DateTime<Utc>,
    ) -> Option<(&Scope, &Arc<Held<Command>>)> {
        self.pauses(now).into_iter().find(|(scope, _)| scope.covers(channel, rollout, host))
    }

    /// The pauses that stand, by what they cover.
    pub fn pauses(&self, now: DateTime<Utc>) -> BTreeMap<&Scope, &Arc<Held<Command>>> {
        let mut pauses = BTreeMap::new();
        for command in self.commands_in_force(now) {
            match &command.document.verb {
                Verb::Pause(scope) => {
                    pauses.insert(scope, command);
                }
                Verb::Resume(scope) => {
                    pauses.remove(scope);
                }
                Verb::Cancel { .. }
                | Verb::Promote { .. }
                | Verb::ClearRollout { .. }
                | Verb::ClearClosure { .. }
                | Verb::Skip { .. }
                | Verb::Readmit { .. } => {}
            }
        }
        pauses
    }
}
