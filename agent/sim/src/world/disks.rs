//! Disks that are lost, put back in time or cloned.

use muster_core::id::HostId;

use super::World;
use crate::disk::Disk;

impl World {
    /// A host dies and finds another disk; its agent has yet to be started.
    pub(crate) fn replace_disk(&mut self, host: usize, disk: Disk) {
        self.kill_host(host, true);
        self.hosts[host].change_disk(disk);
        self.truth.disk_replaced(host, &self.hosts);
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
