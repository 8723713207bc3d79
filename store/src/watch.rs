//! Watches a backend's operations, since the engine forgets which one failed first.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, StorageBackend};

use crate::error::is_full;

/// What has failed on a backend.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    sync: AtomicBool,
    full: AtomicBool,
}

impl Failures {
    /// Whether a sync failed: what the kernel did with the pages is unknown, and trying again would not tell.
    pub(crate) fn sync(&self) -> bool {
        self.sync.load(Ordering::Acquire)
    }

    /// Whether the disk was full.
    pub(crate) fn full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(is_full) {
            self.full.store(true, Ordering::Release);
        }
        result
    }
}

/// A backend that notes its failures.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Box<dyn StorageBackend>,
    failures: Arc<Failures>,
}

impl Watched {
    pub(crate) fn new(inner: Box<dyn StorageBackend>) -> (Self, Arc<Failures>) {
        let failures = Arc::new(Failures::default());
        (Self { inner, failures: Arc::clone(&failures) }, failures)
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.failures.note(self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.failures.note(self.inner.sync_data());
        if result.is_err() {
            self.failures.sync.store(true, Ordering::Release);
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.failures.note(self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
