//! The handle by which the node orders the network about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::config::Roster;
use crate::event::{MessageRef, PeerInfo, Topic, Verdict};
use crate::identity::HostKey;
use crate::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::queue::Sender;

/// An order of the node.
#[derive(Debug)]
pub(crate) enum Command {
    Publish(Topic, Vec<u8>),
    Verdict(MessageRef, Verdict),
    SendLog(HostKey, Vec<u8>),
    Sync(Option<HostKey>),
    /// Leaves every topic and joins it again.
    #[cfg(test)]
    Rejoin,
}

/// How often something was dropped or refused since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events_dropped: AtomicU64,
    pub(crate) commands_dropped: AtomicU64,
    pub(crate) logs_dropped: AtomicU64,
    pub(crate) publishes_dropped: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) strangers: AtomicU64,
    pub(crate) pulls: AtomicU64,
    pub(crate) pulls_failed: AtomicU64,
    pub(crate) answered_busy: AtomicU64,
    pub(crate) sync_bytes_in: AtomicU64,
    pub(crate) sync_bytes_out: AtomicU64,
}

/// Adds a number of bytes to a count.
pub(crate) fn count_bytes(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Adds one to a count.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A snapshot of the network's counts, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gossip and log messages that found the node's queue full.
    pub events_dropped: u64,
    /// Orders of the node that found the swarm's queue full.
    pub commands_dropped: u64,
    /// Log messages that were not sent: too large, no connection, too many under way, or failed.
    pub logs_dropped: u64,
    /// Messages that were not gossiped: too large, or nobody was there to hear.
    pub publishes_dropped: u64,
    /// Messages that the node rejected.
    pub rejected: u64,
    /// Connections of strangers that were refused or let in as guests.
    pub strangers: u64,
    /// Pulls that ended well.
    pub pulls: u64,
    /// Pulls that broke off.
    pub pulls_failed: u64,
    /// Sync requests put off because the peer took too much.
    pub answered_busy: u64,
    /// What sync received: requests of others, and answers to this host's.
    pub sync_bytes_in: u64,
    /// What sync sent.
    pub sync_bytes_out: u64,
}

/// Orders the network about; clones speak to the same network. Nothing here waits.
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) key: HostKey,
    pub(crate) peer_id: String,
    pub(crate) commands: Sender<Command>,
    pub(crate) roster: Arc<watch::Sender<Roster>>,
    pub(crate) stop: Arc<watch::Sender<bool>>,
    pub(crate) peers: watch::Receiver<Arc<Vec<PeerInfo>>>,
    pub(crate) counts: Arc<Counts>,
}

impl Network {
    /// This host's key.
    pub fn key(&self) -> HostKey {
        self.key
    }

    /// This host's peer id, as text.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Gossips a message to the fleet; one above [`MESSAGE_BYTES_MAX`] is left to sync.
    pub fn publish(&self, topic: Topic, bytes: Vec<u8>) {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return count(&self.counts.publishes_dropped);
        }
        let len = bytes.len();
        self.order(Command::Publish(topic, bytes), len);
    }

    /// Says whether a gossiped message may be forwarded; without a verdict it is forgotten within seconds.
    pub fn verdict(&self, message: MessageRef, verdict: Verdict) {
        self.order(Command::Verdict(message, verdict), 0);
    }

    /// Sends a message of the replicated log to a connected coordinator; what cannot be sent is dropped.
    ///
    /// At most 1 MiB. Messages to one peer usually, but not certainly, arrive in the order they were sent.
    pub fn send_log(&self, to: HostKey, bytes: Vec<u8>) {
        if bytes.len() > FRAME_BYTES_MAX {
            return count(&self.counts.logs_dropped);
        }
        let len = bytes.len();
        self.order(Command::SendLog(to, bytes), len);
    }

    /// Replaces the roster, unless it is older than the one in force; who is no longer in it is disconnected at once.
    pub fn set_roster(&self, roster: Roster) {
        self.roster.send_if_modified(|current| {
            let newer = roster.serial >= current.serial && roster != *current;
            if newer {
                *current = roster;
            }
            newer
        });
    }

    /// Pulls from a member, or from all that are connected, without waiting for the next interval.
    pub fn sync_now(&self, with: Option<HostKey>) {
        self.order(Command::Sync(with), 0);
    }

    /// The members that are connected or being dialled.
    pub fn peers(&self) -> Arc<Vec<PeerInfo>> {
        Arc::clone(&self.peers.borrow())
    }

    /// Lets the caller wait for a change of [`Self::peers`].
    pub fn watch_peers(&self) -> watch::Receiver<Arc<Vec<PeerInfo>>> {
        self.peers.clone()
    }

    /// How often something was dropped or refused.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            events_dropped: read(&self.counts.events_dropped),
            commands_dropped: read(&self.counts.commands_dropped),
            logs_dropped: read(&self.counts.logs_dropped),
            publishes_dropped: read(&self.counts.publishes_dropped),
            rejected: read(&self.counts.rejected),
            strangers: read(&self.counts.strangers),
            pulls: read(&self.counts.pulls),
            pulls_failed: read(&self.counts.pulls_failed),
            answered_busy: read(&self.counts.answered_busy),
            sync_bytes_in: read(&self.counts.sync_bytes_in),
            sync_bytes_out: read(&self.counts.sync_bytes_out),
        }
    }

    /// Closes every connection and ends the network; the events end with it.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the network has ended after [`Self::shutdown`].
    pub async fn closed(&self) {
        self.roster.closed().await;
    }

    pub(crate) fn order(&self, command: Command, bytes: usize) {
        if self.commands.offer(command, bytes).is_err() {
            count(&self.counts.commands_dropped);
        }
    }
}
