//! Times of calls, to a tenth of a microsecond.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest that is told from a longer one.
const NANOS_MAX: u64 = 60_000_000_000;
/// Significant figures that are kept.
const FIGURES: u8 = 3;

/// How long calls took.
#[derive(Default)]
pub struct Figures(Option<Histogram<u64>>);

impl Figures {
    /// Counts one.
    pub fn record(&mut self, time: Duration) {
        if self.0.is_none() {
            // `None` only for bounds that cross, which these do not.
            self.0 = Histogram::new_with_bounds(1, NANOS_MAX, FIGURES).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(NANOS_MAX));
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// What so many of them did not exceed.
    pub fn at(&self, quantile: f64) -> Duration {
        let nanos = self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile));
        Duration::from_nanos(nanos)
    }
}
