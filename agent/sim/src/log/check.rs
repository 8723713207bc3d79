//! What must hold after every step, whatever happens to network, disks and processes.

use super::member::{App, Member};
use muster_core::coordination::log::{Entry, Log, MemberId, Membership, ProposalId, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen so far of a run, and must never be contradicted.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// Everything committed, by whoever applied it first.
    pub(super) committed: Vec<Entry>,
    /// What each of them led to.
    pub(super) apps: Vec<App>,
    pub(super) proposed: BTreeSet<Vec<u8>>,
    placed: BTreeMap<ProposalId, u64>,
    pub(super) leaders: BTreeMap<u64, MemberId>,
    /// The greatest term of a member at the time something was committed.
    committed_in_term: u64,
    /// Electorates that counted when the newest of them was committed.
    groups: Vec<Membership>,
    /// How often a state was installed.
    pub(super) installed: u64,
    /// A disk was put back in time and its member not replaced yet: fewer disks hold what was committed.
    pub(super) disk_missing: bool,
}

impl Checker {
    /// What the entries up to an index lead to.
    pub(super) fn app_at(&self, index: u64) -> Option<App> {
        if index == 0 {
            return Some(App::default());
        }
        self.apps.get(usize::try_from(index - 1).ok()?).copied()
    }

    /// One member goes on from a state.
    pub(super) fn install(&mut self, who: usize, index: u64, state: &[u8]) -> Result<App, String> {
        let app = App::of_state(state);
        if self.app_at(index) != Some(app) {
            return Err(format!("member {who} installs a state at {index} to which nothing led"));
        }
        self.installed += 1;
        Ok(app)
    }

    /// One member applies one entry.
    pub(super) fn applied(
        &mut self,
        members: &[Member],
        who: usize,
        index: u64,
        entry: &Entry,
    ) -> Result<(), String> {
        let before = members[who].app.applied;
        if index != before + 1 {
            return Err(format!("member {who} applies index {index} after {before}"));
        }
        let known = usize::try_from(before).ok().and_then(|position| self.committed.get(position));
        match known {
            Some(known) if known == entry => Ok(()),
            Some(known) => {
                Err(format!("member {who} applies {entry:?} at {index}, another applied {known:?}"))
            }
            None => self.first_applied(members, who, index, entry),
        }
    }

    fn first_applied(
        &mut self,
        members: &[Member],
        who: usize,
        index: u64,
        entry: &Entry,
    ) -> Result<(), String> {
        let group = a_quorum_that_holds(&groups_of(members), members, index, entry);
        if !self.disk_missing && group.is_none() {
            return Err(format!("member {who} applies index {index}, which too few disks hold"));
        }
        match &entry.id {
            None if entry.payload.is_empty() => {}
            Some(_) if self.proposed.contains(&entry.payload) => {}
            _ => return Err(format!("member {who} applies {entry:?}, which nobody proposed")),
        }
        if let Some(other) = entry.id.and_then(|id| self.placed.insert(id, index)) {
            return Err(format!("one proposal is applied at {index} and at {other}"));
        }
        let term = members[who].log.as_ref().map_or(0, Log::term);
        self.committed_in_term = self.committed_in_term.max(term);
        let mut app = self.apps.last().copied().unwrap_or_default();
        app.apply(index, entry);
        // The electorate that committed it may be undone by a crash: whoever follows still shares members with it.
        let stepped = entry.change.and_then(|step| self.groups.first().and_then(|group| group.after(step)));
        let by_log = stepped
            .or_else(|| self.groups.first().cloned())
            .unwrap_or_else(|| Membership::of_voters(members[who].config.electorate.clone()));
        self.groups = [Some(by_log), group].into_iter().flatten().collect();
        self.committed.push(entry.clone());
        self.apps.push(app);
        Ok(())
    }

    /// The state between two steps.
    pub(super) fn between_steps(&mut self, members: &[Member]) -> Result<(), String> {
        let index = self.committed.len() as u64;
        let held = |last: &Entry| {
            a_quorum_that_holds(&self.groups, members, index, last)
                .or_else(|| a_quorum_that_holds(&groups_of(members), members, index, last))
                .is_some()
        };
        if self.committed.last().is_some_and(|last| !self.disk_missing && !held(last)) {
            return Err(format!("too few disks still hold the committed index {index}"));
        }
        for (who, member) in members.iter().enumerate() {
            let Some(log) = member.log.as_ref().filter(|log| log.standing() == Standing::Leader) else {
                continue;
            };
            let known = self.leaders.get(&log.term()).copied();
            if known.is_some_and(|known| known != member.config.me) {
                return Err(format!("member {who} is the second leader of term {}", log.term()));
            }
            if known.is_none() {
                self.leaders.insert(log.term(), member.config.me);
                self.has_everything_committed(who, log)?;
            }
        }
        Ok(())
    }

    fn has_everything_committed(&self, who: usize, log: &Log) -> Result<(), String> {
        let index = self.committed.len() as u64;
        let complete = log.first_index() > index || log.entry(index) == self.committed.last();
        if log.term() > self.committed_in_term && !complete {
            let term = log.term();
            return Err(format!("member {who} leads term {term} without the committed index {index}"));
        }
        Ok(())
    }
}

/// The electorates that members know.
fn groups_of(members: &[Member]) -> Vec<Membership> {
    let logs = members.iter().filter_map(|member| member.log.as_ref());
    logs.flat_map(|log| [log.membership(), log.committed_membership()]).cloned().collect()
}

/// The electorate of which a quorum holds an entry on disk.
fn a_quorum_that_holds(
    groups: &[Membership],
    members: &[Member],
    index: u64,
    entry: &Entry,
) -> Option<Membership> {
    let holders: BTreeSet<MemberId> =
        members.iter().filter(|member| member.holds(index, entry)).map(|member| member.config.me).collect();
    let tolerance = members.first()?.config.tolerance;
    let held = |group: &&Membership| {
        group.voters.intersection(&holders).count() >= tolerance.quorum(group.voters.len())
    };
    groups.iter().find(held).cloned()
}
