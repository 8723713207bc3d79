//! The demonstration on one machine, as a newcomer runs it.

use muster_tests::Muster;

#[test]
fn the_demo_tells_its_whole_story() {
    let told = Muster::new(["demo", "--json"]).run().json();
    assert_eq!(told["schema"], 1, "{told}");
    assert_eq!(told["hosts_on_bad_release"], 0, "{told}");
    for figure in ["publish_to_dispatch_ms", "recovered_ms"] {
        assert!(told[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {told}");
    }
}
