//! The store: one writer thread, and snapshots beside it.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use tracing::error;

use crate::disk::{Disk, Files};
use crate::engine::{Engine, Health};
use crate::error::{CommitError, StoreError};
use crate::format::{self, Identity};
use crate::guard;
use crate::lock::Lock;
use crate::queue::{Queue, Waiting};
use crate::snapshot::Snapshot;
use crate::table::Change;

/// The tables of one host, open in this process and in no other.
///
/// Dropping it is [`Store::close`] without the answer.
#[derive(Debug)]
pub struct Store {
    pub(crate) engine: Arc<Engine>,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

impl Store {
    /// Opens the store at `path`, whose folder exists, or makes it, with mode 0600; also makes the reserve file.
    ///
    /// Every page's checksum is verified first, which reads the whole file.
    ///
    /// # Errors
    ///
    /// The file is in use, corrupt, of another format, fleet or host, or cannot be opened. A corrupt file is left as
    /// it was; of another, no row is changed.
    pub fn open(path: impl AsRef<Path>, identity: Identity) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = Lock::acquire(path)?;
        Self::on(path, Box::new(Files::new(path)), Some(&identity), Some(lock))
    }

    /// Opens the store of a stopped agent, whosever it is. It must exist, and no reserve is made.
    ///
    /// # Errors
    ///
    /// As of [`Store::open`], and [`StoreError::Missing`].
    pub fn open_offline(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_files(path.as_ref(), Files::new(path.as_ref()))
    }

    /// Opens a stopped agent's store although its pages are damaged, to find out which record is: whoever reads it
    /// has to verify every value. It may not open at all.
    ///
    /// # Errors
    ///
    /// As of [`Store::open_offline`].
    pub fn open_damaged(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_files(path.as_ref(), Files::damaged(path.as_ref()))
    }

    fn open_files(path: &Path, disk: Files) -> Result<Self, StoreError> {
        if !disk.exists().map_err(|source| StoreError::io(path, "look for", source))? {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let lock = Lock::acquire(path)?;
        Self::on(path, Box::new(disk), None, Some(lock))
    }

    /// Opens the store on any disk.
    pub(crate) fn on(
        path: &Path,
        disk: Box<dyn Disk>,
        identity: Option<&Identity>,
        lock: Option<Lock>,
    ) -> Result<Self, StoreError> {
        let engine = Arc::new(Engine::open(path, disk, identity)?);
        let queue = Arc::new(Queue::default());
        let writer = {
            let (engine, queue) = (Arc::clone(&engine), Arc::clone(&queue));
            thread::Builder::new()
                .name("muster-store".to_owned())
                .spawn(move || write_all(&engine, &queue))
                .map_err(|source| StoreError::io(path, "start the writer of", source))?
        };
        Ok(Self { engine, queue, writer: Mutex::new(Some(writer)), lock: Mutex::new(lock) })
    }

    /// Submits a batch: all of it is written, or nothing, after all batches submitted before.
    ///
    /// `done` is called exactly once, with `Ok` when the batch is durable: by the writer's thread, in the order of
    /// submission, or at once by this one if the batch is refused. It should be short; a batch may be submitted
    /// from within. After [`CommitError::Failed`] the batch may turn out to be there when the file is reopened.
    pub fn commit(&self, changes: Vec<Change>, done: impl FnOnce(Result<(), CommitError>) + Send + 'static) {
        if let Err(error) = changes.iter().try_for_each(format::admit) {
            return done(Err(error));
        }
        if let Err((refused, error)) = self.queue.push(Waiting::new(changes, Box::new(done))) {
            (refused.done)(Err(error));
        }
    }

    /// Submits a batch and waits until it is durable. Must not be called from within a batch's `done`.
    ///
    /// # Errors
    ///
    /// The batch is not known to be durable.
    pub fn commit_wait(&self, changes: Vec<Change>) -> Result<(), CommitError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.commit(changes, move |result| {
            // The receiver waits below, so it is there.
            let _sent = sender.send(result);
        });
        receiver.recv().unwrap_or(Err(CommitError::Closed))
    }

    /// The tables as of the last durable batch. Never waits for a batch that is being written; only
    /// [`Store::compact`], and reopening the file on a full disk, hold it up.
    ///
    /// # Errors
    ///
    /// The store is closed or has failed.
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new(self.engine.path(), self.engine.begin_read()?))
    }

    /// How the store fares; it looks whether a full disk has room again.
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Writes all that was submitted, closes the file and lets others open it. Again: does nothing.
    ///
    /// # Errors
    ///
    /// The file could not be marked as closed; durable batches are safe, the next opening repairs it.
    pub fn close(&self) -> Result<(), StoreError> {
        self.queue.close();
        let writer = held(&self.writer).take();
        if let Some(writer) = writer
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            error!("the writer's thread panicked");
        }
        let closed = self.engine.close();
        drop(held(&self.lock).take());
        closed
    }

    /// Waits until all that was submitted before is written.
    pub(crate) fn settle(&self) -> Result<(), CommitError> {
        self.commit_wait(Vec::new())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            error!(%error, "the store was not closed cleanly");
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what waits, as one transaction each time, until the queue is closed or the store fails.
fn write_all(engine: &Engine, queue: &Queue) {
    while let Some(waiting) = queue.take() {
        let (batches, dones): (Vec<_>, VecDeque<_>) =
            waiting.into_iter().map(|batch| (batch.changes, batch.done)).unzip();
        let result = engine.commit(&batches);
        drop(batches);
        let rest = match &result {
            Err(CommitError::Failed { reason }) => queue.fail(Arc::clone(reason)),
            Ok(()) | Err(_) => VecDeque::new(),
        };
        for done in dones.into_iter().chain(rest.into_iter().map(|batch| batch.done)) {
            let result = result.clone();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| done(result))) {
                let message = guard::message(payload.as_ref());
                error!(message, "a batch's callback panicked");
            }
        }
    }
}

impl Store {
    /// Length of the file.
    pub(crate) fn file_bytes(&self) -> Result<u64, StoreError> {
        let measured: io::Result<u64> = self.engine.disk().file_bytes();
        measured.map_err(|source| StoreError::io(self.engine.path(), "measure", source))
    }
}
