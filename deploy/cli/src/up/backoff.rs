//! When to start again what has died: at once the first time, then ever later, until it stays healthy.

use std::time::Duration;

use backstop_settings::Up;
use tokio::time::Instant;

/// The delay before each restart of one process.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    healthy_after: Duration,
    /// The delay of the next restart.
    next: Duration,
}

impl Backoff {
    /// No restart yet: the first one comes at once.
    pub const fn new(settings: &Up) -> Self {
        Self {
            min: settings.restart_delay_min,
            max: settings.restart_delay_max,
            healthy_after: settings.healthy_after,
            next: Duration::ZERO,
        }
    }

    /// The delay before the restart of what has ended `now`, having answered since `healthy_since`.
    pub fn after_end(&mut self, healthy_since: Option<Instant>, now: Instant) -> Duration {
        let was_healthy = healthy_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.healthy_after);
        let delay = if was_healthy { Duration::ZERO } else { self.next };
        self.next = (delay * 2).clamp(self.min, self.max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_restart_comes_at_once_and_the_next_ones_ever_later() {
        let mut backoff = Backoff::new(&Up::default());
        let delays: Vec<u128> =
            (0..9).map(|_| backoff.after_end(None, Instant::now()).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_of_health_make_the_next_restart_a_first_one() {
        let settings = Up::default();
        let since = Instant::now();
        for (health, expected) in [
            (Duration::from_millis(9_999), Duration::from_millis(100)),
            (Duration::from_secs(10), Duration::ZERO),
        ] {
            let mut backoff = Backoff::new(&settings);
            backoff.after_end(None, since);
            assert_eq!(backoff.after_end(Some(since), since + health), expected, "{health:?}");
        }
    }
}
