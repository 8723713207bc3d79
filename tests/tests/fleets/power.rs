//! Takes the power from a machine in the middle of rollouts, again and again: what its agent had told anyone is still so when
//! it comes back.

use std::collections::{BTreeMap, BTreeSet};

use muster_tests::uml::{Disk, Powered, has_kernel};
use muster_tests::{Fleet, Release, note};
use serde_json::Value;

/// How often the power is cut, unless [`CYCLES_VARIABLE`] says otherwise.
const CYCLES: usize = 5;
/// A number of cycles for a campaign.
const CYCLES_VARIABLE: &str = "MUSTER_POWER_CYCLES";
/// More releases than are published before the power goes.
const RELEASES_A_CYCLE: usize = 8;
/// The most that is heard of a machine, beside what is known already, before its power goes.
const HEARD_MAX: u64 = 60;
/// What the machine writes without asking for it to be on the disk.
const UNSYNCED_BYTES: u64 = 10_000;
/// What a host says once of a rollout, whatever happens to it.
const ONCE: [&str; 4] = ["DispatchAck", "ActivationStarted", "ActivationCompleted", "Converged"];

/// All that ever left the machine.
#[derive(Debug, Default)]
struct Known {
    /// What it said that it had learnt, by position.
    events: BTreeMap<u64, Value>,
    /// The refs that it said it had taken.
    published: BTreeSet<usize>,
    /// How often the releases' programs began that were completed before the last cut.
    begun: BTreeMap<String, usize>,
    cuts_that_lost: usize,
}

impl Known {
    fn hear(&mut self, word: &str, rest: &str) {
        match word {
            "event" => {
                let event: Value = serde_json::from_str(rest).unwrap();
                let position = event["position"].as_u64().unwrap();
                assert_eq!(event["verified"], true, "{event}");
                let before = self.events.insert(position, event.clone());
                assert!(before.as_ref().is_none_or(|before| *before == event), "{before:?} became {event}");
            }
            "published" => drop(self.published.insert(rest.parse().unwrap())),
            "watched" => assert!(rest.ends_with(" 0"), "a rollout fails: {rest}"),
            _ => panic!("the machine says {word} {rest}"),
        }
    }

    /// What a machine says before its agent is up: what its disk has kept.
    fn come_back(&mut self, machine: &mut Powered, cycle: usize) {
        let mut begun = BTreeMap::<String, usize>::new();
        loop {
            let (word, rest) = machine.hear();
            match word.as_str() {
                "unsynced" if cycle > 0 => {
                    self.cuts_that_lost += usize::from(rest.parse::<u64>().unwrap() < UNSYNCED_BYTES);
                }
                "unsynced" => {}
                "ran" => {
                    if let Some(closure) = rest.strip_prefix("began ").and_then(|it| it.split(' ').next()) {
                        *begun.entry(closure.to_owned()).or_default() += 1;
                    }
                }
                "verify" => assert_eq!(rest, "0", "cycle {cycle}: the store's views follow from its log"),
                "up" => break,
                _ => panic!("the machine says {word} {rest}"),
            }
        }
        for (closure, times) in &self.begun {
            assert_eq!(begun.get(closure).unwrap_or(&0), times, "cycle {cycle}: {closure} began once more");
        }
        let completed = self.events.values().filter(|event| event["name"] == "ActivationCompleted");
        let closures = completed
            .filter_map(|event| Some(format!("dir:{}", event["rollout"].as_str()?.split('@').nth(1)?)));
        self.begun =
            closures.map(|closure| (closure.clone(), begun.get(&closure).copied().unwrap_or(0))).collect();
    }

    /// Hears all again that was heard before, in its order and with nothing left out.
    fn hear_again(&mut self, machine: &mut Powered, cycle: usize) {
        let before: Vec<u64> = self.events.keys().copied().collect();
        let mut before = before.into_iter().peekable();
        while let Some(expected) = before.peek().copied() {
            let (word, rest) = machine.hear();
            self.hear(&word, &rest);
            if word == "event" {
                let event: Value = serde_json::from_str(&rest).unwrap();
                let position = event["position"].as_u64().unwrap();
                assert!(position <= expected, "cycle {cycle}: {expected} was said, and is lost");
                before.next_if_eq(&position);
            }
        }
    }

    fn assert_nothing_lost_or_done_twice(&self) {
        let mut times = BTreeMap::<(&str, &str), usize>::new();
        let mut documents = BTreeSet::new();
        for event in self.events.values() {
            let (name, rollout) =
                (event["name"].as_str().unwrap(), event["rollout"].as_str().unwrap_or_default());
            if event["kind"] == "event" && ONCE.contains(&name) {
                *times.entry((rollout, name)).or_default() += 1;
            }
            if event["kind"] == "document" {
                documents.insert(rollout);
            }
        }
        for (what, times) in times {
            assert_eq!(times, 1, "{what:?}");
        }
        for number in &self.published {
            let rollout = format!("stable@r{number}");
            assert!(documents.contains(rollout.as_str()), "{rollout} was taken, and is lost");
        }
    }
}

#[test]
fn a_machine_that_loses_its_power_in_the_middle_of_rollouts_has_all_that_it_told() {
    if !has_kernel() {
        return;
    }
    let cycles = std::env::var(CYCLES_VARIABLE).ok().and_then(|it| it.parse().ok()).unwrap_or(CYCLES);
    let fleet = Fleet::of(1).build();
    fleet.sign(&["fleet"], &fleet.document_file(), &fleet.operators[0]).ok();
    for number in 0..RELEASES_A_CYCLE * (cycles + 1) {
        let name = format!("r{number}");
        fleet.install(&name, Release::GOOD);
        fleet.sign_ref(&name, &name);
    }
    let disk = Disk::new(fleet.folder().join("uml"));
    let (mut known, mut seed) = (Known::default(), 7_u64);
    for cycle in 0..=cycles {
        let first = known.published.last().map_or(0, |last| last + 1);
        let mut machine = Powered::on(&disk, &fleet.agents[0], first);
        known.come_back(&mut machine, cycle);
        known.hear_again(&mut machine, cycle);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut left = 1 + (seed >> 33) % HEARD_MAX;
        // Once the power is not cut any more it goes on until a rollout is over.
        while left > 0 || cycle == cycles {
            let (word, rest) = machine.hear();
            known.hear(&word, &rest);
            left = left.saturating_sub(1);
            if cycle == cycles && word == "watched" {
                break;
            }
        }
        machine.cut().iter().for_each(|(word, rest)| known.hear(word, rest));
        known.assert_nothing_lost_or_done_twice();
    }
    assert!(known.cuts_that_lost > 0, "a cut that loses nothing is none");
    note(&format!(
        "{cycles} cuts, {} lost what was not synced; {} events and {} refs, none lost",
        known.cuts_that_lost,
        known.events.len(),
        known.published.len()
    ));
}
