//! The scenarios: which faults, how often, in groups of what size.

use super::world::Scenario;

pub(super) const RAW: Scenario = Scenario {
    name: "raw-network",
    members: (1, 7),
    spares: 0,
    fault_ticks: 1_000,
    loss_percent_max: 50,
    delay_ticks_max: 20,
    write_ticks_max: 2,
    batch_max: 64,
    burst_max: 4,
    partition: 0,
    crash: 0,
    majority_crash: 0,
    pause: 0,
    hand_over: 0,
    disconnect: 0,
    walk: 0,
    compact: 0,
    full_disk: 0,
    put_back: 0,
    hunt: false,
    pace: 40,
};
pub(super) const PARTITIONS: Scenario = Scenario {
    name: "partitions",
    members: (2, 7),
    fault_ticks: 2_500,
    loss_percent_max: 10,
    partition: 70,
    pace: 250,
    ..RAW
};
pub(super) const FLAPPING: Scenario =
    Scenario { name: "flapping", fault_ticks: 1_000, pace: 15, ..PARTITIONS };
pub(super) const CRASHES: Scenario = Scenario {
    name: "crashes-inside-writes",
    loss_percent_max: 20,
    delay_ticks_max: 5,
    write_ticks_max: 6,
    crash: 50,
    pace: 60,
    ..RAW
};
pub(super) const MAJORITY_CRASHES: Scenario =
    Scenario { name: "majority-crashes", crash: 10, majority_crash: 30, ..CRASHES };
pub(super) const PAUSES: Scenario =
    Scenario { name: "pauses", members: (2, 7), pause: 40, delay_ticks_max: 5, ..RAW };
pub(super) const ALONE: Scenario = Scenario { name: "one-member", members: (1, 1), ..CRASHES };
pub(super) const HAND_OVERS: Scenario = Scenario {
    name: "hand-overs",
    members: (2, 7),
    hand_over: 40,
    disconnect: 40,
    full_disk: 30,
    loss_percent_max: 20,
    ..RAW
};
pub(super) const BATCHES: Scenario = Scenario {
    name: "small-batches",
    members: (3, 5),
    loss_percent_max: 20,
    delay_ticks_max: 6,
    write_ticks_max: 3,
    batch_max: 3,
    burst_max: 12,
    partition: 40,
    crash: 30,
    pace: 40,
    ..RAW
};
pub(super) const HUNT: Scenario = Scenario {
    name: "hunted-leaders",
    members: (3, 5),
    fault_ticks: 3_000,
    loss_percent_max: 5,
    batch_max: 2,
    burst_max: 8,
    partition: 60,
    crash: 40,
    pace: 120,
    hunt: true,
    ..BATCHES
};
pub(super) const EVERYTHING: Scenario = Scenario {
    name: "everything",
    write_ticks_max: 4,
    partition: 20,
    crash: 15,
    majority_crash: 3,
    pause: 10,
    hand_over: 10,
    disconnect: 10,
    spares: 4,
    walk: 10,
    compact: 10,
    full_disk: 5,
    batch_max: 16,
    burst_max: 8,
    ..RAW
};

/// A sea of steps: members come and go while their leaders fall.
pub(super) const WALKS: Scenario = Scenario {
    name: "membership-walks",
    members: (1, 7),
    spares: 5,
    fault_ticks: 2_500,
    loss_percent_max: 20,
    delay_ticks_max: 6,
    write_ticks_max: 3,
    walk: 50,
    partition: 40,
    crash: 30,
    compact: 5,
    pace: 120,
    ..RAW
};
/// A few members whose leaders are struck in the middle of a step.
pub(super) const HUNTED_WALKS: Scenario = Scenario {
    name: "hunted-walks",
    members: (1, 4),
    spares: 2,
    walk: 80,
    hunt: true,
    write_ticks_max: 4,
    crash: 40,
    partition: 60,
    pace: 40,
    ..WALKS
};
pub(super) const SNAPSHOTS: Scenario = Scenario {
    name: "snapshots",
    members: (2, 5),
    spares: 2,
    fault_ticks: 2_000,
    loss_percent_max: 30,
    delay_ticks_max: 8,
    write_ticks_max: 4,
    batch_max: 4,
    burst_max: 12,
    partition: 50,
    crash: 30,
    pause: 10,
    compact: 40,
    walk: 10,
    pace: 80,
    ..RAW
};
pub(super) const PUT_BACK: Scenario = Scenario {
    name: "disks-put-back",
    members: (3, 5),
    fault_ticks: 4_000,
    loss_percent_max: 5,
    delay_ticks_max: 3,
    put_back: 60,
    crash: 10,
    compact: 10,
    pace: 250,
    ..RAW
};

/// All of them but the healthy group.
pub(super) const ALL: [Scenario; 15] = [
    RAW,
    PARTITIONS,
    FLAPPING,
    CRASHES,
    MAJORITY_CRASHES,
    PAUSES,
    ALONE,
    HAND_OVERS,
    BATCHES,
    HUNT,
    WALKS,
    HUNTED_WALKS,
    SNAPSHOTS,
    PUT_BACK,
    EVERYTHING,
];
