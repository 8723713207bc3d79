//! The demonstration on one machine, as a newcomer runs it.

use muster_tests::{Browser, Muster, Permit};
use serde_json::{Value, json};

#[test]
fn the_demo_tells_its_whole_story() {
    let _permit = Permit::acquire(5);
    let told = Muster::new(["demo", "--json"]).run().json();
    let known = [
        "agents_max_rss_mib",
        "coordinators",
        "hosts",
        "hosts_on_bad_release",
        "publish_to_dispatch_ms",
        "quarantined",
        "rollouts",
        "schema",
        "seconds",
    ];
    assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), known, "{told}");
    assert_eq!((&told["schema"], &told["hosts"], &told["coordinators"]), (&json!(1), &json!(5), &json!(3)));
    assert_eq!(told["hosts_on_bad_release"], 0, "{told}");
    for figure in ["publish_to_dispatch_ms", "agents_max_rss_mib", "seconds"] {
        assert!(told[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {told}");
    }

    let rollouts = told["rollouts"].as_array().unwrap();
    let ends: Vec<_> = rollouts.iter().map(|rollout| (&rollout["id"], &rollout["state"])).collect();
    let end = |id: &str, state: &str| (json!(id), json!(state));
    let expected = [end("stable@v1", "Terminal"), end("stable@v2", "Terminal"), end("stable@v3", "Reverted")];
    assert_eq!(ends, expected.iter().map(|(id, state)| (id, state)).collect::<Vec<_>>());
    let killed: Vec<_> =
        rollouts.iter().filter(|rollout| rollout["coordinator_killed"] != Value::Null).collect();
    assert!(killed.len() == 1 && killed[0]["id"] == "stable@v2", "{told}");
    assert!(killed[0]["recovered_ms"].is_u64(), "{told}");
    assert_eq!(told["quarantined"], json!([{ "channel": "stable", "closure": "dir:v3" }]));
}

#[test]
fn the_report_of_the_bad_release_opens_in_a_browser_and_draws_the_host_that_went_back() {
    let _permit = Permit::acquire(5);
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("demo");
    Muster::new(["demo", "--keep"]).arg(&kept).run().ok();
    let page = folder.path().join("v3.html");
    let report = Muster::new(["rollout", "report", "stable@v3", "--html"]).arg(&page);
    let reported = report.socket(&kept.join("web-1/muster.sock")).run();
    Muster::new(["demo", "--stop"]).arg(&kept).run().ok();
    reported.ok();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("<svg") && text.contains("web-1: went back"), "{text}");
    let Some(browser) = Browser::start() else { return };
    browser.open(&format!("file://{}", page.display()));
    browser.wait_for_text("web-1");
    assert_eq!(browser.console(), Vec::<String>::new(), "the browser has nothing to complain of");
    let drawn = "return [...document.querySelectorAll('svg.chart .sign.back')].map(it => it.textContent)";
    assert_eq!(browser.run(drawn), json!(["↶"]), "{text}");
}
