//! Maintenance windows.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;

/// The longest window, in minutes: a week.
pub const WINDOW_MINUTES_MAX: u32 = 7 * 24 * 60;

/// How far a zone's clocks ever leapt ahead at once is below this (Samoa left out a day).
const GAP_MINUTES_MAX: i64 = 25 * 60;

/// A maintenance window of a channel: it opens on each of its days at a time of that zone's clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    days: BTreeSet<u8>,
    start: NaiveTime,
    length_minutes: u32,
    timezone: Tz,
}

/// Why a window is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It would never open.
    #[error("a window names at least one day")]
    NoDays,
    /// A day of no week.
    #[error("{0:?} is not a day: mon, tue, wed, thu, fri, sat or sun")]
    Day(String),
    /// A time of no day.
    #[error("{0:?} is not a time of day such as \"22:00\"")]
    Start(String),
    /// Too short or too long.
    #[error("a window is open for 1 to {WINDOW_MINUTES_MAX} minutes, not {0}")]
    Length(u64),
    /// A zone that the IANA database does not have.
    #[error("{0:?} is neither UTC nor another IANA time zone")]
    Timezone(String),
}

impl Window {
    /// Makes a window of its text form in a fleet document.
    pub fn new(
        days: &[String],
        start: &str,
        length_minutes: u64,
        timezone: &str,
    ) -> Result<Self, WindowError> {
        let days = days.iter().map(|day| parse_day(day)).collect::<Result<BTreeSet<_>, _>>()?;
        if days.is_empty() {
            return Err(WindowError::NoDays);
        }
        let start = parse_start(start).ok_or_else(|| WindowError::Start(start.to_owned()))?;
        let length_minutes = u32::try_from(length_minutes)
            .ok()
            .filter(|length| (1..=WINDOW_MINUTES_MAX).contains(length))
            .ok_or(WindowError::Length(length_minutes))?;
        let timezone = Tz::from_str(timezone).map_err(|_| WindowError::Timezone(timezone.to_owned()))?;
        Ok(Self { days, start, length_minutes, timezone })
    }

    /// Whether it is open.
    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        let length = self.length();
        let days_back = u64::from(self.length_minutes).div_ceil(24 * 60) + 1;
        self.starts(at, days_back, 1).any(|start| start <= at && at - start < length)
    }

    /// The earliest time from `after` on at which it is open.
    pub fn opens_at(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.is_open(after) {
            return Some(after);
        }
        self.starts(after, 1, 9).filter(|start| *start >= after).min()
    }

    fn length(&self) -> TimeDelta {
        TimeDelta::minutes(i64::from(self.length_minutes))
    }

    /// When it opens on its days from some days before to some days after a time.
    fn starts(
        &self,
        around: DateTime<Utc>,
        days_back: u64,
        days_ahead: u64,
    ) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        let today = around.with_timezone(&self.timezone).date_naive();
        let first = today.checked_sub_days(Days::new(days_back)).unwrap_or(NaiveDate::MIN);
        let dates = first.iter_days().take(usize::try_from(days_back + days_ahead + 1).unwrap_or(usize::MAX));
        dates
            .filter(|date| self.days.contains(&day_number(date.weekday())))
            .filter_map(|date| self.start_on(date))
    }

    /// The first time on a date at which the zone's clocks show the start or, where they leap over it, more.
    fn start_on(&self, date: NaiveDate) -> Option<DateTime<Utc>> {
        let local = date.and_time(self.start);
        (0..=GAP_MINUTES_MAX).find_map(|minutes| {
            let local = local.checked_add_signed(TimeDelta::minutes(minutes))?;
            Some(self.timezone.from_local_datetime(&local).earliest()?.with_timezone(&Utc))
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> =
            self.days.iter().filter_map(|day| DAYS.get(usize::from(*day)).copied()).collect();
        let (days, start, zone) = (days.join(" "), self.start.format("%H:%M"), self.timezone.name());
        write!(f, "{days} from {start} {zone} for {} min", self.length_minutes)
    }
}

fn day_number(day: Weekday) -> u8 {
    // Below 7, so that it always fits.
    day.num_days_from_monday() as u8
}

fn parse_day(day: &str) -> Result<u8, WindowError> {
    let at =
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].into_iter().zip(0..).find(|(name, _)| *name == day);
    at.map(|(_, number)| number).ok_or_else(|| WindowError::Day(day.to_owned()))
}

fn parse_start(start: &str) -> Option<NaiveTime> {
    let (hours, minutes) = start.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    NaiveTime::from_hms_opt(hours.parse().ok()?, minutes.parse().ok()?, 0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn window(days: &[&str], start: &str, length: u64, timezone: &str) -> Result<Window, WindowError> {
        let days: Vec<String> = days.iter().map(|&day| day.to_owned()).collect();
        Window::new(&days, start, length, timezone)
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_on_its_days_by_its_zones_clocks() {
        // 2026-11-20 is a Friday.
        let nightly = window(&["fri"], "22:00", 180, "UTC").unwrap();
        let berlin = window(&["fri"], "22:00", 180, "Europe/Berlin").unwrap();
        let week = window(&["mon"], "00:00", 7 * 24 * 60, "UTC").unwrap();
        for (window, time, open) in [
            (&nightly, "2026-11-20T21:59:59Z", false),
            (&nightly, "2026-11-20T22:00:00Z", true),
            (&nightly, "2026-11-21T00:59:59Z", true),
            (&nightly, "2026-11-21T01:00:00Z", false),
            (&nightly, "2026-11-21T22:30:00Z", false),
            (&berlin, "2026-11-20T20:59:59Z", false),
            (&berlin, "2026-11-20T21:00:00Z", true),
            (&berlin, "2026-07-17T20:00:00Z", true),
            (&week, "2026-11-22T23:59:59Z", true),
        ] {
            assert_eq!(window.is_open(at(time)), open, "{window:?} at {time}");
        }
    }

    #[test]
    fn a_closed_window_says_when_it_opens() {
        let weekly = window(&["fri"], "22:00", 180, "UTC").unwrap();
        for (after, opens) in [
            ("2026-11-20T23:00:00Z", "2026-11-20T23:00:00Z"),
            ("2026-11-21T01:00:00Z", "2026-11-27T22:00:00Z"),
            ("2026-11-20T22:00:00Z", "2026-11-20T22:00:00Z"),
        ] {
            assert_eq!(weekly.opens_at(at(after)), Some(at(opens)), "after {after}");
        }
    }

    #[test]
    fn a_start_that_the_clocks_leap_over_is_the_end_of_the_leap() {
        // In Berlin 02:00 becomes 03:00 on 2027-03-28, a Sunday; 03:00 there is 01:00 UTC.
        let skipped = window(&["sun"], "02:30", 30, "Europe/Berlin").unwrap();
        assert_eq!(skipped.opens_at(at("2027-03-28T00:00:00Z")), Some(at("2027-03-28T01:00:00Z")));
        // Clocks show 02:30 twice on 2026-10-25; the window opens once, at the first.
        let twice = window(&["sun"], "02:30", 30, "Europe/Berlin").unwrap();
        assert!(twice.is_open(at("2026-10-25T00:30:00Z")));
        assert!(!twice.is_open(at("2026-10-25T01:30:00Z")));
    }

    #[test]
    fn bad_windows_are_refused() {
        for (error, fragment) in [
            (window(&[], "22:00", 1, "UTC"), "at least one day"),
            (window(&["friday"], "22:00", 1, "UTC"), "not a day"),
            (window(&["fri"], "24:00", 1, "UTC"), "time of day"),
            (window(&["fri"], "+2:00", 1, "UTC"), "time of day"),
            (window(&["fri"], "22:00", 0, "UTC"), "1 to 10080 minutes"),
            (window(&["fri"], "22:00", 10_081, "UTC"), "1 to 10080 minutes"),
            (window(&["fri"], "22:00", 1, "Mars/Olympus"), "IANA"),
        ] {
            let message = error.unwrap_err().to_string();
            assert!(message.contains(fragment), "{message}");
        }
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_do_not_panic() {
        let nightly = window(&["fri"], "22:00", 180, "Pacific/Apia").unwrap();
        for at in
            [DateTime::<Utc>::MIN_UTC + TimeDelta::days(2), DateTime::<Utc>::MAX_UTC - TimeDelta::days(2)]
        {
            nightly.is_open(at);
            nightly.opens_at(at);
        }
    }
}
