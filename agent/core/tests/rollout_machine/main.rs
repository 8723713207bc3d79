//! The rollout machine: every (state, event) pair, what follows from it, and what holds over any sequence.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builders;
mod hosts;
mod sequences;

use builders::*;
use muster_core::host::QueuedDispatch;
use muster_core::rollout::{Effect, RETENTION_SECS, Record, StepContext, StepError, step};
use muster_core::wire::{Cause, HostState, RolloutEvent, RolloutState};

/// Where each event leads from each state, in the order of `RolloutState::ALL`; a dot is a refusal, `!` the refusal
/// of a rollout that is not finished.
const TABLE: [(&str, &str); 14] = [
    ("opened", "........"),
    ("joined", "AACTRFS."),
    ("soaking", ".ACTRFS."),
    ("failed", ".FFTRFS."),
    ("never fetched", "FFFTRFS."),
    ("reverted", ".RRTRRS."),
    ("next wave", "AAATRFS."),
    ("no wave left", "CCCTRFS."),
    ("stale wave", "OACTRFS."),
    ("terminal", "!!!TRFS."),
    ("superseded", "SSSSSSS."),
    ("expired", "...PPPP."),
    ("cleared", "....AA.."),
    ("cancelled", "FFF....."),
];

const AT: i64 = 50;
const INDEX: u64 = 99;

/// The event of a row, fitting the record as well as it can.
fn sample(row: &str, record: &Record) -> RolloutEvent {
    let wave = record.current_wave;
    let b = record.hosts.get(&host("b")).map_or(HostState::Pending, |entry| entry.state);
    match row {
        "opened" => opened(AT),
        "joined" => joined("c", AT),
        "soaking" => moved("b", b, HostState::Soaking, reported(9), AT),
        "failed" => moved("b", b, HostState::Failed, reported(9), AT),
        "never fetched" => moved("d", HostState::Pending, HostState::Failed, Cause::NotFetched, AT),
        "reverted" => moved("b", b, HostState::Reverted, reported(9), AT),
        "next wave" => advanced(wave, wave + 1, AT),
        "no wave left" => advanced(wave, wave, AT),
        "stale wave" => advanced(wave + 7, wave + 8, AT),
        "terminal" => terminal(AT),
        "superseded" => superseded_by("stable@v3", AT),
        "expired" => expired(AT),
        "cleared" => cleared(AT),
        "cancelled" => cancelled(AT),
        other => panic!("no sample for {other}"),
    }
}

fn transition(from: RolloutState, to: RolloutState) -> Effect {
    Effect::RecordRolloutTransition { rollout_id: rollout(), from: Some(from), to, at: at(AT) }
}

fn pruning() -> Effect {
    Effect::SchedulePruning { rollout_id: rollout(), delay_secs: RETENTION_SECS }
}

fn dispatch(name: &str, target: &str, wave: u32, secs: i64) -> [Effect; 2] {
    let open =
        Effect::OpenRolloutRecord { rollout_id: rollout(), channel: rollout().channel(), host: host(name) };
    let queue = Effect::QueueDispatch(QueuedDispatch {
        host: host(name),
        rollout_id: rollout(),
        target_closure: closure(target),
        wave,
        soak_due_at: at(secs + 60),
        soak_secs: SOAK_SECS,
        not_after: at(secs + 600),
    });
    [open, queue]
}

fn quarantine(name: &str, target: &str, seq: u64) -> Effect {
    Effect::InsertQuarantineFromRollout {
        channel: rollout().channel(),
        closure: closure(target),
        host: host(name),
        evidence: evidence(seq),
    }
}

fn expected(row: &str, from: RolloutState, to: RolloutState) -> Vec<Effect> {
    use RolloutState as S;
    let open = from.is_open();
    let mut effects = Vec::new();
    if row == "joined" && (open || from == S::Terminal) {
        effects.extend(dispatch("c", "v2", 1, AT));
    }
    if from != to {
        effects.push(transition(from, to));
    }
    match row {
        "next wave" if open => effects.push(Effect::UpdateCurrentWave { rollout_id: rollout(), wave: 1 }),
        "failed" | "reverted" if open => effects.extend([quarantine("b", "v2", 9), pruning()]),
        "never fetched" if open => effects.push(pruning()),
        "superseded" if from != S::Superseded => effects.push(pruning()),
        "cancelled" => effects.push(pruning()),
        _ => {}
    }
    effects
}

#[test]
fn every_pair_has_exactly_its_effects_or_exactly_its_refusal() {
    for (row, targets) in TABLE {
        for (from, letter) in RolloutState::ALL.into_iter().zip(targets.chars()) {
            let pair = format!("{row} in {}", from.name());
            let record = record_in(from);
            let event = sample(row, &record);
            let stepped = try_step(&plan(0), &record, &event, INDEX);
            if letter == '.' {
                let refused = StepError::IllegalForState {
                    from: Some(from),
                    event: event.kind(),
                    rollout_id: rollout(),
                };
                assert_eq!(stepped.unwrap_err(), refused, "{pair}");
            } else if letter == '!' {
                assert!(matches!(stepped, Err(StepError::Unfinished { .. })), "{pair}");
            } else {
                let stepped = stepped.unwrap_or_else(|error| panic!("{pair}: {error}"));
                let to =
                    RolloutState::ALL.into_iter().find(|state| state.name().starts_with(letter)).unwrap();
                assert_eq!(stepped.record.state, to, "{pair}");
                assert_eq!(stepped.effects, expected(row, from, to), "{pair}");
                let last = if from == to { record.last_transition_log_index } else { INDEX };
                assert_eq!(stepped.record.last_transition_log_index, last, "{pair}");
            }
        }
    }
}

#[test]
fn every_kind_of_event_is_in_the_table() {
    let record = record_in(RolloutState::Active);
    let mut kinds: Vec<&str> = TABLE.iter().map(|(row, _)| sample(row, &record).kind()).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), 9);
}

#[test]
fn only_an_opening_makes_a_record() {
    let record = record_in(RolloutState::Active);
    for (row, _) in TABLE {
        let event = sample(row, &record);
        let stepped = step(&plan(0), None, &event, 5, &StepContext::default());
        if row == "opened" {
            let stepped = stepped.unwrap();
            let to = RolloutState::Opening;
            let wanted =
                Effect::RecordRolloutTransition { rollout_id: rollout(), from: None, to, at: at(AT) };
            assert_eq!(stepped.effects, [wanted]);
            assert_eq!((stepped.record.opened_log_index, stepped.record.current_wave), (5, 0));
        } else {
            let refused =
                StepError::IllegalForState { from: None, event: event.kind(), rollout_id: rollout() };
            assert_eq!(stepped.unwrap_err(), refused);
        }
    }
}

#[test]
fn rollout_does_not_open_beside_another_one_of_its_channel() {
    let open = "stable@v1".parse().unwrap();
    let context = StepContext { open_on_channel: Some(&open), ..StepContext::default() };
    let refused = step(&plan(0), None, &opened(1), 1, &context).unwrap_err();
    assert_eq!(refused, StepError::SupersessionExpected { rollout_id: rollout(), open: open.clone() });
}

#[test]
fn rollout_is_terminal_once_every_host_converged_or_is_excused() {
    use HostState as H;
    let plan = plan(0);
    let converge = |name| [joined(name, 2), moved(name, H::Pending, H::Converged, reported(1), 3)];
    let all: Vec<RolloutEvent> = ["a", "b", "c", "d"].into_iter().flat_map(converge).collect();
    let active = play(&plan, std::iter::once(opened(1)).chain(all)).0;
    let converging = try_step(&plan, &active, &advanced(0, 0, 5), 20).unwrap().record;
    for record in [active, converging] {
        let from = record.state;
        let stepped = try_step(&plan, &record, &terminal(AT), INDEX).unwrap();
        assert_eq!(stepped.effects, [transition(from, RolloutState::Terminal), pruning()]);
        assert_eq!(stepped.record.terminal_at, Some(at(AT)));
    }
    let excused = play(&plan, [opened(1), advanced(0, 1, 2), advanced(1, 1, 3), terminal(4)]).0;
    assert_eq!(excused.state, RolloutState::Terminal, "a plan whose hosts are all excused");
    let refused = try_step(&plan, &record_in(RolloutState::Active), &terminal(AT), INDEX).unwrap_err();
    let hosts = ["b", "c", "d"].map(host).to_vec();
    assert_eq!(refused, StepError::Unfinished { rollout_id: rollout(), hosts });
}

#[test]
fn claims_that_cannot_be_are_refused_by_name() {
    use HostState as H;
    let plan = plan(0);
    let record = record_in(RolloutState::Active);
    let in_wave =
        |wave| RolloutEvent::HostJoined { rollout_id: rollout(), host_id: host("c"), wave, at: at(AT) };
    let stranger = moved("z", H::Pending, H::Failed, reported(1), AT);
    let not_in_plan = || StepError::NotInPlan { host: host("z"), rollout_id: rollout() };
    let cases = [
        (joined("z", AT), not_in_plan()),
        (stranger, not_in_plan()),
        (in_wave(0), StepError::OtherWave { host: host("c"), planned: 1, got: 0 }),
        (
            moved("c", H::Pending, H::Soaking, reported(1), AT),
            StepError::NotJoined { host: host("c"), rollout_id: rollout() },
        ),
        (
            moved("a", H::Converged, H::Failed, Cause::Overdue, AT),
            StepError::IllegalMove { host: host("a"), from: H::Converged, to: H::Failed },
        ),
        (
            moved("b", H::Pending, H::Converged, Cause::Lost, AT),
            StepError::IllegalMove { host: host("b"), from: H::Pending, to: H::Converged },
        ),
        (advanced(0, 2, AT), StepError::NoSuchWave { from_wave: 0, to_wave: 2, waves: 2 }),
        (
            superseded_by("edge@v3", AT),
            StepError::NotASuccessor { superseded: rollout(), successor: "edge@v3".parse().unwrap() },
        ),
        (
            superseded_by("stable@v2", AT),
            StepError::NotASuccessor { superseded: rollout(), successor: rollout() },
        ),
    ];
    for (event, refused) in cases {
        assert_eq!(try_step(&plan, &record, &event, INDEX).unwrap_err(), refused);
    }
    let second = try_step(&plan, &record, &advanced(0, 1, 8), 8).unwrap().record;
    let back = try_step(&plan, &second, &advanced(1, 0, AT), INDEX).unwrap_err();
    assert_eq!(back, StepError::NoSuchWave { from_wave: 1, to_wave: 0, waves: 2 });
    let mut other = plan.clone();
    other.rollout_id = "stable@v3".parse().unwrap();
    assert!(matches!(try_step(&other, &record, &terminal(AT), INDEX), Err(StepError::OtherRollout { .. })));
}

#[test]
fn cancelled_rollout_stays_failed_when_its_hosts_revert() {
    use HostState as H;
    let plan = plan(0);
    let record = play(&plan, [opened(1), joined("a", 2), cancelled(3)]).0;
    assert!(record.is_cancelled());
    let reverted = moved("a", H::Pending, H::Reverted, reported(1), 4);
    let stepped = try_step(&plan, &record, &reverted, INDEX).unwrap();
    assert_eq!((stepped.record.state, stepped.effects), (RolloutState::Failed, vec![]));
    assert_eq!(stepped.record.hosts[&host("a")].state, H::Reverted);
    let cleared = try_step(&plan, &stepped.record, &cleared(5), INDEX).unwrap().record;
    assert_eq!((cleared.state, cleared.is_cancelled()), (RolloutState::Active, false));
    assert_eq!(cleared.overrides.len(), 2);
}
