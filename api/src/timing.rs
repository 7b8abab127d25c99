//! How long core was waited for, whether it answered or not: for `Server-Timing`.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Budget, Cause, NextTier, Question, Reply};

/// A next tier with a watch on the wait for it. Made anew for each request.
pub struct Timed<'a, N> {
    next: &'a N,
    waited: OnceLock<Duration>,
}

impl<'a, N> Timed<'a, N> {
    /// Puts the watch on.
    pub fn new(next: &'a N) -> Self {
        Self { next, waited: OnceLock::new() }
    }

    /// How long it was waited for; `None` when it was not asked.
    pub fn waited(&self) -> Option<Duration> {
        self.waited.get().copied()
    }
}

/// Dropped with the wait, so that walking away is timed as an answer is.
struct Lap<'a> {
    began: Instant,
    waited: &'a OnceLock<Duration>,
}

impl Drop for Lap<'_> {
    fn drop(&mut self) {
        // Asked once a request: the first lap is the only one.
        let _first = self.waited.set(self.began.elapsed());
    }
}

impl<N: NextTier> NextTier for Timed<'_, N> {
    async fn decide(&self, question: &Question, budget: Budget) -> Result<Reply, Cause> {
        let _lap = Lap { began: Instant::now(), waited: &self.waited };
        self.next.decide(question, budget).await
    }
}

/// The `Server-Timing` header: how long core was waited for, and the api's whole time with it.
pub fn server_timing(core: Option<Duration>, api: Duration) -> String {
    let core = core.map(|core| format!("core;dur={:.3}, ", millis(core))).unwrap_or_default();
    format!("{core}api;dur={:.3}", millis(api))
}

/// Milliseconds to the microsecond, as answers and headers give them.
pub fn millis(length: Duration) -> f64 {
    length.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_is_named_only_when_it_was_asked() {
        let micros = Duration::from_micros;
        assert_eq!(server_timing(None, micros(90)), "api;dur=0.090");
        let asked = server_timing(Some(micros(3_200)), micros(4_100));
        assert_eq!(asked, "core;dur=3.200, api;dur=4.100");
    }
}
