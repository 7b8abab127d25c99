//! What this core wrote last, so that a set need not read it again a moment later.
//!
//! Another core may have written since. That is found where it matters: a commit puts a row only over the
//! version that it was decided from, and refuses an id that exists. Whatever a decision rests on and does
//! not put is read at the server: earlier decisions always, stock and balances where [`RestsOn`] says so.
//! History is put by every decision that saw it.
//!
//! Once something was found to be otherwise, all of it is forgotten and nothing believed for a while:
//! where two cores share rows, each set reads them, as if there were no memory.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use backstop_engine::History;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use tokio::time::Instant;

#[cfg(doc)]
use crate::store::RestsOn;
use crate::store::{AccountKey, Changes, DecisionKey, Loaded, RowKey, Versioned, Wanted};

/// Rows of history are kept in this many bytes, keys included.
const HISTORY_BYTES_MAX: u64 = 32 << 20;
/// Balances that are kept. An account counts once more than it has units.
const BALANCES_MAX: u64 = 131_072;
/// Levels of stock that are kept.
const STOCK_MAX: usize = 65_536;
/// Decisions that are known to exist. A retry that comes later than so many others costs a commit that fails.
const DECIDED_MAX: usize = 131_072;
/// What a row is taken to weigh, before there are any.
const HISTORY_BYTES_USUAL: u64 = 256;
/// How long nothing is believed after something was found to be otherwise.
const DOUBTFUL_FOR: Duration = Duration::from_secs(1);

/// The balances of an account, by unit: all that it has.
pub type Balances = HashMap<String, Versioned<i64>>;

/// Rows as they were after the last commit that put them.
pub struct Memory {
    /// Hashes of their keys: two that are alike cost one look at the server.
    decided: Cache<u64, ()>,
    hashing: RandomState,
    history: Cache<RowKey, Row, Bytes>,
    stock: Cache<RowKey, Versioned<i64>>,
    accounts: Cache<AccountKey, Balances, Units>,
    doubtful_until: Option<Instant>,
}

/// A row of history, encoded.
struct Row {
    version: i64,
    bytes: Box<[u8]>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<RowKey, Row> for Bytes {
    fn weight(&self, key: &RowKey, row: &Row) -> u64 {
        let bytes = key.merchant.len() + key.key.len() + size_of::<RowKey>() + row.bytes.len();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[derive(Clone)]
struct Units;

impl Weighter<AccountKey, Balances> for Units {
    fn weight(&self, _: &AccountKey, balances: &Balances) -> u64 {
        u64::try_from(balances.len() + 1).unwrap_or(u64::MAX)
    }
}

impl Default for Memory {
    fn default() -> Self {
        let rows = usize::try_from(HISTORY_BYTES_MAX / HISTORY_BYTES_USUAL).unwrap_or(usize::MAX);
        let accounts = usize::try_from(BALANCES_MAX / 2).unwrap_or(usize::MAX);
        Self {
            decided: Cache::new(DECIDED_MAX),
            hashing: RandomState::new(),
            history: Cache::with_weighter(rows, HISTORY_BYTES_MAX, Bytes),
            stock: Cache::new(STOCK_MAX),
            accounts: Cache::with_weighter(accounts, BALANCES_MAX, Units),
            doubtful_until: None,
        }
    }
}

impl Memory {
    /// Adds what is known to `loaded`, and returns what is to be read.
    pub fn recall(&self, mut wanted: Wanted, loaded: &mut Loaded) -> Wanted {
        if self.doubtful_until.is_some_and(|until| Instant::now() < until) {
            return wanted.with_asked_looked_for();
        }
        wanted.asked.retain(|key| self.decided.get(&self.hash(key)).is_some());
        wanted.history.retain(|key| match self.history(key) {
            Some(row) => {
                loaded.history.insert(key.clone(), row);
                false
            }
            None => true,
        });
        wanted.stock.retain(|key| match self.stock.get(key) {
            Some(level) => {
                loaded.stock.insert(key.clone(), level.clone());
                false
            }
            None => true,
        });
        wanted.accounts.retain(|key| match self.accounts.get(key) {
            Some(balances) => {
                loaded.balances.insert(key.clone(), balances.clone());
                false
            }
            None => true,
        });
        wanted.with_asked_looked_for()
    }

    /// Takes note of what was committed. `accounts`: those that were loaded, as they were.
    pub fn remember(&mut self, changes: &Changes<'_>, accounts: HashMap<AccountKey, Balances>) {
        for (question, _) in &changes.decided {
            let (merchant, id) = (question.merchant.clone(), question.request.id.clone());
            self.decided.insert(self.hash(&DecisionKey { merchant, id }), ());
        }
        for put in &changes.history {
            let key = RowKey { merchant: put.merchant.to_owned(), key: put.key.to_owned() };
            let row = Row { version: put.was.saturating_add(1), bytes: put.value.into() };
            self.history.insert(key, row);
        }
        for put in &changes.stock {
            let key = RowKey { merchant: put.merchant.to_owned(), key: put.key.to_owned() };
            let version = put.was.saturating_add(1);
            self.stock.insert(key, Versioned { value: *put.value, version });
        }
        self.remember_accounts(changes, accounts);
    }

    fn remember_accounts(
        &mut self,
        changes: &Changes<'_>,
        mut accounts: HashMap<AccountKey, Balances>,
    ) {
        for put in &changes.balances {
            let (merchant, account) = (put.merchant.to_owned(), put.account.to_owned());
            // Of an account that was not loaded nobody knows which other units it has.
            if let Some(balances) = accounts.get_mut(&AccountKey { merchant, account }) {
                let version = put.was.saturating_add(1);
                let balance = Versioned { value: put.balance, version };
                balances.insert(put.unit.to_owned(), balance);
            }
        }
        for (key, balances) in accounts {
            self.accounts.insert(key, balances);
        }
    }

    /// Forgets all of it: the server may not be the one that was written to.
    pub fn forget(&mut self) {
        self.decided.clear();
        self.history.clear();
        self.stock.clear();
        self.accounts.clear();
    }

    /// Forgets all of it, and believes nothing for a while: something was otherwise.
    pub fn doubt(&mut self) {
        self.forget();
        self.doubtful_until = Some(Instant::now() + DOUBTFUL_FOR);
    }

    fn history(&self, key: &RowKey) -> Option<Versioned<History>> {
        let Row { version, bytes } = self.history.get(key)?;
        let value = History::decode(bytes).ok()?;
        Some(Versioned { value, version: *version })
    }

    fn hash(&self, key: &DecisionKey) -> u64 {
        self.hashing.hash_one(key)
    }
}
