//! Properties: nothing panics, selectors are sets, and what is newest never goes back.

use std::collections::BTreeSet;

use muster_core::document::{
    Acceptance, ChannelRefDocument, Command, Fleet, Refusal, Selector, Trust, kind_of,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kit::{ALICE, BOB, CI, FLEET, PAUSE, STABLE, now, sign, stable, with, with_fleet};

fn read_all(bytes: &[u8]) {
    let _ = kind_of(bytes);
    let _ = Fleet::parse(bytes);
    let _ = ChannelRefDocument::parse(bytes);
    let _ = Command::parse(bytes);
    let _ = Trust::parse(bytes);
}

fn selector() -> impl Strategy<Value = Value> {
    let hosts = prop::sample::subsequence(vec!["app-01", "db-01", "edge-01", "web-01", "web-02"], 1..=3);
    let tags = || prop::sample::subsequence(vec!["web", "canary", "etcd", "always-on"], 1..=2);
    let leaf = prop_oneof![
        Just(json!({"all": true})),
        hosts.prop_map(|hosts| json!({"hosts": hosts})),
        tags().prop_map(|tags| json!({"tags": tags})),
        tags().prop_map(|tags| json!({"tagsAny": tags})),
        Just(json!({"channel": "edge"})),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| json!({"not": inner})),
            prop::collection::vec(inner, 1..3).prop_map(|inner| json!({"and": inner})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read_all(&bytes);
    }

    #[test]
    fn golden_documents_with_bytes_changed_never_panic(
        golden in prop::sample::select(vec![FLEET, STABLE, PAUSE]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = golden.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes);
        let signed = sign(&bytes, &[ALICE, CI]);
        let _ = with_fleet().check(&signed, now());
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes);
    }

    #[test]
    fn numbers_of_any_size_never_panic(
        pointer in prop::sample::select(vec![
            "/serial", "/replaces", "/thresholds/fleet", "/channels/stable/freshnessWindowMinutes",
            "/channels/edge/windows/0/lengthMinutes", "/rolloutPolicies/careful/waves/0/soakMinutes",
            "/rolloutPolicies/careful/deferredTimeoutHours", "/rolloutPolicies/careful/lostAfterSeconds",
            "/rolloutPolicies/careful/healthGate/maxFailures", "/disruptionBudgets/0/maxInFlight",
            "/disruptionBudgets/1/maxInFlightPct",
        ]),
        number in any::<u64>(),
    ) {
        let _ = Fleet::parse(&with(FLEET, &[(pointer, json!(number))]));
    }

    #[test]
    fn selectors_are_sets(one in selector(), other in selector()) {
        let fleet = Fleet::parse(FLEET.as_bytes()).unwrap();
        let resolve = |value: Value| -> BTreeSet<_> {
            serde_json::from_value::<Selector>(value).unwrap().resolve(&fleet)
        };
        let all = resolve(json!({"all": true}));
        let (first, second) = (resolve(one.clone()), resolve(other.clone()));
        prop_assert_eq!(all.difference(&first).cloned().collect::<BTreeSet<_>>(), resolve(json!({"not": one.clone()})));
        prop_assert_eq!(
            first.intersection(&second).cloned().collect::<BTreeSet<_>>(),
            resolve(json!({"and": [one, other]}))
        );
    }

    #[test]
    fn what_is_newest_never_goes_back(
        steps in prop::collection::vec((any::<bool>(), 5u64..12, 0u8..4, prop::sample::subsequence(vec![ALICE, BOB, CI], 0..=3)), 1..24),
    ) {
        let mut documents = with_fleet();
        let mut fleets = vec![FLEET.as_bytes().to_vec()];
        for (is_fleet, serial, variant, seeds) in steps {
            let bytes = if is_fleet {
                let bytes = with(FLEET, &[("/serial", json!(serial)), ("/tags/x", json!({"description": variant.to_string()}))]);
                fleets.push(bytes.clone());
                bytes
            } else {
                let fleet = &fleets[usize::from(variant) % fleets.len()];
                stable(fleet, serial, &format!("v{serial}-{variant}"))
            };
            let before = documents.clone();
            let order = |documents: &muster_core::document::Documents| {
                let newest = documents.channel_ref(&"stable".parse().unwrap());
                (documents.fleet().map(|fleet| fleet.serial), newest.map(|newest| newest.order()))
            };
            match documents.check(&sign(&bytes, &seeds), now()) {
                Ok(Acceptance::New(accepted)) => {
                    let operators = seeds.iter().filter(|seed| **seed != BOB).count();
                    let needed = if is_fleet { 2 } else { 1 };
                    prop_assert!(operators >= needed);
                    documents.insert(accepted);
                    prop_assert!(order(&documents) > order(&before));
                }
                Err(Refusal::Equivocation(proof)) => {
                    documents.insert_proof(*proof);
                    prop_assert_eq!(order(&documents), order(&before));
                }
                Ok(Acceptance::Duplicate | Acceptance::Waits { .. }) | Err(_) => {}
            }
        }
        let mut restored = with_fleet();
        for document in documents.all().skip(1) {
            let accepted = restored.stored(document.signed()).unwrap();
            restored.insert(accepted);
        }
        prop_assert!(restored.all().eq(documents.all()));
        prop_assert!(restored.channel_refs().eq(documents.channel_refs()));
    }
}
