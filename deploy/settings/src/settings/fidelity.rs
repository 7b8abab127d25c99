//! `[fidelity]`: how often the fallbacks agree with core, measured on live requests.

use std::time::Duration;

use backstop_contract::fidelity::Terms;
use serde::Deserialize;

use super::{DAY, MINUTE};
use crate::value::{duration, number};

/// `[fidelity]`: what edge and api measure, each of its own fallback.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fidelity {
    /// Of a million requests that core decided, so many are put to the fallbacks as well.
    #[serde(deserialize_with = "number::<0, 1_000_000, _, _>")]
    pub share_ppm: u64,
    /// How far back they count.
    #[serde(deserialize_with = "duration::<MINUTE, DAY, _>")]
    pub window: Duration,
    /// Requests that wait for a fallback.
    #[serde(deserialize_with = "number::<16, 65_536, _, _>")]
    pub queue_max: usize,
    /// Kinds of requests that are told apart.
    #[serde(deserialize_with = "number::<10, 4_096, _, _>")]
    pub cells_max: usize,
}

impl Default for Fidelity {
    fn default() -> Self {
        Self {
            share_ppm: 50_000,
            window: Duration::from_hours(1),
            queue_max: 1_024,
            cells_max: 1_000,
        }
    }
}

impl Fidelity {
    /// The same, as the tiers run on it.
    pub const fn terms(&self) -> Terms {
        let Self { share_ppm, window, queue_max, cells_max } = *self;
        Terms { share_ppm, window, queue_max, cells_max }
    }
}
