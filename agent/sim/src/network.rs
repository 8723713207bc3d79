//! Which hosts can reach which: partitions of every shape.

use crate::fault::Fault;
use crate::random::Random;

/// Who reaches whom directly.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    hosts: usize,
    cut: Vec<bool>,
    pub(crate) shape: Option<Fault>,
}

impl Network {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { hosts, cut: vec![false; hosts * hosts], shape: None }
    }

    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cut[from * self.hosts + to]
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.shape.is_none()
    }

    pub(crate) fn heal(&mut self) {
        self.cut.fill(false);
        self.shape = None;
    }

    /// Cuts the links that the predicate names.
    fn cut_where(&mut self, cuts: impl Fn(usize, usize) -> bool) {
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                self.cut[from * self.hosts + to] = from != to && cuts(from, to);
            }
        }
    }

    /// Takes a shape; `apart` are the hosts of the smaller side.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other kind of partition is the plain one")]
    pub(crate) fn take_shape(&mut self, shape: Fault, apart: &[usize], random: &mut Random) {
        let hosts = self.hosts;
        let mut side = vec![false; hosts];
        for host in apart {
            side[*host] = true;
        }
        let bridge = random.index(hosts);
        match shape {
            Fault::PartitionOneWay => self.cut_where(|from, to| side[from] && !side[to]),
            Fault::PartitionBridge => {
                self.cut_where(|from, to| side[from] != side[to] && from != bridge && to != bridge);
            }
            Fault::PartitionRing => {
                self.cut_where(|from, to| {
                    let apart = from.abs_diff(to);
                    apart != 1 && apart != hosts - 1
                });
            }
            _ => self.cut_where(|from, to| side[from] != side[to]),
        }
        self.shape = Some(shape);
    }

    /// How many hops gossip takes from a host to each other one, over hosts that pass it on; none: it does not arrive.
    pub(crate) fn hops(&self, from: usize, relays: &[bool]) -> Vec<Option<u64>> {
        let mut hops = vec![None; self.hosts];
        hops[from] = Some(0);
        let mut edge = vec![from];
        let mut distance = 0;
        while !edge.is_empty() {
            distance += 1;
            let mut next = Vec::new();
            for at in edge {
                for to in 0..self.hosts {
                    if hops[to].is_none() && relays[to] && self.reaches(at, to) {
                        hops[to] = Some(distance);
                        next.push(to);
                    }
                }
            }
            edge = next;
        }
        hops
    }
}
