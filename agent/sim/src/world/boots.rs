//! Machines that go down and come up again, and what people do for those that wait for it.

use std::time::Duration;

use muster_core::id::HostId;
use muster_core::node::Node;
use muster_core::wire::HostState;

use super::World;
use crate::fault::Fault;
use crate::host::Host;
use crate::machine::works;
use crate::random::Random;

impl World {
    /// A machine goes down with its agent, and comes up again; its agent has yet to be started.
    pub(crate) fn reboot_machine(&mut self, host: usize, random: &mut Random) {
        self.kill_host(host, false);
        let (now, machine) = (self.now, &mut self.hosts[host].machine);
        if let Some(next) = machine.reboot(now, random, &mut self.faults) {
            self.trace.line(now, self.hosts[host].name.as_str(), || format!("comes up on {next}"));
            self.truth.boots(now, host, &next, &self.hosts);
        }
    }

    /// What was to befall a machine in the middle of a switch or after one does, if the machine is still there and the time
    /// of faults goes on.
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else befalls a machine because of a switch")]
    pub(super) fn befalls(&mut self, host: usize, fault: Fault) {
        let soaks = self.truth.own[host].values().any(|own| own.state == HostState::Soaking);
        let machine = &mut self.hosts[host].machine;
        let is_there = match fault {
            Fault::RebootInSwitch => machine.is_switching(),
            Fault::DeferredReboot | Fault::DeferredBootOld => machine.next_boot.is_some(),
            _ => soaks,
        };
        if !is_there || self.faults.strength(fault) == 0 {
            return;
        }
        // What the machine comes up on shows when it does.
        if fault != Fault::DeferredBootOld {
            self.faults.hit(fault);
        }
        self.trace.line(self.now, "****", || format!("{}: {}", fault.name(), fault.what()));
        if fault == Fault::HandSwitched {
            if let Ok(hand) = "dir:hand".parse() {
                machine.switch_by_hand(hand, self.now);
            }
            return;
        }
        let mut random = Random::new(self.random.next());
        self.reboot_machine(host, &mut random);
        let after = Duration::from_millis(random.between(4_000, 60_000));
        self.start_later(host, after);
    }

    /// Reboots a machine and starts its agent again; what a switch had set for that boot comes up, or fails to.
    pub fn reboot(&mut self, host: &HostId, comes_up: bool) {
        let Some(number) = self.number(host.as_str()) else { return };
        if !comes_up {
            self.hosts[number].machine.next_boot = None;
        }
        let mut random = self.random.fork("boot");
        self.reboot_machine(number, &mut random);
        self.start_host(number);
    }

    /// Starts a host's agent again as a program that knows these rules of the log.
    pub fn change_program(&mut self, host: &HostId, rules: u32) {
        let Some(number) = self.number(host.as_str()) else { return };
        self.kill_host(number, true);
        self.hosts[number].rules = rules;
        self.start_host(number);
    }

    /// People reboot the machines that wait for it, unless nobody does in this run.
    pub(crate) fn reboot_waiting(&mut self, random: &mut Random) {
        if self.never_rebooted {
            let waits = |host: &Host| host.machine.next_boot.is_some();
            if self.hosts.iter().any(waits) && !self.faults.hits().contains_key(&Fault::NeverRebooted) {
                self.faults.hit(Fault::NeverRebooted);
            }
            return;
        }
        for host in 0..self.hosts.len() {
            let waits = self.truth.own[host].values().any(|own| own.state == HostState::Deferred);
            // Of a host that lied about itself only its own screen says so.
            let shows = |node: &Node| {
                let mut own = node.ledger().records_of(&self.hosts[host].name);
                own.any(|it| it.record.state == HostState::Deferred)
            };
            let waits = waits || self.hosts[host].node.as_ref().is_some_and(shows);
            if waits && self.hosts[host].machine.next_boot.is_some() && self.hosts[host].is_up() {
                self.reboot_machine(host, random);
                self.start_later(host, Duration::from_millis(random.between(4_000, 20_000)));
            }
        }
    }

    /// Decides once for the run whether anybody reboots machines that wait for it.
    pub(crate) fn draw_rebooting(&mut self, random: &mut Random) {
        self.never_rebooted = self.faults.strength(Fault::NeverRebooted) > 0 && random.percent(85);
    }

    /// Whether a host's probe that gates failed when it last ran.
    pub(crate) fn is_sick(&self, host: &HostId) -> bool {
        let number = self.number(host.as_str());
        let last = number.and_then(|number| self.hosts[number].machine.results.get(&works()));
        last.is_some_and(|(_, passed)| !passed)
    }

    /// Whether nobody reboots machines in this run.
    pub(crate) fn is_never_rebooted(&self) -> bool {
        self.never_rebooted
    }
}
