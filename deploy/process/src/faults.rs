//! Says in the log what is wrong, without letting a dead core fill the disk with it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the log repeats itself about one kind of fault.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The log's memory: each kind of fault is said at most once a second. Kinds are causes and policies,
/// of which there are few.
#[derive(Default)]
pub struct Faults(Mutex<BTreeMap<String, Fault>>);

struct Fault {
    said: Instant,
    unsaid: u64,
}

impl Faults {
    /// Says `what` happened, unless its kind was spoken of within the last second.
    pub fn say(&self, kind: &str, what: impl Display) {
        if let Some(unsaid) = self.due(kind, Instant::now()) {
            tracing::warn!(kind, unsaid, "{what}");
        }
    }

    /// Whether it is time to say it, and how often it was left unsaid since the last time.
    fn due(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = faults.get_mut(kind) else {
            faults.insert(kind.to_owned(), Fault { said: now, unsaid: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(known.said) < SAY_EVERY {
            known.unsaid += 1;
            return None;
        }
        known.said = now;
        Some(std::mem::take(&mut known.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_said_once_a_second_with_its_count() {
        let (faults, start) = (Faults::default(), Instant::now());
        // (kind, after how many milliseconds) -> left unsaid before it, if it is said
        let calls = [
            ("unavailable", 0, Some(0)),
            ("unavailable", 1, None),
            ("unavailable", 999, None),
            ("error", 999, Some(0)),
            ("unavailable", 1000, Some(2)),
            ("unavailable", 2000, Some(0)),
        ];
        for (kind, after, expected) in calls {
            let now = start + Duration::from_millis(after);
            assert_eq!(faults.due(kind, now), expected, "{kind} after {after} ms");
        }
    }
}
