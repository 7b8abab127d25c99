//! When the proxy died: for then, and only then, may a client lose an answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A proxy that was killed may be gone for this long on a busy machine; then it is back.
const GONE_MAX: Duration = Duration::from_secs(15);

/// What who kills tells those who ask.
#[derive(Debug, Default)]
pub struct Watch {
    deaths: Mutex<Vec<Instant>>,
    /// Whether it may also end by itself, at a point that was named for it.
    may_abort: AtomicBool,
}

impl Watch {
    /// From now on it may end by itself, or may no longer.
    pub fn let_abort(&self, may_abort: bool) {
        if self.may_abort.swap(may_abort, Ordering::Relaxed) {
            // Nobody knows when, if at all.
            self.proxy_dies();
        }
    }

    /// The proxy dies, now.
    pub fn proxy_dies(&self) {
        self.deaths.lock().unwrap().push(Instant::now());
    }

    /// How often it has died, as far as anybody knows.
    pub fn deaths(&self) -> usize {
        self.deaths.lock().unwrap().len()
    }

    /// Whether it may have died since there were so many deaths.
    pub fn may_have_died_since(&self, deaths: usize) -> bool {
        self.may_abort.load(Ordering::Relaxed) || self.deaths() > deaths
    }

    /// Whether an attempt that began `from` then and ends now may be lost.
    pub fn excuses(&self, from: Instant) -> bool {
        let is_near = |death: &Instant| from.saturating_duration_since(*death) < GONE_MAX;
        self.may_abort.load(Ordering::Relaxed) || self.deaths.lock().unwrap().iter().any(is_near)
    }
}
