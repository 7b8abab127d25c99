//! The database in memory, with what core asks of a store: rows with versions, all or nothing, and a
//! conflict where somebody else was faster.

use std::collections::BTreeMap;

use backstop_contract::{Standing, Timestamp};
use backstop_core::store::settled::{AdviceKey, Discrepancy, PutDecision, SequenceKey};
use backstop_core::store::{AccountKey, Changes, Decided, DecisionKey, Loaded, RowKey, Versioned};
use backstop_engine::{Arrivals, History};

use super::clients::{Clients, MERCHANT};

/// A line of the ledger.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: DecisionKey,
    pub debit: String,
    pub credit: String,
    pub unit: String,
    pub amount: i64,
}

/// What is durable.
#[derive(Default)]
pub struct Books {
    pub decisions: BTreeMap<DecisionKey, Decided>,
    history: BTreeMap<RowKey, (Vec<u8>, i64)>,
    pub stock: BTreeMap<RowKey, Versioned<i64>>,
    pub balances: BTreeMap<AccountKey, BTreeMap<String, Versioned<i64>>>,
    pub ledger: Vec<Line>,
    pub discrepancies: Vec<Discrepancy>,
    pub arrivals: BTreeMap<SequenceKey, Versioned<Arrivals>>,
    pub revised: Vec<DecisionKey>,
    pub commits: u64,
}

/// What of a decision another writer may have changed since: how it stands, what cancelled it, its label.
type Was = (Standing, Option<String>, Option<bool>);

fn changeable(decided: &Decided) -> Was {
    (decided.standing, decided.cancelled_by.clone(), decided.fraud)
}

/// What one unit writes, owned, for it is written later.
#[derive(Default)]
pub struct Write {
    pub decided: Vec<(DecisionKey, Decided)>,
    marked: Vec<(DecisionKey, Decided, Was)>,
    pub restated: Vec<(DecisionKey, Decided, Was)>,
    revised: Vec<(DecisionKey, Timestamp)>,
    history: Vec<(RowKey, Vec<u8>, i64)>,
    stock: Vec<(RowKey, i64, i64)>,
    balances: Vec<(AccountKey, String, i64, i64)>,
    ledger: Vec<Line>,
    pub discrepancies: Vec<Discrepancy>,
    arrivals: Vec<(SequenceKey, Arrivals, i64)>,
}

/// Somebody else changed a row since it was loaded. Nothing was written.
#[derive(Debug)]
pub struct Conflict;

impl Books {
    pub fn stocked(_: &Clients) -> Self {
        let stock = Clients::stock().map(|(key, left)| {
            let key = RowKey { merchant: MERCHANT.to_owned(), key };
            (key, Versioned { value: left, version: 1 })
        });
        Self { stock: stock.collect(), ..Self::default() }
    }

    /// All that there is.
    pub fn load_all(&self) -> Loaded {
        let history = self.history.iter().map(|(key, (bytes, version))| {
            let value = History::decode(bytes).expect("history is as it was written");
            (key.clone(), Versioned { value, version: *version })
        });
        let balances = self.balances.iter().map(|(key, units)| {
            (key.clone(), units.iter().map(|(unit, it)| (unit.clone(), it.clone())).collect())
        });
        Loaded {
            decisions: self.decisions.clone().into_iter().collect(),
            history: history.collect(),
            stock: self.stock.clone().into_iter().collect(),
            balances: balances.collect(),
            arrivals: self.arrivals.clone().into_iter().collect(),
        }
    }

    /// Writes it all, or nothing. Not strictly, it overwrites what somebody else wrote.
    pub fn commit(&mut self, write: Write, strictly: bool) -> Result<(), Conflict> {
        if strictly && !self.is_as_loaded(&write) {
            return Err(Conflict);
        }
        self.commits += 1;
        self.decisions.extend(write.decided);
        for (key, now, _) in write.marked {
            let decided = self.decisions.get_mut(&key).expect("it is there");
            (decided.cancelled_by, decided.fraud) = (now.cancelled_by, now.fraud);
        }
        for (key, decided, _) in write.restated {
            self.decisions.insert(key, decided);
        }
        self.revised.extend(write.revised.into_iter().map(|(key, _)| key));
        let history = write.history.into_iter().map(|(key, row, was)| (key, (row, was + 1)));
        self.history.extend(history);
        for (key, value, was) in write.stock {
            assert!(value >= 0, "{key:?} fell below zero");
            self.stock.insert(key, Versioned { value, version: was + 1 });
        }
        for (key, unit, value, was) in write.balances {
            let units = self.balances.entry(key).or_default();
            units.insert(unit, Versioned { value, version: was + 1 });
        }
        self.ledger.extend(write.ledger);
        for discrepancy in write.discrepancies {
            // One that is on record already stays as it is.
            if !self.discrepancies.iter().any(|it| it.advice == discrepancy.advice) {
                self.discrepancies.push(discrepancy);
            }
        }
        for (key, value, was) in write.arrivals {
            self.arrivals.insert(key, Versioned { value, version: was + 1 });
        }
        Ok(())
    }

    fn is_as_loaded(&self, write: &Write) -> bool {
        let of = |version: Option<i64>| version.unwrap_or(0);
        let decided = |key: &DecisionKey| self.decisions.get(key);
        write.decided.iter().all(|(key, _)| decided(key).is_none())
            && write
                .marked
                .iter()
                .chain(&write.restated)
                .all(|(key, _, was)| decided(key).is_some_and(|it| changeable(it) == *was))
            && write
                .history
                .iter()
                .all(|(key, _, was)| of(self.history.get(key).map(|(_, version)| *version)) == *was)
            && write
                .stock
                .iter()
                .all(|(key, _, was)| of(self.stock.get(key).map(|it| it.version)) == *was)
            && write.balances.iter().all(|(key, unit, _, was)| {
                let units = self.balances.get(key);
                of(units.and_then(|units| units.get(unit)).map(|it| it.version)) == *was
            })
            && write
                .arrivals
                .iter()
                .all(|(key, _, was)| of(self.arrivals.get(key).map(|it| it.version)) == *was)
    }

    /// Every advice that is on record for something else than an agreement.
    pub fn is_on_record(&self, advice: &AdviceKey) -> bool {
        self.discrepancies.iter().any(|it| it.advice == *advice)
    }
}

impl From<&Changes<'_>> for Write {
    fn from(changes: &Changes<'_>) -> Self {
        let row = |merchant: &str, key: &str| RowKey {
            merchant: merchant.to_owned(),
            key: key.to_owned(),
        };
        let decided = changes.decided.iter().map(|(question, decided)| {
            (backstop_core::decide::decision_key(question), (*decided).clone())
        });
        let put_again = |put: &PutDecision<'_>| {
            let cancelled_by = put.was.cancelled_by.map(str::to_owned);
            let was = (put.was.standing, cancelled_by, put.was.fraud);
            (put.key.clone(), put.decided.clone(), was)
        };
        let balances = changes.balances.iter().map(|put| {
            let (merchant, account) = (put.merchant.to_owned(), put.account.to_owned());
            (AccountKey { merchant, account }, put.unit.to_owned(), put.balance, put.was)
        });
        let ledger = changes.ledger.iter().map(|line| Line {
            id: DecisionKey { merchant: line.merchant.to_owned(), id: line.id.to_owned() },
            debit: line.debit.to_owned(),
            credit: line.credit.to_owned(),
            unit: line.unit.to_owned(),
            amount: line.amount,
        });
        let history = changes.history.iter();
        let stock = changes.stock.iter();
        let arrivals = changes.arrivals.iter();
        Self {
            decided: decided.collect(),
            marked: changes.marked.iter().map(put_again).collect(),
            restated: changes.restated.iter().map(put_again).collect(),
            revised: changes.revised.iter().map(|(key, at)| ((*key).clone(), *at)).collect(),
            history: history
                .map(|put| (row(put.merchant, put.key), put.value.to_vec(), put.was))
                .collect(),
            stock: stock.map(|put| (row(put.merchant, put.key), *put.value, put.was)).collect(),
            balances: balances.collect(),
            ledger: ledger.collect(),
            discrepancies: changes.discrepancies.iter().map(|it| (*it).clone()).collect(),
            arrivals: arrivals
                .map(|put| (put.key.clone(), put.arrivals.clone(), put.was))
                .collect(),
        }
    }
}
