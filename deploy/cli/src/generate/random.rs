//! Random numbers that a seed decides, on every machine alike: only the arithmetic that IEEE 754 fixes
//! to the last bit is used, and no library's idea of a distribution, which may change.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Uniform numbers that make one normal one.
const SUMMANDS: u32 = 12;
/// The series for `exp` is cut here; its argument is at most 1.
const EXP_TERMS: u32 = 20;

/// A stream of random numbers.
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Evenly from 0 up to 1, itself not included.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly from `min` up to `max`.
    pub fn between(&mut self, min: f64, max: f64) -> f64 {
        min + (max - min) * self.unit()
    }

    /// Evenly among the whole numbers under `end`; 0 when there are none.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.0.next_u64()) * (end as u128);
        usize::try_from(wide >> 64).unwrap_or_default()
    }

    /// Normal, by the sum of twelve even numbers: true near the middle, and never over six deviations.
    pub fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let sum: f64 = (0..SUMMANDS).map(|_| self.unit()).sum();
        mean + deviation * (sum - f64::from(SUMMANDS) / 2.0)
    }

    /// How many of something that happens `mean` times on average (Knuth's method; small means).
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let mut count = 0;
        let mut left = mean;
        while left > 0.0 {
            let floor = exp_of_minus(left.clamp(0.0, 1.0));
            left -= 1.0;
            let mut product = self.unit();
            while product > floor {
                count += 1;
                product *= self.unit();
            }
        }
        count
    }
}

/// e to the power of `-x`, for x from 0 to 1, by its series.
fn exp_of_minus(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..EXP_TERMS {
        term *= -x / f64::from(n);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 20_000;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut(&mut Random) -> f64) -> (f64, f64) {
        let mut random = Random::seeded(7);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let number = draw(&mut random);
            sum += number;
            squares += number * number;
        }
        let mean = sum / f64::from(DRAWS);
        (mean, squares / f64::from(DRAWS) - mean * mean)
    }

    #[test]
    fn each_distribution_has_its_mean_and_variance() {
        let near = |(mean, variance): (f64, f64), expected: (f64, f64)| {
            assert!((mean - expected.0).abs() < 0.05, "{mean} for {}", expected.0);
            assert!((variance / expected.1 - 1.0).abs() < 0.05, "{variance} for {}", expected.1);
        };
        near(moments(Random::unit), (0.5, 1.0 / 12.0));
        near(moments(|random| random.between(2.0, 5.0)), (3.5, 9.0 / 12.0));
        near(moments(|random| random.normal(3.0, 2.0)), (3.0, 4.0));
        near(moments(|random| f64::from(random.poisson(0.3))), (0.3, 0.3));
        near(moments(|random| f64::from(random.poisson(3.7))), (3.7, 3.7));
        near(moments(|random| random.below(10) as f64), (4.5, 99.0 / 12.0));
    }

    #[test]
    fn the_edges_hold() {
        let mut random = Random::seeded(1);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        assert_eq!(random.poisson(0.0), 0);
        assert!((exp_of_minus(1.0) - (-1.0_f64).exp()).abs() < 1e-15);
    }
}
