//! Virtual time as the machines read it: an instant that never steps, and a wall clock that may.

use std::time::Duration;

use backstop_book::Now;
use backstop_contract::Timestamp;
use tokio::time::Instant;

use super::dice::Dice;
use super::event::Moment;

/// Noon of 1 August 2018, in milliseconds.
const NOON: i64 = 1_533_124_800_000;

/// The furthest that a wall clock steps, in milliseconds.
const STEP_MAX: u64 = 3_600_000;

/// The clocks of one run. Only differences of instants mean anything.
pub struct Clock {
    start: Instant,
    /// How far the wall clock of the edges is off, in milliseconds.
    off: i64,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now(), off: 0 }
    }

    pub fn instant(&self, now: Moment) -> Instant {
        self.start + Duration::from_micros(now)
    }

    /// Microseconds from `now` until this instant; none if it is over.
    pub fn until(&self, instant: Instant, now: Moment) -> u64 {
        let wait = instant.saturating_duration_since(self.instant(now));
        // Rounded up, so that it is over when we wake.
        u64::try_from(wait.as_nanos().div_ceil(1000)).unwrap()
    }

    pub fn now(&self, now: Moment) -> Now {
        let wall = Timestamp::from_millis(wall(now).as_millis() + self.off);
        Now { instant: self.instant(now), wall }
    }

    /// Somebody sets the wall clock, or not.
    pub fn step(&mut self, dice: &mut Dice) {
        if dice.permille(200) {
            self.off = i64::try_from(dice.below(2 * STEP_MAX)).unwrap() - STEP_MAX.cast_signed();
        }
    }
}

pub fn wall(now: Moment) -> Timestamp {
    Timestamp::from_millis(NOON + i64::try_from(now / 1000).unwrap())
}
