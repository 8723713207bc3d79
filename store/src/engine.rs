//! The database under the store: its transactions, and what is done when one fails.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};
use tracing::{error, info, warn};

use crate::disk::{Disk, RESERVE_BYTES};
use crate::error::{CommitError, StoreError};
use crate::format::{self, Identity};
use crate::guard::guard;
use crate::table::Change;
use crate::watch::{Failures, Watched};

/// Memory that the engine may use for pages; an agent stays under 30 MiB with it.
const CACHE_BYTES: usize = 4 << 20;

/// Free space from which on a full disk counts as recovered and the reserve is made again.
pub(crate) const RECOVERED_FREE_BYTES: u64 = 2 * RESERVE_BYTES;

/// Free space under which a batch with new values is not even tried once the reserve is used up.
const ATTEMPT_FREE_BYTES: u64 = 1 << 20;

/// How the store fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Batches are written.
    Ok,
    /// The disk is full: the reserve is given up, and what still fits in its place is written.
    Full,
    /// The store has stopped; close it and open it again.
    Failed,
}

/// Why a transaction did not go through.
pub(crate) enum Fault {
    /// The disk is full, and no sync has failed.
    Full,
    /// The database may hold anything from before the transaction to all of it; only reopening tells.
    Fatal(String),
    /// The rows are at fault; nothing was written.
    Refused(StoreError),
}

#[derive(Debug)]
struct Opened {
    database: Database,
    failures: Arc<Failures>,
}

/// What the writer of the moment knows; whoever holds it may write.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// A batch did not fit even in the place of the reserve.
    exhausted: bool,
}

/// The database, for one writer at a time and any number of readers.
#[derive(Debug)]
pub(crate) struct Engine {
    path: PathBuf,
    disk: Box<dyn Disk>,
    opened: RwLock<Option<Opened>>,
    turn: Mutex<Turn>,
    full: AtomicBool,
    failed: OnceLock<Arc<str>>,
    transactions: AtomicU64,
}

impl Engine {
    /// Opens the store, or makes it if `identity` says whose it would be.
    pub(crate) fn open(
        path: &Path,
        disk: Box<dyn Disk>,
        identity: Option<&Identity>,
    ) -> Result<Self, StoreError> {
        let exists = disk.exists().map_err(|source| StoreError::io(path, "look for", source))?;
        let mut full = false;
        let opened = match (open_or_make(path, disk.as_ref(), exists, identity), identity) {
            // A host that stopped with a full disk must come up again; opening may need a few pages.
            (Err(StoreError::Full { .. }), Some(_)) if disk.release_reserve().unwrap_or(false) => {
                full = true;
                let exists = disk.exists().map_err(|source| StoreError::io(path, "look for", source))?;
                open_or_make(path, disk.as_ref(), exists, identity)?
            }
            (outcome, _) => outcome?,
        };
        let engine = Self {
            path: path.to_owned(),
            disk,
            opened: RwLock::new(Some(opened)),
            turn: Mutex::default(),
            full: AtomicBool::new(full),
            failed: OnceLock::new(),
            transactions: AtomicU64::new(0),
        };
        if identity.is_some() && !full && !engine.disk.has_reserve() {
            engine.full.store(true, Ordering::Release);
            engine.leave_full(&mut engine.turn());
        }
        Ok(engine)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Transactions that were committed since the store was opened.
    pub(crate) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Acquire)
    }

    /// How the store fares. Leaves `Full` if the disk has room again and nobody is writing.
    pub(crate) fn health(&self) -> Health {
        if self.failed.get().is_some() {
            return Health::Failed;
        }
        if self.full.load(Ordering::Acquire)
            && let Ok(mut turn) = self.turn.try_lock()
        {
            self.leave_full(&mut turn);
        }
        if self.full.load(Ordering::Acquire) { Health::Full } else { Health::Ok }
    }

    /// Waits for the writer of the moment.
    pub(crate) fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a read, beside whatever is being written.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        let opened = self.readable();
        let opened = opened.as_ref().ok_or_else(|| self.gone())?;
        guard(&self.path, || {
            opened.database.begin_read().map_err(|error| StoreError::redb(&self.path, "read", error))
        })
    }

    /// Writes the batches in order, in one transaction; they are durable when it returns `Ok`.
    pub(crate) fn commit(&self, batches: &[Vec<Change>]) -> Result<(), CommitError> {
        let mut turn = self.turn();
        if let Some(reason) = self.failed.get() {
            return Err(CommitError::Failed { reason: Arc::clone(reason) });
        }
        if batches.iter().all(Vec::is_empty) {
            return Ok(());
        }
        self.leave_full(&mut turn);
        if turn.exhausted && self.is_hopeless(batches) {
            return Err(CommitError::Full);
        }
        let write = || self.transaction(|txn| format::apply(&self.path, txn, batches.iter().flatten()));
        match write() {
            Ok(()) => Ok(()),
            Err(Fault::Full) => self.retry_without_reserve(&mut turn, write),
            Err(Fault::Fatal(reason)) => Err(self.fail(reason)),
            Err(Fault::Refused(error)) => Err(self.fail(error.to_string())),
        }
    }

    fn retry_without_reserve(
        &self,
        turn: &mut Turn,
        write: impl Fn() -> Result<(), Fault>,
    ) -> Result<(), CommitError> {
        let released = self.enter_full();
        self.reopen()?;
        if released {
            match write() {
                Ok(()) => return Ok(()),
                Err(Fault::Full) => self.reopen()?,
                Err(Fault::Fatal(reason)) => return Err(self.fail(reason)),
                Err(Fault::Refused(error)) => return Err(self.fail(error.to_string())),
            }
        }
        turn.exhausted = true;
        Err(CommitError::Full)
    }

    /// Runs one transaction. The caller holds the turn.
    pub(crate) fn transaction(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), Fault> {
        let opened = self.readable();
        let Some(opened) = opened.as_ref() else { return Err(Fault::Refused(self.gone())) };
        guard(&self.path, || transact(&self.path, &opened.database, work))
            .map_err(|error| classify(error, &opened.failures))?;
        self.transactions.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Runs `work` on the database alone: no reader begins until it is over. The caller holds the turn.
    pub(crate) fn exclusively<T>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, Fault> {
        let mut opened = self.writable();
        let Some(opened) = opened.as_mut() else { return Err(Fault::Refused(self.gone())) };
        guard(&self.path, || work(&mut opened.database)).map_err(|error| classify(error, &opened.failures))
    }

    /// Turns a fault of a transaction that cannot be repeated into an error.
    pub(crate) fn settle(&self, turn: &mut Turn, fault: Fault) -> StoreError {
        match fault {
            Fault::Refused(error) => error,
            Fault::Fatal(reason) => self.fail(reason).into(),
            Fault::Full => {
                turn.exhausted = !self.enter_full();
                match self.reopen() {
                    Ok(()) => StoreError::Full { path: self.path.clone() },
                    Err(error) => error.into(),
                }
            }
        }
    }

    /// Closes the database; reads fail from then on.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let _turn = self.turn();
        let Some(opened) = self.writable().take() else { return Ok(()) };
        guard(&self.path, || {
            opened.database.close().map_err(|error| StoreError::redb(&self.path, "close", error))
        })
    }

    /// Gives up the reserve; whether there was one.
    fn enter_full(&self) -> bool {
        self.full.store(true, Ordering::Release);
        let released = self.disk.release_reserve().unwrap_or_else(|error| {
            warn!(%error, "the reserve file cannot be deleted");
            false
        });
        warn!(path = %self.path.display(), released, "the disk is full");
        released
    }

    /// Makes the reserve again once the disk has room for it and for more.
    fn leave_full(&self, turn: &mut Turn) {
        if !self.full.load(Ordering::Acquire)
            || !self.disk.free_bytes().is_ok_and(|free| free >= RECOVERED_FREE_BYTES)
        {
            return;
        }
        match self.disk.make_reserve() {
            Ok(()) => {
                turn.exhausted = false;
                self.full.store(false, Ordering::Release);
                info!(path = %self.path.display(), "the disk has room and the reserve is there");
            }
            Err(error) => warn!(%error, "the reserve file cannot be made"),
        }
    }

    /// Deletions may free pages inside the file, so they are always tried; new values need room.
    fn is_hopeless(&self, batches: &[Vec<Change>]) -> bool {
        batches.iter().flatten().any(|change| change.value.is_some())
            && self.disk.free_bytes().is_ok_and(|free| free < ATTEMPT_FREE_BYTES)
    }

    /// Closes the database, which refuses all work after a failed write, and opens the file afresh.
    fn reopen(&self) -> Result<(), CommitError> {
        let mut place = self.writable();
        let stale = place.take();
        let dropped = guard(&self.path, || {
            drop(stale);
            Ok(())
        });
        match dropped.and_then(|()| open_database(&self.path, self.disk.as_ref())) {
            Ok(opened) => {
                *place = Some(opened);
                Ok(())
            }
            Err(error) => {
                drop(place);
                Err(self.fail(describe(&error)))
            }
        }
    }

    /// Stops the store for good: what the file holds is only known once it is opened again.
    fn fail(&self, reason: String) -> CommitError {
        error!(path = %self.path.display(), reason, "the store has stopped");
        let reason = Arc::clone(self.failed.get_or_init(|| reason.into()));
        let stale = self.writable().take();
        let dropped = guard(&self.path, || {
            drop(stale);
            Ok(())
        });
        if let Err(error) = dropped {
            warn!(%error, "closing the stopped database failed too");
        }
        CommitError::Failed { reason }
    }

    fn gone(&self) -> StoreError {
        self.failed
            .get()
            .map_or(StoreError::Closed, |reason| StoreError::Failed { reason: Arc::clone(reason) })
    }

    fn readable(&self) -> RwLockReadGuard<'_, Option<Opened>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> RwLockWriteGuard<'_, Option<Opened>> {
        self.opened.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_or_make(
    path: &Path,
    disk: &dyn Disk,
    exists: bool,
    identity: Option<&Identity>,
) -> Result<Opened, StoreError> {
    match (exists, identity) {
        (false, None) => return Err(StoreError::Missing { path: path.to_owned() }),
        (false, Some(identity)) => make(path, disk, identity)?,
        (true, _) => {}
    }
    let opened = open_database(path, disk)?;
    guard(path, || {
        let txn = opened.database.begin_read().map_err(|error| StoreError::redb(path, "read", error))?;
        format::check(path, &txn, identity)
    })?;
    Ok(opened)
}

/// Makes the file complete under another name first, so that a file of the store's name is never half made.
fn make(path: &Path, disk: &dyn Disk, identity: &Identity) -> Result<(), StoreError> {
    let backend = disk.create().map_err(|source| StoreError::io(path, "create", source))?;
    let (backend, _) = Watched::new(backend);
    guard(path, || {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| StoreError::redb(path, "create", error))?;
        transact(path, &database, |txn| format::found(path, txn, identity))?;
        database.close().map_err(|error| StoreError::redb(path, "create", error))
    })?;
    disk.publish().map_err(|source| StoreError::io(path, "create", source))
}

/// Opens the file and verifies the checksum of every page, as after a crash; an unclean end needs that walk anyway.
/// Only who looks for the damage itself leaves that out.
fn open_database(path: &Path, disk: &dyn Disk) -> Result<Opened, StoreError> {
    let backend = disk.open().map_err(|source| StoreError::io(path, "open", source))?;
    // An empty file would be taken for a new one, but the store makes its file under another name.
    if backend.len().map_err(|source| StoreError::io(path, "open", source))? == 0 {
        return Err(StoreError::corrupt(path, "the file is empty"));
    }
    let (backend, failures) = Watched::new(backend);
    let database = guard(path, || {
        redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(disk.checks_pages())
            .create_with_backend(backend)
            .map_err(|error| StoreError::redb(path, "open", error))
    });
    match database {
        Ok(database) => Ok(Opened { database, failures }),
        Err(_) if failures.full() => Err(StoreError::Full { path: path.to_owned() }),
        Err(error) => Err(error),
    }
}

fn transact(
    path: &Path,
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut txn = database.begin_write().map_err(|error| StoreError::redb(path, "write", error))?;
    txn.set_durability(Durability::Immediate).map_err(|error| StoreError::redb(path, "write", error))?;
    // Values come from peers: a page of theirs must never pass for a commit that did not finish.
    txn.set_two_phase_commit(true);
    work(&txn)?;
    txn.commit().map_err(|error| StoreError::redb(path, "write", error))
}

fn classify(error: StoreError, failures: &Failures) -> Fault {
    if failures.sync() {
        return Fault::Fatal(format!("a sync failed: {}", describe(&error)));
    }
    if failures.full() || matches!(error, StoreError::Full { .. }) {
        return Fault::Full;
    }
    if matches!(
        error,
        StoreError::NotDerived { .. } | StoreError::SnapshotsOpen { .. } | StoreError::Commit(_)
    ) {
        return Fault::Refused(error);
    }
    Fault::Fatal(describe(&error))
}

/// An error with its sources in one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
