//! The way to the next tier: how long it is worth waiting for, and whether it is worth asking at all.
//! One for each operation of each stack; shared by every request that takes it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Breaker, BreakerSettings, Pass, State};
use crate::budget::{Budget, Limits};
use crate::learned::{Bounds, Learner, Learning, Sample};

/// How a tier treats the way to the next one. Every field has a setting of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSettings {
    /// What is kept back for the fallback and the way home.
    pub reserve: Duration,
    /// Whether `min` is learned. At the edge it is zero: nobody answers for the edge.
    pub learns_min: bool,
    /// `max` is never under this share of the request's own budget: giving up early buys nothing while
    /// budget is left.
    pub floor_share: f64,
    /// How limits are learned.
    pub learning: Learning,
    /// When the way is closed.
    pub breaker: BreakerSettings,
}

/// How a call ended, as far as the breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered in time.
    Good,
    /// It failed, or was given up after a fair wait.
    Bad,
    /// It was given less time than such calls take: that says nothing of the next tier.
    Unfair,
}

/// What is known of the way to the next tier.
#[derive(Debug)]
pub struct Link {
    settings: LinkSettings,
    learner: Mutex<Learner>,
    breaker: Mutex<Breaker>,
}

impl Link {
    /// A way that nobody has taken yet.
    pub fn new(settings: LinkSettings, now: Instant) -> Self {
        Self {
            settings,
            learner: Mutex::new(Learner::new(settings.learning, now)),
            breaker: Mutex::new(Breaker::new(settings.breaker, now)),
        }
    }

    /// What was learned so far.
    pub fn bounds(&self, now: Instant) -> Bounds {
        lock(&self.learner).bounds(now)
    }

    /// The limits of a call for a request with this budget.
    pub fn limits(&self, budget: Budget, now: Instant) -> Limits {
        let Bounds { min, max } = self.bounds(now);
        let floor = budget.length().mul_f64(self.settings.floor_share);
        let min = if self.settings.learns_min { min } else { Duration::ZERO };
        Limits::of(self.settings.reserve, min, std::cmp::max(max, floor))
    }

    /// Asks for leave to make a call; `None`: the breaker is open.
    pub fn admit(&self, now: Instant) -> Option<Pass> {
        lock(&self.breaker).admit(now)
    }

    /// Gives the leave back.
    pub fn ended(&self, pass: Pass, end: End, now: Instant) {
        let mut breaker = lock(&self.breaker);
        match end {
            End::Good => breaker.ended(pass, true, now),
            End::Bad => breaker.ended(pass, false, now),
            End::Unfair => breaker.forgotten(pass),
        }
    }

    /// Learns how long a call took, or at least takes. The exchange says so, whoever still waits.
    pub fn learn(&self, sample: Sample, now: Instant) {
        lock(&self.learner).record(sample, now);
    }

    /// What the breaker shows.
    pub fn state(&self, now: Instant) -> State {
        lock(&self.breaker).state(now)
    }
}

/// The state behind the lock is whole after a panic, too: each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
