//! Times and spans as people type them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The longest span that can be typed, in seconds: a hundred years.
const SPAN_SECS_MAX: u64 = 100 * 366 * 86_400;

/// What time it is; the one place of the command line that looks.
pub(super) fn now() -> DateTime<Utc> {
    #[cfg(test)]
    if let Some(now) = super::stage::with(|stage| stage.now) {
        return now;
    }
    Utc::now()
}

/// Reads `90`, `90s`, `10m`, `2h` or `3d`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let rule = || "a time span is a number and s, m, h or d, such as 90s or 10m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(rule()),
    };
    let number: u64 = digits.parse().map_err(|_| rule())?;
    match number.checked_mul(unit) {
        Some(secs) if secs <= SPAN_SECS_MAX => Ok(Duration::from_secs(secs)),
        Some(_) | None => Err("a time span is at most a hundred years".to_owned()),
    }
}

/// Reads a time, or a span that ends now.
pub(super) fn since(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let span = span(text)
        .map_err(|_| "a time is 2026-11-24T06:00:00Z, or how long ago it was: 90s, 10m, 2h, 3d".to_owned())?;
    Ok(now() - TimeDelta::from_std(span).map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn spans_are_read_with_and_without_a_unit() {
        for (text, secs) in
            [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("10min", 600), ("2h", 7200), ("3d", 259_200)]
        {
            assert_eq!(span(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5h", "1w", "é", "99999999999999999999", "999999999d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_taken_as_written_or_counted_back_from_now() {
        assert_eq!(since("2026-11-24T07:00:00+01:00").unwrap().to_rfc3339(), "2026-11-24T06:00:00+00:00");
        let hour_ago = since("1h").unwrap();
        let age = (Utc::now() - hour_ago).num_seconds();
        assert!((3600..3660).contains(&age), "{age}");
        assert!(since("yesterday").is_err());
    }
}
