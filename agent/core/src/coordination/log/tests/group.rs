//! Members with disks that take no time, and a network that the test delivers by hand.

use crate::coordination::log::{
    Alarm, Append, Body, Config, Durable, Entry, Log, MemberId, Message, Operation, Ready, Standing,
};
use crate::time::{Mono, Now};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::VecDeque;

pub(super) const EPOCH: [u8; 32] = [9; 32];

pub(super) fn id(number: usize) -> MemberId {
    MemberId([u8::try_from(number + 1).unwrap(); 32])
}

pub(super) fn at(millis: u64) -> Now {
    let utc = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(millis).unwrap());
    Now { utc, mono: Mono(millis * 1000) }
}

/// A few members, their disks, and what is on its way between them.
pub(super) struct Group {
    pub(super) logs: Vec<Log>,
    pub(super) disks: Vec<Durable>,
    pub(super) committed: Vec<Vec<Entry>>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) on_the_way: VecDeque<(usize, usize, Message)>,
    pub(super) millis: u64,
}

impl Group {
    pub(super) fn new(count: usize) -> Self {
        let disks = vec![Durable::default(); count];
        let logs = (0..count).map(|who| Log::new(config(count, who), Durable::default(), Mono(0))).collect();
        let committed = vec![Vec::new(); count];
        let mut group =
            Self { logs, disks, committed, alarms: Vec::new(), on_the_way: VecDeque::new(), millis: 0 };
        (0..count).for_each(|who| group.tick(who));
        group
    }

    /// A group whose first member leads and whose entries are all committed everywhere.
    pub(super) fn led_by_first(count: usize) -> Self {
        let mut group = Self::new(count);
        group.elect(0);
        group
    }

    pub(super) fn now(&self) -> Now {
        at(self.millis)
    }

    pub(super) fn take(&mut self, who: usize, ready: Ready) {
        let now = self.now();
        self.alarms.extend(ready.alarms);
        self.committed[who].extend(ready.committed.into_iter().map(|(_, entry)| entry));
        for (to, message) in ready.messages {
            // A snapshot that a liar made up may name members whom the test does not have.
            let Some(to) = (0..self.logs.len()).find(|other| id(*other) == to) else { continue };
            self.on_the_way.push_back((who, to, message));
        }
        if let Some(write) = ready.write {
            write.operations.iter().for_each(|operation| store(&mut self.disks[who], operation));
            let ready = self.logs[who].stored(now, write.id);
            self.take(who, ready);
        }
    }

    pub(super) fn tick(&mut self, who: usize) {
        let now = self.now();
        let ready = self.logs[who].tick(now);
        self.take(who, ready);
    }

    pub(super) fn handle(&mut self, who: usize, from: usize, message: Message) {
        let now = self.now();
        let ready = self.logs[who].handle(now, id(from), Message { to: id(who), ..message });
        self.take(who, ready);
    }

    /// Delivers all that is on its way, and what it causes, except from and to these.
    pub(super) fn deliver_without(&mut self, cut_off: &[usize]) {
        while let Some((from, to, message)) = self.on_the_way.pop_front() {
            if !cut_off.contains(&from) && !cut_off.contains(&to) {
                self.handle(to, from, message);
            }
        }
    }

    pub(super) fn deliver(&mut self) {
        self.deliver_without(&[]);
    }

    /// Waits long enough for everybody to forget its leader, then lets one member stand.
    pub(super) fn elect_without(&mut self, who: usize, cut_off: &[usize]) {
        self.millis += 2_000;
        self.tick(who);
        self.deliver_without(cut_off);
        self.tick(who);
        self.deliver_without(cut_off);
    }

    pub(super) fn elect(&mut self, who: usize) {
        self.elect_without(who, &[]);
        assert_eq!(self.logs[who].standing(), Standing::Leader, "the member is elected");
    }

    pub(super) fn propose(&mut self, who: usize, payload: &[u8]) {
        let now = self.now();
        let (_, ready) = self.logs[who].propose(now, vec![payload.to_vec()]).unwrap();
        self.take(who, ready);
    }

    pub(super) fn restart(&mut self, who: usize) {
        self.logs[who] =
            Log::new(config(self.logs.len(), who), self.disks[who].clone(), Mono(self.millis * 1000));
        self.committed[who].clear();
        self.tick(who);
    }

    pub(super) fn payloads(&self, who: usize) -> Vec<&[u8]> {
        self.committed[who].iter().map(|entry| entry.payload.as_slice()).filter(|it| !it.is_empty()).collect()
    }

    /// A message as member `from` would send it, with nothing remembered of the receiver.
    pub(super) fn message(&self, from: usize, term: u64, body: Body) -> Message {
        let hard = self.disks[from].hard_state;
        Message {
            body,
            boot: hard.boot,
            echo: None,
            term,
            epoch: EPOCH,
            store: hard.store,
            to: id(0),
            life: None,
        }
    }

    /// The body of an Append that follows the receiver's entry at `prev_index`.
    pub(super) fn append_after(&self, who: usize, prev_index: u64, entries: Vec<Entry>) -> Append {
        let before = self.logs[who].entry(prev_index);
        Append {
            sent: 0,
            commit: 0,
            entries,
            prev_hash: before.map_or(EPOCH, |entry| entry.chain_hash),
            prev_term: before.map_or(0, |entry| entry.term),
            signature: None,
            prev_index,
            round_trip: 0,
        }
    }
}

pub(super) fn config(count: usize, who: usize) -> Config {
    Config::new(id(who), (0..count).map(id).collect(), EPOCH, 1)
}

pub(super) fn store(disk: &mut Durable, operation: &Operation) {
    match operation {
        Operation::HardState(hard) => disk.hard_state = *hard,
        Operation::Append { index, entry } => disk.entries.push((*index, entry.clone())),
        Operation::CutFrom(index) => disk.entries.retain(|(at, _)| at < index),
        Operation::Compact(snapshot) => {
            disk.entries.retain(|(at, _)| *at > snapshot.index);
            disk.snapshot = Some((**snapshot).clone());
        }
        Operation::Install(snapshot) => {
            disk.entries.clear();
            disk.snapshot = Some((**snapshot).clone());
        }
    }
}
