//! What became of the requests, added up: what changed, for whom, and how much money is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::Verdict;
use backstop_contract::fidelity::{Agreement, Band, Cells};

use super::player::Played;
use super::requests::Entry;
use crate::replay::quality::{Confusion, Quality};

/// As many changed requests as are named.
const SAMPLE_MAX: usize = 20;
/// The most merchants and currencies that are told apart; what comes after them is one more.
const NAMES_MAX: usize = 100;
/// The most kinds of requests that fidelity is told apart by.
const CELLS_MAX: usize = 1_000;

/// How many, and how much money, by currency.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// Requests.
    pub count: u64,
    /// Minor units.
    pub money: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.count += 1;
        if let Some(money) = &entry.question.request.money {
            let sum = entry_of(&mut self.money, &money.currency);
            *sum = sum.saturating_add(money.amount);
        }
    }
}

/// One request that was decided otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Its id.
    pub id: String,
    /// What was decided.
    pub from: Verdict,
    /// What is decided now.
    pub to: Verdict,
    /// Its amount, in minor units.
    pub amount: Option<u64>,
    /// Whether it was fraud, where that is known.
    pub fraud: Option<bool>,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// The version tried.
    pub version: String,
    /// The version compared with.
    pub against: String,
    /// What that one is called.
    pub against_name: String,
    /// Whether the file says what was fraud.
    pub labelled: bool,
    /// Requests read.
    pub read: u64,
    /// Requests decided and counted.
    pub judged: u64,
    /// Of those, decided otherwise than before.
    pub changed: u64,
    /// Of those judged, how many the new policy broke on.
    pub broke: u64,
    /// How long it took.
    pub took: Duration,
    /// What is decided now, by what was decided before.
    pub flips: BTreeMap<(&'static str, &'static str), Sum>,
    /// What changed, by merchant.
    pub merchants: BTreeMap<String, Sum>,
    /// What changed, by amount.
    pub bands: BTreeMap<Band, Sum>,
    /// Some of what changed: the first, then ever fewer.
    pub sample: Vec<Changed>,
    /// How well the answers tell fraud, now.
    pub quality: OfTiers<Quality>,
    /// And before.
    pub quality_before: OfTiers<Quality>,
    /// What the api says next to core, now.
    pub fidelity_of_api: Cells,
    /// What the edge says next to core, now.
    pub fidelity_of_edge: Cells,
}

/// The same of each tier.
#[derive(Debug, Default, PartialEq)]
pub struct OfTiers<T> {
    /// The policy, with the history of then.
    pub core: T,
    /// The policy, with the history last seen.
    pub api: T,
    /// The default.
    pub edge: T,
}

impl Tally {
    /// Nothing yet.
    pub fn new(version: &str, against: &str, against_name: String) -> Self {
        let (version, against) = (version.to_owned(), against.to_owned());
        let (fidelity_of_api, fidelity_of_edge) = (Cells::new(CELLS_MAX), Cells::new(CELLS_MAX));
        Self {
            version,
            against,
            against_name,
            fidelity_of_api,
            fidelity_of_edge,
            ..Self::default()
        }
    }

    /// Counts one request; what was `recorded` counts for more than what the old rules say now.
    pub fn count(&mut self, entry: &Entry, new: Played, old: Played, recorded: Option<Verdict>) {
        self.read += 1;
        if !new.counts {
            return;
        }
        self.judged += 1;
        self.broke += u64::from(new.broke);
        self.fidelity_of_api.count(&entry.question, Agreement::of(new.api, new.core));
        self.fidelity_of_edge.count(&entry.question, Agreement::of(new.edge, new.core));
        let before = recorded.unwrap_or(old.core);
        if recorded.is_some() {
            "what was recorded".clone_into(&mut self.against_name);
        }
        if let Some(fraud) = entry.fraud {
            let at = entry.question.at();
            self.quality.core.count(at, new.core, fraud);
            self.quality.api.count(at, new.api, fraud);
            self.quality.edge.count(at, new.edge, fraud);
            self.quality_before.core.count(at, before, fraud);
            self.quality_before.api.count(at, old.api, fraud);
            self.quality_before.edge.count(at, old.edge, fraud);
        }
        if before == new.core {
            return;
        }
        self.changed += 1;
        self.flips.entry((before.as_str(), new.core.as_str())).or_default().add(entry);
        entry_of(&mut self.merchants, &entry.question.merchant).add(entry);
        let money = entry.question.request.money.as_ref();
        self.bands.entry(Band::of(money)).or_default().add(entry);
        // The first, then one of each hundred, then of each ten thousand: bounded, and the same every time.
        if self.sample.len() < SAMPLE_MAX
            && (self.sample.len() < SAMPLE_MAX / 2 || self.changed.is_multiple_of(100))
        {
            self.sample.push(Changed {
                id: entry.question.request.id.clone(),
                from: before,
                to: new.core,
                amount: money.map(|money| money.amount),
                fraud: entry.fraud,
            });
        }
    }
}

/// The place of a name; past the most of them, that of all others.
fn entry_of<'a, T: Default>(map: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let name = if map.len() >= NAMES_MAX && !map.contains_key(name) { "others" } else { name };
    if !map.contains_key(name) {
        map.insert(name.to_owned(), T::default());
    }
    map.entry(name.to_owned()).or_default()
}

/// The harmonic mean of precision and recall, a decline or a review being positive.
pub fn f1(confusion: &Confusion) -> Option<f64> {
    let split = confusion.either();
    let (precision, recall) = (split.precision?, split.recall?);
    let sum = precision + recall;
    (sum > 0.0).then(|| 2.0 * precision * recall / sum)
}
