//! Who has been heard of, and when: what this process learnt from notices since it started.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::id::{Closure, HostId};
use crate::time::{Mono, Now};
use crate::wire::{Notice, Presence};

/// Heartbeats that a host may miss before it counts as offline.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;
/// A heartbeat that the receiver assumes before a host has told its own.
const HEARTBEAT_ASSUMED: Duration = Duration::from_secs(30);
/// The longest heartbeat that is believed; a host cannot make itself count as online for ever.
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);
/// How far the clocks of two hosts may differ before one's notices count as old ones.
pub const SKEW_MAX: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// Targets that a host held and of which it is known when; a host has one or a few at a time.
const HELD_MAX: usize = 32;

/// Whether a host can be reached, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It was heard of within three of its heartbeats.
    Online,
    /// It was not, and this process has listened for that long.
    Offline,
    /// This process has not listened for long enough to tell.
    Unknown,
}

/// What a heartbeat was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A newer one of that host is known.
    Old,
    /// It says what the one before said: no gate answers otherwise because of it.
    Again,
    /// It says something new of the host, or only that it can be reached.
    News,
}

/// The newest heartbeat of one host.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the host said.
    pub presence: Presence,
    /// The host's clock when it said so.
    pub at: DateTime<Utc>,
    /// The host's incarnation.
    pub incarnation: u64,
    /// Orders the host's notices.
    order: (u64, u64, u64),
    /// When a fresh message of the host last came in.
    heard: Option<Mono>,
    /// When this notice came in, fresh or not.
    received: Mono,
    /// Whether it came in fresh, so that it tells how far the host's clock is off this one's.
    fresh: bool,
    /// When the host last said of a target that it holds it.
    held: BTreeMap<Closure, Mono>,
}

impl Seen {
    /// Whether the host needs to fetch nothing for this target: it holds it, runs it, or fetches nothing ahead at all.
    pub fn holds(&self, target: &Closure) -> bool {
        let said = &self.presence;
        !said.prefetches || said.fetched.contains(target) || said.current_closure.as_ref() == Some(target)
    }

    fn offset(&self, now: Now) -> Option<chrono::TimeDelta> {
        let shows = self.at.checked_add_signed(to_delta(now.mono.since(self.received)));
        shows.filter(|_| self.fresh).map(|shows| shows.signed_duration_since(now.utc))
    }
}

/// Everybody's newest heartbeat.
#[derive(Debug, Clone)]
pub struct Presences {
    me: HostId,
    heartbeat: Duration,
    started: Mono,
    hosts: BTreeMap<HostId, Seen>,
    envelopes: BTreeMap<HostId, Mono>,
    /// Since when each host that is online has been so.
    online_since: BTreeMap<HostId, Mono>,
}

impl Presences {
    /// Starts to listen: `heartbeat` is this host's own, assumed of those that were never heard.
    pub fn new(me: HostId, heartbeat: Duration, started: Mono) -> Self {
        Self {
            me,
            heartbeat,
            started,
            hosts: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            online_since: BTreeMap::new(),
        }
    }

    /// Takes in a heartbeat.
    pub fn hear(&mut self, now: Now, notice: &Notice, presence: &Presence) -> Heard {
        let known = self.hosts.get(&notice.host);
        if known.is_some_and(|seen| seen.order >= notice.order()) {
            return Heard::Old;
        }
        let before = self.reach(&notice.host, now.mono);
        let same = known.is_some_and(|seen| says_the_same(&seen.presence, presence));
        let age = now.utc.signed_duration_since(notice.at);
        // A clock that is far off is told from an old message by what comes again and again: both clocks moved alike.
        let lives = known.is_some_and(|seen| {
            let theirs = notice.at.signed_duration_since(seen.at);
            let drift = theirs - to_delta(now.mono.since(seen.received));
            let steady = theirs > chrono::TimeDelta::zero() && drift.abs() <= theirs / 4;
            seen.order.0 == notice.incarnation
                && seen.order.1 == notice.boot
                && steady
                && drift.abs() <= SKEW_MAX
        });
        let fresh = lives || age <= SKEW_MAX + to_delta(self.patience_of(presence));
        let heard = if fresh { Some(now.mono) } else { known.and_then(|seen| seen.heard) };
        let held = held(known, presence, now.mono);
        self.hosts.insert(
            notice.host.clone(),
            Seen {
                presence: presence.clone(),
                at: notice.at,
                incarnation: notice.incarnation,
                order: notice.order(),
                heard,
                received: now.mono,
                fresh,
                held,
            },
        );
        if fresh {
            self.comes_online(&notice.host, before, now.mono);
        }
        match same && self.reach(&notice.host, now.mono) == before {
            true => Heard::Again,
            false => Heard::News,
        }
    }

    /// Takes note of this host's own heartbeat: like everybody's it says how far its feed and its clock have come.
    pub fn speak(&mut self, now: Now, at: DateTime<Utc>, order: (u64, u64, u64), presence: &Presence) {
        let seen = Seen {
            presence: presence.clone(),
            at,
            incarnation: order.0,
            order,
            heard: Some(now.mono),
            received: now.mono,
            // This host's own clock tells it nothing of how far it is off.
            fresh: false,
            held: held(self.hosts.get(&self.me), presence, now.mono),
        };
        self.hosts.insert(self.me.clone(), seen);
    }

    /// Takes note that a fresh envelope of a host came in.
    pub fn heard_envelope(&mut self, now: Now, host: &HostId, at: DateTime<Utc>) {
        if now.utc.signed_duration_since(at) <= SKEW_MAX {
            let before = self.reach(host, now.mono);
            self.envelopes.insert(host.clone(), now.mono);
            self.comes_online(host, before, now.mono);
        }
    }

    fn comes_online(&mut self, host: &HostId, before: Reach, now: Mono) {
        if before != Reach::Online {
            self.online_since.insert(host.clone(), now);
        }
    }

    /// The newest heartbeat of a host.
    pub fn of(&self, host: &HostId) -> Option<&Seen> {
        self.hosts.get(host)
    }

    /// Whether a host can be reached.
    pub fn reach(&self, host: &HostId, now: Mono) -> Reach {
        if *host == self.me {
            return Reach::Online;
        }
        let patience = self.patience(host);
        match self.last_heard(host) {
            Some(heard) if now.since(heard) <= patience => Reach::Online,
            _ if now.since(self.started) <= patience => Reach::Unknown,
            _ => Reach::Offline,
        }
    }

    /// When anything fresh of a host last came in.
    pub fn last_heard(&self, host: &HostId) -> Option<Mono> {
        self.hosts.get(host).and_then(|seen| seen.heard).max(self.envelopes.get(host).copied())
    }

    /// For how long a host has been silent, counted at the most from this process's start.
    pub fn silent_for(&self, host: &HostId, now: Mono) -> Duration {
        if *host == self.me {
            return Duration::ZERO;
        }
        now.since(self.last_heard(host).unwrap_or(self.started))
    }

    /// For how long a host has been online and has not held a target, as far as this process has listened; none for one
    /// that cannot be reached, or needs to fetch nothing.
    pub fn lacks_for(&self, host: &HostId, target: &Closure, now: Mono) -> Option<Duration> {
        let seen = self.hosts.get(host)?;
        if self.reach(host, now) != Reach::Online || seen.holds(target) {
            return None;
        }
        let online_since = self.online_since.get(host).copied().unwrap_or(self.started);
        // A restarted agent has to look again at what it fetched before.
        let held = seen.held.get(target).copied().unwrap_or_default();
        Some(now.since(online_since.max(held)))
    }

    /// When the next host that is online now will count as offline if it stays silent.
    pub fn next_change(&self, now: Mono) -> Option<Mono> {
        let opening = self.started.after(self.heartbeat * HEARTBEATS_MISSED_MAX);
        self.hosts
            .keys()
            .filter(|host| **host != self.me)
            .filter_map(|host| Some(self.last_heard(host)?.after(self.patience(host))))
            .chain([opening])
            .filter(|at| *at >= now)
            .min()
            .map(|at| at.after(Duration::from_millis(1)))
    }

    /// How far a host's clock is ahead of this one now, if a fresh notice told its time: by the clock that cannot jump
    /// it is known what the host's shows since, also when this host's own has been set meanwhile.
    pub fn offset_of(&self, host: &HostId, now: Now) -> Option<chrono::TimeDelta> {
        self.hosts.get(host).and_then(|seen| seen.offset(now))
    }

    /// How far this host's clock is off, by the median of all clocks that fresh notices told and its own; positive if it
    /// is behind. None if nobody's is known.
    pub fn own_offset(&self, now: Now) -> Option<chrono::TimeDelta> {
        let mut offsets: Vec<_> = self.hosts.values().filter_map(|seen| seen.offset(now)).collect();
        if offsets.is_empty() {
            return None;
        }
        offsets.push(chrono::TimeDelta::zero());
        offsets.sort();
        let middle = [offsets.get((offsets.len() - 1) / 2), offsets.get(offsets.len() / 2)];
        // Of two in the middle the one that blames this host less: two clocks that differ prove nothing of either.
        middle.into_iter().flatten().copied().min_by_key(chrono::TimeDelta::abs)
    }

    fn patience(&self, host: &HostId) -> Duration {
        self.hosts
            .get(host)
            .map_or(self.heartbeat * HEARTBEATS_MISSED_MAX, |seen| self.patience_of(&seen.presence))
    }

    fn patience_of(&self, presence: &Presence) -> Duration {
        let told = match presence.heartbeat_millis {
            0 => HEARTBEAT_ASSUMED,
            millis => Duration::from_millis(millis).min(HEARTBEAT_MAX),
        };
        told * HEARTBEATS_MISSED_MAX
    }
}

/// When a host last said of each target that it holds it; of those that it named last, so that it cannot grow.
fn held(before: Option<&Seen>, presence: &Presence, now: Mono) -> BTreeMap<Closure, Mono> {
    let named = before.into_iter().flat_map(|seen| &seen.held);
    let mut held: BTreeMap<Closure, Mono> = named.map(|(closure, at)| (closure.clone(), *at)).collect();
    if held.len() > HELD_MAX {
        held.clear();
    }
    held.extend(presence.fetched.iter().take(HELD_MAX).map(|closure| (closure.clone(), now)));
    held
}

fn to_delta(duration: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

/// Whether two heartbeats of a host say the same to whoever plans.
fn says_the_same(before: &Presence, after: &Presence) -> bool {
    let asked =
        |it: &Presence| (it.head_seq, it.fleet_serial, it.prefetches, it.epoch, it.awaits_readmission);
    asked(before) == asked(after)
        && before.current_closure == after.current_closure
        && before.fetched == after.fetched
        && before.failing_enforce_probes == after.failing_enforce_probes
}
