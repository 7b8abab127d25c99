//! How long a process that is to stop waits for what is under way.

use std::time::Duration;

use crate::layout::Layout;
use crate::merchants::Merchants;

/// However small the budgets are: ending is quick where nothing is under way, and a commit may be slow.
pub const DRAIN_TIME_MIN: Duration = Duration::from_millis(2_500);
/// However large they are.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// What is under way at a stop has this long to end: the largest budget of any merchant, within
/// [`DRAIN_TIME_MIN`] and [`DRAIN_TIME_MAX`].
pub fn drain_time(layout: &Layout) -> Duration {
    let merchants = Merchants::load(&layout.merchants());
    let merchants = merchants.or_else(|_broken| Merchants::load(&layout.good_merchants()));
    let largest = merchants.map_or(DRAIN_TIME_MAX, |merchants| merchants.largest_budget());
    largest.clamp(DRAIN_TIME_MIN, DRAIN_TIME_MAX)
}
