//! `[rules]`: how bundles are published, and when one is taken back.

use std::time::Duration;

use serde::Deserialize;

use super::{DAY, MINUTE};
use crate::value::{duration, number};

/// `[rules]`: publishing them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// The edge takes the defaults of a bundle that has been live for so long.
    #[serde(deserialize_with = "duration::<0, { 7 * DAY }, _>")]
    pub soak: Duration,
    /// For so long after it went live, the edge may take a bundle back by itself.
    #[serde(deserialize_with = "duration::<MINUTE, { 30 * DAY }, _>")]
    pub trial: Duration,
    /// With fewer answers by a bundle, nothing is said of it.
    #[serde(deserialize_with = "number::<10, 1_000_000, _, _>")]
    pub answers_min: u64,
    /// Of them: a bundle that breaks in more is taken back.
    #[serde(deserialize_with = "number::<1, 100, _, _>")]
    pub breaches_percent: u64,
    /// Of a backtest: a bundle that decides more otherwise is not published.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub flips_percent: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            soak: Duration::from_mins(10),
            trial: Duration::from_hours(24),
            answers_min: 100,
            breaches_percent: 5,
            flips_percent: 10,
        }
    }
}
