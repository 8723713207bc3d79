//! What the network brings: every byte is verified here before the node hears of it.

use std::collections::{BTreeMap, VecDeque};

use muster_core::coordination::log::Message;
use muster_core::node::{CoordinatorMessage, Input, MessageRef, Origin, Verdict};
use muster_core::verify::{self, Roster, VerifyError};
use muster_core::wire::{NoticeBody, codec};
use muster_gossip::{Event, HostKey, Item, Network, Topic};
use muster_signing::{EnvelopeError, PublicKey};

use super::figures::Figures;
use super::library::Shelf;

/// Gossip messages that wait for the node's verdict.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next: u64,
    messages: BTreeMap<u64, (Topic, muster_gossip::MessageRef)>,
}

impl Pending {
    fn wait(&mut self, topic: Topic, message: muster_gossip::MessageRef) -> MessageRef {
        self.next += 1;
        self.messages.insert(self.next, (topic, message));
        MessageRef(self.next)
    }

    /// Tells the network what the node said; gives it with the message's topic.
    pub(super) fn answer(
        &mut self,
        network: &Network,
        message: MessageRef,
        verdict: Verdict,
    ) -> Option<(Topic, muster_gossip::Verdict)> {
        let (topic, message) = self.messages.remove(&message.0)?;
        let verdict = translate(verdict);
        network.verdict(message, verdict);
        Some((topic, verdict))
    }

    /// Blames nobody for what the node will never judge.
    pub(super) fn forget(&mut self, network: &Network) {
        for (_, message) in std::mem::take(&mut self.messages).into_values() {
            network.verdict(message, muster_gossip::Verdict::Ignore);
        }
    }
}

fn translate(verdict: Verdict) -> muster_gossip::Verdict {
    match verdict {
        Verdict::Accept => muster_gossip::Verdict::Accept,
        Verdict::Ignore => muster_gossip::Verdict::Ignore,
        Verdict::Reject => muster_gossip::Verdict::Reject,
    }
}

/// What to do about bytes that are not let in: nobody is blamed for a roster that is older or newer than ours.
fn blame(error: &VerifyError) -> muster_gossip::Verdict {
    match error {
        VerifyError::UnknownHost(_) | VerifyError::UnknownKey(_) | VerifyError::UnknownFleetSerial(_) => {
            muster_gossip::Verdict::Ignore
        }
        VerifyError::Version(_) => muster_gossip::Verdict::Ignore,
        // Its key may have changed in a fleet document that is not here yet.
        VerifyError::Envelope(EnvelopeError::Mismatch) | VerifyError::NoQuorum { .. } => {
            muster_gossip::Verdict::Ignore
        }
        VerifyError::Envelope(_)
        | VerifyError::Decision(_)
        | VerifyError::Document(_)
        | VerifyError::Content(_)
        | VerifyError::OtherFleet(_) => muster_gossip::Verdict::Reject,
    }
}

/// Turns an event of the network into a fact for the node; what a sync brings is put behind the backlog instead.
pub(super) fn input(
    event: Event,
    roster: &Roster,
    shelf: &Shelf,
    pending: &mut Pending,
    network: &Network,
    backlog: &mut VecDeque<Item>,
    figures: &mut Figures,
) -> Option<Input> {
    match event {
        Event::Message { topic, reference, bytes, .. } => match gossiped(topic, &bytes, roster) {
            Ok(read) => Some(read.into_input(Some(pending.wait(topic, reference)), shelf)),
            Err(error) => {
                tracing::debug!(topic = topic.name(), %error, "a gossip message is not let in");
                let verdict = blame(&error);
                figures.judged(topic, verdict);
                network.verdict(reference, verdict);
                None
            }
        },
        Event::Synced { items, .. } => {
            backlog.extend(items);
            None
        }
        Event::Log { from, bytes } => direct(from, &bytes, roster),
        Event::PeerUp { key, address } => {
            tracing::debug!(address, "a peer is connected");
            public(&key).map(Input::PeerUp)
        }
        Event::PeerDown { key } => public(&key).map(Input::PeerDown),
        Event::Listening { address } => {
            tracing::info!(address, "listening");
            None
        }
        Event::ListenFailed { reason } => {
            tracing::error!(reason, "cannot listen");
            None
        }
    }
}

/// Turns a thing that a sync brought into a fact for the node.
pub(super) fn caught_up(item: &Item, roster: &Roster, shelf: &Shelf) -> Option<Input> {
    Some(synced(item, roster)?.into_input(None, shelf))
}

fn synced(item: &Item, roster: &Roster) -> Option<Read> {
    let read = match item {
        Item::Document(bytes) => verify::document(bytes).map(Read::Document),
        // A proof is the other document, or the other envelope of a fork; holding the one, this node finds out itself.
        Item::Proof(bytes) => verify::document(bytes)
            .map(Read::Document)
            .or_else(|_| verify::envelope(roster, bytes).map(Read::Envelope)),
        Item::Decision(bytes) => verify::certificate(roster, bytes).map(Read::Decision),
        Item::Envelope(bytes) => verify::envelope(roster, bytes).map(Read::Envelope),
        Item::Notice(bytes) => verify::notice(roster, bytes).map(Read::Notice),
    };
    read.inspect_err(|error| tracing::debug!(%error, "an item of a sync is not let in")).ok()
}

/// Something that was let in.
enum Read {
    Document(muster_signing::Verified<muster_signing::SignedDocument>),
    Envelope(muster_signing::Verified<muster_core::wire::Received<muster_core::wire::Envelope>>),
    Notice(muster_signing::Verified<muster_core::wire::Received<muster_core::wire::Notice>>),
    Decision(verify::Certified),
}

impl Read {
    fn into_input(self, message: Option<MessageRef>, shelf: &Shelf) -> Input {
        match self {
            Self::Document(document) => {
                Input::Document { document, origin: message.map_or(Origin::Sync, Origin::Gossip) }
            }
            Self::Envelope(envelope) => Input::Envelope { envelope, message },
            Self::Notice(notice) => {
                if let NoticeBody::Presence(_) = &notice.content.body {
                    shelf.notice(&notice);
                }
                Input::Notice { notice, message }
            }
            Self::Decision(certified) => Input::Decision { certified, message },
        }
    }
}

fn gossiped(topic: Topic, bytes: &[u8], roster: &Roster) -> Result<Read, VerifyError> {
    Ok(match topic {
        Topic::Documents => Read::Document(verify::document(bytes)?),
        Topic::Decisions => Read::Decision(verify::certificate(roster, bytes)?),
        Topic::Events => Read::Envelope(verify::envelope(roster, bytes)?),
        Topic::Presence => Read::Notice(verify::notice(roster, bytes)?),
    })
}

fn direct(from: HostKey, bytes: &[u8], roster: &Roster) -> Option<Input> {
    let from = public(&from)?;
    let message = codec::decode::<CoordinatorMessage>("coordinator's message", bytes);
    let input = message.map_err(VerifyError::from).and_then(|message| match message {
        CoordinatorMessage::Log(bytes) => verify::consensus(roster, &from, &bytes)
            .map(|message: Message| Input::Consensus { from, message: Box::new(message) }),
        CoordinatorMessage::Endorsement(message) => {
            verify::endorsement(roster, &from, &message).map(Input::Endorsement)
        }
        CoordinatorMessage::Objection(bytes) => {
            verify::notice(roster, &bytes).map(|notice| Input::Notice { notice, message: None })
        }
    });
    input.inspect_err(|error| tracing::debug!(%from, %error, "a coordinator's message is not let in")).ok()
}

fn public(key: &HostKey) -> Option<PublicKey> {
    PublicKey::from_bytes(key).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use chrono::Utc;
    use muster_core::wire::{FeedBody, IncarnationStarted};
    use muster_signing::{Digest, SigningKey};

    use super::*;
    use crate::daemon::testing;

    fn envelope(key: &SigningKey) -> Vec<u8> {
        let began = IncarnationStarted { current_closure: None, started_at: Utc::now() };
        testing::envelope(key, 1, Digest([0; 32]), Utc::now(), FeedBody::Incarnation(began)).0
    }

    #[test]
    fn who_sends_what_is_no_envelope_is_to_blame_and_who_knows_another_key_is_not() {
        use muster_gossip::Verdict::{Ignore, Reject};
        let roster = testing::roster();
        let blamed = |topic, bytes: &[u8]| blame(&gossiped(topic, bytes, &roster).err().unwrap());
        for malformed in [&b"x"[..], &vec![0; muster_signing::ENVELOPE_BYTES_MAX + 1]] {
            assert_eq!(blamed(Topic::Events, malformed), Reject);
            assert_eq!(blamed(Topic::Presence, malformed), Reject);
        }
        assert_eq!(blamed(Topic::Events, &envelope(&testing::alpha())), Ignore);
        assert!(gossiped(Topic::Events, &envelope(&testing::beta()), &roster).is_ok());
    }

    #[test]
    fn a_proof_is_a_document_or_an_envelope() {
        let roster = testing::roster();
        let read = |bytes| synced(&Item::Proof(bytes), &roster);
        assert!(matches!(read(testing::fleet_document()), Some(Read::Document(_))));
        assert!(matches!(read(envelope(&testing::beta())), Some(Read::Envelope(_))));
        assert!(read(envelope(&testing::alpha())).is_none());
        assert!(read(b"x".to_vec()).is_none());
    }
}
