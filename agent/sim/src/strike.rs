//! Faults that strike at a moment: agents that die, networks that break, machines that reboot, clocks that jump.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use muster_core::node::{Input, Node};

use crate::disk::Disk;
use crate::fault::Fault;
use crate::host::Host;
use crate::random::Random;
use crate::world::World;

/// The kinds that strike at a moment; the others come with messages, writes, switches and operators.
const KINDS: [Fault; 38] = [
    Fault::Deaf,
    Fault::PartitionClean,
    Fault::PartitionOneWay,
    Fault::PartitionBridge,
    Fault::PartitionRing,
    Fault::PartitionMinority,
    Fault::PartitionSingle,
    Fault::PartitionLeader,
    Fault::PartitionFlapping,
    Fault::Crash,
    Fault::CrashLeader,
    Fault::CrashMajority,
    Fault::PowerCut,
    Fault::CrashInWrite,
    Fault::LostWrite,
    Fault::CrashInRecovery,
    Fault::Stop,
    Fault::Pause,
    Fault::SlowHost,
    Fault::SlowDisk,
    Fault::FullDisk,
    Fault::Reboot,
    Fault::BlindBackend,
    Fault::ProbesSilent,
    Fault::Drift,
    Fault::JumpAhead,
    Fault::JumpBack,
    Fault::SilentLink,
    Fault::DiskLost,
    Fault::DiskPutBack,
    Fault::Cloned,
    Fault::Upgrade,
    Fault::CoordinatorDiskLost,
    Fault::CoordinatorDiskPutBack,
    Fault::CoordinatorCloned,
    Fault::DisksLostTogether,
    Fault::PairLost,
    Fault::QuorumLost,
];

/// Those for which there is seldom an occasion: every coordinator has to be well.
const SELDOM: [Fault; 4] =
    [Fault::CoordinatorDiskLost, Fault::CoordinatorDiskPutBack, Fault::CoordinatorCloned, Fault::PairLost];

/// What a fault still has to do.
#[derive(Debug, Clone)]
enum Later {
    Heal,
    Cut { shape: Fault, apart: Vec<usize>, again: u64 },
    Kill(usize),
    ClockBack(usize, TimeDelta),
    PutBack(usize, Box<Disk>),
    PutBackCoordinator(usize, Box<Disk>, u64),
}

/// Deals out the faults that strike at a moment.
#[derive(Debug)]
pub(crate) struct Striker {
    random: Random,
    later: BTreeMap<(u64, u64), Later>,
    count: u64,
}

impl Striker {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, later: BTreeMap::new(), count: 0 }
    }

    /// When something that began has to go on.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.later.keys().next().map(|(at, _)| *at)
    }

    /// Goes on with what is due.
    pub(crate) fn go_on(&mut self, world: &mut World) {
        while self.next_due().is_some_and(|at| at <= world.now) {
            let Some((_, later)) = self.later.pop_first() else { return };
            match later {
                Later::Heal => self.reshape(world, None),
                Later::Cut { shape, apart, again } => {
                    self.reshape(world, Some((shape, &apart)));
                    let heals = Duration::from_secs(self.random.between(2, 6));
                    self.after(world, heals, Later::Heal);
                    if again > 0 {
                        let gap = Duration::from_secs(self.random.between(7, 12));
                        self.after(world, gap, Later::Cut { shape, apart, again: again - 1 });
                    }
                }
                // It may have become a coordinator meanwhile, by a recovery of which the copy knows nothing.
                Later::PutBack(host, _) if world.coordinators.contains(&host) => {}
                Later::PutBack(host, disk) => {
                    world.replace_disk(host, *disk);
                    world.start_later(host, Duration::from_millis(self.random.between(50, 20_000)));
                }
                Later::PutBackCoordinator(host, disk, store) => {
                    // Of another store than the one that is lost now, no copy can be put back.
                    if may_lose(world, host) && world.stores[host] == store {
                        world.replace_disk(host, *disk);
                        world.start_later(host, Duration::from_millis(self.random.between(50, 20_000)));
                    }
                }
                Later::Kill(host) => world.kill_host(host, true),
                Later::ClockBack(host, by) => {
                    world.hosts[host].turn_clock(-by, world.now);
                }
            }
        }
    }

    /// Strikes once.
    pub(crate) fn strike(&mut self, world: &mut World) {
        let drawn = |kind: &Fault| world.faults.strength(*kind) > 0;
        let kinds: Vec<Fault> = KINDS.into_iter().filter(drawn).collect();
        let seldom: Vec<Fault> = SELDOM.into_iter().filter(drawn).collect();
        let there = !seldom.is_empty() && self.random.percent(10) && may_lose(world, world.coordinators[0]);
        let Some(kind) = self.random.pick(if there { &seldom } else { &kinds }).copied() else { return };
        let strength = world.faults.strength(kind);
        if self.random.below(100) < strength.max(20) && self.carry_out(world, kind).is_some() {
            world.faults.hit(kind);
            let now = world.now;
            world.trace.line(now, "****", || format!("{}: {}", kind.name(), kind.what()));
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other kinds befall machines, clocks and networks"
    )]
    fn carry_out(&mut self, world: &mut World, kind: Fault) -> Option<()> {
        let host = self.random.index(world.hosts.len());
        let until = world.now + self.random.between(2, 120) * 1_000_000;
        match kind {
            Fault::Crash => self.crash(world, host),
            Fault::CrashLeader => {
                let leader = world.leader_number()?;
                self.crash(world, leader)
            }
            Fault::CrashMajority => {
                for seat in 0..=world.coordinators.len() / 2 {
                    let _ = self.crash(world, world.coordinators[seat]);
                }
                Some(())
            }
            Fault::PowerCut => {
                for host in 0..world.hosts.len() {
                    let _ = self.reboot(world, host);
                }
                Some(())
            }
            Fault::CrashInWrite | Fault::LostWrite => {
                let writing: Vec<usize> =
                    world.up().filter(|host| !world.disk(*host).writes.is_empty()).collect();
                let host = *self.random.pick(&writing)?;
                // The kill itself says what it cut off.
                self.crash(world, host)
            }
            Fault::CrashInRecovery => {
                self.crash(world, host)?;
                let again = Duration::from_millis(self.random.below(12));
                world.start_later(host, Duration::from_millis(50));
                self.after(world, Duration::from_millis(50) + again, Later::Kill(host));
                world.start_later(host, Duration::from_millis(500));
                Some(())
            }
            Fault::Stop => {
                world.hosts[host].node.as_ref()?;
                world.step(host, Input::Stopping);
                self.after(world, Duration::from_millis(100), Later::Kill(host));
                world.start_later(host, Duration::from_millis(self.random.between(200, 20_000)));
                Some(())
            }
            Fault::Pause => self.set(&mut world.hosts[host].paused_until, until),
            Fault::SlowHost => self.set(&mut world.hosts[host].slow_until, until),
            Fault::SlowDisk => self.set(&mut world.hosts[host].slow_disk_until, until),
            Fault::FullDisk => self.set(&mut world.hosts[host].full_disk_until, until),
            Fault::Deaf => self.set(&mut world.hosts[host].deaf_until, until),
            Fault::BlindBackend => self.set(&mut world.hosts[host].machine.blind_until, until),
            Fault::ProbesSilent => self.set(&mut world.hosts[host].machine.silent_until, until),
            _ => self.strike_machine(world, kind, host),
        }
    }

    /// What befalls a machine, its disk or its program.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds befall clocks and networks")]
    fn strike_machine(&mut self, world: &mut World, kind: Fault, host: usize) -> Option<()> {
        match kind {
            Fault::Reboot => self.reboot(world, host),
            Fault::Upgrade => {
                self.crash(world, host)?;
                world.hosts[host].rules += 1;
                Some(())
            }
            Fault::DiskLost => {
                let host = self.plain_host(world)?;
                self.lose_disk(world, host)
            }
            Fault::DisksLostTogether => {
                let (first, second) = (self.plain_host(world)?, self.plain_host(world)?);
                let third = self.plain_host(world).filter(|_| self.random.percent(50));
                let lost: BTreeSet<usize> = [first, second].into_iter().chain(third).collect();
                if lost.len() < 2 {
                    return None;
                }
                lost.into_iter().try_for_each(|host| self.lose_disk(world, host))
            }
            Fault::DiskPutBack => {
                let host = self.plain_host(world)?;
                let as_of_now = world.disk(host).durable();
                let after = Duration::from_secs(self.random.between(1, 120));
                self.after(world, after, Later::PutBack(host, Box::new(as_of_now)));
                Some(())
            }
            Fault::Cloned => {
                // Of two that have one key, operators can make no coordinator.
                let host = self.plain_host(world).filter(|_| world.recovers_at.is_none())?;
                world.clone_host(host)
            }
            _ => self.strike_coordinator(world, kind, host),
        }
    }

    /// What befalls a coordinator's disk, where the others hold all that it holds.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds befall clocks and networks")]
    fn strike_coordinator(&mut self, world: &mut World, kind: Fault, host: usize) -> Option<()> {
        let coordinator = world.coordinators[host % world.coordinators.len()];
        match kind {
            Fault::CoordinatorDiskLost => {
                may_lose(world, coordinator).then_some(())?;
                self.lose_disk(world, coordinator)
            }
            // What only these two held is gone: the host is not what its last words say, and takes it for lost itself.
            Fault::PairLost => {
                may_lose(world, coordinator).then_some(())?;
                let host = self.plain_host(world)?;
                self.lose_disk(world, coordinator)?;
                self.lose_disk(world, host)
            }
            Fault::QuorumLost => self.lose_quorum(world),
            Fault::CoordinatorDiskPutBack => {
                may_lose(world, coordinator).then_some(())?;
                let as_of_now = Box::new(world.disk(coordinator).durable());
                let after = Duration::from_secs(self.random.between(1, 120));
                let store = world.stores[coordinator];
                self.after(world, after, Later::PutBackCoordinator(coordinator, as_of_now, store));
                Some(())
            }
            Fault::CoordinatorCloned => {
                may_lose(world, coordinator).then_some(())?;
                world.clone_host(coordinator)
            }
            _ => self.strike_clock(world, kind, host),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are partitions")]
    fn strike_clock(&mut self, world: &mut World, kind: Fault, host: usize) -> Option<()> {
        match kind {
            Fault::Drift => {
                let drift = i64::try_from(self.random.below(1000)).unwrap_or(0) - 500;
                world.hosts[host].drift_ppm = drift;
                Some(())
            }
            Fault::JumpAhead | Fault::JumpBack => {
                let secs = i64::try_from(self.random.between(2, 400)).unwrap_or(0);
                let by = TimeDelta::seconds(if kind == Fault::JumpAhead { secs } else { -secs });
                let now = world.now;
                world.hosts[host].turn_clock(by, now);
                if self.random.percent(60) {
                    let after = Duration::from_secs(self.random.between(5, 200));
                    self.after(world, after, Later::ClockBack(host, by));
                }
                Some(())
            }
            _ => self.partition(world, kind),
        }
    }

    /// A host that does not coordinate.
    fn plain_host(&mut self, world: &World) -> Option<usize> {
        let is_plain = |host: &usize| !world.coordinators.contains(host) && !world.hosts[*host].is_gone;
        let plain: Vec<usize> = (0..world.fleet.names().len()).filter(is_plain).collect();
        self.random.pick(&plain).copied()
    }

    /// A host comes back with an empty disk after a while.
    fn lose_disk(&mut self, world: &mut World, host: usize) -> Option<()> {
        world.replace_disk(host, Disk::default());
        world.start_later(host, Duration::from_millis(self.random.between(50, 20_000)));
        Some(())
    }

    /// So many coordinators go for good that the others are no quorum; operators see to it after a while.
    fn lose_quorum(&mut self, world: &mut World) -> Option<()> {
        let able = world.able();
        let fleet = world.truth.documents().fleet()?;
        let (quorum, mut seats) = (fleet.electorate().quorum, world.coordinators.clone());
        let honest = seats.iter().map(|host| &world.hosts[*host]);
        let honest = honest.clone().all(|host| !host.lies() && !world.truth.is_twofold(&host.name));
        let again = world.hosts.iter().any(|host| host.is_gone);
        let lost = self.random.between((seats.len() + 1).saturating_sub(quorum) as u64, seats.len() as u64);
        let lost: BTreeSet<usize> =
            (0..lost).map(|_| seats.swap_remove(self.random.index(seats.len()))).collect();
        let left = able.iter().any(|host| !lost.contains(host));
        // Once in a run, in most of the runs that drew it: a fleet that is always recovered shows little else.
        if again || !honest || !left || self.random.percent(30) {
            return None;
        }
        for host in lost {
            world.hosts[host].is_gone = true;
            world.kill_host(host, self.random.percent(50));
        }
        // Copies of disks are of a log that is over.
        self.later.retain(|_, later| !matches!(later, Later::PutBack(..) | Later::PutBackCoordinator(..)));
        let after = Duration::from_millis(self.random.between(500, 90_000));
        world.recovers_at = Some(world.now + crate::world::micros(after));
        Some(())
    }

    fn set(&self, moment: &mut u64, until: u64) -> Option<()> {
        *moment = until;
        Some(())
    }

    fn crash(&mut self, world: &mut World, host: usize) -> Option<()> {
        world.hosts[host].node.as_ref()?;
        let told = self.random.percent(50);
        world.kill_host(host, told);
        let quick = self.random.percent(60);
        let after = if quick { self.random.between(20, 3_000) } else { self.random.between(3_000, 120_000) };
        world.start_later(host, Duration::from_millis(after));
        Some(())
    }

    fn reboot(&mut self, world: &mut World, host: usize) -> Option<()> {
        world.reboot_machine(host, &mut self.random);
        world.start_later(host, Duration::from_millis(self.random.between(4_000, 60_000)));
        Some(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other kind cuts the fleet at random")]
    fn partition(&mut self, world: &mut World, kind: Fault) -> Option<()> {
        let hosts = world.hosts.len();
        if hosts < 2 || !world.network.is_whole() {
            return None;
        }
        let apart: Vec<usize> = match kind {
            Fault::PartitionSingle => vec![self.random.index(hosts)],
            Fault::PartitionLeader => {
                vec![world.hosts.iter().position(|host| host.node.as_ref().is_some_and(Node::leads))?]
            }
            Fault::PartitionMinority => world.coordinators[..(world.coordinators.len() - 1) / 2].to_vec(),
            _ => (0..hosts).filter(|_| self.random.percent(50)).collect(),
        };
        if apart.is_empty() {
            return None;
        }
        if kind == Fault::PartitionFlapping {
            let again = self.random.between(1, 5);
            self.after(world, Duration::ZERO, Later::Cut { shape: kind, apart, again });
            return Some(());
        }
        self.reshape(world, Some((kind, &apart)));
        let heals = Duration::from_secs(self.random.between(3, 150));
        self.after(world, heals, Later::Heal);
        Some(())
    }

    /// Takes another shape, or none; who is connected hears of it, unless links break silently.
    fn reshape(&mut self, world: &mut World, shape: Option<(Fault, &[usize])>) {
        let before = world.network.clone();
        match shape {
            Some((shape, apart)) => world.network.take_shape(shape, apart, &mut self.random),
            None => world.network.heal(),
        }
        let silent = shape.is_some() && world.faults.strikes(&mut self.random, Fault::SilentLink, 500);
        world.tell_links(&before, silent);
    }

    fn after(&mut self, world: &World, after: Duration, later: Later) {
        self.count += 1;
        self.later.insert((world.now + crate::world::micros(after), self.count), later);
    }

    /// All is well from now on.
    pub(crate) fn calm(&mut self, world: &mut World) {
        self.later.clear();
        world.faults.stop();
        self.reshape(world, None);
        for host in 0..world.hosts.len() {
            let now = world.now;
            let state = &mut world.hosts[host];
            for moment in [
                &mut state.slow_until,
                &mut state.slow_disk_until,
                &mut state.full_disk_until,
                &mut state.deaf_until,
                &mut state.machine.blind_until,
                &mut state.machine.silent_until,
            ] {
                *moment = (*moment).min(now);
            }
            let off = state.clock_off;
            state.turn_clock(-off, now);
            state.drift_ppm = 0;
            if !world.hosts[host].is_up() {
                world.start_host(host);
            }
        }
    }
}

/// Whether a coordinator may lose its disk: no group survives that whose others do not hold all that it held, or of
/// which so few would be left that they cannot readmit it.
fn may_lose(world: &World, host: usize) -> bool {
    let group = || world.coordinators.iter().map(|host| &world.hosts[*host]);
    let same = |node: &Node| {
        let ledger = node.ledger();
        (ledger.applied(), ledger.group().map(|group| group.voters.len()))
    };
    let first = group().next().and_then(|host| host.node.as_ref()).map(same);
    let voters = first.and_then(|(_, voters)| voters);
    let well = |host: &Host| {
        let node = host.node.as_ref();
        node.is_some_and(|node| node.is_settled() && !node.awaits_readmission() && Some(same(node)) == first)
            && host.paused_until <= world.now
            && !host.lies()
            && !world.truth.is_twofold(&host.name)
    };
    world.coordinators.len() > 2
        && voters == Some(world.coordinators.len())
        && world.network.is_whole()
        && world.leader_number().is_some()
        && world.coordinators.contains(&host)
        && group().all(well)
}
