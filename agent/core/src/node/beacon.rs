//! What this host says outside its feed: its heartbeat, and what it has stored of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use muster_signing::{Digest, Purpose, seal};

use super::head::ASK_AGAIN;
use super::turn::Turn;
use super::{Node, Output, Topic};
use crate::id::HostId;
use crate::ledger::{Feed, NO_HASH, Table, key};
use crate::planted::Bug;
use crate::time::Mono;
use crate::wire::{FeedMark, Notice, NoticeBody, Presence, StoreState, codec};

/// The least time between two heartbeats, however many peers connect.
const PRESENCE_GAP: Duration = Duration::from_millis(200);
/// The least time between two messages about what is stored.
const MARKS_GAP: Duration = Duration::from_secs(1);
/// The first marks after something new go out this soon, so that who publishes need not wait.
const MARKS_SOON: Duration = Duration::from_millis(20);
/// Feeds in one message about what is stored.
const MARKED_FEEDS_MAX: usize = 512;
/// Proofs of forks that follow a heartbeat.
const SHOWN_FORKS_MAX: usize = 8;
/// Documents in one message about what is stored.
const MARKED_DOCUMENTS_MAX: usize = 64;

/// What coordinators said that they stored, and what this one has yet to say.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// How far each coordinator has stored this host's feed: (incarnation, seq).
    own_feed: BTreeMap<HostId, (u64, u64)>,
    /// Who has stored a document.
    pub(super) documents: BTreeMap<Digest, BTreeSet<HostId>>,
    feeds_to_say: BTreeSet<HostId>,
    documents_to_say: BTreeSet<Digest>,
    said: Option<Mono>,
}

impl Marks {
    fn wakes_at(&self) -> Option<Mono> {
        let silent = self.feeds_to_say.is_empty() && self.documents_to_say.is_empty();
        (!silent).then(|| self.said.map_or(Mono::default(), |said| said.after(MARKS_GAP)))
    }
}

impl Node {
    /// The time that this host may sign: never below what it ever signed.
    pub(super) fn sign_time(&mut self, turn: &Turn) -> DateTime<Utc> {
        let at = turn.now.utc.trunc_subsecs(3).max(self.greatest_at.unwrap_or(DateTime::<Utc>::MIN_UTC));
        self.greatest_at = Some(at);
        at
    }

    /// Signs a notice; the greatest time ever signed is stored with it.
    pub(super) fn sign_notice(&mut self, turn: &mut Turn, body: NoticeBody) -> Vec<u8> {
        let at = self.sign_time(turn);
        self.notices += 1;
        let notice = Notice {
            fleet: self.settings.fleet.clone(),
            host: self.settings.host.clone(),
            incarnation: self.incarnation,
            boot: self.boot,
            n: self.notices,
            at,
            body,
        };
        turn.rows.put(Table::Meta, key::meta("greatest_at"), codec::encode(&at));
        seal(&self.signer, Purpose::Notice, self.settings.fleet.as_str(), &codec::encode(&notice))
    }

    /// Sends what is due.
    pub(super) fn tick_beacon(&mut self, turn: &mut Turn) {
        let now = turn.now.mono;
        if self.speaks() && self.presence_due() <= now {
            self.send_presence(turn);
        }
        if self.coordinator.is_some() && self.marks.wakes_at().is_some_and(|at| at <= now) {
            self.send_marks(turn);
        }
    }

    /// When anything is due next.
    pub(super) fn beacon_wakes_at(&self) -> Option<Mono> {
        let presence = self.speaks().then(|| self.presence_due());
        let marks = self.coordinator.as_ref().and_then(|_| self.marks.wakes_at());
        [presence, marks].into_iter().flatten().min()
    }

    fn presence_due(&self) -> Mono {
        match self.presence_sent {
            None => Mono::default(),
            Some(sent) if self.presence_wanted => sent.after(PRESENCE_GAP),
            Some(sent) if self.asks_for_head() => sent.after(ASK_AGAIN),
            Some(sent) => sent.after(self.settings.heartbeat.mul_f64(self.jitter)),
        }
    }

    /// Whether the newest fleet document names this host with its key: nobody listens to it otherwise.
    pub(super) fn is_enrolled(&self) -> bool {
        self.ledger.roster().key_of(&self.settings.host) == Some(&self.signer.public())
    }

    fn speaks(&self) -> bool {
        self.is_enrolled() && !self.is_silenced()
    }

    fn send_presence(&mut self, turn: &mut Turn) {
        self.note_asked(turn.now.mono);
        self.presence_sent = Some(turn.now.mono);
        self.presence_wanted = false;
        // Within a tenth of the heartbeat, so that a fleet that started together does not speak together.
        self.jitter = 0.9 + 0.2 * self.random.fraction();
        let head = self
            .ledger
            .feed(&self.settings.host)
            .filter(|feed| feed.incarnation() == self.incarnation)
            .and_then(Feed::head);
        let presence = Presence {
            head_seq: head.map_or(0, |head| head.seq),
            head_hash: head.map_or(NO_HASH, |head| head.hash),
            current_closure: self.own.running.clone().flatten(),
            fetched: self.own.ahead.held(),
            prefetches: self.settings.backend.prefetches(),
            fetching: self.own.ahead.told(),
            reboot_pending: self.own.reboot_pending,
            store: StoreState::Ok,
            agent_version: self.settings.agent_version.clone(),
            fleet_serial: self.ledger.roster().serial(),
            uptime_secs: turn.now.mono.since(self.started).as_secs(),
            outbox: self.outbox.len() as u64,
            failing_enforce_probes: self.own.failing().cloned().collect(),
            rules: self.settings.rules,
            asks_for_head: self.asks_for_head(),
            epoch: self.ledger.epoch(),
            awaits_readmission: self.awaits_readmission(),
            heartbeat_millis: u64::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u64::MAX),
        };
        let bytes = self.sign_notice(turn, NoticeBody::Presence(Box::new(presence.clone())));
        self.own_presence = Some(bytes.clone());
        if let Some(at) = self.greatest_at {
            self.presences.speak(turn.now, at, (self.incarnation, self.boot, self.notices), &presence);
        }
        turn.outputs.push(Output::Publish { topic: Topic::Presence, bytes });
        self.show_forks(turn);
        if self.coordinator.is_some() {
            let documents = self.ledger.documents();
            let refs = documents.channel_refs().map(|(_, held)| held.hash);
            let newest = documents.fleet().map(|held| held.hash).into_iter().chain(refs);
            self.marks.documents_to_say.extend(newest);
        }
    }

    /// Shows the proofs of forks that this host holds: who has not seen both histories cannot find it out by himself.
    fn show_forks(&mut self, turn: &mut Turn) {
        if self.ledger.planted().has(Bug::ForkUntold) {
            return;
        }
        let proofs: Vec<_> =
            self.ledger.forks().map(|(_, proof)| proof.clone()).take(SHOWN_FORKS_MAX).collect();
        for proof in proofs {
            let bytes = self.sign_notice(turn, NoticeBody::Fork(proof));
            turn.outputs.push(Output::Publish { topic: Topic::Presence, bytes });
        }
    }

    /// Says what this coordinator has stored. It leaves only after everything written before is durable.
    fn send_marks(&mut self, turn: &mut Turn) {
        self.marks.said = Some(turn.now.mono);
        let hosts = take_some(&mut self.marks.feeds_to_say, MARKED_FEEDS_MAX);
        let feeds = hosts.into_iter().map(|host| {
            // That nothing is held is an answer, too.
            let feed = self.ledger.feed(&host);
            let (seq, incarnation) =
                feed.map_or((0, 0), |feed| (feed.head().map_or(0, |head| head.seq), feed.incarnation()));
            FeedMark { seq, incarnation, host }
        });
        let feeds: Vec<FeedMark> = feeds.collect();
        let documents = take_some(&mut self.marks.documents_to_say, MARKED_DOCUMENTS_MAX);
        let me = self.settings.host.clone();
        self.take_marks(turn, &me, &feeds, &documents);
        let bytes = self.sign_notice(turn, NoticeBody::Marks { feeds, documents });
        turn.outputs.push(Output::Publish { topic: Topic::Presence, bytes });
    }

    /// Something new of a host was stored here.
    pub(super) fn mark_feed(&mut self, turn: &Turn, host: &HostId) {
        if self.coordinator.is_some() && self.marks.feeds_to_say.insert(host.clone()) {
            self.marks_soon(turn);
        }
    }

    /// A document was stored here.
    pub(super) fn mark_document(&mut self, turn: &Turn, hash: Digest) {
        if self.coordinator.is_some() && self.marks.documents_to_say.insert(hash) {
            self.marks_soon(turn);
        }
    }

    fn marks_soon(&mut self, turn: &Turn) {
        if self.marks.said.is_none() {
            // Pretend that something was said, so that what comes within the next moment goes along.
            let gap = MARKS_GAP.saturating_sub(MARKS_SOON);
            self.marks.said = Some(Mono(turn.now.mono.0.saturating_sub(gap.as_micros() as u64)));
        }
    }

    /// A coordinator said what it has stored; what a quorum has stored of this host leaves the outbound queue.
    pub(super) fn take_marks(
        &mut self,
        turn: &mut Turn,
        by: &HostId,
        feeds: &[FeedMark],
        documents: &[Digest],
    ) {
        let roster = self.ledger.roster().clone();
        let Some(electorate) = roster.electorate(roster.serial()) else { return };
        if !electorate.members.values().any(|host| host == by) {
            return;
        }
        for hash in documents {
            if self.ledger.documents().holds(hash) {
                self.marks.documents.entry(*hash).or_default().insert(by.clone());
            } else {
                turn.outputs.push(Output::Fetch { from: roster.key_of(by).copied() });
            }
        }
        if let Some(mark) = feeds.iter().find(|mark| mark.host == self.settings.host) {
            let known = self.marks.own_feed.entry(by.clone()).or_default();
            *known = (*known).max((mark.incarnation, mark.seq));
            self.head_answered(turn, by, mark);
            self.trim_outbox(turn, electorate.quorum);
        }
    }

    fn trim_outbox(&mut self, turn: &mut Turn, quorum: usize) {
        let of_now = self.marks.own_feed.values().filter(|(incarnation, _)| *incarnation == self.incarnation);
        let mut stored: Vec<u64> = of_now.map(|(_, seq)| *seq).collect();
        stored.sort_unstable_by(|a, b| b.cmp(a));
        let Some(by_quorum) = quorum.checked_sub(1).and_then(|nth| stored.get(nth).copied()) else { return };
        while let Some(seq) = self.outbox.first().copied().filter(|seq| *seq <= by_quorum) {
            self.outbox.pop_first();
            turn.rows.delete(Table::Outbox, key::number(seq));
        }
    }
}

fn take_some<T: Ord + Clone>(set: &mut BTreeSet<T>, most: usize) -> Vec<T> {
    let taken: Vec<T> = set.iter().take(most).cloned().collect();
    for item in &taken {
        set.remove(item);
    }
    taken
}
