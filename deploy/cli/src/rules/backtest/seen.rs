//! What the api would have seen of history, by which it decides when core is away: the rows that core's
//! answers showed, as many as its cache holds, and nothing of the labels that came since.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use backstop_engine::History;
use backstop_lua::Keys;
use quick_cache::Equivalent;
use quick_cache::unsync::Cache;

/// The rows that an api keeps, next to those of core. Nearly all are the same at any time, so only what
/// differs is kept here.
pub struct Seen {
    /// Which rows the api has at all; as in the api, the least used ones make room.
    known: Cache<Key, ()>,
    /// Rows as they were before labels that the api has not heard of, by merchant and key.
    unlabelled: HashMap<Box<str>, HashMap<Box<str>, History>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    merchant: Box<str>,
    history: Box<str>,
}

/// A key that is only looked for.
#[derive(Hash)]
struct Of<'a> {
    merchant: &'a str,
    history: &'a str,
}

impl Equivalent<Key> for Of<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.merchant == *key.merchant && *self.history == *key.history
    }
}

impl Of<'_> {
    fn owned(&self) -> Key {
        Key { merchant: self.merchant.into(), history: self.history.into() }
    }
}

impl Seen {
    /// Has seen nothing yet, and keeps at most `entries_max` rows.
    pub fn new(entries_max: usize) -> Self {
        Self { known: Cache::new(entries_max), unlabelled: HashMap::new() }
    }

    /// Core labels this row, and shows it to nobody.
    pub fn labels(&mut self, merchant: &str, history: &str, row: &History) {
        let of = Of { merchant, history };
        if self.known.peek(&of).is_some() {
            let Key { merchant, history } = of.owned();
            let mine = self.unlabelled.entry(merchant).or_default();
            mine.entry(history).or_insert_with(|| row.clone());
        }
    }

    /// Core answers, and shows these rows as they are now.
    pub fn shows(&mut self, merchant: &str, keys: &Keys) {
        for history in keys.history.values() {
            let of = Of { merchant, history };
            if self.known.get(&of).is_none() {
                self.known.insert(of.owned(), ());
            }
            if let Some(mine) = self.unlabelled.get_mut(merchant) {
                mine.remove(history.as_str());
            }
        }
    }

    /// What the api goes by where core goes by `histories`; nothing where that is the same.
    pub fn instead_of(
        &self,
        histories: &BTreeMap<String, History>,
        merchant: &str,
        keys: &Keys,
    ) -> Option<BTreeMap<String, History>> {
        let differs = |(name, core): (&String, &History)| {
            let history = keys.history.get(name)?;
            let older = self.older(merchant, history)?;
            (*older != *core).then_some(())
        };
        histories.iter().find_map(differs)?;
        let of_api = |(name, core): (&String, &History)| {
            let older = keys.history.get(name).and_then(|history| self.older(merchant, history));
            (name.clone(), older.map_or_else(|| core.clone(), Cow::into_owned))
        };
        Some(histories.iter().map(of_api).collect())
    }

    /// A row as the api has it, where that may not be as core has it.
    fn older(&self, merchant: &str, history: &str) -> Option<Cow<'_, History>> {
        if self.known.peek(&Of { merchant, history }).is_none() {
            return Some(Cow::Owned(History::default()));
        }
        self.unlabelled.get(merchant)?.get(history).map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backstop_contract::{Timestamp, Verdict};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(10_000);

    fn keys() -> Keys {
        let history = BTreeMap::from([("card".to_owned(), "card:1".to_owned())]);
        Keys { history, ..Keys::default() }
    }

    fn core(events: u32) -> BTreeMap<String, History> {
        let mut history = History::default();
        for _ in 0..events {
            history.record(Timestamp::from_millis(1_000), 100, Verdict::Approve, None);
        }
        BTreeMap::from([("card".to_owned(), history)])
    }

    #[test]
    fn the_api_knows_what_core_showed_and_not_the_labels_since() {
        let (mut seen, keys, mut rows) = (Seen::new(10), keys(), core(3));
        let frauds = |rows: &BTreeMap<String, History>| {
            rows["card"].frauds(Duration::from_hours(1), Duration::ZERO, NOW)
        };
        assert_eq!(seen.instead_of(&rows, "demo", &keys), Some(core(0)), "never seen");
        seen.shows("demo", &keys);
        assert_eq!(seen.instead_of(&rows, "demo", &keys), None, "just seen");
        seen.labels("demo", "card:1", &rows["card"]);
        rows.get_mut("card").unwrap().label(Timestamp::from_millis(1_000), true, None);
        let older = seen.instead_of(&rows, "demo", &keys).unwrap();
        assert_eq!((frauds(&rows), frauds(&older)), (1, 0));
        seen.shows("demo", &keys);
        assert_eq!(seen.instead_of(&rows, "demo", &keys), None, "shown with the label");
        assert_eq!(seen.instead_of(&rows, "other", &keys), Some(core(0)), "another's history");
    }

    #[test]
    fn what_its_cache_could_not_hold_is_empty_again() {
        let mut seen = Seen::new(100);
        let many = |number: u32| {
            let history = BTreeMap::from([("card".to_owned(), format!("card:{number}"))]);
            Keys { history, ..Keys::default() }
        };
        (0..1_000).for_each(|number| seen.shows("demo", &many(number)));
        let known = |number: &u32| seen.instead_of(&core(1), "demo", &many(*number)).is_none();
        let known = (0..1_000).filter(known).count();
        assert!((50..=100).contains(&known), "{known}");
    }
}
