//! How batches are merged, ordered and answered.

use std::sync::{Arc, Mutex, mpsc};

use super::{batch, batches, identity, store_in};
use crate::error::CommitError;
use crate::format::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::queue::{QUEUE_BATCHES_MAX, QUEUE_BYTES_MAX};
use crate::store::Store;
use crate::table::{Change, Table};

#[test]
fn batches_that_wait_share_a_transaction_and_are_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    let answers = Arc::new(Mutex::new(Vec::new()));
    let before = store.engine.transactions();
    let turn = store.engine.turn();
    for n in 0..200 {
        let answers = Arc::clone(&answers);
        store.commit(batch(n, 10), move |result| answers.lock().unwrap().push((n, result)));
    }
    assert!(answers.lock().unwrap().is_empty());
    drop(turn);
    store.settle().unwrap();
    // The writer may have taken some of them before the last was submitted, and waited with those for its turn.
    assert!(store.engine.transactions() - before <= 2);
    assert!(answers.lock().unwrap().iter().cloned().eq((0..200).map(|n| (n, Ok(())))));
    assert!(batches(&store, 10).into_iter().eq(0..200));
}

#[test]
fn later_batch_wins() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    let turn = store.engine.turn();
    let steps = [Some("a"), Some("b"), None, Some("c"), None, Some("d")];
    for step in steps {
        let value = step.map(|text| text.as_bytes().to_vec());
        store
            .commit(vec![Change { table: Table::Meta, key: b"k".to_vec(), value }], |result| result.unwrap());
    }
    drop(turn);
    store.settle().unwrap();
    assert_eq!(store.read().unwrap().get(Table::Meta, b"k").unwrap().unwrap(), b"d");
}

#[test]
fn many_threads_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let store = &store;
            scope.spawn(move || (0..20).for_each(|n| store.commit_wait(batch(worker * 20 + n, 10)).unwrap()));
        }
    });
    assert!(batches(&store, 10).into_iter().eq(0..160));
}

#[test]
fn full_queue_answers_busy() {
    let cases = [(QUEUE_BATCHES_MAX, 10), (QUEUE_BYTES_MAX / (1 << 20), 1 << 20)];
    for (taken_max, value_bytes) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = store_in(folder.path());
        let turn = store.engine.turn();
        let (sender, answers) = mpsc::channel();
        // The writer may hold what it had taken when it began to wait for its turn.
        for n in 0..=2 * taken_max as u64 {
            let sender = sender.clone();
            store.commit(batch(n, value_bytes), move |result| sender.send((n, result)).unwrap());
        }
        let (refused, error) = answers.recv().unwrap();
        assert!(matches!(error, Err(CommitError::Busy { .. })), "batch {refused}: {error:?}");
        assert!(refused + 1 >= taken_max as u64);
        drop(turn);
        store.settle().unwrap();
        drop(sender);
        let written = answers.iter().filter(|(_, result)| result.is_ok()).count();
        assert_eq!(batches(&store, value_bytes).len(), written);
        store.commit_wait(batch(u64::MAX, value_bytes)).unwrap();
    }
}

#[test]
fn closing_writes_all_that_was_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    for n in 0..50 {
        store.commit(batch(n, 10), |result| result.unwrap());
    }
    store.close().unwrap();
    assert_eq!(store.commit_wait(batch(50, 10)), Err(CommitError::Closed));
    assert!(batches(&Store::open(path, identity()).unwrap(), 10).into_iter().eq(0..50));
}

#[test]
fn too_long_rows_are_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    let cases = [
        (KEY_BYTES_MAX, 0, None),
        (KEY_BYTES_MAX + 1, 0, Some("a key of 1025 bytes for the table feeds exceeds 1024 bytes")),
        (1, VALUE_BYTES_MAX, None),
        (
            1,
            VALUE_BYTES_MAX + 1,
            Some("a value of 16777217 bytes for the table feeds exceeds 16777216 bytes"),
        ),
    ];
    for (key, value, error) in cases {
        let change = Change::put(Table::Feeds, vec![1; key], vec![2; value]);
        assert_eq!(store.commit_wait(vec![change]).err().map(|error| error.to_string()).as_deref(), error);
    }
}

#[test]
fn panicking_callback_does_not_stop_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    store.commit(batch(0, 10), |_| panic!("a caller's mistake"));
    store.commit_wait(batch(1, 10)).unwrap();
    assert_eq!(batches(&store, 10), [0, 1]);
}

#[test]
fn callback_may_submit_and_close() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    let store = Arc::new(store);
    let (sender, done) = mpsc::channel();
    let inner = Arc::clone(&store);
    store.commit(batch(0, 10), move |result| {
        result.unwrap();
        let last = sender.clone();
        inner.commit(batch(1, 10), move |result| last.send(result).unwrap());
    });
    done.recv().unwrap().unwrap();
    let inner = Arc::clone(&store);
    let (sender, done) = mpsc::channel();
    store.commit(batch(2, 10), move |_| sender.send(inner.close().is_ok()).unwrap());
    assert!(done.recv().unwrap());
    drop(store);
    assert_eq!(batches(&Store::open(path, identity()).unwrap(), 10), [0, 1, 2]);
}
