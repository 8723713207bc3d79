//! What a demo has shown, as figures: the one line of `muster demo --json`.

use serde::Serialize;

use crate::control::wire::RolloutState;

/// The figures of a demo, as observed from outside the agents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The form's version.
    pub schema: u32,
    /// How long the demo took, in seconds.
    pub seconds: f64,
    /// How many hosts took part.
    pub hosts: usize,
    /// How many of them are coordinators.
    pub coordinators: usize,
    /// The rollouts, in their order.
    pub rollouts: Vec<RolloutReport>,
    /// What is quarantined at the end.
    pub quarantined: Vec<QuarantineReport>,
    /// How many hosts run the broken release at the end, by their `current` links.
    pub hosts_on_bad_release: usize,
    /// From handing a ref to an agent until a first host has taken its dispatch: the median, in milliseconds.
    pub publish_to_dispatch_ms: f64,
    /// The most memory that any agent has needed at any time, in MiB.
    pub agents_max_rss_mib: f64,
}

/// How one rollout went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolloutReport {
    /// `channel@ref`.
    pub id: String,
    /// How it ended.
    pub state: RolloutState,
    /// The coordinator that was killed while it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinator_killed: Option<String>,
    /// From the kill until the next certified decision was seen, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered_ms: Option<u64>,
}

/// A closure that no host will be sent to any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantineReport {
    /// The channel.
    pub channel: String,
    /// The closure.
    pub closure: String,
}

/// The middle of some figures; of an even number, the mean of the two in the middle.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    if figures.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*figures.get(middle.checked_sub(1)?)?, upper))
}

/// Rounds to a tenth: more would be noise.
pub fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (figures, expected) in [
            (vec![], None),
            (vec![5.0], Some(5.0)),
            (vec![9.0, 1.0], Some(5.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
            (vec![4.0, 1.0, 2.0, 100.0], Some(3.0)),
        ] {
            assert_eq!(median(figures.clone()), expected, "{figures:?}");
        }
    }

    #[test]
    fn the_line_has_the_documented_form() {
        let rollout = |id: &str, state| RolloutReport {
            id: id.to_owned(),
            state,
            coordinator_killed: None,
            recovered_ms: None,
        };
        let report = Report {
            schema: 1,
            seconds: tenths(21.34),
            hosts: 5,
            coordinators: 3,
            rollouts: vec![
                rollout("stable@v1", RolloutState::Terminal),
                RolloutReport {
                    coordinator_killed: Some("db-1".to_owned()),
                    recovered_ms: Some(812),
                    ..rollout("stable@v2", RolloutState::Terminal)
                },
                rollout("stable@v3", RolloutState::Reverted),
            ],
            quarantined: vec![QuarantineReport {
                channel: "stable".to_owned(),
                closure: "dir:v3".to_owned(),
            }],
            hosts_on_bad_release: 0,
            publish_to_dispatch_ms: 41.0,
            agents_max_rss_mib: tenths(14.96),
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"schema":1,"seconds":21.3,"hosts":5,"coordinators":3,"rollouts":[{"id":"stable@v1","state":"Terminal"},{"id":"stable@v2","state":"Terminal","coordinator_killed":"db-1","recovered_ms":812},{"id":"stable@v3","state":"Reverted"}],"quarantined":[{"channel":"stable","closure":"dir:v3"}],"hosts_on_bad_release":0,"publish_to_dispatch_ms":41.0,"agents_max_rss_mib":15.0}"#
        );
    }
}
