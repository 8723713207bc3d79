//! Proposals of a member that does not lead, on their way to the one that does.

use super::entries::check_lengths;
use super::message::{
    Body, Forward, ForwardAnswer, MESSAGE_ENTRIES_MAX, MemberId, PAYLOAD_BYTES_MAX, Proposal, ProposalId,
};
use super::state::{Log, Role};
use super::{Forwarded, ProposeError, Ready};
use crate::time::{Mono, Now};
use std::collections::BTreeMap;

/// Proposals that may wait for a leader to take them.
const WAITING_MAX: usize = MESSAGE_ENTRIES_MAX;
/// How often they are sent before they are given up.
const TRIES_MAX: u32 = 40;

/// What waits to be taken.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    waiting: BTreeMap<ProposalId, Waiting>,
    send_at: Mono,
}

#[derive(Debug)]
struct Waiting {
    payload: Vec<u8>,
    tries: u32,
}

impl Forwards {
    pub(super) fn wakes_at(&self) -> Option<Mono> {
        (!self.waiting.is_empty()).then_some(self.send_at)
    }
}

impl Log {
    /// Hands proposals to the leader; what becomes of each is told by a later `Ready::forwarded`. All of them or none.
    pub fn forward(
        &mut self,
        now: Now,
        payloads: Vec<Vec<u8>>,
    ) -> Result<(Vec<ProposalId>, Ready), ProposeError> {
        if matches!(self.role, Role::Leader(_)) {
            return self.propose(now, payloads);
        }
        if self.is_stopped() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        check_lengths(&payloads)?;
        if self.forwards.waiting.len() + payloads.len() > WAITING_MAX {
            return Err(ProposeError::Full);
        }
        let mut ids = Vec::new();
        for payload in payloads {
            let id = self.next_id();
            self.forwards.waiting.insert(id, Waiting { payload, tries: 0 });
            ids.push(id);
        }
        self.forwards.send_at = now.mono;
        let ready = self.tick(now);
        Ok((ids, ready))
    }

    pub(super) fn tick_forwards(&mut self, now: Now) {
        if self.forwards.waiting.is_empty() || now.mono < self.forwards.send_at {
            return;
        }
        self.forwards.send_at = now.mono.after(self.config.timing.heartbeat_idle);
        let given_up: Vec<_> =
            self.forwards.waiting.iter().filter(|(_, it)| it.tries >= TRIES_MAX).map(|it| *it.0).collect();
        for id in given_up {
            self.settle(id, Forwarded::GivenUp);
        }
        let (mut proposals, mut payload_bytes) = (Vec::new(), 0);
        for (id, waiting) in &mut self.forwards.waiting {
            waiting.tries += 1;
            payload_bytes += waiting.payload.len();
            if payload_bytes <= PAYLOAD_BYTES_MAX {
                proposals.push(Proposal { id: *id, payload: waiting.payload.clone() });
            }
        }
        if let Some(leader) = self.leader.filter(|leader| *leader != self.config.me) {
            self.send(leader, Body::Forward(Forward { proposals }));
        }
    }

    /// A new leader takes its own first.
    pub(super) fn append_own_forwards(&mut self, now: Now) {
        for (id, waiting) in std::mem::take(&mut self.forwards.waiting) {
            if !self.placed.contains_key(&id) {
                self.append_own(now, Some(id), waiting.payload);
            }
            self.forwarded.push((id, Forwarded::Taken));
        }
    }

    /// Appends what is not in the log yet. Nobody proposes in another's name.
    pub(super) fn on_forward(&mut self, now: Now, from: MemberId, forward: Forward) {
        let leads = matches!(&self.role, Role::Leader(leadership) if leadership.handing_over.is_none());
        let mut taken = Vec::new();
        for proposal in forward.proposals.into_iter().filter(|it| leads && it.id.member == from) {
            let fits =
                proposal.payload.len() <= PAYLOAD_BYTES_MAX && self.has_room(1, proposal.payload.len());
            let known = self.placed.contains_key(&proposal.id);
            if !known && fits {
                self.append_own(now, Some(proposal.id), proposal.payload);
            }
            if known || fits {
                taken.push(proposal.id);
            }
        }
        self.replicate(now);
        self.send(from, Body::ForwardAnswer(ForwardAnswer { taken }));
    }

    pub(super) fn on_forward_answer(&mut self, answer: &ForwardAnswer) {
        for id in &answer.taken {
            self.settle(*id, Forwarded::Taken);
        }
    }

    fn settle(&mut self, id: ProposalId, outcome: Forwarded) {
        if self.forwards.waiting.remove(&id).is_some() {
            self.forwarded.push((id, outcome));
        }
    }
}
