//! Both ways between this crate and `ssh-keygen`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use muster_signing::{
    KeyError, Namespace, OperatorKey, PublicKey, SigningKey, armor, dearmor, sign_document, verify_document,
};

use crate::key;

const SSH_KEYGEN: &str = "/usr/bin/ssh-keygen";
const TEXT: &[u8] = b"{\"kind\": \"muster/channel-ref/1\"}\n";

/// Answers whether `ssh-keygen` is here; where everything is required, it has to be.
fn available(test: &str) -> bool {
    let here = Path::new(SSH_KEYGEN).exists();
    if !here {
        let required = std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all");
        assert!(!required, "{SSH_KEYGEN} is required");
        let mut stderr = std::io::stderr();
        writeln!(stderr, "skipped {test}: there is no {SSH_KEYGEN}").unwrap();
    }
    here
}

fn ssh_keygen(folder: &Path, arguments: &[&str], stdin: Stdio) -> bool {
    let mut command = Command::new(SSH_KEYGEN);
    command.current_dir(folder).args(arguments).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

fn generate(folder: &Path, name: &str, passphrase: &str) -> String {
    let arguments = ["-q", "-t", "ed25519", "-N", passphrase, "-C", "alice@desk", "-f", name];
    assert!(ssh_keygen(folder, &arguments, Stdio::null()));
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn what_ssh_keygen_signed_is_verified_here() {
    if !available("what_ssh_keygen_signed_is_verified_here") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    generate(folder, "alice", "");
    let public = fs::read_to_string(folder.join("alice.pub")).unwrap();
    for hash in ["hashalg=sha512", "hashalg=sha256"] {
        fs::write(folder.join("ref.json"), TEXT).unwrap();
        let arguments = ["-Y", "sign", "-n", "muster-channel-ref", "-O", hash, "-f", "alice", "ref.json"];
        assert!(ssh_keygen(folder, &arguments, Stdio::null()));
        let text = fs::read_to_string(folder.join("ref.json.sig")).unwrap();
        let signature = dearmor(&text).unwrap();
        assert_eq!(armor(&signature), text);
        let document = verify_document(Namespace::ChannelRef, TEXT.to_vec(), vec![signature]);
        assert_eq!(document.signers(), &[OperatorKey::from_openssh(&public).unwrap()].into(), "{hash}");
        fs::remove_file(folder.join("ref.json.sig")).unwrap();
    }
}

#[test]
fn what_was_signed_here_is_verified_by_ssh_keygen() {
    if !available("what_was_signed_here_is_verified_by_ssh_keygen") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("signers"), format!("alice {}\n", key(1).public().to_openssh())).unwrap();
    fs::write(folder.join("good"), TEXT).unwrap();
    fs::write(folder.join("other"), b"{}").unwrap();
    fs::write(folder.join("sig"), armor(&sign_document(&key(1), Namespace::ChannelRef, TEXT))).unwrap();
    for (file, namespace, expected) in [
        ("good", "muster-channel-ref", true),
        ("good", "muster-fleet", false),
        ("other", "muster-channel-ref", false),
    ] {
        let stdin = File::open(folder.join(file)).unwrap();
        let arguments = ["-Y", "verify", "-f", "signers", "-I", "alice", "-n", namespace, "-s", "sig"];
        assert_eq!(ssh_keygen(folder, &arguments, stdin.into()), expected, "{file} {namespace}");
    }
}

#[test]
fn private_key_files_are_read_and_written() {
    if !available("private_key_files_are_read_and_written") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let secret = SigningKey::from_openssh(&generate(folder, "plain", "")).unwrap();
    let line = fs::read_to_string(folder.join("plain.pub")).unwrap();
    assert_eq!(secret.public(), PublicKey::from_openssh(&line).unwrap());

    let locked = generate(folder, "locked", "correct horse");
    assert_eq!(SigningKey::from_openssh(&locked).unwrap_err(), KeyError::Encrypted);

    let mut written = File::create(folder.join("written")).unwrap();
    written.write_all(key(5).to_openssh("here").as_bytes()).unwrap();
    restrict(&folder.join("written"));
    let output = Command::new(SSH_KEYGEN).current_dir(folder).args(["-y", "-f", "written"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(PublicKey::from_openssh(&printed).unwrap(), key(5).public());
}

/// `ssh-keygen` refuses secrets that others can read.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
