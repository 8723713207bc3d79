//! The fleet's network: who may connect, what is gossiped, and the sync that makes up for what gossip lost.
//!
//! The hosts of a fleet have no server to meet at. Each runs one [`Network`]: it listens, dials the other hosts that the
//! fleet document names, and carries what they tell each other. It knows documents, decisions, envelopes, notices and
//! log messages only as bytes. Whether they are true is the node's matter, and so is what follows from them.
//!
//! # Four ways for a byte to travel
//!
//! - **Gossip**, `/muster/<fleet>/{documents,decisions,events,presence}/1`: fast, to everybody, and lossy. A message
//!   arrives as [`Event::Message`] and is forwarded only after the node's [`Verdict::Accept`]; a peer whose messages are
//!   rejected again and again is no longer heard there.
//! - **Sync**, `/muster/<fleet>/sync/1`: what correctness rests on. Pull only: a host asks a peer when it connects, and
//!   a random one every ten seconds. First the peer's 256 bucket digests of each kind of thing, if they differ at all;
//!   then the heads in the buckets that differ; then exactly what is missing, in answers of at most 1 MiB, each followed
//!   by the next until nothing is left. The things come as [`Event::Synced`], documents before decisions before
//!   envelopes, so that what is referred to comes first. Identities are compared, not high-water marks, so holes are
//!   found. Answers come from the agent's [`Library`].
//! - **Log**, `/muster/<fleet>/log/1`: messages between two coordinators, each on a stream of its own, so that no
//!   transfer stands in their way. The empty answer says only that the message was taken. A lost one stays lost.
//! - **Enrolment**, `/muster/<fleet>/enroll/1`: the signed fleet documents, for whoever asks.
//!
//! # Who may connect
//!
//! The members of the [`Roster`], by the key that their connection's handshake proves. Who leaves the roster is
//! disconnected at once. A stranger that dials gets, for at most ten seconds and as one of at most eight:
//!
//! - a connection on which enrolment is the only protocol; gossip, sync, log and ping are not there to be spoken to,
//!   since their handlers are never attached to it;
//! - the fleet documents, newest 32, which are signed, public to whoever may join, and name no secret.
//!
//! It causes no event at the node, and it hears of nobody's presence. This node dials strangers only to enrol itself: the
//! configured bootstrap peers, while it has no fleet document yet or no member can be reached.
//!
//! # How it runs
//!
//! [`start`] spawns one task that owns the swarm; a current-thread runtime suffices. Orders go to it over a bounded
//! queue and never wait: what finds the queue full is dropped and counted ([`Network::counters`]). Events come over a
//! queue bounded in number and bytes ([`Events`]). When the node falls behind, gossip and log messages are dropped, for
//! sync and the log's own repetition bring them again; a pull waits for room; news of connections is always kept.
//!
//! Every limit has a name in [`limits`].

mod admission;
mod behaviour;
mod codec;
mod config;
mod dialing;
mod event;
mod gossip;
mod identity;
mod index;
mod library;
pub mod limits;
mod network;
mod queue;
mod random;
mod serving;
mod start;
mod sync;
mod syncing;
mod task;
mod transport;

pub use config::{Config, Roster, StartError};
pub use event::{Direction, Event, Events, Item, MessageRef, PeerInfo, Topic, Verdict};
pub use identity::{HostKey, host_key_of, peer_id_of};
pub use index::Index;
pub use library::{
    Digests, FeedHead, Head, Library, SECTIONS, Section, Summary, digest_feeds, digest_items, feed_bucket,
    item_bucket,
};
pub use network::{Counters, Network};
pub use start::start;
