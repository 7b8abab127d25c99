//! Points of time on the wire: RFC 3339 outside, milliseconds since 1970 inside.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point of wall-clock time, to the millisecond. Never used to measure how long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The wall clock, read now.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// Reads RFC 3339 with an offset, such as `2018-08-01T00:00:31Z`, from the years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        // jiff also takes forms that RFC 3339 does not, such as a zone in brackets.
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"-:.+TtZz ".contains(&b));
        let shaped = text.len() >= 20 && text.as_bytes().get(4) == Some(&b'-');
        let moment: jiff::Timestamp =
            if plain && shaped { text.parse().ok()? } else { return None };
        (moment.as_millisecond() >= 0).then(|| Self(moment.as_millisecond()))
    }

    /// How far apart two points are, whichever is first.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_beyond_9999) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let noon = Timestamp::parse("2018-08-01T12:00:00Z").unwrap();
        assert_eq!(noon.to_string(), "2018-08-01T12:00:00.000Z");
        assert_eq!(Timestamp::parse("2018-08-01T14:00:00.000+02:00"), Some(noon));
        for wrong in [
            "",
            "now",
            "2018-08-01",
            "2018-08-01T12:00:00",
            "2018-13-01T12:00:00Z",
            "20180801T120000Z",
            "1969-12-31T23:59:59Z",
            "2018-08-01T12:00:00+02:00[Europe/Berlin]",
        ] {
            assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
        }
    }
}
