//! Whether a process that is alive also answers.

use std::time::Duration;

use backstop_settings::Up;
use tokio::time::Instant;

use crate::exchange::{self, Place};
use crate::running::State;

/// How often each process is asked.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// What has not answered by then is silent.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// What is known of the health of one life of a process.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    started: Instant,
    /// Since when it has answered every time.
    healthy_since: Option<Instant>,
    /// When it last answered.
    answered: Option<Instant>,
}

impl Health {
    /// Of a process that starts `now`.
    pub const fn new(now: Instant) -> Self {
        Self { started: now, healthy_since: None, answered: None }
    }

    /// Since when it has answered every time; `None` when it is silent.
    pub const fn healthy_since(&self) -> Option<Instant> {
        self.healthy_since
    }

    /// Takes note of whether it answered `now`, and says how it is.
    pub fn note(&mut self, has_answered: bool, settings: &Up, now: Instant) -> State {
        if has_answered {
            self.answered = Some(now);
            self.healthy_since.get_or_insert(now);
            return State::Up;
        }
        self.healthy_since = None;
        let is_starting = self.answered.is_none() && self.silent(now) < settings.ready_within;
        if is_starting { State::Starting } else { State::Hung }
    }

    /// Whether it has been silent for so long that it is to be killed.
    pub fn is_lost(&self, settings: &Up, now: Instant) -> bool {
        self.silent(now) >= settings.hung_after
    }

    fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.answered.unwrap_or(self.started))
    }
}

/// Asks a process again and again, and tells `on_state` how it is. Returns when it is to be killed.
pub async fn watch(
    health: &mut Health,
    (place, path): &(Place, &'static str),
    settings: &Up,
    on_state: impl Fn(State),
) {
    let mut last = State::Starting;
    loop {
        let answer = exchange::get(place, path, ANSWER_TIME_MAX).await;
        let now = Instant::now();
        let state = health.note(answer.is_ok_and(|status| status.is_success()), settings, now);
        if state != last {
            on_state(state);
            last = state;
        }
        if health.is_lost(settings, now) {
            return;
        }
        // While it starts, the moment it answers is worth knowing sooner.
        let pause = if last == State::Starting { POLL_EVERY / 5 } else { POLL_EVERY };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_answered_is_starting_and_then_hung_and_then_lost() {
        let settings = Up::default();
        let start = Instant::now();
        let mut health = Health::new(start);
        for (after, state, is_lost) in [
            (0, State::Starting, false),
            (14_999, State::Starting, false),
            (15_000, State::Hung, false),
            (119_999, State::Hung, false),
            (120_000, State::Hung, true),
        ] {
            let after = Duration::from_millis(after);
            assert_eq!(health.note(false, &settings, start + after), state, "{after:?}");
            assert_eq!(health.is_lost(&settings, start + after), is_lost, "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_silent_is_hung_at_once_and_up_again_when_it_answers() {
        let settings = Up::default();
        let start = Instant::now();
        let mut health = Health::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(health.note(true, &settings, at(1)), State::Up);
        assert_eq!(health.note(false, &settings, at(2)), State::Hung);
        assert_eq!(health.healthy_since(), None);
        // Lost counts from the last answer, not from the start.
        assert!(!health.is_lost(&settings, at(120)));
        assert!(health.is_lost(&settings, at(121)));
        assert_eq!(health.note(true, &settings, at(100)), State::Up);
        assert_eq!(health.healthy_since(), Some(at(100)));
    }
}
