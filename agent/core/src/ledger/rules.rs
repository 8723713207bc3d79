//! Which version of the reducer the log asks for, and who has to know it before it does.

use muster_signing::PublicKey;
use serde_bytes::ByteBuf;

use super::{EntryError, Ledger};
use crate::id::HostId;
use crate::verify;
use crate::wire::{LogPayload, LogStatement, NoticeBody};

impl Ledger {
    /// The version of the reducer that the log asks for.
    pub fn rules(&self) -> u32 {
        self.rules
    }

    /// From now on entries of a newer version than this are refused; what was applied already stands.
    pub(crate) fn know_rules(&mut self, known: u32) {
        self.known_rules = known;
    }

    /// What an entry says under the rules that are in force; nothing, on every coordinator alike, if it claims others:
    /// they are raised by an entry that shows who knows them, and by no leader's word.
    pub(super) fn under_rules(
        &mut self,
        index: u64,
        payload: LogPayload,
    ) -> Result<Option<LogStatement>, EntryError> {
        if payload.rules != self.rules {
            let (got, wanted) = (payload.rules, self.rules);
            self.alarm(format!("log entry {index} is of rules {got}, and the log is at {wanted}"));
            return Ok(None);
        }
        let LogStatement::RulesRaised { rules, announced } = &payload.what else {
            return Ok(Some(payload.what));
        };
        if let Some(lacks) = self.not_announced(*rules, announced) {
            self.alarm(format!(
                "log entry {index} raises the rules to {rules}, which {lacks} did not announce"
            ));
            return Ok(None);
        }
        if *rules > self.known_rules {
            return Err(EntryError::UnknownRules { wanted: *rules, known: self.known_rules });
        }
        Ok(Some(payload.what))
    }

    /// The first coordinator of the fleet document that counts of which no signed heartbeat is shown that announces these
    /// rules.
    fn not_announced(&self, rules: u32, announced: &[ByteBuf]) -> Option<String> {
        let raises = self.rules.checked_add(1) == Some(rules);
        let Some(fleet) = self.adopted.fleet.and_then(|hash| self.documents.fleet_by_hash(&hash)) else {
            return Some("the log, which has no fleet document yet,".to_owned());
        };
        let electorate = fleet.electorate();
        let lacks = |(key, host): &(&PublicKey, &HostId)| {
            !raises || !announced.iter().any(|bytes| self.announces(bytes, key, host, rules))
        };
        electorate.members.iter().find(lacks).map(|(_, host)| host.to_string())
    }

    fn announces(&self, bytes: &[u8], key: &PublicKey, host: &HostId, rules: u32) -> bool {
        verify::notice_of(&self.fleet, key, bytes).is_ok_and(|notice| {
            notice.content.host == *host
                && notice.content.fleet == self.fleet
                && matches!(&notice.content.body, NoticeBody::Presence(presence) if presence.rules >= rules)
        })
    }
}
