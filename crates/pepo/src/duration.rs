//! Durations as users of container tools write them: `30s`, `2m`, `500ms`, `1h30m`, and a bare `0`.

use std::time::Duration;

/// Units, longest spelling first, with their length in milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Reads a duration; whole numbers with units, at most a year in all.
///
/// # Errors
/// What is wrong with the text, in a clause.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse::<u64>().map_err(|_| wrong(text))?;
        rest = &rest[digits..];
        let (unit, length) =
            UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(|| wrong(text))?;
        rest = &rest[unit.len()..];
        millis = number.checked_mul(length).and_then(|more| millis.checked_add(more)).ok_or("is too long")?;
    }
    match millis {
        _ if text.is_empty() => Err(wrong(text)),
        millis if millis > 365 * 24 * 3_600_000 => Err("is longer than a year".to_owned()),
        millis => Ok(Duration::from_millis(millis)),
    }
}

/// As [`parse`]; a bare number counts seconds, as profilers take it.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => parse(&format!("{seconds}s")),
        Err(_) => parse(text),
    }
}

fn wrong(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("a unit is missing, as in `{text}s`");
    }
    "a duration is written as in `30s`, `2m`, `500ms`, `1h30m`".to_owned()
}

/// For people: `38 ms`, `4.2 s`, `3 min 5 s`, `2 h 4 min`, `3 d 4 h`.
pub(crate) fn spoken(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 if millis == 0 && !duration.is_zero() => format!("{} µs", duration.as_micros()),
        0 => format!("{millis} ms"),
        1..60 if millis.is_multiple_of(1000) => format!("{seconds} s"),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_container_tools_write_them() {
        for (text, millis) in [
            ("0", 0),
            ("30s", 30_000),
            ("2m", 120_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1m5s", 65_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_duration_is_told() {
        for (text, why) in [
            ("", "is written as"),
            ("30", "`30s`"),
            ("s", "is written as"),
            ("-3s", "is written as"),
            ("1.5s", "is written as"),
            ("3 s", "is written as"),
            ("99999999999999999999s", "is written as"),
            ("9999999999999999999s", "too long"),
            ("9000h", "a year"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn durations_are_spoken_shortly() {
        for (micros, text) in [
            (0, "0 ms"),
            (700, "700 µs"),
            (38_000, "38 ms"),
            (4_240_000, "4.2 s"),
            (27_000_000, "27 s"),
            (185_000_000, "3 min 5 s"),
            (7_440_000_000, "2 h 4 min"),
            (273_600_000_000, "3 d 4 h"),
        ] {
            assert_eq!(spoken(Duration::from_micros(micros)), text);
        }
    }
}
