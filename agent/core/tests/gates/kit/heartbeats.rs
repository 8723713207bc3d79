//! The heartbeats of hosts.

use chrono::{DateTime, Utc};
use muster_core::ledger::NO_HASH;
use muster_core::presence::Heard;
use muster_core::verify;
use muster_core::wire::{Notice, NoticeBody, Presence, StoreState, codec};
use muster_signing::{Purpose, seal};

use super::{FLEET, Story, closure, host, key_of};

impl Story {
    pub(crate) fn presence(&self, name: &str) -> Presence {
        let head = self.feeds.get(&host(name));
        Presence {
            head_seq: head.map_or(0, |head| head.seq),
            head_hash: head.map_or(NO_HASH, |head| head.hash),
            current_closure: Some(closure("v0")),
            fetched: Vec::new(),
            prefetches: false,
            fetching: String::new(),
            reboot_pending: false,
            store: StoreState::Ok,
            agent_version: "1".to_owned(),
            fleet_serial: 1,
            uptime_secs: 1,
            outbox: 0,
            failing_enforce_probes: Vec::new(),
            rules: muster_core::wire::RULES,
            awaits_readmission: false,
            epoch: None,
            asks_for_head: false,
            heartbeat_millis: 30_000,
        }
    }

    /// A heartbeat of a host comes in.
    pub(crate) fn speaks(&mut self, name: &str) {
        self.speaks_as(name, |_| {});
    }

    pub(crate) fn speaks_as(&mut self, name: &str, change: impl FnOnce(&mut Presence)) {
        let at = self.now;
        self.speaks_at(name, at, change);
    }

    /// A heartbeat of a host whose clock shows `at`.
    pub(crate) fn speaks_at(&mut self, name: &str, at: DateTime<Utc>, change: impl FnOnce(&mut Presence)) {
        let mut presence = self.presence(name);
        change(&mut presence);
        self.notices += 1;
        let notice = Notice {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation: self.feeds.get(&host(name)).map_or(1, |end| end.incarnation),
            boot: 1,
            n: self.notices,
            at,
            body: NoticeBody::Presence(Box::new(presence.clone())),
        };
        let bytes = seal(&key_of(name), Purpose::Notice, FLEET, &codec::encode(&notice));
        let received = verify::notice(self.ledger.roster(), &bytes).unwrap();
        let now = self.clocks();
        assert_ne!(self.presences.hear(now, &received.content, &presence), Heard::Old);
    }

    pub(crate) fn everybody_speaks(&mut self) {
        let names: Vec<String> = self.fleet["hosts"].as_object().unwrap().keys().cloned().collect();
        for name in names {
            self.speaks(&name);
        }
    }
}
