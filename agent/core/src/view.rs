//! What the gates look at: a node's own evidence, with the questions that several of them ask.

use std::collections::BTreeSet;
use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::document::{Plan, Verb};
use crate::host::after;
use crate::id::{ChannelId, HostId, RolloutId};
use crate::ledger::{Answer, Ledger, Slot};
use crate::memo::Memo;
use crate::planted::Bug;
use crate::presence::{Presences, Reach};
use crate::time::Mono;
use crate::wire::{DecisionId, HostState, RolloutState};

/// A node's evidence at one moment.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// What the node knows for good.
    pub ledger: &'a Ledger,
    /// Who was heard of lately.
    pub presences: &'a Presences,
    /// Dispatches that can never be certified, by final objections of enough coordinators.
    pub void: &'a BTreeSet<DecisionId>,
    /// Hosts that the planner is about to dispatch in the same batch.
    pub tentative: &'a BTreeSet<HostId>,
    /// The clock that cannot jump.
    pub mono: Mono,
    pub(crate) memo: Rc<Memo>,
}

/// Why a host counts as failed in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Its activation or its health failed, by its own word.
    Reported,
    /// It went back to what ran before.
    Reverted,
    /// It fell silent in flight.
    Lost,
    /// It refused twice.
    Rejected,
    /// Two dispatches expired while it was online.
    Expired,
    /// It did not end in time.
    Overdue,
    /// It did not come to hold its target in time.
    NotFetched,
}

/// Where a host stands in a rollout, by this node's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not dispatched, or its dispatch came to nothing.
    Waiting,
    /// Dispatched and under way.
    InFlight(HostState),
    /// Waiting for its reboot.
    Deferred {
        /// Whether it waited for longer than the policy allows.
        timed_out: bool,
    },
    /// Soaked and healthy on its target.
    Converged,
    /// Counted as failed.
    Failed(Failure),
}

/// Why a rollout goes on without a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excuse {
    /// It was offline before it was dispatched.
    Offline,
    /// An operator skipped it.
    Skipped,
    /// The newest fleet document does not have it on the channel.
    Removed,
    /// An operator cleared the rollout after it had failed.
    Cleared,
    /// It waits for its reboot for longer than the policy allows.
    DeferredTooLong,
}

impl Excuse {
    /// Whether a person decided it.
    pub fn by_operator(self) -> bool {
        match self {
            Self::Skipped | Self::Removed | Self::Cleared => true,
            Self::Offline | Self::DeferredTooLong => false,
        }
    }
}

impl<'a> View<'a> {
    /// What a node knows, at a moment of which nothing was asked yet.
    pub fn new(
        ledger: &'a Ledger,
        presences: &'a Presences,
        void: &'a BTreeSet<DecisionId>,
        tentative: &'a BTreeSet<HostId>,
        mono: Mono,
    ) -> Self {
        Self { ledger, presences, void, tentative, mono, memo: Rc::default() }
    }
}

impl View<'_> {
    /// Whether a slot is free by evidence that this node holds itself.
    pub fn is_free(&self, host: &HostId, slot: &Slot, now: DateTime<Utc>) -> bool {
        let feed = self.ledger.feed(host);
        match feed.and_then(|feed| feed.answer(slot.decision.log_index, &slot.rollout)) {
            Some(Answer::Rejected(_)) => return true,
            Some(Answer::Acknowledged) => {}
            None if self.has_expired(host, slot) || self.void.contains(&slot.decision) => return true,
            None => {}
        }
        if self.ledger.planted().has(Bug::SilenceFreesSlot)
            && self.presences.reach(host, self.mono) == Reach::Offline
        {
            return true;
        }
        self.is_skipped(host, &slot.rollout, now) || self.is_removed(host)
    }

    /// Whether the host can never act on this dispatch any more, since it signed something later than its end.
    pub fn has_expired(&self, host: &HostId, slot: &Slot) -> bool {
        let Some(feed) = self.ledger.feed(host) else {
            return self
                .presences
                .of(host)
                .is_some_and(|seen| seen.presence.head_seq == 0 && seen.at > slot.not_after);
        };
        if feed.answer(slot.decision.log_index, &slot.rollout).is_some() {
            return false;
        }
        let held = feed.head().map_or(0, |head| head.seq);
        let by_presence = self.presences.of(host).is_some_and(|seen| {
            seen.at > slot.not_after
                && seen.incarnation == feed.incarnation()
                && seen.presence.head_seq <= held
        });
        by_presence || feed.greatest_at().is_some_and(|at| at > slot.not_after)
    }

    /// Whether the host holds a slot that nothing has freed.
    pub fn holds_slot(&self, host: &HostId, now: DateTime<Utc>) -> bool {
        self.tentative.contains(host)
            || self.ledger.slots().of(host).any(|slot| !self.is_free(host, slot, now))
    }

    /// Whether it is not known, since a recovery, what the host does: no message of it has shown that it holds the
    /// recovery document, and so acts on nothing of the old log any more; or it is in a rollout of which only it tells.
    pub fn is_unsettled(&self, host: &HostId, now: DateTime<Utc>) -> bool {
        if !self.ledger.is_recovered() || self.is_removed(host) {
            return false;
        }
        let shows = self.presences.of(host).is_some_and(|seen| {
            let held = !self.ledger.lacks_up_to(host, seen.incarnation, seen.presence.head_seq);
            seen.presence.epoch == self.ledger.epoch() && held
        });
        let strays = self.ledger.feed(host).is_some_and(crate::ledger::Feed::has_strays);
        let skipped = || {
            self.is_ordered(
                now,
                |verb| matches!(verb, Verb::Skip { host: skipped, rollout: None } if skipped == host),
            )
        };
        (!shows || strays) && !skipped()
    }

    /// The rollouts in which the host is under way now.
    pub fn busy_in(&self, host: &HostId, now: DateTime<Utc>) -> impl Iterator<Item = &RolloutId> {
        let dispatched = self.ledger.slots().of(host).filter(move |slot| !self.is_free(host, slot, now));
        dispatched
            .filter(move |slot| {
                let Some(mirrored) = self.ledger.record(host, &slot.rollout) else { return true };
                match mirrored.record.state {
                    HostState::Pending | HostState::Activating | HostState::Soaking => true,
                    HostState::Failed => mirrored.record.owes_rollback(),
                    HostState::Deferred | HostState::Converged | HostState::Reverted => false,
                }
            })
            .map(|slot| &slot.rollout)
    }

    /// Whether a dispatch to the host in this rollout could still be acted on.
    pub fn is_dispatched(&self, host: &HostId, rollout: &RolloutId, now: DateTime<Utc>) -> bool {
        self.ledger.slots().of(host).any(|slot| slot.rollout == *rollout && !self.is_free(host, slot, now))
    }

    /// Where the host stands in the rollout.
    pub fn standing(&self, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Standing {
        let rollout = &plan.rollout_id;
        let Some(mirrored) = self.ledger.record(host, rollout) else {
            return self.not_dispatched(plan, host, now);
        };
        let record = &mirrored.record;
        // Nothing more of a feed with two histories is applied: what its host does now nobody can know, not even whether
        // it was rebooted.
        let is_unknown = self.ledger.is_forked(host) && self.is_dispatched(host, rollout, now);
        match record.state {
            HostState::Converged => return Standing::Converged,
            HostState::Failed => return Standing::Failed(Failure::Reported),
            HostState::Reverted => return Standing::Failed(Failure::Reverted),
            HostState::Deferred if is_unknown => return Standing::Failed(Failure::Overdue),
            HostState::Deferred => {
                let since = mirrored.reported_at.unwrap_or(record.dispatched_at);
                let timed_out = now > after(since, plan.policy.deferred_timeout_secs);
                return match timed_out && !self.wave_has_converged(plan, host) {
                    true => Standing::Failed(Failure::Overdue),
                    false => Standing::Deferred { timed_out },
                };
            }
            HostState::Pending | HostState::Activating | HostState::Soaking => {}
        }
        if is_unknown {
            return Standing::Failed(Failure::Overdue);
        }
        if let Some(failure) = self.failure_of(plan, host, record, now) {
            return Standing::Failed(failure);
        }
        match self.is_dispatched(host, rollout, now) {
            true => Standing::InFlight(record.state),
            false => self.not_dispatched(plan, host, now),
        }
    }

    fn not_dispatched(&self, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Standing {
        match self.fetch_ends(plan, host, now) {
            Some(at) if at <= now && !self.ledger.planted().has(Bug::FetchForEver) => {
                Standing::Failed(Failure::NotFetched)
            }
            Some(_) | None => Standing::Waiting,
        }
    }

    /// When a host whose turn has come counts as failed if it does not hold its target by then; none while it waits for
    /// something else than that.
    ///
    /// It has the policy's time from the opening of the rollout by the log, and as much from when it was last offline
    /// or last held its target, as far as this node has listened: what it could not begin it need not have done.
    pub fn fetch_ends(&self, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let record = self.ledger.rollouts().get(&plan.rollout_id)?;
        let waits = match record.state {
            RolloutState::Opening | RolloutState::Active | RolloutState::Converging => true,
            // What ended it stays so.
            RolloutState::Failed | RolloutState::Reverted => true,
            // Whoever is late holds nobody up.
            RolloutState::Terminal | RolloutState::Superseded | RolloutState::Pruned => false,
        };
        let turn = plan.wave_of(host).is_some_and(|wave| wave <= record.current_wave);
        if !(waits && turn) {
            return None;
        }
        let lacks_for = self.presences.lacks_for(host, plan.targets.get(host)?, self.mono)?;
        let allowed = plan.policy.fetch_timeout_secs;
        let left = allowed.saturating_sub(lacks_for.as_secs());
        Some(after(record.opened_at, allowed).max(after(now, left)))
    }

    /// Whether another host proved what the host was to run: somebody of its wave has converged.
    fn wave_has_converged(&self, plan: &Plan, host: &HostId) -> bool {
        let wave = plan.wave_of(host).and_then(|wave| plan.wave(wave));
        wave.is_some_and(|wave| {
            let mut records = wave.hosts.iter().filter_map(|host| self.ledger.record(host, &plan.rollout_id));
            records.any(|mirrored| mirrored.record.state == HostState::Converged)
        })
    }

    fn failure_of(
        &self,
        plan: &Plan,
        host: &HostId,
        record: &crate::host::Record,
        now: DateTime<Utc>,
    ) -> Option<Failure> {
        let policy = &plan.policy;
        if record.state == HostState::Pending {
            let feed = self.ledger.feed(host);
            if feed.is_some_and(|feed| feed.rejections(&plan.rollout_id) >= 2) {
                return Some(Failure::Rejected);
            }
            // What was never certified the host could not answer.
            let certified = self.ledger.certified();
            let slots = self.ledger.slots().of(host).filter(|slot| slot.rollout == plan.rollout_id);
            let missed =
                slots.filter(|slot| certified.contains_key(&slot.decision) && self.has_expired(host, slot));
            if missed.count() >= 2 {
                return Some(Failure::Expired);
            }
        }
        let in_flight = self.is_dispatched(host, &plan.rollout_id, now);
        let silent = self.presences.silent_for(host, self.mono).as_secs();
        if in_flight && silent >= policy.lost_after_secs {
            return Some(Failure::Lost);
        }
        let allowed = [policy.activation_timeout_secs, record.soak_secs, policy.sustained_failure_secs];
        let allowed = allowed.into_iter().fold(policy.sustained_failure_secs, u64::saturating_add);
        // Who waited for its reboot begins to soak long after its acknowledgement.
        // Who acknowledged, and whose feed leads no further, has had until the end of its dispatch to begin.
        let answered =
            self.ledger.slots().of(host).filter(|slot| slot.rollout == plan.rollout_id && in_flight);
        let started = record.dispatch_acked_at.or_else(|| answered.map(|slot| slot.not_after).max())?;
        // Its own clock may be behind, and nobody acts on a dispatch before it is made.
        let started =
            started.max(record.activation_completed_at.unwrap_or_default()).max(record.dispatched_at);
        (now > after(started, allowed)).then_some(Failure::Overdue)
    }

    /// Why the rollout goes on without the host, if it does.
    pub fn excuse(&self, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Option<Excuse> {
        if self.is_off_channel(host, &plan.channel) {
            return Some(Excuse::Removed);
        }
        if self.is_skipped(host, &plan.rollout_id, now) {
            return Some(Excuse::Skipped);
        }
        match self.standing(plan, host, now) {
            Standing::Failed(_) if self.was_cleared(host, &plan.rollout_id) => Some(Excuse::Cleared),
            Standing::Deferred { timed_out: true } => Some(Excuse::DeferredTooLong),
            // Of whoever tells two stories nobody can hear what it does, as of whoever tells none.
            Standing::Waiting
                if self.ledger.is_forked(host) || self.presences.reach(host, self.mono) == Reach::Offline =>
            {
                Some(Excuse::Offline)
            }
            Standing::Waiting
            | Standing::Failed(_)
            | Standing::Deferred { timed_out: false }
            | Standing::InFlight(_)
            | Standing::Converged => None,
        }
    }

    /// How many hosts of the rollout count as failed and were not excused by a person.
    pub fn failures(&self, plan: &Plan, now: DateTime<Utc>) -> usize {
        self.memo.failures(now, &plan.rollout_id, || {
            plan.hosts()
                .filter(|host| matches!(self.standing(plan, host, now), Standing::Failed(_)))
                .filter(|host| !self.excuse(plan, host, now).is_some_and(Excuse::by_operator))
                .count()
        })
    }

    /// The hosts that took a slot or are about to, in order; some of their slots may be free again.
    pub fn slot_takers(&self) -> impl Iterator<Item = &HostId> {
        let mut dispatched = self.ledger.slots().hosts().peekable();
        let mut about_to = self.tentative.iter().peekable();
        std::iter::from_fn(move || match (dispatched.peek(), about_to.peek()) {
            (Some(a), Some(b)) if a == b => {
                about_to.next();
                dispatched.next()
            }
            (Some(a), Some(b)) if a > b => about_to.next(),
            (Some(_), _) => dispatched.next(),
            (None, _) => about_to.next(),
        })
    }

    /// Whether an operator's word is that nobody waits for the host.
    pub fn is_skipped(&self, host: &HostId, rollout: &RolloutId, now: DateTime<Utc>) -> bool {
        self.is_ordered(now, |verb| {
            matches!(verb, Verb::Skip { host: skipped, rollout: only }
                if skipped == host && only.as_ref().is_none_or(|only| only == rollout))
        })
    }

    /// Whether an operator promoted the wave that follows `wave`.
    pub fn is_promoted(&self, rollout: &RolloutId, wave: u32, now: DateTime<Utc>) -> bool {
        self.is_ordered(
            now,
            |verb| matches!(verb, Verb::Promote { rollout: of, wave: to } if of == rollout && *to == wave),
        )
    }

    /// Whether an operator cleared the rollout, and the log says that this host was excused by it; that stays so
    /// when the command expires.
    fn was_cleared(&self, host: &HostId, rollout: &RolloutId) -> bool {
        self.ledger.rollouts().get(rollout).is_some_and(|record| record.is_cleared(host))
            && self.ledger.commands().any(|command| command.clears_rollout() == Some(rollout))
    }

    /// How many hosts of the rollout failed, also those that a person excused since.
    pub fn ever_failed(&self, plan: &Plan, now: DateTime<Utc>) -> usize {
        plan.hosts().filter(|host| matches!(self.standing(plan, host, now), Standing::Failed(_))).count()
    }

    fn is_ordered(&self, now: DateTime<Utc>, is_it: impl Fn(&Verb) -> bool) -> bool {
        self.ledger.commands_in_force(now).any(|command| is_it(&command.verb))
    }

    /// Whether the newest fleet document that counts lacks the host, or has it on another channel.
    pub fn is_off_channel(&self, host: &HostId, channel: &ChannelId) -> bool {
        self.ledger
            .counting_fleet()
            .is_some_and(|fleet| fleet.hosts.get(host).is_none_or(|entry| entry.channel != *channel))
    }

    fn is_removed(&self, host: &HostId) -> bool {
        self.ledger.counting_fleet().is_some_and(|fleet| !fleet.hosts.contains_key(host))
    }
}

/// A number of seconds as a span.
pub(crate) fn secs(secs: u64) -> TimeDelta {
    TimeDelta::try_seconds(i64::try_from(secs).unwrap_or(i64::MAX)).unwrap_or(TimeDelta::MAX)
}
