//! The fleet's network: who may connect, what is gossiped, and the sync that makes up for what gossip lost.

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
pub use identity::{HostKey, host_key, peer_id};
pub use index::Index;
pub use library::{
    Digests, FeedHead, Head, Library, SECTIONS, Section, Summary, digest_feeds, digest_items, feed_bucket,
    item_bucket,
};
pub use network::{Counters, Network};
pub use start::start;
