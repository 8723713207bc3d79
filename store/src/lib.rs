//! The durable tables of one host, in redb.

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
