//! Time as the tiers share it: a budget crosses the wire, a deadline never leaves the process.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// How long a call may take. Relative, so that hosts need not agree on the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget(Duration);

impl Budget {
    /// A budget of this length.
    pub const fn new(length: Duration) -> Self {
        Self(length)
    }

    /// The length of this budget.
    pub const fn length(self) -> Duration {
        self.0
    }

    /// Reads decimal milliseconds, such as `300` or `12.5`. `None` for anything else, or over an hour.
    pub fn from_header(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let millis: f64 = if plain { text.parse().ok()? } else { return None };
        (millis <= 3_600_000.0).then(|| Self(Duration::from_secs_f64(millis / 1000.0)))
    }

    /// Writes `grpc-timeout` in microseconds, its finest unit that never overflows eight digits here.
    pub fn to_grpc_timeout(self) -> String {
        format!("{}u", std::cmp::min(self.0.as_micros(), 99_999_999))
    }

    /// Reads `grpc-timeout`: at most eight digits and a unit, as the gRPC specification has it.
    pub fn from_grpc_timeout(text: &str) -> Option<Self> {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let amount: u64 = digits.parse().ok()?;
        Some(Self(match unit {
            "H" => Duration::from_secs(amount.checked_mul(3600)?),
            "M" => Duration::from_secs(amount.checked_mul(60)?),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        }))
    }
}

/// The header form: decimal milliseconds, to the microsecond.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros % 1000 {
            0 => write!(f, "{}", micros / 1000),
            rest => write!(f, "{}.{rest:03}", micros / 1000),
        }
    }
}

/// The instant a budget runs out. It never leaves the process: hosts disagree about the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    start: Instant,
    budget: Budget,
}

impl Deadline {
    /// The deadline of a budget that began at `start`.
    pub const fn after(start: Instant, budget: Budget) -> Self {
        Self { start, budget }
    }

    /// The whole budget that it ends.
    pub const fn budget(self) -> Budget {
        self.budget
    }

    /// What has gone of the budget at `now`.
    pub fn elapsed(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// What is left at `now`; zero once it has passed.
    pub fn left(self, now: Instant) -> Duration {
        self.budget.0.saturating_sub(self.elapsed(now))
    }

    /// The budget of a call that starts `now`: what is left, less the reserve, within the limits.
    pub fn budget_for(self, limits: Limits, now: Instant) -> Budget {
        Budget(self.left(now).saturating_sub(limits.reserve).clamp(limits.min, limits.max))
    }
}

/// The bounds of one kind of call: what is kept back, and the least and most it is worth waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    reserve: Duration,
    min: Duration,
    max: Duration,
}

/// `min` over `max`: such limits would leave no time that satisfies both.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the least wait, {min:?}, is over the longest, {max:?}; make it {max:?} or less")]
pub struct LimitsCross {
    min: Duration,
    max: Duration,
}

impl Limits {
    /// Limits that keep `reserve` back and wait between `min` and `max`.
    pub fn new(reserve: Duration, min: Duration, max: Duration) -> Result<Self, LimitsCross> {
        if min > max { Err(LimitsCross { min, max }) } else { Ok(Self { reserve, min, max }) }
    }

    /// Limits that keep `reserve` back and wait between `min` and `max`, or exactly `max` should
    /// `min` be over it.
    pub(crate) fn of(reserve: Duration, min: Duration, max: Duration) -> Self {
        Self { reserve, min: std::cmp::min(min, max), max }
    }

    /// What is kept back for the fallback and the way home.
    pub const fn reserve(self) -> Duration {
        self.reserve
    }

    /// The least that a call is given.
    pub const fn min(self) -> Duration {
        self.min
    }

    /// The most that a call is given.
    pub const fn max(self) -> Duration {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_header_is_decimal_milliseconds() {
        let read = |text| Budget::from_header(text).map(Budget::length);
        assert_eq!(read("300"), Some(ms(300)));
        assert_eq!(read("12.5"), Some(Duration::from_micros(12_500)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        for wrong in ["", ".", "-1", "+1", "1e3", "inf", "NaN", "3600001", "1 ", "1.2.3"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(Budget::new(Duration::from_micros(12_500)).to_string(), "12.500");
    }

    #[test]
    fn grpc_timeout_follows_its_specification() {
        let read = |text| Budget::from_grpc_timeout(text).map(Budget::length);
        assert_eq!(read("250000u"), Some(ms(250)));
        assert_eq!(read("1S"), Some(ms(1000)));
        for wrong in ["", "u", "1", "123456789u", "-1m", "1x", "1é"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_is_what_is_left_less_the_reserve_within_the_limits() {
        let now = Instant::now();
        let limits = Limits::new(ms(20), ms(5), ms(200)).unwrap();
        // (budget, elapsed) -> timeout, on both sides of every boundary
        let cases = [
            (300, 0, 200),  // 280 left after the reserve: capped by max
            (221, 0, 200),  // 201: capped
            (220, 0, 200),  // exactly max
            (219, 0, 199),  // just under max
            (100, 30, 50),  // in between
            (26, 0, 6),     // just over min
            (25, 0, 5),     // exactly min
            (24, 0, 5),     // just under min
            (10, 0, 5),     // a budget under the reserve
            (100, 100, 5),  // arrives as it runs out
            (100, 5000, 5), // arrives long after
        ];
        for (budget, elapsed, timeout) in cases {
            let deadline = Deadline::after(now, Budget::new(ms(budget)));
            let given = deadline.budget_for(limits, now + ms(elapsed));
            assert_eq!(given.length(), ms(timeout), "budget {budget}, elapsed {elapsed}");
        }
    }

    #[test]
    fn crossed_limits_are_refused() {
        assert!(Limits::new(ms(0), ms(6), ms(5)).is_err());
        assert!(Limits::new(ms(0), ms(5), ms(5)).is_ok());
    }

    proptest! {
        #[test]
        fn a_budget_survives_the_wire(micros in 0_u64..99_999_999) {
            let budget = Budget::new(Duration::from_micros(micros));
            prop_assert_eq!(Budget::from_header(&budget.to_string()), Some(budget));
            prop_assert_eq!(Budget::from_grpc_timeout(&budget.to_grpc_timeout()), Some(budget));
        }

        #[test]
        fn the_timeout_stays_within_the_limits_and_the_time_left(
            budget in 0_u64..10_000, elapsed in 0_u64..10_000,
            reserve in 0_u64..500, min in 0_u64..500, spread in 0_u64..500,
        ) {
            let now = Instant::now();
            let limits = Limits::new(ms(reserve), ms(min), ms(min + spread)).unwrap();
            let deadline = Deadline::after(now, Budget::new(ms(budget)));
            let given = deadline.budget_for(limits, now + ms(elapsed)).length();
            prop_assert!(given >= ms(min) && given <= ms(min + spread));
            let free = budget.saturating_sub(elapsed).saturating_sub(reserve);
            prop_assert!(given <= std::cmp::max(ms(free), ms(min)), "no more than is left, but for min");
        }
    }
}
