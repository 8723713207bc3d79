//! The live page, in a real browser, while real rollouts go on.

use std::fs;
use std::time::Duration;

use muster_tests::{Browser, Fleet, Following, Release, wait_for};
use serde_json::json;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Serves a host's page at some free port: its address.
fn serve(fleet: &Fleet, host: usize) -> (Following, String) {
    let out = fleet.folder().join("web.out");
    let web = fleet.agents[host].muster(["web", "--listen", "127.0.0.1:0"]).follow(&out);
    let address = wait_for("the page's address is printed", Duration::from_secs(30), || {
        let said = fs::read_to_string(&out).ok()?;
        said.split_ascii_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
    });
    (web, address)
}

/// Marks the page, to see later that it was not loaded again, and that what did not change was left alone.
fn mark(browser: &Browser) {
    browser.run("window.marked = true; document.querySelector('h1').marked = true");
}

#[test]
fn the_page_follows_a_rollout_live_and_can_be_used_by_keyboard() {
    let Some(browser) = Browser::start() else { return };
    let fleet = Fleet::of(3)
        .tag("canary", [2])
        .policy("waves", json!([{ "selector": { "tags": ["canary"] }, "soakSeconds": 0 }, { "selector": { "all": true }, "soakSeconds": 0 }]))
        .build();
    fleet.install("v1", Release::GOOD);
    fleet.install("v2", Release::BROKEN);
    fleet.launch();
    let (_web, address) = serve(&fleet, 0);
    browser.open(&address);
    browser.wait_for_text("3 of 3 coordinators in reach, 2 needed");
    browser.wait_for_text("● live");
    browser.wait_for_text("nothing released yet");
    mark(&browser);

    let good = fleet.roll_out("r1", "v1");
    browser.wait_for_text("✓ Terminal");
    browser.wait_for_text("1 of 1");
    browser.wait_for_text("2 of 2");
    assert_eq!(browser.run("return window.marked === true"), true, "the page was not loaded again");
    let kept = browser.run("return document.querySelector('h1').marked === true");
    assert_eq!(kept, true, "what did not change was left alone");

    by_keyboard_alone(&browser, &good);
    every_view(&browser, &fleet, &address);
    nothing_to_complain_of(&browser);

    fleet.agents[1].stop();
    fleet.agents[2].stop();
    browser.open(&format!("{address}#/"));
    browser.wait_for_text("✗ No quorum");
    fleet.agents[0].stop();
    browser.wait_for_text("the agent does not answer");
    if let Some(folder) = std::env::var_os("MUSTER_TEST_SCREENSHOTS") {
        browser.screenshot(&std::path::Path::new(&folder).join("web.png"));
    }
}

/// To the second view by its key, to its first link by Tab, and into it by Enter.
fn by_keyboard_alone(browser: &Browser, rollout: &str) {
    browser.press("2");
    browser.wait_for_text("Took");
    let on_link = |href: &str| browser.run("return document.activeElement.getAttribute('href')") == href;
    let to = format!("#/rollouts/{}", rollout.replace('@', "%40"));
    let reached = (0..20).any(|_| {
        browser.press(TAB);
        on_link(&to)
    });
    assert!(reached, "Tab reaches the rollout's link");
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_ne!(outline, "none", "where the focus is can be seen");
    browser.press(ENTER);
    browser.wait_for_text("What happened");
    browser.wait_for_text("the release r1 is signed");
    browser.wait_for_text("alice");
    let drawn = browser.run("return document.querySelectorAll('main svg.chart .piece.switch').length");
    assert_eq!(drawn, 3, "every host's switch is drawn");
    assert_eq!(browser.run("return document.activeElement.id"), "main", "the focus is at the new view");
}

fn every_view(browser: &Browser, fleet: &Fleet, address: &str) {
    let bad = fleet.roll_out("r2", "v2");
    browser.open(&format!("{address}#/rollouts"));
    browser.wait_for_text(&bad);
    browser.open(&format!("{address}#/rollouts/{bad}"));
    browser.wait_for_text("↶ Reverted");
    browser.open(&format!("{address}#/hosts/host-2"));
    browser.wait_for_text("RollbackComplete");
    browser.open(&format!("{address}#/peers"));
    browser.wait_for_text("2 of 2 connected");
    browser.open(&format!("{address}#/events"));
    browser.wait_for_text("every signature looked at again");
    browser.run("document.getElementById('filter').focus()");
    browser.press("rollbackcomplete");
    browser.wait_for_text("RollbackComplete");
    wait_for("only what is searched for is left", Duration::from_secs(10), || {
        (!browser.text().contains("ActivationStarted")).then_some(())
    });
}

fn nothing_to_complain_of(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<String>::new(), "the browser has nothing to complain of");
    let elsewhere = "return performance.getEntriesByType('resource').map(it => it.name).filter(it => !it.startsWith(location.origin))";
    assert_eq!(browser.run(elsewhere), json!([]), "nothing comes from elsewhere");
    assert_eq!(browser.run("return document.cookie"), "");
}
