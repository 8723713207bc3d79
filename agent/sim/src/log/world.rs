//! A whole electorate in virtual time: members, disks, network, faults. A tick is 10 ms.

use super::check::Checker;
use super::member::Member;
use super::network::{Network, Parcel, Weather};
use crate::random::Random;
use chrono::{DateTime, TimeDelta, Utc};
use muster_core::coordination::log::{
    Alarm, Config, Entry, Log, MemberId, Message, Ready, Standing, Tolerance,
};
use muster_core::time::Now;
use std::collections::BTreeSet;

/// Ticks until everything must be committed everywhere once the faults stop.
const RECOVERY_TICKS: u64 = 6_000;
/// Messages that one link may carry in a second, both directions; a storm carries far more.
const MESSAGES_PER_LINK_AND_SECOND_MAX: u64 = 400;

/// Ticks that a hunted leader has: some of them replicate part of what they inherited.
const HUNT_TICKS_MAX: u64 = 12;

/// What happens to a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// How it is asked for.
    pub(super) name: &'static str,
    /// How many members the group begins with, from the least to the most.
    pub(super) members: (u64, u64),
    /// Machines that may become members beside the first.
    pub(super) spares: u64,
    /// For how many ticks faults strike.
    pub(super) fault_ticks: u64,
    /// Ticks between two faults, at most.
    pub(super) pace: u64,
    /// The most messages that are lost.
    pub(super) loss_percent_max: u64,
    /// The longest way of a message.
    pub(super) delay_ticks_max: u64,
    /// The longest that a write takes.
    pub(super) write_ticks_max: u64,
    /// The most entries in one message.
    pub(super) batch_max: u64,
    /// Proposals at once.
    pub(super) burst_max: u64,
    /// How likely each fault is when one strikes, in percent.
    pub(super) partition: u64,
    pub(super) crash: u64,
    pub(super) majority_crash: u64,
    pub(super) pause: u64,
    pub(super) hand_over: u64,
    pub(super) disconnect: u64,
    pub(super) walk: u64,
    pub(super) compact: u64,
    pub(super) full_disk: u64,
    pub(super) put_back: u64,
    /// Each leader is struck soon after its election.
    pub(super) hunt: bool,
}

/// One run.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) random: Random,
    pub(super) members: Vec<Member>,
    pub(super) network: Network,
    pub(super) checker: Checker,
    pub(super) tick: u64,
    /// Whether messages go through their encoded form.
    encoded: bool,
    /// Whether entries are applied without waiting for the step's own write; they are durable by themselves.
    applies_at_once: bool,
    next_payload: u64,
    next_fault: u64,
    sent_by: (u64, u64),
    /// The voters that the operators want.
    pub(super) target: BTreeSet<MemberId>,
    /// The member whose disk was put back, and since when.
    pub(super) put_back: Option<(usize, u64)>,
    /// Every id whose disk ever was.
    pub(super) suspects: BTreeSet<MemberId>,
    pub(super) ids: usize,
    pub(super) readmitted: usize,
    /// Ticks that it took after the faults until everything was committed on every voter.
    pub(super) recovery: Option<u64>,
    pub(super) send_before_store: bool,
}

impl World {
    pub(super) fn new(scenario: Scenario, seed: u64, adjust: impl Fn(&mut Config)) -> Self {
        let mut random = Random::new(seed);
        let count = usize::try_from(random.between(scenario.members.0, scenario.members.1)).unwrap_or(1);
        let spares = usize::try_from(random.between(0, scenario.spares)).unwrap_or(0);
        let ids: Vec<MemberId> = (0..count + spares).map(member_id).collect();
        let electorate: BTreeSet<MemberId> = ids.iter().take(count).copied().collect();
        let batch = usize::try_from(random.between(1, scenario.batch_max)).unwrap_or(1);
        let lies = count >= 4 && random.percent(20);
        let member = |id: &MemberId| {
            let mut config = Config::new(*id, electorate.clone(), [7; 32], seed);
            config.batch_entries_max = batch;
            if lies {
                config.tolerance = Tolerance::Lies;
            }
            adjust(&mut config);
            Member::new(config)
        };
        let members = ids.iter().map(member).collect();
        let mut network = Network::new(ids.len());
        network.weather = Weather {
            loss_percent: random.between(0, scenario.loss_percent_max),
            double_percent: 20,
            delay_ticks_max: random.between(1, scenario.delay_ticks_max),
        };
        Self {
            scenario,
            random,
            members,
            network,
            checker: Checker::default(),
            tick: 0,
            encoded: seed.is_multiple_of(8),
            applies_at_once: !seed.is_multiple_of(2),
            next_payload: 0,
            next_fault: 0,
            sent_by: (0, 0),
            target: electorate,
            put_back: None,
            suspects: BTreeSet::new(),
            ids: ids.len(),
            readmitted: 0,
            recovery: None,
            send_before_store: false,
        }
    }

    /// Faults first, then calm, in which everything proposed must get committed on every member.
    pub(super) fn run(&mut self) -> Result<(), String> {
        while self.tick < self.scenario.fault_ticks {
            let leaders = self.checker.leaders.len();
            self.step(self.scenario.fault_ticks)?;
            if self.scenario.hunt && self.checker.leaders.len() > leaders {
                self.next_fault = self.tick + self.random.between(0, HUNT_TICKS_MAX);
            }
            if self.tick >= self.next_fault {
                self.next_fault = self.tick + self.random.between(1, self.scenario.pace);
                self.strike()?;
            }
        }
        self.calm()?;
        let (begun, end) = (self.tick, self.tick + RECOVERY_TICKS);
        while self.tick < end {
            let until = (self.tick + 25).min(end);
            while self.tick < until {
                self.step(until)?;
                if self.recovery.is_none() && self.is_complete() {
                    self.recovery = Some(self.tick - begun);
                }
            }
            self.mend()?;
            if self.is_complete() {
                self.recovery.get_or_insert(self.tick - begun);
                return Ok(());
            }
            self.recovery = None;
            self.propose_missing()?;
        }
        Err(format!(
            "not everything is committed {RECOVERY_TICKS} ticks after the faults: {}",
            self.summary()
        ))
    }

    fn calm(&mut self) -> Result<(), String> {
        self.network.heal();
        let loss_percent = self.random.between(0, 10);
        self.network.weather = Weather { loss_percent, ..Weather::CALM };
        for who in 0..self.members.len() {
            self.members[who].paused_until = 0;
            if self.members[who].log.is_none() && self.members[who].restart_at.is_none() {
                self.members[who].restart_at = Some(self.tick + 1);
            }
            self.act(who, |log, now| log.can_write(now, true))?;
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        let committed: BTreeSet<_> = self.checker.committed.iter().map(|entry| &entry.payload).collect();
        let length = self.checker.committed.len() as u64;
        let there = |id: &MemberId| {
            let member = self.members.iter().find(|member| member.config.me == *id);
            member.is_some_and(|it| {
                let group = it.log.as_ref().map(|log| &log.committed_membership().voters);
                group == Some(&self.target) && it.app.applied == length
            })
        };
        self.checker.proposed.iter().all(|payload| committed.contains(payload))
            && self.put_back.is_none()
            && self.target.iter().all(there)
    }

    pub(super) fn summary(&self) -> String {
        let member = |member: &Member| match &member.log {
            None => "down".to_owned(),
            Some(log) => format!(
                "{:?} {:?}{} term {} leader {:?} log {} commit {} applied {}",
                member.config.me,
                log.standing(),
                if log.is_stopped() { " stopped" } else { "" },
                log.term(),
                log.leader(),
                log.last_index(),
                log.commit(),
                member.app.applied
            ),
        };
        let members = self.members.iter().map(member).collect::<Vec<_>>().join("; ");
        format!("{members}; wanted {:?}", self.target)
    }

    /// Goes on to the next moment at which anything happens.
    pub(super) fn step(&mut self, end: u64) -> Result<(), String> {
        self.tick = self.next_moment().clamp(self.tick + 1, end.max(self.tick + 1));
        for who in 0..self.members.len() {
            if self.members[who].restart_at.is_some_and(|at| at <= self.tick) {
                self.start(who)?;
            }
        }
        for parcel in self.network.arrivals(self.tick) {
            self.deliver(parcel)?;
        }
        for who in 0..self.members.len() {
            if self.members[who].wakes_at().is_some_and(|at| at <= self.tick) {
                self.act(who, Log::tick)?;
            }
            self.flush(who)?;
        }
        self.checker.between_steps(&self.members)?;
        self.no_storm()
    }

    fn next_moment(&self) -> u64 {
        let of_member = |member: &Member| {
            let held = member.held.front().map(|held| held.due);
            [member.wakes_at(), held, member.restart_at].into_iter().flatten().min()
        };
        let of_members = self.members.iter().filter_map(of_member).min();
        let own = (self.tick < self.scenario.fault_ticks).then_some(self.next_fault);
        [of_members, self.network.next_arrival(), own].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn no_storm(&mut self) -> Result<(), String> {
        let second = self.tick / 100;
        if second != self.sent_by.0 {
            self.sent_by = (second, self.network.sent);
        }
        let count = self.members.len() as u64;
        let limit = count * count * MESSAGES_PER_LINK_AND_SECOND_MAX;
        let sent = self.network.sent - self.sent_by.1;
        if sent > limit { Err(format!("{sent} messages in one second: a storm")) } else { Ok(()) }
    }

    fn deliver(&mut self, parcel: Parcel) -> Result<(), String> {
        let paused_until = self.members[parcel.to].paused_until;
        if paused_until > self.tick {
            self.network.redeliver(paused_until, parcel);
            return Ok(());
        }
        let (from, to) = parcel.ids;
        if self.members[parcel.to].config.me != to {
            return Ok(());
        }
        let message = if self.encoded {
            Message::decode(&parcel.message.encode()).map_err(|error| error.to_string())?
        } else {
            parcel.message
        };
        self.act(parcel.to, |log, now| log.handle(now, from, message))
    }

    /// Lets one member do something, if it is up, and takes over what it asks for.
    pub(super) fn act(
        &mut self,
        who: usize,
        action: impl FnOnce(&mut Log, Now) -> Ready,
    ) -> Result<(), String> {
        let now = self.now(who);
        let Some(log) = self.members[who].log.as_mut() else { return Ok(()) };
        let mut ready = action(log, now);
        let known = |alarm: &&Alarm| matches!(alarm, Alarm::DiskPutBack { member, .. } if self.suspects.contains(member));
        if let Some(alarm) = ready.alarms.iter().find(|alarm| !known(alarm)) {
            return Err(format!("member {who} alarms without reason: {alarm:?}"));
        }
        if ready.is_empty() {
            return Ok(());
        }
        if self.send_before_store {
            let messages = std::mem::take(&mut ready.messages);
            self.send(who, messages);
        }
        if self.applies_at_once {
            let committed = std::mem::take(&mut ready.committed);
            self.apply(who, committed)?;
        }
        let due = self.tick + self.random.between(0, self.scenario.write_ticks_max);
        self.members[who].hold(ready, due);
        self.flush(who)
    }

    fn now(&self, who: usize) -> Now {
        let utc =
            DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(self.tick * 10).unwrap_or(0));
        // Wall clocks differ, and not even by a constant.
        let skew = TimeDelta::milliseconds(
            i64::try_from((who as u64 * 7_919 + self.tick * 13) % 4_001).unwrap_or(0),
        );
        Now { utc: utc + skew, mono: self.members[who].mono(self.tick) }
    }

    /// Store, then send, then apply, in the order of the steps.
    fn flush(&mut self, who: usize) -> Result<(), String> {
        loop {
            let member = &mut self.members[who];
            if member.paused_until > self.tick || member.held.front().is_none_or(|held| held.due > self.tick)
            {
                return Ok(());
            }
            let Some(held) = member.held.pop_front() else { return Ok(()) };
            if let Some(write) = &held.write {
                write.operations.iter().for_each(|operation| member.store(operation));
            }
            self.send(who, held.messages);
            if let Some(snapshot) = held.installed {
                self.members[who].app = self.checker.install(who, snapshot.index, &snapshot.state)?;
            }
            self.apply(who, held.committed)?;
            if let Some(write) = held.write {
                self.act(who, |log, now| log.stored(now, write.id))?;
            }
        }
    }

    fn apply(&mut self, who: usize, committed: Vec<(u64, Entry)>) -> Result<(), String> {
        for (index, entry) in committed {
            self.checker.applied(&self.members, who, index, &entry)?;
            self.members[who].app.apply(index, &entry);
        }
        Ok(())
    }

    fn send(&mut self, who: usize, messages: Vec<(MemberId, Message)>) {
        for (to, message) in messages {
            let Some(to) = self.members.iter().position(|member| member.config.me == to) else { continue };
            let ids = (self.members[who].config.me, self.members[to].config.me);
            self.network.send(&mut self.random, self.tick, Parcel { from: who, to, ids, message });
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| {
            member.log.as_ref().filter(|log| log.standing() == Standing::Leader).map(Log::term)
        };
        (0..self.members.len())
            .filter(|who| leads(&self.members[*who]).is_some())
            .max_by_key(|who| leads(&self.members[*who]))
    }

    pub(super) fn any(&mut self) -> usize {
        usize::try_from(self.random.below(self.members.len() as u64)).unwrap_or(0)
    }

    pub(super) fn propose_new(&mut self) -> Result<(), String> {
        let leader = if self.scenario.hunt { self.leader() } else { None };
        let who = leader.unwrap_or_else(|| self.any());
        let count = self.random.between(0, self.scenario.burst_max);
        let payloads: Vec<Vec<u8>> =
            (0..count).map(|offset| (self.next_payload + offset).to_be_bytes().to_vec()).collect();
        self.next_payload += count;
        self.propose(who, payloads)
    }

    /// What is proposed counts even if it is refused: the recovery proposes it again.
    fn propose(&mut self, who: usize, payloads: Vec<Vec<u8>>) -> Result<(), String> {
        self.checker.proposed.extend(payloads.iter().cloned());
        self.act(who, |log, now| log.forward(now, payloads).map(|(_, ready)| ready).unwrap_or_default())
    }

    pub(super) fn propose_one(&mut self, who: usize) -> Result<(), String> {
        self.next_payload += 1;
        self.propose(who, vec![self.next_payload.to_be_bytes().to_vec()])
    }

    /// As the planner does, the leader proposes again what it finds missing.
    pub(super) fn propose_missing(&mut self) -> Result<(), String> {
        let Some(who) = self.leader() else { return Ok(()) };
        let Some(log) = self.members[who].log.as_ref() else { return Ok(()) };
        let own = (log.first_index()..=log.last_index()).filter_map(|index| log.entry(index));
        let gone = usize::try_from(log.first_index() - 1).unwrap_or(usize::MAX);
        let held: BTreeSet<_> =
            own.chain(self.checker.committed.iter().take(gone)).map(|it| &it.payload).collect();
        let missing: Vec<_> =
            self.checker.proposed.iter().filter(|it| !held.contains(it)).take(256).cloned().collect();
        self.propose(who, missing)
    }
}

pub(super) fn member_id(number: usize) -> MemberId {
    let mut key = [0; 32];
    key[0] = u8::try_from(number + 1).unwrap_or(u8::MAX);
    MemberId(key)
}
