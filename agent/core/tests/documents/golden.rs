//! The golden files, with signatures that `ssh-keygen -Y sign` made.

use muster_core::document::fleet::Tolerate;
use muster_core::document::{Acceptance, Fleet, Scope, Verb};
use muster_core::wire::{DecisionId, HealthPolicy};
use muster_signing::{Namespace, dearmor, verify_document};

use crate::kit::{CLEAR, FLEET, PAUSE, STABLE, empty, now, time};

const SIGNED: [(Namespace, &str, &[&str]); 4] = [
    (Namespace::Fleet, FLEET, &[include_str!("fleet.json.alice.sig"), include_str!("fleet.json.ci.sig")]),
    (Namespace::ChannelRef, STABLE, &[include_str!("stable.json.ci.sig")]),
    (Namespace::Command, PAUSE, &[include_str!("pause.json.alice.sig")]),
    (Namespace::Command, CLEAR, &[include_str!("clear.json.alice.sig")]),
];

#[test]
fn golden_documents_signed_by_ssh_keygen_are_accepted_and_replayed_from_the_store() {
    let (mut documents, mut restored) = (empty(), empty());
    for (namespace, text, signatures) in SIGNED {
        let signatures = signatures.iter().map(|armor| dearmor(armor).unwrap()).collect();
        let signed = verify_document(namespace, text.as_bytes().to_vec(), signatures);
        assert_eq!(signed.rejected(), []);
        let Acceptance::New(accepted) = documents.check_publish(&signed, now()).unwrap() else {
            panic!("{text} is not new");
        };
        documents.insert(accepted);
        assert_eq!(documents.check(&signed, now()), Ok(Acceptance::Duplicate));
    }
    for document in documents.all() {
        let accepted = restored.stored(document.signed()).unwrap();
        assert_eq!(accepted.document(), document);
        restored.insert(accepted);
    }
    assert_eq!(restored.all().count(), 4);
}

#[test]
fn a_fleet_document_is_read_with_its_defaults() {
    let fleet = Fleet::parse(FLEET.as_bytes()).unwrap();
    assert_eq!((fleet.name.as_str(), fleet.serial), ("home", 7));
    assert_eq!(fleet.coordinators.tolerate, Tolerate::Crash);
    let policy = &fleet.policies.values().next().unwrap().policy;
    assert_eq!(policy.on_health_failure, HealthPolicy::RollbackAndHalt);
    assert_eq!(
        (
            policy.max_failures,
            policy.sustained_failure_secs,
            policy.dispatch_timeout_secs,
            policy.activation_timeout_secs,
            policy.deferred_timeout_secs,
            policy.lost_after_secs,
            policy.fetch_timeout_secs,
            policy.deferred_advances,
        ),
        (0, 60, 600, 1800, 168 * 3600, 3600, 3600, false)
    );
    let host = "web-01".parse().unwrap();
    let key = fleet.key_of_host(&host).unwrap();
    assert_eq!(fleet.host_of_key(key), Some(&host));
    let windows = &fleet.channels[&"edge".parse().unwrap()].windows;
    assert!(windows[0].is_open(time("2026-11-20T21:00:00Z")));
    assert!(!windows[0].is_open(time("2026-11-21T21:00:00Z")));
}

#[test]
fn commands_are_read_into_their_verbs() {
    let read = |text: &str| muster_core::document::Command::parse(text.as_bytes()).unwrap().verb;
    assert_eq!(read(PAUSE), Verb::Pause(Scope::Channel("stable".parse().unwrap())));
    let Verb::ClearClosure { quarantines, .. } = read(CLEAR) else { panic!("not a clearance of a closure") };
    assert!(quarantines.contains(&DecisionId { log_index: 17, ordinal: 0 }));
}
