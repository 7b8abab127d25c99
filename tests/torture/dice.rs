//! Chance that repeats itself: the same seed, the same rolls.

use crate::claims::demand::mixed;

/// Rolls for one purpose.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Those of a seed for one purpose, such as the number of a request.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Self { state: mixed(mixed(seed) ^ purpose) }
    }

    /// A whole number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.state = self.state.wrapping_add(1);
        mixed(self.state) % sides
    }

    /// Whether it is one of so many in a hundred.
    pub fn is_within(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}
