//! Raising the version of the reducer, once every coordinator has said that it knows it.

use chrono::TimeDelta;
use serde_bytes::ByteBuf;

use super::Node;
use crate::ledger::EntryError;
use crate::wire::LogStatement;

impl Node {
    /// How long what is over is kept.
    pub(super) fn retention(&self) -> TimeDelta {
        TimeDelta::from_std(self.settings.retention).unwrap_or(TimeDelta::MAX)
    }

    /// A program that is older than what the log asks for takes no part in it.
    pub(super) fn stop_under_newer_rules(&mut self) {
        let (wanted, known) = (self.ledger.rules(), self.settings.rules);
        if wanted > known
            && let Some(coordinator) = &mut self.coordinator
        {
            let error = EntryError::UnknownRules { wanted, known };
            let message = format!("this coordinator stops: {error}; upgrade the agent");
            coordinator.stopped = Some(message.clone());
        }
    }

    /// The entry that raises the rules by one, with what every coordinator signed about it; none before all have.
    pub(super) fn raise_rules(&self) -> Option<LogStatement> {
        let rules = self.ledger.rules().checked_add(1).filter(|rules| *rules <= self.settings.rules)?;
        let electorate = self.ledger.counting_fleet()?.electorate();
        let mut announced = Vec::with_capacity(electorate.members.len());
        for host in electorate.members.values() {
            let bytes = if *host == self.settings.host {
                self.own_presence.as_ref()?
            } else {
                let seen = self.presences.of(host)?;
                self.notices_held.get(host).filter(|_| seen.presence.rules >= rules)?
            };
            announced.push(ByteBuf::from(bytes.clone()));
        }
        Some(LogStatement::RulesRaised { rules, announced })
    }
}
