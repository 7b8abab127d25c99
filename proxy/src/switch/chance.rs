//! What chance alone may explain. The switch acts on shares of a few events among many, where a rule of
//! thumb is wrong by orders of magnitude: these tails are exact for rare events.

use std::f64::consts::TAU;

/// Terms that add less than this to a tail change nothing.
const NEGLIGIBLE: f64 = 1e-12;

/// How likely `seen` events or more are where `expected` come on average (Poisson, upper tail).
/// 1 where no more were seen than expected.
pub fn as_many_as(seen: u64, expected: f64) -> f64 {
    let k = seen as f64;
    if k <= expected || seen == 0 {
        return 1.0;
    }
    if expected <= 0.0 {
        return 0.0;
    }
    let first = (k * expected.ln() - expected - ln_factorial(k)).exp();
    tail(first, |n| expected / (k + n))
}

/// How likely it is that of `bad + other_bad` events `bad` or more fall on one of two samples, were they
/// equally bad and `expected` of the other's: the doubt that the other is better. 1 where nothing speaks
/// for it. Where the chance differs from event to event, a tail of the binomial is the upper bound
/// (Hoeffding, 1956).
pub fn no_better(bad: u64, other_bad: u64, expected: f64) -> f64 {
    let (k, n) = (bad as f64, (bad + other_bad) as f64);
    if bad == 0 || other_bad as f64 >= expected {
        return 1.0;
    }
    let p = 1.0 - expected / n;
    let choose = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let first = (choose + k * p.ln() + (n - k) * (1.0 - p).ln()).exp();
    tail(first, |step| (n - k - step + 1.0) / (k + step) * p / (1.0 - p))
}

/// How many standard deviations two shares are apart, if both samples had the same one (two-proportion
/// test, pooled).
pub fn deviations((one, of_one): (u64, u64), (two, of_two): (u64, u64)) -> f64 {
    if of_one == 0 || of_two == 0 {
        return 0.0;
    }
    let (n, m) = (of_one as f64, of_two as f64);
    let pooled = (one + two) as f64 / (n + m);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let apart = (one as f64 / n - two as f64 / m).abs();
    if spread > 0.0 { apart / spread } else { 0.0 }
}

/// The sum of a falling series: its first term, and what each further one is multiplied by.
fn tail(first: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut term, mut n) = (first, first, 1.0);
    loop {
        term *= ratio(n);
        sum += term;
        n += 1.0;
        if term <= sum * NEGLIGIBLE {
            return sum.clamp(0.0, 1.0);
        }
    }
}

/// Stirling's series to the third term: within 0.1 % from 1 on, and far closer beyond.
fn ln_factorial(n: f64) -> f64 {
    if n < 1.0 {
        return 0.0;
    }
    n * n.ln() - n + 0.5 * (TAU * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_about(got: f64, expected: f64) -> bool {
        (got - expected).abs() <= expected * 0.005
    }

    #[test]
    fn a_tail_of_rare_events_is_what_the_tables_say() {
        // (seen, expected on average) -> P(X >= seen), summed term by term
        for (seen, expected, tail) in [
            (1, 1.0, 1.0),
            (2, 1.0, 0.264_241),
            (7, 1.5, 0.000_926),
            (10, 1.5, 4.0975e-6),
            (20, 6.0, 5.1802e-6),
            (128, 90.0, 9.4295e-5),
            (500, 25.0, 0.0),
        ] {
            let got = as_many_as(seen, expected);
            assert!(
                is_about(got, tail) || (got < 1e-12 && tail < 1e-12),
                "{seen} {expected}: {got}"
            );
        }
        assert!(is_about(as_many_as(0, 0.0), 1.0));
        assert!(as_many_as(1, 0.0) < 1e-12);
    }

    /// Of two samples of one time.
    fn no_better_of((bad, of): (u64, u64), (other_bad, other_of): (u64, u64)) -> f64 {
        let expected = (bad + other_bad) as f64 * other_of as f64 / (of + other_of) as f64;
        no_better(bad, other_bad, expected)
    }

    #[test]
    fn another_is_better_only_where_chance_does_not_explain_it() {
        for (one, other, doubt) in [
            ((20, 2_000), (0, 300), (2_000.0_f64 / 2_300.0).powi(20)),
            ((20, 2_000), (0, 600), (2_000.0_f64 / 2_600.0).powi(20)),
            ((1, 100), (0, 100), 0.5),
            ((10, 1_000), (10, 1_000), 1.0),
            ((0, 1_000), (0, 1_000), 1.0),
            ((500, 500), (0, 0), 1.0),
            // P(K >= 9), K binomial of 10 and a half
            ((9, 1_000), (1, 1_000), 11.0 / 1_024.0),
        ] {
            let got = no_better_of(one, other);
            assert!(is_about(got, doubt), "{one:?} {other:?}: {got}, not {doubt}");
        }
        assert!(no_better_of((5_000, 5_000), (10, 1_000)) < 1e-9);
    }

    #[test]
    fn shares_are_apart_by_deviations_of_what_both_would_have() {
        assert!(is_about(deviations((90, 100), (10, 100)), 11.313_7));
        assert!(is_about(deviations((50, 100), (100, 200)) + 1.0, 1.0));
        assert!(is_about(deviations((100, 100), (100, 100)) + 1.0, 1.0));
        assert!(is_about(deviations((1, 1), (0, 0)) + 1.0, 1.0));
    }

    #[test]
    fn a_long_series_ends() {
        let doubt = as_many_as(3_010_000, 3_000_000.0);
        assert!(is_about(doubt, 3.961e-9), "{doubt}");
    }
}
