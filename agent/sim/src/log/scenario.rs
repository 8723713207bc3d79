//! The scenarios, a line for each: a group, its network and disks, and which faults strike it how often.

use super::world::Scenario;

/// No faults at all: what a line does not say.
const QUIET: Scenario = Scenario {
    name: "",
    members: (1, 1),
    spares: 0,
    fault_ticks: 0,
    pace: 1,
    loss_percent_max: 0,
    delay_ticks_max: 1,
    write_ticks_max: 1,
    batch_max: 1,
    burst_max: 1,
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
};

macro_rules! scenarios {
    ($($constant:ident $name:literal
        $least:literal to $most:literal + $spares:literal,
        $ticks:literal every $pace:literal,
        $loss:literal $delay:literal $write:literal,
        $batch:literal $burst:literal:
        $($fault:ident $rate:literal)*;)*) => {
        $(pub(super) const $constant: Scenario = Scenario {
            name: $name,
            members: ($least, $most),
            spares: $spares,
            fault_ticks: $ticks,
            pace: $pace,
            loss_percent_max: $loss,
            delay_ticks_max: $delay,
            write_ticks_max: $write,
            batch_max: $batch,
            burst_max: $burst,
            $($fault: $rate,)*
            ..QUIET
        };)*

        /// All of them but the healthy group.
        pub(super) const ALL: &[Scenario] = &[$($constant,)*];
    };
}

// Members (and machines that may join them); for how many ticks faults strike, and at most how many apart; the most loss in
// percent, and ticks that a message and a write take; entries in a batch, and proposals at once; percent of each fault.
scenarios! {
    RAW "raw-network"                1 to 7 + 0, 1_000 every  40, 50 20 2, 64  4: ;
    PARTITIONS "partitions"          2 to 7 + 0, 2_500 every 250, 10 20 2, 64  4: partition 70;
    FLAPPING "flapping"              2 to 7 + 0, 1_000 every  15, 10 20 2, 64  4: partition 70;
    CRASHES "crashes-inside-writes"  1 to 7 + 0, 1_000 every  60, 20  5 6, 64  4: crash 50;
    MAJORITY "majority-crashes"      1 to 7 + 0, 1_000 every  60, 20  5 6, 64  4: crash 10 majority_crash 30;
    PAUSES "pauses"                  2 to 7 + 0, 1_000 every  40, 50  5 2, 64  4: pause 40;
    ALONE "one-member"               1 to 1 + 0, 1_000 every  60, 20  5 6, 64  4: crash 50;
    HAND_OVERS "hand-overs"          2 to 7 + 0, 1_000 every  40, 20 20 2, 64  4: hand_over 40 disconnect 40 full_disk 30;
    BATCHES "small-batches"          3 to 5 + 0, 1_000 every  40, 20  6 3,  3 12: partition 40 crash 30;
    HUNT "hunted-leaders"            3 to 5 + 0, 3_000 every 120,  5  6 3,  2  8: hunt true partition 60 crash 40;
    WALKS "membership-walks"         1 to 7 + 5, 2_500 every 120, 20  6 3, 64  4: walk 50 partition 40 crash 30 compact 5;
    HUNTED_WALKS "hunted-walks"      1 to 4 + 2, 2_500 every  40, 20  6 4, 64  4: hunt true walk 80 partition 60 crash 40
                                                                                  compact 5;
    SNAPSHOTS "snapshots"            2 to 5 + 2, 2_000 every  80, 30  8 4,  4 12: compact 40 partition 50 crash 30 pause 10
                                                                                  walk 10;
    PUT_BACK "disks-put-back"        3 to 5 + 0, 4_000 every 250,  5  3 2, 64  4: put_back 60 crash 10 compact 10;
    EVERYTHING "everything"          1 to 7 + 4, 1_000 every  40, 50 20 4, 16  8: partition 20 crash 15 majority_crash 3
                                                                                  pause 10 hand_over 10 disconnect 10
                                                                                  walk 10 compact 10 full_disk 5;
}
