//! Who may open which file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::child::{Running, say, store_path, wait_for_parent};
use super::{batch, batches, identity, store_in};
use crate::disk::{RESERVE_BYTES, RESERVE_NAME};
use crate::error::StoreError;
use crate::format::Identity;
use crate::store::Store;
use crate::table::{Change, Table};

#[test]
fn new_store_is_private_and_has_a_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.path().join(RESERVE_NAME)).unwrap().len(), RESERVE_BYTES);
    let snapshot = store.read().unwrap();
    for table in Table::ALL {
        assert_eq!(snapshot.len(table).unwrap(), if table == Table::Meta { 3 } else { 0 }, "{table:?}");
    }
}

#[test]
fn rows_are_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    store.commit_wait(batch(0, 100)).unwrap();
    store.close().unwrap();
    let store = Store::open(&path, identity()).unwrap();
    assert_eq!(batches(&store, 100), [0]);
    drop(store);
    assert_eq!(batches(&Store::open_offline(&path).unwrap(), 100), [0]);
}

#[test]
fn child_holds_the_store() {
    let Some(path) = store_path() else { return };
    let _store = Store::open(path, identity()).unwrap();
    say(0);
    wait_for_parent();
}

#[test]
fn second_opener_is_told_the_pid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.redb");
    let mut child = Running::start("tests::opening::child_holds_the_store", &path);
    assert_eq!(child.said(), Some(0));
    for refused in [Store::open(&path, identity()), Store::open_offline(&path)] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, StoreError::InUse { pid: Some(pid), .. } if *pid == child.pid()), "{error}");
        assert!(error.to_string().ends_with(&format!("in use by pid {}", child.pid())), "{error}");
    }
    child.finish();
    Store::open(&path, identity()).unwrap();
}

#[test]
fn second_handle_of_one_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, path) = store_in(folder.path());
    let error = Store::open(&path, identity()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
}

#[test]
fn file_of_another_fleet_or_host_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    store.close().unwrap();
    let cases = [
        ("work", "alpha", r#"belongs to the fleet "home", not "work""#),
        ("home", "beta", r#"belongs to the host "alpha", not "beta""#),
    ];
    for (fleet, host, text) in cases {
        let other = Identity { fleet: fleet.to_owned(), host: host.to_owned() };
        let error = Store::open(&path, other).unwrap_err();
        assert!(error.to_string().ends_with(text), "{error}");
    }
    Store::open_offline(&path).unwrap();
}

#[test]
fn only_the_known_format_is_opened() {
    for (format, text) in
        [(2_u32, "install the version that wrote it"), (0, "open it once with a version in between")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (store, path) = store_in(folder.path());
        store.close().unwrap();
        let database = redb::Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        txn.open_table(Table::Meta.definition())
            .unwrap()
            .insert(b"format".as_slice(), format.to_be_bytes().as_slice())
            .unwrap();
        txn.commit().unwrap();
        drop(database);
        for refused in [Store::open(&path, identity()), Store::open_offline(&path)] {
            let error = refused.unwrap_err();
            assert!(error.to_string().ends_with(text), "{error}");
        }
        let again = Store::open(&path, identity()).unwrap_err();
        assert!(matches!(again, StoreError::Newer { .. } | StoreError::Older { .. }), "{again}");
    }
}

#[test]
fn file_that_is_no_store_is_refused_and_left_as_it_is() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("short", b"redb".to_vec()),
        ("text", b"not a store\n".repeat(1_000)),
        ("zeros", vec![0; 1 << 20]),
    ];
    for (name, bytes) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.redb");
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path, identity()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{name}: {error}");
        assert!(fs::read(&path).unwrap() == bytes, "{name}: the file was changed");
    }
}

#[test]
fn truncated_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    store.commit_wait(batch(0, 100)).unwrap();
    store.close().unwrap();
    let length = fs::metadata(&path).unwrap().len();
    for kept in [1, 64, 511, 4_096, 8_192, length / 2] {
        let bytes = fs::read(&path).unwrap();
        let cut = folder.path().join(format!("{kept}.redb"));
        fs::write(&cut, &bytes[..usize::try_from(kept).unwrap()]).unwrap();
        let error = Store::open(&cut, identity()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{kept} bytes: {error}");
    }
}

#[test]
fn database_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.redb");
    drop(redb::Database::create(&path).unwrap());
    let error = Store::open(&path, identity()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn half_made_file_of_a_killed_first_start_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("muster.redb.new"), b"half").unwrap();
    let (store, _) = store_in(folder.path());
    store.commit_wait(batch(0, 10)).unwrap();
}

#[test]
fn missing_store_is_not_made_by_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open_offline(folder.path().join("muster.redb")).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let error = Store::open(folder.path().join("none/muster.redb"), identity()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[test]
fn own_rows_of_the_store_cannot_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    for name in ["format", "fleet", "host"] {
        for change in [Change::put(Table::Meta, name, "x"), Change::delete(Table::Meta, name)] {
            let error = store.commit_wait(vec![change]).unwrap_err();
            assert_eq!(error.to_string(), format!("the row {name:?} of meta is the store's own"));
        }
    }
    store.commit_wait(vec![Change::put(Table::Meta, "incarnation", "1")]).unwrap();
}
