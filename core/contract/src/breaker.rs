//! A circuit breaker: after too many bad calls the next tier is left alone for a while, so that it can
//! recover and nobody waits for it in vain.
//!
//! A pure state machine: the clock and the calls come in, admissions go out. Slow calls are bad calls:
//! the caller counts one that was given up at its timeout, whatever became of it later.

use std::time::Duration;

use tokio::time::Instant;

/// The window slides in steps of one slot.
const SLOTS: usize = 10;

/// When a breaker opens and closes. Every field has a setting of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    /// How far back calls count.
    pub window: Duration,
    /// With fewer calls than this in the window it stays closed.
    pub calls_min: u32,
    /// It opens at this share of bad calls.
    pub bad_share: f64,
    /// How long it is open at first; doubled each time its probes fail.
    pub open_min: Duration,
    /// How long it is open at most.
    pub open_max: Duration,
    /// So many good probes in a row close it; as many may be under way at once.
    pub probes: u32,
}

/// Leave to make a call. Hand it back with [`Breaker::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Which life of the breaker gave it: what ends after a change of state says nothing of the new one.
    life: u64,
}

/// What the breaker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Every call goes out.
    Closed,
    /// No call goes out.
    Open,
    /// A few calls go out, to see how they end.
    HalfOpen,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { under_way: u32, good: u32 },
}

/// The breaker of one operation of one stack.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    origin: Instant,
    slots: [Slot; SLOTS],
    phase: Phase,
    open_for: Duration,
    life: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    calls: u32,
    bad: u32,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings, now: Instant) -> Self {
        Self {
            settings,
            origin: now,
            slots: [Slot::default(); SLOTS],
            phase: Phase::Closed,
            open_for: settings.open_min,
            life: 0,
        }
    }

    /// Asks for leave to make a call; `None`: answer without it.
    pub fn admit(&mut self, now: Instant) -> Option<Pass> {
        if let Phase::Open { until } = self.phase
            && now >= until
        {
            self.enter(Phase::HalfOpen { under_way: 0, good: 0 });
        }
        match &mut self.phase {
            Phase::Closed => {}
            Phase::HalfOpen { under_way, good } if *under_way + *good < self.settings.probes => {
                *under_way += 1;
            }
            Phase::HalfOpen { .. } | Phase::Open { .. } => return None,
        }
        Some(Pass { life: self.life })
    }

    /// Counts how a call ended that was admitted.
    pub fn ended(&mut self, pass: Pass, is_good: bool, now: Instant) {
        if pass.life != self.life {
            return;
        }
        match &mut self.phase {
            Phase::Closed => {
                self.count(is_good, now);
                if self.is_bad(now) {
                    self.open(now);
                }
            }
            Phase::HalfOpen { under_way, good } => {
                *under_way -= 1;
                if !is_good {
                    let doubled = self.open_for * 2;
                    self.open_for = std::cmp::min(doubled, self.settings.open_max);
                    self.open(now);
                } else if *good + 1 == self.settings.probes {
                    self.close();
                } else {
                    *good += 1;
                }
            }
            // Open hands out no passes, so none of this life can end.
            Phase::Open { .. } => {}
        }
    }

    /// Takes a leave back without a judgement: how the call ended says nothing of the next tier.
    pub fn forgotten(&mut self, pass: Pass) {
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase
            && pass.life == self.life
        {
            *under_way -= 1;
        }
    }

    /// Opens it, where it is closed: its owner has seen enough before the window has.
    pub fn trip(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closed) {
            self.open(now);
        }
    }

    /// What it shows at `now`.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.life += 1;
    }

    fn open(&mut self, now: Instant) {
        self.enter(Phase::Open { until: now + self.open_for });
    }

    /// What was counted before it opened says nothing of the tier as it is now.
    fn close(&mut self) {
        self.slots = [Slot::default(); SLOTS];
        self.open_for = self.settings.open_min;
        self.enter(Phase::Closed);
    }

    fn count(&mut self, is_good: bool, now: Instant) {
        let number = self.number(now);
        let index = usize::try_from(number % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.calls += 1;
        slot.bad += u32::from(!is_good);
    }

    fn is_bad(&self, now: Instant) -> bool {
        let newest = self.number(now);
        let in_window = |slot: &&Slot| slot.number + SLOTS as u64 > newest;
        let sum = |(calls, bad), slot: &Slot| (calls + slot.calls, bad + slot.bad);
        let (calls, bad) = self.slots.iter().filter(in_window).fold((0, 0), sum);
        calls >= self.settings.calls_min
            && f64::from(bad) >= f64::from(calls) * self.settings.bad_share
    }

    fn number(&self, now: Instant) -> u64 {
        let slot = self.settings.window / u32::try_from(SLOTS).unwrap_or(1);
        let elapsed = now.saturating_duration_since(self.origin);
        // From one, so that an empty slot is never taken for the first of all.
        let number = elapsed.as_nanos() / std::cmp::max(slot.as_nanos(), 1);
        u64::try_from(number).unwrap_or(u64::MAX - SLOTS as u64).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const SETTINGS: BreakerSettings = BreakerSettings {
        window: ms(5000),
        calls_min: 20,
        bad_share: 0.5,
        open_min: ms(1000),
        open_max: ms(5000),
        probes: 5,
    };

    /// Makes `calls` calls of which the first `bad` are bad; how many were let through.
    fn call(breaker: &mut Breaker, calls: u32, bad: u32, now: Instant) -> u32 {
        let mut admitted = 0;
        for n in 0..calls {
            if let Some(pass) = breaker.admit(now) {
                admitted += 1;
                breaker.ended(pass, n >= bad, now);
            }
        }
        admitted
    }

    #[test]
    fn it_opens_at_half_of_twenty_calls_and_not_before() {
        let now = Instant::now();
        for (calls, bad, state) in [
            (19, 19, State::Closed),
            (20, 9, State::Closed),
            (20, 10, State::Open),
            (200, 99, State::Open), // the first 99 are bad: at the twentieth it opens
        ] {
            let mut breaker = Breaker::new(SETTINGS, now);
            call(&mut breaker, calls, bad, now);
            assert_eq!(breaker.state(now), state, "{bad} of {calls}");
        }
    }

    #[test]
    fn calls_older_than_the_window_do_not_count() {
        let start = Instant::now();
        let mut breaker = Breaker::new(SETTINGS, start);
        call(&mut breaker, 19, 19, start);
        call(&mut breaker, 1, 1, start + ms(5500));
        assert_eq!(breaker.state(start + ms(5500)), State::Closed);
        call(&mut breaker, 19, 19, start + ms(5600));
        assert_eq!(breaker.state(start + ms(5600)), State::Open);
    }

    #[test]
    fn it_stays_open_for_a_second_then_lets_five_probes_through_and_closes_on_them() {
        let start = Instant::now();
        let mut breaker = Breaker::new(SETTINGS, start);
        call(&mut breaker, 20, 20, start);
        assert_eq!(breaker.admit(start + ms(999)), None);
        let later = start + ms(1000);
        let probes: Vec<_> = (0..6).map(|_| breaker.admit(later)).collect();
        assert_eq!(probes.iter().flatten().count(), 5, "the sixth waits for how they end");
        for (n, pass) in probes.into_iter().flatten().enumerate() {
            assert_eq!(breaker.state(later), State::HalfOpen, "after {n}");
            breaker.ended(pass, true, later);
        }
        assert_eq!(breaker.state(later), State::Closed);
        // Its window was emptied: nineteen bad calls are not enough again.
        call(&mut breaker, 19, 19, later);
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_five_seconds() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS, now);
        call(&mut breaker, 20, 20, now);
        for wait in [1000, 2000, 4000, 5000, 5000] {
            assert_eq!(breaker.state(now + ms(wait - 1)), State::Open, "{wait}");
            now += ms(wait);
            assert_eq!(call(&mut breaker, 1, 1, now), 1, "{wait}");
            assert_eq!(breaker.state(now), State::Open);
        }
        now += ms(5000);
        assert_eq!(call(&mut breaker, 5, 0, now), 5);
        call(&mut breaker, 20, 20, now);
        assert_eq!(breaker.admit(now + ms(999)), None);
        assert!(breaker.admit(now + ms(1000)).is_some(), "a recovery forgets the doubling");
    }

    #[test]
    fn a_call_that_ends_after_the_breaker_moved_on_says_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS, now);
        let stale = breaker.admit(now).unwrap();
        call(&mut breaker, 20, 20, now);
        let later = now + ms(1000);
        let probe = breaker.admit(later).unwrap();
        breaker.ended(stale, false, later);
        assert_eq!(breaker.state(later), State::HalfOpen, "a call of before it opened is no probe");
        breaker.ended(probe, true, later);
        assert_eq!(breaker.state(later), State::HalfOpen);
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_another() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS, now);
        call(&mut breaker, 20, 20, now);
        let later = now + ms(1000);
        for _ in 0..100 {
            let pass = breaker.admit(later).expect("room for a probe");
            breaker.forgotten(pass);
        }
        assert_eq!(breaker.state(later), State::HalfOpen);
        assert_eq!(call(&mut breaker, 5, 0, later), 5);
        assert_eq!(breaker.state(later), State::Closed);
    }

    proptest! {
        #[test]
        fn it_never_opens_on_good_calls_and_always_recovers(
            steps in prop::collection::vec((0_u64..3000, any::<bool>()), 1..300),
        ) {
            let mut now = Instant::now();
            let (mut mixed, mut good) = (Breaker::new(SETTINGS, now), Breaker::new(SETTINGS, now));
            for (pause, is_good) in steps {
                now += ms(pause);
                call(&mut mixed, 1, u32::from(!is_good), now);
                call(&mut good, 1, 0, now);
                prop_assert_eq!(good.state(now), State::Closed);
            }
            // Whatever came before: once calls are good again, it closes after its longest wait.
            now += SETTINGS.open_max;
            call(&mut mixed, SETTINGS.probes, 0, now);
            prop_assert_eq!(mixed.state(now), State::Closed);
        }
    }
}
