//! The durable tables of one host, in redb.
//!
//! A host of a fleet remembers in one file what it was told and what it has done: signed documents and decisions, its
//! own feed of events and those of others, the replicated log if it is a coordinator, and views that follow from
//! these. This crate keeps that file. It knows tables, keys and bytes; what they mean, and whether a signature holds,
//! is for the layers above.
//!
//! ```
//! use muster_store::{Change, Identity, Store, Table};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("muster.redb");
//! let store = Store::open(&path, Identity { fleet: "home".into(), host: "alpha".into() })?;
//! store.commit(vec![Change::put(Table::Outbox, 7_u64.to_be_bytes(), [])], |result| {
//!     // Durable if `Ok`: only now may the event be published.
//!     assert_eq!(result, Ok(()));
//! });
//! store.commit_wait(vec![Change::put(Table::Meta, "incarnation", 3_u64.to_be_bytes())])?;
//! let snapshot = store.read()?;
//! assert_eq!(snapshot.first(Table::Outbox)?, Some((7_u64.to_be_bytes().to_vec(), vec![])));
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **A batch is whole and in order.** A batch answered with `Ok` is on the disk, all of it, and so is every batch
//!   submitted before it that was answered so; a kill or a power cut at any instruction changes nothing about that.
//! - **Group commit.** One thread writes. What has come while it waited for the disk goes into the next transaction
//!   together and shares its sync. The queue is bounded; a batch that finds it full is answered
//!   [`CommitError::Busy`].
//! - **Readers do not wait.** A [`Snapshot`] sees one commit and nothing later, beside the writer.
//! - **A failed sync is never tried again**, because the kernel may have dropped the pages that it could not write.
//!   The store stops ([`Health::Failed`]) and refuses all work; close it, open it, and read what the disk holds.
//! - **A full disk** costs the reserve, a file of 8 MiB beside the store, which is deleted so that what is in flight
//!   can be recorded ([`Health::Full`]). Batches that do not fit even then are answered [`CommitError::Full`]; reads
//!   go on. Once there is room the reserve is made again.
//! - **A damaged file** is refused, named and left as it is. Opening verifies the checksum of each page; damage that
//!   comes later gives an error or, at worst, other bytes, so whoever needs a value to be genuine verifies its
//!   signature. A panic of the engine below becomes an error.
//! - **One opener.** `<file>.lock` names the process that holds the file; a second one is told its pid.
//!
//! # The tables
//!
//! Keys are ordered byte by byte, so numbers in them are big-endian. Values are CBOR with a version number unless
//! said otherwise; the layers above encode both.
//!
//! | table | key | value | class |
//! | --- | --- | --- | --- |
//! | `meta` | name | incarnation, boot counter, store id, accepted serials, `hook/` and a name: what waits for a hook; the store's own: `format`, `fleet`, `host` | local |
//! | `documents` | kind, channel or "", serial | bytes and signatures | canonical |
//! | `feeds` | host, incarnation, seq | envelope as received | canonical |
//! | `feed_heads` | host, incarnation | seq, hash | derived |
//! | `log` | index | entry | canonical |
//! | `hard_state` | name | term, vote, commit index | canonical |
//! | `snapshot` | name | where the log starts, and the state there | canonical |
//! | `decisions` | fleet serial, log index, ordinal | `COSE_Sign` bytes | canonical |
//! | `endorsed` | log index, ordinal | hash | canonical |
//! | `proofs` | hash | proof of an objection or a lie | canonical |
//! | `arrivals` | local number | reference to a canonical row, in the order learned | local |
//! | `outbox` | own seq | empty | local |
//! | `marks` | host, feed | seq that the host has stored | derived |
//! | `host_records` | rollout, host | record, and the arrival it follows from | derived |
//! | `rollouts` | rollout | record, and the arrival it follows from | derived |
//! | `quarantines` | subject | record, and the arrival it follows from | derived |
//! | `probe_failures` | host, probe | record, and the arrival it follows from | derived |
//!
//! Derived rows can be made again from the canonical ones in the order of `arrivals`
//! ([`Store::replace_derived`]); canonical ones come back from peers; local ones are this host's alone.

mod care;
mod disk;
mod engine;
mod error;
mod format;
mod guard;
mod lock;
mod queue;
mod snapshot;
mod store;
mod table;
mod watch;

pub use care::{Stats, TableStats};
pub use disk::{RESERVE_BYTES, RESERVE_NAME};
pub use engine::Health;
pub use error::{CommitError, StoreError};
pub use format::{FORMAT, Identity, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use queue::{QUEUE_BATCHES_MAX, QUEUE_BYTES_MAX};
pub use snapshot::{Row, Rows, Snapshot};
pub use store::Store;
pub use table::{Change, Class, Table};

#[cfg(test)]
mod tests;
