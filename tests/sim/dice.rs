//! All that is left to chance, decided by a seed: on every machine alike.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn of(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Evenly among the whole numbers under `end`; 0 when there are none.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap()
    }

    /// Evenly from `min` to `max`, both included.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max - min + 1)
    }

    /// True this often in a thousand times.
    pub fn permille(&mut self, often: u64) -> bool {
        self.below(1000) < often
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// A wait: mostly about `usual`, now and then much longer.
    pub fn wait(&mut self, usual: u64) -> u64 {
        let factor = if self.permille(50) { 20 } else { 2 };
        self.between(usual / 2, usual * factor)
    }
}
