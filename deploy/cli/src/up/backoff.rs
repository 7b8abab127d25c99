//! When to start again what has died: at once the first time, then ever later, until it stays healthy.

use std::time::Duration;

use backstop_settings::Up;
use tokio::time::Instant;

/// No restart of the edge waits longer, whatever the settings say. Behind the edge a tier that is away is
/// answered for; for the edge nobody answers, so each second of its delay is one in which clients hear
/// nothing. Where it cannot run at all, a start a second costs little.
const EDGE_DELAY_MAX: Duration = Duration::from_secs(1);

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

    /// The same for the edge, which is never long away.
    pub fn of_edge(settings: &Up) -> Self {
        let max = std::cmp::min(settings.restart_delay_max, EDGE_DELAY_MAX);
        let min = std::cmp::min(settings.restart_delay_min, max);
        Self { min, max, ..Self::new(settings) }
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

    /// The delays of so many restarts of what never becomes healthy, in milliseconds.
    fn delays<const N: usize>(mut backoff: Backoff) -> [u128; N] {
        std::array::from_fn(|_| backoff.after_end(None, Instant::now()).as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_restart_comes_at_once_and_the_next_ones_ever_later() {
        let backoff = Backoff::new(&Up::default());
        assert_eq!(delays(backoff), [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    /// An edge that was killed every nine seconds, and so never healthy for ten, was away for five of them in
    /// the end: a client whose answer died with it had the same id answered after 5.3 s.
    #[tokio::test(start_paused = true)]
    async fn the_edge_is_never_away_for_more_than_a_second() {
        let backoff = Backoff::of_edge(&Up::default());
        assert_eq!(delays(backoff), [0, 100, 200, 400, 800, 1000, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn settings_make_the_delay_of_the_edge_shorter_and_not_longer() {
        let with = |min, max| Up {
            restart_delay_min: Duration::from_millis(min),
            restart_delay_max: Duration::from_millis(max),
            ..Up::default()
        };
        assert_eq!(delays(Backoff::of_edge(&with(10, 300))), [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(delays(Backoff::of_edge(&with(3000, 5000))), [0, 1000, 1000]);
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
