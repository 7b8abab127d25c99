//! The kinds of value in a settings file. Each checks its range as it is read, so that the error has
//! the place of the value.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a length of time as an operator writes it: `300ms`, `2s`, `15m`, `24h`, `400d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

/// The shortest way to write a whole number of milliseconds so that [`parse_duration`] reads it.
pub fn write_duration(millis: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| millis > 0 && millis.is_multiple_of(*unit);
    let (name, unit) = UNITS.iter().rev().find(fits).unwrap_or(&("ms", 1));
    format!("{}{name}", millis / unit)
}

/// A length of time from `MIN` to `MAX` milliseconds.
pub fn duration<'de, const MIN: u64, const MAX: u64, D>(from: D) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    struct Within<const MIN: u64, const MAX: u64>;

    impl<const MIN: u64, const MAX: u64> Visitor<'_> for Within<MIN, MAX> {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (min, max) = (write_duration(MIN), write_duration(MAX));
            write!(
                f,
                "a duration from \"{min}\" to \"{max}\", such as \"300ms\", \"2s\" or \"15m\""
            )
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text)
                .filter(|length| (u128::from(MIN)..=u128::from(MAX)).contains(&length.as_millis()))
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    from.deserialize_str(Within::<MIN, MAX>)
}

/// A whole number from `MIN` to `MAX`, as a `usize` or a `u64`.
pub fn number<'de, const MIN: u64, const MAX: u64, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    struct Within<const MIN: u64, const MAX: u64, T>(PhantomData<T>);

    impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Visitor<'_> for Within<MIN, MAX, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from {MIN} to {MAX}")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
            u64::try_from(number)
                .ok()
                .filter(|number| (MIN..=MAX).contains(number))
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
        }
    }

    from.deserialize_i64(Within::<MIN, MAX, T>(PhantomData))
}

/// The same, for a number that may be left out, which means none.
pub fn number_or_none<'de, const MIN: u64, const MAX: u64, T, D>(
    from: D,
) -> Result<Option<T>, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    number::<MIN, MAX, T, D>(from).map(Some)
}

/// Text that may be left empty, which means none.
pub fn text_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()))
}

/// A path that may be left empty, which means none.
pub fn path_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(text_or_none(from)?.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in
            [("0ms", 0), ("300ms", 300), ("2s", 2_000), ("15m", 900_000), ("1d", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "300", "ms", "-1s", "1.5s", "1 s", "2S", "1h30m", "99999999999999999999s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_in_its_largest_whole_unit() {
        for text in ["0ms", "1ms", "1500ms", "2s", "15m", "24h", "400d"] {
            let millis = u64::try_from(parse_duration(text).unwrap().as_millis()).unwrap();
            let written = write_duration(millis);
            assert_eq!(parse_duration(&written), parse_duration(text), "{text} {written}");
        }
        assert_eq!(write_duration(90_000), "90s");
    }
}
