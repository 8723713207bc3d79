//! Who counts as online: what this process heard, and when.

use std::time::Duration;

use chrono::TimeDelta;
use muster_core::presence::{Presences, Reach};
use muster_core::time::Mono;

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// Nobody was heard yet, and the process has just begun.
fn deaf() -> Story {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    story.presences = Presences::new(host("h1"), HEARTBEAT, story.mono);
    story
}

fn reach(story: &Story, name: &str) -> Reach {
    story.presences.reach(&host(name), story.mono)
}

#[test]
fn an_old_message_that_sync_brings_makes_nobody_online() {
    let mut story = deaf();
    let long_ago = story.now - TimeDelta::hours(3);
    story.speaks_at("h4", long_ago, |_| {});
    assert_eq!(reach(&story, "h4"), Reach::Unknown);
    story.pass(91);
    assert_eq!(reach(&story, "h4"), Reach::Offline);
    assert_eq!(story.presences.own_offset(story.clocks()), None);
}

#[test]
fn a_host_whose_clock_is_far_off_is_heard_all_the_same_once_it_speaks_again() {
    for off in [TimeDelta::hours(-3), TimeDelta::hours(3)] {
        let mut story = deaf();
        for _ in 0..3 {
            let at = story.now + off;
            story.speaks_at("h4", at, |_| {});
            story.pass(30);
        }
        assert_eq!(reach(&story, "h4"), Reach::Online);
        assert_eq!(story.presences.offset_of(&host("h4"), story.clocks()), Some(off));
        let own = story.presences.own_offset(story.clocks());
        assert_eq!(own, Some(TimeDelta::zero()), "two clocks that differ prove nothing of either");
        let at = story.now + off;
        story.speaks_at("h3", at, |_| {});
        story.pass(30);
        let at = story.now + off;
        story.speaks_at("h3", at, |_| {});
        assert_eq!(story.presences.own_offset(story.clocks()), Some(off));
    }
}

#[test]
fn a_host_tells_its_own_heartbeat_and_cannot_buy_itself_for_ever() {
    for (millis, online_secs) in [(5_000, 15), (60_000, 180), (0, 90), (u64::MAX, 900)] {
        let mut story = deaf();
        story.speaks_as("h4", |presence| presence.heartbeat_millis = millis);
        story.pass(online_secs);
        assert_eq!(reach(&story, "h4"), Reach::Online, "{millis}");
        story.pass(1);
        assert_ne!(reach(&story, "h4"), Reach::Online, "{millis}");
    }
}

#[test]
fn an_envelope_is_heard_as_well_as_a_heartbeat() {
    let mut story = deaf();
    let id = story.release("v1");
    story.join(&id, "h4");
    story.pass(91);
    assert_eq!(reach(&story, "h4"), Reach::Offline);
    story.acks("h4", &id);
    assert_eq!(reach(&story, "h4"), Reach::Online);
    assert_eq!(story.presences.silent_for(&host("h4"), story.mono), Duration::ZERO);
}

#[test]
fn the_next_change_is_when_somebody_would_fall_silent() {
    let mut story = deaf();
    let opening = story.mono.after(HEARTBEAT * 3).after(Duration::from_millis(1));
    assert_eq!(story.presences.next_change(story.mono), Some(opening));
    story.pass(30);
    story.speaks_as("h4", |presence| presence.heartbeat_millis = 5_000);
    let silent = story.mono.after(Duration::from_millis(15_001));
    assert_eq!(story.presences.next_change(story.mono), Some(silent));
    assert_eq!(story.presences.next_change(Mono(u64::MAX)), None);
}
