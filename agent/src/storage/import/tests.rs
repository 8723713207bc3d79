//! What a demo's coordinator exported, taken into the store of another host of that fleet.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use muster_store::{Change, Identity};
use tempfile::TempDir;

use super::super::{Verified, verify};
use super::*;
use crate::daemon::past::Past;

/// What `muster store export` wrote of `web-3` once `muster demo --keep` had told its story.
pub(crate) const EXPORT: &str = "src/cli/screens/demo.cbor";

/// A row of the export's own table of names.
pub(crate) fn meta(export: &Export, name: &str) -> Vec<u8> {
    export.get(Table::Meta, name.as_bytes()).unwrap().unwrap()
}

/// The store of a host of the same fleet that has not learnt anything yet.
pub(crate) fn new_store(path: &Path, fleet: &str, host: &str) {
    let export = Export::read(Path::new(EXPORT)).unwrap();
    let store = Store::open(path, Identity { fleet: fleet.to_owned(), host: host.to_owned() }).unwrap();
    let pins = Change::put(muster_store::Table::Meta, &b"pins"[..], meta(&export, "pins"));
    store.commit_wait(vec![pins]).unwrap();
    store.close().unwrap();
}

fn now() -> DateTime<Utc> {
    "2026-11-24T20:00:00Z".parse().unwrap()
}

/// A new store of `web-2`, and the folder that it is in.
fn fresh() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.redb");
    new_store(&path, "demo", "web-2");
    (folder, path)
}

#[test]
fn a_new_host_learns_all_that_an_export_proves_and_learns_it_once() {
    let (_folder, store) = fresh();
    let first = import(&store, Path::new(EXPORT), now()).unwrap();
    assert_eq!((first.known, first.refused, &first.reasons), (0, 0, &Vec::new()));
    assert!(first.taken > 0 && first.own > 0, "{first:?}");
    let Verified { arrivals, .. } = verify(&store).unwrap();
    assert_eq!(arrivals, first.taken);
    let state = |id: &str| Past::open(&store).unwrap().rollout(id).unwrap().rollout.state.to_string();
    assert_eq!([state("stable@v2"), state("stable@v3")], ["Terminal", "Reverted"]);
    let again = import(&store, Path::new(EXPORT), now()).unwrap();
    let nothing_new = Imported { taken: 0, known: first.taken, ..first };
    assert_eq!(again, nothing_new);
}

#[test]
fn a_record_that_was_changed_on_its_way_is_refused_and_the_rest_is_taken() {
    const SAID: &[u8] = b"the front page answers 500";
    let (folder, store) = fresh();
    let mut bytes = fs::read(EXPORT).unwrap();
    let place = bytes.windows(SAID.len()).position(|window| window == SAID).unwrap();
    bytes[place] ^= 0x20;
    let changed = folder.path().join("changed.cbor");
    fs::write(&changed, bytes).unwrap();
    let found = import(&store, &changed, now()).unwrap();
    assert!(found.refused > 0 && found.taken > found.refused, "{found:?}");
    assert!(found.reasons.len() <= REASONS_MAX && !found.reasons[0].is_empty(), "{found:?}");
    verify(&store).unwrap();
    let mended = import(&store, Path::new(EXPORT), now()).unwrap();
    assert_eq!((mended.taken, mended.refused), (found.refused, 0), "{mended:?}");
}

#[test]
fn an_export_of_another_fleet_or_of_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("muster.redb");
    new_store(&store, "home", "web-2");
    let refused = import(&store, Path::new(EXPORT), now()).unwrap_err();
    assert!(refused.to_string().contains("demo"), "{refused}");
    let refused = import(&store, &store, now()).unwrap_err();
    assert!(refused.to_string().contains("not an export"), "{refused}");
}
