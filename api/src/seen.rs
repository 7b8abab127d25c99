//! The history last seen: what core read for its decisions, kept for the time when core is away.

use std::collections::HashMap;

use bytes::Bytes;
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use tokio::time::Instant;

use backstop_contract::wire;
use backstop_engine::History;

/// Whose history of what.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    merchant: Box<str>,
    history: Box<str>,
}

/// A row as core sent it, and when core was asked for it.
#[derive(Clone)]
struct Row {
    bytes: Bytes,
    asked: Instant,
}

/// What had been seen of some entities at one moment: a row each, or nothing.
pub type Known = HashMap<Box<str>, Option<Bytes>>;

/// The newest history row seen of each entity; the least used ones make room.
pub struct Seen {
    rows: Cache<Key, Row>,
}

impl Seen {
    /// Keeps at most `entries_max` rows.
    pub fn new(entries_max: usize) -> Self {
        Self { rows: Cache::new(entries_max) }
    }

    /// Keeps the rows of a reply to a question that was asked at `asked`. Replies may come late and
    /// in any order: a row of an earlier question never replaces one of a later question.
    pub fn remember(&self, merchant: &str, asked: Instant, rows: Vec<wire::History>) {
        for row in rows {
            let key = Key { merchant: merchant.into(), history: row.key.into() };
            let fresh = Row { bytes: row.row.into(), asked };
            let entry = self.rows.entry(&key, None, |_, known| {
                if known.asked <= asked {
                    *known = fresh.clone();
                }
                EntryAction::Retain(())
            });
            if let EntryResult::Vacant(place) = entry {
                // Refused only when somebody emptied the cache meanwhile, and nobody does.
                let _kept = place.insert(fresh);
            }
        }
    }

    /// What is known of the entities that these rows are of, before they are remembered; nothing when a
    /// later question has brought one of them already, since then it may tell of this decision.
    pub fn known(&self, merchant: &str, asked: Instant, rows: &[wire::History]) -> Option<Known> {
        let known = |row: &wire::History| {
            let known = self.rows.get(&key(merchant, &row.key));
            let is_earlier = known.as_ref().is_none_or(|known| known.asked <= asked);
            is_earlier.then(|| (row.key.as_str().into(), known.map(|known| known.bytes)))
        };
        rows.iter().map(known).collect()
    }

    /// The history last seen under this key; an empty one when there is none that can be read.
    pub fn history(&self, merchant: &str, history: &str) -> History {
        read(self.rows.get(&key(merchant, history)).map(|row| row.bytes).as_ref())
    }

    /// The same as it was when only this was known. What core did not name then is as it is now.
    pub fn history_from(&self, known: &Known, merchant: &str, history: &str) -> History {
        known.get(history).map_or_else(|| self.history(merchant, history), |row| read(row.as_ref()))
    }
}

fn key(merchant: &str, history: &str) -> Key {
    Key { merchant: merchant.into(), history: history.into() }
}

fn read(row: Option<&Bytes>) -> History {
    row.and_then(|row| History::decode(row).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backstop_contract::{Timestamp, Verdict};

    use super::*;

    /// A row that has counted this often.
    fn row(times: u32) -> Vec<wire::History> {
        let mut history = History::default();
        for _ in 0..times {
            history.record(Timestamp::from_millis(1_000), 100, Verdict::Approve, None);
        }
        vec![wire::History { key: "card:1".into(), row: history.encode() }]
    }

    fn count(seen: &Seen, merchant: &str, key: &str) -> u64 {
        let now = Timestamp::from_millis(2_000);
        seen.history(merchant, key).count(Duration::from_hours(1), Duration::ZERO, now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_was_overtaken_does_not_turn_history_back() {
        let (seen, first) = (Seen::new(10), Instant::now());
        let second = first + Duration::from_millis(1);
        seen.remember("demo", second, row(2));
        seen.remember("demo", first, row(1));
        assert_eq!(count(&seen, "demo", "card:1"), 2);
        seen.remember("demo", second, row(3));
        assert_eq!(count(&seen, "demo", "card:1"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_before_an_answer_is_what_it_did_not_bring() {
        let (seen, first) = (Seen::new(10), Instant::now());
        let times = |known: &Known| {
            let now = Timestamp::from_millis(2_000);
            let history = seen.history_from(known, "demo", "card:1");
            history.count(Duration::from_hours(1), Duration::ZERO, now)
        };
        let before = seen.known("demo", first, &row(1)).unwrap();
        seen.remember("demo", first, row(1));
        let second = first + Duration::from_millis(1);
        let between = seen.known("demo", second, &row(2)).unwrap();
        seen.remember("demo", second, row(2));
        assert_eq!((times(&before), times(&between), times(&Known::new())), (0, 1, 2));
        assert_eq!(seen.known("demo", first, &row(1)), None, "a later answer was quicker");
    }

    #[tokio::test]
    async fn what_was_never_seen_or_cannot_be_read_is_empty() {
        let seen = Seen::new(10);
        seen.remember("demo", Instant::now(), row(2));
        assert_eq!(count(&seen, "demo", "card:2"), 0);
        assert_eq!(count(&seen, "another", "card:1"), 0, "history is the merchant's own");
        let unreadable = wire::History { key: "card:3".into(), row: vec![0xff; 3] };
        seen.remember("demo", Instant::now(), vec![unreadable]);
        assert_eq!(count(&seen, "demo", "card:3"), 0);
    }
}
