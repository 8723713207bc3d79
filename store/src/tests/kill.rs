//! Kills a writing process again and again.

use super::child::{Running, say, store_path};
use super::{batch, batches, identity};
use crate::store::Store;

const CYCLES: u64 = 20;
const VALUE_BYTES: usize = 700;

#[test]
fn child_writes_until_it_is_killed() {
    let Some(path) = store_path() else { return };
    let store = Store::open(path, identity()).unwrap();
    let next = batches(&store, VALUE_BYTES).last().map_or(0, |last| last + 1);
    for n in next.. {
        // Every third batch is waited for, so that batches are merged and yet none is refused.
        if n % 3 == 0 {
            store.commit_wait(batch(n, VALUE_BYTES)).unwrap();
            say(n);
        } else {
            store.commit(batch(n, VALUE_BYTES), move |result| {
                result.unwrap();
                say(n);
            });
        }
    }
}

#[test]
fn killed_writer_leaves_every_acknowledged_batch_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.redb");
    let mut acknowledged = Vec::new();
    for cycle in 0..CYCLES {
        let mut child = Running::start("tests::kill::child_writes_until_it_is_killed", &path);
        // The moment of the kill moves through the writer's work: from before the file is made on.
        for _ in 0..cycle * 7 % 30 {
            acknowledged.push(child.said().unwrap());
        }
        child.kill();
        while let Some(n) = child.said() {
            acknowledged.push(n);
        }
        child.finish();
        let store = Store::open(&path, identity()).unwrap();
        let found = batches(&store, VALUE_BYTES);
        assert!(
            found.iter().copied().eq(0..found.len() as u64),
            "cycle {cycle}: a batch is missing: {found:?}"
        );
        assert!(
            acknowledged.iter().all(|n| found.contains(n)),
            "cycle {cycle}: an acknowledged batch is lost"
        );
    }
    assert!(acknowledged.len() as u64 > CYCLES);
}
