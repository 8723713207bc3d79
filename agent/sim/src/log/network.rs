//! A network that loses, doubles, delays and so reorders, and that partitions cut in any shape.

use crate::random::Random;
use muster_core::coordination::log::{MemberId, Message};
use std::collections::BTreeMap;

/// What the network does to each message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss_percent: u64,
    pub(super) double_percent: u64,
    pub(super) delay_ticks_max: u64,
}

impl Weather {
    pub(super) const CALM: Self = Self { loss_percent: 0, double_percent: 0, delay_ticks_max: 2 };
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    /// As whom its sender and receiver were known when it left.
    pub(super) ids: (MemberId, MemberId),
    pub(super) message: Message,
}

/// All that is on its way, and which links are cut.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) weather: Weather,
    pub(super) cut: Vec<Vec<bool>>,
    pub(super) sent: u64,
    on_the_way: BTreeMap<(u64, u64), Parcel>,
    counter: u64,
}

impl Network {
    pub(super) fn new(members: usize) -> Self {
        let cut = vec![vec![false; members]; members];
        Self { weather: Weather::CALM, cut, sent: 0, on_the_way: BTreeMap::new(), counter: 0 }
    }

    pub(super) fn send(&mut self, random: &mut Random, tick: u64, parcel: Parcel) {
        self.sent += 1;
        let copies = 1 + u64::from(random.percent(self.weather.double_percent));
        for _ in 0..copies {
            if random.percent(self.weather.loss_percent) || self.cut[parcel.from][parcel.to] {
                continue;
            }
            self.counter += 1;
            let due = tick + random.between(1, self.weather.delay_ticks_max.max(1));
            self.on_the_way.insert((due, self.counter), parcel.clone());
        }
    }

    /// Keeps a message for a receiver that cannot take it now.
    pub(super) fn redeliver(&mut self, tick: u64, parcel: Parcel) {
        self.counter += 1;
        self.on_the_way.insert((tick, self.counter), parcel);
    }

    /// Takes out what arrives by now; a cut swallows also what was on its way.
    pub(super) fn arrivals(&mut self, tick: u64) -> Vec<Parcel> {
        let later = self.on_the_way.split_off(&(tick + 1, 0));
        let due = std::mem::replace(&mut self.on_the_way, later);
        due.into_values().filter(|parcel| !self.cut[parcel.from][parcel.to]).collect()
    }

    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.on_the_way.keys().next().map(|key| key.0)
    }

    pub(super) fn heal(&mut self) {
        self.cut.iter_mut().flatten().for_each(|cut| *cut = false);
    }

    fn cut_where(&mut self, cuts: impl Fn(usize, usize) -> bool) {
        for (from, row) in self.cut.iter_mut().enumerate() {
            for (to, cut) in row.iter_mut().enumerate() {
                *cut = from != to && cuts(from, to);
            }
        }
    }

    /// Cuts links in one shape.
    pub(super) fn partition(&mut self, random: &mut Random, shape: Shape, leader: Option<usize>) {
        let members = self.cut.len();
        let side = random.next();
        let in_side = |member: usize| side >> (member % 60) & 1 == 1;
        let pivot = leader.unwrap_or_else(|| usize::try_from(random.below(members as u64)).unwrap_or(0));
        match shape {
            Shape::Clean => self.cut_where(|from, to| in_side(from) != in_side(to)),
            Shape::OneWay => self.cut_where(|from, to| in_side(from) && !in_side(to)),
            Shape::Bridge => {
                self.cut_where(|from, to| from != pivot && to != pivot && in_side(from) != in_side(to));
            }
            Shape::LeaderAlone => self.cut_where(|from, to| from == pivot || to == pivot),
            Shape::LeaderDeaf => self.cut_where(|_, to| to == pivot),
            Shape::LeaderMute => self.cut_where(|from, _| from == pivot),
            Shape::Star => self.cut_where(|from, to| from != pivot && to != pivot),
            Shape::Ring => {
                self.cut_where(|from, to| (from + 1) % members != to && (to + 1) % members != from)
            }
        }
    }
}

/// The shapes of partitions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Clean,
    OneWay,
    Bridge,
    LeaderAlone,
    LeaderDeaf,
    LeaderMute,
    Star,
    Ring,
}

impl Shape {
    pub(super) const ALL: [Self; 8] = [
        Self::Clean,
        Self::OneWay,
        Self::Bridge,
        Self::LeaderAlone,
        Self::LeaderDeaf,
        Self::LeaderMute,
        Self::Star,
        Self::Ring,
    ];
}
