//! The stock and the balances that a set sees and moves, and what of them there is to put.

use std::collections::{BTreeMap, HashMap};

use backstop_contract::Effects;
use backstop_engine::effects::Forced;
use backstop_engine::{Moves, Shortage, effects};

use crate::store::{AccountKey, Put, PutBalance, RowKey, Versioned};

/// A unit in an account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BalanceKey {
    account: AccountKey,
    unit: String,
}

/// What is held, of every merchant, as it is after the requests so far.
#[derive(Default)]
pub struct Holdings {
    by_merchant: HashMap<String, effects::Holdings>,
    stock_versions: HashMap<RowKey, i64>,
    balance_versions: HashMap<AccountKey, HashMap<String, i64>>,
    /// What moved, and how it stands.
    stock: BTreeMap<RowKey, i64>,
    balances: BTreeMap<BalanceKey, i64>,
}

impl Holdings {
    /// What was loaded; what was not is zero.
    pub fn new(
        stock: HashMap<RowKey, Versioned<i64>>,
        balances: HashMap<AccountKey, HashMap<String, Versioned<i64>>>,
    ) -> Self {
        let mut holdings = Self::default();
        for (key, row) in stock {
            holdings.of(&key.merchant).put_stock(&key.key, row.value);
            holdings.stock_versions.insert(key, row.version);
        }
        for (account, units) in balances {
            let of_account = holdings.by_merchant.entry(account.merchant.clone()).or_default();
            for (unit, row) in &units {
                of_account.put_balance(&account.account, unit, row.value);
            }
            let versions = units.into_iter().map(|(unit, row)| (unit, row.version));
            holdings.balance_versions.insert(account, versions.collect());
        }
        holdings
    }

    /// What is left of a stock.
    pub fn stock(&self, merchant: &str, key: &str) -> i64 {
        self.by_merchant.get(merchant).map_or(0, |holdings| holdings.stock(key))
    }

    /// All that an account holds, by unit.
    pub fn balances(&self, merchant: &str, account: &str) -> BTreeMap<String, i64> {
        let holdings = self.by_merchant.get(merchant);
        holdings.map(|holdings| holdings.balances(account)).unwrap_or_default()
    }

    /// Sets what is left of a stock.
    pub fn set_stock(&mut self, key: &RowKey, remaining: i64) {
        self.of(&key.merchant).put_stock(&key.key, remaining);
        self.stock.insert(key.clone(), remaining);
    }

    /// Makes all the moves of a decision, or none of them.
    pub fn apply(
        &mut self,
        merchant: &str,
        account: &str,
        moves: &Moves,
    ) -> Result<Effects, Shortage> {
        let effects = self.of(merchant).apply(account, moves)?;
        self.remember(merchant, account, &effects);
        Ok(effects)
    }

    /// Makes the moves of a decision as far as they can be made.
    pub fn force(&mut self, merchant: &str, account: &str, moves: &Moves) -> Forced {
        let forced = self.of(merchant).force(account, moves);
        self.remember(merchant, account, &forced.effects);
        forced
    }

    /// Undoes all the moves of a decision, or none of them.
    pub fn release(
        &mut self,
        merchant: &str,
        account: &str,
        moves: &Moves,
    ) -> Result<Effects, Shortage> {
        let effects = self.of(merchant).release(account, moves)?;
        self.remember(merchant, account, &effects);
        Ok(effects)
    }

    /// The stock that moved, in the order of keys.
    pub fn puts_of_stock(&self) -> impl Iterator<Item = Put<'_, i64>> {
        self.stock.iter().map(|(key, remaining)| Put {
            merchant: &key.merchant,
            key: &key.key,
            value: remaining,
            was: self.stock_versions.get(key).copied().unwrap_or_default(),
        })
    }

    /// The balances that moved, in the order of keys.
    pub fn puts_of_balances(&self) -> impl Iterator<Item = PutBalance<'_>> {
        self.balances.iter().map(|(BalanceKey { account, unit }, balance)| {
            let versions = self.balance_versions.get(account);
            PutBalance {
                merchant: &account.merchant,
                account: &account.account,
                unit,
                balance: *balance,
                was: versions.and_then(|units| units.get(unit)).copied().unwrap_or_default(),
            }
        })
    }

    fn of(&mut self, merchant: &str) -> &mut effects::Holdings {
        self.by_merchant.entry(merchant.to_owned()).or_default()
    }

    fn remember(&mut self, merchant: &str, account: &str, effects: &Effects) {
        for (key, remaining) in &effects.stock {
            let key = RowKey { merchant: merchant.to_owned(), key: key.clone() };
            self.stock.insert(key, *remaining);
        }
        for (unit, balance) in &effects.balance {
            let account = AccountKey { merchant: merchant.to_owned(), account: account.to_owned() };
            self.balances.insert(BalanceKey { account, unit: unit.clone() }, *balance);
        }
    }
}
