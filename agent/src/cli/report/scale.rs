//! The time axis: where a moment lies on it, and which ticks it has.

use chrono::{DateTime, Utc};

/// The steps between ticks, in seconds.
const STEPS: [i64; 26] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
    172_800,
    432_000,
    864_000,
    2_592_000,
    7_776_000,
    31_536_000,
    157_680_000,
    3_153_600_000,
];
/// The most ticks that stay readable.
const TICKS_MAX: i64 = 9;

/// A span of time laid out from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
    left: f64,
    width: f64,
}

impl Scale {
    /// From the first to the last moment, at least a second long.
    pub(super) fn new(begin: DateTime<Utc>, end: DateTime<Utc>, left: f64, width: f64) -> Self {
        let end = end.max(begin + chrono::TimeDelta::seconds(1));
        Self { begin, end, left, width }
    }

    /// Where a moment lies; what lies outside is at the edge.
    pub(super) fn at(&self, moment: DateTime<Utc>) -> f64 {
        let millis = |span: chrono::TimeDelta| span.num_milliseconds() as f64;
        let share = millis(moment - self.begin) / millis(self.end - self.begin);
        self.left + self.width * share.clamp(0.0, 1.0)
    }

    /// The ticks: where they lie, and what they say.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let whole = (self.end - self.begin).num_seconds().max(1);
        let step = STEPS.into_iter().find(|step| whole / step <= TICKS_MAX).unwrap_or(whole);
        let at = |secs: i64| {
            let moment = chrono::TimeDelta::try_seconds(secs).map(|span| self.begin + span);
            (self.at(moment.unwrap_or(self.end)), since(secs))
        };
        (0..=whole / step).map(|tick| at(tick * step)).collect()
    }
}

/// How long after the beginning, in two units at most.
pub(super) fn since(secs: i64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = secs.max(0);
    let mut parts = Vec::new();
    for (of, unit) in units {
        if rest >= of && parts.len() < 2 {
            parts.push(format!("{} {unit}", rest / of));
            rest %= of;
        }
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::fixtures::at;

    #[test]
    fn every_span_has_a_few_ticks_in_round_units() {
        for (secs, first, last) in [
            (0, "0", "1 s"),
            (8, "0", "8 s"),
            (50, "0", "50 s"),
            (600, "0", "10 min"),
            (4000, "0", "1 h"),
            (100_000, "0", "1 d"),
            (90_000_000_000, "0", "1022850 d"),
        ] {
            let ticks = Scale::new(at(0), at(0) + chrono::TimeDelta::seconds(secs), 100.0, 800.0).ticks();
            assert!(ticks.len() <= 11, "{secs}: {ticks:?}");
            assert_eq!(ticks.first().map(|(_, text)| text.as_str()), Some(first), "{secs}");
            if secs < 100_000 {
                assert_eq!(ticks.last().map(|(_, text)| text.as_str()), Some(last), "{secs}");
            }
            for (x, _) in &ticks {
                assert!((100.0..=900.0).contains(x), "{secs}: {x}");
            }
        }
        assert_eq!(since(3725), "1 h 2 min");
        assert_eq!(since(-5), "0");
    }

    #[test]
    fn a_moment_lies_where_its_share_of_the_time_is() {
        let scale = Scale::new(at(0), at(100), 10.0, 200.0);
        for (secs, x) in [(0, 10.0), (50, 110.0), (100, 210.0), (-9, 10.0), (300, 210.0)] {
            assert!((scale.at(at(secs)) - x).abs() < 1e-9, "{secs}");
        }
    }
}
