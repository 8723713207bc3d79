//! The properties that must hold in every run, in words.

use std::fmt;

/// What each property says; the numbers are their names.
pub const PROPERTIES: [(u8, &str); 17] = [
    (1, "no host starts to activate a closure that the operators did not sign for that host and channel"),
    (2, "no host starts to activate without a certificate of a quorum of one electorate"),
    (3, "no budget's hosts in flight ever exceed the limit that held when they were dispatched"),
    (4, "no host of a later wave is dispatched before the earlier waves are done"),
    (5, "a quarantined closure gets no honest signature and is not activated by a host that knows of it"),
    (6, "a host is in flight in one rollout at most, and activates once for each dispatch"),
    (7, "no two certificates for one decision differ, and one leader at most commits in a term"),
    (8, "converged means: runs the target, soaked the whole time, every enforced probe passed since"),
    (9, "a host whose health failed ends on what ran before, or is shown as failed with the reason"),
    (10, "nothing that was durable is lost, and no feed position is used twice"),
    (11, "replaying a node's arrivals gives the very state that it has"),
    (12, "every open rollout ends once the faults have stopped, unless something nameable holds it"),
    (
        13,
        "all connected nodes hold the same documents, decisions and feeds soon after the faults have stopped",
    ),
    (
        14,
        "nobody signs or takes a dispatch against a pause that it knows of, without a promotion, before the hosts or \
         channels that go first, of a stale ref, outside its windows, of a host of which it does not hear or that has not \
         fetched its target, after its end, or after having objected",
    ),
    (
        15,
        "nothing is given up before it is over for as long as it is to be kept, or while something refers to it",
    ),
    (16, "what a quorum of coordinators has signed is certified soon after the faults have stopped"),
    (
        17,
        "coordinators that have come equally far in one log are in the same state, whatever they were sent of it",
    ),
];

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: u8,
    /// When, in microseconds of virtual time.
    pub at: u64,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says =
            PROPERTIES.iter().find(|(number, _)| *number == self.property).map_or("", |(_, says)| says);
        write!(f, "property {} is broken ({says}): {}", self.property, self.what)
    }
}
