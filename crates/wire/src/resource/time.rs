//! Points in time, to the millisecond, written as RFC 3339 has them.

use std::{
    fmt,
    str::FromStr as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_types::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};

use super::Described;

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// Now, by this machine's clock.
    #[must_use]
    pub fn now() -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// So many milliseconds after the beginning of 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis)
    }

    /// Milliseconds since the beginning of 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX);
        // Below 1000, so it fits.
        let nanos = (self.0 % 1_000) as i32 * 1_000_000;
        Timestamp { seconds, nanos }.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = Timestamp::from_str(&text)
            .map_err(|_| D::Error::custom(format!("`{text}` is no time as RFC 3339 has it")))?;
        let before = || D::Error::custom(format!("`{text}` is before 1970"));
        let seconds = u64::try_from(time.seconds).map_err(|_| before())?;
        let millis = u64::try_from(time.nanos / 1_000_000).map_err(|_| before())?;
        Ok(Time(seconds.saturating_mul(1_000).saturating_add(millis)))
    }
}

impl Described for Time {
    fn schema() -> Value {
        json!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_782_451_000, "2026-11-27T12:27:31Z"),
            (1_795_782_451_007, "2026-11-27T12:27:31.007Z"),
        ] {
            assert_eq!(Time(millis).to_string(), text);
            assert_eq!(serde_json::from_value::<Time>(json!(text)).unwrap(), Time(millis));
        }
        for text in ["", "yesterday", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(serde_json::from_value::<Time>(json!(text)).is_err(), "{text}");
        }
    }
}
