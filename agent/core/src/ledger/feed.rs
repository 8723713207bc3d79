//! One host's feed: a hash chain of signed envelopes, taken in strictly in order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use muster_signing::Digest;
use serde::{Deserialize, Serialize};

use super::NO_HASH;
use crate::id::RolloutId;
use crate::wire::{Envelope, EnvelopeRef, FeedBody, HostEvent, HostEventKind, Received, RejectReason};

/// Why an envelope was not appended to its host's feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The position is held already.
    #[error("feed position {seq} of incarnation {incarnation} is held already")]
    Duplicate {
        /// The envelope's incarnation.
        incarnation: u64,
        /// The envelope's position.
        seq: u64,
    },
    /// Positions in between are missing; they are to be fetched.
    #[error("feed position {got} came while {wanted} is the next")]
    Gap {
        /// The position that is the next.
        wanted: u64,
        /// The position that came.
        got: u64,
    },
    /// The host signed two histories: it is compromised, or its disk was cloned.
    #[error("two envelopes of incarnation {incarnation} claim what follows position {}", seq.saturating_sub(1))]
    Fork {
        /// The envelope's incarnation.
        incarnation: u64,
        /// The envelope's position.
        seq: u64,
    },
    /// Nothing of this key is applied after a proven fork, until the host is re-keyed.
    #[error("the host's feed is forked")]
    Forked,
    /// The host says more than a host may; what it says is taken in later, or never.
    #[error("the host exceeds its quota: {what}")]
    Throttled {
        /// Which.
        what: &'static str,
    },
    /// The incarnation lies too far in the future.
    #[error("incarnation {incarnation} lies in the future")]
    FromTheFuture {
        /// The envelope's incarnation.
        incarnation: u64,
    },
}

/// How a host answered a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It will activate.
    Acknowledged,
    /// It never will.
    Rejected(RejectReason),
}

/// The newest position of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The position, from 1.
    pub seq: u64,
    /// The envelope's hash.
    pub hash: Digest,
}

/// An envelope that the mirror has not applied yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) reference: EnvelopeRef,
    pub(super) at: DateTime<Utc>,
    pub(super) body: FeedBody,
}

/// One host's feed, as far as it is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    incarnation: u64,
    head: Option<Head>,
    older: BTreeMap<u64, Head>,
    greatest_at: Option<DateTime<Utc>>,
    /// Proofs tell it, and are no part of what was learnt in order.
    #[serde(skip)]
    forked: bool,
    answers: BTreeMap<(u64, RolloutId), Answer>,
    bytes: u64,
    /// The newest envelope as it was signed: half of a proof, should its host say something else of that place.
    #[serde(with = "serde_bytes")]
    newest: Vec<u8>,
    pub(super) waiting: VecDeque<Waiting>,
    /// Rollouts of before a recovery that the host is in, by its own word, and of which this node knows nothing else.
    strays: BTreeSet<RolloutId>,
    /// The newest incarnation of which an event was mirrored.
    pub(super) applied_incarnation: u64,
}

impl Feed {
    /// The incarnation that speaks now; 0 before the first envelope.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The newest position.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The newest position of every incarnation.
    pub fn heads(&self) -> impl Iterator<Item = (u64, Head)> {
        self.older
            .iter()
            .map(|(incarnation, head)| (*incarnation, *head))
            .chain(self.head.map(|head| (self.incarnation, head)))
    }

    /// The greatest time that the host ever signed in it.
    pub fn greatest_at(&self) -> Option<DateTime<Utc>> {
        self.greatest_at
    }

    /// Whether the host signed two histories.
    pub fn is_forked(&self) -> bool {
        self.forked
    }

    /// How the host answered the dispatch of a log entry into a rollout.
    pub fn answer(&self, log_index: u64, rollout: &RolloutId) -> Option<&Answer> {
        self.answers.get(&(log_index, rollout.clone()))
    }

    /// How often the host refused a dispatch of a rollout.
    pub fn rejections(&self, rollout: &RolloutId) -> usize {
        let of_it = self.answers.iter().filter(|((_, of), _)| of == rollout);
        of_it.filter(|(_, answer)| matches!(answer, Answer::Rejected(_))).count()
    }

    /// How many bytes of it are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the host is in a rollout of before a recovery of which nothing is known here but what it says itself.
    pub fn has_strays(&self) -> bool {
        !self.strays.is_empty()
    }

    /// Whether a rollout was dispatched to the host by an entry behind an index, by the host's own answers.
    pub(super) fn answered_behind(&self, rollout: &RolloutId, index: u64) -> bool {
        self.answers.keys().any(|(at, of)| *at > index && of == rollout)
    }

    /// Takes note of an event of a rollout that a recovery has ended and that is not known here.
    pub(super) fn stray(&mut self, event: &HostEvent) {
        match &event.kind {
            HostEventKind::DispatchAck { .. } => {
                self.strays.insert(event.rollout_id.clone());
            }
            HostEventKind::RollbackComplete { exit_code: 0, .. }
            | HostEventKind::Converged { .. }
            | HostEventKind::DispatchRejected { .. } => {
                self.strays.remove(&event.rollout_id);
            }
            HostEventKind::RollbackComplete { .. }
            | HostEventKind::ActivationStarted { .. }
            | HostEventKind::ActivationCompleted { .. }
            | HostEventKind::ActivationFailed { .. }
            | HostEventKind::ActivationDeferred { .. }
            | HostEventKind::ProbeTopologyDeclared { .. }
            | HostEventKind::ProbeObservedFirst { .. }
            | HostEventKind::ProbeResult { .. }
            | HostEventKind::ProbeFailureFirst { .. }
            | HostEventKind::Failed { .. } => {}
        }
    }

    /// Whether anything is held of it.
    pub(super) fn says_something(&self) -> bool {
        *self != Self { forked: self.forked, ..Self::default() }
    }

    /// Forgets how the host answered the dispatches of a rollout.
    pub(super) fn forget(&mut self, rollout: &RolloutId) {
        self.answers.retain(|(_, of), _| of != rollout);
    }

    /// Events that wait for their record to be opened.
    pub fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an envelope is the next one; says what it is otherwise.
    pub(super) fn check(&self, envelope: &Received<Envelope>) -> Result<(), FeedError> {
        let Envelope { incarnation, seq, prev, .. } = *envelope.content;
        if self.forked {
            return Err(FeedError::Forked);
        }
        let head = match incarnation.cmp(&self.incarnation) {
            Ordering::Less => self.older.get(&incarnation).copied(),
            Ordering::Equal => self.head,
            Ordering::Greater => None,
        };
        let (last, hash) = head.map_or((0, NO_HASH), |head| (head.seq, head.hash));
        // Of what came before a new incarnation nothing is left to prove a fork by.
        let provable = incarnation >= self.incarnation;
        if provable && seq == last && last > 0 && envelope.hash != hash {
            return Err(FeedError::Fork { incarnation, seq });
        }
        if seq <= last {
            return Err(FeedError::Duplicate { incarnation, seq });
        }
        if seq > last + 1 {
            return Err(FeedError::Gap { wanted: last + 1, got: seq });
        }
        match prev == hash {
            true => Ok(()),
            false if provable => Err(FeedError::Fork { incarnation, seq }),
            false => Err(FeedError::Duplicate { incarnation, seq }),
        }
    }

    /// Takes in an envelope that [`Feed::check`] let through.
    pub(super) fn append(&mut self, envelope: &Received<Envelope>) {
        let content = &envelope.content;
        if content.incarnation > self.incarnation {
            if let Some(head) = self.head.take() {
                self.older.insert(self.incarnation, head);
            }
            self.incarnation = content.incarnation;
        }
        let head = Head { seq: content.seq, hash: envelope.hash };
        if content.incarnation == self.incarnation {
            self.head = Some(head);
            self.newest.clone_from(&envelope.bytes);
        } else {
            self.older.insert(content.incarnation, head);
        }
        self.greatest_at = self.greatest_at.max(Some(content.at));
        self.bytes = self.bytes.saturating_add(envelope.bytes.len() as u64);
        if let FeedBody::Rollout(event) = &content.body {
            let answer = match &event.kind {
                HostEventKind::DispatchAck { log_index, .. } => Some((*log_index, Answer::Acknowledged)),
                HostEventKind::DispatchRejected { log_index, reason, .. } => {
                    Some((*log_index, Answer::Rejected(*reason)))
                }
                HostEventKind::ActivationStarted { .. }
                | HostEventKind::ActivationCompleted { .. }
                | HostEventKind::ActivationFailed { .. }
                | HostEventKind::ActivationDeferred { .. }
                | HostEventKind::ProbeTopologyDeclared { .. }
                | HostEventKind::ProbeObservedFirst { .. }
                | HostEventKind::ProbeResult { .. }
                | HostEventKind::ProbeFailureFirst { .. }
                | HostEventKind::Failed { .. }
                | HostEventKind::RollbackComplete { .. }
                | HostEventKind::Converged { .. } => None,
            };
            if let Some((log_index, answer)) = answer {
                // A refusal binds the host; one that acts after all is held to what it said last.
                let known =
                    self.answers.entry((log_index, event.rollout_id.clone())).or_insert(answer.clone());
                if *known != Answer::Acknowledged {
                    *known = answer;
                }
            }
        }
        self.waiting.push_back(Waiting {
            reference: EnvelopeRef {
                incarnation: content.incarnation,
                seq: content.seq,
                hash: envelope.hash,
            },
            at: content.at,
            body: content.body.clone(),
        });
    }

    /// The newest envelope as it was signed.
    pub(super) fn newest(&self) -> &[u8] {
        &self.newest
    }

    /// Stops the feed until its host gets another key: two histories were signed.
    pub(super) fn mark_forked(&mut self) {
        self.forked = true;
    }

    /// Whether an envelope that once proved a fork is of this feed: of its present incarnation, at a place that is held
    /// or the next.
    pub(super) fn contradicts(&self, envelope: &Envelope) -> bool {
        let head = self.head.map_or(0, |head| head.seq);
        envelope.incarnation == self.incarnation && envelope.seq <= head + 1
    }

    /// The host has another key: what the old one signed speaks against it no more.
    pub(super) fn begin_anew(&mut self) {
        self.forked = false;
    }
}
