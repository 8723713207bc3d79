//! Disks that are lost, put back in time or cloned.

use std::time::Duration;

use chrono::TimeDelta;
use muster_core::coordination::log::{Body, Message, Outcome};
use muster_core::id::HostId;
use muster_core::ledger::{self, Table, key};
use muster_core::node::CoordinatorMessage;
use muster_core::time::Mono;
use muster_core::wire::codec;
use muster_signing::Digest;

use super::World;
use crate::disk::Disk;
use crate::host::Host;

impl World {
    /// A host dies and finds another disk; its agent has yet to be started.
    pub(crate) fn replace_disk(&mut self, host: usize, disk: Disk) {
        self.kill_host(host, true);
        if disk.is_new() {
            let life = self.disk(host).row(Table::Meta, &key::meta("life"));
            let life = life.and_then(|life| codec::decode::<Digest>("life", life).ok());
            self.truth.bury(host, life);
        }
        self.stores[host] += 1;
        self.hosts[host].change_disk(disk);
        self.truth.disk_replaced(host, &self.hosts);
    }

    /// The hosts of the newest fleet document that can coordinate: those that are there, are honest and are one machine.
    pub(crate) fn able(&self) -> Vec<usize> {
        let Some(fleet) = self.truth.documents().fleet() else { return Vec::new() };
        let able = |host: &Host| {
            let is_there = fleet.hosts.contains_key(&host.name) && !host.is_gone;
            is_there && !host.lies() && !self.truth.is_twofold(&host.name)
        };
        let able: Vec<usize> =
            (0..self.fleet.names().len()).filter(|host| able(&self.hosts[*host])).collect();
        // Who has lost a disk may find that out as a coordinator, and take no part.
        let (sure, unsure) =
            able.into_iter().partition(|host| !self.truth.has_another_disk(&self.hosts[*host].name));
        let sure: Vec<usize> = sure;
        if sure.is_empty() { unsure } else { sure }
    }

    /// The coordinators that say that operators have to readmit them.
    pub(crate) fn awaiting_readmission(&self) -> Vec<HostId> {
        let names = self.fleet.names().len();
        let waits = self.hosts.iter().take(names).filter(|host| {
            !self.truth.is_twofold(&host.name)
                && host.node.as_ref().is_some_and(muster_core::node::Node::awaits_readmission)
        });
        waits.map(|host| host.name.clone()).collect()
    }

    /// A coordinator speaks: what it says binds it, so it must not be what it lost the memory of.
    pub(super) fn check_words(&mut self, host: usize, message: &CoordinatorMessage) {
        if !self.truth.has_buried(host) {
            return;
        }
        let said = match message {
            CoordinatorMessage::Endorsement(_) | CoordinatorMessage::Objection(_) => {
                let life = self.hosts[host].node.as_ref().and_then(muster_core::node::Node::life);
                self.truth.is_buried(host, life).then_some("judges a decision")
            }
            CoordinatorMessage::Log(bytes) => Message::decode(bytes).ok().and_then(|message| {
                let life = message.life.map(|life| Digest(life.0));
                let binds = match &message.body {
                    Body::VoteAnswer(ballot) if ballot.granted => "votes",
                    Body::Vote(_) => "stands for election",
                    Body::Append(_) => "leads",
                    Body::AppendAnswer(answer) if matches!(answer.outcome, Outcome::Stored { .. }) => {
                        "acknowledges entries"
                    }
                    Body::VoteAnswer(_)
                    | Body::AppendAnswer(_)
                    | Body::PreVote(_)
                    | Body::PreVoteAnswer(_)
                    | Body::Forward(_)
                    | Body::ForwardAnswer(_)
                    | Body::Snapshot(_)
                    | Body::SnapshotAnswer(_)
                    | Body::TimeoutNow(_) => return None,
                };
                self.truth.is_buried(host, life).then_some(binds)
            }),
        };
        if let Some(said) = said {
            let what = format!("{} lost its disk, was not readmitted, and {said}", self.hosts[host].name);
            self.truth.broken(7, what);
        }
    }

    /// The second machine of this run starts with the key and the disk of a host; none if there is none any more.
    pub(crate) fn clone_host(&mut self, of: usize) -> Option<()> {
        let names = self.fleet.names().len();
        let spare = (names..self.hosts.len()).find(|host| self.hosts[*host].is_dormant)?;
        let original = &self.hosts[of];
        original.node.as_ref()?;
        let (name, disk, running) =
            (original.name.clone(), original.disk.durable(), original.machine.running.clone());
        let clone = &mut self.hosts[spare];
        (clone.name, clone.is_dormant) = (name, false);
        clone.change_disk(disk);
        clone.machine.running = running;
        let name = self.hosts[of].name.clone();
        self.truth.cloned(of, &name, spare);
        self.start_host(spare);
        Some(())
    }
}

/// For stories.
impl World {
    /// The first safety property that did not hold.
    pub fn check(&self) -> Result<(), String> {
        self.truth.violation.as_ref().map_or(Ok(()), |violation| Err(format!("{violation:?}")))
    }

    /// From now on every write of a host fails, for so long.
    pub fn fill_disk(&mut self, host: &HostId, time: Duration) {
        if let Some(host) = self.number(host.as_str()) {
            self.hosts[host].full_disk_until = self.now + super::micros(time);
        }
    }

    /// The log's entries on a host's disk: how many there are, and the number of the last.
    pub fn entries_on_disk(&self, host: &str) -> (usize, u64) {
        let Some(host) = self.number(host) else { return (0, 0) };
        let numbers =
            self.hosts[host].disk.of(Table::Log).filter_map(|(key, _)| key.as_slice().try_into().ok());
        let numbers: Vec<u64> = numbers.map(u64::from_be_bytes).collect();
        (numbers.len(), numbers.into_iter().max().unwrap_or_default())
    }

    /// How often a coordinator took a snapshot in place of entries, in the whole fleet.
    pub fn installed(&self) -> u64 {
        self.truth.installed
    }

    /// From now on every write of a host takes long, for so long.
    pub fn slow_disk(&mut self, host: &HostId, time: Duration) {
        if let Some(host) = self.number(host.as_str()) {
            self.hosts[host].slow_disk_until = self.now + super::micros(time);
        }
    }

    /// A host's wall clock jumps.
    pub fn turn_clock(&mut self, host: &HostId, by: TimeDelta) {
        let now = self.now;
        if let Some(host) = self.number(host.as_str()) {
            self.hosts[host].turn_clock(by, now);
        }
    }

    /// From which arrival a replay of a host's disk goes on, and which is the first that is there.
    pub fn kept_from(&self, host: &str) -> (u64, u64) {
        let Some(disk) = self.number(host).map(|host| self.disk(host)) else { return (0, 0) };
        let first = disk.of(Table::Arrivals).next().and_then(|(key, _)| key.as_slice().try_into().ok());
        let base = ledger::base(disk).unwrap_or(0);
        (base, first.map_or(base, u64::from_be_bytes))
    }

    /// What a host's own clock says that never jumps.
    pub fn mono(&self, host: &str) -> Mono {
        self.number(host).map_or(Mono::default(), |host| self.hosts[host].now(self.now).mono)
    }

    /// Keeps a copy of a host's disk, to put it back later.
    pub fn keep_disk(&mut self, host: &HostId) {
        if let Some(host) = self.number(host.as_str()) {
            self.kept = Some((host, self.disk(host).durable()));
        }
    }

    /// Stops the host whose disk was kept, puts the copy into it and starts it again.
    pub fn put_disk_back(&mut self) {
        if let Some((host, disk)) = self.kept.take() {
            self.replace_disk(host, disk);
            self.start_host(host);
        }
    }

    /// Starts a host again with an empty disk.
    pub fn lose_disk(&mut self, host: &HostId) {
        if let Some(host) = self.number(host.as_str()) {
            self.replace_disk(host, Disk::default());
            self.start_host(host);
        }
    }

    /// Starts a second machine with the key and the disk of a host.
    pub fn clone_machine(&mut self, of: &HostId) {
        if let Some(of) = self.number(of.as_str()) {
            let _ = self.clone_host(of);
        }
    }
}
