//! Signatures made by muster and by OpenSSH are the same thing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use muster_tests::{Fleet, Muster, Ran, has_program};

fn ssh_keygen(arguments: &[&str], input: Option<&Path>) -> bool {
    let stdin = input.map_or_else(Stdio::null, |file| fs::File::open(file).unwrap().into());
    let output = Command::new("ssh-keygen").args(arguments).stdin(stdin).output().unwrap();
    output.status.success()
}

fn verify(fleet: &Fleet, file: &Path) -> Ran {
    Muster::new(["verify"]).arg(file).arg("--trust").arg(fleet.trust_file()).run()
}

#[test]
fn ssh_keygen_accepts_what_muster_signed_and_the_other_way_round() {
    if !has_program("ssh-keygen") {
        return;
    }
    let fleet = Fleet::of(1).build();
    let (file, alice) = (fleet.document_file(), &fleet.operators[0]);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    fleet.sign(&["fleet"], &file, alice).ok();
    let by_muster = format!("{}.alice.sig", file.display());
    let allowed = fleet.folder().join("allowed");
    fs::write(&allowed, format!("alice {}\n", alice.line)).unwrap();
    let accepts = |namespace: &str, document: &Path| {
        let arguments =
            ["-Y", "verify", "-n", namespace, "-f", &text(&allowed), "-I", "alice", "-s", &by_muster];
        ssh_keygen(&arguments, Some(document))
    };
    assert!(accepts("muster-fleet", &file));
    assert!(!accepts("muster-channel-ref", &file), "it was signed for another use");
    let flipped = fleet.folder().join("flipped.json");
    fs::write(&flipped, fs::read_to_string(&file).unwrap().replace("\"serial\": 1", "\"serial\": 2"))
        .unwrap();
    assert!(!accepts("muster-fleet", &flipped));

    fs::remove_file(&by_muster).unwrap();
    verify(&fleet, &file).expect_code(1);
    assert!(ssh_keygen(
        &["-q", "-Y", "sign", "-n", "muster-fleet", "-f", &text(&alice.file), &text(&file)],
        None
    ));
    let ran = verify(&fleet, &file);
    assert!(ran.ok().contains("alice"));
}

#[test]
fn verify_refuses_what_is_not_signed_as_it_must_be() {
    if !has_program("ssh-keygen") {
        return;
    }
    let fleet = Fleet::of(1).operators(2, 2).build();
    let file = fleet.document_file();
    let sign = |operator: usize, namespace: &str| {
        let key = fleet.operators[operator].file.to_str().unwrap();
        let signature = format!("{}.sig", file.display());
        // ssh-keygen asks before it writes over a file.
        drop(fs::remove_file(&signature));
        assert!(ssh_keygen(&["-q", "-Y", "sign", "-n", namespace, "-f", key, file.to_str().unwrap()], None));
        fs::read(signature).unwrap()
    };
    let write = |name: &str, signature: &[u8]| {
        fs::write(format!("{}.{name}", file.display()), signature).unwrap();
    };
    let alice = sign(0, "muster-fleet");
    verify(&fleet, &file).expect_code(1);
    write("again.sig", &alice);
    verify(&fleet, &file).expect_code(1);
    write("bob.sig", &sign(1, "muster-channel-ref"));
    verify(&fleet, &file).expect_code(1);
    write("sig", &alice);
    write("bob.sig", &sign(1, "muster-fleet"));
    write("sig", &alice);
    let said = verify(&fleet, &file).ok();
    assert!(said.contains("alice") && said.contains("bob"), "{said}");

    let document = fs::read_to_string(&file).unwrap();
    fs::write(&file, document.replacen("host-0", "host-1", 1)).unwrap();
    verify(&fleet, &file).expect_code(1);
}
