//! Durations as people write them: `5s`, `500ms`, `1m30s`, or plain seconds.
//!
//! One spelling for the configuration, the query parameters and the command line. Units fall and
//! come once each, so that `1m30s` is a duration and `30s1m`, `1s1s` and `1.5s` are mistakes that
//! are named rather than guessed at.

use std::time::Duration;

/// The units, greatest first, with their milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// Not of the form that this module describes.
    #[error("a duration is written like 5s, 500ms, 1m30s, or as plain seconds")]
    Malformed,
    /// More milliseconds than 64 bits hold.
    #[error("the duration is too long")]
    TooLong,
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    if text.is_empty() {
        return Err(ParseDurationError::Malformed);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_err(|_| ParseDurationError::TooLong)?;
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut units, mut total) = (text, UNITS.as_slice(), 0_u64);
    while !rest.is_empty() {
        let (digits, after) = split_while(rest, |byte| byte.is_ascii_digit());
        let (unit, after) = split_while(after, |byte| !byte.is_ascii_digit());
        let place = units
            .iter()
            .position(|&(name, _)| name == unit)
            .filter(|_| !digits.is_empty())
            .ok_or(ParseDurationError::Malformed)?;
        let (_, unit_ms) = units[place];
        let number: u64 = digits.parse().map_err(|_| ParseDurationError::TooLong)?;
        total = number
            .checked_mul(unit_ms)
            .and_then(|ms| total.checked_add(ms))
            .ok_or(ParseDurationError::TooLong)?;
        (rest, units) = (after, &units[place + 1..]);
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration as [`parse`] reads it; what is below a millisecond is left off.
pub fn format(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (name, unit_ms) in UNITS {
        let number = rest / u128::from(unit_ms);
        rest %= u128::from(unit_ms);
        if number > 0 {
            text.push_str(&number.to_string());
            text.push_str(name);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn split_while(text: &str, belongs: impl Fn(&u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !belongs(&byte)).unwrap_or(text.len());
    // Both predicates tell ASCII digits from everything else, so this is a character boundary.
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_durations_in_several_ways() {
        for (text, ms) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("3600", 3_600_000),
            ("0", 0),
            ("90s", 90_000),
            ("1s5ms", 1_005),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_named_and_never_guessed() {
        for text in
            ["", "s", "5x", "5 s", " 5s", "1.5s", "-5s", "+5", "30s1m", "1s1s", "5s5", "5é", "é5s"]
        {
            assert_eq!(parse(text), Err(ParseDurationError::Malformed), "{text:?}");
        }
        for text in ["99999999999999999999", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(text), Err(ParseDurationError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn zero_has_a_unit() {
        assert_eq!(format(Duration::ZERO), "0s");
        assert_eq!(format(Duration::from_millis(90_500)), "1m30s500ms");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..=u64::MAX) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}
