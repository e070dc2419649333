//! Times as the answers tell them: RFC 3339, in UTC, to the millisecond.

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// `ms` milliseconds since 1970 UTC, for example `2026-11-20T14:05:41.000Z`.
pub fn format(ms: i64) -> String {
    let mut text = String::with_capacity(24);
    push(&mut text, ms);
    text
}

/// Appends what [`format()`] makes. Every read tells one: thus by hand.
pub fn push(text: &mut String, ms: i64) {
    let (days, in_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (seconds, millis) = (in_day / 1_000, in_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if !(0..=9_999).contains(&year) {
        let far =
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
        return text.push_str(&far);
    }
    let mut all = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, number: i64| {
        // At most 99: of nothing else is asked.
        let number = number.to_le_bytes()[0];
        all[at] = b'0' + number / 10;
        all[at + 1] = b'0' + number % 10;
    };
    put(0, year / 100);
    put(2, year % 100);
    put(5, month);
    put(8, day);
    put(11, hour);
    put(14, minute);
    put(17, second);
    put(20, millis / 10);
    all[22] = b'0' + (millis % 10).to_le_bytes()[0];
    text.push_str(std::str::from_utf8(&all).unwrap_or_default());
}

/// Year, month and day of the day that is `days` after 1970-01-01, in the Gregorian calendar.
/// Counts years from March, so that the leap day is the last of its year.
const fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097; // 400 years
    let shifted = days + 719_468; // from 0000-03-01
    let (era, in_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000_123, "2001-09-09T01:46:40.123Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(format(ms), text);
        }
    }
}
