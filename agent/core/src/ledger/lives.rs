//! Coordinators whose store was lost or put back in time: by which command each takes part in the log again, and under
//! which id.
//!
//! The id is derived from the host's key and from the command, so that every coordinator knows it that holds both, and
//! nobody but the key's owner can speak under it.

use chrono::{DateTime, Utc};
use muster_signing::{Digest, PublicKey};

use super::Ledger;
use crate::coordination::log::{Life, MemberId};
use crate::document::{Command, Held, Verb};
use crate::id::HostId;

impl Ledger {
    /// The newest command that readmits a host and that the log adopted, and the entry that did.
    pub fn readmission(&self, host: &HostId) -> Option<(Digest, u64)> {
        let adopted = |command: &Held<Command>| self.adopted.readmissions.get(&command.hash).copied();
        self.readmissions(host).filter_map(|command| Some((command.hash, adopted(command)?))).last()
    }

    /// The newest command that readmits a host and that counts: for the log already, or for the operators of now.
    pub fn newest_readmission(&self, host: &HostId, now: DateTime<Utc>) -> Option<Digest> {
        let in_force = |hash: &Digest| self.documents.commands_in_force(now).any(|it| it.hash == *hash);
        let counts = |hash: &Digest| self.adopted.readmissions.contains_key(hash) || in_force(hash);
        self.readmissions(host).map(|command| command.hash).filter(counts).last()
    }

    /// The entry that adopted a command by which a coordinator was readmitted.
    pub fn readmitted_at(&self, command: &Digest) -> Option<u64> {
        self.adopted.readmissions.get(command).copied()
    }

    /// Behind which entry a coordinator of that life approves; none as long as the log has not readmitted it.
    pub fn approves_since(&self, life: Option<Digest>) -> Option<u64> {
        life.map_or(Some(0), |command| self.readmitted_at(&command))
    }

    /// Whether the operators gave the second command after the first.
    pub fn is_later_command(&self, first: &Digest, second: &Digest) -> bool {
        let place = |hash| self.documents.command(hash).map(|command| (command.serial, command.hash));
        place(first) < place(second)
    }

    /// Under which id a coordinator takes part by what the log adopted.
    pub fn member_of(&self, key: &PublicKey, host: &HostId) -> MemberId {
        let life = self.readmission(host).map(|(command, _)| Life(command.0));
        MemberId(*key.as_bytes()).in_life(life)
    }

    /// Whose key is behind an id.
    pub fn key_of_member(&self, member: &MemberId) -> Option<PublicKey> {
        let readmitted = self.lives.get(member).copied();
        readmitted.or_else(|| PublicKey::from_bytes(&member.0).ok())
    }

    /// The ids of every coordinator that was ever readmitted.
    pub fn readmitted_members(&self) -> impl Iterator<Item = &MemberId> {
        self.lives.keys()
    }

    fn readmissions<'a>(&'a self, host: &'a HostId) -> impl Iterator<Item = &'a Held<Command>> {
        // A recovery begins anew with whoever it names.
        let since = self.documents.last_recovery().map(|fleet| fleet.signed_at);
        let of_host = move |command: &&Held<Command>| {
            let is_later = since.is_none_or(|since| command.signed_at > since);
            is_later && matches!(&command.verb, Verb::Readmit { host: of } if of == host)
        };
        self.documents.commands().map(|command| &**command).filter(of_host)
    }

    /// Derives the ids again: a fleet document may tell another key, a command another life.
    pub(super) fn resolve_lives(&mut self) {
        let mut lives = std::mem::take(&mut self.lives);
        for command in self.documents.commands() {
            let Verb::Readmit { host } = &command.verb else { continue };
            let keys = self.documents.fleets().filter_map(|fleet| Some(fleet.hosts.get(host)?.key));
            lives
                .extend(keys.map(|key| (MemberId(*key.as_bytes()).in_life(Some(Life(command.hash.0))), key)));
        }
        self.lives = lives;
    }
}
