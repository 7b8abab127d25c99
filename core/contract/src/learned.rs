//! Limits learned from the latencies of one kind of call: `min` is their p80, `max` their p99.9 with
//! headroom, over a sliding window.
//!
//! A call that was given up after T says only "at least T". Dropping such samples, or counting them
//! as T, makes slow calls look fast: the limit falls, more calls are given up, the limit falls again.
//! So quantiles are taken from the Kaplan-Meier estimate (J. Amer. Statist. Assoc. 53, 1958, p. 457),
//! which weighs a cut sample as what it is: still under way when we stopped looking.

use std::time::Duration;

use tokio::time::Instant;

/// Buckets to each doubling of a latency: a quantile is at most an eighth too high.
const STEPS: u32 = 8;
/// Latencies from 2^5 = 32 µs to 2^26 µs = 67 s; what lies outside counts as the nearest of them.
const POWER_MIN: u32 = 5;
const POWER_MAX: u32 = 26;
const BUCKETS: usize = ((POWER_MAX - POWER_MIN) * STEPS) as usize;
/// The window slides in steps of one slot.
const SLOTS: usize = 8;

/// How limits are learned. Every field has a setting of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// How far back samples count.
    pub window: Duration,
    /// Fewer samples than this leave the priors in force.
    pub samples_min: u64,
    /// `min` before there are samples.
    pub prior_min: Duration,
    /// `max` before there are samples.
    pub prior_max: Duration,
    /// `max` is the p99.9 times this.
    pub headroom: f64,
    /// Neither limit is ever over this.
    pub ceiling: Duration,
    /// A limit in force moves only when the learned one is off by more than this share of it.
    pub hysteresis: f64,
}

impl Learning {
    fn priors(&self) -> Bounds {
        let capped = |prior| std::cmp::min(prior, self.ceiling);
        Bounds { min: capped(self.prior_min), max: capped(self.prior_max) }
    }
}

/// What is known of how long one call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// It came back after this.
    Took(Duration),
    /// It was given up after this: it takes at least as long.
    AtLeast(Duration),
}

/// The limits in force, before the merchant's own floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The p80: less than this is not worth asking with.
    pub min: Duration,
    /// The p99.9 with headroom: more than this is not worth waiting.
    pub max: Duration,
}

/// Learns the limits of one operation of one stack.
#[derive(Debug)]
pub struct Learner {
    learning: Learning,
    origin: Instant,
    slots: [Slot; SLOTS],
    in_force: Bounds,
    /// The limits are computed once a slot's tenth, not once a call.
    computed: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Which slot of time it holds, counted from the origin.
    number: u64,
    ended: [u32; BUCKETS],
    cut: [u32; BUCKETS],
}

impl Slot {
    const fn new(number: u64) -> Self {
        Self { number, ended: [0; BUCKETS], cut: [0; BUCKETS] }
    }
}

impl Learner {
    /// A learner without samples: the priors are in force.
    pub fn new(learning: Learning, now: Instant) -> Self {
        let slots = std::array::from_fn(|_| Slot::new(0));
        Self { learning, origin: now, slots, in_force: learning.priors(), computed: 0 }
    }

    /// Counts one call.
    pub fn record(&mut self, sample: Sample, now: Instant) {
        let number = self.number(now, 1);
        let Some(slot) = self.slots.get_mut(index(number)) else { return };
        if slot.number != number {
            *slot = Slot::new(number);
        }
        let (counts, length) = match sample {
            Sample::Took(length) => (&mut slot.ended, length),
            Sample::AtLeast(length) => (&mut slot.cut, length),
        };
        if let Some(count) = counts.get_mut(bucket(length)) {
            *count = count.saturating_add(1);
        }
    }

    /// The limits in force at `now`.
    pub fn bounds(&mut self, now: Instant) -> Bounds {
        let tenth = self.number(now, 10);
        if tenth != self.computed {
            self.computed = tenth;
            // Cold again, it begins again: a limit that lets no call through would else never learn
            // that calls are fast by now.
            let learned = self.learned(now);
            self.in_force = learned.map_or(self.learning.priors(), |new| self.moved(new));
        }
        self.in_force
    }

    /// The number of the slot, or of its part, that `now` lies in.
    fn number(&self, now: Instant, parts: u32) -> u64 {
        let length = self.learning.window / (u32::try_from(SLOTS).unwrap_or(1) * parts);
        let elapsed = now.saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_nanos() / std::cmp::max(length.as_nanos(), 1)).unwrap_or(u64::MAX)
    }

    fn learned(&self, now: Instant) -> Option<Bounds> {
        let newest = self.number(now, 1);
        let oldest = newest.saturating_sub(SLOTS as u64 - 1);
        let (mut ended, mut cut) = ([0_u64; BUCKETS], [0_u64; BUCKETS]);
        for slot in self.slots.iter().filter(|it| (oldest..=newest).contains(&it.number)) {
            for (sum, count) in ended.iter_mut().zip(&slot.ended) {
                *sum += u64::from(*count);
            }
            for (sum, count) in cut.iter_mut().zip(&slot.cut) {
                *sum += u64::from(*count);
            }
        }
        let total: u64 = ended.iter().chain(&cut).sum();
        if total < self.learning.samples_min {
            return None;
        }
        let ceiling = self.learning.ceiling;
        let quantile = |q| quantile(&ended, &cut, total, q).unwrap_or(ceiling);
        let max = quantile(0.999).mul_f64(self.learning.headroom);
        let min = quantile(0.8);
        Some(Bounds { min: std::cmp::min(min, ceiling), max: std::cmp::min(max, ceiling) })
    }

    fn moved(&self, new: Bounds) -> Bounds {
        let moved = |old: Duration, new: Duration| {
            let off = old.abs_diff(new).as_secs_f64();
            if off > old.as_secs_f64() * self.learning.hysteresis { new } else { old }
        };
        let max = moved(self.in_force.max, new.max);
        Bounds { min: std::cmp::min(moved(self.in_force.min, new.min), max), max }
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % SLOTS as u64).unwrap_or(0)
}

/// The bucket of a latency: `STEPS` to each power of two, as in an HDR histogram.
fn bucket(length: Duration) -> usize {
    let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
    let micros = micros.clamp(1 << POWER_MIN, (1 << POWER_MAX) - 1);
    let power = micros.ilog2();
    let step = (micros >> (power - 3)) & u64::from(STEPS - 1);
    let bucket = u64::from((power - POWER_MIN) * STEPS) + step;
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The longest latency of a bucket.
fn upper(bucket: usize) -> Duration {
    let bucket = u32::try_from(bucket).unwrap_or(0);
    let (power, step) = (POWER_MIN + bucket / STEPS, bucket % STEPS);
    Duration::from_micros(u64::from(STEPS + step + 1) << (power - 3))
}

/// The least latency that a share `q` of all calls stays within; `None` where so many were cut that
/// nobody knows.
fn quantile(ended: &[u64; BUCKETS], cut: &[u64; BUCKETS], total: u64, q: f64) -> Option<Duration> {
    let mut at_risk = total;
    let mut beyond = 1.0;
    for (bucket, (ended, cut)) in ended.iter().zip(cut).enumerate() {
        if *ended > 0 {
            beyond *= 1.0 - *ended as f64 / at_risk as f64;
        }
        // One in a thousand million: rounding must not hide that nobody is left.
        if 1.0 - beyond >= q - 1e-9 {
            return Some(upper(bucket));
        }
        at_risk -= ended + cut;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const LEARNING: Learning = Learning {
        window: Duration::from_secs(30),
        samples_min: 50,
        prior_min: ms(5),
        prior_max: ms(1000),
        headroom: 3.0,
        ceiling: ms(10_000),
        hysteresis: 0.1,
    };

    fn near(got: Duration, expected: Duration) -> bool {
        got >= expected && got <= expected.mul_f64(1.126) + Duration::from_micros(2)
    }

    #[tokio::test(start_paused = true)]
    async fn the_priors_hold_until_there_are_samples_enough() {
        let start = Instant::now();
        let mut learner = Learner::new(LEARNING, start);
        let priors = Bounds { min: ms(5), max: ms(1000) };
        (0..49).for_each(|_| learner.record(Sample::Took(ms(10)), start));
        assert_eq!(learner.bounds(start + ms(900)), priors);
        learner.record(Sample::Took(ms(10)), start + ms(900));
        let bounds = learner.bounds(start + ms(1800));
        assert!(near(bounds.min, ms(10)) && near(bounds.max, ms(30)), "{bounds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn min_is_the_p80_and_max_the_p99_9_with_headroom() {
        let start = Instant::now();
        let mut learner = Learner::new(LEARNING, start);
        for n in 0..10_000_u64 {
            let took = if n % 1000 < 800 { ms(2) } else { ms(20) };
            let took = if n % 1000 == 999 { ms(80) } else { took };
            learner.record(Sample::Took(took), start + Duration::from_micros(n * 100));
        }
        let bounds = learner.bounds(start + ms(1500));
        assert!(near(bounds.min, ms(2)), "{bounds:?}");
        assert!(near(bounds.max, ms(60)), "999 of 1000 take 20 ms: {bounds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let mut learner = Learner::new(LEARNING, start);
        (0..100).for_each(|_| learner.record(Sample::Took(ms(500)), start));
        let slow = learner.bounds(start + ms(1000));
        assert!(near(slow.min, ms(500)), "{slow:?}");
        let later = start + ms(31_000);
        (0..100).for_each(|_| learner.record(Sample::Took(ms(1)), later));
        let fast = learner.bounds(later + ms(500));
        assert!(near(fast.max, ms(3)), "{fast:?}");
    }

    /// What broke in a trial: a core that had been slow let nothing through that had less time left than
    /// its p80. So nothing ran, nothing was learned, and the p80 stayed until a restart.
    #[tokio::test(start_paused = true)]
    async fn a_limit_that_lets_nothing_through_is_forgotten_with_its_samples() {
        let start = Instant::now();
        let mut learner = Learner::new(LEARNING, start);
        (0..100).for_each(|_| learner.record(Sample::Took(ms(2000)), start));
        assert!(learner.bounds(start + ms(500)).min >= ms(2000));
        assert!(learner.bounds(start + ms(25_000)).min >= ms(2000));
        assert_eq!(learner.bounds(start + ms(31_000)).min, LEARNING.prior_min);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_moves_only_for_a_reason() {
        let start = Instant::now();
        let mut learner = Learner::new(Learning { hysteresis: 0.3, ..LEARNING }, start);
        (0..100).for_each(|_| learner.record(Sample::Took(ms(10)), start));
        let first = learner.bounds(start + ms(500));
        (0..900).for_each(|_| learner.record(Sample::Took(ms(12)), start + ms(600)));
        assert_eq!(learner.bounds(start + ms(1500)), first, "20 % more is within 30 %");
        (0..90_000).for_each(|_| learner.record(Sample::Took(ms(20)), start + ms(1600)));
        assert_ne!(learner.bounds(start + ms(2500)), first);
    }

    /// How a limit develops against a tier whose calls take 10 ms, then 100 ms from the fifth second
    /// on. `learn` gets what a caller sees and gives the next limit.
    fn limit_after_a_slowdown(
        mut learn: impl FnMut(Sample, Instant) -> Duration,
    ) -> (Duration, u32) {
        let start = Instant::now();
        let mut limit = ms(1000);
        let mut given_up = 0;
        for n in 0..20_000_u64 {
            let now = start + ms(n * 2);
            let takes = if now < start + ms(5000) { ms(10) } else { ms(100) };
            let in_time = takes <= limit;
            let sample = if in_time { Sample::Took(takes) } else { Sample::AtLeast(limit) };
            given_up += u32::from(!in_time);
            limit = learn(sample, now);
        }
        (limit, given_up)
    }

    /// What broke in the field: a service learned its timeout from the calls that came back. The next
    /// tier slowed down for a moment, every call was given up, none came back to be learned from, and
    /// the timeout stayed where it was: an outage of a moment lasted until somebody restarted it.
    #[tokio::test(start_paused = true)]
    async fn dropping_what_was_given_up_traps_the_limit_and_counting_it_frees_it() {
        let mut naive = Learner::new(LEARNING, Instant::now());
        let (limit, given_up) = limit_after_a_slowdown(|sample, now| {
            if let Sample::Took(_) = sample {
                naive.record(sample, now);
            }
            naive.bounds(now).max
        });
        assert!(
            given_up > 12_000,
            "trapped until every sample is forgotten: {limit:?}, {given_up}"
        );

        let mut ours = Learner::new(LEARNING, Instant::now());
        let (limit, given_up) = limit_after_a_slowdown(|sample, now| {
            ours.record(sample, now);
            ours.bounds(now).max
        });
        assert!(limit >= ms(300), "three times 100 ms again: {limit:?}");
        assert!(given_up < 1000, "{given_up} of 20,000 were given up before it learned");
    }

    /// The same without a slowdown: a limit at the p90 of what came back cuts off a tenth, the p90 of
    /// what is left cuts off a tenth of that, and so on down.
    #[test]
    fn a_limit_learned_from_survivors_spirals_down_and_ours_does_not() {
        let latencies: Vec<_> =
            (0..2000_u64).map(|n| Duration::from_micros(10_000 + n * 100)).collect();
        let rounds = |counts_cut: bool| {
            let mut limit = ms(1000);
            for _ in 0..30 {
                let (mut ended, mut cut) = ([0; BUCKETS], [0; BUCKETS]);
                for latency in &latencies {
                    if *latency <= limit {
                        ended[bucket(*latency)] += 1;
                    } else if counts_cut {
                        cut[bucket(limit)] += 1;
                    }
                }
                let total = ended.iter().chain(&cut).sum();
                let learned = quantile(&ended, &cut, total, 0.9);
                // Where nobody knows, it is the ceiling that is in force.
                limit = learned.map_or(ms(1000), |learned| learned.mul_f64(0.95));
            }
            limit
        };
        let (naive, ours) = (rounds(false), rounds(true));
        assert!(naive < ms(60), "{naive:?} of the 190 ms that nine in ten take");
        assert!(ours > ms(150), "{ours:?}");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_put_in_it(micros in 32_u64..(1 << 26)) {
            let length = Duration::from_micros(micros);
            let upper = upper(bucket(length));
            prop_assert!(length < upper && upper.as_micros() * 8 <= u128::from(micros) * 9 + 16);
        }

        #[test]
        fn cut_samples_never_lower_a_quantile(
            took in prop::collection::vec(1_u64..2000, 50..200),
            cut in prop::collection::vec(1_u64..2000, 0..100),
        ) {
            let count = |samples: &[u64]| {
                let mut counts = [0; BUCKETS];
                for sample in samples {
                    counts[bucket(ms(*sample))] += 1;
                }
                counts
            };
            let (ended, none) = (count(&took), [0; BUCKETS]);
            let total = took.len() as u64;
            let plain = quantile(&ended, &none, total, 0.8).unwrap();
            let with = quantile(&ended, &count(&cut), total + cut.len() as u64, 0.8);
            prop_assert!(with.is_none_or(|with| with >= plain));
        }
    }
}
