//! When a job starts by itself: a cron expression with seconds, in UTC.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};

/// What is waited for when an expression has no next time any more (a year that is over): long
/// enough to be never, short enough for every timer.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A cron expression that has been understood.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// Why a text is not a schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not six fields that mean something.
    #[error("is no cron expression ({0})")]
    Malformed(CronError),
    /// A day that no month has.
    #[error("never comes ({0})")]
    Never(CronError),
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    /// Reads an expression as the trigger does, so that what is accepted here is accepted there.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let cron = CronParser::builder()
            .seconds(Seconds::Required)
            .build()
            .parse(text)
            .map_err(ScheduleError::Malformed)?;
        cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).map_err(ScheduleError::Never)?;
        Ok(Self { text: text.to_owned(), cron })
    }
}

impl Schedule {
    /// The default of `sync.schedule`.
    pub fn every_five_seconds() -> Self {
        // Expect safety: a constant, read by a test.
        "*/5 * * * * *".parse().expect("the default schedule is an expression")
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How long it takes from `now_ms` (milliseconds since 1970 UTC) until the expression has come
    /// twice: the longest that a trigger can be silent without having missed one.
    pub fn two_periods_from(&self, now_ms: i64) -> Duration {
        let now = DateTime::<Utc>::from_timestamp_millis(now_ms).unwrap_or(DateTime::UNIX_EPOCH);
        let next = |from: &DateTime<Utc>| self.cron.find_next_occurrence(from, false).ok();
        let second = next(&now).and_then(|first| next(&first));
        let wait = second.map_or(TimeDelta::MAX, |second| second - now);
        wait.to_std().map_or(FAR, |wait| wait.min(FAR))
    }
}

/// Two schedules are one if they are written alike.
impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_required_and_days_must_exist() {
        for bad in ["", "* * * * *", "61 * * * * *", "every day", "0 0 0 31 2 *"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
        assert_eq!(Schedule::every_five_seconds().as_str(), "*/5 * * * * *");
    }

    #[test]
    fn patience_is_two_periods_whatever_the_gap() {
        let periods = |text: &str, now_ms: i64| {
            text.parse::<Schedule>().unwrap().two_periods_from(now_ms).as_secs()
        };
        assert_eq!(periods("*/5 * * * * *", 0), 10);
        assert_eq!(periods("*/5 * * * * *", 1_000), 9);
        // 1970-01-01 was a Thursday: weekdays at nine are 9 h and 33 h away.
        assert_eq!(periods("0 0 9 * * MON-FRI", 0), 33 * 3600);
        assert_eq!(periods("0 0 0 1 1 *", 0), FAR.as_secs());
    }
}
