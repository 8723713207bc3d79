//! The queue of one hook: what is due, when it is tried again, and when it is given up.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::occurrence::cut;
use super::{Event, Occurrence};
use crate::time::{Mono, Now};

/// How many calls wait for one hook; the oldest of more are given up.
pub const PENDING_MAX: usize = 256;
/// How many calls that were given up are kept to be looked at.
pub const DEAD_MAX: usize = 100;
/// How long is waited after the first failure; twice as long after each further one.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest that is waited between two tries.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// For how long one call is tried, in hours, however many tries are left.
const TRIED_HOURS: i64 = 24;
/// How much older than the hook something may be that it is called for: clocks of a fleet are never quite the same.
const SKEW_MINUTES: i64 = 5;

/// What a hook wants, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it is called for.
    pub events: BTreeSet<Event>,
    /// How often one call is tried.
    pub tries: u32,
}

/// The queue of one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When the hook was first seen; what happened before is none of its business.
    since: DateTime<Utc>,
    /// How much of what was learnt was looked at.
    position: u64,
    pending: VecDeque<Occurrence>,
    /// How often the first of them was tried.
    tries: u32,
    first_tried_at: Option<DateTime<Utc>>,
    /// Whether the quorum counts as lost.
    quorum_lost: bool,
    delivered: u64,
    failures: u64,
    given_up: u64,
    failing: Option<Failing>,
    dead: VecDeque<Dead>,
    /// Not before then is the first tried again; after a restart at once.
    #[serde(skip)]
    not_before: Option<Mono>,
    #[serde(skip)]
    under_way: bool,
}

/// How the last try failed, if it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// A call that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// What it was about.
    pub occurrence: Occurrence,
    /// When it was given up.
    pub at: DateTime<Utc>,
    /// How often it was tried.
    pub tries: u32,
    /// Why it was given up.
    pub reason: String,
}

/// What a hook waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// For something to happen, or for the call that is under way.
    Nothing,
    /// For this moment.
    At(Mono),
    /// For nothing: the next call may be made.
    Now,
}

/// One call to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it is about.
    pub occurrence: Occurrence,
    /// The how manieth try it is, from 1.
    pub number: u32,
}

impl Line {
    /// The queue of a hook that begins now, when so much was learnt already.
    pub fn new(now: DateTime<Utc>, position: u64) -> Self {
        Self {
            since: now,
            position,
            pending: VecDeque::new(),
            tries: 0,
            first_tried_at: None,
            quorum_lost: false,
            delivered: 0,
            failures: 0,
            given_up: 0,
            failing: None,
            dead: VecDeque::new(),
            not_before: None,
            under_way: false,
        }
    }

    /// How much of what was learnt was looked at.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The calls that wait, the oldest first.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &Occurrence> {
        self.pending.iter()
    }

    /// The newest calls that were given up, the oldest of them first.
    pub fn dead(&self) -> impl ExactSizeIterator<Item = &Dead> {
        self.dead.iter()
    }

    /// How many calls went well.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How many tries failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// How many calls were given up, also those that are not kept any more.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How the last try failed; none if it went well.
    pub fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }

    /// Takes in what was learnt up to a position; whether any of it is to be told.
    pub fn learnt(
        &mut self,
        policy: &Policy,
        now: DateTime<Utc>,
        position: u64,
        occurrences: impl IntoIterator<Item = Occurrence>,
    ) -> bool {
        self.position = self.position.max(position);
        let begin = self.since - TimeDelta::minutes(SKEW_MINUTES);
        let mut any = false;
        for occurrence in occurrences.into_iter().filter(|it| it.at >= begin) {
            any |= self.push(policy, now, occurrence);
        }
        any
    }

    /// Takes in whether the quorum counts as lost, and what to tell if that is new; whether it is.
    pub fn quorum(
        &mut self,
        policy: &Policy,
        now: DateTime<Utc>,
        lost: bool,
        told: impl FnOnce() -> Occurrence,
    ) -> bool {
        if lost == self.quorum_lost {
            return false;
        }
        self.quorum_lost = lost;
        self.push(policy, now, told());
        true
    }

    fn push(&mut self, policy: &Policy, now: DateTime<Utc>, occurrence: Occurrence) -> bool {
        if !policy.events.contains(&occurrence.event) {
            return false;
        }
        self.pending.push_back(occurrence);
        while self.pending.len() > PENDING_MAX {
            let reason = format!("more than {PENDING_MAX} calls were waiting");
            if !self.under_way {
                self.give_up(now, reason);
            } else if let Some(occurrence) = self.pending.remove(1) {
                // The call that is under way may yet go well.
                self.bury(now, occurrence, 0, reason);
            }
        }
        true
    }

    /// Whether a call can be made.
    pub fn due(&self, now: Mono) -> Due {
        if self.under_way || self.pending.is_empty() {
            return Due::Nothing;
        }
        match self.not_before {
            Some(at) if at > now => Due::At(at),
            _ => Due::Now,
        }
    }

    /// Begins the next call, if one is due. To be stored before it is made: so a call that ends the agent each time
    /// ends it no more often than it may be tried.
    pub fn begin(&mut self, policy: &Policy, now: Now) -> Option<Attempt> {
        if self.due(now.mono) != Due::Now {
            return None;
        }
        if self.tries >= policy.tries {
            self.give_up(now.utc, "the agent ended while it made the last try".to_owned());
        }
        let occurrence = self.pending.front()?.clone();
        self.tries += 1;
        self.first_tried_at.get_or_insert(now.utc);
        self.under_way = true;
        Some(Attempt { occurrence, number: self.tries })
    }

    /// Ends the call that is under way. To be stored before the next one is begun.
    pub fn end(&mut self, policy: &Policy, now: Now, result: Result<(), String>) {
        if !std::mem::take(&mut self.under_way) {
            return;
        }
        match result {
            Ok(()) => {
                self.pending.pop_front();
                self.delivered += 1;
                self.failing = None;
                self.start_over();
            }
            Err(reason) => {
                let reason = cut(reason);
                self.failures += 1;
                self.failing = Some(Failing { at: now.utc, reason: reason.clone() });
                let tried_for = self.first_tried_at.map_or(TimeDelta::zero(), |first| now.utc - first);
                if self.tries >= policy.tries || tried_for >= TimeDelta::hours(TRIED_HOURS) {
                    self.give_up(now.utc, reason);
                } else {
                    self.not_before = Some(now.mono.after(wait(self.tries)));
                }
            }
        }
    }

    /// Puts the calls that were given up back in front, as far as there is room; how many.
    pub fn retry(&mut self) -> usize {
        let mut count = 0;
        let front = usize::from(self.under_way);
        while self.pending.len() < PENDING_MAX
            && let Some(dead) = self.dead.pop_back()
        {
            self.pending.insert(front, dead.occurrence);
            count += 1;
        }
        if count > 0 && !self.under_way {
            self.start_over();
        }
        count
    }

    /// Forgets the calls that were given up; how many.
    pub fn forget(&mut self) -> usize {
        self.failing = None;
        std::mem::take(&mut self.dead).len()
    }

    fn start_over(&mut self) {
        self.tries = 0;
        self.first_tried_at = None;
        self.not_before = None;
    }

    fn give_up(&mut self, now: DateTime<Utc>, reason: String) {
        if let Some(occurrence) = self.pending.pop_front() {
            self.bury(now, occurrence, self.tries, reason);
        }
        self.start_over();
    }

    fn bury(&mut self, at: DateTime<Utc>, occurrence: Occurrence, tries: u32, reason: String) {
        self.given_up += 1;
        if self.dead.len() >= DEAD_MAX {
            self.dead.pop_front();
        }
        self.dead.push_back(Dead { occurrence, at, tries, reason });
    }
}

/// How long is waited after so many failures.
fn wait(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    WAIT_FIRST.saturating_mul(doubled).min(WAIT_MAX)
}
