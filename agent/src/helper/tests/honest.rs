//! What an honest daemon asks for is done, also after everything that can happen to a fleet or a machine.

use super::*;
use crate::activation::nixos::root::Road;
use crate::helper::memory::Phase;
use crate::helper::protocol::TEXT_BYTES_MAX;

#[tokio::test]
async fn a_certified_dispatch_is_carried_out_and_remembered() {
    for boot in [false, true] {
        let (bench, mut story) = (Bench::new(), Story::new());
        let (dispatch, to) = (story.dispatch(), system(TARGET));
        if boot {
            story.order = Order::Boot { dispatch: dispatch.clone(), to: to.clone(), timeout_secs: 1 };
        }
        bench.done(&story.request()).await;
        // How long it may take says the policy that operators signed, not the daemon.
        let expected = if boot {
            Order::Boot { dispatch, to, timeout_secs: 77 }
        } else {
            Order::Switch { dispatch, to, timeout_secs: 77 }
        };
        assert_eq!(*bench.hands.acts.borrow(), [expected]);
        let memory = bench.memory();
        let last = memory.last.unwrap();
        assert_eq!((last.from, last.to, last.phase), (Some(system(BEFORE)), system(TARGET), Phase::Done));
        assert_eq!(memory.fleet.map(|fleet| fleet.serial), Some(5));
        assert_eq!(memory.ran.values().map(|ran| ran.serial).collect::<Vec<_>>(), [9]);
        assert_eq!(memory.used.len(), 1);
    }
}

#[tokio::test]
async fn the_way_back_is_open_once_after_each_switch() {
    let (bench, story) = (Bench::new(), Story::new());
    bench.done(&story.request()).await;
    bench.done(&story.way_back(BEFORE)).await;
    let expected =
        Order::RollBack { dispatch: story.dispatch(), to: system(BEFORE), timeout_secs: 77, live: true };
    assert_eq!(bench.hands.acts.borrow().last(), Some(&expected));
    let next = story.next();
    bench.done(&next.request()).await;
    bench.done(&next.way_back(BEFORE)).await;
    assert_eq!(bench.hands.running(), Some(system(BEFORE)));
}

#[tokio::test]
async fn an_order_whose_beginning_is_unknown_may_be_given_again() {
    let (mut bench, story) = (Bench::new(), Story::new());
    for request in [story.request(), story.way_back(BEFORE)] {
        // The helper is killed between its memory and the act.
        bench.hands.hangs = true;
        let (mut daemon, helper) = UnixStream::pair().unwrap();
        daemon.write_all(&request.encode()).await.unwrap();
        daemon.shutdown().await.unwrap();
        let killed = tokio::time::timeout(TALK_TIME, bench.door.serve(helper, &bench.hands));
        assert!(killed.await.is_err());
        bench.hands.hangs = false;
        // And once more it was allowed, and did not work.
        bench.hands.broken = Some("systemd cannot be reached");
        let answer = bench.ask(&request).await;
        assert_eq!(answer, Answer::Failed("systemd cannot be reached".to_owned()));
        bench.hands.broken = None;
        bench.done(&request).await;
        let Answer::Refused { .. } = bench.ask(&request).await else { panic!("it was done twice") };
    }
    assert_eq!(bench.hands.acts.borrow().len(), 2);
}

#[tokio::test]
async fn operators_hand_over_along_the_chain() {
    let (bench, mut story) = (Bench::new(), Story::new());
    let operators = json!({ "carol": line_of("carol") });
    let all = vec!["alice", "bob", "carol"];
    story.then_fleet(all, &[("/operators", operators), ("/thresholds/fleet", 1.into())]);
    story.channel_ref.by = vec!["carol"];
    bench.done(&story.request()).await;
    // A ref may name an older fleet document than the newest, and a decision an older electorate.
    let mut next = story.next();
    next.then_fleet(vec!["carol"], &[]);
    next.channel_ref.json["fleetSerial"] = 6.into();
    next.channel_ref.json["fleetHash"] = story.fleets[1].hash().to_string().into();
    bench.done(&next.request()).await;
    assert_eq!(bench.memory().fleet.map(|fleet| fleet.serial), Some(7));
}

#[tokio::test]
async fn a_recovery_document_begins_the_serials_anew() {
    let (bench, mut story) = (Bench::new(), Story::new());
    // A stolen key took the greatest serials that there are.
    story.then_fleet(vec!["alice", "bob"], &[("/serial", 1_000_000.into())]);
    story.channel_ref.json["serial"] = 1_000_000.into();
    bench.done(&story.request()).await;
    let recovery = [("/serial", 7.into()), ("/recovery", true.into()), ("/replaces", 1_000_000.into())];
    let mut recovered = story.next();
    recovered.then_fleet(vec!["alice", "bob"], &recovery);
    recovered.channel_ref.json["serial"] = 1.into();
    recovered.decision.fleet_serial = 7;
    recovered.decision.epoch = recovered.epoch(7);
    bench.done(&recovered.request()).await;
    let memory = bench.memory();
    assert_eq!(memory.fleet.map(|fleet| fleet.serial), Some(7));
    assert_eq!(memory.ran.values().map(|ran| ran.serial).collect::<Vec<_>>(), [1]);
    // What the recovery replaced is old from now on, however great its serial.
    let mut replaced = story.next();
    replaced.decision.log_index = 90;
    replaced.dispatched("stable@v1000001", TARGET);
    bench.refused(&replaced.request(), "older-fleet-document", "serial 1000000").await;
    bench.done(&recovered.next().request()).await;
}

#[tokio::test]
async fn a_new_pin_leaves_what_was_accepted_before_it_in_force() {
    let (bench, mut story) = (Bench::new(), Story::new());
    bench.done(&story.request()).await;
    bench.trust(&["carol"], 1);
    let mut next = story.next();
    next.then_fleet(vec!["alice", "bob"], &[]);
    bench.done(&next.request()).await;
    // A recovery document of the new pin replaces the old operators.
    let recovery = [
        ("/recovery", true.into()),
        ("/replaces", 6.into()),
        ("/operators", json!({ "carol": line_of("carol") })),
        ("/thresholds/fleet", 1.into()),
    ];
    let mut recovered = next.next();
    recovered.then_fleet(vec!["carol"], &recovery);
    recovered.channel_ref.by = vec!["carol"];
    recovered.decision.fleet_serial = 7;
    recovered.decision.epoch = recovered.epoch(7);
    bench.done(&recovered.request()).await;
    // Without a memory nothing leads from the new pin to what the old one signed.
    let stranger = Bench::new();
    stranger.trust(&["carol"], 1);
    story.decision.log_index = 95;
    story.dispatched("stable@v1", TARGET);
    stranger.refused(&story.request(), "fleet-document", "pinned operators").await;
}

#[tokio::test]
async fn a_unit_is_let_go_of_and_the_agent_is_restarted_without_proofs() {
    let (bench, story) = (Bench::new(), Story::new());
    let order = Order::Reset(story.dispatch().unit(Road::Switch));
    bench.done(&Request::CarryOut(CarryOut { order, papers: None })).await;
    assert_eq!(bench.memory(), Memory::default());
    assert_eq!(bench.ask(&Request::Restart).await, Answer::Done("restarted".to_owned()));
    assert_eq!(*bench.hands.restarts.borrow(), 1);
}

#[tokio::test]
async fn the_end_of_what_a_unit_said_is_told_without_proofs_and_of_no_other_unit() {
    let (bench, story) = (Bench::new(), Story::new());
    let unit = story.dispatch().unit(Road::Switch);
    let Answer::Done(said) = bench.ask(&Request::Said(unit.clone())).await else { panic!("it is not told") };
    assert!(said.ends_with(&format!("x {}", unit.name())) && said.len() <= TEXT_BYTES_MAX, "{said}");
    assert_eq!(bench.memory(), Memory::default());
    // What names no unit of a dispatch is no request.
    let mut bytes = Request::Said(unit).encode();
    let at = bytes.windows(6).position(|bytes| bytes == b"switch").unwrap();
    bytes[at..at + 6].copy_from_slice(b"sshd.s");
    let Answer::Refused { rule, .. } = bench.say(&bytes).await else { panic!("it is told") };
    assert_eq!(rule, "malformed");
}
