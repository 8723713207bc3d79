//! Where this host's feed ends by its peers' word, asked before it says anything after a start.
//!
//! A disk that was put back in time or cloned holds less of the host's own feed than its peers do. Going on from there
//! would sign a second history, which nobody forgives: so the feed stays closed after a start until a quorum of
//! coordinators has said that it holds no more, or until nobody has answered for a while. Coordinators' words alone open
//! it; what ends an incarnation is an envelope that this host's own key signed.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_signing::Verified;

use super::turn::Turn;
use super::{Node, Note, Output};
use crate::document::Electorate;
use crate::id::HostId;
use crate::ledger::{FeedError, Table, key};
use crate::planted::Bug;
use crate::time::Mono;
use crate::wire::{Envelope, FeedMark, Received, codec};

/// Who is alone goes on alone after so long: its health does not wait for a network.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two questions to the others.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the rest of a history is awaited of which the first part has come.
const HISTORY_PATIENCE: Duration = Duration::from_secs(2);

/// What this host knows of its feed's end.
#[derive(Debug, Default)]
pub(super) struct FeedEnd {
    phase: Phase,
    /// Coordinators that hold no more than this host does.
    agree: BTreeSet<HostId>,
    /// When the first question left.
    asked: Option<Mono>,
    /// When the first own envelope came that this host does not hold.
    longer: Option<Mono>,
    /// When a coordinator first said that it holds an earlier incarnation of which this store knows nothing.
    earlier: Option<Mono>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The others are asked.
    #[default]
    Asking,
    /// The feed goes on.
    Open,
    /// Another machine signs with this key: this one says no more.
    Silent,
}

impl Node {
    /// Whether this host may say anything in its feed.
    pub(super) fn feed_is_open(&self) -> bool {
        let forked = self.ledger.feed(&self.settings.host).is_some_and(crate::ledger::Feed::is_forked);
        self.end.phase == Phase::Open && !forked
    }

    /// Whether this host asks how far the others hold its feed.
    pub(super) fn asks_for_head(&self) -> bool {
        self.end.phase == Phase::Asking
    }

    /// Whether another machine was heard that has this host's key.
    pub(super) fn is_silenced(&self) -> bool {
        self.end.phase == Phase::Silent
    }

    /// A question about the feed's end leaves.
    pub(super) fn note_asked(&mut self, now: Mono) {
        if self.asks_for_head() {
            self.end.asked.get_or_insert(now);
        }
    }

    /// Opens the feed once it is known where it ends, or that nobody can tell.
    pub(super) fn tick_head(&mut self, turn: &mut Turn) {
        if !self.asks_for_head() {
            return;
        }
        let now = turn.now.mono;
        let Some(needed) = self.answers_needed() else { return };
        if self.ledger.planted().has(Bug::FeedUnasked) {
            return self.open_feed(turn);
        }
        if let Some(longer) = self.end.longer {
            if now < longer.after(HISTORY_PATIENCE) {
                return;
            }
        } else if self.end.agree.len() < needed {
            if now < self.asked_since().after(PATIENCE) {
                return;
            }
            turn.tell(Note::FeedUnconfirmed);
        }
        self.open_feed(turn);
    }

    /// When [`Node::tick_head`] wants to look again.
    pub(super) fn head_wakes_at(&self) -> Option<Mono> {
        if !self.asks_for_head() {
            return None;
        }
        self.answers_needed()?;
        Some(match self.end.longer {
            Some(longer) => longer.after(HISTORY_PATIENCE),
            None => self.asked_since().after(PATIENCE),
        })
    }

    fn asked_since(&self) -> Mono {
        self.end.asked.unwrap_or(self.started)
    }

    /// How many coordinators have to answer; none before the first fleet document.
    fn answers_needed(&self) -> Option<usize> {
        let electorate = self.ledger.roster().newest_electorate()?;
        let mine = usize::from(electorate.members.contains_key(&self.signer.public()));
        Some(electorate.quorum.saturating_sub(mine).min(others(electorate, mine)))
    }

    fn open_feed(&mut self, turn: &mut Turn) {
        self.end.phase = Phase::Open;
        let (incarnation, _) = self.own_head();
        let held = self.ledger.feed(&self.settings.host).map_or(0, crate::ledger::Feed::incarnation);
        if self.end.longer.is_some() || held > incarnation {
            self.renew_incarnation(turn, held.max(incarnation));
        }
        self.presence_wanted = true;
        self.begin_own(turn);
    }

    /// Begins a new history: the store does not hold all of the old one.
    fn renew_incarnation(&mut self, turn: &mut Turn, after: u64) {
        let now = u64::try_from(turn.now.utc.timestamp_millis()).unwrap_or_default();
        self.incarnation = now.max(after + 1);
        turn.rows.put(Table::Meta, key::meta("incarnation"), codec::encode(&self.incarnation));
        for seq in std::mem::take(&mut self.outbox) {
            turn.rows.delete(Table::Outbox, key::number(seq));
        }
        let message = "the peers hold more of this host's feed than its store: it begins a new incarnation";
        turn.tell(Note::Alarm { message: message.to_owned() });
    }

    /// Where the feed of this incarnation ends by this host's own store.
    fn own_head(&self) -> (u64, u64) {
        let feed = self.ledger.feed(&self.settings.host).filter(|it| it.incarnation() == self.incarnation);
        (self.incarnation, feed.and_then(crate::ledger::Feed::head).map_or(0, |head| head.seq))
    }

    /// An envelope of this host's own feed came back from the others.
    pub(super) fn own_envelope(
        &mut self,
        turn: &mut Turn,
        envelope: &Verified<Received<Envelope>>,
    ) -> Result<(), FeedError> {
        let place = (envelope.content.incarnation, envelope.content.seq);
        if place > self.own_head() {
            match self.end.phase {
                Phase::Asking => {
                    self.end.longer.get_or_insert(turn.now.mono);
                    self.history_is_lost(turn, envelope.content.at);
                }
                Phase::Open => {
                    self.end.phase = Phase::Silent;
                    let message = "another machine signs with this host's key: this one says no more";
                    turn.tell(Note::Alarm { message: message.to_owned() });
                }
                Phase::Silent => {}
            }
        }
        let taken = self.ledger.envelope(envelope);
        if taken.is_ok() && envelope.content.incarnation < self.incarnation {
            self.history_is_lost(turn, envelope.content.at);
        }
        taken
    }

    /// Whether a coordinator holds what this host said before the incarnation of this store, which holds none of it.
    fn is_of_earlier_store(&self, mark: &FeedMark) -> bool {
        let heads = self.ledger.feed(&self.settings.host).into_iter().flat_map(|feed| feed.heads());
        let held = heads.filter(|(of, _)| *of == mark.incarnation).map(|(_, head)| head.seq).max();
        mark.incarnation < self.incarnation && mark.seq > held.unwrap_or(0)
    }

    /// Whether it is known where the feed ends, and that no earlier store has said more, as far as anybody can tell.
    pub(super) fn history_is_known(&self, now: Mono) -> bool {
        !self.asks_for_head() && self.end.earlier.is_none_or(|at| now >= at.after(HISTORY_PATIENCE))
    }

    /// When [`Node::history_is_known`] may change by itself.
    pub(super) fn history_wakes_at(&self) -> Option<Mono> {
        self.end.earlier.map(|at| at.after(HISTORY_PATIENCE))
    }

    /// A coordinator says how far it holds this host's feed; what it holds beyond has to be shown.
    pub(super) fn head_answered(&mut self, turn: &mut Turn, by: &HostId, mark: &FeedMark) {
        if *by == self.settings.host || !self.asks_for_head() {
            return;
        }
        if self.is_of_earlier_store(mark) {
            self.end.earlier.get_or_insert(turn.now.mono);
            turn.outputs.push(Output::Fetch { from: self.ledger.roster().key_of(by).copied() });
        }
        if (mark.incarnation, mark.seq) <= self.own_head() {
            self.end.agree.insert(by.clone());
        } else {
            turn.outputs.push(Output::Fetch { from: self.ledger.roster().key_of(by).copied() });
        }
    }
}

fn others(electorate: &Electorate, mine: usize) -> usize {
    electorate.members.len().saturating_sub(mine)
}
