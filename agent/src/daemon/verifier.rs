//! Verifies the running agent's own store, beside the loop.

use std::path::Path;
use std::sync::Arc;

use muster_store::Store;
use tokio::sync::{Semaphore, oneshot};

use super::answers::store_failed;
use crate::control::wire::StoreVerified;
use crate::control::{Answer, Code, Problem};
use crate::storage;

/// Verifications at once: each keeps a processor busy, and all views in memory once more.
const AT_ONCE: usize = 1;

/// Starts verifications, and keeps count of them.
#[derive(Debug)]
pub(super) struct Verifier {
    places: Arc<Semaphore>,
}

impl Verifier {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Verifies the store as it is now, on a thread of its own that answers when it is through.
    ///
    /// If the agent stops meanwhile, the store that is closed then ends it.
    pub(super) fn begin(&self, store: &Store, path: &Path, reply: oneshot::Sender<Result<Answer, Problem>>) {
        let begun = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Problem::new(Code::Unavailable, "the store is being verified already"))
            .and_then(|place| Ok((place, store.read().map_err(store_failed)?)));
        let (place, snapshot) = match begun {
            Ok(begun) => begun,
            // Who asked may have hung up, here and below.
            Err(problem) => return drop(reply.send(Err(problem))),
        };
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let found = storage::verify_snapshot(&path, &snapshot);
            drop((snapshot, place));
            drop(reply.send(Ok(Answer::StoreVerified(StoreVerified::new(found)))));
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use muster_core::document::Trust;
    use muster_store::{Change, Identity, Table};

    use super::*;

    fn check(rows: Vec<Change>, test: impl AsyncFnOnce(&Verifier, &Store, &Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(storage::STORE_FILE);
        let store = Store::open(&path, Identity { fleet: "home".into(), host: "alpha".into() }).unwrap();
        let key = muster_signing::SigningKey::from_seed([7; 32]).public().to_openssh();
        let trust = format!(r#"{{"fleet":"home","operators":{{"alice":"{key}"}},"threshold":1}}"#);
        store.commit_wait(vec![storage::pins_row(&[Trust::parse(trust.as_bytes()).unwrap()])]).unwrap();
        store.commit_wait(rows).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(test(&Verifier::new(), &store, &path));
    }

    async fn verify(verifier: &Verifier, store: &Store, path: &Path) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        verifier.begin(store, path, reply);
        answer.await.unwrap()
    }

    #[test]
    fn an_open_store_is_verified_and_a_view_that_nothing_derives_is_named() {
        for (rows, expected) in [
            (Vec::new(), None),
            (
                vec![Change::put(Table::Rollouts, "stable@v1", "x")],
                Some("rollouts stable@v1: the view is not"),
            ),
        ] {
            check(rows, async |verifier, store, path| {
                let Ok(Answer::StoreVerified(found)) = verify(verifier, store, path).await else {
                    panic!("no report");
                };
                assert_eq!((found.ok, found.arrivals), (expected.is_none(), expected.is_none().then_some(0)));
                let fault = found.fault.unwrap_or_default();
                assert!(fault.starts_with(expected.unwrap_or_default()), "{fault}");
            });
        }
    }

    #[test]
    fn a_second_verification_waits_for_its_turn_and_a_closed_store_has_none() {
        check(Vec::new(), async |verifier, store, path| {
            let place = Arc::clone(&verifier.places).try_acquire_owned().unwrap();
            assert_eq!(verify(verifier, store, path).await.unwrap_err().code, Code::Unavailable);
            drop(place);
            assert!(verify(verifier, store, path).await.is_ok());
            store.close().unwrap();
            assert_eq!(verify(verifier, store, path).await.unwrap_err().code, Code::Internal);
        });
    }
}
