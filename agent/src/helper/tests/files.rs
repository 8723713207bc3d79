//! What somebody else could have written is not believed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::unistd::Uid;

use super::*;
use crate::helper::trusted;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Spoils a file of a host that has carried something out: from then on nothing is.
async fn check(spoil: impl FnOnce(&mut Bench), rule: &str, words: &str) {
    let (mut bench, story) = (Bench::new(), Story::new());
    bench.done(&story.request()).await;
    spoil(&mut bench);
    let answer = bench.ask(&story.next().request()).await;
    let Answer::Refused { rule: found, reason } = answer else { panic!("{words}: {answer:?}") };
    assert_eq!(found, rule, "{reason}");
    assert!(reason.contains(words), "{words}: {reason}");
    assert_eq!(bench.hands.acts.borrow().len(), 1, "{words}");
}

#[tokio::test]
async fn a_memory_that_somebody_else_could_have_written_is_not_believed() {
    let memory = |bench: &Bench| bench.door.state.join("memory.cbor");
    check(|it| mode(&memory(it), 0o640), "memory", "mode 640").await;
    check(|it| mode(&it.door.state, 0o777), "memory", "mode 777").await;
    check(
        |it| {
            let moved = it.root.join("elsewhere");
            fs::rename(memory(it), &moved).unwrap();
            symlink(moved, memory(it)).unwrap();
        },
        "memory",
        "memory.cbor",
    )
    .await;
    check(|it| fs::hard_link(memory(it), it.root.join("other-name")).unwrap(), "memory", "2 names").await;
    check(
        |it| {
            fs::remove_file(memory(it)).unwrap();
            fs::create_dir(memory(it)).unwrap();
        },
        "memory",
        "not a file",
    )
    .await;
    check(|it| fs::write(memory(it), b"\xa0").unwrap(), "memory", "take it away").await;
    check(|it| fs::write(memory(it), vec![0; 2 << 20]).unwrap(), "memory", "more than").await;
    check(|it| fs::remove_dir_all(&it.door.state).unwrap(), "memory", "state").await;
    // Another owner: where tests run as root, everything here is root's, who is somebody else only for the file itself.
    let other = Uid::from_raw(nix::unistd::geteuid().as_raw() + 1);
    check(move |it| it.door.owner = other, "memory", "belongs to user").await;
}

#[tokio::test]
async fn a_configuration_or_a_pin_that_somebody_else_could_have_written_is_not_believed() {
    check(|it| mode(&it.root.join("trust.json"), 0o666), "file", "mode 666").await;
    check(|it| mode(&it.root.join("muster.toml"), 0o664), "file", "mode 664").await;
    check(|it| mode(&it.root, 0o777), "memory", "mode 777").await;
    check(|it| fs::write(it.root.join("trust.json"), "{}").unwrap(), "trust", "trust.json").await;
    check(|it| fs::write(it.root.join("muster.toml"), "fleet = 5").unwrap(), "config", "muster.toml").await;
    check(
        |it| {
            let trust = json!({ "fleet": "away", "operators": { "a": line_of("alice") }, "threshold": 1 });
            fs::write(it.root.join("trust.json"), trust.to_string()).unwrap();
        },
        "config",
        "pins the fleet away",
    )
    .await;
}

#[test]
fn links_are_followed_where_their_owner_is_believed_and_never_in_circles() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let me = nix::unistd::geteuid();
    fs::create_dir_all(root.join("etc/static")).unwrap();
    fs::create_dir(root.join("store")).unwrap();
    fs::write(root.join("store/trust.json"), "pinned").unwrap();
    symlink(root.join("store/trust.json"), root.join("etc/static/trust.json")).unwrap();
    symlink("../etc/static/trust.json", root.join("etc/trust.json")).unwrap();
    symlink("loop", root.join("etc/loop")).unwrap();
    symlink("/dev/null", root.join("etc/device")).unwrap();
    let read = |name: &str, max| trusted::read(&root.join(name), me, max).map_err(|error| error.to_string());
    assert_eq!(read("etc/trust.json", 100), Ok(b"pinned".to_vec()));
    for (name, max, words) in [
        ("etc/trust.json", 5, "more than 5 bytes"),
        ("etc/loop", 100, "symlinks"),
        ("etc/device", 100, "/dev/null has the mode"),
        ("etc", 100, "not a file"),
        ("etc/none", 100, "No such file"),
        ("etc/trust.json/x", 100, "not a file"),
    ] {
        let error = read(name, max).unwrap_err();
        assert!(error.contains(words), "{name}: {error}");
    }
    let relative = trusted::read(Path::new("etc/trust.json"), me, 100).unwrap_err().to_string();
    assert!(relative.contains("path from the root"), "{relative}");
    mode(&root.join("store"), 0o777);
    assert!(read("etc/trust.json", 100).unwrap_err().contains("store has the mode 777"));
    // In such a folder nobody replaces what another one owns.
    mode(&root.join("store"), 0o1777);
    assert!(read("etc/trust.json", 100).is_ok());
}
