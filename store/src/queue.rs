//! The bounded queue between those who submit batches and the one thread that writes them.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::CommitError;
use crate::table::Change;

/// Most batches that wait for the writer.
pub const QUEUE_BATCHES_MAX: usize = 1_024;

/// Most bytes that wait for the writer; one batch alone may be longer.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// What is called once a batch is durable or is known not to be.
pub(crate) type Done = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// A batch that waits.
pub(crate) struct Waiting {
    pub(crate) changes: Vec<Change>,
    pub(crate) done: Done,
    bytes: usize,
}

impl Waiting {
    pub(crate) fn new(changes: Vec<Change>, done: Done) -> Self {
        let bytes = changes.iter().map(Change::bytes).sum();
        Self { changes, done, bytes }
    }
}

#[derive(Clone, Debug, Default)]
enum Door {
    #[default]
    Open,
    Closed,
    Failed(Arc<str>),
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    door: Door,
}

/// Batches in the order in which they were submitted.
#[derive(Default)]
pub(crate) struct Queue {
    line: Mutex<Line>,
    arrived: Condvar,
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line();
        formatter
            .debug_struct("Queue")
            .field("batches", &line.waiting.len())
            .field("bytes", &line.bytes)
            .field("door", &line.door)
            .finish()
    }
}

impl Queue {
    /// Appends a batch, or hands it back with the reason.
    pub(crate) fn push(&self, batch: Waiting) -> Result<(), (Waiting, CommitError)> {
        let mut line = self.line();
        match &line.door {
            Door::Open => {}
            Door::Closed => return Err((batch, CommitError::Closed)),
            Door::Failed(reason) => {
                let reason = Arc::clone(reason);
                return Err((batch, CommitError::Failed { reason }));
            }
        }
        let batches = line.waiting.len();
        let crowded = batches >= QUEUE_BATCHES_MAX || line.bytes + batch.bytes > QUEUE_BYTES_MAX;
        // An empty batch only waits its turn, as those who rebuild or compact do.
        if crowded && batches > 0 && !batch.changes.is_empty() {
            let bytes = line.bytes;
            return Err((batch, CommitError::Busy { batches, bytes }));
        }
        line.bytes += batch.bytes;
        line.waiting.push_back(batch);
        drop(line);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for batches and takes all there are; `None` once the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<VecDeque<Waiting>> {
        let mut line = self.line();
        loop {
            if !line.waiting.is_empty() {
                line.bytes = 0;
                return Some(mem::take(&mut line.waiting));
            }
            if !matches!(line.door, Door::Open) {
                return None;
            }
            line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more batches; those that wait are still written.
    pub(crate) fn close(&self) {
        let mut line = self.line();
        if matches!(line.door, Door::Open) {
            line.door = Door::Closed;
        }
        drop(line);
        self.arrived.notify_all();
    }

    /// Takes no more batches for the given reason and hands back those that wait.
    pub(crate) fn fail(&self, reason: Arc<str>) -> VecDeque<Waiting> {
        let mut line = self.line();
        line.door = Door::Failed(reason);
        line.bytes = 0;
        let rest = mem::take(&mut line.waiting);
        drop(line);
        self.arrived.notify_all();
        rest
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
