//! How long a host keeps at what does not work: boots of a system that does not stay up, and tries to go back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A healthy system is booted at most so often while it soaks.
pub const BOOTS_MAX: usize = 5;
/// How often it is tried to begin a rollback.
pub const ROLLBACK_TRIES_MAX: u32 = 4;
/// How long between two tries.
pub const ROLLBACK_PAUSE: Duration = Duration::from_secs(2);

/// The boots in which a machine was found since the switch of a dispatch, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boots(Vec<String>);

impl Boots {
    /// Takes note of a boot; whether that is news, which has to be kept. A boot without an id cannot be told from another.
    pub fn note(&mut self, boot_id: &str) -> bool {
        let news = !boot_id.is_empty() && !self.0.iter().any(|known| known == boot_id) && !self.is_looping();
        if news {
            self.0.push(boot_id.to_owned());
        }
        news
    }

    /// Whether there were more boots than a healthy system has: each begins the soak again, so that a machine that is
    /// never up for that long would soak for ever.
    pub fn is_looping(&self) -> bool {
        self.0.len() > BOOTS_MAX
    }
}

/// What a host does about a rollback that could not be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has begun all the same, by an earlier order: its end counts.
    Await,
    /// It tries once more after a while.
    TryAgain {
        /// How long.
        after: Duration,
    },
    /// It stays where it is, Failed, and a person is told.
    GiveUp,
}

/// What follows from the refusal of an order to go back, the `tries`th in a row. `begun` says whether that very rollback
/// runs or has ended: an order can be carried out although its answer is lost, and who allows it once refuses it then.
pub fn rollback_refused(tries: u32, begun: bool) -> Refused {
    match (begun, tries) {
        (true, _) => Refused::Await,
        (false, 0..ROLLBACK_TRIES_MAX) => Refused::TryAgain { after: ROLLBACK_PAUSE },
        (false, _) => Refused::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_booted_more_often_than_a_healthy_one_is_found_out_and_each_boot_counts_once() {
        let mut boots = Boots::default();
        for (boot, news, looping) in [
            ("a", true, false),
            ("a", false, false),
            ("", false, false),
            ("b", true, false),
            ("c", true, false),
            ("d", true, false),
            ("a", false, false),
            ("e", true, false),
            ("f", true, true),
            ("g", false, true),
        ] {
            assert_eq!((boots.note(boot), boots.is_looping()), (news, looping), "{boot}");
        }
    }

    #[test]
    fn a_rollback_is_tried_again_a_few_times_unless_it_has_begun() {
        let again = Refused::TryAgain { after: ROLLBACK_PAUSE };
        for (tries, begun, next) in [
            (1, false, again),
            (3, false, again),
            (4, false, Refused::GiveUp),
            (5, false, Refused::GiveUp),
            (1, true, Refused::Await),
            (4, true, Refused::Await),
        ] {
            assert_eq!(rollback_refused(tries, begun), next, "try {tries}, begun: {begun}");
        }
    }
}
