//! What befalls a run: faults of network, processes and disks, and operators who change the electorate.

use super::member::Member;
use super::network::Shape;
use super::world::{World, member_id};
use muster_core::coordination::log::{Durable, Log, MemberId, Tolerance};
use std::collections::BTreeSet;

/// Ticks after which a disk that was put back without anybody noticing counts as none that matters.
const UNNOTICED_TICKS: u64 = 400;

impl World {
    /// One round of faults.
    pub(super) fn strike(&mut self) -> Result<(), String> {
        let scenario = self.scenario;
        self.propose_new()?;
        self.mend()?;
        if self.put_back.is_some() {
            return Ok(());
        }
        self.strike_group()?;
        if self.random.percent(scenario.partition) {
            let shape = Shape::ALL[usize::try_from(self.random.below(8)).unwrap_or(0)];
            let leader = self.leader();
            self.network.partition(&mut self.random, shape, leader);
        } else if self.random.percent(40) {
            self.network.heal();
        }
        if self.random.percent(scenario.crash) {
            let who = if self.random.percent(50) { self.leader() } else { None };
            let who = who.unwrap_or_else(|| self.any());
            self.crash(who)?;
        }
        if self.random.percent(scenario.majority_crash) {
            for _ in 0..=self.members.len() / 2 {
                let who = self.any();
                self.crash(who)?;
            }
        }
        if self.random.percent(scenario.pause) {
            let who = self.any();
            self.members[who].paused_until = self.tick + self.random.between(5, 200);
        }
        if self.random.percent(scenario.hand_over)
            && let Some(who) = self.leader()
        {
            self.act(who, Log::hand_over)?;
        }
        if self.random.percent(scenario.disconnect) {
            let (who, other) = (self.any(), self.any());
            let other = self.members[other].config.me;
            self.act(who, |log, now| log.disconnected(now, other))?;
        }
        Ok(())
    }

    /// Faults that need more than one member to be got over.
    fn strike_group(&mut self) -> Result<(), String> {
        let scenario = self.scenario;
        if self.random.percent(scenario.walk) {
            let mut ids: Vec<_> = self.members.iter().map(|member| member.config.me).collect();
            let count = self.random.between(1, 7.min(ids.len() as u64));
            let mut target = BTreeSet::new();
            while (target.len() as u64) < count {
                target.insert(ids.swap_remove(self.random.index(ids.len())));
            }
            self.aim_for(target)?;
        }
        for who in 0..self.members.len() {
            if self.random.percent(scenario.compact) {
                self.compact(who)?;
            }
        }
        if self.random.percent(scenario.full_disk) {
            let who = self.leader().unwrap_or_else(|| self.any());
            let can = self.random.percent(50);
            self.act(who, |log, now| log.can_write(now, can))?;
        }
        if self.random.percent(scenario.put_back) {
            self.put_back()?;
        }
        Ok(())
    }

    fn aim_for(&mut self, target: BTreeSet<MemberId>) -> Result<(), String> {
        self.target = target;
        for who in 0..self.members.len() {
            let target = self.target.clone();
            self.act(who, |log, now| log.aim_for(now, target))?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self, who: usize) -> Result<(), String> {
        let everybody = self.members.iter().map(|member| member.config.me).collect();
        self.members[who].start(self.tick, everybody);
        let target = self.target.clone();
        self.act(who, |log, now| log.aim_for(now, target))
    }

    fn compact(&mut self, who: usize) -> Result<(), String> {
        let applied = self.members[who].app.applied;
        let index = applied - self.random.below(applied.min(20) + 1);
        let long = self.random.percent(4);
        let len = self.random.between(16, if long { 700_000 } else { 64 });
        let Some(app) = self.checker.app_at(index) else { return Ok(()) };
        let state = app.to_state(usize::try_from(len).unwrap_or(16));
        self.act(who, |log, _| log.compact(index, state).unwrap_or_default())
    }

    /// A member comes back with what its disk held once, or with an empty one, in a group that is otherwise well.
    fn put_back(&mut self) -> Result<(), String> {
        let who = self.any();
        let voters = self.leader().and_then(|leader| self.members[leader].log.as_ref());
        let voters = voters.map(|log| log.committed_membership().voters.clone()).unwrap_or_default();
        let me = self.members[who].config.me;
        let well = self.members.iter().all(|member| {
            let log = member.log.as_ref();
            log.is_some_and(|log| !log.is_stopped()) && member.started_at + 200 < self.tick.max(200)
        });
        let lies = self.members[who].config.tolerance == Tolerance::Lies;
        if lies || voters.len() < 3 || voters != self.target || !voters.contains(&me) || !well {
            let backup = self.members[who].disk.clone();
            self.members[who].backup = backup;
            return Ok(());
        }
        self.network.heal();
        for member in &mut self.members {
            member.paused_until = 0;
        }
        self.crash(who)?;
        let wiped = self.random.percent(30);
        let backup = std::mem::take(&mut self.members[who].backup);
        let other_life = backup.hard_state.store != self.members[who].disk.hard_state.store;
        self.members[who].disk = if wiped || other_life { Durable::default() } else { backup };
        self.suspects.insert(me);
        self.put_back = Some((who, self.tick));
        self.checker.disk_missing = true;
        Ok(())
    }

    /// Operators readmit whose disk was put back, under a new id and with nothing on its disk.
    pub(super) fn mend(&mut self) -> Result<(), String> {
        let stopped = |it: &Member| {
            it.log.as_ref().is_some_and(Log::is_stopped) && self.suspects.contains(&it.config.me)
        };
        if self.put_back.is_none()
            && let Some(late) = self.members.iter().position(stopped)
        {
            self.put_back = Some((late, self.tick));
            self.checker.disk_missing = true;
        }
        let Some((who, since)) = self.put_back else { return Ok(()) };
        let stopped = self.members[who].log.as_ref().is_some_and(Log::is_stopped);
        let me = self.members[who].config.me;
        if !stopped {
            let settled = self.leader().and_then(|leader| self.members[leader].log.as_ref());
            let settled = settled.is_some_and(|log| log.committed_membership().voters == self.target);
            if settled && !self.suspects.contains(&me) || self.tick > since + UNNOTICED_TICKS {
                self.put_back = None;
                self.checker.disk_missing = false;
            }
            return Ok(());
        }
        let mut target = self.target.clone();
        target.remove(&me);
        self.members[who].log = None;
        self.members[who].held.clear();
        self.members[who].disk = Durable::default();
        self.members[who].config.me = member_id(self.ids);
        self.ids += 1;
        self.readmitted += 1;
        target.insert(self.members[who].config.me);
        self.members[who].restart_at = Some(self.tick + 1);
        let everybody: BTreeSet<_> = self.members.iter().map(|member| member.config.me).collect();
        for member in &mut self.members {
            if let Some(log) = &mut member.log {
                log.acquaint(everybody.clone());
            }
        }
        self.put_back = Some((who, self.tick));
        self.aim_for(target)
    }

    /// A crashed process closes its connections, which some of the others notice.
    fn crash(&mut self, who: usize) -> Result<(), String> {
        if self.members[who].log.is_none() {
            return Ok(());
        }
        self.members[who].crash(&mut self.random);
        self.members[who].restart_at = Some(self.tick + self.random.between(1, 120));
        self.members[who].paused_until = 0;
        let id = self.members[who].config.me;
        for other in 0..self.members.len() {
            if self.random.percent(50) {
                self.act(other, |log, now| log.disconnected(now, id))?;
            }
        }
        Ok(())
    }
}
