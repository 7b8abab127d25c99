//! `[limits]` and `[breaker]`: how every tier treats the way to the next one.

use std::time::Duration;

use backstop_contract::breaker::BreakerSettings;
use backstop_contract::learned::Learning;
use backstop_contract::link::LinkSettings;
use serde::Deserialize;

use crate::settings::{Api, Edge, Settings};
use crate::value::{duration, number};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Before there were calls to learn from, one that was given less than this says nothing of an api.
const FAIR_PRIOR: Duration = Duration::from_millis(100);

/// `[limits]`: how long a tier waits for the next one, as it learns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How far back calls count.
    #[serde(deserialize_with = "duration::<SECOND, { 60 * MINUTE }, _>")]
    pub window: Duration,
    /// With fewer calls in the window, limits stay as they are.
    #[serde(deserialize_with = "number::<1, 1_000_000, _, _>")]
    pub calls_min: u64,
    /// The longest wait before there were calls to learn from.
    #[serde(deserialize_with = "duration::<10, MINUTE, _>")]
    pub prior_max: Duration,
    /// The longest wait is the p99.9 times this.
    #[serde(deserialize_with = "number::<100, 10_000, _, _>")]
    pub headroom_percent: u64,
    /// Of a request's budget: the longest wait is never under it.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub floor_percent: u64,
    /// A limit moves when the learned one is off by more than this.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub hysteresis_percent: u64,
}

/// `[breaker]`: when a tier leaves the next one alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// How far back calls count.
    #[serde(deserialize_with = "duration::<SECOND, { 60 * MINUTE }, _>")]
    pub window: Duration,
    /// With fewer calls in the window it stays closed.
    #[serde(deserialize_with = "number::<1, 1_000_000, _, _>")]
    pub calls_min: u32,
    /// It opens at this share of calls that failed or were too slow.
    #[serde(deserialize_with = "number::<1, 100, _, _>")]
    pub bad_percent: u64,
    /// How long it is open at first; it doubles from there.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub open_min: Duration,
    /// The longest it is open.
    #[serde(deserialize_with = "duration::<100, { 10 * MINUTE }, _>")]
    pub open_max: Duration,
    /// Good calls in a row that close it.
    #[serde(deserialize_with = "number::<1, 100, _, _>")]
    pub probes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            calls_min: 100,
            prior_max: Duration::from_secs(1),
            headroom_percent: 300,
            floor_percent: 50,
            hysteresis_percent: 10,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(5),
            calls_min: 20,
            bad_percent: 50,
            open_min: Duration::from_secs(1),
            open_max: Duration::from_secs(5),
            probes: 5,
        }
    }
}

impl Settings {
    /// How the edge treats the way to an api. It waits as shortly as it must, since nobody answers for
    /// the edge; what it learns of the least wait only tells which calls the breaker may count.
    pub fn to_api(&self) -> LinkSettings {
        let Edge { reserve, timeout_max, .. } = self.edge;
        let learning = self.limits.learning(FAIR_PRIOR, timeout_max);
        self.link(reserve, false, share(self.limits.floor_percent), learning)
    }

    /// How an api treats the way to its core.
    pub fn to_core(&self) -> LinkSettings {
        let Api { reserve, timeout_min, timeout_max, .. } = self.api;
        let learning = self.limits.learning(timeout_min, timeout_max);
        // The floor is a share of the merchant's budget, and the edge has cut it from that already.
        self.link(reserve, true, 1.0, learning)
    }

    /// How a core learns what its transactions take.
    pub fn to_commit(&self) -> Learning {
        self.limits.learning(self.core.begin_min, self.api.timeout_max)
    }

    fn link(
        &self,
        reserve: Duration,
        learns_min: bool,
        floor_share: f64,
        learning: Learning,
    ) -> LinkSettings {
        LinkSettings { reserve, learns_min, floor_share, learning, breaker: self.breaker.parsed() }
    }
}

impl Limits {
    /// How limits are learned, from these priors and never over `ceiling`.
    pub fn learning(&self, prior_min: Duration, ceiling: Duration) -> Learning {
        Learning {
            window: self.window,
            samples_min: self.calls_min,
            prior_min,
            prior_max: self.prior_max,
            headroom: share(self.headroom_percent),
            ceiling,
            hysteresis: share(self.hysteresis_percent),
        }
    }
}

impl Breaker {
    fn parsed(&self) -> BreakerSettings {
        BreakerSettings {
            window: self.window,
            calls_min: self.calls_min,
            bad_share: share(self.bad_percent),
            open_min: self.open_min,
            open_max: self.open_max,
            probes: self.probes,
        }
    }
}

fn share(percent: u64) -> f64 {
    percent as f64 / 100.0
}
