//! Every kind of fault: its name, how likely a run has it, and how often it struck.

use std::collections::BTreeMap;

use crate::random::Random;

macro_rules! faults {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// One kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = $what] $variant,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, as `--faults` and `--coverage` write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is, in words.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

faults! {
    Loss "loss" "a message is lost",
    Delay "delay" "a message takes up to seconds",
    Reorder "reorder" "a message overtakes those before it",
    Duplicate "duplicate" "a message arrives twice",
    Replay "replay" "an old message arrives once more",
    Corrupt "corrupt" "a message arrives with a flipped byte",
    Deaf "deaf" "all gossip to one host is lost for a while; only sync reaches it",
    PartitionClean "partition-clean" "the hosts fall into two halves",
    PartitionOneWay "partition-one-way" "one half hears nothing of the other",
    PartitionBridge "partition-bridge" "two halves that only one host still connects",
    PartitionRing "partition-ring" "every host reaches only its two neighbours",
    PartitionMinority "partition-minority" "a minority of the coordinators is cut off",
    PartitionSingle "partition-single" "one host is cut off",
    PartitionLeader "partition-leader" "the leading coordinator is cut off",
    PartitionFlapping "partition-flapping" "a partition comes and goes",
    SilentLink "silent-link" "connections break without anybody being told",
    Crash "crash" "an agent dies; what was not durable is lost",
    CrashLeader "crash-leader" "the leading coordinator dies",
    CrashMajority "crash-majority" "a majority of the coordinators dies at once",
    PowerCut "power-cut" "every machine goes down at once",
    CrashInWrite "crash-in-write" "an agent dies between issuing a write and hearing that it is durable",
    LostWrite "lost-write" "a write that was issued is gone after a crash",
    CrashInRecovery "crash-in-recovery" "an agent dies again while it starts",
    Stop "stop" "an agent is stopped properly and started again",
    Pause "pause" "an agent stands still for a while",
    SlowHost "slow-host" "an agent takes long for everything",
    SlowDisk "slow-disk" "writes take long",
    FailingWrite "failing-write" "a write fails; the agent starts again from its disk",
    FullDisk "full-disk" "every write fails for a while",
    Reboot "reboot" "a machine is rebooted",
    RebootInSwitch "reboot-in-switch" "a machine is rebooted in the middle of a switch",
    SwitchFails "switch-fails" "a switch fails and leaves what ran before",
    SwitchHalf "switch-half" "a switch fails after it put the target into place",
    SwitchLies "switch-lies" "a switch says that it worked and did nothing",
    SwitchHangs "switch-hangs" "a switch does not end by itself",
    SwitchSlow "switch-slow" "a switch takes long",
    SwitchThird "switch-third" "after a switch something else runs than before or was asked for",
    RollbackFails "rollback-fails" "a rollback fails",
    RollbackLies "rollback-lies" "a rollback says that it worked and did nothing",
    HandSwitched "hand-switched" "somebody switches a machine by hand while it soaks",
    BlindBackend "blind-backend" "the backend cannot say what runs",
    ProbesFlap "probes-flap" "a probe fails now and then",
    ProbesSilent "probes-silent" "probes give no result for a while",
    ProbesUnreadable "probes-unreadable" "the declared probes cannot be read",
    BadRelease "bad-release" "a release whose probes fail is published",
    BrokenRelease "broken-release" "a release that cannot be switched to is published",
    LateFailure "late-failure" "a release passes its probes first and fails later",
    Drift "drift" "a clock runs too fast or too slow",
    JumpAhead "jump-ahead" "a wall clock jumps ahead",
    JumpBack "jump-back" "a wall clock jumps back",
    LateDocument "late-document" "a document reaches the other hosts long after its first",
    RepeatedDocument "repeated-document" "a document is published again somewhere else",
    OldDocument "old-document" "an older document is published again",
    ForgedDocument "forged-document" "a document arrives that no operator signed",
    Supersede "supersede" "a ref is published while another one is under way",
    Refresh "refresh" "a ref is signed anew",
    Rollback "rollback" "a ref names the closures of an earlier one",
    FleetChange "fleet-change" "a fleet document with other limits is published",
    HostRemoved "host-removed" "a fleet document without one of the hosts is published",
    HostMoved "host-moved" "a fleet document has a host on another channel",
    PauseCommand "pause-command" "an operator pauses something",
    ResumeCommand "resume-command" "an operator resumes something",
    CancelCommand "cancel-command" "an operator cancels a rollout",
    PromoteCommand "promote-command" "an operator promotes a wave",
    ClearCommand "clear-command" "an operator clears a failed rollout",
    LiftCommand "lift-command" "an operator lifts a quarantine",
    SkipCommand "skip-command" "an operator skips a host",
    Deferral "deferral" "a switch sets its target for the next boot and leaves what runs alone",
    DeferredReboot "deferred-reboot" "a machine is rebooted for which a switch has set its target",
    DeferredBootOld "deferred-boot-old" "a machine for which a switch has set its target comes up on what ran before",
    DiskLost "disk-lost" "a host comes back with an empty disk",
    DiskPutBack "disk-put-back" "a host comes back with the disk that it had a while ago",
    Cloned "cloned" "a second machine starts with the key and the disk of a host",
    OperatorChanged "operator-changed" "a fleet document puts another operator in the place of the one before",
    RevokedSigner "revoked-signer" "a document arrives that an operator signed whom a fleet document has replaced",
    Upgrade "upgrade" "an agent comes back as a newer version, while others are still of the older one",
    LyingHealth "lying-health" "a host says that it converged whatever came of its switch",
    ForkedFeed "forked-feed" "a host tells two halves of the fleet two histories of itself",
    Flood "flood" "a host fills its feed with events of rollouts that nobody knows",
    FalsePresence "false-presence" "a host's heartbeats say what is not so",
    NeverRebooted "never-rebooted" "nobody reboots those that wait for it, and their time runs out",
    CoordinatorDiskLost "coordinator-disk-lost" "a coordinator comes back with an empty disk",
    CoordinatorDiskPutBack "coordinator-disk-put-back" "a coordinator comes back with the disk that it had a while ago",
    CoordinatorCloned "coordinator-cloned" "a second machine starts with the key and the disk of a coordinator",
    ReadmitCommand "readmit-command" "an operator readmits a coordinator whose disk was lost or put back",
    FetchNever "fetch-never" "a host that fetches ahead never comes to hold a release",
    FetchLate "fetch-late" "a host that fetches ahead comes to hold a release late",
    DisksLostTogether "disks-lost-together" "several hosts come back with empty disks at once",
    PairLost "pair-lost" "a coordinator and a host that it decides about come back with empty disks at once",
    QuorumLost "quorum-lost" "so many coordinators are lost for good that the others are no quorum",
    Recovery "recovery" "operators name other coordinators without asking a quorum of those before",
}

impl Fault {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

/// How likely each kind is in a run, and how often it struck.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// 0 to 100; a kind that is not here does not happen.
    intensity: BTreeMap<Fault, u64>,
    hits: BTreeMap<Fault, u64>,
}

impl Faults {
    /// No faults at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// A mix for one run: about half of the allowed kinds, each as strong as the draw says.
    pub(crate) fn draw(random: &mut Random, allowed: Option<&[Fault]>) -> Self {
        let mut intensity = BTreeMap::new();
        for fault in Fault::ALL {
            let (on, strength) = (random.percent(45), random.between(1, 100));
            let forced = allowed.is_some_and(|allowed| allowed.contains(fault));
            if forced || (on && allowed.is_none()) {
                intensity.insert(*fault, strength);
            }
        }
        Self { intensity, hits: BTreeMap::new() }
    }

    /// How strong a kind is in this run, from 0 to 100.
    pub(crate) fn strength(&self, fault: Fault) -> u64 {
        self.intensity.get(&fault).copied().unwrap_or(0)
    }

    /// The kinds of this run.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Fault> {
        self.intensity.keys().copied()
    }

    /// Nothing more happens from now on.
    pub(crate) fn stop(&mut self) {
        self.intensity.clear();
    }

    /// Notes that a kind struck.
    pub(crate) fn hit(&mut self, fault: Fault) {
        *self.hits.entry(fault).or_default() += 1;
    }

    /// Whether a kind strikes now: `rate` of a thousand at full strength.
    pub(crate) fn strikes(&mut self, random: &mut Random, fault: Fault, rate: u64) -> bool {
        let struck = self.looms(random, fault, rate);
        if struck {
            self.hit(fault);
        }
        struck
    }

    /// The same for a kind that strikes later, if its occasion comes, and is noted then.
    pub(crate) fn looms(&self, random: &mut Random, fault: Fault, rate: u64) -> bool {
        let strength = self.strength(fault);
        strength > 0 && random.below(100_000) < rate * strength
    }

    /// How often each kind struck.
    pub fn hits(&self) -> &BTreeMap<Fault, u64> {
        &self.hits
    }
}
