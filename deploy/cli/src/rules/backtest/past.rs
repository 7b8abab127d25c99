//! The past that policies see in a backtest: every history in memory, and labels that come as late as
//! chargebacks do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use backstop_contract::{Timestamp, Verdict};
use backstop_engine::History;
use backstop_lua::Keys;

use super::requests::Entry;

/// The most labels that wait for their time.
const LABELS_MAX: usize = 4_000_000;

/// Every history, by merchant and key.
pub struct Past {
    /// By merchant, then by key: history is scoped to the merchant.
    histories: HashMap<Box<str>, HashMap<Box<str>, History>>,
    labels: VecDeque<Label>,
    labels_after: Option<Duration>,
}

/// That a request was fraud; known only from some moment on.
struct Label {
    known_at: Timestamp,
    at: Timestamp,
    merchant: Box<str>,
    keys: Box<[Box<str>]>,
}

impl Past {
    /// An empty past; labels come so late, or never.
    pub fn new(labels_after: Option<Duration>) -> Self {
        Self { histories: HashMap::new(), labels: VecDeque::new(), labels_after }
    }

    /// Labels what has become known by now; what each row was is told before. Requests come in the order of
    /// their time, and so do labels.
    pub fn arrive(&mut self, now: Timestamp, mut labels: impl FnMut(&str, &str, &History)) {
        while let Some(label) = self.labels.pop_front_if(|label| label.known_at <= now) {
            for key in &label.keys {
                let mine = self.histories.get_mut(&label.merchant);
                if let Some(history) = mine.and_then(|mine| mine.get_mut(key)) {
                    labels(&label.merchant, key, history);
                    history.label(label.at, true, None);
                }
            }
        }
    }

    /// What a policy sees for these keys, copied.
    pub fn histories(&self, merchant: &str, keys: &Keys) -> BTreeMap<String, History> {
        let mine = self.histories.get(merchant);
        let of = |key: &String| {
            mine.and_then(|mine| mine.get(key.as_str())).cloned().unwrap_or_default()
        };
        keys.history.iter().map(|(name, key)| (name.clone(), of(key))).collect()
    }

    /// The same, taken out: they come back by [`put_back`](Self::put_back).
    pub fn take(&mut self, merchant: &str, keys: &Keys) -> BTreeMap<String, History> {
        let mine = self.of(merchant);
        let mut taken: BTreeMap<String, History> = BTreeMap::new();
        for (name, key) in &keys.history {
            let history = mine.get_mut(key.as_str()).map(std::mem::take);
            // Two names may have one key; the first of them has taken it.
            let twin = || keys.history.iter().find(|(other, its)| *its == key && *other != name);
            let history = match history {
                Some(history) if history != History::default() => Some(history),
                _ => twin().and_then(|(other, _)| taken.get(other).cloned()),
            };
            taken.insert(name.clone(), history.unwrap_or_default());
        }
        taken
    }

    /// Puts back what was taken, and records the request in it.
    pub fn put_back(
        &mut self,
        keys: &Keys,
        histories: BTreeMap<String, History>,
        entry: &Entry,
        verdict: Verdict,
    ) {
        let mine = self.of(&entry.question.merchant);
        for (name, history) in histories {
            if let Some(key) = keys.history.get(&name) {
                match mine.get_mut(key.as_str()) {
                    Some(place) => *place = history,
                    None => drop(mine.insert(key.as_str().into(), history)),
                }
            }
        }
        self.record(keys, entry, verdict);
    }

    /// Records a request under each of its keys once, as core does, and its label for later.
    pub fn record(&mut self, keys: &Keys, entry: &Entry, verdict: Verdict) {
        let at = entry.question.at();
        let amount = entry.question.request.money.as_ref().map_or(0, |money| money.amount);
        let mine = self.of(&entry.question.merchant);
        let mut recorded: Vec<&str> = Vec::with_capacity(keys.history.len());
        for (name, key) in &keys.history {
            if recorded.contains(&key.as_str()) {
                continue;
            }
            recorded.push(key);
            let counterparty = keys.counterparties.get(name).map(String::as_str);
            let history = match mine.get_mut(key.as_str()) {
                Some(history) => history,
                None => mine.entry(key.as_str().into()).or_default(),
            };
            history.record(at, amount, verdict, counterparty);
        }
        if let (Some(after), Some(true)) = (self.labels_after, entry.fraud)
            && self.labels.len() < LABELS_MAX
        {
            let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
            let known_at = Timestamp::from_millis(at.as_millis().saturating_add(after));
            let keys = recorded.into_iter().map(Into::into).collect();
            let merchant = entry.question.merchant.as_str().into();
            self.labels.push_back(Label { known_at, at, merchant, keys });
        }
    }

    fn of(&mut self, merchant: &str) -> &mut HashMap<Box<str>, History> {
        if !self.histories.contains_key(merchant) {
            self.histories.insert(merchant.into(), HashMap::new());
        }
        self.histories.entry(merchant.into()).or_default()
    }
}
